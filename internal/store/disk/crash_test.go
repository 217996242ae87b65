package disk

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/store/storetest"
	"github.com/myelin-mqtt/myelin/packet"
)

// answer waits for one completion.
type answer chan error

func (a answer) Done(_ uint64, err error) { a <- err }

func await[T any](t testing.TB, c <-chan T) (x T) {
	t.Helper()
	timeout := time.NewTimer(20 * time.Second)
	defer timeout.Stop()
	select {
	case x = <-c:
	case <-timeout.C:
		t.Fatal("nothing comes")
	}
	return x
}

// do makes a call and waits for its completion.
func do(t testing.TB, f func(c store.Completer) (bool, error)) error {
	t.Helper()
	a := make(answer, 1)
	if done, err := f(a); done {
		return err
	}
	return await(t, a)
}

type claimer struct {
	c  chan struct{}
	s  store.Session
	st *store.State
	e  error
}

func (c *claimer) Claimed(s store.Session, st *store.State, err error) {
	c.s, c.st, c.e = s, st, err
	close(c.c)
}
func (*claimer) Ready() {}

func claim(t testing.TB, e *Engine, r store.ClaimReq) *claimer {
	t.Helper()
	c := &claimer{c: make(chan struct{})}
	e.Claim(r, c)
	await(t, c.c)
	return c
}

