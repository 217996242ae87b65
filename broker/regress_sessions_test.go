package broker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/store/storetest"
	"github.com/myelin-mqtt/myelin/packet"
)

// The expirer takes an entry out, and before it gets hold of the session its
// client comes and goes.
func TestExpirerIsLateForASession(t *testing.T) {
	r := start(t, Options{SysInterval: -1})
	p, _ := r.connect(packet.Connect{ClientID: "x", SessionExpiry: neverExpires})
	p.subscribe("a", 1)
	p.leave(r)
	r.expire(r.registry.lookup("x"))
	if _, a := r.connect(durable("x")); !a.SessionPresent {
		t.Error("the session is gone")
	}
}

// Entries of the expirer that are void do not pile up, nor keep sessions alive.
func TestVoidDeadlinesAreRemoved(t *testing.T) {
	r := start(t, Options{SysInterval: -1})
	r.away("first", "a")
	for i := range 5000 {
		s := newSession("again")
		s.expiry = 365 * 86400
		r.rest(s, r.clock())
		s.expiry = uint32(60 + i%100)
		r.rest(s, r.clock())
		r.expirer.cancel(s)
	}
	r.expirer.mu.Lock()
	defer r.expirer.mu.Unlock()
	if n := len(r.expirer.due) + len(r.expirer.of); n > 2 {
		t.Errorf("%d entries for one session", n)
	}
}

// A client whose Maximum Packet Size the CONNACK exceeds is refused before
// anything is kept for it, and a session that it has stays as it was.
func TestConnackThatExceedsTheMaximum(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, io string) {
		var events int
		r := start(t, Options{IO: io, SysInterval: -1, Events: Events{Refused: func(string, packet.Reason, error) { events++ }}})
		for i := range 10 {
			p := r.dial(packet.V5)
			p.send(&packet.Connect{Version: packet.V5, ClientID: fmt.Sprint(i), SessionExpiry: 1, MaxPacket: 5})
			if a := expect[*packet.Connack](p); a.Code != packet.PacketTooLarge {
				t.Errorf("got %v", a)
			}
			p.closed()
			p.c.Close()
		}
		if s := r.Stats(); s.Sessions != 0 || r.store.Stats().Sessions != 0 || s.Refused != 10 {
			t.Errorf("%d sessions, %d stored, %d refused", s.Sessions, r.store.Stats().Sessions, s.Refused)
		}
		r.away("old", "z/#")
		p := r.dial(packet.V5)
		p.send(&packet.Connect{Version: packet.V5, ClientID: "old", SessionExpiry: 100, MaxPacket: 5})
		expect[*packet.Connack](p)
		p.closed()
		p.c.Close()
		p, a := r.connect(durable("old"))
		p.send(&packet.Unsubscribe{ID: 3, Filters: []string{"z/#"}})
		if u := expect[*packet.Unsuback](p); !a.SessionPresent || u.Codes[0] != packet.Success || r.Stats().Subscriptions != 0 {
			t.Errorf("present %v, %v, %d subscriptions", a.SessionPresent, u, r.Stats().Subscriptions)
		}
		p.leave(r)
		r.stop()
		if events != 11 {
			t.Errorf("%d events, want 11", events)
		}
	})
}

// No answer goes out that exceeds the client's Maximum Packet Size, however
// small that is [MQTT-3.1.2-24].
func TestRefusalThatExceedsTheMaximum(t *testing.T) {
	r := start(t, Options{SysInterval: -1})
	p := r.dial(packet.V5)
	p.send(&packet.Connect{Version: packet.V5, ClientID: "x", MaxPacket: 4})
	p.closed()
}

// A connection ends while the store looks for its session: the answer that
// comes later finds nobody, and leaves nothing behind.
func TestConnectionEndsDuringClaim(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, io string) {
		var late *storetest.Engine
		r := start(t, Options{IO: io, SysInterval: -1, ConnectTimeout: 100 * time.Millisecond, Queue: QueueOptions{MaxMessages: 1, Policy: Refuse},
			wrapStore: func(e store.Engine) store.Engine { late = storetest.Async(e, 1); return late }})
		r.stopped.Store(time.Now().UnixNano())
		r.away("old", "t")
		late.Pause()
		for i, id := range []string{"new", "old"} {
			p := r.dial(packet.V5)
			p.send(&packet.Connect{Version: packet.V5, ClientID: id, SessionExpiry: 50, RequestProblemInfo: true,
				Will: &packet.Will{Message: packet.Message{Topic: "will"}}})
			if a := expect[*packet.Connack](p); a.Code != packet.ServerUnavailable {
				t.Errorf("got %v", a)
			}
			p.closed()
			if n := r.Stats().Refused; n != uint64(i+1) {
				t.Errorf("%d refused, want %d", n, i+1)
			}
		}
		late.Continue()
		eventually(t, "one session left", func() bool {
			s, owned := r.registry.count()
			return s == 1 && owned == 0 && r.store.Stats().Sessions == 1
		})
		// The store knows that the client is away, and its time runs.
		p := r.client("p")
		for i, want := range []packet.Reason{packet.Success, packet.QuotaExceeded} {
			if code := p.publish(packet.Message{Topic: "t"}); code != want {
				t.Errorf("message %d: %v, want %v", i, code, want)
			}
		}
		r.stopped.Add(101e9)
		s, _ := r.expirer.next(r.clock())
		if s == nil {
			t.Fatal("nothing is due")
		}
		r.expire(s)
		if n := r.Stats().Sessions; n != 1 {
			t.Errorf("%d sessions, want that of p", n)
		}
	})
}

