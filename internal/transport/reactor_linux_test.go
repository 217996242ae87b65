package transport

import (
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestInherited: what is set on the listening socket reaches the connection.
func TestInherited(t *testing.T) {
	opened := make(chan *Conn, 1)
	_, ln := serve(t, &echo{open: func(_ *Turn, c *Conn) { opened <- c }}, "tcp", Options{Driver: "reactor", SndBuf: 100_000})
	send(t, dial(t, ln), frame(1, 4))
	fd := int(await(t, opened, "Open").fd)
	for _, x := range []struct {
		name          string
		level, option int
		want          int
	}{
		{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{"SO_SNDBUF", unix.SOL_SOCKET, unix.SO_SNDBUF, 200_000}, // Linux doubles it
	} {
		if v, err := unix.GetsockoptInt(fd, x.level, x.option); v != x.want || err != nil {
			t.Errorf("%s is %d, %v, want %d", x.name, v, err, x.want)
		}
	}
	fl, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil || fl&unix.O_NONBLOCK == 0 {
		t.Errorf("flags %x, %v", fl, err)
	}
}

// hooked is a reactor whose writes can be interfered with.
type hooked struct {
	*reactor
	before func(t *Turn, c *Conn) error // an error is the write's result
}

func (d *hooked) write(t *Turn, c *Conn, bufs [][]byte) (int, error) {
	if err := d.before(t, c); err != nil {
		return 0, err
	}
	return d.reactor.write(t, c, bufs)
}

// interfere returns the option that puts before in place.
func interfere(before func(t *Turn, c *Conn) error) func(driver) driver {
	return func(d driver) driver { return &hooked{d.(*reactor), before} }
}

// TestRoomWhileWriting: the socket gets room between a refused write and the writer saying that it was refused. The edge
// comes only once.
func TestRoomWhileWriting(t *testing.T) {
	var refusals atomic.Int64
	o := Options{Driver: "reactor", Loops: 1}
	o.wrap = interfere(func(t *Turn, c *Conn) error {
		if refusals.Add(1)%2 == 0 {
			return nil
		}
		c.room(t)
		return syscall.EAGAIN
	})
	_, ln := serve(t, &echo{}, "tcp", o)
	nc := dial(t, ln)
	for i := range 50 {
		send(t, nc, frame(i, 100))
		expect(t, nc, frame(i, 100))
	}
}

// TestLastOneOutCloses: the owner gives a connection up while somebody else is inside of a write. The descriptor must stay
// that connection's until he is back.
func TestLastOneOutCloses(t *testing.T) {
	opened, inside := make(chan *Conn, 1), make(chan int, 1)
	var blocked atomic.Bool
	var s *Server
	o := Options{Driver: "reactor", Loops: 1, Linger: time.Millisecond}
	o.wrap = interfere(func(turn *Turn, c *Conn) error {
		if turn.l != nil || !blocked.CompareAndSwap(false, true) {
			return nil
		}
		c.Close(nil)
		eventually(t, func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.gone
		})
		// Whoever takes the lowest descriptor now must not get this one.
		fd, err := syscall.Dup(0)
		if err != nil {
			t.Error(err)
		}
		_ = syscall.Close(fd)
		inside <- fd
		return nil
	})
	s, ln := serve(t, &echo{open: func(_ *Turn, c *Conn) { opened <- c }}, "tcp", o)
	send(t, dial(t, ln), []byte{1})
	c := await(t, opened, "Open")
	turn := s.Borrow()
	c.Append(turn, []byte("x"))
	s.Return(turn)
	if fd := await(t, inside, "write"); fd == int(c.fd) {
		t.Error("the descriptor was closed under a write")
	}
	eventually(t, func() bool { return s.Stats().Sockets == 0 })
}

// TestStaleEvent: an event for a connection that had the slot before is not the present one's.
func TestStaleEvent(t *testing.T) {
	h := &echo{}
	h.feed = func(t *Turn, c *Conn, b []byte) (int, error) {
		s := t.l.ep.slots[c.slot]
		if s.c != c {
			h.fault("not in its slot")
		}
		if len(b) == 1 {
			return 1, nil
		}
		t.s.drv.(*reactor).handle(t, t.l.ep, &unix.EpollEvent{Events: unix.EPOLLRDHUP, Fd: int32(c.slot), Pad: int32(s.gen - 1)})
		if c.hup {
			h.fault("took another's event")
		}
		t.s.drv.(*reactor).handle(t, t.l.ep, &unix.EpollEvent{Events: unix.EPOLLRDHUP, Fd: int32(c.slot + 1)})
		c.Append(t, b)
		if s.gen != 1 {
			h.fault("a slot that was used again has its old generation")
		}
		return len(b), nil
	}
	s, ln := serve(t, h, "tcp", Options{Driver: "reactor", Loops: 1})
	a, b := dial(t, ln), dial(t, ln)
	send(t, a, []byte("1"))
	send(t, b, []byte("1"))
	eventually(t, func() bool { return s.Stats().Open == 2 })
	_ = a.Close()
	eventually(t, func() bool { return s.Stats().Sockets == 1 })
	a = dial(t, ln)
	send(t, a, []byte("22"))
	expect(t, a, []byte("22"))
}
