package disk

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
)

// group is what is committed together. While it is open, all of it is under
// the engine's lock; when it is sealed, what is encoded does not change.
type group struct {
	first     uint64 // the number of entries[0]
	entries   []entry
	targets   []target // of all entries
	batch     *pebble.Batch
	number    uint64 // in its mark
	waiters   []note // completions of all but messages
	claims    []claimed
	ended     []string // client identifiers of the sessions that it ends
	seg       *seg
	bytes     int64 // of the messages that are in memory
	due       bool  // worth a commit
	sync      bool  // somebody waits, or it should be on the disk soon
	flush     bool  // sync, although the durability is async
	committed bool
}

// entry is one message of a group.
type entry struct {
	m      *packet.Publish // nil: it is not needed in memory
	c      store.Completer // nil: nobody waits, or has been told
	tok    uint64
	t0, t1 uint32 // its targets
	live   int32  // targets that have not finished
	hard   bool   // the completion has to wait for the commit, whoever finishes
}

// target is a session that gets a message.
type target struct {
	q *queue
	how
}

// claimed is an answer to Claim that waits for the commit.
type claimed struct {
	sink store.Sink
	s    store.Session
	st   *store.State
}

// seg is a run of groups whose messages are deleted together, when all their
// targets have finished.
type seg struct {
	first, end uint64 // numbers; end 0: it still grows
	live       int64  // targets that have not finished
	kept       int64  // messages on the disk after it was thinned out, 0: it was not
}

// segSize is the number of messages after which a segment ends, unless Options say otherwise.
const segSize = 4096

func (e *Engine) newGroup() *group {
	g := &group{first: e.lsn + 1, seg: e.growing()}
	if e.err == nil {
		g.batch = e.db.NewBatch()
		g.number = e.marks.put(g.batch)
	}
	return g
}

// growing is the segment of the next group. The caller holds mu.
func (e *Engine) growing() *seg {
	if n := len(e.segs); n > 0 {
		s := e.segs[n-1]
		if s.end == 0 && e.lsn+1-s.first < uint64(e.o.SegmentMessages) {
			return s
		}
		if s.end == 0 {
			e.closeSeg(s, e.lsn+1)
		}
	}
	s := &seg{first: e.lsn + 1}
	e.segs = append(e.segs, s)
	return s
}

func (e *Engine) closeSeg(s *seg, end uint64) {
	if s.end = end; s.live == 0 {
		e.buryLocked(s)
	}
}

// buryLocked has a segment deleted that nobody needs any more.
func (e *Engine) buryLocked(s *seg) {
	e.dead = append(e.dead, s)
	if i := e.segIndex(s.first); i < len(e.segs) && e.segs[i] == s {
		e.segs = slices.Delete(e.segs, i, i+1)
	}
}

// segIndex is the place of the segment with a number.
func (e *Engine) segIndex(lsn uint64) int {
	n := len(e.segs)
	if n > 0 && e.segs[n-1].first <= lsn {
		return n - 1
	}
	return sort.Search(n, func(i int) bool { return e.segs[i].first > lsn }) - 1
}

// finished takes one target off a message. The caller holds mu.
func (e *Engine) finished(lsn uint64) {
	if i := e.segIndex(lsn); i >= 0 {
		s := e.segs[i]
		if s.live--; s.live == 0 && s.end != 0 {
			e.buryLocked(s)
		}
	}
	g, x := e.find(lsn)
	if x == nil {
		return
	}
	x.live--
	switch {
	case x.live > 0:
	case g == e.open && !x.hard:
		e.elide(g, x)
	case (g.committed || e.err != nil && g != e.open && g != e.committing) && x.m != nil:
		e.release(g, x)
	}
}

// elide completes a message of the open group that nobody waits for any more: it
// is never written.
func (e *Engine) elide(g *group, x *entry) {
	if x.c != nil {
		e.notes = append(e.notes, note{c: x.c, tok: x.tok})
		x.c = nil
		e.told.Signal()
	}
	g.bytes -= cost(x.m)
	x.m = nil
}

