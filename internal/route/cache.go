package route

import "github.com/myelin-mqtt/myelin/topic"

// Result is who gets the messages of one topic name. It is not changed once it is made.
type Result[T comparable] struct {
	// Subs has each session once: its highest QoS, NoLocal only if all its matching subscriptions have it, RetainAsPublished and Durable if any has.
	// It may be the table's own list and may still hold sessions that have ended.
	Subs    []Sub[T]
	Groups  []*Group[T]    // the shared subscriptions, apart from Subs
	More    map[T][]uint32 // all subscription identifiers of the sessions that have more than one here; others have Sub.ID
	Own     map[T]Own[T]   // for a session with matching subscriptions both with NoLocal and without: what it gets of its own messages
	Durable int            // how many of Subs are Durable with a QoS above 0
}

// Own replaces a session's Sub and identifiers where it is the publisher: its subscriptions without NoLocal only.
type Own[T comparable] struct {
	Sub Sub[T]
	IDs []uint32 // as in Result.More: nil unless there is more than one
}

// Entry is a Result with the name it belongs to.
type Entry[T comparable] struct {
	Result[T]
	name   string
	epoch  uint64
	cached bool
}

// Cached tells that the entry belongs to its topic name alone, for good: its address may be remembered as "this topic". An entry that is not cached is
// overwritten by the next Find.
func (e *Entry[T]) Cached() bool { return e.cached }

// Cache remembers the answers for one loop. It is not safe for concurrent use.
type Cache[T comparable] struct {
	t       *Table[T]
	scratch Entry[T]
}

// NewCache returns a cache of t with room for slots names, rounded up to a power of two; 0: 8192.
func NewCache[T comparable](t *Table[T], slots int) *Cache[T] { return &Cache[T]{t: t} }

// Find returns who gets a message with this topic name. The entry is valid until the next Find.
func (c *Cache[T]) Find(name []byte) *Entry[T] {
	t := c.t
	t.mu.RLock()
	defer t.mu.RUnlock()
	at := map[T]int{}
	var r Result[T]
	for f, l := range t.subs {
		if !topic.Match(f, string(name)) {
			continue
		}
		for _, s := range l {
			i, had := at[s.To]
			if !had {
				at[s.To] = len(r.Subs)
				r.Subs = append(r.Subs, s)
				continue
			}
			o := &r.Subs[i]
			o.QoS = max(o.QoS, s.QoS)
			if s.ID != 0 && o.ID != 0 {
				if r.More == nil {
					r.More = map[T][]uint32{}
				}
				if r.More[s.To] == nil {
					r.More[s.To] = []uint32{o.ID}
				}
				r.More[s.To] = append(r.More[s.To], s.ID)
			}
			o.ID = max(o.ID, s.ID)
			o.Opts = o.Opts&s.Opts&NoLocal | (o.Opts|s.Opts)&^NoLocal
		}
	}
	for _, s := range r.Subs {
		if s.QoS > 0 && s.Opts&Durable != 0 {
			r.Durable++
		}
	}
	for f, g := range t.group {
		if topic.Match(f.Filter, string(name)) {
			r.Groups = append(r.Groups, g)
		}
	}
	c.scratch = Entry[T]{Result: r}
	return &c.scratch
}
