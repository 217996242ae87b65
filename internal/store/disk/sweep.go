package disk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// The sweeper tidies what nobody waits for: the subscriptions of sessions that
// have ended, and the finished messages of segments that a few slow sessions
// keep.

// sweepEvery is how often it looks.
const sweepEvery = 5 * time.Second

// thinBelow: a segment is thinned out when less than one message in thinBelow
// is still wanted.
const thinBelow = 5

func (e *Engine) sweepLoop() {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		select {
		case <-e.stop:
			return
		case <-t.C:
		}
		if err := e.sweep(); err != nil {
			e.log.Error("tidy the store", "err", err)
		}
	}
}

func (e *Engine) sweep() error {
	if err := e.sweepSubscriptions(); err != nil {
		return fmt.Errorf("delete subscriptions: %w", err)
	}
	segs := e.sparse()
	if len(segs) == 0 {
		return nil
	}
	if err := e.thin(segs); err != nil {
		return fmt.Errorf("thin out messages: %w", err)
	}
	return nil
}

// sweepSubscriptions deletes those of sessions that have ended.
func (e *Engine) sweepSubscriptions() error {
	e.mu.Lock()
	orphans := e.orphans
	e.orphans = nil
	e.mu.Unlock()
	for _, sid := range orphans {
		if err := e.sweepFilters(sid); err != nil {
			return err
		}
	}
	return nil
}

// sweepAtOnce is how many subscriptions are deleted under one hold of the lock,
// which is not held while they are read.
const sweepAtOnce = 256

func (e *Engine) sweepFilters(sid uint64) error {
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: sidKey('u', sid), UpperBound: sidKey('u', sid+1)})
	if err != nil {
		return err
	}
	var keys [][]byte
	for more := it.First(); more; {
		for keys = keys[:0]; more && len(keys) < sweepAtOnce; more = it.Next() {
			keys = append(keys, bytes.Clone(it.Key()))
		}
		e.mu.Lock()
		if e.err != nil {
			e.mu.Unlock()
			break
		}
		for _, k := range keys {
			e.open.batch.Delete(k, nil)
		}
		e.open.due = true
		e.mu.Unlock()
	}
	return it.Close()
}

// thinMost bounds the segments that are thinned out in one sweep.
const thinMost = 64

// sparse are segments that are worth thinning.
func (e *Engine) sparse() (segs []*seg) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil || e.closing {
		return nil
	}
	for _, s := range e.segs {
		if s.end == 0 || s.end > e.written+1 || len(segs) == thinMost {
			break // those after it are younger
		}
		if s.kept == 0 {
			s.kept = int64(s.end - s.first)
		}
		if s.live < s.kept/thinBelow {
			segs = append(segs, s)
		}
	}
	return segs
}

// thin deletes the finished messages of segments that are wholly on the disk.
func (e *Engine) thin(segs []*seg) error {
	all := make([][]groupRecord, len(segs))
	by := map[uint64]*queue{}
	for i, s := range segs {
		groups, err := e.readGroups(s)
		if err != nil {
			return err
		}
		for _, g := range groups {
			if _, err := eachTarget(g.v, func(_ uint64, _ uint32, sid uint64, _ how) { by[sid] = nil }); err != nil {
				return fmt.Errorf("record %x: %w", messageKey(g.first, kindTargets), err)
			}
		}
		all[i] = groups
	}
	e.eachQueue(func(q *queue) {
		if _, ok := by[q.sid]; ok {
			by[q.sid] = q
		}
	})
	var buf []byte
	for i, s := range segs {
		live, kept := map[*queue]map[uint64]bool{}, int64(0)
		for _, g := range all[i] {
			e.mu.Lock()
			if e.err != nil {
				e.mu.Unlock()
				return nil
			}
			if s.live > 0 { // else it is deleted as a whole
				var n int64
				buf, n = e.thinGroup(g, s, by, live, buf[:0])
				kept += n
			}
			e.mu.Unlock()
		}
		e.mu.Lock()
		s.kept = max(kept, 1)
		e.mu.Unlock()
	}
	return nil
}

