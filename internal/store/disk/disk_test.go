package disk

import (
	"bufio"
	"context"
	"fmt"
	"hash/maphash"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/myelin-mqtt/myelin/internal/ids"
	"github.com/myelin-mqtt/myelin/internal/session"
	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/store/storetest"
)

func open(t testing.TB, o Options, l storetest.Limits) *Engine {
	t.Helper()
	o.Limits = session.Limits{Messages: l.Messages, Bytes: l.Bytes, Policy: session.Policy(l.Policy), TotalMessages: l.TotalMessages}
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t testing.TB, l storetest.Limits) store.Engine { return open(t, Options{Dir: t.TempDir()}, l) })
}

// TestContractMem runs the contract in memory, without a cache of messages.
func TestContractMem(t *testing.T) {
	storetest.Run(t, func(t testing.TB, l storetest.Limits) store.Engine {
		return open(t, Options{Dir: "data", FS: vfs.NewMem(), CacheBytes: 1}, l)
	})
}

// TestContractLate runs the contract with completions that come later still.
func TestContractLate(t *testing.T) {
	storetest.Run(t, func(t testing.TB, l storetest.Limits) store.Engine {
		return storetest.Async(open(t, Options{Dir: "data", FS: vfs.NewMem(), Durability: Async}, l), 1)
	})
}

// timeoutContext is for Close, which may hang after a fault of the database.
func timeoutContext() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	context.AfterFunc(ctx, cancel)
	return ctx
}

// TestSpace: what all have acknowledged is deleted.
func TestSpace(t *testing.T) {
	fs := vfs.NewMem()
	e := open(t, Options{Dir: "data", FS: fs}, storetest.Limits{})
	defer func() { shut(e) }()
	c := claim(t, e, store.ClaimReq{ClientID: "a", Expiry: 100})
	buf := make([]store.Delivery, 100)
	for range 4 {
		for i := range 3 * segSize {
			e.Publish(message(t, "t", "x", 1, false), []store.Target{{To: c.s, QoS: 1}}, store.Inbound{}, nil, uint64(i))
		}
		for more := true; more; {
			var n int
			n, more = next(c.s, buf, 0)
			for _, d := range buf[:n] {
				c.s.Ack(d.LSN)
			}
		}
	}
	e.mu.Lock()
	segs, refs := len(e.segs), c.s.(*queue).n()+len(c.s.(*queue).win().given)
	e.mu.Unlock()
	if segs > 2 || refs > 0 {
		t.Errorf("%d segments and %d messages are left", segs, refs)
	}
	shut(e)
	e = open(t, Options{Dir: "data", FS: fs}, storetest.Limits{})
	if s := e.Stats(); s.Queued != 0 {
		t.Errorf("%d come back", s.Queued)
	}
	do(t, func(c store.Completer) (bool, error) { // what was found dead goes with the next group
		return e.Publish(message(t, "r", "x", 1, true), nil, store.Inbound{}, c, 0)
	})
	n := 0
	e.scan('m', func(_, _ []byte) error { n++; return nil })
	if n > 0 {
		t.Errorf("%d keys of messages are left", n)
	}
}

// TestStragglerMemory: one message that nobody takes does not keep those after
// it in memory, and is still there when it is asked for.
func TestStragglerMemory(t *testing.T) {
	e := open(t, Options{Dir: "data", FS: vfs.NewMem(), Durability: Async}, storetest.Limits{})
	defer shut(e)
	slow, c := claim(t, e, store.ClaimReq{ClientID: "slow", Expiry: 100}), claim(t, e, store.ClaimReq{ClientID: "a", Expiry: 100})
	put := func(s store.Session, text string) {
		if err := do(t, func(c store.Completer) (bool, error) {
			return e.Publish(message(t, "t", text, 1, true), []store.Target{{To: s, QoS: 1}}, store.Inbound{}, c, 0)
		}); err != nil {
			t.Fatal(err)
		}
	}
	put(slow.s, "first")
	buf := make([]store.Delivery, 4)
	for range maxGroups + 1000 {
		put(c.s, "x")
		n, _ := next(c.s, buf, 0)
		for _, d := range buf[:n] {
			c.s.Ack(d.LSN)
		}
	}
	e.mu.Lock()
	n := len(e.recent)
	e.mu.Unlock()
	if n > maxGroups+1 {
		t.Errorf("%d groups are in memory", n)
	}
	if n, _ := next(slow.s, buf, 0); n != 1 || string(buf[0].Msg.Payload()) != "first" {
		t.Errorf("%d messages, the first is %v", n, buf[0].Msg)
	}
}

