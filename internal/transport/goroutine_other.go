//go:build !unix || plainread

package transport

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// This file is for systems where a goroutine cannot wait for a socket without reading from it. The build tag plainread
// makes it that of any system, for the tests.

// sock is the reading half: an ordinary Read into a buffer of its own, from which read copies.
type sock struct {
	buf  [4096]byte
	have []byte
	err  error
}

// wsock is the writing half, which has no state: without a write that does not wait, a goroutine does every one.
type wsock struct{}

func (g *gconn) init(*Conn) {}

// wait serves the connection until it has ended (true) or the goroutine was roused.
func (g *gconn) wait(d *goroutines, c *Conn) (over bool) {
	d.own(c)
	idle, over := c.holds(), c.ended
	d.disown(c)
	if over {
		return true
	}
	if idle {
		<-g.kick
		return d.turn(c)
	}
	if len(g.sock.have) == 0 && g.sock.err == nil {
		n, err := g.nc.Read(g.sock.buf[:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = nil
			if n == 0 {
				return d.turn(c)
			}
		}
		g.sock.have, g.sock.err = g.sock.buf[:n], err
	}
	return d.turn(c)
}

// holds says that nothing is to be read now.
func (c *Conn) holds() bool {
	if c.pause != running || c.eof {
		return true
	}
	l := c.tls()
	return l != nil && l.shaking() && l.isFull()
}

func (g *gconn) read(p []byte) (int, error) {
	if len(g.sock.have) > 0 {
		n := copy(p, g.sock.have)
		g.sock.have = g.sock.have[n:]
		return n, nil
	}
	switch g.sock.err {
	case nil:
		return 0, syscall.EAGAIN
	case io.EOF:
		return 0, nil
	}
	return 0, g.sock.err
}

func (g *gconn) tryWrite(*Turn, [][]byte) (int, error) { return 0, syscall.EAGAIN }

// dead cannot be told without reading.
func (g *gconn) dead() bool { return false }

const seesReset = false
