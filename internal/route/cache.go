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
	epoch  uint64     // when it was last found right
	from   []*list[T] // what it was made of
	weight int
	cached bool
}

// Cached tells that the entry belongs to its topic name alone, for good: whoever holds its address may take it for the name. An entry that is not cached is
// overwritten by the next Find.
func (e *Entry[T]) Cached() bool { return e.cached }

// Name is the topic name of an entry that is cached, else "".
func (e *Entry[T]) Name() string {
	if !e.cached {
		return ""
	}
	return e.name
}

const (
	// cacheSlots is the default number of names a cache remembers.
	cacheSlots = 8192
	// maxCachedName is the length in bytes of the longest name that is remembered.
	maxCachedName = 1024
	// maxCachedSubs bounds the subscribers in all entries together. Entries share the lists of the table where they can, but a list that is out of date lives only
	// for the entries that hold it. Without the bound a few thousand topics with a few thousand subscribers each would fill the memory.
	maxCachedSubs = 1 << 20
	// maxCachedEntry bounds the subscribers of one entry. Beside so many deliveries a walk costs nothing.
	maxCachedEntry = maxCachedSubs / 16
)

// Cache remembers the answers for one loop: direct-mapped, filled at the second sight of a name so that names seen once push nothing out, valid while the table's
// epoch stands. It is not safe for concurrent use.
type Cache[T comparable] struct {
	t       *Table[T]
	entries []*Entry[T]
	seen    []uint32 // for each slot the hash of the name that was last looked for in vain
	weight  int      // of all entries
	hand    int      // where Sweep goes on
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
	epoch := c.t.epoch.Load() // before the walk: a change meanwhile makes the answer old, not wrong
	e := c.entries[h&uint64(len(c.entries)-1)]
	if e != nil && e.epoch == epoch && e.name == string(name) {
		return e
	}
	return c.miss(name, h, epoch)
}

// miss finds the answer in the table and remembers it, if the name has been seen before.
func (c *Cache[T]) miss(name []byte, h, epoch uint64) *Entry[T] {
	if len(name) == 0 {
		c.scratch = Entry[T]{}
		return &c.scratch
	}
	i, tag := int(h&uint64(len(c.entries)-1)), uint32(h>>32)|1
	old := c.entries[i]
	known := old != nil && old.name == string(name)
	// The walk compares strings. This one lives no longer than the walk, and the caller's bytes do not change meanwhile.
	c.walker.walk(c.t, unsafe.String(&name[0], len(name)), h)
	c.walker.name = ""
	if known && slices.Equal(old.from, c.walker.lists) { // lists do not change: the change was elsewhere, and the entry is as good as new
		old.epoch = epoch
		return old
	}
	r, owned := c.merger.merge(c.walker.lists)
	weight := 1 + len(r.Subs) + len(r.Groups) + 4*(len(r.More)+len(r.Own))
	if weight > maxCachedEntry || len(name) > maxCachedName || !known && c.seen[i] != tag {
		if known {
			c.drop(i)
		}
		c.seen[i] = tag
		c.scratch = Entry[T]{Result: r}
		return &c.scratch
	}
	n := &Entry[T]{Result: r, epoch: epoch, from: slices.Clone(c.walker.lists), weight: weight, cached: true}
	if !owned {
		n.Subs, n.Groups = slices.Clone(r.Subs), slices.Clone(r.Groups)
	}
	if known {
		n.name = old.name
	} else {
		n.name = string(name)
	}
	c.put(i, n)
	return n
}

// put sets slot i, always to a new entry: an entry's address stands for its name.
func (c *Cache[T]) put(i int, n *Entry[T]) {
	c.drop(i)
	for c.weight+n.weight > maxCachedSubs {
		c.drop(c.turn())
	}
	c.entries[i] = n
	c.weight += n.weight
}

// drop empties a slot.
func (c *Cache[T]) drop(i int) {
	if e := c.entries[i]; e != nil {
		c.weight -= e.weight
		c.entries[i] = nil
	}
}

// turn moves the hand on and returns the slot it leaves.
func (c *Cache[T]) turn() int {
	i := c.hand
	c.hand = (i + 1) & (len(c.entries) - 1)
	return i
}

// Sweep drops what is out of date among the next n slots, so that a name which is not published any more does not keep ended sessions in memory. The loop calls
// it now and then.
func (c *Cache[T]) Sweep(n int) {
	epoch := c.t.epoch.Load()
	for range min(n, len(c.entries)) {
		i := c.turn()
		if e := c.entries[i]; e != nil && e.epoch != epoch {
			c.drop(i)
		}
	}
	c.scratch = Entry[T]{}
	c.walker.reset()
	c.merger.reset()
}
