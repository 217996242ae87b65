package broker

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/myelin-mqtt/myelin/packet"
)

// Many connections fight over one client identifier while messages are
// published to its session: every connection gets its CONNACK, every displaced
// one exactly one DISCONNECT 0x8E, the session is never lost, and no message.
func TestTakeoverStorm(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		r := start(t, Options{IO: io, SysInterval: -1})
		const fighters, rounds = 8, 20
		first, _ := r.connect(packet.Connect{ClientID: "x", SessionExpiry: 100})
		first.subscribe("t", 1)
		var seen sync.Map // payloads delivered to anybody
		var displaced, connected atomic.Int64
		use := func(p *peer) {
			for {
				x, err := p.read()
				if err != nil {
					return
				}
				switch x := x.(type) {
				case *packet.Publish:
					seen.Store(string(x.Payload()), true)
					p.c.Write((&packet.Ack{Kind: packet.PUBACK, ID: x.ID}).Append(nil, p.v))
				case *packet.Disconnect:
					if x.Code != packet.SessionTakenOver {
						t.Errorf("got %v", x)
					}
					displaced.Add(1)
				}
			}
		}
		var users sync.WaitGroup
		users.Go(func() { use(first) })
		connected.Add(1)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		const messages = 500
		pubs := r.client("pub")
		wg.Go(func() {
			for i := range messages {
				pubs.send(message("t", fmt.Sprint(i), 1, uint16(i%1000+1)))
				if a := expect[*packet.Ack](pubs); a.Code.Failed() {
					t.Errorf("PUBACK %v", a)
				}
			}
			close(stop)
		})
		for range fighters {
			wg.Go(func() {
				for range rounds {
					p := r.dial(packet.V5)
					p.send(&packet.Connect{Version: packet.V5, ClientID: "x", SessionExpiry: 100})
					x, err := p.read()
					if a, ok := x.(*packet.Connack); err != nil || !ok || a.Code != packet.Success {
						t.Errorf("got %v, %v; want a CONNACK", x, err)
						return
					} else if !a.SessionPresent {
						t.Error("session lost")
					}
					connected.Add(1)
					users.Go(func() { use(p) })
				}
			})
		}
		wg.Wait()
		last, a := r.connect(packet.Connect{ClientID: "x", SessionExpiry: 100})
		if !a.SessionPresent {
			t.Error("session lost at the end")
		}
		users.Wait() // all displaced
		for n := 0; ; n++ {
			last.send(&packet.Pingreq{})
			x := last.next()
			if x.Type() == packet.PINGRESP {
				break
			}
			if p, ok := x.(*packet.Publish); ok {
				seen.Store(string(p.Payload()), true)
				last.send(&packet.Ack{Kind: packet.PUBACK, ID: p.ID})
			}
		}
		if got, want := displaced.Load(), connected.Load(); got != want {
			t.Errorf("%d DISCONNECT 0x8E, want %d", got, want)
		}
		for i := range messages {
			if _, ok := seen.Load(fmt.Sprint(i)); !ok {
				t.Errorf("message %d was delivered to nobody", i)
			}
		}
	})
}

// A connection that waits for a session and leaves gets out of the way.
func TestWaitingConnectionLeaves(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		r := start(t, Options{IO: io, SysInterval: -1})
		for range 200 {
			p := r.dial(packet.V5)
			p.send(&packet.Connect{Version: packet.V5, ClientID: "x", SessionExpiry: 5})
			p.c.Close()
		}
		eventually(t, "everybody gone", func() bool { n := r.net.Stats(); return n.Accepted == 200 && n.Sockets == 0 })
		p, _ := r.connect(packet.Connect{ClientID: "x", SessionExpiry: 5})
		p.quiet()
		eventually(t, "one connection", func() bool { return r.Stats().Connected == 1 })
		if n, owned := r.registry.count(); n != 1 || owned != 1 {
			t.Errorf("%d sessions, %d owned; want 1, 1", n, owned)
		}
	})
}
