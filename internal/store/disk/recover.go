package disk

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
)

// format is the version of the keys and records.
const format = 2

const (
	keyFormat = "xformat"
	keySid    = "xsid" // the highest session number given
)

// loading is what only a start needs.
type loading struct {
	e    *Engine
	all  []*queue                       // by number
	sent map[uint64]map[uint64]recorded // QoS 2 in flight: by session, then by message
}

// recorded is a QoS 2 message in flight, as its record has it.
type recorded struct {
	id uint16
	outbound
}

// load reads everything but the messages and the subscriptions. Nobody else
// has the engine yet.
func (e *Engine) load() error {
	if err := e.checkFormat(); err != nil {
		return err
	}
	l := &loading{e: e, sent: map[uint64]map[uint64]recorded{}}
	for _, part := range []struct {
		prefix byte
		each   func(key, v []byte) error
	}{
		{'s', l.session},
		{'a', l.cursor},
		{'d', l.inbound},
		{'o', l.outbound},
		{'r', func(_, v []byte) error { return e.loadRetained(v) }},
	} {
		if err := e.scan(part.prefix, part.each); err != nil {
			return err
		}
	}
	e.sessions.Reserve(len(l.all))
	for _, q := range l.all {
		e.sessions.Put(q)
	}
	e.loaded = l.all
	if err := l.targets(); err != nil {
		return err
	}
	for _, q := range l.all {
		if q.w != nil { // its next cursor must not fall behind what it has finished
			for _, x := range q.w.given {
				q.last = max(q.last, x.end)
			}
		}
		e.lsn = max(e.lsn, q.last)
	}
	return nil
}

// find is the session with a number, nil: it is gone.
func (l *loading) find(sid uint64) *queue {
	n := len(l.all)
	if n == 0 {
		return nil
	}
	if i := sid - l.all[0].sid; i < uint64(n) && l.all[i].sid == sid { // none is missing before it
		return l.all[i]
	}
	i, ok := slices.BinarySearchFunc(l.all, sid, func(q *queue, sid uint64) int { return cmp.Compare(q.sid, sid) })
	if !ok {
		return nil
	}
	return l.all[i]
}

// checkFormat refuses what this program does not know, and marks a new database.
func (e *Engine) checkFormat() error {
	v, closer, err := e.db.Get([]byte(keyFormat))
	switch {
	case err == pebble.ErrNotFound:
		empty := true
		for _, p := range []byte{'a', 'm', 'r', 's', 'u'} {
			if err := e.scan(p, func(_, _ []byte) error { empty = false; return nil }); err != nil {
				return err
			}
		}
		if !empty {
			return &FormatError{Version: -1}
		}
		return e.db.Set([]byte(keyFormat), []byte{format}, pebble.Sync)
	case err != nil:
		return fmt.Errorf("read format version: %w", err)
	}
	defer closer.Close()
	if err := checkVersion(v); err != nil {
		return fmt.Errorf("format version: %w", err)
	}
	v, sid, err := e.db.Get([]byte(keySid))
	if err == nil && len(v) == 8 {
		e.sid = binary.BigEndian.Uint64(v)
	}
	if err == nil {
		return sid.Close()
	}
	if err == pebble.ErrNotFound {
		return nil
	}
	return fmt.Errorf("read session numbers: %w", err)
}

func (e *Engine) scan(prefix byte, each func(key, v []byte) error) error {
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefix}, UpperBound: []byte{prefix + 1}})
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		if err := each(it.Key(), it.Value()); err != nil {
			err = fmt.Errorf("record %x: %w", it.Key(), err)
			it.Close()
			return err
		}
	}
	if err := it.Error(); err != nil {
		it.Close()
		return err
	}
	return it.Close()
}

// sidOf is the session number in a key, 0: there is none.
func sidOf(key []byte) uint64 {
	if len(key) < 9 {
		return 0
	}
	return binary.BigEndian.Uint64(key[1:])
}

func (l *loading) session(key, v []byte) error {
	q := &queue{e: l.e, sid: sidOf(key)}
	if err := q.parseRecord(v); err != nil {
		return err
	}
	l.all = append(l.all, q)
	l.e.sid = max(l.e.sid, q.sid)
	return nil
}

