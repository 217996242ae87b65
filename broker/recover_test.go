package broker

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/myelin-mqtt/myelin/packet"
)

// restarts runs a test on every way in which a broker ends: between the two
// halves of it. The broker of the second half has what the disk has.
func restarts(t *testing.T, before func(r *running), after func(r *running, crashed bool)) {
	o := Options{DataDir: "data", SysInterval: -1, ShutdownGrace: 3 * time.Second}
	t.Run("Close", func(t *testing.T) {
		o := o
		o.dataFS = vfs.NewMem()
		r := start(t, o)
		before(r)
		r.stop()
		after(start(t, o), false)
	})
	t.Run("Crash", func(t *testing.T) {
		o := o
		fs := vfs.NewCrashableMem()
		o.dataFS = fs
		r := start(t, o)
		before(r)
		o.dataFS = fs.CrashClone(vfs.CrashCloneCfg{})
		r.stop()
		after(start(t, o), true)
	})
	t.Run("CrashTorn", func(t *testing.T) {
		o := o
		fs := vfs.NewCrashableMem()
		o.dataFS = fs
		r := start(t, o)
		before(r)
		o.dataFS = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(1, 2))})
		r.stop()
		after(start(t, o), true)
	})
}

func pubrel(id uint16) *packet.Ack  { return &packet.Ack{Kind: packet.PUBREL, ID: id} }
func puback(id uint16) *packet.Ack  { return &packet.Ack{Kind: packet.PUBACK, ID: id} }
func pubrec(id uint16) *packet.Ack  { return &packet.Ack{Kind: packet.PUBREC, ID: id} }
func pubcomp(id uint16) *packet.Ack { return &packet.Ack{Kind: packet.PUBCOMP, ID: id} }

// acked publishes and expects the PUBACK, or the whole handshake of QoS 2.
func (p *peer) acked(m *packet.Publish) {
	p.t.Helper()
	p.send(m)
	if a := expect[*packet.Ack](p); a.Code.Failed() || a.ID != m.ID {
		p.t.Fatalf("got %v", a)
	}
	if m.QoS() == 2 {
		p.send(pubrel(m.ID))
		expect[*packet.Ack](p)
	}
}

// TestRestart: what was acknowledged is there after a restart: subscriptions,
// queued messages in their order, retained messages.
func TestRestart(t *testing.T) {
	restarts(t, func(r *running) {
		a, _ := r.connect(packet.Connect{ClientID: "a", SessionExpiry: 1000})
		a.subscribe("q/#", 2)
		a.subscribe("gone", 2)
		a.send(&packet.Unsubscribe{ID: 2, Filters: []string{"gone"}})
		expect[*packet.Unsuback](a)
		a.c.Close()
		p := r.client("p")
		p.acked(message("q/1", "one", 1, 1))
		p.acked(message("q/2", "two", 2, 2))
		p.acked(message("q/3", "three", 1, 3))
		p.acked(pub(packet.Message{Topic: "r/1", Payload: []byte("kept"), QoS: 1, Retain: true}, 4))
		p.acked(pub(packet.Message{Topic: "r/2", Payload: []byte("cleared"), QoS: 1, Retain: true}, 5))
		p.acked(pub(packet.Message{Topic: "r/2", QoS: 1, Retain: true}, 6))
	}, func(r *running, _ bool) {
		a, ack := r.connect(packet.Connect{ClientID: "a", SessionExpiry: 1000})
		if !ack.SessionPresent {
			t.Error("the session is gone")
		}
		got := map[packet.QoS][]string{} // the order holds for each QoS
		for completed := false; len(got[1])+len(got[2]) < 3 || !completed; {
			switch m := a.next().(type) {
			case *packet.Publish:
				got[m.QoS()] = append(got[m.QoS()], string(m.Payload()))
				if m.QoS() == 1 {
					a.send(puback(m.ID))
				} else {
					a.send(pubrec(m.ID))
				}
			case *packet.Ack:
				a.send(pubcomp(m.ID))
				completed = true
			}
		}
		if !slices.Equal(got[1], []string{"one", "three"}) || !slices.Equal(got[2], []string{"two"}) {
			t.Errorf("got %q", got)
		}
		p := r.client("p")
		p.acked(message("q/4", "four", 1, 1))
		p.acked(message("gone", "nobody", 1, 2))
		if m := expect[*packet.Publish](a); string(m.Payload()) != "four" {
			t.Errorf("got %s", m.Payload())
		}
		a.quiet()
		p.subscribe("r/#", 1)
		if m := expect[*packet.Publish](p); string(m.Payload()) != "kept" || !m.Retain() {
			t.Errorf("got %v", m)
		}
		p.quiet()
	})
}

