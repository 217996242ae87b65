package broker

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
)

// A full queue refuses the publisher where the policy says so: MQTT 5 is told
// 0x97, 3.x gets no acknowledgement and is closed.
func TestQueueRefusesThePublisher(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		r := start(t, Options{IO: io, SysInterval: -1, Queue: QueueOptions{MaxMessages: 2, Policy: Refuse}})
		s, _ := r.connect(packet.Connect{ClientID: "s", SessionExpiry: 100})
		s.subscribe("t", 2)
		other := r.client("other")
		other.subscribe("t", 2)
		s.c.Close()
		eventually(t, "s gone", func() bool { return r.Stats().Connected == 1 })
		p := r.client("p")
		for i, want := range []packet.Reason{packet.Success, packet.Success, packet.QuotaExceeded} {
			p.send(message("t", fmt.Sprint(i), 1, 1))
			if a := expect[*packet.Ack](p); a.Code != want {
				t.Errorf("message %d: %v, want %v", i, a, want)
			}
		}
		p.send(message("t", "3", 2, 2))
		if a := expect[*packet.Ack](p); a.Kind != packet.PUBREC || a.Code != packet.QuotaExceeded {
			t.Errorf("got %v", a)
		}
		p.send(&packet.Ack{Kind: packet.PUBREL, ID: 2}) // the identifier is free [MQTT-4.3.3-9]
		if a := expect[*packet.Ack](p); a.Code != packet.PacketIdentifierNotFound {
			t.Errorf("got %v", a)
		}
		for i := range 2 { // nobody gets a message that was refused
			if m := expect[*packet.Publish](other); string(m.Payload()) != fmt.Sprint(i) {
				t.Errorf("got %v", m)
			}
		}
		other.quiet()
		old, _ := r.connect(packet.Connect{Version: packet.V311, ClientID: "old", CleanStart: true})
		old.raw(packet.AppendPublish(nil, message("t", "x", 1, 5), packet.V311, packet.PublishOpts{QoS: 1, ID: 5}))
		old.closed()
		if n := r.Stats().Dropped["refused"]; n != 3 {
			t.Errorf("%d refused, want 3", n)
		}
	})
}

func TestQueueOfQoS0(t *testing.T) {
	r := start(t, Options{SysInterval: -1, Queue: QueueOptions{QoS0: true}})
	s, _ := r.connect(packet.Connect{ClientID: "s", SessionExpiry: 100})
	s.subscribe("t", 2)
	s.c.Close()
	eventually(t, "s gone", func() bool { return r.Stats().Connected == 0 })
	p := r.client("p")
	p.send(message("t", "1", 0, 0), message("t", "2", 1, 1), message("t", "3", 0, 0))
	expect[*packet.Ack](p)
	p.quiet()
	s, _ = r.connect(packet.Connect{ClientID: "s", SessionExpiry: 100})
	for i, q := range []packet.QoS{0, 1, 0} {
		if m := expect[*packet.Publish](s); string(m.Payload()) != fmt.Sprint(i+1) || m.QoS() != q {
			t.Errorf("got %v", m)
		}
	}
}

// SIGTERM's way: no new connections, 0x8B for MQTT 5, the connection closed
// for 3.x, wills sent, Serve returns.
func TestDrain(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		r := start(t, Options{IO: io, SysInterval: -1})
		five := r.client("five")
		old, _ := r.connect(packet.Connect{Version: packet.V311, ClientID: "old", CleanStart: true})
		silent := r.dial(packet.V5) // no CONNECT
		done := make(chan struct{})
		go func() { r.stop(); close(done) }()
		if d := expect[*packet.Disconnect](five); d.Code != packet.ServerShuttingDown {
			t.Errorf("got %v", d)
		}
		five.closed()
		old.closed()
		silent.closed()
		for _, p := range []*peer{five, old, silent} {
			p.c.Close()
		}
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatal("Serve did not return")
		}
	})
}

