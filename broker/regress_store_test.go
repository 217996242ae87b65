package broker

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// A QoS 2 message whose commit is pending is sent again on the next
// connection: it is acknowledged when the commit is done, and not before.
func TestRepeatOfAMessageThatIsNotCommitted(t *testing.T) {
	for _, err := range []error{nil, errDisk} {
		for _, v := range []packet.Version{packet.V311, packet.V5} {
			t.Run(fmt.Sprintf("%v, %v", v, err), func(t *testing.T) {
				each(t, func(t *testing.T, io string) { repeatBeforeCommit(t, io, v, err) })
			})
		}
	}
}

func repeatBeforeCommit(t *testing.T, io string, v packet.Version, err error) {
	r, x := startScripted(t, Options{IO: io})
	s, _ := r.connect(durable("s"))
	s.subscribe("a", 2)
	c := durable("p")
	c.Version = v
	p, _ := r.connect(c)
	x.keep("publish")
	one := packet.AppendPublish(nil, message("a", "x", 2, 1), v, packet.PublishOpts{QoS: 2, ID: 1})
	p.raw(one)
	end := x.await(t, "publish")[0]
	p.leave(r)
	p, a := r.connect(c)
	if !a.SessionPresent {
		t.Fatal("no session")
	}
	again := packet.AppendPublish(nil, message("a", "x", 2, 1), v, packet.PublishOpts{QoS: 2, ID: 1, Dup: true})
	p.raw(again)
	p.quiet() // no PUBREC
	x.keep()
	end(err)
	switch {
	case err == nil:
		if k := expect[*packet.Ack](p); k.Kind != packet.PUBREC || k.Code != packet.Success {
			t.Errorf("got %v", k)
		}
	case v < packet.V5:
		p.closed() // it has no word for it
		p, _ = r.connect(c)
		p.raw(again)
		expect[*packet.Ack](p)
	default:
		if k := expect[*packet.Ack](p); k.Kind != packet.PUBREC || !k.Code.Failed() {
			t.Errorf("got %v", k)
		}
		p.raw(one) // a new message
		expect[*packet.Ack](p)
	}
	if got := s.payloads(r); !slices.Equal(got, []string{"x"}) {
		t.Errorf("delivered %q", got)
	}
}

// A commit that fails while the publisher is away releases the identifier.
func TestCommitFailsWhileThePublisherIsAway(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		r, x := startScripted(t, Options{IO: io})
		s, _ := r.connect(durable("s"))
		s.subscribe("a", 2)
		p, _ := r.connect(durable("p"))
		x.keep("publish")
		p.send(message("a", "x", 2, 1))
		end := x.await(t, "publish")[0]
		p.leave(r)
		end(errDisk)
		x.keep()
		p, _ = r.connect(durable("p"))
		p.send(message("a", "x", 2, 1))
		for { // the refusal of the first may come first
			k := expect[*packet.Ack](p)
			if k.Code == packet.Success {
				break
			}
			p.send(message("a", "x", 2, 1))
		}
		if got := s.payloads(r); len(got) == 0 {
			t.Error("acknowledged, and nobody got it")
		}
	})
}

// What SUBSCRIBE and UNSUBSCRIBE ask of the store takes effect in the client's
// order, whatever the order of the answers.
func TestStoreAnswersInAnotherOrder(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		r, x := startScripted(t, Options{IO: io})
		p, _ := r.connect(durable("p"))
		x.keep("subscribe", "unsubscribe")
		p.send(&packet.Subscribe{ID: 1, Filters: []packet.Subscription{{Filter: "a"}}}, &packet.Unsubscribe{ID: 2, Filters: []string{"a"}})
		ends := x.await(t, "subscribe", "unsubscribe")
		ends[1](nil)
		p.quiet()
		ends[0](nil)
		expect[*packet.Suback](p)
		if u := expect[*packet.Unsuback](p); u.Codes[0] != packet.Success {
			t.Errorf("got %v", u)
		}
		if n := r.Stats().Subscriptions; n != 0 {
			t.Errorf("%d subscriptions left", n)
		}
	})
}

// A call that is done at once waits behind one that is not.
func TestStoreIsDoneAtOnceBehindACall(t *testing.T) {
	r, x := startScripted(t, Options{})
	p, _ := r.connect(durable("p"))
	x.keep("subscribe")
	p.send(&packet.Subscribe{ID: 1, Filters: []packet.Subscription{{Filter: "a"}}}, &packet.Unsubscribe{ID: 2, Filters: []string{"a"}})
	end := x.await(t, "subscribe")[0]
	p.quiet()
	end(nil)
	expect[*packet.Suback](p)
	if u := expect[*packet.Unsuback](p); u.Codes[0] != packet.Success {
		t.Errorf("got %v", u)
	}
}

// A SUBSCRIBE that the store cannot keep is refused, and leaves nothing behind.
func TestFailedSubscribe(t *testing.T) {
	r, x := startScripted(t, Options{})
	p, _ := r.connect(durable("p"))
	x.keep("subscribe")
	p.send(&packet.Subscribe{ID: 1, Filters: []packet.Subscription{{Filter: "a"}}})
	x.await(t, "subscribe")[0](errDisk)
	if a := expect[*packet.Suback](p); !a.Codes[0].Failed() || r.Stats().Subscriptions != 0 {
		t.Errorf("got %v, %d subscriptions", a, r.Stats().Subscriptions)
	}
}

