package disk

import (
	"math"
	"slices"
	"sort"
	"unsafe"

	"github.com/cockroachdb/pebble/v2"

	"github.com/myelin-mqtt/myelin/internal/session"
	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
)

// queue is one stored session: what waits for it, and what it is. There may be
// millions, so what few of them have is in a window. All of it is under the
// engine's lock.
type queue struct {
	e        *Engine
	text     *byte // of the client identifier
	sid      uint64
	last     uint64   // the highest number of its messages, or of all when it began
	wait     *backlog // nil: nothing waits
	w        *window  // nil: nothing is in it
	detached uint32   // Unix seconds, 0: connected
	expiry   uint32
	size     uint16 // of the client identifier
	armed    bool
	ended    bool
	told     bool // Ready was called, or will be, and Next has not run empty since
	dirty    bool // the cursor is to be written
	subbed   bool // it may have subscriptions
}

// setID says whose session it is. The identifier is a string of MQTT, so that
// the half of its head that is not kept is not needed.
func (q *queue) setID(id string) { q.text, q.size = unsafe.StringData(id), uint16(len(id)) }

// ClientID implements ids.Named.
func (q *queue) ClientID() string { return unsafe.String(q.text, int(q.size)) }

// sink is the client's connection, nil: nobody is connected.
func (q *queue) sink() store.Sink {
	if q.w == nil {
		return nil
	}
	return q.w.sink
}

func (q *queue) will() *store.Will {
	if q.w == nil {
		return nil
	}
	return q.w.will
}

// setWill is the will from now on, nil: none.
func (q *queue) setWill(w *store.Will) {
	if w != nil {
		q.win().will = w
	} else if q.w != nil {
		q.w.will = nil
	}
}

// window is what is under way between a session and its client.
type window struct {
	sink    store.Sink // nil: nobody is connected
	will    *store.Will
	given   []given // handed out, in the order of their numbers
	begin   int     // those before it are over
	read    []fetched
	reading int // how many messages a reader is to fetch; 0: it is not asked
	inbound map[uint16]struct{}
	out     map[uint16]outbound
}

// given is a message that was handed out, or a run of them that is finished.
type given struct {
	ref
	end  uint64 // of a finished run, its last number
	pid  uint16 // the packet identifier of a QoS 2 message that was sent
	done bool
}

type outbound struct {
	lsn      uint64
	recorded bool
}

// win is the window, made where there is none.
func (q *queue) win() *window {
	if q.w == nil {
		q.w = new(window)
	}
	return q.w
}

// slim lets go of an empty window when nobody is connected.
func (q *queue) slim() {
	if w := q.w; w != nil && w.sink == nil && w.will == nil && len(w.given) == 0 && len(w.inbound) == 0 && len(w.out) == 0 && w.reading == 0 {
		q.w = nil
	}
}

// n is how many messages wait.
func (q *queue) n() int {
	if q.wait == nil {
		return 0
	}
	return q.wait.n
}

// bytes are those of the messages that wait.
func (q *queue) bytes() int {
	if q.wait == nil {
		return 0
	}
	return q.wait.bytes
}

// weight is what the queue holds, for holders.
func (q *queue) weight() uint64 { return store.Weight(q.n(), q.bytes()) }

// waiting is the number of the first message that waits.
func (q *queue) waiting() uint64 {
	if q.wait == nil {
		return math.MaxUint64
	}
	return q.wait.head()
}

// save writes the session's record with the open group.
func (q *queue) save() {
	q.e.open.batch.Set(sidKey('s', q.sid), q.appendRecord(nil), nil)
}

// refuses is what the publisher of a message is told where there is no room:
// nothing for a session that is connected and merely slow.
func (q *queue) refuses(size int) error {
	if lim := &q.e.o.Limits; q.sink() == nil && !q.ended {
		switch {
		case lim.Full(q.n(), q.bytes(), size):
			return &store.QuotaError{ClientID: q.ClientID()}
		case lim.Over(q.e.queued, q.e.queuedBytes, size):
			return &store.QuotaError{ClientID: q.ClientID(), Total: true}
		}
	}
	return nil
}

