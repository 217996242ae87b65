package broker

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/myelin-mqtt/myelin/internal/store/mem"
	"github.com/myelin-mqtt/myelin/internal/transport"
	"github.com/myelin-mqtt/myelin/packet"
)

// A client that asks and does not read the answers is not read from any more:
// its out-queue is bounded, whatever it asks for.
func TestOutQueueOfAnswersIsBounded(t *testing.T) {
	for _, x := range []struct {
		name string
		p    packet.Packet
	}{
		{"ping", &packet.Pingreq{}},
		{"subscribe", &packet.Subscribe{ID: 1, Filters: []packet.Subscription{{Filter: "a", Options: 2 << packet.RetainHandlingShift}}}},
		{"unsubscribe", &packet.Unsubscribe{ID: 1, Filters: []string{"a"}}},
		{"publish", message("a", "", 1, 1)},
	} {
		t.Run(x.name, func(t *testing.T) {
			const most = 1000
			r := start(t, Options{IO: "goroutine", SysInterval: -1, MaxOutboundBytes: most})
			r.client("p").quiet()
			eventually(t, "its own goroutine is through", func() bool { return r.Stats().PacketsIn == 2 })
			f := feeder{r: r, h: &handler{r.Broker}, tt: r.net.Borrow()}
			defer r.net.Return(f.tt)
			io := r.online("p")
			b := x.p.Append(nil, packet.V5)
			var err error
			for n := 0; err == nil && n < 10*most; n++ {
				_, err = f.h.Feed(f.tt, io, slices.Clone(b))
			}
			if err != transport.ErrPaused || io.Queued() < most || io.Queued() > 5*most {
				t.Errorf("%d bytes queued, %v", io.Queued(), err)
			}
		})
	}
}

// A client that was congested is read from again, even where somebody has
// queued more at the moment in which it had read everything.
func TestCongestionEndsWhereMoreIsQueuedMeanwhile(t *testing.T) {
	const big, more = 16 << 20, 5000
	r := start(t, Options{IO: "reactor", Loops: 1, SysInterval: -1, MaxOutboundBytes: 1000})
	p := r.client("p")
	other := r.client("other")
	c := r.registry.connected("p")
	tt := r.net.Borrow()
	defer r.net.Return(tt)
	c.io.Append(tt, make([]byte, big)) // not MQTT, for nobody parses it
	tt.Flush()
	n := r.Stats().PacketsIn
	p.send(&packet.Pingreq{})
	eventually(t, "congested", func() bool { return r.Stats().PacketsIn > n })
	c.s.mu.Lock() // what the connection does next is to look at what is ready
	c.s.ready.Store(true)
	c.signals.Or(sigAccess)
	read := func(n int) {
		t.Helper()
		p.c.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.CopyN(io.Discard, p.c, int64(n)); err != nil {
			c.s.ready.Store(false)
			t.Fatal(err)
		}
	}
	read(big + 2) // and the PINGRESP
	eventually(t, "woken", func() bool { return c.signals.Load() == 0 })
	c.io.Append(tt, make([]byte, more))
	c.s.mu.Unlock()
	other.quiet()
	tt.Flush()
	read(more)
	p.send(&packet.Pingreq{})
	read(2)
}

// A client that sends and never reads is cut off by its keep alive.
func TestKeepAliveOfAClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, io string) {
		r := start(t, Options{IO: io, SysInterval: -1, MaxOutboundBytes: 1 << 16})
		p, _ := r.connect(packet.Connect{ClientID: "p", CleanStart: true, KeepAlive: 1})
		go func() { // until the broker does not read any more, and then has closed
			pings := []byte(strings.Repeat("\xc0\x00", 1<<16))
			for {
				if _, err := p.c.Write(pings); err != nil {
					return
				}
			}
		}()
		eventually(t, "cut off", func() bool { return r.Stats().Connected == 0 })
		p.c.Close()
	})
}

