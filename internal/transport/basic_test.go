package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

func TestEcho(t *testing.T) {
	eachTransport(t, func(t *testing.T, driver, scheme string) {
		s, ln := serve(t, &echo{}, scheme, Options{Driver: driver})
		nc := dial(t, ln)
		for i, n := range []int{4, 5, 100, 8000, 8192, 40000, 70000, 1 << 20} {
			b := frame(i, n)
			go nc.Write(b)
			expect(t, nc, b)
		}
		if st := s.Stats(); st.Accepted != 1 || st.Open != 1 || st.Sockets != 1 {
			t.Errorf("stats: %+v", st)
		}
		if s.Driver() != driver {
			t.Errorf("driver is %s", s.Driver())
		}
	})
}

// TestSize holds what a million idle connections cost.
func TestSize(t *testing.T) {
	for _, x := range []struct {
		what      string
		size, max uintptr
	}{
		{"Conn", unsafe.Sizeof(Conn{}), 128},
		{"slot", unsafe.Sizeof(struct {
			c   *Conn
			gen uint32
		}{}), 16},
		{"chunk", unsafe.Sizeof(chunk{}), 8192},
		{"wsConn", unsafe.Sizeof(wsConn{}), 224},
	} {
		if x.size > x.max {
			t.Errorf("%s is %d bytes, want at most %d", x.what, x.size, x.max)
		}
	}
}

func TestEchoAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	eachDriver(t, func(t *testing.T, driver string) {
		_, ln := serve(t, &echo{}, "tcp", Options{Driver: driver})
		nc := dial(t, ln)
		b, got := bytes.Repeat(frame(1, 300), 100), make([]byte, 30000)
		n := testing.AllocsPerRun(300, func() {
			_, _ = nc.Write(b)
			_, _ = io.ReadFull(nc, got)
		})
		if n >= 1 {
			t.Errorf("%v allocations for 100 messages", n)
		}
	})
}

func TestAddresses(t *testing.T) {
	eachTransport(t, func(t *testing.T, driver, scheme string) {
		opened := make(chan *Conn, 1)
		_, ln := serve(t, &echo{open: func(_ *Turn, c *Conn) { opened <- c }}, scheme, Options{Driver: driver})
		nc := dial(t, ln)
		send(t, nc, frame(1, 4))
		c := await(t, opened, "Open")
		if c.Listener() != ln {
			t.Error("another listener")
		}
		if scheme == "unix" {
			if c.RemoteAddr() != "unix" || c.Peer().IsValid() {
				t.Errorf("remote %q, peer %v", c.RemoteAddr(), c.Peer())
			}
			return
		}
		if scheme == "tcp" && (c.RemoteAddr() != nc.LocalAddr().String() || c.Peer().String() != nc.LocalAddr().String()) {
			t.Errorf("remote %q, peer %v, want %v", c.RemoteAddr(), c.Peer(), nc.LocalAddr())
		}
	})
}

// TestHalfClose sends data and the end in one go: all of it must be fed, and the answers still arrive.
func TestHalfClose(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		for _, scheme := range []string{"tcp", "unix"} {
			t.Run(scheme, func(t *testing.T) {
				gone := make(chan error, 1)
				_, ln := serve(t, &echo{gone: func(_ *Conn, err error) { gone <- err }}, scheme, Options{Driver: driver})
				for i := range 20 {
					nc := dial(t, ln)
					b := bytes.Repeat(frame(i, 1000), 10*i+1)
					send(t, nc, b)
					if err := nc.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
						t.Fatal(err)
					}
					expect(t, nc, b)
					if n, err := nc.Read(make([]byte, 1)); n != 0 || err != io.EOF {
						t.Fatalf("read: %d, %v, want the end", n, err)
					}
					if err := await(t, gone, "Gone"); err != io.EOF {
						t.Errorf("gone with %v, want EOF", err)
					}
				}
			})
		}
	})
}

// pauser is an echo that pauses after each message until it is woken.
func pauser(opened chan *Conn, paused chan struct{}) *echo {
	h := &echo{open: func(_ *Turn, c *Conn) { opened <- c }}
	h.feed = func(t *Turn, c *Conn, b []byte) (int, error) {
		n := message(b)
		if n == 0 {
			return 0, nil
		}
		c.Append(t, b[:n])
		paused <- struct{}{}
		return n, ErrPaused
	}
	h.woken = func(t *Turn, c *Conn) error { c.Resume(t); return nil }
	return h
}