// TestRestartQoS2: messages in the middle of their handshakes, in both
// directions, come exactly once. [MQTT-4.3.3-7], [MQTT-4.3.3-10]
func TestRestartQoS2(t *testing.T) {
	var sent, recorded uint16
	restarts(t, func(r *running) {
		a, _ := r.connect(packet.Connect{ClientID: "a", SessionExpiry: 1000})
		a.subscribe("q/#", 2)
		p, _ := r.connect(packet.Connect{ClientID: "p", SessionExpiry: 1000})
		p.acked(message("q/1", "recorded", 2, 1))
		m := expect[*packet.Publish](a)
		recorded = m.ID
		a.send(pubrec(m.ID))
		if x := expect[*packet.Ack](a); x.Kind != packet.PUBREL {
			t.Errorf("got %v", x)
		}
		p.acked(message("q/2", "sent", 2, 2))
		sent = expect[*packet.Publish](a).ID
		p.send(message("q/3", "inbound", 2, 3))
		if x := expect[*packet.Ack](p); x.Kind != packet.PUBREC {
			t.Errorf("got %v", x)
		}
	}, func(r *running, _ bool) {
		p, _ := r.connect(packet.Connect{ClientID: "p", SessionExpiry: 1000})
		p.send(message("q/3", "inbound", 2, 3)) // the same: it was taken
		if x := expect[*packet.Ack](p); x.Kind != packet.PUBREC || x.Code.Failed() {
			t.Errorf("got %v", x)
		}
		p.send(pubrel(3))
		if x := expect[*packet.Ack](p); x.Kind != packet.PUBCOMP || x.Code.Failed() {
			t.Errorf("got %v", x)
		}
		p.acked(message("q/4", "new", 2, 3))
		a, _ := r.connect(packet.Connect{ClientID: "a", SessionExpiry: 1000})
		if x := expect[*packet.Ack](a); x.Kind != packet.PUBREL || x.ID != recorded {
			t.Errorf("got %v, want PUBREL %d", x, recorded)
		}
		a.send(pubcomp(recorded))
		var got []string
		for len(got) < 3 {
			switch m := a.next().(type) {
			case *packet.Publish:
				got = append(got, string(m.Payload()))
				if string(m.Payload()) == "sent" && (m.ID != sent || !m.Dup()) {
					t.Errorf("sent again as %v, want identifier %d", m, sent)
				}
				a.send(pubrec(m.ID))
			case *packet.Ack:
				a.send(pubcomp(m.ID))
			}
		}
		if want := []string{"sent", "inbound", "new"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestRestartWill: a delayed will is published after a restart, once; and so is
// that of a client that was connected at a crash. [MQTT-3.1.2-8]
func TestRestartWill(t *testing.T) {
	restarts(t, func(r *running) {
		w, _ := r.connect(packet.Connect{ClientID: "watch", SessionExpiry: 1000})
		w.subscribe("will/#", 1)
		w.c.Close()
		a, _ := r.connect(packet.Connect{ClientID: "a", SessionExpiry: 1000, Will: &packet.Will{
			Message: packet.Message{Topic: "will/a", Payload: []byte("x"), QoS: 1}, Delay: 1}})
		b, _ := r.connect(packet.Connect{ClientID: "b", SessionExpiry: 1000, Will: &packet.Will{
			Message: packet.Message{Topic: "will/b", Payload: []byte("x"), QoS: 1}, Delay: 1}})
		b.send(&packet.Disconnect{})
		b.closed()
		c, _ := r.connect(packet.Connect{ClientID: "c", SessionExpiry: 1000, Will: &packet.Will{
			Message: packet.Message{Topic: "will/c", Payload: []byte("x"), QoS: 1}, Delay: 1}})
		c.c.Close()
		_ = a
		p := r.client("p") // its message is synced behind what went before
		p.acked(pub(packet.Message{Topic: "r", Payload: []byte("x"), QoS: 1, Retain: true}, 1))
	}, func(r *running, crashed bool) {
		w, _ := r.connect(packet.Connect{ClientID: "watch", SessionExpiry: 1000})
		got := map[string]int{}
		for len(got) < 2 {
			m := expect[*packet.Publish](w)
			got[string(m.Topic())]++
			w.send(puback(m.ID))
		}
		w.quiet()
		if got["will/a"] != 1 || got["will/c"] != 1 {
			t.Errorf("crashed %v: wills %v", crashed, got)
		}
	})
}

// TestRestartExpiry: a session whose time passes while nothing runs is gone.
func TestRestartExpiry(t *testing.T) {
	restarts(t, func(r *running) {
		a, _ := r.connect(packet.Connect{ClientID: "a", SessionExpiry: 1})
		a.subscribe("t", 1)
		b, _ := r.connect(packet.Connect{ClientID: "b", SessionExpiry: neverExpires})
		b.subscribe("t", 1)
	}, func(r *running, _ bool) {
		eventually(t, "the end of the session", func() bool { return r.registry.lookup("a") == nil })
		if _, ack := r.connect(packet.Connect{ClientID: "a", SessionExpiry: 1}); ack.SessionPresent {
			t.Error("an expired session is there")
		}
		if _, ack := r.connect(packet.Connect{ClientID: "b", SessionExpiry: 1}); !ack.SessionPresent {
			t.Error("the session is gone")
		}
	})
}

// TestStoreFails: from a failed sync on, nothing that would have to be durable
// is acknowledged; the rest goes on.
func TestStoreFails(t *testing.T) {
	if !apart(t) {
		return
	}
	var broken atomic.Bool
	fault := errors.New("injected")
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
			if broken.Load() {
				return fault
			}
		}
		return nil
	}))
	r := start(t, Options{DataDir: "data", dataFS: fs, SysInterval: -1, ShutdownGrace: time.Second})
	a, _ := r.connect(packet.Connect{ClientID: "a", SessionExpiry: 1000})
	a.subscribe("q/#", 1)
	a.send(&packet.Disconnect{Code: 0x04})
	a.closed()
	p, old := r.client("p"), r.dial(packet.V311)
	old.send(&packet.Connect{Version: packet.V311, ClientID: "old", CleanStart: true})
	expect[*packet.Connack](old)
	p.acked(message("q/1", "one", 1, 1))
	broken.Store(true)
	for i := range uint16(3) {
		p.send(message("q/2", "two", 1, i+2))
		if x := expect[*packet.Ack](p); !x.Code.Failed() {
			t.Errorf("got %v", x)
		}
	}
	m, err := packet.NewPublish(&packet.Message{Topic: "q/3", QoS: 1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	old.raw(packet.AppendPublish(nil, m, packet.V311, packet.PublishOpts{QoS: 1, ID: 1}))
	old.closed() // 3.x has no word for it
	c := r.dial(packet.V5)
	c.send(&packet.Connect{Version: packet.V5, ClientID: "c", SessionExpiry: 10})
	if x := expect[*packet.Connack](c); x.Code != packet.ServerUnavailable {
		t.Errorf("CONNACK %v", x.Code)
	}
	q := r.client("q")
	q.subscribe("live", 1)
	p.send(message("live", "goes on", 1, 9))
	if x := expect[*packet.Publish](q); string(x.Payload()) != "goes on" {
		t.Errorf("got %v", x)
	}
	if x := expect[*packet.Ack](p); x.Code.Failed() {
		t.Errorf("got %v", x)
	}
}

// TestStoreFailsQoS2: a sync that fails may have written what it should. The
// publisher of a QoS 2 message is not told that it was refused then: its
// identifier would be free for another, which would be taken for this one after
// a restart. [MQTT-4.3.3-9]
func TestStoreFailsQoS2(t *testing.T) {
	if !apart(t) {
		return
	}
	var broken atomic.Bool
	mem := vfs.NewCrashableMem()
	o := Options{DataDir: "data", SysInterval: -1, ShutdownGrace: time.Second}
	o.dataFS = errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSyncData && broken.Load() {
			return errors.New("injected")
		}
		return nil
	}))
	r := start(t, o)
	a, _ := r.connect(packet.Connect{ClientID: "a", SessionExpiry: 1000})
	a.subscribe("q/#", 2)
	p, _ := r.connect(packet.Connect{ClientID: "p", SessionExpiry: 1000})
	broken.Store(true)
	p.send(message("q/1", "one", 2, 1))
	if d := expect[*packet.Disconnect](p); d.Code != packet.UnspecifiedError {
		t.Errorf("got %v", d)
	}
	p.closed()
	for _, percent := range []int{0, 100} {
		o := o
		o.dataFS = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(1, 2))})
		r := start(t, o)
		p, _ := r.connect(packet.Connect{ClientID: "p", SessionExpiry: 1000})
		p.acked(message("q/1", "one", 2, 1))
		p.acked(message("q/2", "two", 2, 1))
		a, _ := r.connect(packet.Connect{ClientID: "a", SessionExpiry: 1000})
		for _, want := range []string{"one", "two"} {
			m := expect[*packet.Publish](a)
			if string(m.Payload()) != want {
				t.Errorf("%d %%: got %s, want %s", percent, m.Payload(), want)
			}
		}
	}
}
