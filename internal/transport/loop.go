package transport

import (
	"runtime"
	"sync"
	"sync/atomic"
)

func yield() { runtime.Gosched() }

// loop is an owner of connections: in the reactor it reads them, in the goroutine driver it only runs what is posted.
type loop struct {
	s    *Server
	id   int
	t    *Turn
	load atomic.Int64 // connections assigned to it
	mail mailbox
	exit bool          // the loop's: return
	ep   *epoll        // reactor
	wake chan struct{} // goroutine driver
}

// What is asked of a connection's owner, as bits of Conn.posted.
const (
	doWake  uint32 = 1 << iota
	doDrain        // the queue is empty
	doFlush        // write it: it was made dirty elsewhere
	doTimer        // goroutine driver: the timer fired
	doStart        // reactor: a new connection
	doShake        // the TLS handshake is over, or reads on
)

// post is one entry of a mailbox. A nil c is for the loop itself.
type post struct {
	c   *Conn
	err error // not nil: end it with this
}

// mailbox is how other goroutines ask something of a loop.
type mailbox struct {
	mu     sync.Mutex
	list   []post
	spare  []post
	asleep bool // the loop waits and must be woken
	closed bool
	l      *loop
}

func (m *mailbox) put(p post) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.list = append(m.list, p)
	m.rouse()
}

// putAll posts do for all of cs at once.
func (m *mailbox) putAll(cs []*Conn, do uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	for _, c := range cs {
		if c.posted.Or(do) == 0 {
			m.list = append(m.list, post{c: c})
		}
	}
	m.rouse()
}

// rouse wakes the loop. It does so under the lock, for the descriptor it writes to lives until closed is set.
func (m *mailbox) rouse() {
	if m.asleep {
		m.asleep = false
		m.l.s.drv.wake(m.l)
	}
}

// take returns what is posted. Give it back with done.
func (m *mailbox) take() []post {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asleep = false
	if len(m.list) == 0 {
		return nil
	}
	list := m.list
	m.list, m.spare = m.spare[:0], nil
	return list
}

func (m *mailbox) done(list []post) {
	clear(list)
	if cap(list) > 1<<16 {
		return
	}
	m.mu.Lock()
	m.spare = list[:0]
	m.mu.Unlock()
}

// sleep says that the loop is about to wait. It is false when there is something to do.
func (m *mailbox) sleep() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.list) > 0 {
		return false
	}
	m.asleep = true
	return true
}

func (m *mailbox) close() {
	m.mu.Lock()
	m.closed, m.list, m.spare = true, nil, nil
	m.mu.Unlock()
}

// runPosted runs what is posted, also what that posts in turn, within reason: a handler that wakes itself for ever must
// not keep the loop from its sockets.
func (l *loop) runPosted() {
	for range 4 {
		list := l.mail.take()
		if list == nil {
			return
		}
		for _, p := range list {
			if p.c == nil {
				l.s.drv.stop(l, p.err)
			} else {
				p.c.run(l.t, p.err)
			}
		}
		l.mail.done(list)
	}
}

// post asks something of the owner: a flag, and an entry in the mailbox unless there is one.
func (c *Conn) post(do uint32) {
	if c.posted.Or(do) == 0 {
		c.l.mail.put(post{c: c})
	}
}

// run does what was asked of c, as its owner.
func (c *Conn) run(t *Turn, err error) {
	d := c.l.s.drv
	d.own(c)
	defer d.disown(c)
	do := c.posted.Swap(0)
	if do&doStart != 0 {
		d.start(t, c)
	}
	if do&doFlush != 0 {
		t.dirty = append(t.dirty, c)
	}
	if do&doTimer != 0 {
		c.checkDeadline(t)
	}
	if c.ended {
		if do&doDrain != 0 {
			d.drained(t, c)
		}
		return
	}
	if err != nil {
		c.end(t, err)
		return
	}
	if do&doShake != 0 {
		if c.shaken(t); c.ended {
			return
		}
	}
	if do&(doWake|doDrain) != 0 && c.opened {
		err = c.l.s.h.Woken(t, c)
		t.flushEarly()
		if err != nil && err != ErrPaused {
			c.end(t, err)
			return
		}
	}
	if c.pause == resuming {
		c.resume(t)
	}
}
