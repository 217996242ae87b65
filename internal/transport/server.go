package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Options are the settings of a Server. The zero value of each field means its default.
type Options struct {
	// Driver is "reactor" (Linux only) or "goroutine". Default: the reactor where there is one.
	Driver string
	// Loops is the number of loops. Default: GOMAXPROCS.
	Loops int
	// ConnectTimeout is the time from accept to Conn.KeepAlive. Default: 10 s.
	ConnectTimeout time.Duration
	// MaxConns is the most connections at a time over all listeners. Default: no limit but that of descriptors.
	MaxConns int
	// SndBuf and RcvBuf are the sizes of the kernel's buffers in bytes. Default: the system's.
	SndBuf, RcvBuf int
	// MaxHandshakes is how many TLS handshakes run at a time: each takes some 50 KB while it does. A connection that
	// begins one more is ended. Default: 1024.
	MaxHandshakes int
	// Linger is how long an ended connection may go without receiving more of the rest of its output. Default: 1 s.
	Linger time.Duration
	// MaxInput is the most bytes that Feed may leave unconsumed. Default: 268,435,460, the largest MQTT packet.
	MaxInput int
	// Logger gets what has no other place to go. Default: nothing is logged.
	Logger *slog.Logger

	wrap func(driver) driver // for tests: comes between a Server and its driver
}

