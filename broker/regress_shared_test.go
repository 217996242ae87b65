package broker

import (
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"testing"

	"github.com/myelin-mqtt/myelin/internal/route"
	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/topic"
)

// A member unsubscribes with a message in flight, and ends: nobody else may
// know of it, but it is counted.
func TestMemberUnsubscribesAndEnds(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		r := start(t, Options{IO: io, SysInterval: -1})
		a := r.client("a")
		a.subscribe("$share/g/x", 1)
		p := r.client("p")
		p.publish(packet.Message{Topic: "x", Payload: []byte("m")})
		expect[*packet.Publish](a)
		b := r.client("b")
		b.subscribe("$share/g/x", 1)
		a.send(&packet.Unsubscribe{ID: 5, Filters: []string{"$share/g/x"}})
		expect[*packet.Unsuback](a)
		a.leave(r)
		if got := b.payloads(r); len(got) == 0 && r.Stats().Dropped[DropNoMember.String()] != 1 {
			t.Errorf("the message has vanished: dropped %v", r.Stats().Dropped)
		}
	})
}

// A QoS 2 message that the subscriber has is not lost with its session.
func TestEndOfASessionAfterPubrec(t *testing.T) {
	r := start(t, Options{SysInterval: -1})
	s := r.client("s")
	s.subscribe("x", 2)
	p := r.client("p")
	p.send(message("x", "m", 2, 1))
	expect[*packet.Ack](p)
	m := expect[*packet.Publish](s)
	s.send(&packet.Ack{Kind: packet.PUBREC, ID: m.ID})
	expect[*packet.Ack](s) // PUBREL
	s.leave(r)
	if d := r.Stats().Dropped; len(d) != 0 {
		t.Errorf("dropped %v", d)
	}
}

// A batch for a shared subscription is spread by load, where the store serves
// the members, too.
func TestLeastInflightSpreadsABatch(t *testing.T) {
	for _, expiry := range []uint32{0, 100} {
		t.Run(fmt.Sprint("expiry ", expiry), func(t *testing.T) {
			r := start(t, Options{SysInterval: -1, Shared: LeastInflight, Loops: 1})
			members := map[string]*peer{}
			for i := range 4 {
				id := fmt.Sprint("m", i)
				m, _ := r.connect(packet.Connect{ClientID: id, CleanStart: true, SessionExpiry: expiry})
				m.subscribe("$share/g/x", 1)
				members[id] = m
			}
			p := r.client("p")
			for range 3 { // three of them are busy, one is not
				p.publish(packet.Message{Topic: "x"})
			}
			var all []packet.Packet
			for i := range 100 {
				all = append(all, message("x", "y", 1, uint16(i+1)))
			}
			p.send(all...)
			for range all {
				expect[*packet.Ack](p)
			}
			eventually(t, "quiet", r.quiet)
			got := map[string]int{}
			for id, m := range members {
				m.send(&packet.Pingreq{})
				for m.next().Type() == packet.PUBLISH {
					got[id]++
				}
			}
			for id := range maps.Keys(members) {
				if n := got[id]; n < 20 || n > 32 {
					t.Errorf("103 messages: %v", got)
					break
				}
			}
		})
	}
}

// Members that are away cost a QoS 0 message little, however many there are.
func TestManyMembersAreAway(t *testing.T) {
	r := start(t, Options{SysInterval: -1})
	f, err := topic.ParseFilter("$share/g/x")
	if err != nil {
		t.Fatal(err)
	}
	for range 3000 {
		r.table.Subscribe(f, route.Sub[*session]{To: newSession("away"), QoS: 1}, true)
	}
	p := r.client("p")
	const n = 300
	for range n { // 3000 members looked at 3000 times each: minutes
		p.send(message("x", "x", 0, 0))
	}
	p.quiet()
	if d := r.Stats().Dropped[DropNoMember.String()]; d != n {
		t.Errorf("%d of %d without a member", d, n)
	}
}

// A session that must have a message twice and has room for one gets it twice
// under the policy Refuse, which refuses before, or not at all.
func TestRefuseKeepsItsPromise(t *testing.T) {
	r := start(t, Options{SysInterval: -1, Queue: QueueOptions{MaxMessages: 1, Policy: Refuse}})
	r.away("s", "x", "$share/g/x")
	p := r.client("p")
	if code := p.publish(packet.Message{Topic: "x", Payload: []byte("m")}); code != packet.Success {
		t.Fatalf("got %v", code)
	}
	if err := r.Publish(t.Context(), Message{Topic: "x", QoS: 1}); !errors.Is(err, ErrQuota) {
		t.Errorf("the program is told %v", err)
	}
	s, _ := r.connect(durable("s"))
	if got := s.payloads(r); len(got) != 2 || r.Stats().Dropped[DropQueueFull.String()] != 0 {
		t.Errorf("got %q, dropped %v", got, r.Stats().Dropped)
	}
}

// What came through a shared subscription is the next member's before it is
// lost to the session that ends: a crash between the two costs nothing.
func TestSharedIsGivenAwayBeforeTheEnd(t *testing.T) {
	r, x := startScripted(t, Options{})
	r.away("a", "$share/g/t")
	p := r.client("p")
	for range 3 {
		p.publish(packet.Message{Topic: "t", Payload: []byte("x")})
	}
	r.away("b", "$share/g/t")
	queued := func(id string) int {
		n, _ := r.registry.lookup(id).store.Queued()
		return n
	}
	if queued("a") != 3 || queued("b") != 0 {
		t.Fatalf("%d and %d wait", queued("a"), queued("b"))
	}
	var atEnd atomic.Int32
	x.mu.Lock()
	x.onEnd = func() { atEnd.Store(int32(queued("b"))) }
	x.mu.Unlock()
	r.client("a") // with a clean start
	if n := atEnd.Load(); n != 3 {
		t.Errorf("%d wait for the other at the end, want 3", n)
	}
	if n := queued("b"); n != 3 {
		t.Errorf("%d wait for the other, want 3", n)
	}
}