func (l *loading) cursor(key, v []byte) error {
	last, beyond, err := parseCursor(v)
	if err != nil {
		return err
	}
	l.e.lsn = max(l.e.lsn, last)
	q := l.find(sidOf(key))
	if q == nil {
		return nil
	}
	q.last = last
	for _, s := range beyond { // the next cursor has to name them again
		q.win().given = append(q.w.given, given{ref: ref{lsn: s.first}, end: s.last, done: true})
	}
	return nil
}

func (l *loading) inbound(key, _ []byte) error {
	if len(key) != 11 {
		return errShort
	}
	if q := l.find(sidOf(key)); q != nil {
		if q.win().inbound == nil {
			q.w.inbound = map[uint16]struct{}{}
		}
		q.w.inbound[binary.BigEndian.Uint16(key[9:])] = struct{}{}
	}
	return nil
}

func (l *loading) outbound(key, v []byte) error {
	if len(key) != 11 {
		return errShort
	}
	x, err := parseOutbound(key, v)
	if err != nil {
		return err
	}
	sid := sidOf(key)
	if l.sent[sid] == nil {
		l.sent[sid] = map[uint64]recorded{}
	}
	l.sent[sid][x.lsn] = x
	return nil
}

// parseOutbound reads a record of a QoS 2 message in flight.
func parseOutbound(key, v []byte) (x recorded, err error) {
	r := reader{b: v}
	x = recorded{id: binary.BigEndian.Uint16(key[9:]), outbound: outbound{recorded: r.byte() == 1, lsn: r.uint()}}
	if r.bad {
		return x, errShort
	}
	return x, nil
}

func (e *Engine) loadRetained(v []byte) error {
	m, err := parseMessage(v)
	if err != nil {
		return err
	}
	e.retained.Set(string(m.Topic()), m)
	e.retainedBytes += size(m)
	return nil
}

// targets goes from one group's record to the next, past the messages.
func (l *loading) targets() error {
	e := l.e
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: []byte{'m'}, UpperBound: []byte{'n'}})
	if err != nil {
		return err
	}
	defer it.Close()
	var last *seg
	for it.First(); it.Valid(); {
		key := it.Key()
		if len(key) != 10 || key[9] != kindTargets {
			return fmt.Errorf("record %x: %w: a message without its group", key, errShort)
		}
		first := sidOf(key)
		if last != nil && first-last.first >= uint64(e.o.SegmentMessages) {
			last.end = first
			last = nil
		}
		if last == nil {
			last = &seg{first: first}
			e.segs = append(e.segs, last)
		}
		n, err := l.group(last, first, it.Value())
		if err != nil {
			return fmt.Errorf("record %x: %w", key, err)
		}
		e.lsn = max(e.lsn, first+n-1)
		it.SeekGE(messageKey(first+n, kindTargets))
	}
	if err := it.Error(); err != nil {
		return err
	}
	kept := e.segs[:0]
	for i, s := range e.segs {
		if i == len(e.segs)-1 {
			s.end = e.lsn + 1
		}
		if s.live == 0 {
			e.dead = append(e.dead, s)
		} else {
			kept = append(kept, s)
		}
	}
	e.segs = kept
	return nil
}

// group reads one record of targets; n is how many numbers the group has.
func (l *loading) group(s *seg, first uint64, v []byte) (n uint64, err error) {
	n, err = eachTarget(v, func(place uint64, size uint32, sid uint64, h how) {
		lsn := first + place
		q := l.find(sid)
		if q == nil || lsn <= q.last || q.finished(lsn) {
			return
		}
		s.live++
		r := ref{lsn: lsn, how: h, size: size}
		x, sent := l.sent[sid][lsn]
		if !sent {
			q.push(&r)
			return
		}
		w := q.win()
		i := w.search(lsn)
		w.given = slices.Insert(w.given, i, given{ref: r, end: lsn})
		w.send(i, x.id, x.outbound)
	})
	if err == nil && n == 0 {
		err = errShort
	}
	return n, err
}

// finished reports whether a number is in a run that the cursor told of.
func (q *queue) finished(lsn uint64) bool {
	if q.w == nil {
		return false
	}
	i := q.w.search(lsn + 1)
	return i > 0 && q.w.given[i-1].done && lsn <= q.w.given[i-1].end
}

