package mem

import (
	"sync"

	"github.com/myelin-mqtt/myelin/internal/qos"
	"github.com/myelin-mqtt/myelin/internal/session"
	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
)

// queue is one stored session: what waits for it, in order.
type queue struct {
	e  *Engine
	id string

	mu    sync.Mutex // guards what follows
	sink  store.Sink // nil: nobody is connected
	items []store.Delivery
	head  int // items before it are gone
	bytes int
	ended bool
	told  bool // Ready was called, and Next has not run empty since
}

func (q *queue) attach(s store.Sink) {
	q.mu.Lock()
	q.sink, q.told = s, false
	q.mu.Unlock()
}

func (q *queue) n() int { return len(q.items) - q.head }

// refuses is what the publisher of m is told where there is no room: nothing
// for a session that is connected and merely slow.
func (q *queue) refuses(m *packet.Publish) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := int(size(m)); q.sink == nil {
		switch {
		case q.e.o.Limits.Full(q.n(), q.bytes, n):
			return &store.QuotaError{ClientID: q.id}
		case q.e.over(n):
			return &store.QuotaError{ClientID: q.id, Total: true}
		}
	}
	return nil
}

// put queues a message, and wakes the session's owner where he sleeps.
func (q *queue) put(m *packet.Publish, t *store.Target, lsn uint64) { q.putNow(m, "", t, lsn) }

// Retained implements store.Session. The message is looked up under the lock
// of the queue: a newer one is retained first and then put, so that it comes
// behind, or is found here.
func (q *queue) Retained(name string, t store.Target) bool {
	return q.putNow(nil, name, &t, q.e.lsn.Add(1))
}

// putNow is put of m, or of the retained message of name if m is nil.
func (q *queue) putNow(m *packet.Publish, name string, t *store.Target, lsn uint64) bool {
	var dropped []*packet.Publish
	q.mu.Lock()
	if m == nil {
		m = q.e.Current(name)
	}
	if m == nil || q.ended {
		q.mu.Unlock()
		return false
	}
	if name != "" {
		t.QoS = min(t.QoS, m.QoS())
	}
	l, n := &q.e.o.Limits, int(size(m))
	promised := l.Policy == session.Refuse && q.sink == nil // Publish has looked, and others may have come between
	for !promised && l.Full(q.n(), q.bytes, n) {
		if l.Policy != session.DropOldest {
			q.mu.Unlock()
			q.e.dropped.Add(1)
			q.e.o.OnDrop(q.id, m, QueueFull)
			return true
		}
		dropped = append(dropped, q.pop().Msg)
	}
	if !promised && l.Policy != session.DropOldest && q.sink == nil && q.e.over(n) {
		q.mu.Unlock()
		q.e.dropped.Add(1)
		q.e.o.OnDrop(q.id, m, QueueFull)
		return true
	}
	was := q.weight()
	q.items = append(q.items, store.Delivery{Msg: m, More: t.More, LSN: lsn, Sub: t.Sub, QoS: t.QoS, Flags: t.Flags})
	q.bytes += n
	q.e.queued.Add(1)
	q.e.queuedBytes.Add(int64(n))
	q.e.holders.Moved(q, was, q.weight())
	sink := q.sink
	if q.told {
		sink = nil
	}
	q.told = q.told || sink != nil
	q.mu.Unlock()
	if sink != nil {
		sink.Ready()
	}
	for _, m := range dropped {
		q.e.dropped.Add(1)
		q.e.o.OnDrop(q.id, m, QueueFull)
	}
	q.e.relieve(q)
	return true
}

// weight is what the queue holds, for holders.
func (q *queue) weight() uint64 { return store.Weight(q.n(), q.bytes) }

// over reports whether all queues together have no room for a message.
func (e *Engine) over(size int) bool {
	return e.o.Limits.Over(e.queued.Load(), e.queuedBytes.Load(), size)
}

// relieve drops messages of the queues that hold most, or of q, until all
// together are below their limits. The caller holds no lock.
func (e *Engine) relieve(q *queue) {
	l := &e.o.Limits
	if l.Policy != session.DropOldest || !l.Totals() {
		return
	}
	for l.TotalMessages > 0 && e.queued.Load() > l.TotalMessages || l.TotalBytes > 0 && e.queued.Load() > 1 && e.queuedBytes.Load() > l.TotalBytes {
		most, ok := e.holders.Most()
		if !ok {
			most = q
		}
		if !most.dropOldest() && most == q {
			return // others have taken theirs
		}
	}
}

