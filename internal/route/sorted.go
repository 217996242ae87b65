package route

import (
	"slices"
	"sort"
)

// sorted holds items in the byte order of their names, in a row of chunks. A name is its own position in that order, so a walk can stop anywhere and go on later,
// whatever was inserted or removed meanwhile; and all names with the same first levels stand together, so a walk can jump over them.
type sorted[M any] struct {
	chunks []chunk[M]
}

// chunk holds the items from first up to the next chunk's first. No chunk is empty.
type chunk[M any] struct {
	first string // at most the name of the first item; "" in the first chunk
	items []*item[M]
}

// maxChunk is the number of items at which a chunk is cut in two. Half of it is moved by an insertion.
const maxChunk = 256

// pos is the place of an item. It is valid until the next change.
type pos struct{ chunk, item int }

// seek returns the place of the first item whose name is not below key.
func (s *sorted[M]) seek(key string) pos {
	if len(s.chunks) == 0 {
		return pos{}
	}
	c := sort.Search(len(s.chunks)-1, func(i int) bool { return s.chunks[i+1].first > key })
	items := s.chunks[c].items
	return pos{c, sort.Search(len(items), func(i int) bool { return items[i].name >= key })}
}

// at returns the item at p, or behind the end of its chunk the next one, and its place; nil: there is none.
func (s *sorted[M]) at(p pos) (*item[M], pos) {
	if p.chunk < len(s.chunks) && p.item >= len(s.chunks[p.chunk].items) {
		p = pos{chunk: p.chunk + 1}
	}
	if p.chunk >= len(s.chunks) {
		return nil, p
	}
	return s.chunks[p.chunk].items[p.item], p
}

// insert adds it; there is no item of its name.
func (s *sorted[M]) insert(it *item[M]) {
	if len(s.chunks) == 0 {
		s.chunks = []chunk[M]{{items: []*item[M]{it}}}
		return
	}
	p := s.seek(it.name)
	c := &s.chunks[p.chunk]
	if len(c.items) < maxChunk {
		c.items = slices.Insert(c.items, p.item, it)
		return
	}
	if n := p.chunk + 1; p.item == maxChunk && n < len(s.chunks) && len(s.chunks[n].items) < maxChunk {
		next := &s.chunks[n]
		next.first, next.items = it.name, slices.Insert(next.items, 0, it)
		return
	}
	cut := maxChunk / 2
	if p.item == maxChunk {
		cut = maxChunk - 1 // names often come in order: leave full chunks behind
	}
	high := chunk[M]{items: slices.Clone(c.items[cut:])}
	high.first = high.items[0].name
	clear(c.items[cut:])
	c.items = c.items[:cut]
	if p.item <= cut {
		c.items = slices.Insert(c.items, p.item, it)
	} else {
		high.items = slices.Insert(high.items, p.item-cut, it)
	}
	s.chunks = slices.Insert(s.chunks, p.chunk+1, high)
}

// remove takes the item called name out, if it is there.
func (s *sorted[M]) remove(name string) {
	p := s.seek(name)
	if it, at := s.at(p); it == nil || it.name != name || at != p {
		return
	}
	c := &s.chunks[p.chunk]
	c.items = slices.Delete(c.items, p.item, p.item+1)
	if len(c.items) == 0 {
		s.drop(p.chunk)
		return
	}
	if n := p.chunk + 1; n < len(s.chunks) && len(c.items)+len(s.chunks[n].items) <= maxChunk/2 {
		c.items = append(c.items, s.chunks[n].items...)
		s.drop(n)
	}
}

// drop removes a chunk, whose range falls to the one before.
func (s *sorted[M]) drop(i int) {
	s.chunks = slices.Delete(s.chunks, i, i+1)
	if i == 0 && len(s.chunks) > 0 {
		s.chunks[0].first = ""
	}
	if len(s.chunks)*4 < cap(s.chunks) {
		s.chunks = slices.Clone(s.chunks)
	}
}
