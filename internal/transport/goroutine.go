package transport

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// goroutines is the driver with one goroutine per connection, which reads it and calls the Handler. What others ask of a
// connection is done by a worker, one for each loop. The owner is who holds gconn.owner; the order of locks is a Turn of
// the pool, owner, Conn.mu.
type goroutines struct {
	s     *Server
	turns chan struct{} // bounds the Turns of readers
	mu    sync.Mutex
	conns map[*Conn]struct{}
}

// gconn is this driver's half of a Conn.
type gconn struct {
	owner sync.Mutex
	nc    net.Conn
	rc    syscall.RawConn
	timer *time.Timer
	kick  chan struct{} // look again: something was asked for while the goroutine was waiting
	clear chan struct{} // closed when the output of an ended connection is written

	// The owner's.
	sock sock
	told bool // clear is closed

	// The writer's.
	wr wsock
}

func newGoroutines(s *Server) *goroutines {
	for _, l := range s.loops {
		l.wake = make(chan struct{}, 1)
	}
	return &goroutines{s: s, turns: make(chan struct{}, 2*s.o.Loops), conns: map[*Conn]struct{}{}}
}

func (d *goroutines) run(l *loop) {
	for !l.exit {
		if l.mail.sleep() {
			<-l.wake
		}
		l.t.begin()
		l.runPosted()
		l.t.end()
	}
	l.mail.close()
}

func (d *goroutines) wake(l *loop) {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (d *goroutines) stop(l *loop, why error) {
	if why == errExit {
		l.exit = true
		return
	}
	d.mu.Lock()
	all := make([]*Conn, 0, len(d.conns))
	for c := range d.conns {
		if c.l == l {
			all = append(all, c)
		}
	}
	d.mu.Unlock()
	for _, c := range all {
		if why == errForce {
			_ = c.x.g.nc.Close()
			continue
		}
		d.own(c)
		c.end(l.t, why)
		d.disown(c)
	}
}

func (d *goroutines) listen(*Listener) error { return nil }

func (d *goroutines) accept(ln *Listener) {
	var delay time.Duration
	for {
		nc, err := ln.ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			delay = ln.backOff(delay, err)
			continue
		}
		delay = 0
		var from netip.AddrPort
		if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
			from = a.AddrPort()
		}
		if err := d.s.admit(ln, from, time.Now()); err != nil {
			addr := nc.RemoteAddr().String()
			_ = nc.Close()
			d.s.refuse(ln, addr, err)
			continue
		}
		d.open(ln, nc, from)
	}
}

// open makes a connection of nc and starts its goroutine.
func (d *goroutines) open(ln *Listener, nc net.Conn, from netip.AddrPort) {
	g := &gconn{nc: nc, kick: make(chan struct{}, 1), clear: make(chan struct{})}
	c := newConn(d.s.quietest(), ln, from, tickAt(d.s.start, time.Now()))
	if c.x == nil {
		c.x = &extra{}
	}
	c.x.g = g
	if tc, ok := nc.(*net.TCPConn); ok {
		if d.s.o.SndBuf > 0 {
			_ = tc.SetWriteBuffer(d.s.o.SndBuf)
		}
		if d.s.o.RcvBuf > 0 {
			_ = tc.SetReadBuffer(d.s.o.RcvBuf)
		}
	}
	g.init(c)
	d.mu.Lock()
	d.conns[c] = struct{}{}
	d.mu.Unlock()
	g.timer = time.AfterFunc(time.Duration(c.limit+1)*tickLen, func() { c.post(doTimer) })
	if d.s.isClosed() { // the order to end may have gone out before it was known
		c.Close(ErrServerClosed)
	}
	d.s.connWG.Go(func() { d.serve(c) })
}

// serve is a connection's goroutine.
func (d *goroutines) serve(c *Conn) {
	g := c.x.g
	for !g.wait(d, c) {
		_ = g.nc.SetReadDeadline(time.Time{}) // kicked
	}
	d.linger(c)
	g.timer.Stop()
	_ = g.nc.Close()
	c.mu.Lock()
	c.gone, c.closed = true, true
	last := !c.writer.busy()
	var q *chunk
	if last {
		q, c.out.n = c.out.take(), 0
	}
	c.mu.Unlock()
	if q != nil {
		drop(&Turn{s: d.s, nfree: maxFree}, q)
	}
	d.mu.Lock()
	delete(d.conns, c)
	d.mu.Unlock()
	c.l.load.Add(-1)
	d.s.left(c)
}

