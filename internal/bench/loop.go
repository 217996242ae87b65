//go:build linux

package bench

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// conn is one connection of the generator.
type conn struct {
	fd      int
	index   int // in loop.conns
	version byte
	name    string
	out     []byte // to be written
	tail    []byte // of what was read: a packet that is not whole
	dirty   bool   // on loop.dirty
	blocked bool   // the socket takes no more; waits for EPOLLOUT
	who     int    // the handler's number for it
	leaving bool   // it has sent DISCONNECT: the broker is to close it
	closed  bool   // and has done so
}

// handler takes the packets. An error ends the run.
type handler interface {
	packet(c *conn, b []byte, hdr int) error
}

// leaver is a handler that is told when the broker has closed a connection that was leaving.
type leaver interface {
	left(c *conn)
}

// loop is the generator's one thread: an epoll, its connections, and what they have to write at the end of a turn.
type loop struct {
	ep     int
	conns  []*conn
	spare  []int // places in conns of connections that have left
	dirty  []*conn
	events []unix.EpollEvent
	buf    []byte
	start  time.Time
	now    int64 // when the bytes in hand were read, in nanoseconds since start
}

// readSize bounds one read, eventsAtOnce one turn: few enough that the broker gets something to do while the rest of
// what it sent is looked at.
const (
	readSize     = 256 << 10
	eventsAtOnce = 256
)

func newLoop() (*loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll: %w", err)
	}
	return &loop{ep: ep, events: make([]unix.EpollEvent, eventsAtOnce), buf: make([]byte, readSize), start: time.Now()}, nil
}

// close ends all connections.
func (l *loop) close() {
	l.abandon()
	_ = unix.Close(l.ep)
}

// abandon closes all connections, as after the end of the broker.
func (l *loop) abandon() {
	for _, c := range l.conns {
		l.drop(c)
	}
	l.dirty = l.dirty[:0]
}

// drop closes one connection.
func (l *loop) drop(c *conn) {
	if !c.closed {
		c.closed = true
		_ = unix.Close(c.fd)
		l.spare = append(l.spare, c.index)
	}
}

// clock tells the nanoseconds since the loop began.
func (l *loop) clock() int64 { return int64(time.Since(l.start)) }

// open connects to addr, which has to be on this machine: the call blocks, for as long as the kernel takes to queue
// the connection for the broker.
func (l *loop) open(addr netip.AddrPort, version byte, name string) (*conn, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	c := &conn{fd: fd, index: len(l.conns), version: version, name: name}
	if n := len(l.spare); n > 0 {
		c.index = l.spare[n-1]
	}
	err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()})
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err == nil {
		err = unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.index)})
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("connect %s to %v: %w", name, addr, err)
	}
	if n := len(l.spare); n > 0 {
		l.spare = l.spare[:n-1]
		l.conns[c.index] = c
	} else {
		l.conns = append(l.conns, c)
	}
	return c, nil
}

// touch has c written at the end of the turn.
func (l *loop) touch(c *conn) {
	if !c.dirty {
		c.dirty = true
		l.dirty = append(l.dirty, c)
	}
}

// turn waits for at most wait (0: not at all), reads once from each connection that has something, gives the packets
// to h, and writes each connection that was touched once.
func (l *loop) turn(h handler, wait time.Duration) error {
	n, err := l.poll(wait)
	if err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	for _, e := range l.events[:n] {
		c := l.conns[e.Fd]
		if e.Events&unix.EPOLLOUT != 0 {
			c.blocked = false
			if err := l.watch(c, unix.EPOLLIN); err != nil {
				return err
			}
			l.touch(c)
		}
		if e.Events&^unix.EPOLLOUT != 0 {
			if err := l.read(c, h); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	return l.flush()
}

// poll asks the kernel which connections are ready; without a wait it stays off the scheduler's books.
func (l *loop) poll(wait time.Duration) (int, error) {
	if wait <= 0 {
		n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.ep), uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)), 0, 0, 0)
		if e != 0 && e != unix.EINTR {
			return 0, e
		}
		if e != 0 {
			return 0, nil
		}
		return int(n), nil
	}
	n, err := unix.EpollWait(l.ep, l.events, max(1, int(wait.Milliseconds())))
	if errors.Is(err, unix.EINTR) {
		return 0, nil
	}
	return n, err
}

func (l *loop) watch(c *conn, events uint32) error {
	return unix.EpollCtl(l.ep, unix.EPOLL_CTL_MOD, c.fd, &unix.EpollEvent{Events: events, Fd: int32(c.index)})
}

var errEnded = errors.New("the broker closed the connection")

func (l *loop) read(c *conn, h handler) error {
	at := copy(l.buf, c.tail)
	n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(c.fd), uintptr(unsafe.Pointer(&l.buf[at])), uintptr(len(l.buf)-at))
	switch {
	case e == unix.EAGAIN || e == unix.EINTR:
		return nil
	case e != 0:
		return fmt.Errorf("read: %w", e)
	case n == 0 && c.leaving:
		l.drop(c)
		if h, ok := h.(leaver); ok {
			h.left(c)
		}
		return nil
	case n == 0:
		return errEnded
	}
	l.now = l.clock()
	b := l.buf[:at+int(n)]
	for {
		n, hdr, err := frame(b)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		if err := h.packet(c, b[:n], hdr); err != nil {
			return err
		}
		b = b[n:]
	}
	if len(b) > len(l.buf)/2 {
		return fmt.Errorf("a packet of more than %d bytes", len(b))
	}
	c.tail = append(c.tail[:0], b...)
	return nil
}

// flush writes what the turn has produced.
func (l *loop) flush() error {
	for _, c := range l.dirty {
		c.dirty = false
		if err := l.write(c); err != nil {
			return fmt.Errorf("%s: write: %w", c.name, err)
		}
	}
	l.dirty = l.dirty[:0]
	return nil
}

func (l *loop) write(c *conn) error {
	for len(c.out) > 0 && !c.blocked && !c.closed {
		n, _, e := unix.RawSyscall(unix.SYS_WRITE, uintptr(c.fd), uintptr(unsafe.Pointer(&c.out[0])), uintptr(len(c.out)))
		switch e {
		case 0:
			c.out = c.out[:copy(c.out, c.out[n:])]
		case unix.EAGAIN:
			c.blocked = true
			return l.watch(c, unix.EPOLLIN|unix.EPOLLOUT)
		case unix.EINTR:
		default:
			return e
		}
	}
	return nil
}
