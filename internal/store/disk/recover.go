package disk

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
)

// format is the version of the keys and records.
const format = 1

const (
	keyFormat = "xformat"
	keySid    = "xsid" // the highest session number given
)

// load reads everything but the messages. Nobody else has the engine yet.
func (e *Engine) load() error {
	if err := e.checkFormat(); err != nil {
		return err
	}
	bySid := map[uint64]*queue{}
	done := map[uint64]map[uint64]bool{} // finished beyond the cursor
	for _, part := range []struct {
		prefix byte
		each   func(key, v []byte) error
	}{
		{'s', func(key, v []byte) error { return e.loadSession(bySid, key, v) }},
		{'u', func(key, v []byte) error { return loadSub(bySid, key, v) }},
		{'a', func(key, v []byte) error { return e.loadCursor(bySid, done, key, v) }},
		{'r', func(_, v []byte) error { return e.loadRetained(v) }},
	} {
		if err := e.scan(part.prefix, part.each); err != nil {
			return err
		}
	}
	if err := e.loadTargets(bySid, done); err != nil {
		return err
	}
	for _, prefix := range []byte{'d', 'o'} { // behind the targets, which they mean
		err := e.scan(prefix, func(key, v []byte) error { return e.loadHandshake(bySid, key, v) })
		if err != nil {
			return err
		}
	}
	return nil
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

func (e *Engine) loadSession(by map[uint64]*queue, key, v []byte) error {
	q := &queue{e: e, sid: sidOf(key)}
	if err := q.parseRecord(v); err != nil {
		return err
	}
	by[q.sid], e.sessions[q.id] = q, q
	e.sid = max(e.sid, q.sid)
	return nil
}

func loadSub(by map[uint64]*queue, key, v []byte) error {
	r := reader{b: v}
	s := store.Sub{Options: packet.SubOptions(r.byte()), ID: uint32(r.uint())}
	if q := by[sidOf(key)]; q != nil {
		s.Filter = string(key[9:])
		q.subs = append(q.subs, s)
	}
	if r.bad {
		return errShort
	}
	return nil
}

func (e *Engine) loadCursor(by map[uint64]*queue, done map[uint64]map[uint64]bool, key, v []byte) error {
	r := reader{b: v}
	sid := sidOf(key)
	last := r.uint()
	e.lsn = max(e.lsn, last)
	q := by[sid]
	if q != nil {
		q.cursor = last
	}
	for len(r.b) > 0 {
		last += r.uint()
		e.lsn = max(e.lsn, last)
		if done[sid] == nil {
			done[sid] = map[uint64]bool{}
		}
		done[sid][last] = true
	}
	if r.bad {
		return errShort
	}
	return nil
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

// loadTargets goes from one group's record to the next, past the messages.
func (e *Engine) loadTargets(by map[uint64]*queue, done map[uint64]map[uint64]bool) error {
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
		if last != nil && first-last.first >= segSize {
			last.end = first
			last = nil
		}
		if last == nil {
			last = &seg{first: first}
			e.segs = append(e.segs, last)
		}
		n, err := e.loadGroup(by, done, last, first, it.Value())
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

// loadGroup reads one record of targets; n is how many numbers the group has.
func (e *Engine) loadGroup(by map[uint64]*queue, done map[uint64]map[uint64]bool, s *seg, first uint64, v []byte) (n uint64, err error) {
	r := reader{b: v}
	n = r.uint()
	for range r.count() {
		lsn := first + r.uint()
		size := uint32(r.uint())
		for range r.count() {
			sid, t := r.target()
			q := by[sid]
			if q == nil || lsn <= q.cursor {
				continue
			}
			if done[sid][lsn] { // the next cursor has to name it again
				q.refs = append(q.refs, ref{lsn: lsn, given: true, done: true})
				q.ahead++
				continue
			}
			q.refs = append(q.refs, ref{lsn: lsn, more: t.more, sub: t.sub, size: size, qos: t.qos, flags: t.flags})
			q.bytes += int(size)
			e.queued++
			e.queuedBytes += int64(size)
			s.live++
		}
	}
	if r.bad || n == 0 {
		return 0, errShort
	}
	return n, nil
}

func (e *Engine) loadHandshake(by map[uint64]*queue, key, v []byte) error {
	q := by[sidOf(key)]
	if len(key) != 11 {
		return errShort
	}
	id := binary.BigEndian.Uint16(key[9:])
	switch {
	case q == nil:
	case key[0] == 'd':
		if q.inbound == nil {
			q.inbound = map[uint16]struct{}{}
		}
		q.inbound[id] = struct{}{}
	default:
		r := reader{b: v}
		o := outbound{recorded: r.byte() == 1, lsn: r.uint()}
		if r.bad {
			return errShort
		}
		i := q.waits(o.lsn)
		if i < 0 {
			break // it is finished
		}
		if q.out == nil {
			q.out = map[uint16]outbound{}
		}
		q.out[id] = o
		x := &q.refs[i]
		x.given, x.pid = true, id
		q.ahead++
		q.bytes -= int(x.size)
		e.queued--
		e.queuedBytes -= int64(x.size)
	}
	return nil
}

// waits is the place of a message that was not handed out, or -1.
func (q *queue) waits(lsn uint64) int {
	i, ok := slices.BinarySearchFunc(q.refs, lsn, func(r ref, lsn uint64) int { return cmp.Compare(r.lsn, lsn) })
	if !ok || q.refs[i].done {
		return -1
	}
	return i
}

// Recover implements store.Engine.
func (e *Engine) Recover(yield func(*store.Stored) bool) error {
	e.mu.Lock()
	all := slices.Collect(maps.Values(e.sessions))
	e.mu.Unlock()
	slices.SortFunc(all, func(a, b *queue) int { return cmp.Compare(a.sid, b.sid) })
	now := time.Now().Unix()
	for _, q := range all {
		st, err := q.stored(now)
		if err != nil {
			return fmt.Errorf("recover session %q: %w", q.id, err)
		}
		if !yield(st) {
			return nil
		}
	}
	return nil
}

// stored is the session for Recover; from then on its connection has ended.
func (q *queue) stored(now int64) (*store.Stored, error) {
	e := q.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if q.detached == 0 { // it was connected at the crash
		q.detached, q.armed = now, q.will != nil
		if !e.want(nil, 0) {
			return nil, e.err
		}
		q.save()
	}
	st := &store.Stored{
		ClientID: q.id, Session: q, Expiry: q.expiry, Detached: q.detached, Will: q.will, WillArmed: q.armed,
		Subs: slices.Clone(q.subs), Inbound: q.inboundIDs(), Out: q.outbounds(),
	}
	for i := range st.Out {
		o := &st.Out[i]
		k := q.place(o.LSN)
		if o.Recorded || k < 0 {
			continue
		}
		m, err := e.read(o.LSN)
		if err != nil {
			return nil, fmt.Errorf("read message %x: %w", messageKey(o.LSN, kindMessage), err)
		}
		r := &q.refs[k]
		o.Delivery = store.Delivery{Msg: m, More: r.more, LSN: r.lsn, Sub: r.sub, QoS: r.qos, Flags: r.flags}
	}
	return st, nil
}
