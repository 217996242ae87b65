package disk

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/myelin-mqtt/myelin/internal/session"
	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
)

// queue is one stored session: what waits for it in order, and what it is.
// All of it is under the engine's lock.
type queue struct {
	e    *Engine
	id   string
	sid  uint64
	sink store.Sink // nil: nobody is connected

	// refs are the messages of the session in their order: those before head
	// are over, those before next were handed out, some of them finished.
	refs       []ref
	head, next int
	ahead      int    // given ones that are not before next
	bytes      int    // of those that wait
	cursor     uint64 // everything up to this number is finished

	subs     []store.Sub // sorted
	inbound  map[uint16]struct{}
	out      map[uint16]outbound
	will     *store.Will
	detached int64 // Unix seconds, 0: connected
	expiry   uint32
	armed    bool
	ended    bool
	told     bool // Ready was called, and Next has not run empty since
	dirty    bool // the cursor is to be written
}

// ref is one message of a session.
type ref struct {
	lsn   uint64
	more  *[]uint32
	sub   uint32
	size  uint32
	pid   uint16 // the packet identifier of a QoS 2 message that was sent
	qos   packet.QoS
	flags uint8
	given bool // handed out before a restart, out of turn: Next passes it
	done  bool
}

type outbound struct {
	lsn      uint64
	recorded bool
}

func (q *queue) n() int { return len(q.refs) - q.next - q.ahead }

// save writes the session's record with the open group.
func (q *queue) save() {
	q.e.open.batch.Set(sidKey('s', q.sid), q.appendRecord(nil), nil)
}

// Claim implements store.Engine.
func (e *Engine) Claim(r store.ClaimReq, s store.Sink) {
	var l ending
	e.mu.Lock()
	q := e.sessions[r.ClientID]
	if q == nil && r.Expiry == 0 { // there was nothing, and there will be nothing
		e.mu.Unlock()
		s.Claimed(nil, nil, nil)
		return
	}
	if e.err != nil {
		err := e.err
		e.mu.Unlock()
		s.Claimed(nil, nil, err)
		return
	}
	if r.Clean && q != nil {
		q.end(&l)
		q = nil
	}
	answer := claimed{sink: s}
	switch {
	case q != nil:
		answer.st = q.state()
	case r.Expiry > 0:
		e.sid++
		q = &queue{e: e, id: r.ClientID, sid: e.sid, cursor: e.lsn}
		e.sessions[r.ClientID] = q
		e.open.batch.Set([]byte(keySid), binary.BigEndian.AppendUint64(nil, e.sid), nil)
	}
	if q != nil {
		q.sink, q.told = s, false
		q.expiry, q.will, q.armed, q.detached = r.Expiry, r.Will, false, 0
		q.save()
		answer.s = q
	}
	e.want(nil, 0)
	e.open.claims = append(e.open.claims, answer)
	e.mu.Unlock()
	l.tell(e)
}

// state is what the session is resumed from. The caller holds mu.
func (q *queue) state() *store.State {
	return &store.State{Queued: q.n(), Subs: slices.Clone(q.subs), Inbound: q.inboundIDs(), Out: q.outbounds()}
}

