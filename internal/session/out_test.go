package session

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/myelin-mqtt/myelin/internal/qos"
	"github.com/myelin-mqtt/myelin/packet"
)

// kept is a message of so many bytes, topic included.
func kept(t interface{ Fatal(...any) }, size int) *packet.Publish {
	p, err := packet.NewPublish(&packet.Message{Topic: "t", Payload: make([]byte, size-1)}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestFull(t *testing.T) {
	f := func(l Limits, n, have, size int, want bool) {
		t.Helper()
		if got := l.Full(n, have, size); got != want {
			t.Errorf("%+v beside %d of %d bytes, %d bytes: full %v, want %v", l, n, have, size, got, want)
		}
	}
	f(Limits{}, 1e6, 1e9, 1e6, false)
	f(Limits{Messages: 2}, 1, 1e9, 1, false)
	f(Limits{Messages: 2}, 2, 0, 1, true)
	f(Limits{Bytes: 10}, 1, 5, 5, false)
	f(Limits{Bytes: 10}, 1, 5, 6, true)
	f(Limits{Bytes: 10}, 0, 0, 11, false) // one is always let in
	f(Limits{Messages: 5, Bytes: 10}, 4, 10, 1, true)
}

// TestDeliver: with one message in flight, which is all that the window has
// room for, sizes are put into the queue, and the last one is looked at.
func TestDeliver(t *testing.T) {
	f := func(what string, l Limits, sizes []int, drops int, dropped int, left ...int) {
		t.Helper()
		var o Out
		o.Send.Max = 1
		if d := o.Deliver(qos.Slot{Msg: kept(t, 1), QoS: 1}, &l); d.ID != 1 || d.Drops != 0 {
			t.Fatalf("%s: the first: %+v", what, d)
		}
		var d Delivery
		for _, n := range sizes {
			d = o.Deliver(qos.Slot{Msg: kept(t, n), QoS: 1}, &l)
		}
		got := 0
		if d.Dropped != nil {
			got = len(d.Dropped.Payload()) + 1
		}
		if d.ID != 0 || d.Drops != drops || got != dropped {
			t.Errorf("%s: identifier %d, %d dropped, the last of %d bytes; want 0, %d, %d", what, d.ID, d.Drops, got, drops, dropped)
		}
		var queue []int
		o.Send.Unacked(func(id uint16, x *qos.Slot) bool {
			if id == 0 {
				queue = append(queue, len(x.Msg.Payload())+1)
			}
			return true
		})
		if !slices.Equal(queue, left) {
			t.Errorf("%s: %d wait, want %d", what, queue, left)
		}
	}
	f("no limit", Limits{}, []int{1, 2, 3}, 0, 0, 1, 2, 3)
	f("room", Limits{Messages: 3}, []int{1, 2, 3}, 0, 0, 1, 2, 3)
	f("oldest, by number", Limits{Messages: 2}, []int{1, 2, 3}, 1, 1, 2, 3)
	f("new, by number", Limits{Messages: 2, Policy: DropNew}, []int{1, 2, 3}, 1, 3, 1, 2)
	f("slow, so not refused", Limits{Messages: 2, Policy: Refuse}, []int{1, 2, 3}, 1, 3, 1, 2)
	f("oldest, by bytes", Limits{Bytes: 6}, []int{1, 2, 3, 4}, 3, 3, 4)
	f("oldest, too large for the limit alone", Limits{Bytes: 6}, []int{1, 2, 9}, 2, 2, 9)
	f("new, by bytes", Limits{Bytes: 6, Policy: DropNew}, []int{1, 2, 9}, 1, 9, 1, 2)
}

// TestDeliverBehindQueue: what comes while others wait goes behind them, even
// with room in the window.
func TestDeliverBehindQueue(t *testing.T) {
	var o Out
	o.Send.Max = 1
	l := Limits{Messages: 1}
	first := o.Deliver(qos.Slot{Msg: kept(t, 1), QoS: 1, LSN: 1}, &l)
	o.Deliver(qos.Slot{Msg: kept(t, 1), QoS: 1, LSN: 2}, &l)
	o.Acked(packet.PUBACK, first.ID, packet.Success)
	if d := o.Deliver(qos.Slot{Msg: kept(t, 1), QoS: 1, LSN: 3}, &l); d.ID == 0 || d.Drops != 1 {
		t.Errorf("the queue had to be emptied for it: %+v, want an identifier", d)
	}
	if id, x, ok := o.Send.Next(); ok {
		t.Errorf("%d %+v is left", id, x)
	}
}

// TestAcked: each packet of the subscriber, in each state of a message.
func TestAcked(t *testing.T) {
	const refused = packet.QuotaExceeded
	states := []struct {
		name string
		qos  packet.QoS
		do   func(o *Out)
	}{
		{"QoS 1 sent", 1, func(*Out) {}},
		{"QoS 2 held", 2, func(o *Out) { o.Send.Hold(1, qos.Held) }},
		{"QoS 2 sent", 2, func(*Out) {}},
		{"QoS 2 recorded", 2, func(o *Out) { o.Acked(packet.PUBREC, 1, 0); o.Send.Hold(1, qos.Recorded) }},
		{"QoS 2 released", 2, func(o *Out) { o.Acked(packet.PUBREC, 1, 0) }},
		{"unknown", 2, func(o *Out) { o.Send.Drop(1) }},
	}
	type want struct {
		send           packet.Type
		code           packet.Reason
		done, recorded bool
		live           int
	}
	nothing, gone := want{live: 1}, want{done: true}
	unknown := want{send: packet.PUBREL, code: packet.PacketIdentifierNotFound, live: 1}
	packets := []struct {
		typ  packet.Type
		code packet.Reason
		want []want // by state
	}{
		{packet.PUBACK, packet.Success, []want{gone, nothing, nothing, nothing, nothing, {}}},
		{packet.PUBACK, refused, []want{gone, nothing, nothing, nothing, nothing, {}}}, // [MQTT-4.4.0-2]
		{packet.PUBREC, packet.Success, []want{unknown, unknown, {send: packet.PUBREL, recorded: true, live: 1}, nothing,
			{send: packet.PUBREL, live: 1}, {send: packet.PUBREL, code: packet.PacketIdentifierNotFound}}},
		{packet.PUBREC, packet.NoMatchingSubscribers, []want{unknown, unknown, {send: packet.PUBREL, recorded: true, live: 1}, nothing,
			{send: packet.PUBREL, live: 1}, {send: packet.PUBREL, code: packet.PacketIdentifierNotFound}}},
		{packet.PUBREC, refused, []want{nothing, nothing, gone, gone, gone, {}}}, // [MQTT-4.4.0-2]
		{packet.PUBCOMP, packet.Success, []want{nothing, nothing, nothing, nothing, gone, {}}},
		{packet.PUBCOMP, packet.PacketIdentifierNotFound, []want{nothing, nothing, nothing, nothing, gone, {}}},
	}
	for _, p := range packets {
		for i, st := range states {
			var o Out
			o.Send.Max = 5
			o.Deliver(qos.Slot{Msg: kept(t, 3), QoS: st.qos, LSN: 77}, &Limits{})
			st.do(&o)
			r := o.Acked(p.typ, 1, p.code)
			got := want{r.Send, r.Code, r.Done, r.Recorded, o.Send.Live()}
			if got != p.want[i] {
				t.Errorf("%v %v, %s: %+v, want %+v", p.typ, p.code, st.name, got, p.want[i])
			}
			if (r.Done || r.Recorded) && r.Slot.LSN != 77 {
				t.Errorf("%v %v, %s: the slot is %+v", p.typ, p.code, st.name, r.Slot)
			}
		}
	}
}

// TestDeliverModel: the queue is in order and within its limits, and every
// message is sent, waits or was counted as dropped.
func TestDeliverModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Limits{
			Messages: rapid.IntRange(0, 5).Draw(t, "messages"),
			Bytes:    rapid.SampledFrom([]int{0, 1, 20, 100}).Draw(t, "bytes"),
			Policy:   rapid.SampledFrom([]Policy{DropOldest, DropNew, Refuse}).Draw(t, "policy"),
		}
		var o Out
		o.Send.Max = uint16(rapid.IntRange(1, 4).Draw(t, "window"))
		var sent []uint64
		flight := map[uint16]bool{}
		made, dropped := uint64(0), 0
		for range rapid.IntRange(0, 150).Draw(t, "steps") {
			if rapid.IntRange(0, 2).Draw(t, "do") > 0 {
				made++
				d := o.Deliver(qos.Slot{Msg: kept(t, rapid.IntRange(1, 30).Draw(t, "size")), QoS: 1, LSN: made}, &l)
				dropped += d.Drops
				if (d.Dropped != nil) != (d.Drops > 0) {
					t.Fatalf("Deliver: %+v", d)
				}
				if d.ID != 0 {
					sent, flight[d.ID] = append(sent, made), true
				}
			} else if len(flight) > 0 {
				ids := make([]uint16, 0, len(flight))
				for id := range flight {
					ids = append(ids, id)
				}
				slices.Sort(ids)
				id := rapid.SampledFrom(ids).Draw(t, "acknowledge")
				if r := o.Acked(packet.PUBACK, id, packet.Success); !r.Done {
					t.Fatalf("PUBACK of %d: %+v", id, r)
				}
				delete(flight, id)
				if rapid.Bool().Draw(t, "pump") {
					for {
						id, x, ok := o.Send.Next()
						if !ok {
							break
						}
						sent, flight[id] = append(sent, x.LSN), true
					}
				}
			}
			if !slices.IsSorted(sent) {
				t.Fatalf("sent out of order: %d", sent)
			}
			if n := len(sent) + o.Send.Queued() + dropped; n != int(made) {
				t.Fatalf("%d sent, %d wait, %d dropped, of %d", len(sent), o.Send.Queued(), dropped, made)
			}
			if n := o.Send.Queued(); l.Messages > 0 && n > l.Messages || l.Bytes > 0 && n > 1 && o.Send.QueueBytes > l.Bytes {
				t.Fatalf("%d of %d bytes wait, the limits are %+v", n, o.Send.QueueBytes, l)
			}
		}
	})
}

func TestOutDoesNotAllocate(t *testing.T) {
	for q := packet.QoS(1); q <= 2; q++ {
		var o Out
		o.Send.Max = 10
		x, l := qos.Slot{Msg: kept(t, 10), QoS: q}, Limits{Messages: 100}
		do := func() {
			d := o.Deliver(x, &l)
			if q == 2 {
				o.Acked(packet.PUBREC, d.ID, packet.Success)
				o.Acked(packet.PUBCOMP, d.ID, packet.Success)
				return
			}
			o.Acked(packet.PUBACK, d.ID, packet.Success)
		}
		do()
		if n := testing.AllocsPerRun(200, do); n != 0 {
			t.Errorf("QoS %d: %v allocations a message, want none", q, n)
		}
	}
}
