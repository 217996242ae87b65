package qos

import (
	"testing"
	"unsafe"

	"github.com/myelin-mqtt/myelin/packet"
)

func TestSizes(t *testing.T) {
	f := func(what string, got, most uintptr) {
		t.Helper()
		if got > most {
			t.Errorf("%s has %d bytes, want at most %d", what, got, most)
		}
	}
	f("Slot", unsafe.Sizeof(Slot{}), 32)
	f("Sender", unsafe.Sizeof(Sender{}), 112)
	f("Receiver", unsafe.Sizeof(Receiver{}), 48)
}

// TestEveryIdentifier: identifiers are given in turn, 65535 is followed by 1,
// and none that is in flight is given again. [MQTT-2.2.1-4]
func TestEveryIdentifier(t *testing.T) {
	s := Sender{Max: 65535}
	m := message(t, "a", 1)
	for i := range 65535 {
		if id := s.Send(Slot{Msg: m, QoS: 1}); int(id) != i+1 {
			t.Fatalf("message %d has identifier %d", i+1, id)
		}
	}
	if s.Room() != 0 || s.Send(Slot{Msg: m, QoS: 1}) != 0 || s.Queued() != 1 {
		t.Fatalf("there is room for %d more than there are identifiers", s.Room())
	}
	for id := 1; id <= 65535; id++ {
		if _, ok := s.Ack(packet.PUBACK, uint16(id)); !ok {
			t.Fatalf("%d is not in flight", id)
		}
	}
	if id, _, ok := s.Next(); !ok || id != 1 {
		t.Errorf("the queued one has identifier %d, %v, want 1", id, ok)
	}
	if s.win.n != 1 || len(s.win.b) != ringFirst {
		t.Errorf("one message in flight in a window of %d", len(s.win.b))
	}
}

// TestOneIsNeverAcknowledged: the window stops before an identifier would be
// given twice, however few are in flight, and goes on with the acknowledgement.
func TestOneIsNeverAcknowledged(t *testing.T) {
	f := func(first uint16) {
		t.Helper()
		s := Sender{Max: 10}
		startAt(&s, first)
		m := message(t, "a", 1)
		stuck := s.Send(Slot{Msg: m, QoS: 1})
		for i := range 65534 {
			id := s.Send(Slot{Msg: m, QoS: 1})
			if _, ok := s.Ack(packet.PUBACK, id); !ok || id == stuck {
				t.Fatalf("message %d has identifier %d, in flight: %v", i, id, ok)
			}
		}
		if id := s.Send(Slot{Msg: m, QoS: 1, LSN: 7}); id != 0 {
			t.Fatalf("one more got the identifier %d", id)
		}
		if s.Live() != 1 || s.Queued() != 1 || s.Room() != 0 {
			t.Errorf("%d in flight, %d wait, room for %d", s.Live(), s.Queued(), s.Room())
		}
		if _, _, ok := s.Next(); ok {
			t.Errorf("Next has one, and no identifier is free")
		}
		if _, ok := s.Ack(packet.PUBACK, stuck); !ok {
			t.Fatalf("%d is not in flight", stuck)
		}
		if id, x, ok := s.Next(); !ok || id != stuck || x.LSN != 7 {
			t.Errorf("after the acknowledgement: %d %+v %v", id, x, ok)
		}
		if len(s.win.b) > ringKeep {
			t.Errorf("one in flight in a window of %d", len(s.win.b))
		}
	}
	f(1)
	f(40000)
	f(65535)
}

// TestAcknowledgedBeforeSentAgain: what was not sent again yet can be
// acknowledged, and does not count against the new Receive Maximum.
func TestAcknowledgedBeforeSentAgain(t *testing.T) {
	s := Sender{Max: 3}
	m := message(t, "a", 1)
	for range 3 {
		s.Send(Slot{Msg: m, QoS: 1})
	}
	s.Resume(1, func(id uint16) { t.Errorf("PUBREL of %d", id) })
	if id, x, ok := s.Next(); !ok || id != 1 || x.Flags&Resend == 0 {
		t.Fatalf("Next: %d %+v %v", id, x, ok)
	}
	if _, ok := s.Ack(packet.PUBACK, 2); !ok {
		t.Fatal("2 is not in flight")
	}
	if id, _, ok := s.Next(); ok {
		t.Fatalf("%d is sent, one is in flight and the Receive Maximum is 1", id)
	}
	s.Ack(packet.PUBACK, 1)
	if id, _, ok := s.Next(); !ok || id != 3 {
		t.Errorf("Next: %d %v, want 3", id, ok)
	}
}