func TestPause(t *testing.T) {
	eachTransport(t, func(t *testing.T, driver, scheme string) {
		opened, paused := make(chan *Conn, 1), make(chan struct{}, 10)
		_, ln := serve(t, pauser(opened, paused), scheme, Options{Driver: driver})
		nc := dial(t, ln)
		a, b := frame(1, 1000), frame(2, 100_000)
		send(t, nc, append(bytes.Clone(a), a...))
		c := await(t, opened, "Open")
		for i, want := range [][]byte{a, a, b, a, b} {
			await(t, paused, "pause")
			expect(t, nc, want)
			switch i {
			case 0: // arrives during the pause
				go func() { _, _ = nc.Write(append(bytes.Clone(b), a...)) }()
			case 3:
				go func() { _, _ = nc.Write(b) }()
			}
			select {
			case <-paused:
				t.Fatal("fed during a pause")
			default:
			}
			c.Wake()
		}
	})
}

// TestPauseThenEnd ends a connection on either side while its input is paused.
func TestPauseThenEnd(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		gone := make(chan error, 1)
		opened, paused := make(chan *Conn, 1), make(chan struct{}, 10)
		h := pauser(opened, paused)
		h.gone = func(_ *Conn, err error) { gone <- err }
		_, ln := serve(t, h, "tcp", Options{Driver: driver})
		start := func() (*Conn, *net.TCPConn) {
			nc := dial(t, ln)
			send(t, nc, frame(1, 10))
			c := await(t, opened, "Open")
			await(t, paused, "pause")
			return c, nc.(*net.TCPConn)
		}
		t.Run("reset", func(t *testing.T) {
			if driver == "goroutine" && !seesReset {
				t.Skip("is not seen without reading")
			}
			_, nc := start()
			_ = nc.SetLinger(0)
			_ = nc.Close()
			if err := await(t, gone, "Gone"); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("gone with %v", err)
			}
		})
		t.Run("close", func(t *testing.T) {
			c, nc := start()
			send(t, nc, frame(2, 10))
			_ = nc.CloseWrite()
			c.Wake()
			await(t, paused, "data that came before the end")
			c.Wake()
			if err := await(t, gone, "Gone"); err != io.EOF {
				t.Errorf("gone with %v", err)
			}
		})
		t.Run("Close", func(t *testing.T) {
			c, nc := start()
			c.Close(io.ErrNoProgress)
			if err := await(t, gone, "Gone"); err != io.ErrNoProgress {
				t.Errorf("gone with %v", err)
			}
			expect(t, nc, frame(1, 10))
			if _, err := nc.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("read: %v, want EOF", err)
			}
		})
	})
}

// TestWakeStorm wakes few connections from many goroutines. No wake may be lost: the last one is followed by a Woken.
func TestWakeStorm(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		const conns, wakers = 3, 8
		each := 5000
		var sum, calls [conns]atomic.Int64
		done := make(chan struct{}, conns*wakers)
		opened := make(chan *Conn, 1)
		h := &echo{open: func(_ *Turn, c *Conn) { opened <- c }}
		index := map[*Conn]int{}
		h.woken = func(_ *Turn, c *Conn) error {
			i := index[c]
			calls[i].Add(1)
			if sum[i].Load() == int64(wakers*each) {
				select {
				case done <- struct{}{}:
				default:
				}
			}
			return nil
		}
		_, ln := serve(t, h, "tcp", Options{Driver: driver})
		var cs []*Conn
		for i := range conns {
			send(t, dial(t, ln), []byte{1})
			c := await(t, opened, "Open")
			cs, index[c] = append(cs, c), i
		}
		var wg sync.WaitGroup
		for range wakers {
			wg.Go(func() {
				for range each {
					for i, c := range cs {
						sum[i].Add(1)
						c.Wake()
					}
				}
			})
		}
		wg.Wait()
		for range conns {
			await(t, done, "last Woken")
		}
		for i := range calls {
			if n := calls[i].Load(); n > int64(wakers*each) {
				t.Errorf("%d calls for %d wakes", n, wakers*each)
			}
		}
	})
}

