package broker

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/myelin-mqtt/myelin/packet"
)

// noPublishing lets nobody publish below secret.
func noPublishing(r *AccessRequest, _ func()) Decision {
	if r.Action == Publish && strings.HasPrefix(r.Topic, "secret/") {
		return Deny
	}
	return Allow
}

// A will obeys the access rules, and is no way around them.
func TestWillsObeyTheAccessRules(t *testing.T) {
	for _, v := range []packet.Version{packet.V311, packet.V5} {
		r := start(t, Options{SysInterval: -1, Authorizer: accessFunc(noPublishing)})
		s := r.client("s")
		s.subscribe("$SYS/#", 0)
		s.subscribe("#", 0)
		for _, name := range []string{"$SYS/broker/version", "secret/door"} {
			p := r.dial(v)
			p.send(&packet.Connect{Version: v, ClientID: "p", CleanStart: true, Will: &packet.Will{Message: packet.Message{Topic: name, Payload: []byte("x"), Retain: true}}})
			if a := expect[*packet.Connack](p); a.Code != packet.NotAuthorized {
				t.Errorf("will to %s: %v", name, a)
			}
			p.closed()
		}
		p, _ := r.connect(packet.Connect{Version: v, ClientID: "p", CleanStart: true, Will: &packet.Will{Message: packet.Message{Topic: "open/door", Payload: []byte("x")}}})
		p.c.Close()
		if m := expect[*packet.Publish](s); string(m.Topic()) != "open/door" {
			t.Errorf("got %v", m)
		}
		if n := r.Stats().Retained; n != 0 {
			t.Errorf("%d retained", n)
		}
	}
}

// byName takes the data of the authentication as the name of the user.
type byName struct{}

func (byName) Auth(r *AuthRequest, done func(AuthAnswer)) { done(AuthAnswer{Username: string(r.Data)}) }

// What one user was allowed is not allowed to the next on the same connection.
func TestReauthenticationForgetsWhatWasAllowed(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		only := func(r *AccessRequest, _ func()) Decision {
			if r.Client.Username == "admin" {
				return Allow
			}
			return Deny
		}
		r := start(t, Options{IO: io, SysInterval: -1, Authenticator: byName{}, Authorizer: accessFunc(only)})
		p, _ := r.connect(packet.Connect{ClientID: "p", CleanStart: true, HasAuthMethod: true, AuthMethod: "m", AuthData: []byte("admin")})
		for range 3 { // its route is remembered
			if code := p.publish(packet.Message{Topic: "a"}); code.Failed() {
				t.Fatalf("got %v", code)
			}
		}
		p.send(&packet.Auth{Code: packet.Reauthenticate, Method: "m", Data: []byte("guest")})
		expect[*packet.Auth](p)
		if code := p.publish(packet.Message{Topic: "a"}); code != packet.NotAuthorized {
			t.Errorf("got %v", code)
		}
	})
}

// What was allowed for one QoS is asked again for a higher one, and for RETAIN.
func TestAllowedIsRememberedForItsQoS(t *testing.T) {
	low := func(r *AccessRequest, _ func()) Decision {
		if r.Action == Publish && (r.QoS > 0 || r.Retain) {
			return Deny
		}
		return Allow
	}
	r := start(t, Options{SysInterval: -1, Authorizer: accessFunc(low)})
	p := r.client("p")
	for range 3 {
		p.send(message("a", "x", 0, 0))
	}
	if code := p.publish(packet.Message{Topic: "a"}); code != packet.NotAuthorized {
		t.Errorf("QoS 1: %v", code)
	}
	p.send(pub(packet.Message{Topic: "a", Payload: []byte("x"), Retain: true}, 0))
	p.quiet()
	if s := r.Stats(); s.Retained != 0 || s.Dropped[DropDenied.String()] != 2 {
		t.Errorf("%d retained, dropped %v", s.Retained, s.Dropped)
	}
}

