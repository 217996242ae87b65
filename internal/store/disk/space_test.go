package disk

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/store/disk/quota"
	"github.com/myelin-mqtt/myelin/packet"
)

// eventually waits until a condition holds that another goroutine brings about.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); {
		if time.Now().After(end) {
			t.Fatalf("%s: never", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// tight opens an engine on a file system with a limit.
func tight(t testing.TB, fs vfs.FS, o Options) *Engine {
	t.Helper()
	o.Dir, o.FS, o.pause = "data", fs, time.Millisecond
	if o.MinFreeBytes == 0 {
		o.MinFreeBytes = 1 << 20
	}
	if o.ReserveBytes == 0 {
		o.ReserveBytes = 100_000
	}
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(e) })
	return e
}

// becomes waits for a state of the engine.
func (e *Engine) becomes(t testing.TB, h store.Health) {
	t.Helper()
	eventually(t, "the store is "+h.String(), func() bool {
		e.space.wake()
		return e.Stats().State == h
	})
}

func (e *Engine) push(t testing.TB, m *packet.Publish, to ...store.Session) error {
	t.Helper()
	var all []store.Target
	for _, s := range to {
		all = append(all, store.Target{To: s, QoS: min(m.QoS(), 1)})
	}
	return do(t, func(c store.Completer) (bool, error) { return e.Publish(m, all, store.Inbound{}, c, 0) })
}

// logged collects what is logged.
type logged struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

// bodies are the payloads that wait for a session, all of them.
func bodies(s store.Session) (all []string) {
	buf := make([]store.Delivery, 64)
	for more := true; more; {
		var n int
		n, more = next(s, buf, 1000)
		for _, d := range buf[:n] {
			all = append(all, body(d))
		}
	}
	return all
}