func TestReload(t *testing.T) {
	r := start(t, Options{SysInterval: -1})
	o := *r.opt()
	o.MaxPacketSize, o.Loops, o.MaxConnectSize = 4000, 7, 500
	applied, restart, err := r.Reload(o)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(applied, []string{"max_packet_size", "max_connect_size"}) || !slices.Equal(restart, []string{"loops"}) {
		t.Errorf("applied %v, restart %v", applied, restart)
	}
	p := r.client("p")
	p.raw(append([]byte{0x30, 0xff, 0x7f}, make([]byte, 100)...)) // 16 KiB announced
	if d := expect[*packet.Disconnect](p); d.Code != packet.PacketTooLarge {
		t.Errorf("got %v", d)
	}
	q := r.dial(packet.V5)
	q.raw([]byte{0x10, 0xff, 0x7f})
	q.closed()
	if _, _, err := r.Reload(Options{IO: "steam", MaxPacketSize: -1}); err == nil || !strings.Contains(err.Error(), "steam") || !strings.Contains(err.Error(), "MaxPacketSize") {
		t.Errorf("faults: %v", err)
	}
}

// A subscriber to everything gets 100,000 retained messages, complete, while
// others go on talking.
func TestManyRetained(t *testing.T) {
	atOnce(t)
	each(t, func(t *testing.T, io string) {
		r := start(t, Options{IO: io, SysInterval: -1})
		n := 100_000
		if raceEnabled {
			n = 10_000
		}
		turn := r.borrow()
		for i := range n {
			m, err := packet.NewPublish(&packet.Message{Topic: fmt.Sprintf("r/%d/%d", i%100, i), Payload: []byte("x"), Retain: true, QoS: packet.QoS(i % 3)}, turn.now)
			if err != nil {
				t.Fatal(err)
			}
			if done, err := r.store.Publish(m, nil, store.Inbound{}, nobody{}, 0); !done || err != nil {
				t.Fatal(done, err)
			}
		}
		r.give(turn)
		for _, x := range []struct {
			qos    packet.SubOptions
			expiry uint32
		}{{0, 0}, {2, 0}, {2, 100}} {
			s, _ := r.connect(packet.Connect{ClientID: "s", CleanStart: true, SessionExpiry: x.expiry})
			live := r.client("live")
			live.subscribe("live", 0)
			s.send(&packet.Subscribe{ID: 1, Filters: []packet.Subscription{{Filter: "#", Options: x.qos}}})
			expect[*packet.Suback](s)
			var wg sync.WaitGroup
			wg.Go(func() { // the other's round trips go on meanwhile
				for range 200 {
					live.send(message("live", "x", 0, 0))
					expect[*packet.Publish](live)
				}
			})
			seen := map[string]bool{}
			for len(seen) < n {
				m := expect[*packet.Publish](s)
				switch topic := string(m.Topic()); {
				case topic == "live":
				case seen[topic] || !m.Retain():
					t.Fatalf("again or not retained: %v", m)
				default:
					seen[topic] = true
				}
				switch m.QoS() {
				case 1:
					s.send(&packet.Ack{Kind: packet.PUBACK, ID: m.ID})
				case 2:
					s.send(&packet.Ack{Kind: packet.PUBREC, ID: m.ID, Code: packet.UnspecifiedError}) // ends its flow at once
				}
			}
			wg.Wait()
			for s.send(&packet.Pingreq{}); s.next().Type() != packet.PINGRESP; { // the last acknowledgements are taken
			}
			if n := r.Stats().Dropped; len(n) != 0 {
				t.Fatalf("dropped: %v", n)
			}
			live.c.Close()
			s.c.Close()
			eventually(t, "gone", func() bool { return r.Stats().Connected == 0 })
		}
	})
}

