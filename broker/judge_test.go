package broker

import (
	"testing"

	"github.com/myelin-mqtt/myelin/packet"
)

// Subscriptions are judged again when the rules change, and what they brought is
// not delivered.
func TestRejudge(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		a := &rules{deny: map[string]bool{}}
		r := start(t, Options{IO: io, SysInterval: -1, Authorizer: a})
		s, _ := r.connect(durable("s"))
		s.subscribe("a/#", 1)
		s.subscribe("b", 1)
		away, _ := r.connect(durable("away"))
		away.subscribe("a/#", 1)
		away.subscribe("b", 1)
		away.send(&packet.Disconnect{})
		away.closed()
		p := r.client("p")
		p.publish(packet.Message{Topic: "a/1"})
		expect[*packet.Publish](s)
		p.publish(packet.Message{Topic: "b"})
		expect[*packet.Publish](s)

		a.mu.Lock()
		a.deny["a/#"] = true
		a.mu.Unlock()
		a.epoch.Add(1)
		r.Rejudge()
		eventually(t, "the subscription to be revoked", func() bool { return r.Stats().Revoked == 1 })
		p.publish(packet.Message{Topic: "a/2"})
		p.publish(packet.Message{Topic: "b"})
		if m := expect[*packet.Publish](s); string(m.Topic()) != "b" {
			t.Errorf("got %v", m)
		}
		s.quiet()

		// Who was away is judged on its return, and so is what waited for it.
		back, ack := r.connect(durable("away"))
		if !ack.SessionPresent {
			t.Fatal("no session")
		}
		for range 2 {
			if m := expect[*packet.Publish](back); string(m.Topic()) != "b" {
				t.Errorf("got %v", m)
			}
		}
		back.quiet()
		if x := r.Stats(); x.Revoked != 2 || x.Dropped[DropDenied.String()] != 2 {
			t.Errorf("revoked %d, dropped %v", x.Revoked, x.Dropped)
		}
	})
}

// A subscription is granted what the Authorizer lowers it to, and gets no more.
func TestAuthorizerLowersQoS(t *testing.T) {
	low := func(q *AccessRequest, _ func()) Decision {
		if q.Action == Subscribe {
			q.QoS = 0
		}
		return Allow
	}
	r := start(t, Options{SysInterval: -1, Authorizer: accessFunc(low)})
	s, p := r.client("s"), r.client("p")
	s.send(&packet.Subscribe{ID: 1, Filters: []packet.Subscription{{Filter: "a", Options: 2}}})
	if x := expect[*packet.Suback](s); x.Codes[0] != packet.GrantedQoS0 {
		t.Fatalf("got %v", x)
	}
	p.publish(packet.Message{Topic: "a"})
	if m := expect[*packet.Publish](s); m.QoS() != 0 {
		t.Errorf("got %v", m)
	}
}