func (o *Options) setDefaults() {
	if o.Driver == "" {
		o.Driver = bestDriver
	}
	if o.Loops <= 0 {
		o.Loops = runtime.GOMAXPROCS(0)
	}
	if o.ConnectTimeout <= 0 {
		o.ConnectTimeout = 10 * time.Second
	}
	if o.MaxHandshakes <= 0 {
		o.MaxHandshakes = 1024
	}
	if o.Linger <= 0 {
		o.Linger = time.Second
	}
	if o.MaxInput <= 0 {
		o.MaxInput = 5 + 268_435_455
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Stats are counters since the Server was made.
type Stats struct {
	BytesIn, BytesOut uint64 // on the wire, by connections of any state
	Accepted          uint64
	Open              int64 // connections between Open and Gone, now
	Sockets           int64 // connections from accept to close, now

	RefusedLimit   uint64 // over MaxConns
	RefusedTimeout uint64 // no first byte, or no upgrade, within ConnectTimeout
	RefusedClosed  uint64 // closed by the peer before its first byte
	RefusedAddress uint64 // not allowed, or too many or too fast from there or by this listener
	RefusedTLS     uint64 // a handshake that failed, or one too many
	RefusedUpgrade uint64 // a bad WebSocket upgrade, and anything else before Open
	AcceptErrors   uint64 // accept failed, for want of descriptors as a rule
}

// Server drives the connections of its listeners for one Handler.
type Server struct {
	piece  int // the most bytes of one write
	most   int // the most that one flush writes
	h      Handler
	o      Options
	log    *slog.Logger
	start  time.Time
	drv    driver
	pools  pools
	trims  []uintptr     // places of a tls.Conn's input buffers
	shakes chan struct{} // one for each TLS handshake under way
	loops  []*loop

	loopWG sync.WaitGroup // loops
	connWG sync.WaitGroup // accept loops, connections, writers

	mu        sync.Mutex
	listeners map[*Listener]struct{}
	closed    bool
	turns     []*Turn // to be borrowed

	in, out, accepted                                             atomic.Uint64
	refLimit, refTime, refEOF, refAddr, refTLS, refOther, accFail atomic.Uint64
	open, sockets                                                 atomic.Int64
}

// driver is all that differs between the reactor and the goroutine driver. Owner means that the caller is the owner of
// the connection.
type driver interface {
	run(l *loop)           // a loop's goroutine
	wake(l *loop)          // it sleeps and has mail
	stop(l *loop, e error) // mail for the loop itself: end all connections with e, errForce: close them, errExit: return
	listen(ln *Listener) error
	accept(ln *Listener) // until the listener is closed

	own(c *Conn) // makes the caller, who runs c's loop, the owner
	disown(c *Conn)
	start(t *Turn, c *Conn)                             // owner
	read(c *Conn, p []byte) (int, error)                // owner; 0, nil: end
	readOn(t *Turn, c *Conn)                            // owner; after a pause
	arm(t *Turn, c *Conn)                               // owner; the time that is due has changed
	ended(t *Turn, c *Conn)                             // owner; end was called
	drained(t *Turn, c *Conn)                           // owner; end was called, and the output is written or read is over
	expired(t *Turn, c *Conn)                           // owner; the linger time is over
	write(t *Turn, c *Conn, bufs [][]byte) (int, error) // the writer
	stuck(c *Conn) bool                                 // the writer, holding mu; EAGAIN: true if the driver writes on
	free(c *Conn)                                       // the last one out
}

var (
	errForce = errors.New("close at once")
	errExit  = errors.New("exit")
)

// New returns a running Server without listeners. Close ends it.
func New(h Handler, o Options) (*Server, error) {
	o.setDefaults()
	s := &Server{h: h, o: o, log: o.Logger, start: time.Now(), piece: writeSize, most: writeMost, listeners: map[*Listener]struct{}{}, shakes: make(chan struct{}, o.MaxHandshakes), trims: inputBuffers()}
	for i := range o.Loops {
		l := &loop{s: s, id: i}
		l.mail.l = l
		l.t = newTurn(s, l)
		s.loops = append(s.loops, l)
	}
	var err error
	switch o.Driver {
	case "goroutine":
		s.drv, s.piece, s.most = newGoroutines(s), waitSize, waitSize
	case "reactor":
		s.drv, err = newReactor(s)
	default:
		err = errors.New(`want "reactor" or "goroutine"`)
	}
	if err != nil {
		return nil, fmt.Errorf("start driver %q: %w", o.Driver, err)
	}
	if o.wrap != nil {
		s.drv = o.wrap(s.drv)
	}
	for _, l := range s.loops {
		s.loopWG.Go(func() { s.drv.run(l) })
	}
	return s, nil
}

// Borrow lends a Turn to a goroutine that appends to connections and is not their owner. Give it back with Return soon.
func (s *Server) Borrow() *Turn {
	s.mu.Lock()
	var t *Turn
	if n := len(s.turns); n > 0 {
		t, s.turns[n-1] = s.turns[n-1], nil
		s.turns = s.turns[:n-1]
	}
	s.mu.Unlock()
	if t == nil {
		t = newTurn(s, nil)
	}
	t.begin()
	return t
}

// Return writes what was appended with t and ends its use.
func (s *Server) Return(t *Turn) {
	t.end()
	s.mu.Lock()
	if len(s.turns) < 2*s.o.Loops+2 { // Locals are large
		s.turns = append(s.turns, t)
	}
	s.mu.Unlock()
}

// Driver returns the name of the driver in use.
func (s *Server) Driver() string { return s.o.Driver }

// Stats returns the counters.
func (s *Server) Stats() Stats {
	return Stats{
		BytesIn: s.in.Load(), BytesOut: s.out.Load(), Accepted: s.accepted.Load(), Open: s.open.Load(), Sockets: s.sockets.Load(),
		RefusedLimit: s.refLimit.Load(), RefusedTimeout: s.refTime.Load(), RefusedClosed: s.refEOF.Load(),
		RefusedAddress: s.refAddr.Load(), RefusedTLS: s.refTLS.Load(), RefusedUpgrade: s.refOther.Load(), AcceptErrors: s.accFail.Load(),
	}
}

// StopAccepting closes all listeners. Connections live on.
func (s *Server) StopAccepting() {
	s.mu.Lock()
	all := make([]*Listener, 0, len(s.listeners))
	for ln := range s.listeners {
		all = append(all, ln)
	}
	s.mu.Unlock()
	for _, ln := range all {
		_ = ln.Close()
	}
}

// Close closes the listeners and ends all connections with ErrServerClosed, as Conn.Close does. When ctx ends it closes
// at once those that are left. It returns when no goroutine of the Server is left; the error is that of ctx if it had to
// hurry. No Turn may be borrowed afterwards.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	again := s.closed
	s.closed = true
	s.mu.Unlock()
	if again {
		s.loopWG.Wait()
		return nil
	}
	s.StopAccepting()
	tell := func(e error) {
		for _, l := range s.loops {
			l.mail.put(post{err: e})
		}
	}
	tell(ErrServerClosed)
	done := make(chan struct{})
	go func() {
		s.connWG.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
		tell(errForce)
		<-done
	}
	tell(errExit)
	s.loopWG.Wait()
	return err
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// admit counts a new socket, unless it may not come or is one too many. from is not valid for a Unix socket.
func (s *Server) admit(ln *Listener, from netip.AddrPort, now time.Time) error {
	own := from.IsValid() && !ln.proxied(from.Addr()) // else a proxy will tell
	if own && !ln.gate.allows(from.Addr()) {
		return ErrDenied // before it costs others anything
	}
	n := s.sockets.Add(1)
	if m := s.o.MaxConns; m > 0 && n > int64(m) {
		s.sockets.Add(-1)
		return ErrTooMany
	}
	var err error
	switch m := ln.o.MaxConns; {
	case m > 0 && ln.sockets.Add(1) > int64(m):
		err = ErrTooMany
	case ln.gate.fast(now):
		err = ErrTooFast
	case own:
		err = ln.gate.enter(from.Addr(), now)
	}
	if err != nil {
		s.leftSocket(ln)
		return err
	}
	s.accepted.Add(1)
	return nil
}

func (s *Server) leftSocket(ln *Listener) {
	s.sockets.Add(-1)
	if ln.o.MaxConns > 0 {
		ln.sockets.Add(-1)
	}
}

// left undoes admit.
func (s *Server) left(c *Conn) {
	s.leftSocket(c.lis)
	if c.counted {
		c.lis.gate.leave(c.Peer().Addr())
	}
}

// quietest returns the loop with the fewest connections.
func (s *Server) quietest() *loop {
	best := s.loops[0]
	for _, l := range s.loops[1:] {
		if l.load.Load() < best.load.Load() {
			best = l
		}
	}
	return best
}
