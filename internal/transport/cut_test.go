package transport

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// cutter is a proxy that passes bytes on in pieces of other sizes.
type cutter struct {
	ln     net.Listener
	to     net.Addr
	size   func(r *rand.Rand) int
	wg     sync.WaitGroup
	closed chan struct{}
}

func newCutter(t *testing.T, to net.Addr, size func(r *rand.Rand) int) *cutter {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &cutter{ln: ln, to: to, size: size, closed: make(chan struct{})}
	p.wg.Go(p.run)
	t.Cleanup(func() {
		close(p.closed)
		_ = ln.Close()
		p.wg.Wait()
	})
	return p
}

func (p *cutter) run() {
	for seed := uint64(1); ; seed++ {
		a, err := p.ln.Accept()
		if err != nil {
			return
		}
		b, err := net.Dial(p.to.Network(), p.to.String())
		if err != nil {
			_ = a.Close()
			continue
		}
		p.wg.Go(func() {
			<-p.closed
			_ = a.Close()
			_ = b.Close()
		})
		p.wg.Go(func() { p.pass(a, b, rand.New(rand.NewPCG(seed, 1))) })
		p.wg.Go(func() { p.pass(b, a, rand.New(rand.NewPCG(seed, 2))) })
	}
}

func (p *cutter) pass(from, to net.Conn, r *rand.Rand) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		for b := buf[:n]; len(b) > 0; {
			m := min(p.size(r), len(b))
			if _, err := to.Write(b[:m]); err != nil {
				return
			}
			b = b[m:]
			if r.IntN(8) == 0 { // let the other side read
				yield()
			}
		}
		if err != nil {
			_ = to.(interface{ CloseWrite() error }).CloseWrite()
			return
		}
	}
}

// TestCut sends messages of all sizes through a proxy that cuts both directions anywhere, and compares the echo.
func TestCut(t *testing.T) {
	cuts := []struct {
		name  string
		size  func(*rand.Rand) int
		total int // bytes of messages
		big   int // size of a last, big one
	}{
		{"one byte", func(*rand.Rand) int { return 1 }, 20_000, 20_000},
		{"few bytes", func(r *rand.Rand) int { return 1 + r.IntN(7) }, 80_000, 100_000},
		{"random", func(r *rand.Rand) int { return 1 + r.IntN(9000) }, 700_000, 1 << 20},
		{"whole", func(*rand.Rand) int { return 1 << 20 }, 700_000, 1 << 20},
	}
	eachTransport(t, func(t *testing.T, driver, scheme string) {
		for i, cut := range cuts {
			t.Run(cut.name, func(t *testing.T) {
				t.Parallel()
				_, ln := serve(t, &echo{}, scheme, Options{Driver: driver})
				p := newCutter(t, ln.Addr(), cut.size)
				nc, err := net.Dial("tcp", p.ln.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
				nc = layers(t, nc, scheme)
				r := rand.New(rand.NewPCG(uint64(i), 7))
				var sent []byte
				for len(sent) < cut.total {
					n := 4 + r.IntN(300)
					if r.IntN(10) == 0 {
						n = 4 + r.IntN(40_000)
					}
					sent = append(sent, frame(r.IntN(255), n)...)
				}
				sent = append(sent, frame(3, cut.big)...)
				sent = append(sent, frame(4, 10)...)
				var wg sync.WaitGroup
				wg.Go(func() {
					for b := sent; len(b) > 0; { // cut differently, and in ws into messages
						n := min(1+r.IntN(20_000), len(b))
						if _, err := nc.Write(b[:n]); err != nil {
							return
						}
						b = b[n:]
					}
				})
				expect(t, nc, sent)
				wg.Wait()
			})
		}
	})
}

// TestTailBuffers feeds messages around the sizes where the unconsumed tail changes its buffer.
func TestTailBuffers(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		_, ln := serve(t, &echo{}, "tcp", Options{Driver: driver})
		nc := dial(t, ln)
		var all []byte
		for _, n := range []int{tailSmall, tailCopied, readSize, tailLarge, readSize + tailCopied, 2 * tailLarge, 300_000} {
			for d := -2; d <= 2; d++ {
				all = append(all, frame(d, n+d)...)
				all = append(all, frame(d, 5)...)
			}
		}
		go nc.Write(all)
		expect(t, nc, all)
		for cut := range 40 { // pauses of the sender at odd places
			b := bytes.Repeat(frame(cut, 7000), 4)
			at := cut * len(b) / 40
			send(t, nc, b[:at])
			whole := at / 7000 * 7000
			expect(t, nc, b[:whole])
			send(t, nc, b[at:])
			expect(t, nc, b[whole:])
		}
	})
}

