package broker

import (
	"fmt"
	"testing"
	"unsafe"

	"github.com/myelin-mqtt/myelin/internal/qos"
	"github.com/myelin-mqtt/myelin/internal/transport"
	"github.com/myelin-mqtt/myelin/packet"
)

// feeder feeds packets to the handler from the test's own goroutine, as the
// loop of a connection would, while its socket is silent.
type feeder struct {
	r  *running
	h  *handler
	tt *transport.Turn
}

// online returns the transport's connection of a client.
func (r *running) online(id string) *transport.Conn { return r.registry.connected(id).io }

func (f *feeder) feed(tb testing.TB, io *transport.Conn, b []byte) {
	used, err := f.h.Feed(f.tt, io, b)
	if err != nil || used != len(b) {
		tb.Fatalf("feed: %d of %d, %v", used, len(b), err)
	}
}

// drain reads and throws away what the broker sends, without allocating.
func (p *peer) drain() {
	buf := make([]byte, 64<<10)
	go func() {
		for {
			if _, err := p.c.Read(buf); err != nil {
				return
			}
		}
	}()
}

// flow is one publisher and its subscribers, fed in process.
type flow struct {
	feeder
	pub     *transport.Conn
	subs    []*transport.Conn
	publish []byte // packet identifier 1
	release []byte // PUBREL of it
	q       packet.QoS
	id      uint16 // of the next delivery
	acks    [2][4]byte
}

type shape struct {
	name    string
	q       packet.QoS
	pub     packet.Version
	sub     packet.Version
	props   bool
	subID   uint32
	targets int
	expiry  uint32 // of the subscribers' sessions
}

func newFlow(tb testing.TB, x shape) *flow {
	r := start(tb, Options{IO: "goroutine", SysInterval: -1})
	f := &flow{feeder: feeder{r: r, h: &handler{r.Broker}}, q: x.q, id: 1}
	for i := range x.targets {
		id := fmt.Sprint("sub", i)
		s, _ := r.connect(packet.Connect{Version: x.sub, ClientID: id, CleanStart: true, SessionExpiry: x.expiry})
		s.send(&packet.Subscribe{ID: 1, SubID: x.subID, Filters: []packet.Subscription{{Filter: "bench/topic", Options: packet.SubOptions(x.q)}}})
		if _, err := s.read(); err != nil {
			tb.Fatal(err)
		}
		s.drain()
		f.subs = append(f.subs, r.online(id))
	}
	p, _ := r.connect(packet.Connect{Version: x.pub, ClientID: "pub", CleanStart: true})
	p.drain()
	f.pub = r.online("pub")
	m := packet.Message{Topic: "bench/topic", Payload: make([]byte, 256), QoS: x.q}
	if x.props {
		m.ContentType, m.User = "text/plain", []packet.UserProperty{{Key: "a", Value: "b"}, {Key: "c", Value: "d"}}
	}
	k, err := packet.NewPublish(&m, 0)
	if err != nil {
		tb.Fatal(err)
	}
	f.publish = packet.AppendPublish(nil, k, x.pub, packet.PublishOpts{QoS: x.q, ID: 1})
	f.release = packet.AppendAck(nil, packet.PUBREL, x.pub, 1, packet.Success)
	f.tt = r.net.Borrow()
	tb.Cleanup(func() { r.net.Return(f.tt) })
	return f
}

// once publishes one message and acknowledges it everywhere.
func (f *flow) once(tb testing.TB) {
	f.feed(tb, f.pub, f.publish)
	if f.q == 2 {
		f.feed(tb, f.pub, f.release)
	}
	if f.q > 0 {
		for _, s := range f.subs {
			switch f.q {
			case 1:
				f.feed(tb, s, packet.AppendAck(f.acks[0][:0], packet.PUBACK, packet.V311, f.id, 0))
			case 2:
				f.feed(tb, s, packet.AppendAck(f.acks[0][:0], packet.PUBREC, packet.V311, f.id, 0))
				f.feed(tb, s, packet.AppendAck(f.acks[0][:0], packet.PUBCOMP, packet.V311, f.id, 0))
			}
		}
		if f.id++; f.id == 0 {
			f.id = 1
		}
	}
	f.tt.Flush()
}

