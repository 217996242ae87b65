package transport

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// drivers are what every test runs on.
func drivers() []string {
	if runtime.GOOS == "linux" {
		return []string{"reactor", "goroutine"}
	}
	return []string{"goroutine"}
}

// eachDriver runs f as a subtest on every driver.
func eachDriver(t *testing.T, f func(t *testing.T, driver string)) {
	for _, d := range drivers() {
		t.Run(d, func(t *testing.T) { f(t, d) })
	}
}

// eachTransport runs f as a subtest on every driver and kind of listener.
func eachTransport(t *testing.T, f func(t *testing.T, driver, scheme string)) {
	eachDriver(t, func(t *testing.T, driver string) {
		for _, s := range schemes {
			t.Run(s, func(t *testing.T) { f(t, driver, s) })
		}
	})
}

// eachAtOnce is eachTransport for tests that mostly wait: they do so together.
func eachAtOnce(t *testing.T, f func(t *testing.T, driver, scheme string)) {
	for _, d := range drivers() {
		for _, s := range schemes {
			t.Run(d+" "+s, func(t *testing.T) {
				t.Parallel()
				f(t, d, s)
			})
		}
	}
}

// echo is a Handler that sends back whole messages, 4 bytes of length and the rest, or what its fields say. It checks that
// calls for one connection never overlap.
type echo struct {
	open    func(t *Turn, c *Conn)
	feed    func(t *Turn, c *Conn, b []byte) (int, error)
	woken   func(t *Turn, c *Conn) error
	timeout func(t *Turn, c *Conn) error
	gone    func(c *Conn, err error)
	refused func(why error)
	keep    time.Duration // keep alive of a new connection; negative: not set

	opens, gones, refusals atomic.Int64
	faults                 atomic.Pointer[string]
}

// state is what an echo keeps in Conn.Data. plain is written without a lock, for the race detector.
type state struct {
	busy  atomic.Int32
	plain int
	over  bool
}

func (h *echo) fault(s string) { h.faults.CompareAndSwap(nil, &s) }

func (h *echo) enter(c *Conn) *state {
	s := c.Data.(*state)
	if s.busy.Add(1) != 1 {
		h.fault("two calls at a time for one connection")
	}
	if s.over {
		h.fault("a call after Gone")
	}
	s.plain++
	return s
}

func (h *echo) leave(s *state) { s.busy.Add(-1) }

func (h *echo) NewLocal() any { return nil }

func (h *echo) Open(t *Turn, c *Conn) {
	h.opens.Add(1)
	if c.Data != nil {
		h.fault("Open twice")
	}
	c.Data = &state{}
	s := h.enter(c)
	defer h.leave(s)
	if h.keep >= 0 {
		c.KeepAlive(t, h.keep)
	}
	if h.open != nil {
		h.open(t, c)
	}
}

func (h *echo) Feed(t *Turn, c *Conn, b []byte) (int, error) {
	s := h.enter(c)
	defer h.leave(s)
	if len(b) == 0 {
		h.fault("Feed of nothing")
	}
	if h.feed != nil {
		return h.feed(t, c, b)
	}
	return echoAll(t, c, b)
}

// message returns how long the message at the front of b is, 0 if it is not whole.
func message(b []byte) int {
	if len(b) < 4 {
		return 0
	}
	n := 4 + int(b[0])<<24 + int(b[1])<<16 + int(b[2])<<8 + int(b[3])
	if n > len(b) {
		return 0
	}
	return n
}

func echoAll(t *Turn, c *Conn, b []byte) (used int, err error) {
	for {
		n := message(b[used:])
		if n == 0 {
			return used, nil
		}
		if n > 8192 { // by reference
			c.AppendRef(t, b[used:used+7], bytes.Clone(b[used+7:used+n]))
		} else {
			c.Append(t, b[used:used+n])
		}
		used += n
	}
}

func (h *echo) Woken(t *Turn, c *Conn) error {
	s := h.enter(c)
	defer h.leave(s)
	if h.woken != nil {
		return h.woken(t, c)
	}
	return nil
}

func (h *echo) Timeout(t *Turn, c *Conn) error {
	s := h.enter(c)
	defer h.leave(s)
	if h.timeout != nil {
		return h.timeout(t, c)
	}
	return nil
}

func (h *echo) Gone(t *Turn, c *Conn, err error) {
	s := h.enter(c)
	s.over = true
	defer h.leave(s)
	h.gones.Add(1)
	if err == nil {
		h.fault("Gone without an error")
	}
	if h.gone != nil {
		h.gone(c, err)
	}
}

func (h *echo) Refused(l *Listener, addr string, why error) {
	h.refusals.Add(1)
	if h.refused != nil {
		h.refused(why)
	}
}

// serve starts a server with one listener. It is closed at the end of the test, which then checks that all is even.
func serve(t testing.TB, h *echo, scheme string, o Options) (*Server, *Listener) {
	t.Helper()
	s, err := New(h, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		if p := h.faults.Load(); p != nil {
			t.Error(*p)
		}
		if a, b := h.opens.Load(), h.gones.Load(); a != b {
			t.Errorf("%d opened, %d gone", a, b)
		}
		if st := s.Stats(); st.Open != 0 || st.Sockets != 0 {
			t.Errorf("left over: %+v", st)
		}
	})
	u := scheme + "://127.0.0.1:0"
	if scheme == "unix" {
		u = "unix://" + filepath.Join(t.TempDir(), "s")
	}
	ln, err := s.Listen(u, ListenOptions{TLS: serverTLS()})
	if err != nil {
		t.Fatal(err)
	}
	return s, ln
}

// dial connects a client to ln; it is closed at the end of the test.
func dial(t testing.TB, ln *Listener) net.Conn {
	t.Helper()
	nc, err := net.Dial(ln.Addr().Network(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { _ = nc.Close() })
	u, _ := url.Parse(ln.URL())
	return layers(t, nc, u.Scheme)
}

// schemes are the kinds of listeners.
var schemes = []string{"tcp", "unix", "ws", "tls", "wss"}

// layers puts the layers of a scheme on a client's connection.
func layers(t testing.TB, nc net.Conn, scheme string) net.Conn {
	t.Helper()
	if scheme == "tls" || scheme == "wss" {
		nc = clientTLS(nc)
	}
	if scheme == "ws" || scheme == "wss" {
		return dialWS(t, nc)
	}
	return nc
}

// frame makes a message of n bytes whose content depends on seed.
func frame(seed, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + seed + i>>8)
	}
	n -= 4
	b[0], b[1], b[2], b[3] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
	return b
}

func expect(t testing.TB, r io.Reader, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil {
		t.Fatalf("read: %v after %d of %d bytes", err, n, len(want))
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got other bytes than were sent")
	}
}

func send(t testing.TB, w io.Writer, b []byte) {
	t.Helper()
	if _, err := w.Write(b); err != nil {
		t.Fatalf("write: %v", err)
	}
}

// eventually waits for something that nobody reports.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatal("not within 10 s")
		}
		<-time.After(time.Millisecond)
	}
}

var noDeadline time.Time

// await waits for what a handler reports over a channel.
func await[T any](t testing.TB, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(10 * time.Second):
		t.Fatalf("no %s within 10 s", what)
	}
	return v
}