// turn reads and feeds until nothing is left. It returns true when the connection has ended.
func (d *goroutines) turn(c *Conn) (over bool) {
	for again := true; again; {
		d.turns <- struct{}{}
		t := d.s.Borrow()
		c.x.g.owner.Lock()
		again = false
		for range 4 {
			if over = c.ended; over {
				break
			}
			if again = c.readable(t) == more; !again {
				over = c.ended
				break
			}
		}
		if c.pause != running && c.x.g.dead() {
			c.fail(t, errReset)
			over = true
		}
		c.x.g.owner.Unlock()
		d.s.Return(t)
		<-d.turns
	}
	return over
}

// lost ends a connection that cannot be waited for any more.
func (d *goroutines) lost(c *Conn, err error) {
	d.turns <- struct{}{}
	t := d.s.Borrow()
	d.own(c)
	c.fail(t, err)
	d.disown(c)
	d.s.Return(t)
	<-d.turns
}

// linger waits until the output of an ended connection is written and the peer is done, but not for long.
func (d *goroutines) linger(c *Conn) {
	g := c.x.g
	g.owner.Lock()
	dead := c.eof
	g.owner.Unlock()
	c.mu.Lock()
	failed := c.failed
	c.mu.Unlock()
	if failed {
		return
	}
	_ = g.nc.SetReadDeadline(time.Now().Add(d.s.o.Linger))
	timer := time.NewTimer(d.s.o.Linger)
	defer timer.Stop()
	const patience = 4                                  // a write is seen when all of it is through, and takes a slow peer a while
	for left, idle := c.Queued(), 0; idle < patience; { // while the peer reads what is left
		if !dead {
			for buf := make([]byte, 512); ; {
				if _, err := g.nc.Read(buf); err != nil {
					dead = !errors.Is(err, os.ErrDeadlineExceeded)
					break
				}
			}
		}
		select {
		case <-g.clear:
			return
		case <-timer.C:
			now := c.Queued()
			switch {
			case now == 0:
				return
			case now < left:
				left, idle = now, 0
			default:
				idle++
			}
			timer.Reset(d.s.o.Linger)
			_ = g.nc.SetReadDeadline(time.Now().Add(d.s.o.Linger))
		}
	}
}

func (d *goroutines) own(c *Conn)             { c.x.g.owner.Lock() }
func (d *goroutines) disown(c *Conn)          { c.x.g.owner.Unlock() }
func (d *goroutines) start(*Turn, *Conn)      {}
func (d *goroutines) free(*Conn)              {}
func (d *goroutines) expired(*Turn, *Conn)    {}
func (d *goroutines) readOn(_ *Turn, c *Conn) { c.x.g.rouse() }

func (d *goroutines) read(c *Conn, p []byte) (int, error) { return c.x.g.read(p) }

func (d *goroutines) arm(t *Turn, c *Conn) {
	if due := c.due(); due != 0 && !c.ended {
		c.x.g.timer.Reset(time.Duration(max(int32(due-t.tick), 1)) * tickLen)
	}
}

func (d *goroutines) ended(t *Turn, c *Conn) {
	c.limit = 0
	c.x.g.rouse()
}

func (d *goroutines) drained(t *Turn, c *Conn) {
	g := c.x.g
	if done, _ := c.finished(); !done || g.told {
		return
	}
	g.told = true
	if cw, ok := g.nc.(interface{ CloseWrite() error }); ok && !c.eof {
		_ = cw.CloseWrite()
	}
	close(g.clear)
}

// rouse makes the goroutine return from where it waits.
func (g *gconn) rouse() {
	_ = g.nc.SetReadDeadline(time.Unix(1, 0))
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

func (d *goroutines) write(t *Turn, c *Conn, bufs [][]byte) (int, error) {
	g := c.x.g
	if !t.block {
		return g.tryWrite(t, bufs)
	}
	if len(bufs) == 1 {
		return g.nc.Write(bufs[0])
	}
	nb := net.Buffers(append([][]byte(nil), bufs...))
	n, err := nb.WriteTo(g.nc)
	return int(n), err
}

// stuck starts a goroutine that waits for the socket to take the rest.
func (d *goroutines) stuck(c *Conn) bool {
	d.s.connWG.Go(func() {
		t := &Turn{s: d.s, block: true, nfree: maxFree, bufs: make([][]byte, 0, maxPieces)}
		c.mu.Lock()
		c.push(t)
		d.s.out.Add(t.out)
	})
	return true
}
