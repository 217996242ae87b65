package broker

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// A message is retained after its subscribers were looked up: who subscribes
// in between gets it, once, whatever else the client is subscribed to.
func TestSubscriptionBetweenMatchAndRetaining(t *testing.T) {
	for _, x := range []struct {
		name    string
		expiry  uint32
		q       packet.QoS
		options QueueOptions
		before  string // the client's subscription before
		want    int
	}{
		{name: "clean", q: 1, want: 1},
		{name: "durable", expiry: 100, q: 1, want: 1},
		{name: "durable, QoS 0", expiry: 100, want: 1},
		{name: "durable, QoS 0 queued", expiry: 100, options: QueueOptions{QoS0: true}, want: 1},
		{name: "durable, subscribed", expiry: 100, q: 1, before: "+", want: 1},
		{name: "durable, shared", expiry: 100, q: 1, before: "$share/g/a", want: 2},
	} {
		t.Run(x.name, func(t *testing.T) {
			r, h := startScripted(t, Options{IO: "goroutine", Queue: x.options}) // the subscriber must not wait for the publisher's loop
			p := r.client("p")
			s, _ := r.connect(packet.Connect{ClientID: "s", CleanStart: true, SessionExpiry: x.expiry})
			if x.before != "" {
				s.subscribe(x.before, 1)
			}
			at := h.halt()
			id := uint16(x.q) // none at QoS 0
			p.send(pub(packet.Message{Topic: "a", Payload: []byte("v"), QoS: x.q, Retain: true}, id))
			<-at.reached
			s.subscribe("a", 1)
			close(at.proceed)
			if x.q > 0 {
				expect[*packet.Ack](p)
			}
			p.quiet()
			if got := s.payloads(r); len(got) != x.want {
				t.Errorf("got %q, want %d messages", got, x.want)
			}
		})
	}
}

// A durable session that loses its connection in the middle of its retained
// messages gets the rest when it comes back, and none after an UNSUBSCRIBE.
func TestRetainedMessagesAcrossConnections(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		r := start(t, Options{IO: io, SysInterval: -1})
		const n = 1000
		p := r.client("p")
		p.retain("q/", n)
		c := durable("s")
		c.ReceiveMax = 1
		s, _ := r.connect(c)
		s.subscribe("q/#", 1)
		got := map[string]bool{}
		for range 3 {
			s.leave(r)
			s, _ = r.connect(c)
			m := expect[*packet.Publish](s)
			got[string(m.Topic())] = true
			s.send(&packet.Ack{Kind: packet.PUBACK, ID: m.ID})
		}
		for {
			eventually(t, "quiet", r.quiet)
			s.send(&packet.Pingreq{})
			m, ok := s.next().(*packet.Publish)
			if !ok {
				break
			}
			for ok {
				got[string(m.Topic())] = true
				s.send(&packet.Ack{Kind: packet.PUBACK, ID: m.ID})
				m, ok = s.next().(*packet.Publish)
			}
		}
		if len(got) != n || len(r.Stats().Dropped) != 0 {
			t.Errorf("%d of %d retained messages, dropped %v", len(got), n, r.Stats().Dropped)
		}
		s.subscribe("q/#", 1)
		s.leave(r)
		s, _ = r.connect(c)
		s.send(&packet.Unsubscribe{ID: 2, Filters: []string{"q/#"}})
		for x := s.next(); x.Type() != packet.UNSUBACK; x = s.next() {
			if m, ok := x.(*packet.Publish); ok {
				s.send(&packet.Ack{Kind: packet.PUBACK, ID: m.ID})
			}
		}
		if rest := s.payloads(r); len(rest) > retainedAhead {
			t.Errorf("%d messages after the UNSUBACK; %d may have been in the queue", len(rest), retainedAhead)
		}
	})
}

// A client may ask for the same retained messages many times before it
// acknowledges the first: it is answered, and gets them all in the end.
func TestSubscribeAgainAndAgainBehindAClosedWindow(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		r := start(t, Options{IO: io, SysInterval: -1})
		p := r.client("p")
		p.retain("", 2)
		s, _ := r.connect(packet.Connect{ClientID: "s", CleanStart: true, ReceiveMax: 1})
		const n = 3000
		one := (&packet.Subscribe{ID: 1, Filters: []packet.Subscription{{Filter: "#", Options: 1}}}).Append(nil, packet.V5)
		s.raw([]byte(strings.Repeat(string(one), n)))
		got := map[string]bool{}
		for subs := 0; subs < n || len(got) < 2; {
			switch x := s.next().(type) {
			case *packet.Suback:
				subs++
			case *packet.Publish:
				got[string(x.Topic())] = true
				s.send(&packet.Ack{Kind: packet.PUBACK, ID: x.ID})
			}
		}
		s.payloads(r)
		s.quiet()
	})
}

// Retained messages that have expired are removed, those of $ topics included.
func TestExpiredRetainedMessagesAreRemoved(t *testing.T) {
	r := start(t, Options{SysInterval: -1})
	r.stopped.Store(time.Now().UnixNano())
	for i, name := range []string{"a/b", "$other/a", "$SYSTEM/a"} {
		m := Message{Topic: name, Payload: []byte("v"), Retain: true, HasExpiry: true, Expiry: uint32(10 + i)}
		if err := r.Publish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Publish(t.Context(), Message{Topic: "stays", Payload: []byte("v"), Retain: true}); err != nil {
		t.Fatal(err)
	}
	r.stopped.Add(20e9)
	r.expireRetained(context.Background())
	if n := r.Stats().Retained; n != 1 {
		t.Errorf("%d retained, want 1", n)
	}
}

// Programs are told what is left of the expiry interval, and find $SYS.
func TestRetainedMessagesInProcess(t *testing.T) {
	r := start(t, Options{SysInterval: time.Hour, Version: "test"})
	r.stopped.Store(time.Now().UnixNano())
	if err := r.Publish(t.Context(), Message{Topic: "a", Payload: []byte("v"), Retain: true, HasExpiry: true, Expiry: 100}); err != nil {
		t.Fatal(err)
	}
	r.stopped.Add(40e9)
	for filter, want := range map[string]string{"a": "v 60", "$SYS/broker/version": "test 0"} {
		eventually(t, "$SYS", func() bool { return r.sys.Len() > 0 })
		got := make(chan string, 1)
		s, err := r.Subscribe(filter, SubscribeOptions{}, func(m *Message) { got <- fmt.Sprintf("%s %d", m.Payload, m.Expiry) })
		if err != nil {
			t.Fatal(err)
		}
		if x := <-got; x != want {
			t.Errorf("%s: got %q, want %q", filter, x, want)
		}
		s.Close()
	}
	if _, err := r.Subscribe("a", SubscribeOptions{Queue: -1}, func(*Message) {}); err == nil {
		t.Error("a queue of -1 messages was taken")
	}
}

// $SYS reaches durable sessions, where QoS 0 messages are queued, too.
func TestSysReachesDurableSessions(t *testing.T) {
	for _, queued := range []bool{false, true} {
		r := start(t, Options{SysInterval: time.Hour, Queue: QueueOptions{QoS0: queued}})
		s, _ := r.connect(durable("s"))
		s.subscribe("$SYS/broker/test", 0)
		tt := r.borrow()
		tt.setSys("$SYS/broker/test", "1")
		r.give(tt)
		if m := expect[*packet.Publish](s); string(m.Payload()) != "1" {
			t.Errorf("got %v", m)
		}
	}
}