func (q *queue) inboundIDs() []uint16 {
	var ids []uint16
	for id := range q.inbound {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// outbounds are the QoS 2 messages in flight, in order, without the messages.
func (q *queue) outbounds() []store.Outbound {
	var out []store.Outbound
	for id, o := range q.out {
		out = append(out, store.Outbound{LSN: o.lsn, ID: id, Recorded: o.recorded})
	}
	slices.SortFunc(out, func(a, b store.Outbound) int {
		if a.LSN < b.LSN {
			return -1
		}
		return 1
	})
	return out
}

// refuses reports whether the publisher of a message is told that there is no
// room: not for a session that is connected and merely slow.
func (q *queue) refuses(size int) bool {
	return q.sink == nil && !q.ended && q.e.o.Limits.Full(q.n(), q.bytes, size)
}

// take puts a message into the queue; false: it does not get in.
func (q *queue) take(m *packet.Publish, t *store.Target, lsn uint64, size uint32, l *losses) bool {
	if q.ended {
		return false
	}
	lim := &q.e.o.Limits
	promised := lim.Policy == session.Refuse && q.sink == nil // publish has looked
	for !promised && lim.Full(q.n(), q.bytes, int(size)) {
		if lim.Policy != session.DropOldest {
			l.lost = append(l.lost, loss{q, m})
			return false
		}
		i := q.handOut()
		l.lost = append(l.lost, loss{q, q.e.inMemory(q.refs[i].lsn)})
		q.finish(i)
	}
	q.refs = append(q.refs, ref{lsn: lsn, more: t.More, sub: t.Sub, size: size, qos: t.QoS, flags: t.Flags})
	q.bytes += int(size)
	q.e.queued++
	q.e.queuedBytes += int64(size)
	if q.sink != nil && !q.told {
		q.told = true
		l.wake = append(l.wake, q.sink)
	}
	return true
}

// inMemory is a message if it is in memory. The caller holds mu.
func (e *Engine) inMemory(lsn uint64) *packet.Publish {
	if _, x := e.find(lsn); x != nil {
		return x.m
	}
	return nil
}

// handOut moves the oldest waiting message, of which there is one, to those
// that were handed out, and gives its place.
func (q *queue) handOut() int {
	q.pass()
	i := q.next
	q.next++
	n := q.refs[i].size
	q.bytes -= int(n)
	q.e.queued--
	q.e.queuedBytes -= int64(n)
	q.pass()
	return i
}

// pass moves next beyond what was handed out before a restart.
func (q *queue) pass() {
	for q.ahead > 0 && q.next < len(q.refs) && q.refs[q.next].given {
		q.next++
		q.ahead--
	}
}

// finish ends the message at place i, which was handed out.
func (q *queue) finish(i int) {
	r := &q.refs[i]
	if r.done {
		return
	}
	r.done = true
	q.e.finished(r.lsn)
	if !q.dirty {
		q.dirty = true
		q.e.dirty = append(q.e.dirty, q)
	}
	q.pass()
	for q.head < q.next && q.refs[q.head].done {
		q.cursor = q.refs[q.head].lsn
		q.refs[q.head] = ref{}
		q.head++
	}
	switch {
	case q.head == len(q.refs): // so next is there, too
		q.head, q.next = 0, 0
		if q.refs = q.refs[:0]; cap(q.refs) > 16 {
			q.refs = nil
		}
	case q.head >= 1024 && 2*q.head > len(q.refs):
		k := copy(q.refs, q.refs[q.head:])
		clear(q.refs[k:])
		q.refs, q.next, q.head = q.refs[:k], q.next-q.head, 0
	}
}

// place finds a message that was handed out, or -1.
func (q *queue) place(lsn uint64) int {
	i := q.head + sort.Search(len(q.refs)-q.head, func(i int) bool { return q.refs[q.head+i].lsn >= lsn })
	if i < len(q.refs) && q.refs[i].lsn == lsn && (i < q.next || q.refs[i].given) {
		return i
	}
	return -1
}

// Next implements store.Session.
func (q *queue) Next(buf []store.Delivery, now uint32) (n int, more bool) {
	e := q.e
	e.mu.Lock()
	for {
		first := n
		for n < len(buf) && q.n() > 0 {
			r := &q.refs[q.handOut()]
			buf[n] = store.Delivery{Msg: e.inMemory(r.lsn), More: r.more, LSN: r.lsn, Sub: r.sub, QoS: r.qos, Flags: r.flags}
			n++
		}
		if n == first {
			break
		}
		e.mu.Unlock()
		k, expired := q.fetch(buf[first:n], now)
		n = first + k
		for _, d := range expired {
			q.Ack(d.LSN)
			e.expired.Add(1)
			e.o.OnDrop(q.id, d.Msg, store.Expired)
		}
		e.mu.Lock()
		if n == len(buf) {
			break
		}
	}
	more = q.n() > 0
	q.told = more
	e.mu.Unlock()
	return n, more
}

// fetch reads the messages that are not in memory, and takes those out of buf
// that have expired, or cannot be read: such a one is not finished, and comes
// again after a restart. It does not need the lock.
func (q *queue) fetch(buf []store.Delivery, now uint32) (n int, gone []store.Delivery) {
	for _, d := range buf {
		if d.Msg == nil {
			m, err := q.e.read(d.LSN)
			if err != nil {
				q.unreadable(d.LSN, err)
				continue
			}
			d.Msg = m
		}
		if _, expired := d.Msg.Left(now); expired { // [MQTT-3.3.2-5]
			gone = append(gone, d)
			continue
		}
		buf[n] = d
		n++
	}
	clear(buf[n:])
	return n, gone
}

// unreadable reports a message that the disk does not give, unless its session
// has ended meanwhile.
func (q *queue) unreadable(lsn uint64, err error) {
	q.e.mu.Lock()
	ended := q.ended
	q.e.mu.Unlock()
	if ended {
		return
	}
	q.e.log.Error("a queued message cannot be read", "client", q.id, "key", fmt.Sprintf("%x", messageKey(lsn, kindMessage)), "err", err)
	q.e.dropped.Add(1)
	q.e.o.OnDrop(q.id, nil, store.QueueFull)
}

// read reads a message from the disk.
func (e *Engine) read(lsn uint64) (*packet.Publish, error) {
	v, closer, err := e.db.Get(messageKey(lsn, kindMessage))
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	return parseMessage(v)
}

// Retained implements store.Session.
func (q *queue) Retained(name string, t store.Target) bool {
	e := q.e
	var l losses
	e.mu.Lock()
	m := e.Current(name)
	if m == nil || q.ended {
		e.mu.Unlock()
		return false
	}
	t.To, t.QoS = q, min(t.QoS, m.QoS())
	if e.put(m, []store.Target{t}, false, nil, 0, &l) > 0 {
		e.want(nil, 0)
	}
	e.mu.Unlock()
	l.tell(e)
	return true
}

// Ack implements store.Session.
func (q *queue) Ack(lsn ...uint64) {
	e := q.e
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range lsn {
		i := q.place(n)
		if i < 0 {
			continue
		}
		if pid := q.refs[i].pid; pid != 0 && q.out[pid].lsn == n {
			delete(q.out, pid)
			if e.err == nil { // with the cursor, in the same group
				e.open.batch.Delete(idKey('o', q.sid, pid), nil)
			}
		}
		q.finish(i)
	}
}

// Queued implements store.Session.
func (q *queue) Queued() (messages, bytes int) {
	q.e.mu.Lock()
	defer q.e.mu.Unlock()
	return q.n(), q.bytes
}

// Subscribe implements store.Session.
func (q *queue) Subscribe(subs []store.Sub, c store.Completer, tok uint64) (done bool) {
	e := q.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if q.ended {
		return true
	}
	if !e.want(c, tok) {
		return false
	}
	for _, s := range subs {
		if i, had := subFind(q.subs, s.Filter); had {
			q.subs[i] = s
		} else {
			q.subs = slices.Insert(q.subs, i, s)
		}
		e.open.batch.Set(filterKey(q.sid, s.Filter), binary.AppendUvarint([]byte{byte(s.Options)}, uint64(s.ID)), nil)
	}
	return false
}

// Unsubscribe implements store.Session.
func (q *queue) Unsubscribe(filters []string, c store.Completer, tok uint64) (done bool) {
	e := q.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if q.ended {
		return true
	}
	if !e.want(c, tok) {
		return false
	}
	for _, f := range filters {
		if i, had := subFind(q.subs, f); had {
			q.subs = slices.Delete(q.subs, i, i+1)
			e.open.batch.Delete(filterKey(q.sid, f), nil)
		}
	}
	return false
}

// hold remembers a QoS 2 identifier of the publisher.
func (q *queue) hold(id uint16) {
	if q.inbound == nil {
		q.inbound = map[uint16]struct{}{}
	}
	q.inbound[id] = struct{}{}
	q.e.open.batch.Set(idKey('d', q.sid, id), nil, nil)
}

// Release2 implements store.Session.
func (q *queue) Release2(id uint16, c store.Completer, tok uint64) (done bool) {
	e := q.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, held := q.inbound[id]; !held || q.ended {
		return true
	}
	if !e.want(c, tok) {
		return false
	}
	if delete(q.inbound, id); len(q.inbound) == 0 {
		q.inbound = nil
	}
	e.open.batch.Delete(idKey('d', q.sid, id), nil)
	return false
}

// Sent2 implements store.Session.
func (q *queue) Sent2(lsn uint64, id uint16, c store.Completer, tok uint64) (done bool) {
	return q.record(id, outbound{lsn: lsn}, c, tok)
}

// Received2 implements store.Session.
func (q *queue) Received2(id uint16, c store.Completer, tok uint64) (done bool) {
	q.e.mu.Lock()
	o := q.out[id]
	q.e.mu.Unlock()
	return q.record(id, outbound{o.lsn, true}, c, tok)
}

func (q *queue) record(id uint16, o outbound, c store.Completer, tok uint64) (done bool) {
	e := q.e
	e.mu.Lock()
	defer e.mu.Unlock()
	i := q.place(o.lsn)
	if i < 0 || q.ended { // it is over
		return true
	}
	if !e.want(c, tok) {
		return false
	}
	if q.out == nil {
		q.out = map[uint16]outbound{}
	}
	q.refs[i].pid = id
	q.out[id] = o
	v := binary.AppendUvarint([]byte{0}, o.lsn)
	if o.recorded {
		v[0] = 1
	}
	e.open.batch.Set(idKey('o', q.sid, id), v, nil)
	return false
}

// Detach implements store.Session.
func (q *queue) Detach(expiry uint32, armed bool) {
	e := q.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if q.ended {
		return
	}
	q.sink = nil
	q.expiry, q.detached = expiry, time.Now().Unix()
	if !armed {
		q.will = nil
	}
	q.armed = q.will != nil
	if e.want(nil, 0) {
		q.save()
	}
}

// End implements store.Session.
func (q *queue) End() (shared []store.Delivery) {
	var l ending
	e := q.e
	e.mu.Lock()
	if !q.ended {
		q.end(&l)
		e.want(nil, 0)
	}
	e.mu.Unlock()
	return l.tell(e)
}

// ending is what the end of a session leaves.
type ending struct {
	ended  bool
	q      *queue
	shared []store.Delivery
	lost   []*packet.Publish
}

// end discards the session. The caller holds mu, and makes the open group due.
func (q *queue) end(l *ending) {
	e := q.e
	l.ended, l.q = true, q
	delete(e.sessions, q.id)
	for i := q.head; i < len(q.refs); i++ {
		r := &q.refs[i]
		if i >= q.next && !r.given {
			e.queued--
			e.queuedBytes -= int64(r.size)
			if m := e.inMemory(r.lsn); r.flags&store.Shared == 0 {
				l.lost = append(l.lost, m)
			} else {
				if m == nil { // its segment may be deleted when the lock is free
					m, _ = e.read(r.lsn)
				}
				l.shared = append(l.shared, store.Delivery{Msg: m, More: r.more, LSN: r.lsn, Sub: r.sub, QoS: r.qos, Flags: r.flags})
			}
		}
		if !r.done {
			e.finished(r.lsn)
		}
	}
	if e.err == nil {
		b := e.open.batch
		b.Delete(sidKey('s', q.sid), nil)
		b.Delete(sidKey('a', q.sid), nil)
		q.forget(b)
	}
	q.ended, q.sink, q.will = true, nil, nil
	q.refs, q.head, q.next, q.ahead, q.bytes = nil, 0, 0, 0, 0
	q.subs, q.inbound, q.out = nil, nil, nil
}

// forget deletes what hangs on the session's number.
func (q *queue) forget(b *pebble.Batch) {
	for _, s := range q.subs {
		b.Delete(filterKey(q.sid, s.Filter), nil)
	}
	for id := range q.inbound {
		b.Delete(idKey('d', q.sid, id), nil)
	}
	for id := range q.out {
		b.Delete(idKey('o', q.sid, id), nil)
	}
}

func (l *ending) tell(e *Engine) []store.Delivery {
	for _, m := range l.lost {
		e.o.OnDrop(l.q.id, m, store.SessionEnded)
	}
	return slices.DeleteFunc(l.shared, func(d store.Delivery) bool { return d.Msg == nil })
}
