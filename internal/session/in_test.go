package session

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/myelin-mqtt/myelin/packet"
)

// incoming is a PUBLISH as it came from the wire.
func incoming(t testing.TB, topic string, q packet.QoS, id, alias uint16) *packet.Publish {
	t.Helper()
	m, err := packet.NewPublish(&packet.Message{Topic: "x"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if topic != "" {
		if m, err = packet.NewPublish(&packet.Message{Topic: topic}, 0); err != nil {
			t.Fatal(err)
		}
	}
	b := packet.AppendPublish(nil, m, packet.V5, packet.PublishOpts{QoS: q, ID: id, Alias: alias, OmitTopic: topic == ""})
	p := new(packet.Publish)
	n, hdr, err := packet.Frame(b, 1<<20)
	if err == nil {
		err = p.Parse(b[:n], hdr, packet.V5)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPublish(t *testing.T) {
	var s In
	s.Resume(2, 0)
	f := func(what string, q packet.QoS, id uint16, want Verdict) {
		t.Helper()
		if got := s.Publish(incoming(t, "a", q, id, 0)); got != want {
			t.Errorf("%s: %+v, want %+v", what, got, want)
		}
	}
	full := Verdict{Code: packet.ReceiveMaximumExceeded}
	q1 := Verdict{Route: true, Ack: packet.PUBACK}
	q2 := Verdict{Route: true, Ack: packet.PUBREC}
	f("QoS 0", 0, 0, Verdict{Route: true})
	f("QoS 1", 1, 5, q1)
	f("QoS 2", 2, 6, q2)
	f("QoS 2, a duplicate", 2, 6, Verdict{Ack: packet.PUBREC}) // [MQTT-4.3.3-10]
	f("QoS 1, full", 1, 7, full)                               // [MQTT-3.3.4-7]
	f("QoS 2, full", 2, 7, full)
	f("QoS 0 is never too much", 0, 0, Verdict{Route: true})
	s.Acked(packet.PUBACK, 5, packet.Success)
	f("QoS 1, the identifier is new after the PUBACK", 1, 5, q1) // [MQTT-4.3.2-5]
	s.Acked(packet.PUBACK, 5, packet.QuotaExceeded)
	s.Acked(packet.PUBREC, 6, packet.Success)
	f("QoS 2, a duplicate after the PUBREC", 2, 6, Verdict{Ack: packet.PUBREC})
	f("QoS 2, another", 2, 7, q2)
	s.Acked(packet.PUBREC, 7, packet.QuotaExceeded)
	f("QoS 2, refused, is new", 2, 7, q2) // [MQTT-4.3.3-9]
	if got := s.Release(6); got != packet.Success {
		t.Errorf("Release: %v", got)
	}
	if got := s.Release(6); got != packet.PacketIdentifierNotFound {
		t.Errorf("Release of an unknown identifier: %v", got)
	}
	f("QoS 2, the identifier is new after the PUBCOMP", 2, 6, q2) // [MQTT-4.3.3-12]
	s.Resume(2, 0)
	f("QoS 2, a duplicate on the next connection", 2, 6, Verdict{Ack: packet.PUBREC})
	f("QoS 1, on the next connection", 1, 9, q1)
	f("QoS 1, full again", 1, 10, full)
	s.Resume(0, 0)
	for id := range uint16(300) {
		f("no limit", 1, id+1, q1)
	}
}

func TestResolve(t *testing.T) {
	var s In
	s.Resume(0, 3)
	f := func(topic string, alias uint16, code packet.Reason, want string) {
		t.Helper()
		p := incoming(t, topic, 0, 0, alias)
		if got := s.Resolve(p); got != code {
			t.Errorf("%q with alias %d: %v, want %v", topic, alias, got, code)
			return
		}
		if code == packet.Success && string(p.Topic()) != want {
			t.Errorf("%q with alias %d: the topic is %q, want %q", topic, alias, p.Topic(), want)
		}
	}
	f("", 1, packet.ProtocolError, "")
	f("", 3, packet.ProtocolError, "")
	f("a", 3, packet.Success, "a")
	f("", 3, packet.Success, "a")
	f("", 1, packet.ProtocolError, "")
	f("b", 1, packet.Success, "b")
	f("c", 3, packet.Success, "c")
	f("", 3, packet.Success, "c")
	f("", 1, packet.Success, "b")
	f("d", 4, packet.TopicAliasInvalid, "") // [MQTT-3.3.2-9]
	f("", 4, packet.TopicAliasInvalid, "")
	f("d", 65535, packet.TopicAliasInvalid, "")
	if got := s.Resolve(new(packet.Publish)); got != packet.TopicAliasInvalid { // [MQTT-3.3.2-8]
		t.Errorf("alias 0: %v", got)
	}
	s.Resume(0, 3) // [MQTT-3.3.2-7]
	f("", 1, packet.ProtocolError, "")
	f("", 3, packet.ProtocolError, "")
	s.Resume(0, 0)
	f("a", 1, packet.TopicAliasInvalid, "")
}

// TestResolvedTopicStays: the bytes that a message got are not overwritten by
// the alias's next topic, nor by the next packet in the read buffer.
func TestResolvedTopicStays(t *testing.T) {
	var s In
	s.Resume(0, 1)
	first := incoming(t, "first", 0, 0, 1)
	s.Resolve(first)
	p := incoming(t, "", 0, 0, 1)
	s.Resolve(p)
	b := first.Bytes()
	copy(b, bytes.Repeat([]byte{0xDB}, len(b)))
	s.Resolve(incoming(t, "other", 0, 0, 1))
	if got := string(p.Topic()); got != "first" {
		t.Errorf("the topic is %q now, want \"first\"", got)
	}
}

// TestAcksModel: acknowledgements leave in the order of their messages,
// whatever the order of the commits. [MQTT-4.6.0-2], [MQTT-4.6.0-3]
func TestAcksModel(t *testing.T) {
	type entry struct {
		Ack
		tok  uint64
		done bool
	}
	rapid.Check(t, func(t *rapid.T) {
		var s In
		var queue []*entry
		var old, all []uint64 // tokens that are over; all that were given
		id := uint16(0)
		steps := rapid.SampledFrom([]int{20, 100, 1000}).Draw(t, "steps")
		bias := rapid.IntRange(1, 4).Draw(t, "bias")
		for range steps {
			switch do := rapid.IntRange(0, 7).Draw(t, "do"); {
			case do < bias:
				id++
				e := &entry{Ack: Ack{Type: rapid.SampledFrom([]packet.Type{packet.PUBACK, packet.PUBREC}).Draw(t, "type"), ID: id}, tok: s.Token()}
				if slices.Contains(all, e.tok) {
					t.Fatalf("token %d is given a second time", e.tok)
				}
				s.Wait(e.Type, e.ID)
				queue, all = append(queue, e), append(all, e.tok)
			case do < 5 && len(queue) > 0:
				e := rapid.SampledFrom(queue).Draw(t, "commit")
				e.Code, e.done = rapid.SampledFrom([]packet.Reason{packet.Success, packet.QuotaExceeded}).Draw(t, "code"), true
				s.Commit(e.tok, e.Code)
			case do < 7:
				a, ok := s.Next()
				want := len(queue) > 0 && queue[0].done
				if ok != want || ok && a != queue[0].Ack {
					t.Fatalf("Next: %+v %v, the model has %d, want %v", a, ok, len(queue), want)
				}
				if ok {
					old, queue = append(old, queue[0].tok), queue[1:]
				}
			case len(old) > 0 && rapid.IntRange(0, 3).Draw(t, "late") > 0:
				s.Commit(rapid.SampledFrom(old).Draw(t, "old"), packet.UnspecifiedError)
				s.Commit(rapid.Uint64Range(uint64(len(all))+10, 1<<63).Draw(t, "never given"), packet.Success)
			default:
				s.Resume(0, 0)
				for _, e := range queue {
					old = append(old, e.tok)
				}
				queue = nil
			}
			if s.Waiting() != len(queue) {
				t.Fatalf("Waiting: %d, want %d", s.Waiting(), len(queue))
			}
		}
	})
}

func TestNothingWaits(t *testing.T) {
	var s In
	s.Commit(1, packet.Success)
	if a, ok := s.Next(); ok || s.Waiting() != 0 {
		t.Errorf("Next: %+v %v, %d wait", a, ok, s.Waiting())
	}
}

func TestAcksGiveMemoryBack(t *testing.T) {
	var s In
	for id := range uint16(10000) {
		tok := s.Token()
		s.Wait(packet.PUBACK, id)
		s.Commit(tok, packet.Success)
	}
	for range 10000 {
		s.Next()
	}
	if n := cap(s.acks.q); n > 256 {
		t.Errorf("nothing waits, and there is memory for %d", n)
	}
	// A queue that never runs empty does not grow.
	s.Wait(packet.PUBACK, 1)
	for range 100000 {
		s.Commit(s.acks.first, packet.Success)
		s.Wait(packet.PUBACK, 1)
		s.Next()
	}
	if n := cap(s.acks.q); n > 512 {
		t.Errorf("one waits, and there is memory for %d", n)
	}
}

func TestInDoesNotAllocate(t *testing.T) {
	var s In
	s.Resume(100, 2)
	one, two := incoming(t, "a", 1, 1, 0), incoming(t, "a", 2, 2, 0)
	set, use := incoming(t, "a", 0, 0, 1), incoming(t, "", 0, 0, 1)
	f := func(what string, do func()) {
		t.Helper()
		do()
		if n := testing.AllocsPerRun(200, do); n != 0 {
			t.Errorf("%s: %v allocations, want none", what, n)
		}
	}
	f("QoS 1", func() { s.Publish(one); s.Acked(packet.PUBACK, 1, packet.Success) })
	f("QoS 2", func() { s.Publish(two); s.Acked(packet.PUBREC, 2, packet.Success); s.Release(2) })
	f("alias", func() { s.Resolve(set); s.Resolve(use) })
	f("wait for the commit", func() {
		tok := s.Token()
		s.Wait(packet.PUBACK, 1)
		s.Commit(tok, packet.Success)
		s.Next()
	})
}

// TestManyAliases: every alias up to the maximum has its own topic.
func TestManyAliases(t *testing.T) {
	var s In
	s.Resume(0, 65535)
	long := strings.Repeat("x", 100)
	for _, alias := range []uint16{1, 2, 100, 65534, 65535} {
		if got := s.Resolve(incoming(t, fmt.Sprint(long, alias), 0, 0, alias)); got != packet.Success {
			t.Errorf("alias %d: %v", alias, got)
		}
	}
	for _, alias := range []uint16{65535, 1, 100, 65534, 2} {
		p := incoming(t, "", 0, 0, alias)
		if got := s.Resolve(p); got != packet.Success || string(p.Topic()) != fmt.Sprint(long, alias) {
			t.Errorf("alias %d: %v %q", alias, got, p.Topic())
		}
	}
	if got := s.Resolve(incoming(t, "", 0, 0, 3)); got != packet.ProtocolError {
		t.Errorf("an alias between: %v", got)
	}
}

// A duplicate is not acknowledged before the message that it repeats is
// committed, on the same connection or the next, and where that fails, the
// identifier is free.
func TestDuplicateWaitsForItsCommit(t *testing.T) {
	f := func(name string, reconnect bool, code packet.Reason) {
		t.Helper()
		var s In
		s.Resume(0, 0)
		if v := s.Publish(incoming(t, "t", 2, 7, 0)); !v.Route || v.Ack != packet.PUBREC {
			t.Fatalf("%s: %+v", name, v)
		}
		tok := s.Token()
		s.Wait(packet.PUBREC, 7)
		if reconnect {
			s.Resume(0, 0)
		}
		if v := s.Publish(incoming(t, "t", 2, 7, 0)); v.Route {
			t.Fatalf("%s: a duplicate is routed", name)
		}
		on, pending := s.Behind(7)
		if !pending || on != tok {
			t.Fatalf("%s: behind %d, %v; want %d", name, on, pending, tok)
		}
		s.WaitOn(packet.PUBREC, 7, on)
		if a, ok := s.Next(); ok {
			t.Fatalf("%s: %+v before the commit", name, a)
		}
		s.Commit(tok, code)
		want := 2
		if reconnect {
			want = 1 // the first one's acknowledgement is gone with its connection
		}
		for range want {
			a, ok := s.Next()
			if !ok || a != (Ack{packet.PUBREC, code, 7}) {
				t.Fatalf("%s: %+v, %v", name, a, ok)
			}
			s.Acked(a.Type, a.ID, a.Code)
		}
		if _, pending := s.Behind(7); pending || s.Waiting() != 0 {
			t.Errorf("%s: still pending", name)
		}
		if v := s.Publish(incoming(t, "t", 2, 7, 0)); v.Route != code.Failed() {
			t.Errorf("%s: afterwards %+v", name, v)
		}
	}
	f("same, committed", false, packet.Success)
	f("same, failed", false, packet.QuotaExceeded)
	f("next, committed", true, packet.Success)
	f("next, failed", true, packet.QuotaExceeded)
}

// A commit that fails while nobody is connected frees the identifier, too.
func TestCommitFailsBetweenConnections(t *testing.T) {
	var s In
	s.Publish(incoming(t, "t", 2, 7, 0))
	tok := s.Token()
	s.Wait(packet.PUBREC, 7)
	s.Resume(0, 0)
	s.Commit(tok, packet.QuotaExceeded)
	if v := s.Publish(incoming(t, "t", 2, 7, 0)); !v.Route {
		t.Error("taken for a duplicate of a message that is lost")
	}
	s = In{}
	s.Publish(incoming(t, "t", 2, 7, 0))
	tok = s.Token()
	s.Wait(packet.PUBREC, 7)
	s.Commit(tok, packet.QuotaExceeded)
	s.Resume(0, 0) // the refusal was not sent
	if v := s.Publish(incoming(t, "t", 2, 7, 0)); !v.Route {
		t.Error("taken for a duplicate of a message that was refused")
	}
}

// TestIdle: what is forgotten when it is idle leaves no token that its
// successor could take for its own.
func TestIdle(t *testing.T) {
	s := NewIn(1 << 32)
	f := func(what string, want bool) {
		t.Helper()
		if got := s.Idle(); got != want {
			t.Errorf("%s: idle %v", what, got)
		}
	}
	f("new", true)
	s.Publish(incoming(t, "a", 2, 7, 0))
	f("an identifier is held", false)
	tok := s.Token()
	if tok != 1<<32 {
		t.Errorf("the first token is %d", tok)
	}
	s.Wait(packet.PUBREC, 7)
	s.Release(7)
	f("an acknowledgement waits", false)
	s.Resume(0, 0)
	f("a QoS 2 commit of an earlier connection is awaited", false)
	s.Commit(tok, packet.Success)
	f("it has come", true)
	next := NewIn(2 << 32)
	next.Wait(packet.PUBACK, 1)
	next.Commit(tok, packet.Success)
	if _, ok := next.Next(); ok {
		t.Error("a token of another is taken for its own")
	}
}
