package route

import (
	"hash/maphash"
	"iter"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/myelin-mqtt/myelin/topic"
)

// The bits of Sub.Opts.
const (
	NoLocal           uint8 = 1 << iota // not to the session that published it
	RetainAsPublished                   // keep the RETAIN flag of the publisher
	Durable                             // the session outlives its connection: a message of QoS > 0 must be stored before it is acknowledged
)

// Sub is one session's subscription to one filter.
type Sub[T comparable] struct {
	To   T
	ID   uint32 // subscription identifier; 0: none
	QoS  uint8
	Opts uint8
}

// shardBits is the logarithm of the number of locks among which writers of different filters spread.
const shardBits = 6

// Table holds all subscriptions. Make it with NewTable. All methods may be called by any goroutine.
type Table[T comparable] struct {
	seed  maphash.Seed
	epoch atomic.Uint64
	count counters
	grave *node[T]
	exact [1 << shardBits]shard[T] // filters without wildcards, by the hash of the whole filter
	trie  [1 << shardBits]shard[T] // filters with wildcards, by the hash of their first level
	wild  shard[T]                 // those whose first level is a wildcard
}

// shard is a part of the table with a lock for its writers. It fills a cache line, so that writers of one do not slow down readers of another.
type shard[T comparable] struct {
	mu   sync.Mutex
	root kids[T]
	_    [32]byte
}

// counters are the sizes of the table. They are exact but for ended sessions in long lists, see list.forget.
type counters struct{ subs, shared, groups atomic.Int64 }

// NewTable returns an empty table.
func NewTable[T comparable]() *Table[T] {
	return &Table[T]{seed: maphash.MakeSeed(), grave: &node[T]{from: isGrave}}
}

// Subscribe adds s to filter f or replaces the subscription that s.To has there. fresh: the caller knows that it has none, so nothing is searched and the
// cost does not depend on the number of subscribers. The table keeps f.Filter, and f.Share with a new group.
func (t *Table[T]) Subscribe(f topic.Filter, s Sub[T], fresh bool) {
	sp := t.spot(f.Filter)
	sp.Lock()
	defer sp.Unlock()
	n := t.grow(sp, f.Filter)
	l := n.subs.Load()
	if f.Shared() {
		n.subs.Store(l.join(f, s, fresh, &t.count))
	} else {
		nl, added := l.add(s, fresh)
		n.subs.Store(nl)
		t.count.subs.Add(int64(added))
	}
	t.epoch.Add(1)
}

// Unsubscribe removes the subscription of a living session and tells whether there was one. A Find that begins after it returned does not see it. Its cost
// grows with the number of subscribers of f.
func (t *Table[T]) Unsubscribe(f topic.Filter, to T) bool { return t.Forget(f, to, nil) }

// Forget removes the subscription of a session that has ended, at a cost that does not depend on the number of subscribers: in a long list it only counts,
// and a quarter of the list must have ended before the list is cleaned. Until then Find still yields the session, so whoever delivers must skip ended ones. gone must
// answer true for every ended session; it is called under the lock of a shard and must not call the table. A handle that was forgotten is never subscribed again. With
// gone == nil it is Unsubscribe. It reports whether the session was subscribed, which for a long list is taken for granted.
func (t *Table[T]) Forget(f topic.Filter, to T, gone func(T) bool) bool {
	sp := t.spot(f.Filter)
	sp.Lock()
	defer sp.Unlock()
	n := t.find(sp, f.Filter)
	if n == nil {
		return false
	}
	l := n.subs.Load()
	nl, removed := l, 0
	if f.Shared() {
		nl, removed = l.leave(f.Share, to, gone, &t.count)
	} else if l != nil {
		nl, removed = l.forget(to, gone)
		t.count.subs.Add(-int64(removed))
	}
	if nl != l {
		n.subs.Store(nl)
		if nl == nil {
			t.prune(sp, f.Filter)
		}
		t.epoch.Add(1)
	}
	return removed != 0
}

// Epoch counts the changes of the table. An answer that was computed after the epoch was loaded holds as long as it stands.
func (t *Table[T]) Epoch() uint64 { return t.epoch.Load() }

// Group returns the shared subscription with this filter and share name, nil if it has no members.
func (t *Table[T]) Group(f topic.Filter) *Group[T] {
	sp := t.spot(f.Filter)
	sp.Lock()
	defer sp.Unlock()
	n := t.find(sp, f.Filter)
	if n == nil {
		return nil
	}
	if g := n.subs.Load().group(f.Share); g != nil && g.Len() > 0 {
		return g
	}
	return nil
}

// Stats are the sizes of a table.
type Stats struct {
	Subscriptions int // all, shared ones included
	Shared        int // memberships of shared subscriptions
	Groups        int // shared subscriptions
}

// Stats returns the sizes of the table. Sessions that were forgotten are not counted, even where the table still holds them.
func (t *Table[T]) Stats() Stats {
	c := &t.count
	shared := int(max(c.shared.Load(), 0))
	return Stats{Subscriptions: int(max(c.subs.Load(), 0)) + shared, Shared: shared, Groups: int(c.groups.Load())}
}

// All yields every subscription, in no order and without holding a lock. Subscriptions that come or go meanwhile may or may not be among them, and those
// of sessions that were forgotten may still be.
func (t *Table[T]) All() iter.Seq2[topic.Filter, Sub[T]] {
	return func(yield func(topic.Filter, Sub[T]) bool) {
		for i := range t.exact {
			if !t.exact[i].root.each(yield) {
				return
			}
		}
		for i := range t.trie {
			if !t.trie[i].root.each(yield) {
				return
			}
		}
		t.wild.root.each(yield)
	}
}

// shardOf returns the shard in which key is found, and the hash by which it is found there.
func shardOf[T comparable](shards *[1 << shardBits]shard[T], seed maphash.Seed, key string) (*shard[T], uint32) {
	h := maphash.String(seed, key)
	return &shards[h>>(64-shardBits)], uint32(h)
}

// levelHash is the hash under which a level is found among the children of a node.
func (t *Table[T]) levelHash(level string) uint32 { return uint32(maphash.String(t.seed, level)) }

// clip returns s, the beginning of whole, as a string that keeps nothing else in memory.
func clip(s, whole string) string {
	if len(s) == len(whole) {
		return whole
	}
	return strings.Clone(s)
}