// TestSenderGivesMemoryBack: a window and a queue that ran empty are small.
func TestSenderGivesMemoryBack(t *testing.T) {
	f := func(what string, empty func(s *Sender)) {
		t.Helper()
		s := Sender{Max: 500}
		for range 1000 {
			s.Send(Slot{Msg: message(t, "a", 1), QoS: 1})
		}
		empty(&s)
		if len(s.queue.b) > ringKeep {
			t.Errorf("%s: an empty queue has memory for %d", what, len(s.queue.b))
		}
		for s.Live() > 0 {
			s.Drop(s.id(0))
		}
		if len(s.win.b) > ringKeep || s.Bytes != 0 || s.QueueBytes != 0 {
			t.Errorf("%s: an empty window has memory for %d, and %d and %d bytes", what, len(s.win.b), s.Bytes, s.QueueBytes)
		}
	}
	f("dropped", func(s *Sender) {
		for range 500 {
			s.DropOldest()
		}
	})
	f("sent", func(s *Sender) {
		for range 500 {
			s.Ack(packet.PUBACK, s.id(0))
			s.Next()
		}
	})
}

func TestUnackedStops(t *testing.T) {
	s := Sender{Max: 2}
	for range 4 {
		s.Send(Slot{Msg: message(t, "a", 1), QoS: 1})
	}
	for most := 1; most <= 4; most++ {
		n := 0
		s.Unacked(func(uint16, *Slot) bool { n++; return n < most })
		if n != most {
			t.Errorf("yielded %d after it was told to stop at %d", n, most)
		}
	}
}

func TestUnknownIdentifiers(t *testing.T) {
	s := Sender{Max: 10}
	startAt(&s, 65535)
	m := message(t, "a", 1)
	s.Send(Slot{Msg: m, QoS: 1}) // 65535
	s.Send(Slot{Msg: m, QoS: 2}) // 1
	s.Send(Slot{Msg: m, QoS: 1}) // 2
	s.Ack(packet.PUBACK, 2)      // 65535 and 1 are left
	for _, id := range []uint16{0, 2, 3, 65534} {
		for _, typ := range []packet.Type{packet.PUBACK, packet.PUBCOMP} {
			if x, ok := s.Ack(typ, id); ok {
				t.Errorf("%v of %d ends %+v", typ, id, x)
			}
		}
		if x, r := s.Record(id, false); r != Unknown {
			t.Errorf("PUBREC of %d: %d %+v", id, r, x)
		}
		if _, ok := s.Drop(id); ok {
			t.Errorf("Drop of %d", id)
		}
		if _, ok := s.Hold(id, Held); ok {
			t.Errorf("Hold of %d", id)
		}
	}
	if s.Live() != 2 {
		t.Errorf("%d in flight", s.Live())
	}
}

// cycle sends a message through its whole handshake.
func cycle(s *Sender, x Slot) {
	id := s.Send(x)
	if x.QoS == 1 {
		s.Ack(packet.PUBACK, id)
		return
	}
	s.Record(id, false)
	s.Ack(packet.PUBCOMP, id)
}

func TestSenderDoesNotAllocate(t *testing.T) {
	for q := packet.QoS(1); q <= 2; q++ {
		s := Sender{Max: 40}
		x := Slot{Msg: message(t, "a", 1), QoS: q}
		cycle(&s, x)
		if n := testing.AllocsPerRun(1000, func() { cycle(&s, x) }); n != 0 {
			t.Errorf("QoS %d: %v allocations a message, want none", q, n)
		}
		// With a window and a queue that are in use.
		for range 60 {
			s.Send(x)
		}
		id := uint16(0)
		n := testing.AllocsPerRun(1000, func() {
			s.Send(x)
			if id == 0 {
				id = s.id(0)
			} else if id++; id == 0 {
				id = 1
			}
			if q == 2 {
				s.Record(id, false)
				s.Ack(packet.PUBCOMP, id)
			} else {
				s.Ack(packet.PUBACK, id)
			}
			s.Next()
		})
		if n != 0 {
			t.Errorf("QoS %d, full window: %v allocations a message, want none", q, n)
		}
		if s.Live() != 40 || s.Queued() != 20 {
			t.Errorf("%d in flight, %d wait, want 40 and 20", s.Live(), s.Queued())
		}
	}
}

func BenchmarkSender(b *testing.B) {
	for _, c := range []struct {
		name string
		qos  packet.QoS
		deep int
	}{{"q1", 1, 0}, {"q2", 2, 0}, {"q1 window 100", 1, 100}, {"q1 queue", 1, 2000}} {
		b.Run(c.name, func(b *testing.B) {
			s := Sender{Max: 1000}
			x := Slot{Msg: message(b, "a/b/c", 64), QoS: c.qos}
			for range c.deep {
				s.Send(x)
			}
			b.ReportAllocs()
			for b.Loop() {
				if c.deep == 0 {
					cycle(&s, x)
					continue
				}
				s.Send(x)
				s.Ack(packet.PUBACK, s.id(0))
				s.Next()
			}
		})
	}
}
