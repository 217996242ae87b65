package route

import "sync/atomic"

// slots is a hash table of nodes with open addressing. Readers take no lock: a cell is written once, hash first, and only its pointer changes afterwards. A
// removed node leaves a grave behind, because a cell set back to nil would hide what was put behind it. Writers hold the shard's lock, and publish a new table
// when this one is full or nearly empty.
type slots[T comparable] struct {
	cells []cell[T]
	used  uint32 // cells that are not nil
	live  uint32 // those of them that are not graves
	grave *node[T]
}

type cell[T comparable] struct {
	n    atomic.Pointer[node[T]]
	hash uint32
}

const minSlots = 4

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
	if s == nil {
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
	if s == nil {
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

// add puts n, which is not there yet, into s, or into a larger copy of s. It returns the table to publish.
func (s *slots[T]) add(h uint32, n *node[T]) *slots[T] {
	if s == nil {
		s = newSlots[T](1)
	}
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
	if s.live == 1 {
		return nil
	}
	if s.grave == nil {
		s.grave = &node[T]{grave: true}
	}
	c.n.Store(s.grave)
	s.live--
	if len(s.cells) > minSlots && s.live*8 < uint32(len(s.cells)) {
		return s.resized(s.live)
	}
	return s
}

// resized copies the living nodes into a table with room for n.
func (s *slots[T]) resized(n uint32) *slots[T] {
	to := newSlots[T](n)
	for i := range s.cells {
		if p := s.cells[i].n.Load(); p != nil && p != s.grave {
			to.put(s.cells[i].hash, p)
		}
	}
	return to
}

// only returns the single node of the table.
func (s *slots[T]) only() *node[T] {
	for i := range s.cells {
		if p := s.cells[i].n.Load(); p != nil && p != s.grave {
			return p
		}
	}
	return nil
}