// Topics as long as the protocol allows, and as deep, neither crash nor slow
// anybody.
func TestGiantTopics(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		r := start(t, Options{IO: io, SysInterval: -1})
		s, p := r.client("s"), r.client("p")
		deep := strings.Repeat("/", 65_535)
		long := strings.Repeat("x", 65_535)
		for _, name := range []string{deep, long} {
			s.subscribe(name, 1)
		}
		s.subscribe(strings.Repeat("+/", 32_767)+"#", 0)
		s.subscribe("#", 0)
		for _, name := range []string{deep, long} {
			p.send(message(name, "hello", 1, 1))
			if a := expect[*packet.Ack](p); a.Code.Failed() {
				t.Errorf("%v", a)
			}
			if m := expect[*packet.Publish](s); string(m.Topic()) != name || m.QoS() != 1 {
				t.Errorf("got a topic of %d bytes at QoS %d", len(m.Topic()), m.QoS())
			}
		}
		begin := time.Now()
		for range 50 {
			p.send(message(deep, "", 0, 0))
		}
		p.quiet()
		if d := time.Since(begin); d > patience {
			t.Errorf("50 deep topics took %v", d)
		}
	})
}

// A subscriber that does not read loses QoS 0 messages, which are counted and
// logged once, and nobody else does; a client that asks and does not read the
// answers is not read from any more, and its out-queue is bounded.
func TestSlowConsumer(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		var dropped atomic.Int64
		r := start(t, Options{IO: io, SysInterval: -1, MaxOutboundBytes: 100 << 10,
			Events: Events{Dropped: func(id, _ string, why DropReason) {
				if id != "slow" || why != DropSlow {
					t.Errorf("dropped for %q: %v", id, why)
				}
				dropped.Add(1)
			}}})
		slow, good, p := r.client("slow"), r.client("good"), r.client("p")
		slow.subscribe("t", 0)
		good.subscribe("t", 0)
		payload := strings.Repeat("x", 1000)
		const n = 20_000
		got := make(chan int)
		go func() {
			k := 0
			for ; k < n; k++ {
				if _, err := good.read(); err != nil {
					break
				}
			}
			got <- k
		}()
		for i := range n {
			p.send(message("t", payload, 0, 0))
			if i%100 == 99 {
				p.quiet() // good keeps up
			}
		}
		if k := <-got; k != n {
			t.Errorf("the good one got %d of %d", k, n)
		}
		if dropped.Load() == 0 || r.Stats().Dropped["slow consumer"] != uint64(dropped.Load()) {
			t.Errorf("%d dropped, counted %v", dropped.Load(), r.Stats().Dropped)
		}
		if k := strings.Count(r.logs.String(), "message dropped"); k != 1 {
			t.Errorf("%d log lines, want 1", k)
		}
		flood := r.client("flood")
		ping := bytes.Repeat((&packet.Pingreq{}).Append(nil, packet.V5), 10_000)
		flood.c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		for {
			if _, err := flood.c.Write(ping); err != nil {
				break
			}
		}
		if q := r.online("flood").Queued(); q > 1<<20 {
			t.Errorf("%d bytes queued for a client that does not read", q)
		}
		good.quiet()
	})
}

// Timers run on the clock: a will's delay and a session's end, a week apart.
func TestExpirerSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := New(Options{IO: "goroutine", NoListeners: true, SysInterval: -1})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { b.Serve(ctx); close(done) }()
		var wills atomic.Int32
		sub, err := b.Subscribe("w", SubscribeOptions{}, func(*Message) { wills.Add(1) })
		if err != nil {
			t.Fatal(err)
		}
		var ended []string
		o := *b.opt()
		o.Events.SessionEnded = func(id string) { ended = append(ended, id) }
		b.o.Store(&o)
		m, err := packet.NewPublish(&Message{Topic: "w"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			id := fmt.Sprint("s", i)
			c := &conn{}
			s := b.registry.acquire(id, c, newSession)
			s.expiry = uint32((i + 1) * 7 * 24 * 3600)
			s.setWill(&store.Will{Msg: m})
			s.willAt = b.clock() + int64(time.Hour)*int64(3-i)
			b.rest(s, b.clock())
			b.registry.release(s, false, newSession)
		}
		for hour := range 4 {
			synctest.Wait()
			if n := int(wills.Load()); n != hour {
				t.Errorf("after %d hours %d wills", hour, n)
			}
			time.Sleep(time.Hour)
		}
		time.Sleep(14*24*time.Hour - time.Minute)
		synctest.Wait()
		if !slices.Equal(ended, []string{"s0", "s1"}) {
			t.Errorf("ended: %v", ended)
		}
		sub.Close()
		cancel()
		<-done
	})
}
