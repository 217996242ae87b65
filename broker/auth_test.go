package broker

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// authFunc is an Authenticator that answers from another goroutine.
type authFunc func(r *AuthRequest) AuthAnswer

func (f authFunc) Auth(r *AuthRequest, done func(AuthAnswer)) { go func() { done(f(r)) }() }

func passwords(r *AuthRequest) AuthAnswer {
	if r.Client.Username == "ada" && string(r.Password) == "secret" {
		return AuthAnswer{Username: "Ada"}
	}
	return AuthAnswer{Code: packet.BadUserNameOrPassword, Reason: "no such user"}
}

func TestAuthenticatorIsAskedAsynchronously(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		var who atomic.Pointer[Client]
		r := start(t, Options{IO: io, SysInterval: -1, Authenticator: authFunc(passwords),
			Events: Events{Connected: func(c *Client, _ bool) { who.Store(c) }}})
		s := r.dial(packet.V5)
		// Everything is pipelined behind the CONNECT, and waits for the answer.
		s.send(&packet.Connect{Version: packet.V5, ClientID: "a", CleanStart: true, HasUsername: true, Username: "ada", HasPassword: true, Password: []byte("secret")},
			&packet.Subscribe{ID: 1, Filters: []packet.Subscription{{Filter: "t"}}}, message("t", "hello", 0, 0))
		expect[*packet.Connack](s)
		expect[*packet.Suback](s)
		if m := expect[*packet.Publish](s); string(m.Payload()) != "hello" {
			t.Errorf("got %v", m)
		}
		if c := who.Load(); c == nil || c.Username != "Ada" || c.ID != "a" || c.Version != packet.V5 || !strings.HasPrefix(c.Address, "127.0.0.1:") {
			t.Errorf("client is %+v", c)
		}
		// Behind a refused one nothing is processed [MQTT-3.1.4-6].
		for _, v := range []packet.Version{packet.V31, packet.V311, packet.V5} {
			p := r.dial(v)
			p.send(&packet.Connect{Version: v, ClientID: "b", CleanStart: true, HasUsername: true, Username: "eve"}, message("t", "evil", 0, 0))
			a := expect[*packet.Connack](p)
			if a.Code != packet.BadUserNameOrPassword {
				t.Errorf("%v: got %v", v, a)
			}
			p.closed()
		}
		s.quiet()
		if got := strings.Count(r.logs.String(), "connection refused"); got != 3 {
			t.Errorf("%d lines of refused connections, want 3:\n%s", got, r.logs)
		}
		if n := r.Stats().Refused; n != 3 {
			t.Errorf("%d refused, want 3", n)
		}
	})
}

// challenge is an enhanced authentication of two steps.
type challenge struct{ steps atomic.Int32 }

func (x *challenge) Auth(r *AuthRequest, done func(AuthAnswer)) {
	answer := func() AuthAnswer {
		switch {
		case r.Method != "TEST":
			return AuthAnswer{Code: packet.BadAuthenticationMethod}
		case string(r.Data) == "hello":
			x.steps.Add(1)
			return AuthAnswer{Code: packet.ContinueAuthentication, Data: []byte("what?"), State: 42}
		case string(r.Data) == "this" && r.State == 42:
			return AuthAnswer{Data: []byte("welcome"), Username: "ada"}
		}
		return AuthAnswer{Code: packet.NotAuthorized}
	}
	if x.steps.Load()%2 == 0 {
		done(answer()) // at once
		return
	}
	go func() { done(answer()) }() // later
}

