package route

import (
	"hash/maphash"
	"slices"
	"unsafe"
)

// Entry is a Result with the name it belongs to.
type Entry[T comparable] struct {
	Result[T]
	name   string
	epoch  uint64
	weight int
	cached bool
}

// Cached tells that the entry belongs to its topic name alone, for good: whoever holds its address may take it for the name. An entry that is not cached is
// overwritten by the next Find.
func (e *Entry[T]) Cached() bool { return e.cached }

const (
	// cacheSlots is the default number of names a cache remembers.
	cacheSlots = 8192
	// maxCachedName is the length in bytes of the longest name that is remembered.
	maxCachedName = 1024
	// maxCachedSubs bounds the subscribers that the entries own together: those of overlapping filters. Without it a few thousand topics with a few thousand such
	// subscribers each would fill the memory.
	maxCachedSubs = 1 << 18
)

// Cache remembers the answers for one loop: direct-mapped, filled at the second sight of a name so that names seen once push nothing out, valid while the table's
// epoch stands. It is not safe for concurrent use.
type Cache[T comparable] struct {
	t       *Table[T]
	entries []*Entry[T]
	seen    []uint32 // for each slot the hash of the name that was last looked for in vain
	owned   int      // the weight of all entries
	swept   int
	walker  walker[T]
	merger  merger[T]
	scratch Entry[T]
}

// NewCache returns a cache of t with room for slots names, rounded up to a power of two; 0: 8192.
func NewCache[T comparable](t *Table[T], slots int) *Cache[T] {
	if slots <= 0 {
		slots = cacheSlots
	}
	n := 1
	for n < slots {
		n *= 2
	}
	return &Cache[T]{t: t, entries: make([]*Entry[T], n), seen: make([]uint32, n), walker: walker[T]{seed: t.seed}}
}

// Find returns who gets a message with this topic name. The entry is valid until the next Find; name is not kept. It takes no lock, and allocates nothing if
// the answer is remembered.
func (c *Cache[T]) Find(name []byte) *Entry[T] {
	h := maphash.Bytes(c.t.seed, name)
	i := int(h & uint64(len(c.entries)-1))
	epoch := c.t.epoch.Load() // before the walk: a change meanwhile makes the answer old, not wrong
	e := c.entries[i]
	known := e != nil && e.name == string(name)
	if known && e.epoch == epoch {
		return e
	}
	if len(name) == 0 {
		c.scratch = Entry[T]{}
		return &c.scratch
	}
	// The walk compares strings. This one lives no longer than the walk, and the caller's bytes do not change meanwhile.
	c.walker.walk(c.t, unsafe.String(&name[0], len(name)), h)
	c.walker.name = ""
	r, owned := c.merger.merge(c.walker.lists)
	if tag := uint32(h>>32) | 1; len(name) > maxCachedName || !known && c.seen[i] != tag {
		c.seen[i] = tag
		c.scratch = Entry[T]{Result: r}
		return &c.scratch
	}
	return c.fill(i, name, epoch, r, owned)
}

// fill remembers r in slot i, always as a new entry: an entry's address stands for its name.
func (c *Cache[T]) fill(i int, name []byte, epoch uint64, r Result[T], owned bool) *Entry[T] {
	n := &Entry[T]{Result: r, epoch: epoch, cached: true}
	if !owned {
		n.Subs, n.Groups = slices.Clone(r.Subs), slices.Clone(r.Groups)
		n.weight = len(n.Subs) + len(n.Groups) + 4*(len(n.More)+len(n.Own))
	}
	if old := c.entries[i]; old != nil {
		c.owned -= old.weight
		if old.name == string(name) {
			n.name = old.name
		}
	}
	if n.name == "" {
		n.name = string(name)
	}
	if c.owned+n.weight > maxCachedSubs {
		clear(c.entries)
		c.owned = 0
	}
	c.entries[i] = n
	c.owned += n.weight
	return n
}

// Sweep drops what is out of date among the next n slots, so that a name which is not published any more does not keep ended sessions in memory. The loop calls
// it now and then.
func (c *Cache[T]) Sweep(n int) {
	epoch := c.t.epoch.Load()
	for range min(n, len(c.entries)) {
		if e := c.entries[c.swept]; e != nil && e.epoch != epoch {
			c.owned -= e.weight
			c.entries[c.swept] = nil
		}
		c.swept = (c.swept + 1) & (len(c.entries) - 1)
	}
	c.scratch = Entry[T]{}
	c.walker.reset()
	c.merger.reset()
}