// release drops a message from memory.
func (e *Engine) release(g *group, x *entry) {
	n := cost(x.m)
	g.bytes -= n
	e.recentN -= n
	x.m = nil
}

// find is the entry of a message, if its group is in memory. The caller holds mu.
func (e *Engine) find(lsn uint64) (*group, *entry) {
	if g := e.open; lsn >= g.first {
		return g, g.at(lsn)
	}
	i := sort.Search(len(e.recent), func(i int) bool { return e.recent[i].first > lsn }) - 1
	if i < 0 {
		return nil, nil
	}
	g := e.recent[i]
	return g, g.at(lsn)
}

func (g *group) at(lsn uint64) *entry {
	if i := lsn - g.first; i < uint64(len(g.entries)) {
		return &g.entries[i]
	}
	return nil
}

// want makes the open group worth a commit, and has c told of it. false: the
// engine has failed, and c will be told that. The caller holds mu.
func (e *Engine) want(c store.Completer, tok uint64) bool {
	if e.err != nil {
		if c != nil {
			e.notes = append(e.notes, note{c: c, tok: tok, err: e.err})
			e.told.Signal()
		}
		return false
	}
	g := e.open
	if c != nil {
		g.waiters = append(g.waiters, note{c: c, tok: tok})
	}
	g.due, g.sync = true, true
	e.work.Signal()
	return true
}