func TestEnhancedAuthentication(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		r := start(t, Options{IO: io, SysInterval: -1, Authenticator: new(challenge)})
		connect := func(method, data string) *peer {
			p := r.dial(packet.V5)
			p.send(&packet.Connect{Version: packet.V5, ClientID: "a", CleanStart: true, HasAuthMethod: true, AuthMethod: method, AuthData: []byte(data), RequestProblemInfo: true})
			return p
		}
		step := func(p *peer, code packet.Reason, data string) {
			p.send(&packet.Auth{Code: code, Method: "TEST", Data: []byte(data)})
		}
		p := connect("TEST", "hello")
		if a := expect[*packet.Auth](p); a.Code != packet.ContinueAuthentication || a.Method != "TEST" || string(a.Data) != "what?" {
			t.Fatalf("got %v", a)
		}
		step(p, packet.ContinueAuthentication, "this")
		if a := expect[*packet.Connack](p); a.Code != packet.Success || a.AuthMethod != "TEST" || string(a.AuthData) != "welcome" {
			t.Fatalf("got %v", a)
		}
		p.quiet()
		// Again, on the connection that stands [MQTT-4.12.1-1].
		step(p, packet.Reauthenticate, "hello")
		expect[*packet.Auth](p)
		p.quiet()
		step(p, packet.ContinueAuthentication, "this")
		if a := expect[*packet.Auth](p); a.Code != packet.Success {
			t.Fatalf("got %v", a)
		}
		p.quiet()
		step(p, packet.Reauthenticate, "wrong")
		if d := expect[*packet.Disconnect](p); d.Code != packet.NotAuthorized {
			t.Errorf("got %v", d)
		}
		p.closed()

		p = connect("OTHER", "")
		if a := expect[*packet.Connack](p); a.Code != packet.BadAuthenticationMethod {
			t.Errorf("got %v", a)
		}
		p.closed()

		p = connect("TEST", "hello")
		expect[*packet.Auth](p)
		step(p, packet.ContinueAuthentication, "that")
		if a := expect[*packet.Connack](p); a.Code != packet.NotAuthorized {
			t.Errorf("got %v", a)
		}
		p.closed()

		p = connect("TEST", "hello") // [MQTT-3.1.2-30]
		expect[*packet.Auth](p)
		p.send(message("t", "early", 0, 0))
		if a := expect[*packet.Connack](p); a.Code != packet.ProtocolError {
			t.Errorf("got %v", a)
		}
		p.closed()
	})
}

// rules is an Authorizer.
type rules struct {
	mu    sync.Mutex
	epoch atomic.Uint32
	deny  map[string]bool
	late  map[string]bool // answered later, the first time
	asked atomic.Int32
}

func (r *rules) Epoch() uint32 { return r.epoch.Load() }

func (r *rules) Access(q *AccessRequest, done func()) Decision {
	r.asked.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.late[q.Topic] {
		delete(r.late, q.Topic)
		time.AfterFunc(time.Millisecond, done)
		return Later
	}
	if r.deny[q.Topic] {
		return Deny
	}
	return Allow
}

func TestAuthorizer(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		a := &rules{deny: map[string]bool{"no": true}, late: map[string]bool{"late": true, "late/#": true}}
		r := start(t, Options{IO: io, SysInterval: -1, Authorizer: a})
		s, p := r.client("s"), r.client("p")
		s.send(&packet.Subscribe{ID: 9, Filters: []packet.Subscription{{Filter: "late/#"}, {Filter: "no"}, {Filter: "#", Options: 2}}})
		if x := expect[*packet.Suback](s); x.Codes[0] != 0 || x.Codes[1] != packet.NotAuthorized || x.Codes[2] != packet.GrantedQoS2 {
			t.Fatalf("got %v", x)
		}
		for i := range 3 {
			p.send(message("no", "x", packet.QoS(i), 1))
		}
		p.send(message("late", "y", 1, 2), message("late", "z", 1, 3))
		for _, want := range []struct {
			id   uint16
			code packet.Reason
		}{{1, packet.NotAuthorized}, {1, packet.NotAuthorized}, {2, packet.Success}, {3, packet.Success}} {
			if x := expect[*packet.Ack](p); x.ID != want.id || x.Code != want.code {
				t.Errorf("got %v, want %v", x, want)
			}
		}
		for _, want := range []string{"y", "z"} {
			if x := expect[*packet.Publish](s); string(x.Payload()) != want {
				t.Errorf("got %v, want %s", x, want)
			}
		}
		// 3.x publishers are acknowledged, and the message goes nowhere.
		old, _ := r.connect(packet.Connect{Version: packet.V311, ClientID: "old", CleanStart: true})
		old.raw(packet.AppendPublish(nil, message("no", "x", 1, 5), packet.V311, packet.PublishOpts{QoS: 1, ID: 5}))
		if x := expect[*packet.Ack](old); x.ID != 5 {
			t.Errorf("got %v", x)
		}
		if n := r.Stats().Dropped["denied"]; n != 4 {
			t.Errorf("%d denied, want 4", n)
		}
		// An allowed topic is remembered until the rules change.
		for range 3 {
			p.send(message("again", "", 0, 0))
			p.quiet()
		}
		before := a.asked.Load()
		for range 5 {
			p.send(message("again", "", 0, 0))
		}
		p.quiet()
		if n := a.asked.Load() - before; n != 0 {
			t.Errorf("asked %d times for a topic that is allowed", n)
		}
		a.mu.Lock()
		a.deny["again"] = true
		a.mu.Unlock()
		a.epoch.Add(1)
		p.send(message("again", "", 1, 7))
		if x := expect[*packet.Ack](p); x.Code != packet.NotAuthorized {
			t.Errorf("after the change: %v", x)
		}
	})
}