// TestKill kills a process that publishes, again and again: what it had told
// of is there.
func TestKill(t *testing.T) {
	if dir := os.Getenv("MYELIN_TEST_KILL"); dir != "" {
		publishForever(t, dir)
	}
	dir, told := t.TempDir(), 0
	for range 8 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$", "-test.v")
		cmd.Env = append(os.Environ(), "MYELIN_TEST_KILL="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; n < 500+told%300 && lines.Scan(); {
			var i int
			if k, _ := fmt.Sscanf(lines.Text(), "acked %d", &i); k == 1 {
				told = max(told, i)
				n++
			}
		}
		cmd.Process.Kill()
		for lines.Scan() { // what it had told before it died
			var i int
			if k, _ := fmt.Sscanf(lines.Text(), "acked %d\n", &i); k == 1 {
				told = max(told, i)
			}
		}
		cmd.Wait()
	}
	e := open(t, Options{Dir: dir}, storetest.Limits{})
	defer shut(e)
	s := claim(t, e, store.ClaimReq{ClientID: "a", Expiry: 100}).s
	buf := make([]store.Delivery, 100)
	want := 1
	for more := true; more; {
		var n int
		n, more = next(s, buf, 0)
		for _, d := range buf[:n] {
			if got := body(d); got != fmt.Sprint(want) {
				t.Fatalf("message %s, want %d", got, want)
			}
			want++
		}
	}
	if want <= told || told < 1000 {
		t.Errorf("%d messages, %d were acknowledged", want-1, told)
	}
}

func publishForever(t *testing.T, dir string) {
	e := open(t, Options{Dir: dir}, storetest.Limits{})
	s := claim(t, e, store.ClaimReq{ClientID: "a", Expiry: 100}).s
	first, _ := s.Queued()
	window := make(chan answer, 16)
	go func() {
		for i := first + 1; ; i++ {
			a := make(answer, 1)
			window <- a
			if done, err := e.Publish(message(t, "t", fmt.Sprint(i), 1, false), []store.Target{{To: s, QoS: 1}}, store.Inbound{}, a, 0); done {
				panic(err)
			}
		}
	}()
	for i := first + 1; ; i++ {
		if err := <-<-window; err != nil {
			panic(err)
		}
		fmt.Println("acked", i)
	}
}

