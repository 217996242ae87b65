package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const bestDriver = "reactor"

// reactor is the driver with an epoll for each loop. The loop's goroutine is the owner of its connections. Its epoll is
// parked in Go's netpoller when there is nothing to do, so that no thread is blocked.
type reactor struct{ s *Server }

// epoll is this driver's half of a loop. All but event is the loop's own.
type epoll struct {
	fd     int
	f      *os.File // of fd
	rc     syscall.RawConn
	event  int // eventfd, edge-triggered, so it is never read
	one    [8]byte
	events [256]unix.EpollEvent

	slots     []slot
	empty     []uint32 // indices of free slots
	more      []*Conn  // may have more to read; an edge will not say so again
	spare     []*Conn
	wheel     wheel
	lingering map[*Conn]int // ended connections past their first linger time: bytes left to write
	armed     uint32        // tick for which f's deadline is set; 0: none
	stop      error         // new connections end with it
}

// slot is where an event finds its connection. The generation tells a new one from the one it was for.
type slot struct {
	c   *Conn
	gen uint32
}

func newReactor(s *Server) (driver, error) {
	for i, l := range s.loops {
		e, err := newEpoll()
		if err != nil {
			for _, l := range s.loops[:i] {
				l.ep.close()
			}
			return nil, err
		}
		l.ep = e
	}
	return &reactor{s}, nil
}

func newEpoll() (*epoll, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	if err = unix.SetNonblock(fd, true); err != nil { // or os.NewFile would not use the netpoller
		_ = unix.Close(fd)
		return nil, fmt.Errorf("set nonblock: %w", err)
	}
	e := &epoll{fd: fd, f: os.NewFile(uintptr(fd), "epoll")}
	binary.NativeEndian.PutUint64(e.one[:], 1)
	if e.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		_ = e.f.Close()
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: -1}
	if err = unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, e.event, &ev); err == nil {
		e.rc, err = e.f.SyscallConn()
	}
	if err == nil {
		err = e.f.SetReadDeadline(time.Time{}) // fails if the netpoller did not take it
	}
	if err != nil {
		e.close()
		return nil, fmt.Errorf("set up epoll: %w", err)
	}
	return e, nil
}

func (e *epoll) close() {
	_ = unix.Close(e.event)
	_ = e.f.Close()
}

func (d *reactor) run(l *loop) {
	e := l.ep
	turns := func(uintptr) bool { return d.turns(l) }
	for !l.exit {
		// One call lasts until a deadline passes. The first thing it does is to look, so no edge is lost between two.
		if err := e.rc.Read(turns); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			d.s.log.Error("loop failed", "error", err)
			break
		}
		e.armed = 0
		_ = e.f.SetReadDeadline(time.Time{})
	}
	l.mail.close()
	e.close()
}

// turns runs turns until there is nothing to do (false) or the loop is to exit (true).
func (d *reactor) turns(l *loop) bool {
	e, t := l.ep, l.t
	overdue := e.armed == 0 // a deadline may have passed
	for i := 1; ; i++ {
		n := epollWait(e.fd, e.events[:])
		if n == 0 && len(e.more) == 0 && !overdue && l.mail.sleep() {
			d.armLoop(l)
			return false
		}
		overdue = false
		t.begin()
		e.wheel.catchUp(t.tick)
		for i := range e.events[:n] {
			d.handle(t, e, &e.events[i])
		}
		d.readMore(t, e)
		d.expire(t, e)
		l.runPosted()
		t.end()
		if l.exit {
			return true
		}
		if i&15 == 0 {
			yield()
		}
	}
}

// armLoop sets the deadline for the next entry of the wheel.
func (d *reactor) armLoop(l *loop) {
	e := l.ep
	if e.armed != 0 {
		return
	}
	if e.armed = e.wheel.next(); e.armed != 0 {
		// A tick t begins tickLen*(t-1) after the start.
		_ = e.f.SetReadDeadline(d.s.start.Add(time.Duration(e.armed-1)*tickLen + time.Millisecond))
	}
}

func (d *reactor) expire(t *Turn, e *epoll) {
	for {
		ids, ok := e.wheel.step(t.tick)
		if !ok {
			break
		}
		for _, id := range ids {
			s := &e.slots[uint32(id)]
			if c := s.c; c != nil && s.gen == uint32(id>>32) && c.at != 0 && int32(c.at-e.wheel.now) <= 0 { // before it where a loop has stood still
				c.at = 0
				c.checkDeadline(t)
			}
		}
	}
	if e.armed != 0 && int32(t.tick-e.armed) >= 0 {
		e.armed = 0
	}
}