func message(t testing.TB, topic, payload string, q packet.QoS, retain bool) *packet.Publish {
	t.Helper()
	m, err := packet.NewPublish(&packet.Message{Topic: topic, Payload: []byte(payload), QoS: q, Retain: retain}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// shut closes an engine; what it says does not matter: its disk is gone.
func shut(e *Engine) { e.Close(timeoutContext()) }

// world does random things one after the other, and knows what must be there
// after a crash.
type world struct {
	t    *testing.T
	r    *rand.Rand
	e    *Engine
	made int

	sessions map[string]*life
	retained map[string]string
}

// life is one session as its client knows it.
type life struct {
	s       store.Session
	online  bool
	expiry  uint32
	subs    map[string]uint32
	inbound map[uint16]bool
	will    string
	waiting []string            // acknowledged to the publisher and not handed out, in order
	open    []store.Delivery    // handed out and not acknowledged, in order
	sent    map[uint16]delivery // QoS 2 by packet identifier
	over    map[string]bool     // acknowledged by the client: may come once more, unless QoS 2
	pid     uint16
}

type delivery struct {
	d        store.Delivery
	recorded bool
}

func body(d store.Delivery) string { return string(d.Msg.Payload()) }

func (w *world) any() (string, *life) {
	id := fmt.Sprint("c", w.r.IntN(5))
	return id, w.sessions[id]
}

func (w *world) step() {
	t := w.t
	id, l := w.any()
	switch do1 := w.r.IntN(24); {
	case do1 < 8:
		w.publish()
	case do1 < 10 || l == nil:
		w.claim(id, l)
	case do1 < 12:
		w.next(l)
	case do1 < 15:
		w.ack(l)
	case do1 < 17 && l.online:
		f := fmt.Sprint("f/", w.r.IntN(6))
		l.subs[f] = uint32(w.r.IntN(9))
		if err := do(t, func(c store.Completer) (bool, error) {
			return l.s.Subscribe([]store.Sub{{Filter: f, ID: l.subs[f]}}, c, 0), nil
		}); err != nil {
			t.Fatal(err)
		}
	case do1 < 18 && l.online:
		f := fmt.Sprint("f/", w.r.IntN(6))
		delete(l.subs, f)
		do(t, func(c store.Completer) (bool, error) { return l.s.Unsubscribe([]string{f}, c, 0), nil })
	case do1 < 20:
		for pid := range l.inbound {
			delete(l.inbound, pid)
			do(t, func(c store.Completer) (bool, error) { return l.s.Release2(pid, c, 0), nil })
			break
		}
	case do1 < 22 && l.online:
		l.online = false
		armed := w.r.IntN(2) == 0
		if !armed {
			l.will = ""
		}
		l.s.Detach(l.expiry, armed, nil, 0)
		w.flush()
	case do1 == 23 && w.r.IntN(4) == 0:
		l.s.End(nil, 0)
		delete(w.sessions, id)
		w.flush()
	}
}

// flush waits until all that was done before is on the disk.
func (w *world) flush() {
	if err := do(w.t, func(c store.Completer) (bool, error) {
		return w.e.Publish(message(w.t, "flush", "x", 1, true), nil, store.Inbound{}, c, 0)
	}); err != nil {
		w.t.Fatal(err)
	}
	w.retained["flush"] = "x"
}

func (w *world) publish() {
	w.made++
	name, text := fmt.Sprint("t/", w.r.IntN(4)), fmt.Sprint(w.made)
	retain := w.r.IntN(4) == 0
	if retain && w.r.IntN(4) == 0 {
		text = ""
	}
	q := packet.QoS(1 + w.r.IntN(2))
	var to []store.Target
	var in store.Inbound
	var peers []*life
	for _, id := range []string{"c0", "c1", "c2", "c3", "c4"} {
		l := w.sessions[id]
		if l == nil {
			continue
		}
		if text != "" && w.r.IntN(2) == 0 {
			to, peers = append(to, store.Target{To: l.s, QoS: q, Sub: uint32(w.r.IntN(2))}), append(peers, l)
		}
		if q == 2 && in.From == nil && w.r.IntN(3) == 0 {
			in = store.Inbound{From: l.s, ID: uint16(1 + w.r.IntN(5))}
			l.inbound[in.ID] = true
		}
	}
	if err := do(w.t, func(c store.Completer) (bool, error) {
		return w.e.Publish(message(w.t, name, text, q, retain), to, in, c, 0)
	}); err != nil {
		w.t.Fatal(err)
	}
	for _, l := range peers {
		l.waiting = append(l.waiting, text)
	}
	switch {
	case retain && text == "":
		delete(w.retained, name)
	case retain:
		w.retained[name] = text
	}
}

func (w *world) claim(id string, l *life) {
	if l != nil && l.online {
		return
	}
	r := store.ClaimReq{ClientID: id, Expiry: uint32(1 + w.r.IntN(100)), Clean: w.r.IntN(6) == 0}
	text := ""
	if w.r.IntN(2) == 0 {
		w.made++
		text = fmt.Sprint(w.made)
		r.Will = &store.Will{Msg: message(w.t, "will", text, 1, false), Delay: 7}
	}
	c := claim(w.t, w.e, r)
	if c.e != nil {
		w.t.Fatal(c.e)
	}
	if l == nil || r.Clean {
		l = &life{subs: map[string]uint32{}, inbound: map[uint16]bool{}, sent: map[uint16]delivery{}, over: map[string]bool{}}
		w.sessions[id] = l
	}
	l.s, l.online, l.expiry, l.will = c.s, true, r.Expiry, text
}

func (w *world) next(l *life) (n int) {
	if !l.online {
		return 0
	}
	buf := make([]store.Delivery, 1+w.r.IntN(4))
	n, _ = next(l.s, buf, 1000)
	for _, d := range buf[:n] {
		if l.over[body(d)] && d.QoS == 1 { // it comes again after a crash
			l.s.Ack(d.LSN)
			continue
		}
		if len(l.waiting) == 0 || l.waiting[0] != body(d) {
			w.t.Fatalf("Next gives %s, want the first of %s", body(d), l.waiting)
		}
		l.waiting = l.waiting[1:]
		l.open = append(l.open, d)
		if d.QoS == 2 {
			l.pid++
			l.sent[l.pid] = delivery{d: d}
			if err := do(w.t, func(c store.Completer) (bool, error) { return l.s.Sent2(d.LSN, l.pid, c, 0), nil }); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	return n
}

// ack goes on with one message that was handed out.
func (w *world) ack(l *life) {
	if len(l.open) == 0 {
		return
	}
	i := w.r.IntN(len(l.open))
	d := l.open[i]
	if d.QoS == 2 {
		for pid, x := range l.sent {
			switch {
			case x.d.LSN != d.LSN:
			case !x.recorded:
				l.sent[pid] = delivery{d, true}
				if err := do(w.t, func(c store.Completer) (bool, error) { return l.s.Received2(pid, c, 0), nil }); err != nil {
					w.t.Fatal(err)
				}
				return
			default: // what the PUBCOMP ended may still be there after a crash: its PUBREL is sent again
				delete(l.sent, pid)
			}
		}
	}
	l.s.Ack(d.LSN)
	l.over[body(d)] = true
	l.open = slices.Delete(l.open, i, i+1)
}

// reopen compares what is stored on fs with what must be there, and goes on.
func (w *world) reopen(fs vfs.FS) {
	t := w.t
	sound(t, "data", fs)
	e, err := Open(Options{Dir: "data", FS: fs, CacheBytes: 2000})
	if err != nil {
		t.Fatal(err)
	}
	shut(w.e)
	w.e = e
	seen := map[string]*store.Stored{}
	if err := e.Recover(func(s *store.Stored) bool { seen[s.ClientID] = s; return true }); err != nil {
		t.Fatal(err)
	}
	if len(seen) != len(w.sessions) {
		t.Fatalf("%d sessions, want %d", len(seen), len(w.sessions))
	}
	for id, l := range w.sessions {
		s := seen[id]
		if s == nil {
			t.Fatalf("session %s is gone", id)
		}
		w.compare(id, l, s)
	}
	got := map[string]string{}
	c := e.Retained("#")
	for c.Next(100, func(name string, m *packet.Publish) bool { got[name] = string(m.Payload()); return true }) {
	}
	if fmt.Sprint(got) != fmt.Sprint(w.retained) {
		t.Fatalf("retained %v, want %v", got, w.retained)
	}
}

func (w *world) compare(id string, l *life, s *store.Stored) {
	t := w.t
	t.Helper()
	subs := map[string]uint32{}
	for _, x := range s.Subs {
		subs[x.Filter] = x.ID
	}
	if fmt.Sprint(subs) != fmt.Sprint(l.subs) {
		t.Fatalf("%s: subscriptions %v, want %v", id, subs, l.subs)
	}
	inbound := map[uint16]bool{}
	for _, x := range s.Inbound {
		inbound[x] = true
	}
	if fmt.Sprint(inbound) != fmt.Sprint(l.inbound) {
		t.Fatalf("%s: inbound %v, want %v", id, inbound, l.inbound)
	}
	will := ""
	if s.Will != nil {
		will = string(s.Will.Msg.Payload())
	}
	if will != l.will || s.Expiry != l.expiry || (s.Will != nil) != s.WillArmed {
		t.Fatalf("%s: will %q armed %v, expiry %d, want %q, %d", id, will, s.WillArmed, s.Expiry, l.will, l.expiry)
	}
	var open []store.Delivery
	sent := map[uint16]delivery{}
	for _, o := range s.Out {
		x, known := l.sent[o.ID]
		switch {
		case !known && !o.Recorded:
			t.Fatalf("%s: %d is in flight, and was not sent", id, o.ID)
		case !known: // its PUBCOMP came, and was not written
			s.Session.Ack(o.LSN)
			continue
		case x.recorded != o.Recorded || !o.Recorded && body(o.Delivery) != body(x.d):
			t.Fatalf("%s: %d is %+v, want %+v", id, o.ID, o, x)
		}
		sent[o.ID] = x
		x.d.LSN = o.LSN
		open = append(open, x.d)
	}
	if len(sent) != len(l.sent) {
		t.Fatalf("%s: %d of QoS 2 in flight, want %d", id, len(sent), len(l.sent))
	}
	// What was handed out at QoS 1 waits again, in its order, before the rest.
	var again []string
	for _, d := range l.open {
		if d.QoS == 1 {
			again = append(again, body(d))
		}
	}
	l.s, l.online, l.open = s.Session, false, open
	l.waiting = append(again, l.waiting...)
}

// TestCrash loses power at random moments; what is not synced is gone, or not.
func TestCrash(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 7))
			fs := vfs.NewCrashableMem()
			e, err := Open(Options{Dir: "data", FS: fs})
			if err != nil {
				t.Fatal(err)
			}
			w := &world{t: t, r: r, e: e, sessions: map[string]*life{}, retained: map[string]string{}}
			defer func() { shut(w.e) }()
			for range 8 {
				for range r.IntN(120) {
					w.step()
				}
				cfg := vfs.CrashCloneCfg{}
				if r.IntN(2) == 0 {
					cfg = vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(seed, 8))}
				}
				fs = fs.CrashClone(cfg)
				w.reopen(fs)
				if t.Failed() {
					return
				}
			}
			w.drain()
		})
	}
}