// dropOldest drops the oldest message; false: there is none.
func (q *queue) dropOldest() bool {
	q.mu.Lock()
	if q.n() == 0 {
		q.mu.Unlock()
		return false
	}
	m := q.pop().Msg
	q.mu.Unlock()
	q.e.dropped.Add(1)
	q.e.o.OnDrop(q.id, m, QueueFull)
	return true
}

// pop takes the oldest message; the caller holds the lock and knows that there
// is one.
func (q *queue) pop() store.Delivery {
	was := q.weight()
	d := q.items[q.head]
	q.items[q.head] = store.Delivery{}
	q.head++
	n := int(size(d.Msg))
	q.bytes -= n
	q.e.queued.Add(-1)
	q.e.queuedBytes.Add(int64(-n))
	q.e.holders.Moved(q, was, q.weight())
	switch {
	case q.head == len(q.items):
		q.head = 0
		if q.items = q.items[:0]; cap(q.items) > 64 {
			q.items = nil
		}
	case q.head >= 1024 && 2*q.head > len(q.items):
		k := copy(q.items, q.items[q.head:])
		clear(q.items[k:])
		q.items, q.head = q.items[:k], 0
	}
	return d
}

// Next implements store.Session.
func (q *queue) Next(buf []store.Delivery, now uint32) (n int, more bool) {
	var expired []*packet.Publish
	q.mu.Lock()
	for n < len(buf) && q.n() > 0 {
		d := q.pop()
		if expiredAt(d.Msg, now) { // [MQTT-3.3.2-5]
			expired = append(expired, d.Msg)
			continue
		}
		buf[n] = d
		n++
	}
	more = q.n() > 0
	q.told = more
	q.mu.Unlock()
	for _, m := range expired {
		q.e.expired.Add(1)
		q.e.o.OnDrop(q.id, m, Expired)
	}
	return n, more
}

// Queued implements store.Session.
func (q *queue) Queued() (messages, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.n(), q.bytes
}

// Detach implements store.Session.
func (q *queue) Detach(uint32, bool, store.Completer, uint64) (done bool) {
	q.mu.Lock()
	q.sink = nil
	q.mu.Unlock()
	return true
}

// End implements store.Session.
func (q *queue) End(store.Completer, uint64) (shared []store.Delivery, done bool) {
	q.e.mu.Lock()
	if q.e.sessions[q.id] == q {
		delete(q.e.sessions, q.id)
	}
	q.e.mu.Unlock()
	var lost []*packet.Publish
	q.mu.Lock()
	q.ended, q.sink = true, nil
	for q.n() > 0 {
		if d := q.pop(); d.Flags&qos.Shared != 0 {
			shared = append(shared, d)
		} else {
			lost = append(lost, d.Msg)
		}
	}
	q.items = nil
	q.mu.Unlock()
	for _, m := range lost {
		q.e.o.OnDrop(q.id, m, SessionEnded)
	}
	return shared, true
}

// Shared implements store.Session.
func (q *queue) Shared() (shared []store.Delivery) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, d := range q.items[q.head:] {
		if d.Flags&qos.Shared != 0 {
			shared = append(shared, d)
		}
	}
	return shared
}

// In memory there is nothing to wait for.

// Subscribe implements store.Session.
func (q *queue) Subscribe([]store.Sub, store.Completer, uint64) bool { return true }

// Settle implements store.Session.
func (q *queue) Settle(store.Sub) {}

// Unsubscribe implements store.Session.
func (q *queue) Unsubscribe([]string, store.Completer, uint64) bool { return true }

// Ack implements store.Session.
func (q *queue) Ack(...uint64) {}

// Sent2 implements store.Session.
func (q *queue) Sent2(uint64, uint16, store.Completer, uint64) bool { return true }

// Received2 implements store.Session.
func (q *queue) Received2(uint16, store.Completer, uint64) bool { return true }

// Release2 implements store.Session.
func (q *queue) Release2(uint16, store.Completer, uint64) bool { return true }

func expiredAt(m *packet.Publish, now uint32) bool {
	_, expired := m.Left(now)
	return expired
}