// TestDiskFull: below the mark what would need room is refused, and all else
// goes on; with room again everything does.
func TestDiskFull(t *testing.T) {
	fs, log := quota.New(vfs.NewMem(), 100<<20), new(logged)
	var mu sync.Mutex
	var dropped []string
	e := tight(t, fs, Options{Logger: slog.New(slog.NewTextHandler(log, nil)), OnDrop: func(_ string, m *packet.Publish, why store.Reason) {
		mu.Lock()
		defer mu.Unlock()
		dropped = append(dropped, fmt.Sprint(string(m.Topic()), " ", why))
	}})
	if _, err := fs.Stat("data/" + reserveName); err != nil {
		t.Errorf("there is no reserve: %v", err)
	}
	a := claim(t, e, store.ClaimReq{ClientID: "a", Expiry: 100, Will: &store.Will{Msg: message(t, "w", "will", 1, false)}})
	for _, m := range []*packet.Publish{message(t, "t", "1", 1, false), message(t, "r/1", "x", 1, true), message(t, "r/2", "x", 1, true)} {
		if err := e.push(t, m, a.s); err != nil {
			t.Fatal(err)
		}
	}
	fs.Leave(1<<20 - 1)
	e.becomes(t, store.Full)
	for what, err := range map[string]error{
		"a target": e.push(t, message(t, "t", "2", 1, false), a.s),
		"retained": e.push(t, message(t, "r/1", "2", 1, true)),
		"an identifier": do(t, func(c store.Completer) (bool, error) {
			return e.Publish(message(t, "t", "2", 2, false), nil, store.Inbound{From: a.s, ID: 7}, c, 0)
		}),
		"QoS 0 with a target": e.push(t, message(t, "t", "2", 0, false), a.s),
	} {
		if err != store.ErrFull || !errors.Is(err, store.ErrQuota) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, err := range map[string]error{
		"nobody":          e.push(t, message(t, "t", "3", 1, false)),
		"clear":           e.push(t, message(t, "r/1", "", 1, true)),
		"QoS 0, retained": e.push(t, message(t, "r/2", "3", 0, true)),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := e.Stats().Retained; n != 0 {
		t.Errorf("%d messages are retained", n)
	}
	mu.Lock()
	if want := []string{fmt.Sprint("r/2 ", store.DiskFull)}; !slices.Equal(dropped, want) {
		t.Errorf("dropped %q, want %q", dropped, want)
	}
	mu.Unlock()
	b := claim(t, e, store.ClaimReq{ClientID: "b", Expiry: 100})
	if b.e != nil {
		t.Errorf("claim: %v", b.e)
	}
	if err := do(t, func(c store.Completer) (bool, error) { return b.s.Subscribe([]store.Sub{{Filter: "t"}}, c, 0), nil }); err != nil {
		t.Errorf("subscribe: %v", err)
	}
	if err := do(t, func(c store.Completer) (bool, error) {
		return e.Publish(message(t, "w", "will", 1, false), []store.Target{{To: b.s, QoS: 1}}, store.Inbound{Fired: a.s}, c, 0)
	}); err != nil {
		t.Errorf("will: %v", err)
	}
	if got := bodies(a.s); !slices.Equal(got, []string{"1", "x", "x"}) {
		t.Errorf("delivered %q", got)
	}
	fs.SetLimit(100 << 20)
	e.becomes(t, store.Healthy)
	if err := e.push(t, message(t, "t", "4", 1, false), a.s, b.s); err != nil {
		t.Errorf("room again: %v", err)
	}
	for s, n := range map[string]int{"level=ERROR": 1, "disk is full: durable messages are refused": 1, "disk has room again": 1} {
		eventually(t, s, func() bool { return log.count(s) >= n })
		if log.count(s) != n {
			t.Errorf("logged %d times, want %d: %s", log.count(s), n, s)
		}
	}
	shut(e)
	e = tight(t, fs, Options{})
	if got := bodies(claim(t, e, store.ClaimReq{ClientID: "b", Expiry: 100}).s); !slices.Equal(got, []string{"will", "4"}) {
		t.Errorf("after a restart %q", got)
	}
}

// TestDiskFullHysteresis: a little more room than the mark is not enough.
func TestDiskFullHysteresis(t *testing.T) {
	fs := quota.New(vfs.NewMem(), 100<<20)
	e := tight(t, fs, Options{})
	fs.Leave(1<<20 - 1)
	e.becomes(t, store.Full)
	fs.Leave(1<<20 + 1<<18 - 1)
	e.space.look()
	if e.Stats().State != store.Full {
		t.Error("it has recovered too early")
	}
	fs.Leave(1<<20 + 1<<18)
	e.becomes(t, store.Healthy)
}

// patience is a Completer that is told that it is late.
type patience struct {
	done chan error
	late chan struct{}
}

func (p *patience) Done(_ uint64, err error) { p.done <- err }
func (p *patience) Late(uint64) {
	select {
	case p.late <- struct{}{}:
	default:
	}
}

// stick publishes a message that finds no room at all.
func stick(t *testing.T, e *Engine, fs *quota.FS, s store.Session) *patience {
	t.Helper()
	fs.FailFrom(1)
	p := &patience{make(chan error, 2), make(chan struct{}, 1)}
	if done, err := e.Publish(message(t, "t", "stuck", 2, false), []store.Target{{To: s, QoS: 1}}, store.Inbound{From: s, ID: 5}, p, 0); done {
		t.Fatalf("publish: done, %v", err)
	}
	eventually(t, "the log has no room", func() bool { return e.space.log.Load() > 0 })
	return p
}

// TestStuck: while a commit waits for room, what would wait behind it is
// refused, who waits is told, and everything goes on when there is room.
func TestStuck(t *testing.T) {
	fs := quota.New(vfs.NewMem(), 100<<20)
	e := tight(t, fs, Options{})
	a := claim(t, e, store.ClaimReq{ClientID: "a", Expiry: 100})
	if err := e.push(t, message(t, "t", "1", 1, false), a.s); err != nil {
		t.Fatal(err)
	}
	p := stick(t, e, fs, a.s)
	if _, err := fs.Stat("data/" + reserveName); err == nil {
		t.Error("the reserve is there")
	}
	if err := e.push(t, message(t, "t", "2", 1, false), a.s); err != store.ErrFull {
		t.Errorf("publish: %v", err)
	}
	if c := claim(t, e, store.ClaimReq{ClientID: "b", Expiry: 100}); c.e != store.ErrFull {
		t.Errorf("claim: %v", c.e)
	}
	if c := claim(t, e, store.ClaimReq{ClientID: "b"}); c.e != nil {
		t.Errorf("claim of what is not stored: %v", c.e)
	}
	if err := do(t, func(c store.Completer) (bool, error) { return a.s.Subscribe([]store.Sub{{Filter: "t"}}, c, 0), nil }); err != store.ErrFull {
		t.Errorf("subscribe: %v", err)
	}
	if got := bodies(a.s); !slices.Equal(got, []string{"1", "stuck"}) {
		t.Errorf("delivered %q", got)
	}
	released := make(answer, 1)
	if done := a.s.Release2(5, released, 0); done {
		t.Error("the identifier is not held")
	}
	e.mu.Lock()
	e.sealed = e.sealed.Add(-lateness)
	e.mu.Unlock()
	await(t, p.late)
	select {
	case err := <-p.done:
		t.Errorf("done without room: %v", err)
	default:
	}
	fs.FailFrom(0)
	if err := await(t, p.done); err != nil {
		t.Errorf("room again: %v", err)
	}
	if err := await(t, released); err != nil {
		t.Errorf("release: %v", err)
	}
	e.becomes(t, store.Healthy)
	if err := e.push(t, message(t, "t", "3", 1, false), a.s); err != nil {
		t.Errorf("publish: %v", err)
	}
	select {
	case err := <-p.done:
		t.Errorf("done twice: %v", err)
	default:
	}
}

// TestStuckClose: an engine without room is closed, what waits is not
// acknowledged, and the next one has all that was.
func TestStuckClose(t *testing.T) {
	mem := vfs.NewCrashableMem()
	fs := quota.New(mem, 100<<20)
	e := tight(t, fs, Options{})
	a := claim(t, e, store.ClaimReq{ClientID: "a", Expiry: 100})
	if err := e.push(t, message(t, "t", "1", 1, false), a.s); err != nil {
		t.Fatal(err)
	}
	p := stick(t, e, fs, a.s)
	if err := e.Close(timeoutContext()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("close: %v", err)
	}
	if err := await(t, p.done); !errors.Is(err, ErrFailed) {
		t.Errorf("publish: %v", err)
	}
	e = tight(t, mem.CrashClone(vfs.CrashCloneCfg{}), Options{})
	if got := bodies(claim(t, e, store.ClaimReq{ClientID: "a", Expiry: 100}).s); !slices.Equal(got, []string{"1"}) {
		t.Errorf("after a restart %q", got)
	}
}

// TestSyncFindsNoRoom: a sync that fails is the end of acknowledgements, also
// where it fails for want of room.
func TestSyncFindsNoRoom(t *testing.T) {
	fs := quota.New(vfs.NewMem(), 100<<20)
	e := tight(t, fs, Options{})
	a := claim(t, e, store.ClaimReq{ClientID: "a", Expiry: 100})
	fs.FailSyncs(syscall.ENOSPC)
	if err := e.push(t, message(t, "t", "1", 1, false), a.s); !errors.Is(err, ErrFailed) {
		t.Errorf("publish: %v", err)
	}
	fs.FailSyncs(nil)
	if err := e.push(t, message(t, "t", "2", 1, false), a.s); !errors.Is(err, ErrFailed) {
		t.Errorf("publish: %v", err)
	}
	if h := e.Stats().State; h != store.Failed {
		t.Errorf("the state is %v", h)
	}
	if got := bodies(a.s); !slices.Equal(got, []string{"1"}) {
		t.Errorf("delivered %q", got)
	}
}

// TestTableSyncFails: the same where it is the sync of a table in the background.
func TestTableSyncFails(t *testing.T) {
	var broken bool
	var mu sync.Mutex
	fs := &syncFS{FS: vfs.NewMem(), fail: func(name string) bool {
		mu.Lock()
		defer mu.Unlock()
		return broken && strings.HasSuffix(name, ".sst")
	}}
	e := tight(t, fs, Options{MemTableBytes: 64 << 10})
	a := claim(t, e, store.ClaimReq{ClientID: "a", Expiry: 100})
	mu.Lock()
	broken = true
	mu.Unlock()
	var err error
	for range 1000 {
		if err = e.push(t, message(t, "t", strings.Repeat("x", 1000), 1, false), a.s); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrFailed) {
		t.Errorf("publish: %v", err)
	}
	mu.Lock()
	broken = false
	mu.Unlock()
}

// syncFS fails the syncs of some files.
type syncFS struct {
	vfs.FS
	fail func(name string) bool
}

func (f *syncFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	x, err := f.FS.Create(name, c)
	return &syncFile{x, f, name}, err
}

type syncFile struct {
	vfs.File
	fs   *syncFS
	name string
}

func (f *syncFile) Sync() error { return f.SyncData() }

func (f *syncFile) SyncData() error {
	if f.fs.fail(f.name) {
		return syscall.EIO
	}
	return f.File.SyncData()
}

// TestHiddenQuota: where the free room does not show the user's quota, the disk
// is full until the reserve can be made again.
func TestHiddenQuota(t *testing.T) {
	fs := quota.New(vfs.NewMem(), 100<<20)
	fs.Hide(true)
	e := tight(t, fs, Options{})
	a := claim(t, e, store.ClaimReq{ClientID: "a", Expiry: 100})
	fs.Leave(10_000)
	big := strings.Repeat("x", 20_000)
	if err := e.push(t, message(t, "t", big, 1, false), a.s); err != nil { // in the reserve
		t.Fatal(err)
	}
	if err := e.push(t, message(t, "t", big, 1, false), a.s); err != store.ErrFull {
		t.Errorf("publish: %v", err)
	}
	e.space.hit.Store(0)
	e.space.look()
	if h := e.Stats().State; h != store.Full {
		t.Errorf("the state is %v", h)
	}
	fs.SetLimit(100 << 20)
	e.becomes(t, store.Healthy)
	if err := e.push(t, message(t, "t", "small", 1, false), a.s); err != nil {
		t.Error(err)
	}
}

// TestOpenOnAFullDisk: the reserve lets it open; without one it says why not.
func TestOpenOnAFullDisk(t *testing.T) {
	mem := vfs.NewMem()
	fs := quota.New(mem, 100<<20)
	e := tight(t, fs, Options{})
	a := claim(t, e, store.ClaimReq{ClientID: "a", Expiry: 100})
	if err := e.push(t, message(t, "t", "1", 1, false), a.s); err != nil {
		t.Fatal(err)
	}
	shut(e)
	fs.Leave(0)
	e = tight(t, fs, Options{})
	if h := e.Stats().State; h != store.Full {
		t.Errorf("the state is %v", h)
	}
	if got := bodies(claim(t, e, store.ClaimReq{ClientID: "a", Expiry: 100}).s); !slices.Equal(got, []string{"1"}) {
		t.Errorf("delivered %q", got)
	}
	shut(e)
	fs.Leave(0)
	mem.Remove("data/" + reserveName)
	if _, err := Open(Options{Dir: "data", FS: fs, pause: time.Millisecond}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("open: %v", err)
	}
	fs.SetLimit(100 << 20)
	eventually(t, "the directory is free", func() bool {
		e, err := Open(Options{Dir: "data", FS: fs})
		if err == nil {
			shut(e)
		}
		return err == nil
	})
}

// TestOtherDisk: what is written outside the data directory, as a backup is,
// fails as it does, and does not make the disk full.
func TestOtherDisk(t *testing.T) {
	fs := quota.New(vfs.NewMem(), 100<<20)
	e := tight(t, fs, Options{})
	fs.FailFrom(1)
	if _, err := e.space.wrap().Create("database/x", vfs.WriteCategoryUnspecified); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("create: %v", err)
	}
	if e.space.full.Load() {
		t.Error("the disk is full")
	}
}

// TestNoRoomAnywhere: there is no room from the n-th operation on, and some
// later: everything goes on, and what was acknowledged is there after a crash.
func TestNoRoomAnywhere(t *testing.T) {
	last := 400
	if testing.Short() {
		last = 40
	}
	passed := 0
	for n := 1; n <= last; n += 1 + n/20 {
		if !noRoomFrom(t, n) {
			break
		}
		passed++
	}
	t.Logf("%d places without room", passed)
	if passed < 20 {
		t.Error("too few")
	}
}

// tally remembers which messages were acknowledged.
type tally struct {
	mu    sync.Mutex
	acked []uint64
	other []error
	open  int
}

func (y *tally) Done(tok uint64, err error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.open--
	if err == nil {
		y.acked = append(y.acked, tok)
	} else {
		y.other = append(y.other, err)
	}
}

func (y *tally) count() (acked, open int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	return len(y.acked), y.open
}

// noRoomFrom is one run; false: there are not so many operations.
func noRoomFrom(t *testing.T, n int) bool {
	mem := vfs.NewCrashableMem()
	fs := quota.New(mem, 1<<40)
	e := tight(t, fs, Options{MemTableBytes: 64 << 10})
	a := claim(t, e, store.ClaimReq{ClientID: "a", Expiry: 100})
	fs.FailFrom(n)
	y, refused, made := new(tally), 0, uint64(0)
	publish := func() {
		made++
		y.mu.Lock()
		y.open++
		y.mu.Unlock()
		m := message(t, "t", fmt.Sprintf("%d %01000d", made, 0), 1, false)
		done, err := e.Publish(m, []store.Target{{To: a.s, QoS: 1}}, store.Inbound{}, y, made)
		if done {
			y.mu.Lock()
			y.open--
			y.mu.Unlock()
			if refused++; err != store.ErrFull {
				t.Fatalf("%d: publish: %v", n, err)
			}
		}
	}
	for made < 2000 && refused == 0 {
		if publish(); made%8 == 0 {
			eventually(t, "no room, or it goes on", func() bool {
				_, open := y.count()
				return open < 64 || e.space.full.Load()
			})
		}
	}
	fs.FailFrom(0) // also for Close: the database ends the process when it cannot begin a new log
	if refused == 0 {
		return false
	}
	e.becomes(t, store.Healthy)
	before, _ := y.count()
	for range 100 {
		publish()
	}
	eventually(t, "all are acknowledged", func() bool { _, open := y.count(); return open == 0 })
	if after, _ := y.count(); after < before+100 || len(y.other) > 0 {
		t.Fatalf("%d: %d acknowledged, then %d; %v", n, before, after, y.other)
	}
	acked := y.acked // in the order of publishing
	again := tight(t, mem.CrashClone(vfs.CrashCloneCfg{}), Options{})
	var got []uint64
	for _, s := range bodies(claim(t, again, store.ClaimReq{ClientID: "a", Expiry: 100}).s) {
		var k uint64
		fmt.Sscan(s, &k)
		got = append(got, k)
	}
	if !slices.Equal(got, acked) {
		t.Fatalf("%d: after a crash %d messages, want %d", n, len(got), len(acked))
	}
	shut(again)
	shut(e)
	return true
}
