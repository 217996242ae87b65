package broker

import (
	"errors"
	"testing"

	"github.com/myelin-mqtt/myelin/packet"
)

// A session whose client is away keeps what is needed again, and no more.
func TestAwayKeepsWhatIsNeeded(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, io string) {
		r := start(t, Options{IO: io, SysInterval: -1})
		keeps := func(id string) bool {
			s := r.registry.lookup(id)
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.active != nil
		}
		sub, _ := r.connect(durable("sub"))
		sub.subscribe("t", 1)
		pub, _ := r.connect(durable("pub"))
		for range 2 {
			pub.publish(packet.Message{Topic: "t"})
		}
		pub.leave(r)
		if keeps("pub") {
			t.Error("the publisher's session keeps something, and all was acknowledged")
		}
		var before [2]*packet.Publish
		for i := range before {
			before[i] = expect[*packet.Publish](sub)
		}
		sub.leave(r)
		if !keeps("sub") {
			t.Error("the subscriber's session keeps nothing, and two messages are in flight")
		}
		sub, a := r.connect(durable("sub"))
		if !a.SessionPresent {
			t.Fatal("the session is gone")
		}
		for _, old := range before {
			if m := expect[*packet.Publish](sub); !m.Dup() || m.ID != old.ID {
				t.Errorf("%v is not sent again with DUP and its identifier %d", m, old.ID)
			}
		}
		for _, old := range before {
			sub.send(&packet.Ack{Kind: packet.PUBACK, ID: old.ID})
		}
		sub.send(&packet.Pingreq{})
		expect[*packet.Pingresp](sub)
		sub.leave(r)
		if keeps("sub") {
			t.Error("the subscriber's session keeps something, and nothing is in flight")
		}
		sub, _ = r.connect(durable("sub"))
		pub, _ = r.connect(durable("pub"))
		if code := pub.publish(packet.Message{Topic: "t"}); code != packet.Success {
			t.Errorf("published on the next connection: %v", code)
		}
		expect[*packet.Publish](sub)
	})
}

// The store's word about a message of a session that keeps nothing is for
// nobody.
func TestWordForNobody(t *testing.T) {
	r := start(t, Options{SysInterval: -1})
	r.away("x", "t")
	s := r.registry.lookup("x")
	s.Done(1<<32, errors.New("late"))
	s.wake()
	s.mu.Lock()
	kept := s.active != nil
	s.mu.Unlock()
	if kept {
		t.Error("something is kept")
	}
	if p, a := r.connect(durable("x")); !a.SessionPresent {
		t.Error("the session is gone")
	} else if code := p.publish(packet.Message{Topic: "elsewhere"}); code.Failed() {
		t.Errorf("published: %v", code)
	}
}

// The store's word about a message of the connection before the last comes to a
// session that has forgotten it, and goes on.
func TestWordOfAConnectionBefore(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		for _, err := range []error{nil, errDisk} {
			r, x := startScripted(t, Options{IO: io})
			r.away("s", "t")
			p, _ := r.connect(durable("p"))
			x.keep("publish")
			p.send(message("t", "x", 1, 1))
			end := x.await(t, "publish")[0]
			x.keep()
			for range 2 { // the first takes back what waits, the second leaves nothing
				p.leave(r)
				p, _ = r.connect(durable("p"))
			}
			end(err)
			p.quiet()
			if code := p.publish(packet.Message{Topic: "t"}); code != packet.Success {
				t.Errorf("published: %v", code)
			}
			r.stop()
		}
	})
}