func (e *Engine) commitLoop() {
	ended := false
	defer func() {
		if !ended { // logger.Fatalf has ended the goroutine
			e.fail(errors.New("the database has stopped"))
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.drained = true
		e.told.Signal()
	}()
	for e.commitNext() {
	}
	ended = true
}

// commitNext waits for the open group, and commits it. false: it was the last.
func (e *Engine) commitNext() bool {
	e.mu.Lock()
	for !e.open.due && !e.closing && e.err == nil {
		e.work.Wait()
	}
	if e.err != nil {
		e.mu.Unlock()
		return false
	}
	last := e.closing
	g := e.open
	frees := len(e.dead) > 0
	live := e.seal(g)
	e.committing, e.sealed = g, time.Now()
	e.mu.Unlock()

	synced, err := e.commit(g, live)
	if err != nil {
		e.fail(err)
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil { // it failed elsewhere, and the group was told so
		return false
	}
	e.unsynced, e.committing, e.late = !synced, nil, false
	e.freed = e.freed || frees
	e.written = max(e.written, g.first+uint64(len(g.entries))-1)
	g.committed = true
	e.settle(g)
	e.notes = append(e.notes, note{g: g})
	e.told.Signal()
	if !last || e.open.due || len(e.dirty) > 0 {
		return true
	}
	e.err = ErrClosed // before the lock is free: nothing may come into a group that is never written
	e.open.batch.Close()
	e.open.batch = nil
	return false
}

// seal closes the open group and begins the next. What it returns are the
// entries to be written. The caller holds mu.
func (e *Engine) seal(g *group) (live []uint32) {
	for _, s := range e.dead { // before the cursors: it does not matter, they are one batch
		g.batch.DeleteRange(messageKey(s.first, kindTargets), messageKey(s.end, kindTargets), nil)
	}
	e.dead = e.dead[:0]
	var buf []byte
	for _, q := range e.dirty {
		if q.dirty = false; !q.ended {
			buf = q.appendCursor(buf[:0])
			g.batch.Set(sidKey('a', q.sid), buf, nil)
		}
	}
	clear(e.dirty)
	e.dirty = e.dirty[:0]
	for i := range g.entries {
		if g.entries[i].live > 0 {
			live = append(live, uint32(i))
		}
	}
	e.recent = append(e.recent, g)
	e.recentN += g.bytes
	e.entries += len(g.entries)
	if wrote := len(live) > 0 || g.batch.Count() > 0; e.syncs(g) && (wrote || g.flush) {
		e.marks.synced = g.number
	}
	e.open = e.newGroup()
	e.open.entries = make([]entry, 0, min(len(g.entries), 4096))
	return live
}

// settle lets go of what need not be in memory. The caller holds mu.
func (e *Engine) settle(g *group) {
	for i := range g.entries {
		if x := &g.entries[i]; x.live == 0 && x.m != nil {
			e.release(g, x)
		}
	}
	n := 0
	for ; n < len(e.recent) && e.recent[n].committed; n++ {
		old := e.recent[n]
		if old.bytes > 0 && e.recentN <= e.o.CacheBytes && e.entries <= maxEntries && len(e.recent)-n <= maxGroups {
			break
		}
		e.recentN -= old.bytes
		e.entries -= len(old.entries)
	}
	clear(e.recent[:n])
	e.recent = e.recent[n:]
}

// One old message must not keep what came after it: beside their bytes, groups
// and their entries are bounded.
const (
	maxEntries = 1 << 16
	maxGroups  = 1 << 12
)

// cost is what a message takes in memory, about: with its entry, and its part
// of a group.
func cost(m *packet.Publish) int64 { return int64(len(m.Bytes())) + 320 }

// commit writes a sealed group.
func (e *Engine) commit(g *group, live []uint32) (synced bool, err error) {
	defer func() { // Pebble panics where it cannot go on
		if x := recover(); x != nil {
			err = fmt.Errorf("write: %v", x)
		}
	}()
	if err := g.encode(live); err != nil {
		return false, fmt.Errorf("encode: %w", err)
	}
	synced = e.syncs(g)
	switch {
	case g.batch.Count() == 0 && !g.flush:
	case synced:
		if err := e.db.ApplyNoSyncWait(g.batch, pebble.Sync); err != nil {
			return false, fmt.Errorf("write: %w", err)
		}
		if err := g.batch.SyncWait(); err != nil {
			return false, fmt.Errorf("sync: %w", err)
		}
	default:
		if err := e.db.Apply(g.batch, pebble.NoSync); err != nil {
			return false, fmt.Errorf("write: %w", err)
		}
	}
	return synced, g.batch.Close()
}

// syncs reports whether a group is not done before the disk has it.
func (e *Engine) syncs(g *group) bool { return e.o.Durability == Fsync && g.sync || g.flush }

// encode puts the messages into the batch, behind the record of their targets.
func (g *group) encode(live []uint32) error {
	if len(live) == 0 {
		return nil
	}
	n := 16
	for _, i := range live {
		n += 24 + 12*int(g.entries[i].t1-g.entries[i].t0)
	}
	if err := g.batch.Set(messageKey(g.first, kindTargets), g.appendTargets(make([]byte, 0, n), live), nil); err != nil {
		return err
	}
	for _, i := range live {
		m := g.entries[i].m
		op := g.batch.SetDeferred(9+1, messageSize(m))
		appendMessageKey(op.Key[:0], g.first+uint64(i), kindMessage)
		appendMessage(op.Value[:0], m)
		if err := op.Finish(); err != nil {
			return err
		}
	}
	return nil
}

// notifyLoop delivers completions, in a goroutine of their own: who is told may
// hold locks that callers of the engine hold.
func (e *Engine) notifyLoop() {
	for {
		e.mu.Lock()
		for len(e.notes) == 0 && !(e.closing && e.drained) {
			e.told.Wait()
		}
		notes := e.notes
		e.notes = nil
		e.mu.Unlock()
		if len(notes) == 0 {
			return
		}
		for _, n := range notes {
			switch {
			case n.g != nil:
				n.g.tell(n.err)
			case n.late:
				n.c.(store.Patient).Late(n.tok)
			default:
				n.c.Done(n.tok, n.err)
			}
		}
	}
}

// tell delivers the completions of a group that is committed, or will never be.
func (g *group) tell(err error) {
	for i := range g.entries {
		if x := &g.entries[i]; x.c != nil {
			x.c.Done(x.tok, err)
			x.c = nil
		}
	}
	for _, w := range g.waiters {
		w.c.Done(w.tok, err)
	}
	for _, c := range g.claims {
		if err != nil {
			c.sink.Claimed(nil, nil, err)
		} else {
			c.sink.Claimed(c.s, c.st, nil)
		}
	}
	g.waiters, g.claims, g.ended = nil, nil, nil
	if err == nil { // else it may be encoded still
		g.targets = nil
	}
}
