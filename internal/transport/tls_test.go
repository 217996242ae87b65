package transport

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestTrim: the buffers that an idle TLS connection does not need are where they are looked for.
func TestTrim(t *testing.T) {
	if n := len(inputBuffers()); n != 2 {
		t.Errorf("%d of 2 buffers found in a tls.Conn: idle connections are twice as large", n)
	}
}

// TestTLSEnds: close_notify goes out last, and that of the peer ends the connection as the end of a socket does.
func TestTLSEnds(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		gone := make(chan error, 1)
		h := &echo{gone: func(_ *Conn, err error) { gone <- err }}
		h.feed = func(tt *Turn, c *Conn, b []byte) (int, error) {
			c.Append(tt, bytes.Repeat(b, 100_000))
			return len(b), errors.New("that was all")
		}
		_, ln := serve(t, h, "tls", Options{Driver: driver})
		nc := dial(t, ln)
		send(t, nc, []byte("ab"))
		got, err := io.ReadAll(nc) // io.EOF is only what close_notify gives
		if err != nil || len(got) != 200_000 {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if err := await(t, gone, "end"); err == nil || err.Error() != "that was all" {
			t.Errorf("gone with %v", err)
		}
		_, ln = serve(t, &echo{gone: func(_ *Conn, err error) { gone <- err }}, "tls", Options{Driver: driver})
		nc = dial(t, ln)
		send(t, nc, frame(1, 50))
		expect(t, nc, frame(1, 50))
		if err := nc.(*tls.Conn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if err := await(t, gone, "end"); err != io.EOF {
			t.Errorf("gone with %v", err)
		}
		if _, err := nc.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("read: %v", err)
		}
	})
}

// TestTLSAtOnce: what a peer sends right behind its handshake, and then is gone, is not lost; nor is very much of it.
func TestTLSAtOnce(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		for _, n := range []int{10, 8 << 20} {
			got, gone := make(chan int, 1), make(chan error, 1)
			h := &echo{gone: func(_ *Conn, err error) { gone <- err }}
			h.feed = func(_ *Turn, _ *Conn, b []byte) (int, error) {
				if m := message(b); m > 0 {
					got <- m
					return m, nil
				}
				return 0, nil
			}
			_, ln := serve(t, h, "tls", Options{Driver: driver})
			raw, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			held := &holding{Conn: raw}
			nc := clientTLS(held)
			if err := nc.Handshake(); err != nil { // its last flight is held back
				t.Fatal(err)
			}
			send(t, nc, frame(1, n))
			_ = nc.CloseWrite()
			if _, err := raw.Write(held.last); err != nil {
				t.Fatal(err)
			}
			_ = raw.(*net.TCPConn).CloseWrite()
			if m := await(t, got, "message"); m != n {
				t.Errorf("%d bytes, want %d", m, n)
			}
			if err := await(t, gone, "end"); err != io.EOF {
				t.Errorf("gone with %v", err)
			}
			_ = raw.Close()
		}
	})
}

// SetWriteDeadline does nothing: a tls.Conn that is closed would forbid its socket to write.
func (h *holding) SetWriteDeadline(time.Time) error { return nil }

// holding keeps what is written after the first flight.
type holding struct {
	net.Conn
	n    int
	last []byte
}

func (h *holding) Write(p []byte) (int, error) {
	if h.n++; h.n == 1 {
		return h.Conn.Write(p)
	}
	h.last = append(h.last, p...)
	return len(p), nil
}

