package disk

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
)

// Claim implements store.Engine.
func (e *Engine) Claim(r store.ClaimReq, s store.Sink) {
	var l ending
	e.mu.Lock()
	q := e.sessions.Get(r.ClientID)
	if q == nil && r.Expiry == 0 && !e.undead[r.ClientID] { // there was nothing, and there will be nothing
		e.mu.Unlock()
		s.Claimed(nil, nil, nil)
		return
	}
	if err := e.barred(); err != nil {
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
		q = &queue{e: e, sid: e.sid, last: e.lsn}
		q.setID(r.ClientID)
		e.sessions.Put(q)
		e.open.batch.Set([]byte(keySid), binary.BigEndian.AppendUint64(nil, e.sid), nil)
	}
	if q != nil {
		w := q.win()
		w.sink, w.will, q.told = s, r.Will, false
		q.expiry, q.armed, q.detached = r.Expiry, false, 0
		q.save()
		answer.s = q
	}
	e.want(nil, 0)
	e.open.claims = append(e.open.claims, answer)
	e.mu.Unlock()
	l.tell()
}

// state is what the session is resumed from. The caller holds mu.
func (q *queue) state() *store.State {
	return &store.State{Queued: q.n(), Inbound: q.inboundIDs(), Out: q.outbounds()}
}

func (q *queue) inboundIDs() []uint16 {
	if q.w == nil {
		return nil
	}
	var ids []uint16
	for id := range q.w.inbound {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// outbounds are the QoS 2 messages in flight, in order, without the messages.
func (q *queue) outbounds() []store.Outbound {
	if q.w == nil {
		return nil
	}
	var out []store.Outbound
	for id, o := range q.w.out {
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

// Next implements store.Session.
func (q *queue) Next(buf []store.Delivery, now uint32) (n int, more bool) {
	e := q.e
	var expired []*packet.Publish
	var bad []fetched
	e.mu.Lock()
	missing := false
	for n < len(buf) && q.n() > 0 {
		lsn := q.waiting()
		m := e.inMemory(lsn)
		if m == nil && q.w != nil {
			if r := q.w.fetched(lsn); r != nil {
				if m = r.m; m == nil { // it is not finished, and comes again after a restart
					bad = append(bad, *r)
					q.handOut()
					continue
				}
			}
		}
		if m == nil {
			missing = true
			break
		}
		i := q.handOut()
		if _, over := m.Left(now); over { // [MQTT-3.3.2-5]
			expired = append(expired, m)
			q.finish(i)
			continue
		}
		r := &q.w.given[i].ref
		buf[n] = store.Delivery{Msg: m, More: r.more, LSN: r.lsn, Sub: r.sub, QoS: r.qos, Flags: r.flags}
		n++
	}
	q.told = q.n() > 0
	more = q.told && !missing
	if missing { // and Ready comes when it is there
		q.ask(len(buf) - n)
	}
	e.mu.Unlock()
	for _, r := range bad {
		q.unreadable(r.lsn, r.err)
	}
	for _, m := range expired {
		e.expired.Add(1)
		e.o.OnDrop(q.ClientID(), m, store.Expired)
	}
	return n, more
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
		w := q.w
		if pid := w.given[i].pid; pid != 0 && w.out[pid].lsn == n {
			if delete(w.out, pid); len(w.out) == 0 {
				w.out = nil
			}
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
	return q.n(), q.bytes()
}

// Subscribe implements store.Session.
func (q *queue) Subscribe(subs []store.Sub, c store.Completer, tok uint64) (done bool) {
	e := q.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if q.ended {
		return true
	}
	if e.turnAway(c, tok) || !e.want(c, tok) {
		return false
	}
	q.subbed = true
	for _, s := range subs {
		e.open.batch.Set(filterKey(q.sid, s.Filter), appendSub(nil, &s), nil)
	}
	return false
}

// Settle implements store.Session. It is on the disk with what was queued
// before it, or later.
func (q *queue) Settle(sub store.Sub) {
	e := q.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if q.ended || e.err != nil {
		return
	}
	sub.Owed = false
	e.open.batch.Set(filterKey(q.sid, sub.Filter), appendSub(nil, &sub), nil)
	e.open.due = true
	e.work.Signal()
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
		e.open.batch.Delete(filterKey(q.sid, f), nil)
	}
	return false
}

// hold remembers a QoS 2 identifier of the publisher.
func (q *queue) hold(id uint16) {
	w := q.win()
	if w.inbound == nil {
		w.inbound = map[uint16]struct{}{}
	}
	w.inbound[id] = struct{}{}
	q.e.open.batch.Set(idKey('d', q.sid, id), nil, nil)
}

// Release2 implements store.Session.
func (q *queue) Release2(id uint16, c store.Completer, tok uint64) (done bool) {
	e := q.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if q.ended || q.w == nil {
		return true
	}
	if _, held := q.w.inbound[id]; !held {
		return true
	}
	if !e.want(c, tok) {
		return false
	}
	if delete(q.w.inbound, id); len(q.w.inbound) == 0 {
		q.w.inbound = nil
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
	var o outbound
	q.e.mu.Lock()
	if q.w != nil {
		o = q.w.out[id]
	}
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
	q.w.send(i, id, o)
	v := binary.AppendUvarint([]byte{0}, o.lsn)
	if o.recorded {
		v[0] = 1
	}
	e.open.batch.Set(idKey('o', q.sid, id), v, nil)
	return false
}

// send remembers the QoS 2 identifier of the message at place i.
func (w *window) send(i int, id uint16, o outbound) {
	if w.out == nil {
		w.out = map[uint16]outbound{}
	}
	w.given[i].pid = id
	w.out[id] = o
}

// Detach implements store.Session.
func (q *queue) Detach(expiry uint32, armed bool, c store.Completer, tok uint64) (done bool) {
	e := q.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if q.ended {
		return true
	}
	if w := q.w; w != nil {
		w.sink, w.read = nil, nil
		if !armed {
			w.will = nil
		}
	}
	q.expiry, q.detached, q.armed = expiry, uint32(time.Now().Unix()), q.will() != nil
	q.slim()
	if e.want(c, tok) {
		q.save()
	}
	return c == nil
}

// Shared implements store.Session. It reads the disk, without the lock: the
// session still holds what it reads.
func (q *queue) Shared() (shared []store.Delivery) {
	e := q.e
	e.mu.Lock()
	if q.wait == nil || e.closing {
		e.mu.Unlock()
		return nil
	}
	for p := q.wait.walk(); p.left > 0; {
		if r := p.next(); r.flags&store.Shared != 0 {
			shared = append(shared, store.Delivery{Msg: q.memory(r.lsn), More: r.more, LSN: r.lsn, Sub: r.sub, QoS: r.qos, Flags: r.flags})
		}
	}
	e.using.Add(1)
	e.mu.Unlock()
	defer e.using.Done()
	for i := range shared {
		if d := &shared[i]; d.Msg == nil {
			m, err := readMessage(e.db, d.LSN)
			if err != nil { // End says so
				continue
			}
			d.Msg = m
		}
	}
	return slices.DeleteFunc(shared, func(d store.Delivery) bool { return d.Msg == nil })
}

// End implements store.Session.
func (q *queue) End(c store.Completer, tok uint64) (shared []store.Delivery, done bool) {
	var l ending
	e := q.e
	e.mu.Lock()
	if done = q.ended || c == nil; !q.ended {
		q.end(&l)
		e.want(c, tok)
	}
	e.mu.Unlock()
	return l.tell(), done
}