// A SUBSCRIBE may be as long as a packet, and takes a time that grows with it.
func TestManyFiltersInAPacket(t *testing.T) {
	r := start(t, Options{SysInterval: -1, MaxPacketSize: 4 << 20})
	p := r.client("p")
	sub, un := &packet.Subscribe{ID: 1}, &packet.Unsubscribe{ID: 2}
	const n = 100_000 // looked up one by one: a minute
	for i := range n {
		f := fmt.Sprintf("%06d", i)
		sub.Filters = append(sub.Filters, packet.Subscription{Filter: f})
		un.Filters = append(un.Filters, f)
	}
	p.send(sub)
	expect[*packet.Suback](p)
	if s := r.Stats().Subscriptions; s != n {
		t.Errorf("%d subscriptions", s)
	}
	p.send(un)
	expect[*packet.Unsuback](p)
	if s := r.Stats().Subscriptions; s != 0 {
		t.Errorf("%d subscriptions left", s)
	}
}

// One line and one event for a packet, however much of it is refused.
func TestOneLineForARefusedSubscribe(t *testing.T) {
	r := start(t, Options{SysInterval: -1})
	p := r.client("p")
	sub := &packet.Subscribe{ID: 1}
	for range 1000 {
		sub.Filters = append(sub.Filters, packet.Subscription{Filter: "a#"})
	}
	before := strings.Count(r.logs.String(), "\n")
	p.send(sub)
	expect[*packet.Suback](p)
	if n := strings.Count(r.logs.String(), "\n") - before; n != 1 {
		t.Errorf("%d lines", n)
	}
}

// One line, one count and one event for each connection that is refused, and
// for each packet that is.
func TestOneLineForARefusal(t *testing.T) {
	con := func(id string) []byte {
		return (&packet.Connect{Version: packet.V5, ClientID: id, CleanStart: true, HasAuthMethod: id == "steps", AuthMethod: "m"}).Append(nil, packet.V5)
	}
	auth := authFunc(func(q *AuthRequest) AuthAnswer {
		switch q.Client.ID {
		case "denied":
			return AuthAnswer{Code: packet.BadUserNameOrPassword}
		case "steps":
			return AuthAnswer{Code: packet.ContinueAuthentication}
		}
		return AuthAnswer{}
	})
	for _, x := range []struct {
		name   string
		b      []byte
		packet bool // of a client that is connected
	}{
		{name: "ping first", b: []byte{0xc0, 0}},
		{name: "no MQTT", b: []byte("GET / HTTP/1.1\r\n\r\n")},
		{name: "cut CONNECT", b: []byte{0x10, 5, 0, 4, 'M', 'Q', 'T'}},
		{name: "reserved flag", b: []byte{0x10, 0x0d, 0, 4, 'M', 'Q', 'T', 'T', 5, 3, 0, 0, 0, 0, 0}},
		{name: "level 9", b: []byte{0x10, 0x0d, 0, 4, 'M', 'Q', 'T', 'T', 9, 2, 0, 0, 0, 0, 0}},
		{name: "huge CONNECT", b: []byte{0x10, 0xff, 0xff, 0xff, 0x7f}},
		{name: "length of five bytes", b: []byte{0x10, 0xff, 0xff, 0xff, 0xff, 1}},
		{name: "denied", b: con("denied")},
		{name: "denied, and more", b: append(con("denied"), 0xc0, 0)},
		{name: "ping within the authentication", b: append(con("steps"), 0xc0, 0)},
		{name: "second CONNECT", b: append(con("ok"), con("ok")...), packet: true},
		{name: "type 0", b: append(con("ok"), 0, 0), packet: true},
		{name: "type 0, and more", b: append(con("ok"), 0, 0, 0xf0, 1, 2, 0x10), packet: true},
	} {
		t.Run(x.name, func(t *testing.T) {
			events := make(chan error, 10)
			r := start(t, Options{SysInterval: -1, Authenticator: auth, Events: Events{Refused: func(_ string, _ packet.Reason, err error) { events <- err }}})
			before := strings.Count(r.logs.String(), "\n")
			p := r.dial(packet.V5)
			p.raw(x.b)
			for _, err := p.read(); err == nil; {
				_, err = p.read()
			}
			p.c.Close()
			eventually(t, "ended", func() bool { return r.Stats().Connected == 0 && r.Stats().Refused+r.Stats().BadPackets == 1 })
			if n := strings.Count(r.logs.String(), "\n") - before; n != 1 {
				t.Errorf("%d lines:\n%s", n, r.logs)
			}
			if refused := r.Stats().Refused == 1; refused == x.packet || refused != (len(events) == 1) {
				t.Errorf("refused %v, %d events", refused, len(events))
			}
		})
	}
}