// TestTLSRefused: a handshake that fails, stalls or is one too many is refused with its reason, and nobody else notices.
func TestTLSRefused(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		refused := make(chan error, 10)
		s, ln := serve(t, &echo{refused: func(why error) { refused <- why }}, "tls", Options{Driver: driver, ConnectTimeout: 600 * time.Millisecond, MaxHandshakes: 2})
		plain := func(b string) net.Conn {
			nc, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = nc.Close() })
			send(t, nc, []byte(b))
			return nc
		}
		plain("\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00") // MQTT without TLS
		if err := await(t, refused, "refusal"); !strings.HasPrefix(err.Error(), "tls handshake: ") {
			t.Errorf("%v", err)
		}
		eventually(t, func() bool { return len(s.shakes) == 0 })
		plain("\x16\x03\x01")
		plain("\x16\x03\x01")
		eventually(t, func() bool { return len(s.shakes) == 2 })
		plain("\x16")
		if err := await(t, refused, "refusal"); err != ErrHandshakes {
			t.Errorf("%v", err)
		}
		for range 2 {
			if err := await(t, refused, "refusal"); err != ErrTimeout {
				t.Errorf("%v", err)
			}
		}
		plain("\x16\x03\x01").Close()
		if err := await(t, refused, "refusal"); err == nil {
			t.Error("no reason")
		}
		eventually(t, func() bool { return len(s.shakes) == 0 })
		nc := dial(t, ln)
		send(t, nc, frame(1, 50))
		expect(t, nc, frame(1, 50))
		if st := s.Stats(); st.RefusedTLS != 3 || st.RefusedTimeout != 2 {
			t.Errorf("%+v", st)
		}
	})
}

// TestTLSState: the handler sees versions and names from Open on.
func TestTLSState(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		states := make(chan *tls.ConnectionState, 1)
		_, ln := serve(t, &echo{open: func(_ *Turn, c *Conn) { states <- c.TLS() }}, "tls", Options{Driver: driver})
		send(t, dial(t, ln), frame(1, 50))
		if s := await(t, states, "connection"); s == nil || !s.HandshakeComplete || s.ServerName != "localhost" || s.Version != tls.VersionTLS13 {
			t.Errorf("%+v", s)
		}
		_, ln = serve(t, &echo{open: func(_ *Turn, c *Conn) { states <- c.TLS() }}, "tcp", Options{Driver: driver})
		send(t, dial(t, ln), frame(1, 50))
		if s := await(t, states, "connection"); s != nil {
			t.Errorf("%+v", s)
		}
	})
}

// TestTLSPaused: a handler that pauses with ciphertext left gets the rest when it goes on, and what comes in one record
// is not lost.
func TestTLSPaused(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		h := &echo{}
		n := 0
		h.feed = func(tt *Turn, c *Conn, b []byte) (used int, err error) {
			for {
				m := message(b[used:])
				if m == 0 {
					return used, nil
				}
				if n++; n%3 != 0 {
					c.Wake()
					return used, ErrPaused
				}
				c.Append(tt, b[used:used+m])
				used += m
			}
		}
		h.woken = func(tt *Turn, c *Conn) error { c.Resume(tt); return nil }
		_, ln := serve(t, h, "tls", Options{Driver: driver})
		nc := dial(t, ln)
		var all []byte
		for i := range 300 {
			all = append(all, frame(i, 4+i*13%9000)...)
		}
		go nc.Write(all)
		expect(t, nc, all)
	})
}

// TestTLSMemory holds what an idle TLS connection costs, also after a record of 16 KB each way.
func TestTLSMemory(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("counts bytes")
	}
	const conns = 200
	_, ln := serve(t, &echo{}, "tls", Options{Driver: bestDriver})
	heap := func() uint64 {
		var m runtime.MemStats
		for range 3 {
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var sockets []net.Conn
	open := func() {
		for range conns {
			raw, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = raw.Close() })
			nc := clientTLS(raw) // of which nothing but the socket is kept
			send(t, nc, frame(1, 16<<10))
			expect(t, nc, frame(1, 16<<10))
			sockets = append(sockets, raw)
		}
	}
	open()
	before := heap()
	open()
	each := int(heap()-before) / conns
	t.Logf("%d bytes of heap for a connection, with the client's socket", each)
	if each > 6500 {
		t.Errorf("%d bytes for a connection, want at most 6500", each)
	}
	runtime.KeepAlive(sockets)
}