// TestWakeEachOther: connections that wake each other for ever neither deadlock nor keep the loops from their sockets.
func TestWakeEachOther(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		var peers sync.Map
		opened := make(chan *Conn, 1)
		h := &echo{open: func(_ *Turn, c *Conn) { opened <- c }}
		h.woken = func(_ *Turn, c *Conn) error {
			if p, ok := peers.Load(c); ok {
				p.(*Conn).Wake()
			}
			return nil
		}
		_, ln := serve(t, h, "tcp", Options{Driver: driver, Loops: 2})
		var cs []*Conn
		var ncs []net.Conn
		for range 6 {
			nc := dial(t, ln)
			send(t, nc, frame(1, 100))
			expect(t, nc, frame(1, 100))
			cs, ncs = append(cs, await(t, opened, "Open")), append(ncs, nc)
		}
		for i, c := range cs {
			peers.Store(c, cs[(i+1)%len(cs)])
		}
		for _, c := range cs {
			c.Wake()
		}
		for range 50 {
			for i, nc := range ncs {
				send(t, nc, frame(i, 1000))
				expect(t, nc, frame(i, 1000))
			}
		}
		peers.Clear()
	})
}

// TestWakeInTurn: a Wake from a call of the Handler is followed by Woken in the same turn, so both are written together.
func TestWakeInTurn(t *testing.T) {
	var turn *Turn
	var now int64
	h := &echo{}
	h.feed = func(t *Turn, c *Conn, b []byte) (int, error) {
		turn, now = t, t.Now
		c.Append(t, []byte("fed "))
		c.Wake()
		c.Wake()
		return len(b), nil
	}
	h.woken = func(t *Turn, c *Conn) error {
		if t != turn || t.Now != now {
			h.fault("Woken in another turn")
		}
		c.Append(t, []byte("woken"))
		return nil
	}
	_, ln := serve(t, h, "tcp", Options{Driver: drivers()[0]})
	if drivers()[0] != "reactor" {
		t.Skip("is so in the reactor")
	}
	nc := dial(t, ln)
	for range 100 {
		send(t, nc, []byte("x"))
		expect(t, nc, []byte("fed woken"))
	}
}

func TestNotifyDrained(t *testing.T) {
	eachAtOnce(t, func(t *testing.T, driver, scheme string) {
		opened, woken := make(chan *Conn, 1), make(chan int, 100)
		h := &echo{open: func(_ *Turn, c *Conn) { opened <- c }}
		h.woken = func(_ *Turn, c *Conn) error { woken <- c.Queued(); return nil }
		s, ln := serve(t, h, scheme, Options{Driver: driver})
		nc := dial(t, ln)
		send(t, nc, []byte{0})
		c := await(t, opened, "Open")
		c.NotifyDrained() // nothing is queued
		if n := await(t, woken, "Woken"); n != 0 {
			t.Errorf("%d queued", n)
		}
		b := frame(3, 8<<20)
		turn := s.Borrow()
		c.Append(turn, b)
		s.Return(turn)
		c.NotifyDrained()
		c.NotifyDrained()
		if n := c.Queued(); n == 0 || n > len(b) {
			t.Fatalf("%d of %d queued", n, len(b))
		}
		select {
		case <-woken:
			t.Fatal("woken before it was read")
		default:
		}
		expect(t, nc, b)
		if n := await(t, woken, "Woken"); n != 0 {
			t.Errorf("%d queued", n)
		}
	})
}

// TestSlowReader queues up to 50 MB in pieces for somebody who begins to read only then.
func TestSlowReader(t *testing.T) {
	eachAtOnce(t, func(t *testing.T, driver, scheme string) {
		opened := make(chan *Conn, 1)
		s, ln := serve(t, &echo{open: func(_ *Turn, c *Conn) { opened <- c }}, scheme, Options{Driver: driver})
		nc := dial(t, ln)
		send(t, nc, []byte{0})
		c := await(t, opened, "Open")
		var wg sync.WaitGroup
		small, large := frame(1, 500), frame(2, 9500)
		rounds := 1000
		if scheme == "tcp" {
			rounds = 5000
		}
		wg.Go(func() {
			for i := range rounds {
				turn := s.Borrow()
				c.Append(turn, small)
				c.AppendRef(turn, large[:7], large[7:])
				s.Return(turn)
				if i == rounds/2 {
					t.Logf("%d queued", c.Queued())
				}
			}
		})
		wg.Wait()
		want := append(bytes.Clone(small), large...)
		got := make([]byte, len(want))
		for i := range rounds {
			if _, err := io.ReadFull(nc, got); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("round %d is not as it was sent", i)
			}
		}
		eventually(t, func() bool { return c.Queued() == 0 }) // the writer counts when its write has returned
	})
}