// TestQueueModel compares a queue with a plain buffer, whatever is added, taken, sent in part and put back.
func TestQueueModel(t *testing.T) {
	s := &Server{}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 3))
		turn := &Turn{s: s, bufs: make([][]byte, 0, 1+r.IntN(maxPieces))}
		var q outq
		var model []byte
		for step := range 60 {
			switch r.IntN(4) {
			case 0, 1:
				p := frame(step, 4+r.IntN(3*chunkSize>>r.IntN(9)))
				q.add(turn, p)
				model = append(model, p...)
			case 2:
				p := frame(step, 4+r.IntN(10_000))
				q.addRef(turn, p)
				model = append(model, p...)
			case 3:
				tail := q.take()
				limit := 1 + r.IntN(40_000)
				var got []byte
				for range r.IntN(4) {
					var all []byte
					for _, p := range gather(turn.bufs[:0], tail, limit) {
						all = append(all, p...)
					}
					if len(all) > limit {
						t.Fatalf("seed %d: gathered %d of at most %d", seed, len(all), limit)
					}
					if len(all) == 0 {
						break
					}
					n := 1 + r.IntN(len(all))
					got = append(got, all[:n]...)
					tail = sent(turn, tail, n)
					q.n -= n
				}
				if r.IntN(2) == 0 {
					p := frame(step, 40)
					q.add(turn, p) // while the writer was at it
					model = append(model, p...)
				}
				q.putBack(tail)
				if !bytes.HasPrefix(model, got) {
					t.Fatalf("seed %d, step %d: other bytes", seed, step)
				}
				model = model[len(got):]
			}
			if q.n != len(model) {
				t.Fatalf("seed %d: %d queued, want %d", seed, q.n, len(model))
			}
		}
		var got []byte
		for _, p := range gather(make([][]byte, 0, 10_000), q.tail, 1<<30) {
			got = append(got, p...)
		}
		if !bytes.Equal(got, model) {
			t.Fatalf("seed %d: other bytes at the end", seed)
		}
		drop(turn, q.take())
	}
}

func TestWheel(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 5))
		w := &wheel{now: uint32(r.Uint64())}
		want := map[uint64]uint32{}
		for id := uint64(0); id < 300; {
			for range r.IntN(5) {
				at := w.clamp(w.now + uint32(r.IntN(2*wheelSize)))
				want[id] = at
				w.add(at, id)
				id++
			}
			first := uint32(0)
			for _, at := range want {
				if first == 0 || int32(at-first) < 0 {
					first = at
				}
			}
			if len(want) > 0 && w.next() != first {
				t.Fatalf("next is %d, want %d", w.next(), first)
			}
			to := w.now + uint32(r.IntN(40))
			for {
				ids, ok := w.step(to)
				if !ok {
					break
				}
				for _, id := range ids {
					if want[id] != w.now {
						t.Fatalf("%d came at %d, want %d", id, w.now, want[id])
					}
					delete(want, id)
				}
			}
			for id, at := range want {
				if int32(at-to) <= 0 {
					t.Fatalf("%d did not come at %d", id, at)
				}
			}
			if w.n != len(want) {
				t.Fatalf("%d entries, want %d", w.n, len(want))
			}
		}
	}
	w := &wheel{}
	w.add(w.clamp(1000), 1)
	if ids, ok := w.step(1 << 20); !ok || len(ids) > 1 {
		t.Error("a jump in time")
	}
	seen := 0
	for {
		ids, ok := w.step(1 << 20)
		if !ok {
			break
		}
		seen += len(ids)
	}
	if seen+0 > 1 || w.n != 1-seen {
		t.Errorf("%d seen after a jump, %d left", seen, w.n)
	}
	if fmt.Sprint((&wheel{}).next()) != "0" {
		t.Error("an empty wheel has a next tick")
	}
}