// eachQueue calls f for every session, with mu held, which it lets go from time
// to time. A session that comes or goes meanwhile may be missed, and one may
// come twice.
func (e *Engine) eachQueue(f func(q *queue)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, parts := 0, e.sessions.Parts(); i < parts; i++ {
		for q := range e.sessions.Part(i) {
			f(q)
		}
		e.mu.Unlock()
		e.mu.Lock()
		if now := e.sessions.Parts(); now != parts { // from the beginning
			i, parts = -1, now
		}
	}
}

// wants reports whether the session still waits for a message of a segment.
// live caches that by session. The caller holds mu.
func (q *queue) wants(lsn uint64, s *seg, live map[*queue]map[uint64]bool) bool {
	if q == nil || q.ended {
		return false
	}
	l, ok := live[q]
	if !ok {
		l = map[uint64]bool{}
		live[q] = l
		if q.wait != nil {
			for p := q.wait.walk(); p.left > 0; {
				r := p.next()
				if r.lsn >= s.end {
					break
				}
				l[r.lsn] = true
			}
		}
		if q.w != nil {
			for _, x := range q.w.given[q.w.begin:] {
				if !x.done {
					l[x.lsn] = true
				}
			}
		}
	}
	return l[lsn]
}

// groupRecord is a group's record of targets.
type groupRecord struct {
	first uint64
	v     []byte
}

func (e *Engine) readGroups(s *seg) (groups []groupRecord, err error) {
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: messageKey(s.first, kindTargets), UpperBound: messageKey(s.end, kindTargets)})
	if err != nil {
		return nil, err
	}
	for it.First(); it.Valid(); {
		g := groupRecord{sidOf(it.Key()), append([]byte(nil), it.Value()...)}
		n, _ := binary.Uvarint(g.v)
		groups = append(groups, g)
		it.SeekGE(messageKey(g.first+max(n, 1), kindTargets))
	}
	return groups, it.Close()
}

// listed is a message in a group's record.
type listed struct {
	place   uint64
	size    uint32
	targets []target
}

// thinGroup writes a group's record again with the targets that are still
// wanted, and deletes the messages that have none: with the open group, behind
// which comes whatever else happens to the segment. by finds sessions; kept is
// how many messages stay. The caller holds mu.
func (e *Engine) thinGroup(g groupRecord, s *seg, by map[uint64]*queue, live map[*queue]map[uint64]bool, buf []byte) (_ []byte, kept int64) {
	var out []listed
	n, err := eachTarget(g.v, func(place uint64, size uint32, sid uint64, h how) {
		if k := len(out); k == 0 || out[k-1].place != place {
			out = append(out, listed{place: place, size: size})
		}
		if q := by[sid]; q.wants(g.first+place, s, live) {
			m := &out[len(out)-1]
			m.targets = append(m.targets, target{q, h})
		}
	})
	if err != nil {
		return buf, int64(len(out))
	}
	b := e.open.batch
	for _, m := range out {
		if len(m.targets) > 0 {
			kept++
			continue
		}
		b.Delete(messageKey(g.first+m.place, kindMessage), nil)
	}
	if kept == int64(len(out)) {
		return buf, kept
	}
	e.open.due = true
	if kept == 0 {
		b.Delete(messageKey(g.first, kindTargets), nil)
		return buf, 0
	}
	buf = binary.AppendUvarint(buf, n)
	buf = binary.AppendUvarint(buf, uint64(kept))
	for _, m := range out {
		if len(m.targets) > 0 {
			buf = appendTargets(buf, m.place, m.size, m.targets)
		}
	}
	b.Set(messageKey(g.first, kindTargets), buf, nil)
	return buf, kept
}