// A record of a QoS 2 message that the store fails to make once ends the
// connection; the next one asks again, and everything arrives.
func TestRecordOfQoS2FailsOnce(t *testing.T) {
	for _, name := range []string{"sent2", "received2"} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, io string) {
				r, x := startScripted(t, Options{IO: io})
				s, _ := r.connect(durable("s"))
				s.subscribe("a", 2)
				p := r.client("p")
				x.keep(name)
				p.send(message("a", "one", 2, 1))
				expect[*packet.Ack](p)
				want := []string{"one", "two"}
				if name == "received2" {
					m := expect[*packet.Publish](s)
					s.send(&packet.Ack{Kind: packet.PUBREC, ID: m.ID})
					want = want[1:]
				}
				end := x.await(t, name)[0]
				x.keep()
				end(errDisk)
				s.closed()
				p.publish(packet.Message{Topic: "a", Payload: []byte("two")})
				s, _ = r.connect(durable("s"))
				if name == "received2" {
					if k := expect[*packet.Ack](s); k.Kind != packet.PUBREL {
						t.Errorf("got %v", k)
					}
					s.send(&packet.Ack{Kind: packet.PUBCOMP, ID: 1})
				}
				if got := s.payloads(r); !slices.Equal(got, want) {
					t.Errorf("delivered %q, want %q", got, want)
				}
			})
		})
	}
}

// The failure of what an earlier connection asked comes late: it does not end
// the connection of now, whose own question was answered well.
func TestLateFailureOfAnEarlierConnection(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		r, x := startScripted(t, Options{IO: io})
		s, _ := r.connect(durable("s"))
		s.subscribe("a", 2)
		p := r.client("p")
		x.keep("sent2")
		p.send(message("a", "one", 2, 1))
		expect[*packet.Ack](p)
		end := x.await(t, "sent2")[0]
		s.leave(r)
		x.keep()
		s, _ = r.connect(durable("s"))
		expect[*packet.Publish](s)
		end(errDisk)
		s.send(&packet.Ack{Kind: packet.PUBREC, ID: 1})
		if k := expect[*packet.Ack](s); k.Kind != packet.PUBREL {
			t.Errorf("got %v", k)
		}
		s.quiet()
	})
}

// While the store is slow, a client that has sent too much waits: its loop
// sleeps until the store answers.
func TestNoBusyLoopBehindASlowStore(t *testing.T) {
	r, x := startScripted(t, Options{IO: "reactor", Loops: 1})
	r.away("s", "a")
	c := packet.Connect{Version: packet.V311, ClientID: "p", CleanStart: true}
	p, _ := r.connect(c)
	ping := r.client("ping")
	x.keep("publish")
	var b []byte
	for i := range mostWaiting + 100 {
		b = packet.AppendPublish(b, message("a", "x", 1, uint16(i+1)), packet.V311, packet.PublishOpts{QoS: 1, ID: uint16(i + 1)})
	}
	p.raw(b)
	eventually(t, "enough waits", func() bool { x.mu.Lock(); defer x.mu.Unlock(); return len(x.kept) >= mostWaiting })
	for range 3 { // the one loop is through with what it had to do
		ping.quiet()
	}
	o := r.registry.connected("p")
	o.signals.Or(sigAccess) // no wake: who looks at it is awake without a reason
	for range 20 {
		ping.quiet()
	}
	if o.signals.Load() == 0 {
		t.Error("the connection is awake, though nothing happens")
	}
	x.keep()
	for {
		x.mu.Lock()
		all := x.kept
		x.kept = nil
		x.mu.Unlock()
		if len(all) == 0 {
			break
		}
		for _, k := range all {
			k.end(nil)
		}
	}
	for i := range mostWaiting + 100 {
		if k := expect[*packet.Ack](p); k.ID != uint16(i+1) {
			t.Fatalf("got %v, want %d", k, i+1)
		}
	}
	p.quiet()
}

// TestDueBeforeReconnect: what is due when a client comes back is done first,
// be the expirer late: its will is published [MQTT-3.1.2-8], its session ends
// [MQTT-4.1.0-2].
func TestDueBeforeReconnect(t *testing.T) {
	r := start(t, Options{SysInterval: -1})
	r.stopped.Store(time.Now().UnixNano())
	w := r.client("watch")
	w.subscribe("will/#", 0)
	away := func(id string, expiry uint32) {
		c, _ := r.connect(packet.Connect{ClientID: id, SessionExpiry: expiry, Will: &packet.Will{
			Message: packet.Message{Topic: "will/" + id, Payload: []byte("x")}, Delay: 100}})
		c.c.Close()
	}
	away("a", 10_000)
	away("b", 200)
	eventually(t, "both are away", func() bool { return r.Stats().Connected == 1 })
	r.stopped.Add(300 * 1e9) // the expirer does not look so soon
	if _, ack := r.connect(packet.Connect{ClientID: "a", SessionExpiry: 1000}); !ack.SessionPresent {
		t.Error("the session is gone")
	}
	if m := expect[*packet.Publish](w); string(m.Topic()) != "will/a" {
		t.Errorf("got %v", m)
	}
	if _, ack := r.connect(packet.Connect{ClientID: "b", SessionExpiry: 1000}); ack.SessionPresent {
		t.Error("an expired session is there")
	}
	if m := expect[*packet.Publish](w); string(m.Topic()) != "will/b" {
		t.Errorf("got %v", m)
	}
}