// A claim that fails leaves the session to its time, and the will of the
// connection that was refused is not published.
func TestClaimFails(t *testing.T) {
	var fail atomic.Bool
	r := start(t, Options{SysInterval: -1, wrapStore: func(e store.Engine) store.Engine { return &noClaims{e, &fail} }})
	r.stopped.Store(time.Now().UnixNano())
	w := r.client("w")
	w.subscribe("will", 0)
	r.away("old", "t")
	fail.Store(true)
	p := r.dial(packet.V5)
	p.send(&packet.Connect{Version: packet.V5, ClientID: "old", SessionExpiry: 100, Will: &packet.Will{Message: packet.Message{Topic: "will"}}})
	if a := expect[*packet.Connack](p); a.Code != packet.ServerUnavailable {
		t.Errorf("got %v", a)
	}
	p.closed()
	w.quiet()
	r.stopped.Add(101e9)
	if s, _ := r.expirer.next(r.clock()); s == nil || s.id != "old" {
		t.Error("the session does not expire")
	} else {
		r.expire(s)
	}
	w.quiet()
}

type noClaims struct {
	store.Engine
	fail *atomic.Bool
}

func (n *noClaims) Claim(r store.ClaimReq, s store.Sink) {
	if n.fail.Load() {
		s.Claimed(nil, nil, errDisk)
		return
	}
	n.Engine.Claim(r, s)
}

// What is waited for when the connect timeout comes is what the client and the
// log are told.
func TestConnectTimeoutTellsWhy(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, io string) {
		var why error
		r := start(t, Options{IO: io, SysInterval: -1, ConnectTimeout: 50 * time.Millisecond, Authenticator: silentAuth{},
			Events: Events{Refused: func(_ string, _ packet.Reason, err error) { why = err }}})
		p := r.dial(packet.V5)
		p.send(&packet.Connect{Version: packet.V5, ClientID: "x", RequestProblemInfo: true})
		if a := expect[*packet.Connack](p); a.Code != packet.ServerUnavailable || a.ReasonString != "not authenticated in time" {
			t.Errorf("got %v", a)
		}
		p.closed()
		p.c.Close()
		r.stop()
		var o *over
		if !errors.As(why, &o) || o.code != packet.ServerUnavailable {
			t.Errorf("event: %v", why)
		}
	})
}

type silentAuth struct{}

func (silentAuth) Auth(*AuthRequest, func(AuthAnswer)) {}

// A broker is served once, and one that was closed never.
func TestServeAfterClose(t *testing.T) {
	for _, served := range []bool{false, true} {
		closes := 0
		o := Options{SysInterval: -1, NoListeners: true, wrapStore: func(e store.Engine) store.Engine { return &closing{e, &closes} }}
		if served {
			r := start(t, o)
			eventually(t, "served", r.served.Load)
			if err := r.Serve(t.Context()); err == nil || errors.Is(err, ErrClosed) {
				t.Errorf("second Serve: %v", err)
			}
			r.stop()
			if err := r.Serve(t.Context()); !errors.Is(err, ErrClosed) {
				t.Errorf("Serve after the end: %v", err)
			}
		} else {
			b, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			b.Close()
			b.Close()
			if err := b.Serve(t.Context()); !errors.Is(err, ErrClosed) {
				t.Errorf("Serve after Close: %v", err)
			}
		}
		if closes != 1 {
			t.Errorf("the store was closed %d times", closes)
		}
	}
}

// The wills of the clients that are told to go reach the program.
func TestWillsOfTheEndReachTheProgram(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, io string) {
		r := start(t, Options{IO: io, SysInterval: -1})
		got := make(chan *Message, 1)
		if _, err := r.Subscribe("will", SubscribeOptions{}, func(m *Message) { got <- m }); err != nil {
			t.Fatal(err)
		}
		p, _ := r.connect(packet.Connect{ClientID: "p", CleanStart: true, Will: &packet.Will{Message: packet.Message{Topic: "will", Payload: []byte("w")}}})
		go func() { // as a client does
			p.read()
			p.c.Close()
		}()
		r.stop()
		select {
		case m := <-got:
			if string(m.Payload) != "w" {
				t.Errorf("got %v", m)
			}
		case <-time.After(patience):
			t.Error("no will")
		}
	})
}

// closing counts how often a store is closed, and whether it was given time.
type closing struct {
	store.Engine
	n *int
}

func (c *closing) Close(ctx context.Context) error {
	*c.n++
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.Engine.Close(ctx)
}

// A connection that is given up when the store has given it a session, and before
// it was told so, leaves no session behind.
func TestTimeoutBetweenClaimAndConnack(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		r, x := startScripted(t, Options{IO: io, ConnectTimeout: 50 * time.Millisecond})
		r.away("x", "t")
		x.keep("end")
		p := r.dial(packet.V5)
		p.send(&packet.Connect{Version: packet.V5, ClientID: "x", CleanStart: true, SessionExpiry: 1000})
		end := x.await(t, "end")[0]
		if a := expect[*packet.Connack](p); !a.Code.Failed() {
			t.Fatalf("CONNACK %v before the session is off the disk", a.Code)
		}
		eventually(t, "let go", func() bool { return r.registry.lookup("x") == nil })
		if n := r.store.Stats().Sessions; n != 0 {
			t.Errorf("%d sessions are stored that nobody was told of", n)
		}
		x.keep()
		end(nil)
		if _, a := r.connect(durable("x")); a.SessionPresent {
			t.Error("a session is there that nobody was told of")
		}
	})
}
