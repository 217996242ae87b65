package transport

import (
	"fmt"
	"syscall"
)

// pending says that something is to be written. The caller holds mu.
func (c *Conn) pending() bool {
	if c.out.n > 0 {
		return true
	}
	if l := c.tls(); l != nil && l.pending() {
		return true
	}
	w := c.ws()
	return w != nil && w.pending()
}

// flush writes the queue until it is empty, the socket full or the share of this turn used up. If somebody else is
// writing already it leaves the rest to him: nobody ever waits for another's write.
func (c *Conn) flush(t *Turn) {
	c.mu.Lock()
	c.dirty = clean
	if c.writer != nobody || c.gone || c.failed || !c.pending() {
		c.mu.Unlock()
		return
	}
	c.writer = writing
	c.push(t)
}

// push is flush's body: entered with mu held and writer set, left without.
func (c *Conn) push(t *Turn) {
	total := 0
	for {
		q, n := c.takeOut()
		c.mu.Unlock()
		q, n, err := c.write(t, q, n)
		total += n
		c.mu.Lock()
		c.out.n -= n
		c.out.putBack(q)
		switch {
		case c.gone:
		case err == syscall.EAGAIN:
			if c.writer == hadRoom {
				c.writer = writing
				continue
			}
			if c.l.s.drv.stuck(c) { // a goroutine goes on, and stays the writer
				c.mu.Unlock()
				return
			}
			c.writer = waiting
		case err != nil:
			c.failed, c.closed = true, true
			c.wrote(t, fmt.Errorf("write: %w", err))
			return
		case c.pending():
			if total < writeMost {
				continue
			}
			c.dirty = dirty
			c.wrote(t, nil)
			c.post(doFlush)
			return
		}
		c.wrote(t, nil)
		return
	}
}

// wrote ends a push; it is entered with mu held and left without.
func (c *Conn) wrote(t *Turn, err error) {
	if c.writer != waiting {
		c.writer = nobody
	}
	var q *chunk
	if c.gone || c.failed {
		q, c.out.n = c.out.take(), 0
		if l := c.tls(); l != nil {
			l.lost()
		}
	}
	free := c.gone
	drained := c.notify && (c.failed || !c.pending())
	if drained {
		c.notify = false
	}
	c.mu.Unlock()
	drop(t, q)
	if free { // the owner is done with it and left the descriptor to us
		c.l.s.drv.free(c)
		return
	}
	if err != nil {
		c.l.mail.put(post{c: c, err: err})
	}
	if drained {
		c.post(doDrain)
	}
}

// takeOut takes what is queued, n bytes. The caller holds mu and is the writer.
func (c *Conn) takeOut() (q *chunk, n int) {
	if w := c.ws(); w != nil {
		w.take(c.out.n == 0)
	}
	if l := c.tls(); l != nil {
		l.take(c.out.n == 0)
	}
	return c.out.take(), c.out.n
}

// write sends from the chain q, which holds n bytes, and whatever of the WebSocket layer belongs around them. It returns
// what is left of q and how many bytes of it were sent.
func (c *Conn) write(t *Turn, q *chunk, n int) (rest *chunk, done int, err error) {
	if c.tls() != nil {
		return c.tlsWrite(t, q, n)
	}
	w := c.ws()
	for done < c.l.s.most {
		var bufs [][]byte
		if w == nil {
			bufs = gather(t.bufs[:0], q, c.l.s.piece)
		} else {
			bufs = gather(w.begin(t.bufs[:0], n-done), q, w.left)
		}
		if len(bufs) == 0 {
			break
		}
		m, err := c.l.s.drv.write(t, c, bufs)
		clear(bufs)
		if err != nil {
			return q, done, err
		}
		t.out += uint64(m)
		if w != nil {
			m = w.sent(m)
		}
		q = sent(t, q, m)
		done += m
	}
	return q, done, nil
}
