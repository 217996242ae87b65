package route

import (
	"iter"
	"sync/atomic"
)

// slots is a hash table of nodes with open addressing. Readers take no lock: a cell is written once, hash first, and only its pointer changes afterwards. A
// removed node leaves a grave behind, because a cell set back to nil would hide what was put behind it. Writers hold the shard's lock, and publish a new table
// when this one is full or nearly empty. A large table is cut into parts, so that no writer has to move all of it at once.
type slots[T comparable] struct {
	cells []cell[T]
	parts *[1 << partBits]atomic.Pointer[slots[T]] // instead of cells: by the highest bits of the hash
	used  uint32                                   // cells that are not nil
	live  uint32                                   // nodes, also those in parts
	grave *node[T]
}

type cell[T comparable] struct {
	n    atomic.Pointer[node[T]]
	hash uint32
}

const (
	minSlots  = 4
	partBits  = 6
	partShift = 32 - partBits
	manyNodes = 4096 // from here on a table has parts
)

// newSlots returns a table that has room for n nodes and as many again.
func newSlots[T comparable](n uint32) *slots[T] {
	size := uint32(minSlots)
	for size < n*2 {
		size *= 2
	}
	return &slots[T]{cells: make([]cell[T], size)}
}

// level returns the cell of the node whose label begins with this level.
func (s *slots[T]) level(h uint32, level string) *cell[T] {
	if s = s.part(h); s == nil {
		return nil
	}
	mask := uint32(len(s.cells) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		c := &s.cells[i]
		n := c.n.Load()
		if n == nil {
			return nil
		}
		if c.hash == h && n.begins(level) {
			return c
		}
	}
}

// whole returns the cell of the node with this key.
func (s *slots[T]) whole(h uint32, key string) *cell[T] {
	if s = s.part(h); s == nil {
		return nil
	}
	mask := uint32(len(s.cells) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		c := &s.cells[i]
		n := c.n.Load()
		if n == nil {
			return nil
		}
		if c.hash == h && n.key == key {
			return c
		}
	}
}

// part returns the table whose cells hold h: s itself if it has no parts.
func (s *slots[T]) part(h uint32) *slots[T] {
	if s == nil || s.parts == nil {
		return s
	}
	return s.parts[h>>partShift].Load()
}

// all yields the nodes and their hashes.
func (s *slots[T]) all() iter.Seq2[uint32, *node[T]] {
	return func(yield func(uint32, *node[T]) bool) {
		for i := range s.width() {
			for j, cells := 0, s.row(i); j < len(cells); j++ {
				if n := cells[j].n.Load(); n != nil && !n.grave && !yield(cells[j].hash, n) {
					return
				}
			}
		}
	}
}

// width returns the number of rows of cells.
func (s *slots[T]) width() int {
	switch {
	case s == nil:
		return 0
	case s.parts == nil:
		return 1
	}
	return len(s.parts)
}

// row returns the cells of row i.
func (s *slots[T]) row(i int) []cell[T] {
	if s.parts == nil {
		return s.cells
	}
	if p := s.parts[i].Load(); p != nil {
		return p.cells
	}
	return nil
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
	if (s.used+1)*4 > uint32(len(s.cells))*3 {
		s = s.resized(s.live + 1)
	}
	s.put(h, n)
	return s
}

func (s *slots[T]) put(h uint32, n *node[T]) {
	mask := uint32(len(s.cells) - 1)
	i := h & mask
	for s.cells[i].n.Load() != nil {
		i = (i + 1) & mask
	}
	s.cells[i].hash = h
	s.cells[i].n.Store(n)
	s.used++
	s.live++
}

// remove takes out the node of c. It returns the table to publish: nil when it was the last one.
func (s *slots[T]) remove(c *cell[T]) *slots[T] {
	s.live--
	if s.live == 0 {
		return nil
	}
	if s.parts != nil {
		p := &s.parts[c.hash>>partShift]
		if old, t := p.Load(), p.Load().remove(c); t != old {
			p.Store(t)
		}
		if s.live < manyNodes/8 {
			return s.resized(s.live)
		}
		return s
	}
	if s.grave == nil {
		s.grave = &node[T]{grave: true}
	}
	c.n.Store(s.grave)
	if len(s.cells) > minSlots && s.live*8 < uint32(len(s.cells)) {
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