// What the queue of a client that is away costs has its name in the events,
// and one line in the log.
func TestQueueFullIsReported(t *testing.T) {
	var mu sync.Mutex
	var all []string
	r := start(t, Options{SysInterval: -1, Queue: QueueOptions{MaxMessages: 2}, Events: Events{Dropped: func(id, topic string, why DropReason) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, id+" "+topic+" "+why.String())
	}}})
	r.away("sub", "a")
	p := r.client("p")
	for range 5 {
		p.publish(packet.Message{Topic: "a", Payload: []byte("x")})
	}
	mu.Lock()
	defer mu.Unlock()
	if want := slices.Repeat([]string{"sub a queue full"}, 3); !slices.Equal(all, want) {
		t.Errorf("got %q", all)
	}
	if n := strings.Count(r.logs.String(), "message dropped"); n != 1 {
		t.Errorf("%d lines:\n%s", n, r.logs)
	}
}

// A flood at the limit of a queue costs no garbage for each loss.
func TestDropsDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	r := start(t, Options{SysInterval: -1})
	r.away("sub", "a")
	m := message("a", "x", 1, 1)
	if n := testing.AllocsPerRun(100, func() { r.storeDropped("sub", m, mem.Expired) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// A turn lets go of a large packet when it is through with it.
func TestTurnKeepsNoLargePacket(t *testing.T) {
	r := start(t, Options{IO: "goroutine", SysInterval: -1})
	s, _ := r.connect(packet.Connect{ClientID: "s", CleanStart: true, SessionExpiry: 0})
	s.subscribe("a", 0)
	s.drain()
	r.client("p").quiet()
	eventually(t, "its own goroutine is through", func() bool { return r.Stats().PacketsIn == 4 })
	f := &feeder{r: r, h: &handler{r.Broker}, tt: r.net.Borrow()}
	defer r.net.Return(f.tt)
	for _, name := range []string{"a", "nobody"} {
		for q := range packet.QoS(3) {
			w := feedLarge(t, f, name, q)
			f.tt.Flush()
			eventually(t, fmt.Sprintf("packet to %s at QoS %d is free", name, q), func() bool { runtime.GC(); return w.Value() == nil })
		}
	}
}

//go:noinline
func feedLarge(t *testing.T, f *feeder, name string, q packet.QoS) weak.Pointer[byte] {
	b := message(name, strings.Repeat("x", 500<<10), q, 1).Append(nil, packet.V5)
	f.feed(t, f.r.online("p"), b)
	return weak.Make(&b[0])
}

// All faults of the options are named, in the same order each time.
func TestFaultsOfOptions(t *testing.T) {
	o := Options{NoListeners: true, TopicAliasMaximum: -5, TopicAliasOutbound: -2, Retain: RetainOptions{MaxMessages: -1, MaxBytes: -1}, Shared: 99,
		Queue: QueueOptions{MaxMessages: -7, MaxBytes: -2, Policy: 9}, Loops: -1, MaxConnections: -1, ConnectTimeout: -1, MaxSubscriptions: -1}
	_, err := New(o)
	if err == nil {
		t.Fatal("taken")
	}
	for _, name := range []string{"TopicAliasMaximum", "TopicAliasOutbound", "Retain.MaxMessages", "Retain.MaxBytes", "Shared", "Queue.MaxMessages",
		"Queue.MaxBytes", "Queue.Policy", "Loops", "MaxConnections", "ConnectTimeout", "MaxSubscriptions"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named", name)
		}
	}
	for range 20 {
		if _, again := New(o); again.Error() != err.Error() {
			t.Fatalf("another order: %v", again)
		}
	}
}