// TestAllocations holds the message path to its garbage: none for QoS 0 in any
// form, at most two allocations for a QoS 1 or 2 PUBLISH whatever the number
// of targets, and none for any acknowledgement.
func TestAllocations(t *testing.T) {
	atOnce(t)
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, x := range []shape{
		{name: "q0 v4", pub: 4, sub: 4, targets: 1},
		{name: "q0 v5", pub: 5, sub: 5, targets: 1},
		{name: "q0 v5 properties", pub: 5, sub: 5, props: true, targets: 1},
		{name: "q0 v4 to v5", pub: 4, sub: 5, targets: 1},
		{name: "q0 v5 to v4", pub: 5, sub: 4, props: true, targets: 1},
		{name: "q0 v5 identifier", pub: 5, sub: 5, subID: 7, targets: 1},
		{name: "q0 fan-out", pub: 4, sub: 4, targets: 50},
		{name: "q1 v4", q: 1, pub: 4, sub: 4, targets: 1},
		{name: "q1 v5 properties", q: 1, pub: 5, sub: 5, props: true, targets: 1},
		{name: "q1 fan-out", q: 1, pub: 4, sub: 5, targets: 50},
		{name: "q2 v5", q: 2, pub: 5, sub: 5, targets: 1},
		{name: "q2 fan-out identifier", q: 2, pub: 5, sub: 5, subID: 3, targets: 50},
		{name: "q1 durable", q: 1, pub: 5, sub: 5, targets: 1, expiry: 100},
	} {
		t.Run(x.name, func(t *testing.T) {
			f := newFlow(t, x)
			for range 2000 { // pools and windows reach their size
				f.once(t)
			}
			want := 0.0
			if x.q > 0 {
				want = 2
			}
			if got := testing.AllocsPerRun(2000, func() { f.once(t) }); got > want {
				t.Errorf("%v allocations a message, want at most %v", got, want)
			}
		})
	}
}

func TestSizes(t *testing.T) {
	for _, x := range []struct {
		name      string
		got, most uintptr
	}{
		{"conn", unsafe.Sizeof(conn{}), 96},
		{"session", unsafe.Sizeof(session{}), 96},
		{"active", unsafe.Sizeof(active{}), 208},
		{"subscription", unsafe.Sizeof(subscription{}), 16},
		{"qos.Slot", unsafe.Sizeof(qos.Slot{}), 32},
		{"packet.Publish", unsafe.Sizeof(packet.Publish{}), 80},
	} {
		if x.got > x.most {
			t.Errorf("%s: %d bytes, want at most %d", x.name, x.got, x.most)
		}
	}
}

// BenchmarkFeed is the broker's own work for one delivery, acknowledgements
// included, and the system calls of 1 write a turn.
func BenchmarkFeed(b *testing.B) {
	for _, x := range []shape{
		{name: "p2p-q0-v4", pub: 4, sub: 4, targets: 1},
		{name: "p2p-q0-v5", pub: 5, sub: 5, targets: 1},
		{name: "p2p-q0-v5props", pub: 5, sub: 5, props: true, targets: 1},
		{name: "p2p-q0-v5subid", pub: 5, sub: 5, subID: 7, targets: 1},
		{name: "p2p-q0-v4to5", pub: 4, sub: 5, targets: 1},
		{name: "p2p-q1-v4", q: 1, pub: 4, sub: 4, targets: 1},
		{name: "p2p-q1-v5", q: 1, pub: 5, sub: 5, targets: 1},
		{name: "p2p-q2-v5", q: 2, pub: 5, sub: 5, targets: 1},
		{name: "p2p-q1-durable", q: 1, pub: 5, sub: 5, targets: 1, expiry: 100},
		{name: "fan1000-q0-v4", pub: 4, sub: 4, targets: 1000},
		{name: "fan1000-q1-v4", q: 1, pub: 4, sub: 4, targets: 1000},
		{name: "fan1000-q0-v5subid", pub: 5, sub: 5, subID: 7, targets: 1000},
	} {
		b.Run(x.name, func(b *testing.B) {
			f := newFlow(b, x)
			b.ReportAllocs()
			b.ResetTimer()
			n := 0
			for b.Loop() {
				f.once(b)
				n++
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n*x.targets), "ns/delivery")
		})
	}
}
