package transport

import (
	"errors"
	"fmt"
	"io"
	"syscall"
)

// What a read left to do.
type after int

const (
	drained after = iota // nothing is left: wait for more
	more                 // there may be more: read again, after the others
	stopped              // paused or ended
)

// readable reads once and feeds what came. The owner calls it.
func (c *Conn) readable(t *Turn) after {
	if c.ended {
		return c.discard(t)
	}
	if c.pause != running {
		return stopped
	}
	if c.px() != nil {
		return c.proxyReadable(t)
	}
	if c.tls() != nil {
		return c.tlsReadable(t)
	}
	buf, k := c.place(t)
	room := buf[k:min(k+readSize, len(buf))]
	n, err := c.l.s.drv.read(c, room)
	switch {
	case err == syscall.EAGAIN:
		return drained
	case err != nil:
		c.fail(t, fmt.Errorf("read: %w", err))
		return stopped
	case n == 0:
		c.eof = true
		c.end(t, io.EOF)
		return stopped
	}
	t.in += uint64(n)
	c.input(t, buf[:k+n], k)
	switch {
	case c.pause != running:
		return stopped
	case n == len(room) || c.hup || c.x != nil && c.x.g != nil:
		return more // the goroutine driver does not see hup and must read to the end
	}
	return drained
}

// place returns a buffer whose first k bytes are the unconsumed tail, and which has room for a read after them.
func (c *Conn) place(t *Turn) (buf []byte, k int) {
	if c.tail == nil {
		return t.buffer(), 0
	}
	k = len(c.tail.b)
	if k <= tailCopied {
		buf = t.buffer()
		copy(buf, c.tail.b)
		return buf, k
	}
	if cap(c.tail.b)-k < readSize/4 {
		c.reserve(2 * cap(c.tail.b))
	}
	return c.tail.b[:cap(c.tail.b)], k
}

// reserve gives the tail room for n bytes.
func (c *Conn) reserve(n int) {
	i := c.l.s.pools.tail(n)
	if c.tail != nil {
		i.b = append(i.b, c.tail.b...)
		c.l.s.pools.putTail(c.tail)
	}
	c.tail = i
}

// lifeMin is how many bytes of a message that is not whole yet are a sign of life: a large one may come slowly, a drop
// now and then does not keep a connection.
const lifeMin = 512

// input passes buf, k old bytes and what was read after them, through the layers to the Handler and keeps the rest.
func (c *Conn) input(t *Turn, buf []byte, k int) {
	var last error
	if c.ws() != nil {
		if buf, last = c.wsInput(t, buf, k); buf == nil {
			return
		}
	}
	used, err := c.feed(t, buf)
	if !c.connecting && (used > 0 || len(buf)-k >= lifeMin) {
		c.seen = t.tick
	}
	c.keep(buf[used:], used)
	if poison {
		spoil(t.buf)
	}
	c.fed(t, err, last)
}

// fed draws the conclusions from what Feed returned; last is an end of the input that follows what was fed.
func (c *Conn) fed(t *Turn, err, last error) {
	switch {
	case err == ErrPaused:
		c.pause = paused
		if last != nil {
			c.ws().err = last
		}
	case err != nil:
		c.end(t, err)
	case last != nil:
		c.end(t, last)
	case c.tail != nil && len(c.tail.b) > c.l.s.o.MaxInput:
		c.end(t, ErrInputTooLarge)
	}
}

func (c *Conn) feed(t *Turn, b []byte) (used int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	if !c.opened {
		c.opened = true
		c.l.s.open.Add(1)
		c.l.s.h.Open(t, c)
	}
	used, err = c.l.s.h.Feed(t, c, b)
	t.flushEarly()
	return used, err
}

// keep makes rest the tail. It is the end of what was fed, from moved bytes on; that may be the tail's own buffer.
func (c *Conn) keep(rest []byte, moved int) {
	if len(rest) == 0 {
		c.dropTail()
		return
	}
	own := c.tail != nil && len(c.tail.b) > tailCopied // place read into it
	if own && cap(c.tail.b) > tailLarge && len(rest) <= cap(c.tail.b)/4 {
		c.tail, own = &tail{}, false // leave the large one to the garbage collector
	}
	if own {
		c.tail.b = c.tail.b[:len(rest)]
		if moved > 0 {
			copy(c.tail.b, rest)
		}
		return
	}
	if c.tail == nil || cap(c.tail.b) < len(rest) {
		c.dropTail()
		c.tail = c.l.s.pools.tail(len(rest))
	}
	c.tail.b = append(c.tail.b[:0], rest...)
}

func (c *Conn) dropTail() {
	if c.tail != nil {
		c.l.s.pools.putTail(c.tail)
		c.tail = nil
	}
}

// resume feeds the tail again and goes on reading.
func (c *Conn) resume(t *Turn) {
	c.pause = running
	if !c.connecting {
		c.seen = t.tick
	}
	if c.tail != nil {
		b := c.tail.b
		used, err := c.feed(t, b)
		if used == len(b) {
			c.dropTail()
		} else if used > 0 {
			c.tail.b = b[:copy(b, b[used:])]
		}
		c.fed(t, err, nil)
	}
	if c.pause != running || c.ended {
		return
	}
	if w := c.ws(); w != nil && w.err != nil {
		c.end(t, w.err)
		return
	}
	if l := c.tls(); l != nil {
		if c.tlsInput(t, l.rest); c.pause != running || c.ended {
			return
		}
	}
	c.l.s.drv.readOn(t, c)
}

// discard reads what comes after the end, so that closing the socket does not destroy what was sent last.
func (c *Conn) discard(t *Turn) after {
	buf := t.buffer()
	n, err := c.l.s.drv.read(c, buf)
	if err == syscall.EAGAIN {
		return drained
	}
	if n > 0 && err == nil {
		t.in += uint64(n)
		if n < len(buf) && !c.hup {
			return drained
		}
		return more
	}
	c.eof = true
	c.l.s.drv.drained(t, c)
	return stopped
}

// fail ends c because its socket is of no use any more.
func (c *Conn) fail(t *Turn, err error) {
	if errors.Is(err, syscall.ECONNRESET) {
		err = errReset
	}
	c.mu.Lock()
	c.failed, c.closed = true, true
	c.mu.Unlock()
	c.end(t, err)
}

var errReset = fmt.Errorf("read: %w", syscall.ECONNRESET)

// spoil overwrites a buffer that a Handler must not have kept a part of.
func spoil(b []byte) {
	for i := range b {
		b[i] = 0xDB
	}
}