// TestFanOut sends to more connections than a turn writes itself, from many goroutines at a time.
func TestFanOut(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		const conns, senders, rounds = 150, 4, 20
		opened := make(chan *Conn, conns)
		s, ln := serve(t, &echo{open: func(_ *Turn, c *Conn) { opened <- c }}, "tcp", Options{Driver: driver})
		var cs []*Conn
		var ncs []net.Conn
		for range conns {
			nc := dial(t, ln)
			send(t, nc, []byte{0})
			cs, ncs = append(cs, await(t, opened, "Open")), append(ncs, nc)
		}
		var wg sync.WaitGroup
		p := frame(9, 64)
		for range senders {
			wg.Go(func() {
				for range rounds {
					turn := s.Borrow()
					for _, c := range cs {
						c.Append(turn, p)
					}
					turn.Flush()
					s.Return(turn)
				}
			})
		}
		for _, nc := range ncs {
			expect(t, nc, bytes.Repeat(p, senders*rounds))
		}
		wg.Wait()
	})
}

// TestLinger: the goodbye and the end reach a client that goes on sending; a reset would have destroyed them.
func TestLinger(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		for _, scheme := range []string{"tcp", "unix"} {
			t.Run(scheme, func(t *testing.T) {
				h := &echo{}
				bye := frame(7, 100_000)
				h.feed = func(t *Turn, c *Conn, b []byte) (int, error) {
					c.Append(t, bye)
					return 0, errors.New("enough")
				}
				_, ln := serve(t, h, scheme, Options{Driver: driver})
				for range 5 {
					nc := dial(t, ln)
					var wg sync.WaitGroup
					wg.Go(func() {
						for range 50 {
							if _, err := nc.Write(make([]byte, 50_000)); err != nil {
								return
							}
						}
						_ = nc.(interface{ CloseWrite() error }).CloseWrite()
					})
					expect(t, nc, bye)
					if n, err := nc.Read(make([]byte, 1)); n != 0 || err != io.EOF {
						t.Errorf("read: %d, %v, want EOF", n, err)
					}
					wg.Wait()
				}
			})
		}
	})
}

// TestLingerIsLimited: a client that neither reads nor leaves does not keep its descriptor.
func TestLingerIsLimited(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		t.Parallel()
		h := &echo{}
		h.feed = func(t *Turn, c *Conn, b []byte) (int, error) {
			c.Append(t, make([]byte, 20<<20))
			return len(b), errors.New("enough")
		}
		s, ln := serve(t, h, "tcp", Options{Driver: driver, Linger: 300 * time.Millisecond})
		send(t, dial(t, ln), []byte{0})
		eventually(t, func() bool { return s.Stats().Sockets == 0 && h.gones.Load() == 1 })
	})
}

func TestTimeouts(t *testing.T) {
	eachAtOnce(t, func(t *testing.T, driver, scheme string) {
		refused, gone := make(chan error, 4), make(chan error, 4)
		h := &echo{keep: -1, gone: func(_ *Conn, err error) { gone <- err }, refused: func(why error) { refused <- why }}
		h.timeout = func(t *Turn, c *Conn) error { c.Append(t, []byte("late")); return nil }
		s, ln := serve(t, h, scheme, Options{Driver: driver, ConnectTimeout: 100 * time.Millisecond, Linger: 200 * time.Millisecond})

		silent, err := net.Dial(ln.Addr().Network(), ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		if err := await(t, refused, "Refused"); err != ErrTimeout {
			t.Errorf("refused with %v", err)
		}
		if s.Stats().RefusedTimeout != 1 {
			t.Errorf("stats: %+v", s.Stats())
		}

		nc := dial(t, ln) // no KeepAlive: what is sent does not prolong the connect timeout
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				_, _ = nc.Write([]byte{0xFF})
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
		expect(t, nc, []byte("late"))
		if err := await(t, gone, "Gone"); err != ErrTimeout {
			t.Errorf("gone with %v", err)
		}
		close(stop)
		wg.Wait()
	})
}

func TestKeepAlive(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		t.Parallel()
		gone := make(chan error, 4)
		own := errors.New("own")
		h := &echo{keep: time.Second, gone: func(_ *Conn, err error) { gone <- err }}
		h.timeout = func(*Turn, *Conn) error { return own }
		_, ln := serve(t, h, "tcp", Options{Driver: driver})
		nc := dial(t, ln)
		begin := time.Now()
		for time.Since(begin) < 1600*time.Millisecond {
			send(t, nc, frame(1, 4))
			expect(t, nc, frame(1, 4))
			<-time.After(100 * time.Millisecond)
		}
		last := time.Now()
		if err := await(t, gone, "Gone"); err != own {
			t.Errorf("gone with %v", err)
		}
		if d := time.Since(last); d < 850*time.Millisecond || d > 3*time.Second {
			t.Errorf("timed out after %v, want 1 s", d)
		}
	})
}