// BenchmarkPublish: one offline session of 1000 for each message.
func BenchmarkPublish(b *testing.B) {
	for _, w := range []int{1, 1000} {
		b.Run(fmt.Sprint("W=", w), func(b *testing.B) {
			e := open(b, Options{Dir: b.TempDir()}, storetest.Limits{Messages: 1000})
			defer shut(e)
			var to []store.Target
			for i := range 1000 {
				c := claim(b, e, store.ClaimReq{ClientID: fmt.Sprint(i), Expiry: 100})
				c.s.Detach(100, false, nil, 0)
				to = append(to, store.Target{To: c.s, QoS: 1})
			}
			m := message(b, "bench/topic", string(make([]byte, 256)), 1, false)
			room := make(answer, w)
			for range w {
				room <- nil
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if err := <-room; err != nil {
					b.Fatal(err)
				}
				k := i % len(to)
				if done, err := e.Publish(m, to[k:k+1], store.Inbound{}, room, 0); done {
					b.Fatal(err)
				}
			}
			for range w {
				<-room
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}

// BenchmarkFanOut: one message to 10,000 offline sessions, one at a time.
func BenchmarkFanOut(b *testing.B) {
	e := open(b, Options{Dir: b.TempDir()}, storetest.Limits{Messages: 1000})
	defer shut(e)
	var to []store.Target
	for i := range 10000 {
		c := &claimer{c: make(chan struct{})}
		e.Claim(store.ClaimReq{ClientID: fmt.Sprint(i), Expiry: 100}, c)
		if i%1000 == 999 {
			await(b, c.c)
		}
		e.mu.Lock()
		to = append(to, store.Target{To: e.sessions.Get(fmt.Sprint(i)), QoS: 1})
		e.mu.Unlock()
	}
	m := message(b, "bench/topic", string(make([]byte, 256)), 1, false)
	b.ReportAllocs()
	for b.Loop() {
		do(b, func(c store.Completer) (bool, error) { return e.Publish(m, to, store.Inbound{}, c, 0) })
	}
}

// BenchmarkOnline: a subscriber that acknowledges at once: most is never written.
func BenchmarkOnline(b *testing.B) {
	e := open(b, Options{Dir: b.TempDir()}, storetest.Limits{Messages: 1000})
	defer shut(e)
	c := claim(b, e, store.ClaimReq{ClientID: "a", Expiry: 100})
	to := []store.Target{{To: c.s, QoS: 1}}
	m := message(b, "bench/topic", string(make([]byte, 256)), 1, false)
	buf := make([]store.Delivery, 8)
	room := make(answer, 1000)
	for range cap(room) {
		room <- nil
	}
	b.ReportAllocs()
	for b.Loop() {
		<-room
		e.Publish(m, to, store.Inbound{}, room, 0)
		n, _ := next(c.s, buf, 0)
		for _, d := range buf[:n] {
			c.s.Ack(d.LSN)
		}
	}
}

// BenchmarkOpen: a start with a million queued messages of a thousand sessions.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	e := open(b, Options{Dir: dir}, storetest.Limits{})
	var to []store.Target
	for i := range 1000 {
		to = append(to, store.Target{To: claim(b, e, store.ClaimReq{ClientID: fmt.Sprint(i), Expiry: 100}).s, QoS: 1})
	}
	m := message(b, "bench/topic", string(make([]byte, 256)), 1, false)
	const n = 1_000_000
	room := make(answer, 5000)
	for i := range n + cap(room) {
		if i >= cap(room) {
			<-room
		}
		if i < n {
			k := i % len(to)
			e.Publish(m, to[k:k+1], store.Inbound{}, room, 0)
		}
	}
	shut(e)
	b.ResetTimer()
	for b.Loop() {
		e := open(b, Options{Dir: dir}, storetest.Limits{})
		if got := e.Stats().Queued; got != n {
			b.Fatalf("%d messages", got)
		}
		shut(e)
	}
}

// There may be millions of sessions.
func TestQueueSize(t *testing.T) {
	if n := unsafe.Sizeof(queue{}); n > 64 {
		t.Errorf("a session has %d bytes, want at most 64", n)
	}
}

// Every session is visited that is there throughout, whatever comes and goes.
func TestEachQueue(t *testing.T) {
	e := &Engine{sessions: ids.New[*queue](maphash.MakeSeed())}
	put := func(id string) {
		q := new(queue)
		q.setID(id)
		e.sessions.Put(q)
	}
	const stay = 4000
	for i := range stay {
		put(fmt.Sprint("stays", i))
	}
	seen, steps := map[string]bool{}, 0
	e.eachQueue(func(q *queue) { seen[q.ClientID()] = true })
	if len(seen) != stay {
		t.Fatalf("%d sessions were visited", len(seen))
	}
	clear(seen)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			e.mu.Lock()
			if i < 20000 {
				put(fmt.Sprint("comes", i))
			} else {
				e.sessions.Delete(fmt.Sprint("comes", i-20000))
			}
			e.mu.Unlock()
		}
	})
	for range 50 {
		clear(seen)
		e.eachQueue(func(q *queue) {
			if steps++; q.text != nil && q.ClientID()[0] == 's' {
				seen[q.ClientID()] = true
			}
		})
		if len(seen) != stay {
			t.Fatalf("%d sessions were visited, want %d", len(seen), stay)
		}
	}
	close(stop)
	wg.Wait()
}
