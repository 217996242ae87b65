package route

import (
	"iter"
	"sync/atomic"
)

// slots is a hash table of nodes with open addressing. Readers take no lock: a place is written once, its node first and then its hash, and only its node changes
// afterwards. A removed node leaves a grave behind, because a place that is empty again would hide what was put behind it. Writers hold the shard's lock, and publish a
// new table when this one is full or nearly empty. A large table is cut into parts, so that no writer has to move all of it at once. Its length is any number, so that
// it is half full at least, unless nodes were removed.
type slots[T comparable] struct {
	hashes []atomic.Uint32 // 0: the place is empty
	nodes  []atomic.Pointer[node[T]]
	parts  *[1 << partBits]atomic.Pointer[slots[T]] // instead of places: by the highest bits of the hash
	used   uint32                                   // places that are not empty
	live   uint32                                   // nodes, also those in parts
}

const (
	minSlots  = 4
	partBits  = 6
	partShift = 32 - partBits
	manyNodes = 4096 // from here on a table has parts
)

// newSlots returns a table that has room for n nodes and as many again.
func newSlots[T comparable](n uint32) *slots[T] {
	size := max(minSlots, n*2)
	return &slots[T]{hashes: make([]atomic.Uint32, size), nodes: make([]atomic.Pointer[node[T]], size)}
}

// home is the place where the search for a hash begins. The hashes in a part have their highest bits in common.
func (s *slots[T]) home(h uint32) uint32 {
	return uint32(uint64(stored(h)*0x9e3779b1) * uint64(len(s.hashes)) >> 32)
}

func (s *slots[T]) after(i uint32) uint32 {
	if i++; i == uint32(len(s.hashes)) {
		return 0
	}
	return i
}

// stored is what stands in a place for a hash.
func stored(h uint32) uint32 { return max(h, 1) }

// level returns the place of the node whose label begins with this level, nil if there is none.
func (s *slots[T]) level(h uint32, level string) *atomic.Pointer[node[T]] {
	if s = s.part(h); s == nil {
		return nil
	}
	for i := s.home(h); ; i = s.after(i) {
		switch s.hashes[i].Load() {
		case 0:
			return nil
		case stored(h):
			if s.nodes[i].Load().begins(level) {
				return &s.nodes[i]
			}
		}
	}
}

// whole returns the place of the node with this key, nil if there is none.
func (s *slots[T]) whole(h uint32, key string) *atomic.Pointer[node[T]] {
	if s = s.part(h); s == nil {
		return nil
	}
	for i := s.home(h); ; i = s.after(i) {
		switch s.hashes[i].Load() {
		case 0:
			return nil
		case stored(h):
			if n := s.nodes[i].Load(); n.key() == key && !n.grave() {
				return &s.nodes[i]
			}
		}
	}
}

// part returns the table whose places hold h: s itself if it has no parts.
func (s *slots[T]) part(h uint32) *slots[T] {
	if s == nil || s.parts == nil {
		return s
	}
	return s.parts[h>>partShift].Load()
}

// all yields the nodes and their hashes, as they are stored.
func (s *slots[T]) all() iter.Seq2[uint32, *node[T]] {
	return func(yield func(uint32, *node[T]) bool) {
		for i := range s.width() {
			r := s.row(i)
			for j := range r.hashes {
				if h := r.hashes[j].Load(); h != 0 {
					if n := r.nodes[j].Load(); !n.grave() && !yield(h, n) {
						return
					}
				}
			}
		}
	}
}

// width returns the number of rows.
func (s *slots[T]) width() int {
	switch {
	case s == nil:
		return 0
	case s.parts == nil:
		return 1
	}
	return len(s.parts)
}

// row returns row i: a table without parts, which may have no places.
func (s *slots[T]) row(i int) *slots[T] {
	if s.parts == nil {
		return s
	}
	if p := s.parts[i].Load(); p != nil {
		return p
	}
	return new(slots[T])
}

// add puts n, which is not there yet, into s, or into a larger copy of s. It returns the table to publish.
func (s *slots[T]) add(h uint32, n *node[T]) *slots[T] {
	switch {
	case s == nil:
		s = newSlots[T](1)
	case s.parts == nil && s.live >= manyNodes:
		s = s.cut()
	}
	if s.parts == nil {
		return s.fit(h, n)
	}
	p := &s.parts[h>>partShift]
	old := p.Load()
	t := old
	if t == nil {
		t = newSlots[T](1)
	}
	if t = t.fit(h, n); t != old { // a part is not cut again
		p.Store(t)
	}
	s.live++
	return s
}

// fit puts n into s, which has no parts, or into a larger copy.
func (s *slots[T]) fit(h uint32, n *node[T]) *slots[T] {
	if (s.used+1)*4 > uint32(len(s.hashes))*3 {
		s = s.resized(s.live + 1)
	}
	s.put(h, n)
	return s
}

func (s *slots[T]) put(h uint32, n *node[T]) {
	i := s.home(h)
	for s.hashes[i].Load() != 0 {
		i = s.after(i)
	}
	s.nodes[i].Store(n)
	s.hashes[i].Store(stored(h))
	s.used++
	s.live++
}

// remove takes out the node at a place that h led to, and leaves a grave there. It returns the table to publish: nil when it was the last one.
func (s *slots[T]) remove(h uint32, at *atomic.Pointer[node[T]], grave *node[T]) *slots[T] {
	s.live--
	if s.live == 0 {
		return nil
	}
	if s.parts != nil {
		p := &s.parts[h>>partShift]
		if old, t := p.Load(), p.Load().remove(h, at, grave); t != old {
			p.Store(t)
		}
		if s.live < manyNodes/8 {
			return s.resized(s.live)
		}
		return s
	}
	at.Store(grave)
	if len(s.hashes) > minSlots && s.live*8 < uint32(len(s.hashes)) {
		return s.resized(s.live)
	}
	return s
}

// resized copies the nodes into a table without parts that has room for n.
func (s *slots[T]) resized(n uint32) *slots[T] {
	to := newSlots[T](n)
	for h, p := range s.all() {
		to.put(h, p)
	}
	return to
}

// cut copies the nodes into a table with parts.
func (s *slots[T]) cut() *slots[T] {
	to := &slots[T]{parts: new([1 << partBits]atomic.Pointer[slots[T]])}
	for h, p := range s.all() {
		to.add(h, p)
	}
	return to
}

// only returns the single node of the table.
func (s *slots[T]) only() *node[T] {
	for _, n := range s.all() {
		return n
	}
	return nil
}