func TestRefused(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		t.Parallel()
		refused := make(chan error, 4)
		h := &echo{refused: func(why error) { refused <- why }}
		s, ln := serve(t, h, "tcp", Options{Driver: driver, MaxConns: 2})
		two, err := s.Listen("tcp://127.0.0.1:0", ListenOptions{MaxConns: 1})
		if err != nil {
			t.Fatal(err)
		}
		a := dial(t, two)
		send(t, a, frame(1, 4))
		expect(t, a, frame(1, 4))
		dial(t, two) // over the listener's limit
		if err := await(t, refused, "Refused"); err != ErrTooMany {
			t.Errorf("refused with %v", err)
		}
		b := dial(t, ln)
		send(t, b, frame(1, 4))
		expect(t, b, frame(1, 4))
		c := dial(t, ln) // over the server's
		if err := await(t, refused, "Refused"); err != ErrTooMany {
			t.Errorf("refused with %v", err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("read succeeded")
		}
		_ = b.Close()
		eventually(t, func() bool { return s.Stats().Sockets == 1 })
		_ = dial(t, ln).Close() // says nothing
		if err := await(t, refused, "Refused"); err != io.EOF {
			t.Errorf("refused with %v", err)
		}
		if st := s.Stats(); st.RefusedLimit != 2 || st.RefusedClosed != 1 {
			t.Errorf("stats: %+v", st)
		}
	})
}

func TestClose(t *testing.T) {
	eachAtOnce(t, func(t *testing.T, driver, scheme string) {
		gone, opened := make(chan error, 10), make(chan *Conn, 10)
		h := &echo{open: func(_ *Turn, c *Conn) { opened <- c }, gone: func(_ *Conn, err error) { gone <- err }}
		s, ln := serve(t, h, scheme, Options{Driver: driver})
		nc := dial(t, ln)
		send(t, nc, []byte{0})
		c := await(t, opened, "Open")
		c.Close(nil)
		if err := await(t, gone, "Gone"); err != ErrServerClosed {
			t.Errorf("gone with %v", err)
		}
		turn := s.Borrow()
		c.Append(turn, []byte("too late"))
		c.AppendRef(turn, nil, []byte("too late"))
		s.Return(turn)
		c.Wake()
		c.NotifyDrained()
		c.Close(nil)
		if _, err := nc.Read(make([]byte, 1)); err == nil {
			t.Error("got output after the end")
		}

		var ncs []net.Conn
		for range 5 {
			nc := dial(t, ln)
			send(t, nc, frame(1, 4))
			expect(t, nc, frame(1, 4))
			ncs = append(ncs, nc)
		}
		for _, nc := range ncs {
			go func() { // leaves when told
				_, _ = io.Copy(io.Discard, struct{ io.Reader }{nc})
				_ = nc.Close()
			}()
		}
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
		for range ncs {
			if err := await(t, gone, "Gone"); err != ErrServerClosed {
				t.Errorf("gone with %v", err)
			}
		}
		if _, err := s.Listen("tcp://127.0.0.1:0", ListenOptions{}); !errors.Is(err, ErrServerClosed) {
			t.Errorf("listen: %v", err)
		}
		if _, err := net.Dial(ln.Addr().Network(), ln.Addr().String()); err == nil {
			t.Error("still listening")
		}
	})
}

// TestCloseInAHurry ends the time that Close may take while clients do not read.
func TestCloseInAHurry(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		t.Parallel()
		s, ln := serve(t, &echo{}, "tcp", Options{Driver: driver, Linger: time.Minute})
		h := s.h.(*echo)
		for range 3 {
			send(t, dial(t, ln), bytes.Repeat(frame(1, 1000), 20_000)[:1<<20])
		}
		eventually(t, func() bool { return h.opens.Load() == 3 })
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if err := s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close: %v", err)
		}
	})
}

// TestTooMuchInput: what a Handler does not consume is bounded.
func TestTooMuchInput(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		gone := make(chan error, 1)
		h := &echo{gone: func(_ *Conn, err error) { gone <- err }}
		h.feed = func(*Turn, *Conn, []byte) (int, error) { return 0, nil }
		_, ln := serve(t, h, "tcp", Options{Driver: driver, MaxInput: 1 << 20})
		nc := dial(t, ln)
		_, _ = nc.Write(make([]byte, 3<<20))
		if err := await(t, gone, "Gone"); err != ErrInputTooLarge {
			t.Errorf("gone with %v", err)
		}
	})
}