// drain wants each message that was acknowledged, and nothing else.
func (w *world) drain() {
	for id, l := range w.sessions {
		if !l.online {
			w.claim(id, l)
			l = w.sessions[id]
		}
		for w.next(l) > 0 {
		}
		if len(l.waiting) > 0 {
			w.t.Errorf("%s does not get %s", id, l.waiting)
		}
	}
}

// TestCrashUnderLoad loses power while publishers run: what was acknowledged by
// then is there, in order.
func TestCrashUnderLoad(t *testing.T) {
	fs := vfs.NewCrashableMem()
	e, err := Open(Options{Dir: "data", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { shut(e) }()
	var to []store.Target
	for i := range 3 {
		to = append(to, store.Target{To: claim(t, e, store.ClaimReq{ClientID: fmt.Sprint(i), Expiry: 100}).s, QoS: 1})
	}
	const publishers = 4
	for round := range 10 {
		var mu sync.Mutex
		acked := [publishers]int{}
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for p := range publishers {
			wg.Go(func() {
				for i := 1; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					if err := do(t, func(c store.Completer) (bool, error) {
						return e.Publish(message(t, fmt.Sprintf("%d/%d/%d", round, p, i), "x", 1, false), to, store.Inbound{}, c, 0)
					}); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					acked[p] = i
					mu.Unlock()
				}
			})
		}
		time.Sleep(time.Duration(3+round) * time.Millisecond) // the moment of the crash is random: the test waits for nothing
		mu.Lock()
		want := acked
		mu.Unlock()
		clone := fs.CrashClone(vfs.CrashCloneCfg{})
		close(stop)
		wg.Wait()
		shut(e)
		fs = clone
		if e, err = Open(Options{Dir: "data", FS: fs, CacheBytes: 1}); err != nil {
			t.Fatal(err)
		}
		to = to[:0]
		e.Recover(func(s *store.Stored) bool {
			to = append(to, store.Target{To: s.Session, QoS: 1})
			last := [publishers]int{}
			buf := make([]store.Delivery, 64)
			for more := true; more; {
				var n int
				n, more = next(s.Session, buf, 0)
				for _, d := range buf[:n] {
					var r, p, i int
					fmt.Sscanf(string(d.Msg.Topic()), "%d/%d/%d", &r, &p, &i)
					s.Session.Ack(d.LSN)
					if r != round { // its cursor was not written
						continue
					}
					if i != last[p]+1 {
						t.Errorf("%s after message %d", d.Msg.Topic(), last[p])
					}
					last[p] = i
				}
			}
			for p := range last {
				if last[p] < want[p] {
					t.Errorf("session %s: publisher %d: %d messages, %d were acknowledged", s.ClientID, p, last[p], want[p])
				}
			}
			return true
		})
		if len(to) != 3 {
			t.Fatalf("%d sessions", len(to))
		}
	}
}

// TestWriteFails has each operation fail that changes something. From a fault at
// the log, the manifest or a sync on, nothing is acknowledged; what fails of a
// table but its sync is done again.
func TestWriteFails(t *testing.T) {
	fault := errors.New("injected")
	for n, hit := int64(1), true; hit; n++ {
		inner := vfs.NewCrashableMem()
		var armed atomic.Bool
		var ops atomic.Int64
		var op atomic.Pointer[errorfs.Op]
		o := Options{Dir: "data", MemTableBytes: 64 << 10, SegmentMessages: 5, CacheBytes: 1}
		o.FS = errorfs.Wrap(inner, errorfs.InjectorFunc(func(x errorfs.Op) error {
			if !armed.Load() || x.Kind.ReadOrWrite() == errorfs.OpIsRead || x.Kind == errorfs.OpFileClose || ops.Add(1) != n {
				return nil
			}
			op.Store(&x)
			return fault
		}))
		e, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		s := claim(t, e, store.ClaimReq{ClientID: "a", Expiry: 100}).s
		armed.Store(true)
		var failed error
		acked := 0
		large := strings.Repeat("x", 2000)
		for i := range 60 {
			err := do(t, func(c store.Completer) (bool, error) {
				return e.Publish(message(t, fmt.Sprint(i), large, 1, false), []store.Target{{To: s, QoS: 1}}, store.Inbound{}, c, 0)
			})
			switch {
			case failed != nil && err == nil:
				t.Fatalf("fault %d: acknowledged after %v", n, failed)
			case failed == nil && err == nil:
				acked++
			}
			if err != nil && !errors.Is(err, ErrFailed) {
				t.Fatalf("fault %d: %v", n, err)
			}
			failed = errors.Join(failed, err)
		}
		clone := inner.CrashClone(vfs.CrashCloneCfg{})
		hit = op.Load() != nil
		if x := op.Load(); hit && x.Kind == errorfs.OpFileSyncData && strings.HasSuffix(x.Path, ".log") && failed == nil {
			t.Errorf("fault %d: nothing failed", n)
		}
		if failed != nil {
			if err := do(t, func(c store.Completer) (bool, error) {
				return s.Subscribe([]store.Sub{{Filter: "a"}}, c, 0), nil
			}); err == nil {
				t.Errorf("fault %d: SUBACK after the failure", n)
			}
			if c := claim(t, e, store.ClaimReq{ClientID: "b", Expiry: 1}); c.e == nil {
				t.Errorf("fault %d: CONNACK after the failure", n)
			}
		}
		shut(e)
		if e, err = Open(Options{Dir: "data", FS: clone}); err != nil {
			t.Fatal(err)
		}
		if got := e.Stats().Queued; got < acked {
			t.Errorf("fault %d: %d messages, %d were acknowledged", n, got, acked)
		}
		shut(e)
		if !hit {
			t.Log(n-1, "operations")
		}
	}
}

func TestFormat(t *testing.T) {
	fs := vfs.NewMem()
	e := open(t, Options{Dir: "data", FS: fs}, storetest.Limits{})
	e.db.Set([]byte(keyFormat), []byte{format + 1}, nil)
	shut(e)
	if _, err := Open(Options{Dir: "data", FS: fs}); err == nil {
		t.Error("a newer format is opened")
	} else {
		t.Log(err)
	}
}

// TestLock: a directory is opened once.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	e := open(t, Options{Dir: dir}, storetest.Limits{})
	defer shut(e)
	if _, err := Open(Options{Dir: dir}); err == nil {
		t.Error("a second engine has the directory")
	} else {
		t.Log(err)
	}
}

