package disk

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/myelin-mqtt/myelin/internal/session"
	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/store/storetest"
)

func open(t testing.TB, o Options, l storetest.Limits) *Engine {
	t.Helper()
	o.Limits = session.Limits{Messages: l.Messages, Bytes: l.Bytes, Policy: session.Policy(l.Policy)}
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
			n, more = c.s.Next(buf, 0)
			for _, d := range buf[:n] {
				c.s.Ack(d.LSN)
			}
		}
	}
	e.mu.Lock()
	segs, refs := len(e.segs), len(c.s.(*queue).refs)
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

// BenchmarkPublish: one offline session of 1000 for each message.
func BenchmarkPublish(b *testing.B) {
	for _, w := range []int{1, 1000} {
		b.Run(fmt.Sprint("W=", w), func(b *testing.B) {
			e := open(b, Options{Dir: b.TempDir()}, storetest.Limits{Messages: 1000})
			defer shut(e)
			var to []store.Target
			for i := range 1000 {
				c := claim(b, e, store.ClaimReq{ClientID: fmt.Sprint(i), Expiry: 100})
				c.s.Detach(100, false)
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
