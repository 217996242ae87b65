//go:build unix && !plainread

package transport

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// sock is the reading half: one RawConn.Read for as long as the goroutine waits, so that it needs no buffer meanwhile.
type sock struct {
	fd    int // valid during a call of ready
	ready func(fd uintptr) bool
}

// wsock is the writing half.
type wsock struct {
	try  func(fd uintptr) bool
	t    *Turn
	bufs [][]byte
	n    int
	err  error
}

func (g *gconn) init(c *Conn) {
	g.rc, _ = g.nc.(syscall.Conn).SyscallConn() // of a net.TCPConn or UnixConn it does not fail
	d := c.l.s.drv.(*goroutines)
	g.sock.ready = func(fd uintptr) bool {
		g.sock.fd = int(fd)
		return d.turn(c)
	}
	g.wr.try = func(fd uintptr) bool {
		g.wr.n, g.wr.err = sysWritev(int(fd), g.wr.bufs, g.wr.t)
		return true
	}
}

// wait serves the connection until it has ended (true) or the goroutine was roused.
func (g *gconn) wait(d *goroutines, c *Conn) (over bool) {
	err := g.rc.Read(g.sock.ready)
	if err == nil {
		return true
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	d.lost(c, err)
	return true
}

func (g *gconn) read(p []byte) (int, error) { return sysRead(g.sock.fd, p) }

func (g *gconn) tryWrite(t *Turn, bufs [][]byte) (int, error) {
	g.wr.t, g.wr.bufs = t, bufs
	if err := g.rc.Write(g.wr.try); err != nil {
		return 0, err
	}
	g.wr.t, g.wr.bufs = nil, nil
	return g.wr.n, g.wr.err
}

// dead says that the peer has reset the connection, which a paused one would not see by reading.
func (g *gconn) dead() bool {
	fds := []unix.PollFd{{Fd: int32(g.sock.fd)}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1 && fds[0].Revents&unix.POLLERR != 0
}

const seesReset = true // that a paused connection was reset
