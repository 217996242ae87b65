package disk

import (
	"github.com/myelin-mqtt/myelin/internal/route"
	"github.com/myelin-mqtt/myelin/internal/session"
	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
)

// losses are messages that were dropped under the engine's lock, and the
// sessions to wake: both are told when the lock is free.
type losses struct {
	lost []loss
	wake []store.Sink
	// over: the message was not retained, and why.
	over bool
	why  store.Reason
}

type loss struct {
	q *queue
	m *packet.Publish
}

func (l *losses) tell(e *Engine) {
	for _, s := range l.wake {
		s.Ready()
	}
	for _, x := range l.lost {
		e.dropped.Add(1)
		e.o.OnDrop(x.q.ClientID(), x.m, store.QueueFull)
	}
}

// Publish implements store.Engine.
func (e *Engine) Publish(m *packet.Publish, to []store.Target, in store.Inbound, c store.Completer, tok uint64) (done bool, err error) {
	var l losses
	e.mu.Lock()
	done, err = e.publish(m, to, in, c, tok, &l)
	e.mu.Unlock()
	if l.over {
		e.o.OnDrop("", m, l.why)
	}
	l.tell(e)
	return done, err
}

// publish is Publish under the lock.
func (e *Engine) publish(m *packet.Publish, to []store.Target, in store.Inbound, c store.Completer, tok uint64, l *losses) (done bool, err error) {
	retain := m.Retain() && !in.Again && !e.o.NoRetain
	from, _ := in.From.(*queue)
	if from != nil && from.ended {
		from = nil
	}
	if q, ok := in.Fired.(*queue); ok && q.will() != nil {
		q.setWill(nil)
		q.armed = false
		q.slim()
		if !q.ended && e.want(nil, 0) {
			q.save()
		}
	}
	switch {
	case len(to) == 0 && !retain && from == nil:
		return true, nil
	case e.err != nil:
		return true, e.err
	case e.closing: // which would not end otherwise
		return true, ErrClosed
	case e.noRoom(m, len(to), in):
		return true, e.refuse(m, len(to), l)
	case e.o.Limits.Policy == session.Refuse:
		for i := range to {
			if err := to[i].To.(*queue).refuses(int(size(m))); err != nil {
				return true, err
			}
		}
	}
	if retain {
		l.over, l.why = e.retain(m), store.RetainedFull
	}
	if from != nil {
		from.hold(in.ID)
	}
	hard := retain || from != nil
	if n := e.put(m, to, hard, c, tok, l); n == 0 {
		if !hard { // for nobody: all have ended, or are full
			return true, nil
		}
		e.want(c, tok)
		return false, nil
	}
	g := e.open
	g.due, g.sync = true, true
	e.work.Signal()
	return false, nil
}

// put gives the message its number and puts it into the queues of its
// targets; n of them take it. The caller holds mu.
func (e *Engine) put(m *packet.Publish, to []store.Target, hard bool, c store.Completer, tok uint64, l *losses) (n int32) {
	g := e.open
	lsn := g.first + uint64(len(g.entries))
	t0 := uint32(len(g.targets))
	bytes := uint32(size(m))
	g.entries = append(g.entries, entry{m: m, t0: t0, hard: true}) // where all are full together, it may be pushed out of the first queue by the next
	e.lsn = lsn
	g.bytes += cost(m)
	var second []store.Target // of a session that has it already: another number
	for i := range to {
		t := &to[i]
		q := t.To.(*queue)
		if q.last == lsn {
			second = append(second, *t)
			continue
		}
		if q.take(m, t, lsn, bytes, l) {
			g.targets = append(g.targets, target{q: q, how: how{more: t.More, sub: t.Sub, qos: t.QoS, flags: t.Flags}})
			n++
		}
	}
	if n == 0 {
		g.entries = g.entries[:len(g.entries)-1]
		e.lsn--
		g.bytes -= cost(m)
		return 0
	}
	x := &g.entries[len(g.entries)-1]
	x.t1, x.c, x.tok, x.hard = uint32(len(g.targets)), c, tok, hard
	x.live += n
	g.seg.live += int64(n)
	if len(second) > 0 {
		x.hard = true // c stands for both
		e.put(m, second, true, nil, 0, l)
	} else if x.live == 0 && !hard {
		e.elide(g, x)
	}
	return n
}

// retain sets or clears a retained message; over: a limit forbids it. The
// caller holds mu. [MQTT-3.3.1-5], [MQTT-3.3.1-6], [MQTT-3.3.1-7]
func (e *Engine) retain(m *packet.Publish) (over bool) {
	name := string(m.Topic())
	if len(m.Payload()) == 0 {
		e.unretain(name)
		return false
	}
	grows := size(m)
	old, had := e.retained.Get(name)
	if had {
		grows -= size(old)
	}
	if e.o.MaxRetained > 0 && !had && e.retained.Len() >= e.o.MaxRetained ||
		e.o.MaxRetainedBytes > 0 && grows > 0 && e.retainedBytes+grows > e.o.MaxRetainedBytes {
		e.unretain(name) // what it should have replaced is no longer true
		return true
	}
	e.retained.Set(name, m)
	e.retainedBytes += grows
	e.open.batch.Set(retainedKey(m.Topic()), appendMessage(make([]byte, 0, messageSize(m)), m), nil)
	return false
}

func (e *Engine) unretain(name string) {
	if old, had := e.retained.Delete(name); had {
		e.retainedBytes -= size(old)
		e.open.batch.Delete(retainedKey([]byte(name)), nil)
	}
}

// Retained implements store.Engine.
func (e *Engine) Retained(filter string) *route.Cursor[*packet.Publish] {
	if filter == "" {
		return e.retained.All()
	}
	return e.retained.Cursor(filter)
}

// Current implements store.Engine.
func (e *Engine) Current(name string) *packet.Publish {
	m, _ := e.retained.Get(name)
	return m
}

// Forget implements store.Engine.
func (e *Engine) Forget(m *packet.Publish) {
	name := string(m.Topic())
	e.mu.Lock()
	now, had := e.retained.Get(name)
	if had = had && now == m; had {
		if e.want(nil, 0) {
			e.unretain(name)
		} else {
			e.retained.Delete(name)
			e.retainedBytes -= size(m)
		}
	}
	e.mu.Unlock()
	if had {
		e.expired.Add(1)
		e.o.OnDrop("", m, store.Expired)
	}
}