// take puts a message into the queue; false: it does not get in.
func (q *queue) take(m *packet.Publish, t *store.Target, lsn uint64, size uint32, l *losses) bool {
	if q.ended {
		return false
	}
	lim := &q.e.o.Limits
	promised := lim.Policy == session.Refuse && q.sink() == nil // publish has looked
	for !promised && lim.Full(q.n(), q.bytes(), int(size)) {
		if lim.Policy != session.DropOldest {
			l.lost = append(l.lost, loss{q, m})
			return false
		}
		q.dropOldest(l)
	}
	for !promised && lim.Over(q.e.queued, q.e.queuedBytes, int(size)) {
		if lim.Policy != session.DropOldest && q.sink() != nil {
			break // its own limits bound it, and others are to blame
		}
		most := q
		if lim.Policy == session.DropOldest {
			if m, ok := q.e.holders.Most(); ok {
				most = m
			}
		}
		if lim.Policy != session.DropOldest || most.n() == 0 {
			l.lost = append(l.lost, loss{q, m})
			return false
		}
		most.dropOldest(l)
	}
	q.push(&ref{lsn: lsn, how: how{more: t.More, sub: t.Sub, qos: t.QoS, flags: t.Flags}, size: size})
	if q.sink() != nil && !q.told {
		q.told = true
		l.wake = append(l.wake, q.sink())
	}
	return true
}

// dropOldest drops the first message, of which there is one.
func (q *queue) dropOldest(l *losses) {
	m := q.memory(q.waiting())
	q.finish(q.handOut())
	l.lost = append(l.lost, loss{q, m})
}

// push appends a message to what waits.
func (q *queue) push(r *ref) {
	if q.wait == nil {
		q.wait = new(backlog)
	}
	was := q.weight()
	q.wait.push(r)
	q.e.holders.Moved(q, was, q.weight())
	q.last = r.lsn
	q.e.queued++
	q.e.queuedBytes += int64(r.size)
}

// handOut moves the first waiting message, of which there is one, to those
// that were handed out, and gives its place there.
func (q *queue) handOut() int {
	was := q.weight()
	r := q.wait.pop()
	q.e.holders.Moved(q, was, q.weight())
	if q.wait.n == 0 {
		q.wait = nil
	}
	q.e.queued--
	q.e.queuedBytes -= int64(r.size)
	w := q.win()
	for len(w.read) > 0 && w.read[0].lsn <= r.lsn {
		w.read = w.read[1:]
	}
	i := len(w.given)
	if i > w.begin && w.given[i-1].lsn > r.lsn { // what was handed out before a restart is ahead
		i = w.search(r.lsn)
	}
	w.given = slices.Insert(w.given, i, given{ref: r, end: r.lsn})
	return i
}

// search is the place in given of the first number that is not below lsn.
func (w *window) search(lsn uint64) int {
	return w.begin + sort.Search(len(w.given)-w.begin, func(i int) bool { return w.given[w.begin+i].lsn >= lsn })
}

// place finds a message that was handed out and is not finished, or -1.
func (q *queue) place(lsn uint64) int {
	if q.w == nil {
		return -1
	}
	if i := q.w.search(lsn); i < len(q.w.given) && q.w.given[i].lsn == lsn && !q.w.given[i].done {
		return i
	}
	return -1
}

// finish ends the message at place i, which was handed out and is not finished.
func (q *queue) finish(i int) {
	w := q.w
	x := &w.given[i]
	x.done, x.more = true, nil
	q.e.finished(x.lsn)
	if !q.dirty {
		q.dirty = true
		q.e.dirty = append(q.e.dirty, q)
	}
	first := q.waiting()
	if i > w.begin && i == len(w.given)-1 && w.given[i-1].done && first > x.lsn {
		w.given[i-1].end = x.lsn // dropped ones do not pile up behind one that is never acknowledged
		w.given = w.given[:i]
	}
	for w.begin < len(w.given) && w.given[w.begin].done && w.given[w.begin].lsn < first {
		w.given[w.begin] = given{}
		w.begin++
	}
	switch {
	case w.begin == len(w.given):
		w.begin = 0
		if w.given = w.given[:0]; cap(w.given) > 16 {
			w.given = nil
		}
		q.slim()
	case w.begin >= 256 && 2*w.begin > len(w.given):
		k := copy(w.given, w.given[w.begin:])
		clear(w.given[k:])
		w.given, w.begin = w.given[:k], 0
	}
}