// An answer that comes later is waited for: what else happens on the
// connection is no reason to ask again.
func TestAccessRulesAreAskedOnce(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		var asked, answered atomic.Int32
		done := make(chan func(), 100)
		later := func(r *AccessRequest, f func()) Decision {
			if r.Topic != "slow" || answered.Load() > 0 {
				return Allow
			}
			asked.Add(1)
			done <- f
			return Later
		}
		r := start(t, Options{IO: io, SysInterval: -1, Authorizer: accessFunc(later)})
		s, _ := r.connect(durable("s"))
		s.subscribe("in", 1)
		s.send(message("slow", "x", 1, 9))
		f := <-done
		p := r.client("p")
		for range 20 {
			p.publish(packet.Message{Topic: "in"})
			expect[*packet.Publish](s)
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
		answered.Add(1)
		f()
		if a := expect[*packet.Ack](s); a.ID != 9 {
			t.Errorf("got %v", a)
		}
	})
}

// Options of a file do not take away what the program gave to New.
func TestReloadKeepsTheAccessRules(t *testing.T) {
	r := start(t, Options{SysInterval: -1, Authorizer: accessFunc(noPublishing)})
	if _, _, err := r.Reload(Options{SysInterval: -1}); err != nil {
		t.Fatal(err)
	}
	p := r.client("p")
	if code := p.publish(packet.Message{Topic: "secret/door"}); code != packet.NotAuthorized {
		t.Errorf("got %v", code)
	}
}

// A connection keeps what its CONNACK promised.
func TestReloadKeepsPromises(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		r := start(t, Options{IO: io, SysInterval: -1})
		p := r.client("p")
		if _, _, err := r.Reload(Options{SysInterval: -1, ReceiveMaximum: 1, MaxPacketSize: 100, TopicAliasMaximum: -1}); err != nil {
			t.Fatal(err)
		}
		x := packet.AppendPublish(nil, message("a", strings.Repeat("x", 200), 2, 2), packet.V5, packet.PublishOpts{QoS: 2, ID: 2, Alias: 64})
		p.send(message("a", "1", 2, 1))
		p.raw(x)
		for range 2 {
			if a := expect[*packet.Ack](p); a.Code.Failed() {
				t.Errorf("got %v", a)
			}
		}
		q, a := r.connect(packet.Connect{ClientID: "q", CleanStart: true})
		if *a.ReceiveMax != 1 || *a.MaxPacket != 100 || *a.AliasMax != 0 {
			t.Errorf("got %v", a)
		}
		q.send(message("a", "1", 2, 1), message("a", "2", 2, 2))
		expect[*packet.Ack](q)
		if d := expect[*packet.Disconnect](q); d.Code != packet.ReceiveMaximumExceeded {
			t.Errorf("got %v", d)
		}
	})
}

// The limit of subscriptions counts each filter of a packet once, and takes
// none past the access rules.
func TestLimitOfSubscriptions(t *testing.T) {
	rules := func(r *AccessRequest, _ func()) Decision {
		if r.QoS == 2 {
			return Deny
		}
		return Allow
	}
	for _, v := range []packet.Version{packet.V311, packet.V5} {
		r := start(t, Options{SysInterval: -1, MaxSubscriptions: 2, Authorizer: accessFunc(rules)})
		p, _ := r.connect(packet.Connect{Version: v, ClientID: "s", CleanStart: true})
		sub := &packet.Subscribe{ID: 1}
		for i, f := range []string{"a", "b", "c", "a", "a"} {
			sub.Filters = append(sub.Filters, packet.Subscription{Filter: f, Options: packet.SubOptions(max(1, i-2))})
		}
		p.send(sub)
		want := []packet.Reason{1, 1, packet.QuotaExceeded, 1, packet.NotAuthorized}
		if v < packet.V5 {
			want[2], want[4] = 0x80, 0x80
		}
		if a := expect[*packet.Suback](p); !slices.Equal(a.Codes, want) {
			t.Errorf("%v: got %v, want %v", v, a.Codes, want)
		}
		p.quiet()
		if n := r.Stats().Subscriptions; n != 2 {
			t.Errorf("%d subscriptions", n)
		}
	}
}