func (d *reactor) handle(t *Turn, e *epoll, ev *unix.EpollEvent) {
	if ev.Fd < 0 {
		return // the eventfd
	}
	s := &e.slots[ev.Fd]
	c := s.c
	if c == nil || s.gen != uint32(ev.Pad) {
		return // for a predecessor in this slot
	}
	if ev.Events&unix.EPOLLOUT != 0 {
		c.room(t)
	}
	if ev.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.hup = true
	}
	if ev.Events&unix.EPOLLERR != 0 && c.pause != running {
		c.fail(t, errReset)
		return
	}
	if ev.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 && !c.listed {
		if c.readable(t) == more {
			d.readOn(t, c)
		}
	}
}

// room says that the socket takes output again.
func (c *Conn) room(t *Turn) {
	c.mu.Lock()
	switch c.writer {
	case writing:
		c.writer = hadRoom // he may be between a refused write and saying so
	case waiting:
		c.writer = nobody
		if c.dirty == clean {
			c.dirty = dirty
			t.dirty = append(t.dirty, c)
		}
	}
	c.mu.Unlock()
}

func (d *reactor) readMore(t *Turn, e *epoll) {
	if len(e.more) == 0 {
		return
	}
	list := e.more
	e.more = e.spare[:0]
	for _, c := range list {
		c.listed = false
		if !c.gone && c.readable(t) == more {
			d.readOn(t, c)
		}
	}
	clear(list)
	e.spare = list[:0]
}

func (d *reactor) readOn(_ *Turn, c *Conn) {
	if !c.listed {
		c.listed = true
		c.l.ep.more = append(c.l.ep.more, c)
	}
}

func (d *reactor) start(t *Turn, c *Conn) {
	e := c.l.ep
	if n := len(e.empty); n > 0 {
		c.slot, e.empty = e.empty[n-1], e.empty[:n-1]
	} else {
		c.slot = uint32(len(e.slots))
		e.slots = append(e.slots, slot{})
	}
	s := &e.slots[c.slot]
	s.c = c
	d.arm(t, c)
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(c.slot), Pad: int32(s.gen)}
	if err := unix.EpollCtl(e.fd, unix.EPOLL_CTL_ADD, int(c.fd), &ev); err != nil {
		c.fail(t, fmt.Errorf("epoll_ctl: %w", err))
		return
	}
	if e.stop != nil {
		c.end(t, ErrServerClosed)
		if e.stop == errForce && !c.gone {
			d.release(t, c)
		}
	}
}

func (d *reactor) arm(_ *Turn, c *Conn) {
	due := c.due()
	if due == 0 {
		return
	}
	e := c.l.ep
	due = e.wheel.clamp(due)
	if c.at != 0 && int32(c.at-due) <= 0 {
		return // is looked at before that
	}
	c.at = due
	e.wheel.add(due, uint64(e.slots[c.slot].gen)<<32|uint64(c.slot))
	if e.armed != 0 && int32(due-e.armed) < 0 {
		e.armed = 0
	}
}

func (d *reactor) ended(t *Turn, c *Conn) {
	c.connecting = true // input does not prolong it
	c.setLimit(t, d.s.o.Linger)
	if !c.eof {
		d.readOn(t, c) // edges may have come during a pause
	}
}

func (d *reactor) drained(t *Turn, c *Conn) {
	if c.gone {
		return
	}
	done, failed := c.finished()
	switch {
	case !done:
	case c.eof || failed:
		d.release(t, c)
	default:
		_ = unix.Shutdown(int(c.fd), unix.SHUT_WR)
	}
}

// expired ends the linger time, unless output has been written since it was last looked at: a peer that reads slowly gets
// its rest, one that does not read holds nobody up.
func (d *reactor) expired(t *Turn, c *Conn) {
	e, left := c.l.ep, c.Queued()
	if last, again := e.lingering[c]; left > 0 && (!again || left < last) {
		if e.lingering == nil {
			e.lingering = map[*Conn]int{}
		}
		e.lingering[c] = left
		c.setLimit(t, d.s.o.Linger)
		return
	}
	d.release(t, c)
}

