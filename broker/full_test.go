package broker

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/myelin-mqtt/myelin/internal/store/disk/quota"
	"github.com/myelin-mqtt/myelin/packet"
)

// small starts a broker on a disk of 64 MiB.
func small(t *testing.T, o Options) (*running, *quota.FS) {
	t.Helper()
	fs := quota.New(vfs.NewMem(), 64<<20)
	o.DataDir, o.dataFS, o.ShutdownGrace = "data", fs, 3*time.Second
	if o.SysInterval == 0 {
		o.SysInterval = -1
	}
	return start(t, o), fs
}

// is waits for a state of the store.
func (r *running) is(state string) {
	r.t.Helper()
	eventually(r.t, "the store is "+state, func() bool { return r.Stats().Store == state })
}

// old connects with version 3.1.1; the session stays.
func (r *running) old(id string) *peer {
	p, _ := r.connect(packet.Connect{ClientID: id, Version: packet.V311})
	return p
}

// put sends a PUBLISH in the peer's version.
func (p *peer) put(m *packet.Publish, o packet.PublishOpts) {
	p.t.Helper()
	o.ID, o.QoS, o.Retain = m.ID, m.QoS(), m.Retain()
	p.raw(packet.AppendPublish(nil, m, p.v, o))
}

// taken sends a PUBLISH and expects success.
func (p *peer) taken(m *packet.Publish, o packet.PublishOpts) {
	p.t.Helper()
	p.put(m, o)
	if a := expect[*packet.Ack](p); a.Code.Failed() || a.ID != m.ID {
		p.t.Fatalf("got %v", a)
	}
	if m.QoS() == 2 {
		p.send(pubrel(m.ID))
		expect[*packet.Ack](p)
	}
}

// TestDiskIsFull: publishers of QoS 1 and 2 are refused, QoS 0 and deliveries
// go on, and with room again everything does.
func TestDiskIsFull(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		r, fs := small(t, Options{IO: io, SysInterval: time.Second})
		r.away("s", "a")
		p, live := r.client("p"), r.client("live")
		live.subscribe("a", 0)
		live.subscribe("r", 0)
		p.acked(message("a", "one", 1, 1))
		p.acked(message("a", "two", 2, 2))
		for range 2 {
			expect[*packet.Publish](live)
		}
		fs.Leave(1 << 20)
		r.is("full")
		if free := r.Stats().DiskFree; free > 1<<20 {
			t.Errorf("%d bytes are free", free)
		}
		for i, m := range []*packet.Publish{
			message("a", "no", 1, 3), message("a", "no", 2, 4), pub(packet.Message{Topic: "r", Payload: []byte("no"), QoS: 1, Retain: true}, 5),
			message("a", "no", 2, 4), // refused, so the identifier is free
		} {
			p.send(m)
			if a := expect[*packet.Ack](p); a.Code != packet.QuotaExceeded || a.ID != m.ID {
				t.Errorf("%d: got %v", i, a)
			}
		}
		for q := range packet.QoS(2) {
			old := r.old("old")
			old.put(message("a", "no", q+1, 1), packet.PublishOpts{})
			old.closed()
		}
		p.acked(message("nobody", "x", 1, 6))
		p.send(pub(packet.Message{Topic: "r", Payload: []byte("zero"), Retain: true}, 0), message("a", "zero", 0, 0))
		for range 2 {
			if m := expect[*packet.Publish](live); string(m.Payload()) != "zero" {
				t.Errorf("got %v", m)
			}
		}
		s, _ := r.connect(durable("s"))
		if got := s.payloads(r); !slices.Equal(got, []string{"one", "two"}) {
			t.Errorf("delivered %q", got)
		}
		n, _ := r.connect(durable("new"))
		n.subscribe("a", 1)
		n.subscribe("$SYS/broker/store/state", 0)
		for m := expect[*packet.Publish](n); string(m.Payload()) != "full"; m = expect[*packet.Publish](n) {
		}
		if d := r.Stats().Dropped; d["disk full"] != 1 || d["refused"] != 6 {
			t.Errorf("dropped %v", d)
		}
		fs.SetLimit(64 << 20)
		r.is("ok")
		for m := expect[*packet.Publish](n); string(m.Payload()) != "ok"; m = expect[*packet.Publish](n) {
		}
		n.leave(r)
		p.acked(message("a", "three", 1, 7))
		p.acked(message("a", "four", 2, 4))
		r.old("old").taken(message("a", "five", 2, 1), packet.PublishOpts{})
		r.stop()
		r = start(t, Options{DataDir: "data", dataFS: fs, SysInterval: -1, IO: io})
		n, _ = r.connect(durable("new"))
		var got []string
		eventually(t, "three messages", func() bool { got = append(got, n.payloads(r)...); return len(got) >= 3 })
		slices.Sort(got) // across QoS 1 and 2 there is no order
		if !slices.Equal(got, []string{"five", "four", "three"}) {
			t.Errorf("after a restart %q", got)
		}
	})
}