// Recover implements store.Engine.
func (e *Engine) Recover(yield func(*store.Stored) bool) error {
	e.mu.Lock()
	all := e.loaded
	e.loaded = nil
	e.mu.Unlock()
	subs, err := e.subscriptions()
	if err != nil {
		return fmt.Errorf("recover subscriptions: %w", err)
	}
	defer subs.it.Close()
	now := time.Now().Unix()
	for _, q := range all {
		st, err := q.stored(now)
		if err == nil {
			st.Subs, err = subs.of(q)
		}
		if err != nil {
			return fmt.Errorf("recover session %q: %w", q.ClientID(), err)
		}
		if !yield(st) {
			return nil
		}
	}
	return subs.rest()
}

// subscriptions reads the subscriptions of sessions in the order of their
// numbers.
type subscriptions struct {
	e  *Engine
	it *pebble.Iterator
}

func (e *Engine) subscriptions() (*subscriptions, error) {
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: []byte{'u'}, UpperBound: []byte{'u' + 1}})
	if err != nil {
		return nil, err
	}
	it.First()
	return &subscriptions{e, it}, nil
}

// of are the subscriptions of the next session.
func (s *subscriptions) of(q *queue) (subs []store.Sub, err error) {
	for ; s.it.Valid(); s.it.Next() {
		sid := sidOf(s.it.Key())
		if sid > q.sid {
			break
		}
		if sid < q.sid {
			s.orphan(sid)
			continue
		}
		x, err := parseSub(s.it.Key(), s.it.Value())
		if err != nil {
			return nil, fmt.Errorf("record %x: %w", s.it.Key(), err)
		}
		if subs == nil {
			subs = make([]store.Sub, 0, 1)
		}
		subs = append(subs, x)
		q.subbed = true
	}
	return subs, s.it.Error()
}

// rest are those of sessions that have ended.
func (s *subscriptions) rest() error {
	for ; s.it.Valid(); s.it.Next() {
		s.orphan(sidOf(s.it.Key()))
	}
	return s.it.Error()
}

// orphan has the subscriptions of a session deleted that is no more.
func (s *subscriptions) orphan(sid uint64) {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if n := len(s.e.orphans); n == 0 || s.e.orphans[n-1] != sid {
		s.e.orphans = append(s.e.orphans, sid)
	}
}

// subOwed is a bit beside the options of a subscription, which have six.
const subOwed = 0x80

// appendSub writes a subscription.
func appendSub(b []byte, s *store.Sub) []byte {
	bits := byte(s.Options)
	if s.Owed {
		bits |= subOwed
	}
	return binary.AppendUvarint(append(b, bits), uint64(s.ID))
}

// parseSub reads a subscription.
func parseSub(key, v []byte) (s store.Sub, err error) {
	r := reader{b: v}
	bits := r.byte()
	s = store.Sub{Options: packet.SubOptions(bits &^ subOwed), Owed: bits&subOwed != 0, ID: uint32(r.uint())}
	if r.bad || len(key) < 9 {
		return s, errShort
	}
	s.Filter = string(key[9:])
	return s, nil
}

// stored is the session for Recover; from then on its connection has ended.
func (q *queue) stored(now int64) (*store.Stored, error) {
	e := q.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if q.detached == 0 { // it was connected at the crash
		q.detached, q.armed = uint32(now), q.will() != nil
		if !e.want(nil, 0) {
			return nil, e.err
		}
		q.save()
	}
	st := &store.Stored{
		ClientID: q.ClientID(), Session: q, Expiry: q.expiry, Detached: int64(q.detached), Will: q.will(), WillArmed: q.armed,
		Inbound: q.inboundIDs(), Out: q.outbounds(),
	}
	for i := range st.Out {
		o := &st.Out[i]
		k := q.place(o.LSN)
		if o.Recorded || k < 0 {
			continue
		}
		m, err := readMessage(e.db, o.LSN)
		if err != nil {
			return nil, fmt.Errorf("read message %x: %w", messageKey(o.LSN, kindMessage), err)
		}
		r := &q.w.given[k]
		o.Delivery = store.Delivery{Msg: m, More: r.more, LSN: r.lsn, Sub: r.sub, QoS: r.qos, Flags: r.flags}
	}
	return st, nil
}