// release frees the slot and gives up the descriptor, which the last one out closes.
func (d *reactor) release(t *Turn, c *Conn) {
	e := c.l.ep
	delete(e.lingering, c)
	e.slots[c.slot] = slot{gen: e.slots[c.slot].gen + 1}
	e.empty = append(e.empty, c.slot)
	c.mu.Lock()
	c.gone, c.closed = true, true
	var q *chunk
	last := !c.writer.busy()
	if last {
		q, c.out.n = c.out.take(), 0
	}
	c.mu.Unlock()
	drop(t, q)
	if last {
		d.free(c)
	}
}

func (d *reactor) free(c *Conn) {
	disownFD(c)
	_ = unix.Close(int(c.fd))
	c.l.load.Add(-1)
	d.s.left(c)
	d.s.connWG.Done()
}

func (d *reactor) stop(l *loop, why error) {
	if why == errExit {
		l.exit = true
		return
	}
	e := l.ep
	e.stop = why
	for _, s := range e.slots {
		if s.c == nil {
			continue
		}
		if s.c.end(l.t, ErrServerClosed); why == errForce && !s.c.gone {
			d.release(l.t, s.c)
		}
	}
}

// wake is called under the mailbox's lock, so that the descriptor is still open.
func (d *reactor) wake(l *loop) { _, _ = unix.Write(l.ep.event, l.ep.one[:]) }

func (d *reactor) own(*Conn)        {}
func (d *reactor) disown(*Conn)     {}
func (d *reactor) stuck(*Conn) bool { return false }

func (d *reactor) read(c *Conn, p []byte) (int, error) {
	checkFD(c)
	n, err := sysRead(int(c.fd), p)
	checkFD(c)
	return n, err
}

func (d *reactor) write(t *Turn, c *Conn, bufs [][]byte) (int, error) {
	checkFD(c)
	n, err := sysWritev(int(c.fd), bufs, t)
	checkFD(c)
	return n, err
}

// listen takes a descriptor of its own, for that of a net.Listener cannot be waited for.
func (d *reactor) listen(ln *Listener) (err error) {
	defer func() { _ = ln.ln.Close() }()
	f, ok := ln.ln.(interface{ File() (*os.File, error) })
	if !ok {
		return errors.New("not a socket")
	}
	if ln.dup, err = f.File(); err != nil {
		return err
	}
	rc, err := ln.dup.SyscallConn()
	if err != nil {
		return err
	}
	return rc.Control(func(fd uintptr) { d.setOptions(int(fd), ln.unix) })
}

// setOptions sets on a listening socket what those that it accepts inherit.
func (d *reactor) setOptions(fd int, local bool) {
	set := func(level, option, value int) {
		if value > 0 {
			_ = unix.SetsockoptInt(fd, level, option, value) // it works without, only not as well
		}
	}
	set(unix.SOL_SOCKET, unix.SO_SNDBUF, d.s.o.SndBuf)
	set(unix.SOL_SOCKET, unix.SO_RCVBUF, d.s.o.RcvBuf)
	if !local {
		set(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1) // for peers that are gone and have no keep alive of their own
	}
}

func (d *reactor) accept(ln *Listener) {
	rc, err := ln.dup.SyscallConn()
	if err != nil {
		d.s.log.Error("accept failed", "listener", ln.url, "error", err)
		return
	}
	var fault error
	take := func(fd uintptr) bool {
		for !ln.isClosed() {
			nfd, sa, err := unix.Accept4(int(fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			switch err {
			case nil:
				fault = nil
				d.open(ln, nfd, sa)
			case unix.EAGAIN:
				return false
			case unix.EINTR, unix.ECONNABORTED:
			default:
				fault = err
				return true
			}
		}
		return true
	}
	var delay time.Duration
	for rc.Read(take) == nil && !ln.isClosed() {
		if fault == nil {
			delay = 0
			continue
		}
		delay = ln.backOff(delay, fault)
	}
}

// open makes a connection of a new socket and hands it to the loop with the fewest.
func (d *reactor) open(ln *Listener, fd int, sa unix.Sockaddr) {
	var from netip.AddrPort
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		from = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		from = netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	now := time.Now()
	err := d.s.admit(ln, from, now)
	if err != nil {
		_ = unix.Close(fd)
		addr := "unix"
		if from.IsValid() {
			addr = netip.AddrPortFrom(from.Addr().Unmap(), from.Port()).String()
		}
		d.s.refuse(ln, addr, err)
		return
	}
	c := newConn(d.s.quietest(), ln, from, tickAt(d.s.start, now))
	c.fd = int32(fd)
	ownFD(c)
	d.s.connWG.Add(1)
	c.post(doStart)
}