// TestOpenFails has each operation of Open fail that changes something: it says
// so, and what was there is there the next time.
func TestOpenFails(t *testing.T) {
	fault := errors.New("injected")
	before := vfs.NewCrashableMem()
	e, err := Open(Options{Dir: "data", FS: before})
	if err != nil {
		t.Fatal(err)
	}
	claim(t, e, store.ClaimReq{ClientID: "a", Expiry: 100})
	shut(e)
	for _, fresh := range []bool{true, false} {
		for n, hit := int64(1), true; hit; n++ {
			fs := vfs.NewCrashableMem()
			if !fresh {
				fs = before.CrashClone(vfs.CrashCloneCfg{})
			}
			var ops atomic.Int64
			e, err := Open(Options{Dir: "data", FS: errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpFileClose && ops.Add(1) == n {
					return fault
				}
				return nil
			}))})
			hit = ops.Load() >= n
			if err == nil {
				shut(e)
			}
			e, err = Open(Options{Dir: "data", FS: fs.CrashClone(vfs.CrashCloneCfg{})})
			if err != nil {
				t.Fatalf("operation %d had failed: %v", n, err)
			}
			if got := e.Stats().Sessions; !fresh && got != 1 {
				t.Errorf("operation %d had failed: %d sessions", n, got)
			}
			shut(e)
		}
	}
}