// TestDiskIsFullQoS0: where QoS 0 is queued, too, it goes past the queues.
func TestDiskIsFullQoS0(t *testing.T) {
	r, fs := small(t, Options{Queue: QueueOptions{QoS0: true}})
	r.away("away", "a")
	s, _ := r.connect(durable("s"))
	s.subscribe("a", 2)
	fs.Leave(1 << 20)
	r.is("full")
	p := r.client("p")
	p.send(message("a", "zero", 0, 0))
	if m := expect[*packet.Publish](s); string(m.Payload()) != "zero" {
		t.Errorf("got %v", m)
	}
	if n := r.Stats().Dropped["disk full"]; n != 1 {
		t.Errorf("%d dropped", n)
	}
}

// TestDiskIsStuck: a commit waits for room. Who waits for it hears of it, and no
// message of QoS 2 is lost or comes twice. [MQTT-4.3.3-9], [MQTT-4.3.3-10]
func TestDiskIsStuck(t *testing.T) {
	for io, v := range map[string]packet.Version{"reactor": packet.V311, "goroutine": packet.V5} {
		t.Run(fmt.Sprint(v), func(t *testing.T) { stuck(t, io, v) })
	}
}

func stuck(t *testing.T, io string, v packet.Version) {
	r, fs := small(t, Options{IO: io})
	r.away("s", "a")
	join := func(id string) *peer {
		p, _ := r.connect(packet.Connect{Version: v, ClientID: id, SessionExpiry: 100})
		return p
	}
	one, two, sub := join("one"), join("two"), join("sub")
	fs.FailFrom(1)
	two.put(message("a", "stuck", 2, 1), packet.PublishOpts{})
	eventually(t, "the disk is full", func() bool { return r.Stats().Store == "full" })
	one.put(message("a", "no", 1, 1), packet.PublishOpts{}) // at once
	sub.send(&packet.Subscribe{ID: 1, Filters: []packet.Subscription{{Filter: "b"}}})
	a := expect[*packet.Suback](sub)
	late := r.dial(v)
	late.send(&packet.Connect{Version: v, ClientID: "late", SessionExpiry: 100})
	k := expect[*packet.Connack](late)
	if v == packet.V5 {
		if x := expect[*packet.Ack](one); x.Code != packet.QuotaExceeded {
			t.Errorf("got %v", x)
		}
		if x := expect[*packet.Disconnect](two); x.Code != packet.QuotaExceeded {
			t.Errorf("got %v", x)
		}
		if a.Codes[0] != packet.QuotaExceeded || k.Code != packet.QuotaExceeded {
			t.Errorf("SUBACK %v, CONNACK %v", a, k)
		}
	} else {
		one.closed()
		if a.Codes[0] != 0x80 || k.Code != packet.ServerUnavailable {
			t.Errorf("SUBACK %v, CONNACK %v", a, k)
		}
	}
	two.closed()
	fs.FailFrom(0)
	r.is("ok")
	two = join("two")
	two.taken(message("a", "stuck", 2, 1), packet.PublishOpts{Dup: true}) // it was taken
	two.taken(message("a", "new", 2, 1), packet.PublishOpts{})            // another one
	join("one").taken(message("a", "yes", 1, 1), packet.PublishOpts{})
	s, _ := r.connect(durable("s"))
	got := s.payloads(r)
	slices.Sort(got) // across QoS 1 and 2 there is no order
	if !slices.Equal(got, []string{"new", "stuck", "yes"}) {
		t.Errorf("delivered %q", got)
	}
}

// TestDiskIsStuckQoS1: a message of QoS 1 whose commit waits for room is refused
// after a while, and its publisher goes on.
func TestDiskIsStuckQoS1(t *testing.T) {
	r, fs := small(t, Options{})
	r.away("s", "a")
	p, old := r.client("p"), r.old("old")
	fs.FailFrom(1)
	p.send(message("a", "x", 1, 1))
	old.put(message("a", "y", 1, 1), packet.PublishOpts{})
	p.send(message("a", "z", 1, 2)) // refused at once, behind the other
	for id := range uint16(2) {
		if a := expect[*packet.Ack](p); a.Code != packet.QuotaExceeded || a.ID != id+1 {
			t.Errorf("got %v", a)
		}
	}
	old.closed()
	p.quiet()
	fs.FailFrom(0)
	r.is("ok")
	p.acked(message("a", "last", 1, 1))
	s, _ := r.connect(durable("s"))
	if got := s.payloads(r); got[len(got)-1] != "last" {
		t.Errorf("delivered %q", got)
	}
}
