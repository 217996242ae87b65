package transport

import (
	"errors"
	"io"

	"github.com/myelin-mqtt/myelin/internal/transport/ws"
)

// end ends c: nothing is fed any more, what is queued is still written, then the descriptor goes. The owner calls it.
func (c *Conn) end(t *Turn, err error) {
	if c.ended {
		return
	}
	c.ended, c.pause = true, running
	c.dropTail()
	c.mu.Lock()
	c.closed = true
	if !c.opened && !c.writer.busy() && !c.pending() {
		c.eof = true // nothing was said that lingering could save
	}
	if w := c.ws(); w != nil && !w.upgrading && !c.failed && !c.eof {
		w.close(err)
	}
	if l := c.tls(); l != nil {
		l.bye = l.safe && !c.failed && !c.eof
		l.abort(err)
	}
	var q *chunk
	if c.failed && !c.writer.busy() {
		q, c.out.n = c.out.take(), 0
	}
	rest := c.writer.busy() || !c.failed && c.pending()
	c.notify = rest
	if rest && c.writer == nobody && c.dirty == clean {
		c.dirty = dirty
		t.dirty = append(t.dirty, c)
	}
	c.mu.Unlock()
	drop(t, q)
	s := c.l.s
	var closed *ws.CloseError
	if errors.As(err, &closed) {
		err = io.EOF
	}
	if c.opened {
		s.open.Add(-1)
		s.h.Gone(t, c, err)
	} else {
		s.refuse(c.lis, c.RemoteAddr(), err)
	}
	s.drv.ended(t, c)
	if !rest {
		s.drv.drained(t, c)
	}
}

// finished says that nothing remains to be written, so that an ended connection may be closed once the peer is done, or
// at once if it has failed.
func (c *Conn) finished() (done, failed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.writer.busy() && (c.failed || !c.pending()), c.failed
}

// checkDeadline ends c if its time is over.
func (c *Conn) checkDeadline(t *Turn) {
	s := c.l.s
	switch {
	case c.limit == 0:
	case c.pause != running && !c.connecting && c.Queued() == 0: // silent because nobody listens; one that does not read is not
		c.seen = t.tick
		s.drv.arm(t, c)
	case int32(t.tick-c.due()) < 0:
		s.drv.arm(t, c)
	case c.ended:
		s.drv.expired(t, c)
	case !c.opened:
		c.end(t, ErrTimeout)
	default:
		c.limit = 0
		err := s.h.Timeout(t, c)
		t.flushEarly()
		if err == nil {
			err = ErrTimeout
		}
		c.end(t, err)
	}
}
