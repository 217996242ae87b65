package disk

import (
	"time"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
)

// watchEvery is how often the free room is looked at, and lateness how long a
// group may wait for room until its publishers hear of it.
const (
	watchEvery = time.Second
	lateness   = 2 * time.Second
)

// watch keeps an eye on the disk, and logs once when it is full, and once when
// it is not any more.
func (e *Engine) watch() {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for told := false; ; {
		s := e.space
		s.look()
		if full := s.full.Load(); full != told {
			told = full
			if full {
				e.log.Error("disk is full: durable messages are refused", "dir", e.o.Dir, "free", s.free.Load(), "min_free", s.least)
			} else {
				e.log.Info("disk has room again: durable messages are accepted", "dir", e.o.Dir, "free", s.free.Load())
			}
		}
		select {
		case <-e.stop:
			return
		case <-t.C:
			e.tellPublishers()
			e.makeRoom()
		case <-s.poke:
		}
	}
}

// makeRoom has the disk given back what deleted messages took, while it is full.
// Otherwise that waits for new messages to fill tables, and none are accepted.
// It is called once a second.
func (e *Engine) makeRoom() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.space.full.Load() || e.err != nil || e.stuck() {
		return
	}
	if n := len(e.segs); n > 0 && len(e.open.entries) == 0 {
		if s := e.segs[n-1]; s.end == 0 && s.live == 0 && s.first <= e.lsn {
			e.closeSeg(s, e.lsn+1)
			e.open.seg, e.open.due = e.growing(), true
			e.work.Signal()
		}
	}
	if e.freed && !e.flushing {
		e.freed, e.flushing = false, true
		e.over.Go(func() {
			done, err := e.db.AsyncFlush()
			if err == nil {
				select {
				case <-done:
				case <-e.stop:
				}
			}
			e.mu.Lock()
			e.flushing = false
			e.mu.Unlock()
		})
	}
}

// tellPublishers tells who waits for a group that has found no room for long.
// It is called once a second.
func (e *Engine) tellPublishers() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.late = e.err == nil && e.committing != nil && e.space.full.Load() && time.Since(e.sealed) >= lateness; !e.late {
		return
	}
	for _, g := range []*group{e.committing, e.open} {
		for i := range g.entries {
			e.tellLate(g.entries[i].c, g.entries[i].tok)
		}
		for _, w := range g.waiters {
			e.tellLate(w.c, w.tok)
		}
	}
}

func (e *Engine) tellLate(c store.Completer, tok uint64) {
	if _, ok := c.(store.Patient); ok {
		e.notes = append(e.notes, note{c: c, tok: tok, late: true})
		e.told.Signal()
	}
}

// stuck tells whether nothing at all can be committed: there is no room, and no
// reserve any more. The caller holds mu.
func (e *Engine) stuck() bool { return e.late || e.space.log.Load() > 0 }

// barred is why no session can be claimed and no subscription be stored; they
// are small, and what is left of the room is for them. The caller holds mu.
func (e *Engine) barred() error {
	switch {
	case e.err != nil:
		return e.err
	case e.closing:
		return ErrClosed
	case e.stuck():
		return store.ErrFull
	}
	return nil
}

// turnAway answers a call with ErrFull while nothing can be committed. The
// caller holds mu.
func (e *Engine) turnAway(c store.Completer, tok uint64) bool {
	if e.err != nil || !e.stuck() {
		return false
	}
	e.notes = append(e.notes, note{c: c, tok: tok, err: store.ErrFull})
	e.told.Signal()
	return true
}

// noRoom tells whether a message has to be refused for want of room. A will,
// and what a session has left to others, were accepted before. To clear a
// retained message makes room. The caller holds mu.
func (e *Engine) noRoom(m *packet.Publish, targets int, in store.Inbound) bool {
	if !e.space.full.Load() || in.Again || in.Fired != nil {
		return false
	}
	clears := targets == 0 && in.From == nil && len(m.Payload()) == 0
	return !clears || e.stuck() && m.QoS() > 0
}

// refuse refuses a message. At QoS 0 nobody can be told, and what it should
// have replaced is no longer true. The caller holds mu.
func (e *Engine) refuse(m *packet.Publish, targets int, l *losses) error {
	if m.QoS() == 0 && m.Retain() && !e.o.NoRetain {
		e.unretain(string(m.Topic()))
		e.want(nil, 0)
		l.over, l.why = true, store.DiskFull
		if targets == 0 {
			return nil
		}
	}
	return store.ErrFull
}

// health is the state for Stats. The caller holds mu.
func (e *Engine) health() store.Health {
	switch {
	case e.failed.Load():
		return store.Failed
	case e.space.full.Load():
		return store.Full
	}
	return store.Healthy
}

// syncFailed is told of every sync that failed: from then on it is not known
// what is on the disk. The caller may hold the database's locks.
func (e *Engine) syncFailed(err error) {
	if e.opened.Load() { // else opening says so
		go e.fail(err)
	}
}
