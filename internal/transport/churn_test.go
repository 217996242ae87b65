package transport

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// descriptors returns how many this process has open, -1 where that cannot be seen.
func descriptors() int {
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(d)
}

// TestChurn opens connections by the hundred over all transports and ends them in every way at every moment, while others
// write to them. At the end each Open has had its Gone, and no descriptor and no goroutine is left. Under the race
// detector each use of a descriptor is checked to be its owner's.
func TestChurn(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		before := descriptors()
		t.Run("churn", func(t *testing.T) { churn(t, driver) })
		eventually(t, func() bool { return descriptors() <= before })
	})
}

// room is what the connections of a churn know of each other.
type room struct {
	mu sync.Mutex
	in map[*Conn]struct{}
}

func (r *room) some(n int) []*Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	var cs []*Conn
	for c := range r.in {
		if cs = append(cs, c); len(cs) == n {
			break
		}
	}
	return cs
}

func churnHandler(r *room) *echo {
	h := &echo{keep: 600 * time.Millisecond}
	h.open = func(_ *Turn, c *Conn) {
		r.mu.Lock()
		r.in[c] = struct{}{}
		r.mu.Unlock()
	}
	h.gone = func(c *Conn, _ error) {
		r.mu.Lock()
		delete(r.in, c)
		r.mu.Unlock()
	}
	var turn atomic.Uint32
	h.feed = func(t *Turn, c *Conn, b []byte) (int, error) {
		n := message(b)
		if n == 0 {
			return 0, nil
		}
		switch turn.Add(1) % 11 {
		case 0: // to everybody, some of them of other loops
			for _, o := range r.some(100) {
				o.Append(t, b[:n])
			}
		case 1:
			for _, o := range r.some(3) {
				o.Wake()
			}
		case 2:
			c.Append(t, b[:n])
			c.Wake()
			return n, ErrPaused
		case 3:
			c.Append(t, b[:n])
			return n, io.EOF
		case 4:
			c.AppendRef(t, b[:4], bytes.Clone(b[4:n]))
			c.NotifyDrained()
		default:
			c.Append(t, b[:n])
		}
		return n, nil
	}
	h.woken = func(t *Turn, c *Conn) error {
		c.Resume(t)
		c.Append(t, frame(1, 30))
		return nil
	}
	h.timeout = func(t *Turn, c *Conn) error { c.Append(t, frame(2, 30)); return nil }
	return h
}

func churn(t *testing.T, driver string) {
	r := &room{in: map[*Conn]struct{}{}}
	h := churnHandler(r)
	s, tcp := serve(t, h, "tcp", Options{Driver: driver, Linger: 200 * time.Millisecond, ConnectTimeout: 500 * time.Millisecond})
	unixLn, err := s.Listen("unix://"+t.TempDir()+"/s", ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wsLn, err := s.Listen("ws://127.0.0.1:0", ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tlsLn, err := s.Listen("tls://127.0.0.1:0", ListenOptions{TLS: serverTLS()})
	if err != nil {
		t.Fatal(err)
	}
	wssLn, err := s.Listen("wss://127.0.0.1:0", ListenOptions{TLS: serverTLS()})
	if err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(2500 * time.Millisecond)
	var clients, others sync.WaitGroup
	var count atomic.Int64
	for i := range 120 {
		clients.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 11))
			for time.Now().Before(end) {
				ln := []*Listener{tcp, unixLn, wsLn, tlsLn, wssLn}[rnd.IntN(5)]
				if err := churnClient(ln, rnd); err != nil {
					t.Error(err)
					return
				}
				count.Add(1)
			}
		})
	}
	stop := make(chan struct{})
	for i := range 3 { // foreign goroutines: publish, wake, kick
		others.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 12))
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Duration(rnd.IntN(2000)) * time.Microsecond):
				}
				turn := s.Borrow()
				for _, c := range r.some(80) {
					switch rnd.IntN(12) {
					case 0:
						c.Close(errors.New("kicked"))
					case 1, 2:
						c.Wake()
					case 3:
						c.NotifyDrained()
					case 4:
						c.Append(turn, make([]byte, 200_000))
					default:
						c.Append(turn, frame(3, 200))
					}
				}
				s.Return(turn)
			}
		})
	}
	clients.Wait()
	close(stop)
	others.Wait()
	t.Logf("%d connections, %d opened, %+v", count.Load(), h.opens.Load(), s.Stats())
	eventually(t, func() bool { return s.Stats().Sockets == 0 }) // all clients are gone, so all must go
}

// churnClient is one connection of a churn, from dial to one of many ends.
func churnClient(ln *Listener, r *rand.Rand) error {
	nc, err := net.Dial(ln.Addr().Network(), ln.Addr().String())
	if err != nil {
		return err
	}
	raw := nc
	defer raw.Close()
	_ = nc.SetDeadline(time.Now().Add(2 * time.Second))
	abrupt := func() {
		if tc, ok := raw.(*net.TCPConn); ok && r.IntN(2) == 0 {
			_ = tc.SetLinger(0)
		}
	}
	if r.IntN(60) == 0 { // silence
		_, _ = nc.Read(make([]byte, 1))
		return nil
	}
	if ln.secure {
		if r.IntN(8) == 0 { // leaves in the middle of the handshake
			_, _ = nc.Write([]byte{0x16, 3, 1, 0, 200, 1}[:1+r.IntN(6)])
			abrupt()
			return nil
		}
		nc = clientTLS(nc)
	}
	wrap := func(b []byte) []byte { return b }
	if ln.path != "" {
		head := []byte(upgradeRequest)
		if r.IntN(8) == 0 { // leaves in the middle of it
			_, _ = nc.Write(head[:r.IntN(len(head))])
			abrupt()
			return nil
		}
		_, _ = nc.Write(head)
		wrap = func(b []byte) []byte { return clientFrame(0x82, b) }
	}
	for range 1 + r.IntN(6) {
		b := wrap(frame(r.IntN(200), 4+r.IntN(3000)))
		if r.IntN(10) == 0 {
			b = b[:r.IntN(len(b))]
		}
		if r.IntN(40) == 0 {
			r := byte(r.Uint32())
			b = []byte{r, r, r, r, r}
		}
		_, _ = nc.Write(b)
		if r.IntN(3) == 0 {
			_, _ = nc.Read(make([]byte, 1000))
		}
	}
	switch r.IntN(12) {
	case 0: // stalls
		<-time.After(time.Duration(r.IntN(700)) * time.Millisecond)
	case 1: // waits for the keep alive, and reads until the end
		_, _ = io.Copy(io.Discard, nc)
	case 2, 3:
		_ = nc.(interface{ CloseWrite() error }).CloseWrite()
		_, _ = io.Copy(io.Discard, nc)
	case 4:
		runtime.Gosched()
	}
	abrupt()
	return nil
}