// floor is the lowest number that may not be finished.
func (q *queue) floor() uint64 {
	low := min(q.waiting(), q.last+1)
	if w := q.w; w != nil {
		for i := w.begin; i < len(w.given) && w.given[i].lsn < low; i++ {
			if !w.given[i].done {
				return w.given[i].lsn
			}
		}
	}
	return low
}

// memory is a message if it is in memory.
func (q *queue) memory(lsn uint64) *packet.Publish {
	if m := q.e.inMemory(lsn); m != nil || q.w == nil {
		return m
	}
	if r := q.w.fetched(lsn); r != nil {
		return r.m
	}
	return nil
}

// inMemory is a message if it is in memory. The caller holds mu.
func (e *Engine) inMemory(lsn uint64) *packet.Publish {
	if _, x := e.find(lsn); x != nil {
		return x.m
	}
	return nil
}

// ending is what the end of a session leaves.
type ending struct {
	q      *queue
	shared []store.Delivery
	lost   []*packet.Publish
	disk   *pebble.Snapshot // where shared ones are that are not in memory, nil: nowhere
}

// end discards the session. The caller holds mu, and makes the open group due.
func (q *queue) end(l *ending) {
	e := q.e
	l.q = q
	e.sessions.Delete(q.ClientID())
	if q.wait != nil {
		for p := q.wait.walk(); p.left > 0; {
			r := p.next()
			m := q.memory(r.lsn)
			if r.flags&store.Shared == 0 {
				l.lost = append(l.lost, m)
			} else {
				l.shared = append(l.shared, store.Delivery{Msg: m, More: r.more, LSN: r.lsn, Sub: r.sub, QoS: r.qos, Flags: r.flags})
				if m == nil && l.disk == nil && !e.closing { // its segment may be deleted when the lock is free
					l.disk = e.db.NewSnapshot()
					e.using.Add(1)
				}
			}
			e.finished(r.lsn)
		}
		e.holders.Moved(q, q.weight(), 0)
		e.queued -= int64(q.wait.n)
		e.queuedBytes -= int64(q.wait.bytes)
	}
	if q.w != nil {
		for _, x := range q.w.given[q.w.begin:] {
			if !x.done {
				e.finished(x.lsn)
			}
		}
	}
	if e.err != nil {
		e.rise(q.ClientID())
	} else {
		b := e.open.batch
		e.open.ended = append(e.open.ended, q.ClientID())
		b.Delete(sidKey('s', q.sid), nil)
		b.Delete(sidKey('a', q.sid), nil)
		if q.w != nil {
			for id := range q.w.inbound {
				b.Delete(idKey('d', q.sid, id), nil)
			}
			for id := range q.w.out {
				b.Delete(idKey('o', q.sid, id), nil)
			}
		}
		if q.subbed {
			e.orphans = append(e.orphans, q.sid)
		}
	}
	q.ended, q.wait, q.w = true, nil, nil
}

// tell tells of what was lost, and returns what others may have. It reads the
// disk, without the lock.
func (l *ending) tell() (shared []store.Delivery) {
	if l.q == nil {
		return nil
	}
	e := l.q.e
	for _, m := range l.lost {
		e.o.OnDrop(l.q.ClientID(), m, store.SessionEnded)
	}
	for _, d := range l.shared {
		if d.Msg == nil && l.disk != nil {
			m, err := readMessage(l.disk, d.LSN)
			if err != nil {
				l.q.unreadable(d.LSN, err)
			}
			d.Msg = m
		}
		if d.Msg != nil {
			shared = append(shared, d)
		}
	}
	if l.disk != nil {
		defer e.using.Done()
		if err := l.disk.Close(); err != nil {
			e.log.Error("close snapshot", "err", err)
		}
	}
	return shared
}
