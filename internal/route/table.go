package route

import (
	"iter"
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

// Table holds all subscriptions. Make it with NewTable. All methods may be called by any goroutine.
type Table[T comparable] struct {
	epoch atomic.Uint64
	mu    sync.RWMutex
	subs  map[string][]Sub[T]
	group map[topic.Filter]*Group[T]
}

// NewTable returns an empty table.
func NewTable[T comparable]() *Table[T] {
	return &Table[T]{subs: map[string][]Sub[T]{}, group: map[topic.Filter]*Group[T]{}}
}

// Subscribe adds s to filter f or replaces the subscription that s.To has there. fresh: the caller knows that it has none, so nothing is searched.
func (t *Table[T]) Subscribe(f topic.Filter, s Sub[T], fresh bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.epoch.Add(1)
	if f.Shared() {
		g := t.group[f]
		if g == nil {
			g = &Group[T]{filter: f}
			t.group[f] = g
		}
		g.put(s)
		return
	}
	t.subs[f.Filter] = append(without(t.subs[f.Filter], s.To), s)
}

func without[T comparable](l []Sub[T], to T) []Sub[T] {
	var out []Sub[T]
	for _, s := range l {
		if s.To != to {
			out = append(out, s)
		}
	}
	return out
}

// Unsubscribe removes the subscription of a living session and tells whether there was one. A Find that begins after it returned does not see it.
func (t *Table[T]) Unsubscribe(f topic.Filter, to T) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.epoch.Add(1)
	if f.Shared() {
		g := t.group[f]
		if g == nil {
			return false
		}
		had := g.drop(to)
		if g.Len() == 0 {
			delete(t.group, f)
		}
		return had
	}
	l := t.subs[f.Filter]
	n := without(l, to)
	if t.subs[f.Filter] = n; len(n) == 0 {
		delete(t.subs, f.Filter)
	}
	return len(n) < len(l)
}

// Forget removes the subscription of a session that has ended. It may leave the subscription in place for a while: whoever delivers must skip
// sessions that have ended. gone must answer true for every ended session; it is called under the table's lock.
func (t *Table[T]) Forget(f topic.Filter, to T, gone func(T) bool) { t.Unsubscribe(f, to) }

// Epoch counts the changes of the table.
func (t *Table[T]) Epoch() uint64 { return t.epoch.Load() }

// Group returns the shared subscription of f, nil if it has no members.
func (t *Table[T]) Group(f topic.Filter) *Group[T] {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.group[f]
}

// Stats are the sizes of a table.
type Stats struct {
	Subscriptions int // all, shared ones included
	Shared        int // memberships of shared subscriptions
	Groups        int // shared subscriptions
}

// Stats returns the sizes of the table.
func (t *Table[T]) Stats() Stats {
	var s Stats
	for f := range t.All() {
		s.Subscriptions++
		if f.Shared() {
			s.Shared++
		}
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	s.Groups = len(t.group)
	return s
}

// All yields every subscription, in no order. Subscriptions that come or go meanwhile may or may not be among them, and ended sessions' may still be.
func (t *Table[T]) All() iter.Seq2[topic.Filter, Sub[T]] {
	return func(yield func(topic.Filter, Sub[T]) bool) {
		t.mu.RLock()
		defer t.mu.RUnlock()
		for f, l := range t.subs {
			for _, s := range l {
				if !yield(topic.Filter{Filter: f}, s) {
					return
				}
			}
		}
		for f, g := range t.group {
			for _, s := range g.Members() {
				if !yield(f, s) {
					return
				}
			}
		}
	}
}
