// Package ids holds Set, which finds things by their client identifier at a
// dozen bytes each: the thing itself has the identifier, and the set but a
// pointer to it and one byte of its hash. A Go map with the identifier as key
// takes three times that, which counts where there are a million sessions. It
// holds no lock: whoever has a Set has one. Start with Set.
package ids

import (
	"hash/maphash"
	"iter"
)

// Named is what a Set holds: pointers. The identifier of a thing must not
// change while it is in a set.
type Named interface {
	comparable
	ClientID() string
}

// Set holds things by their client identifiers. Make it with New. It is not
// safe for concurrent use.
type Set[T Named] struct {
	seed  maphash.Seed
	parts []table[T] // one, or parts of it by the highest bits of the hash
	n     int
}

// table is a hash table with open addressing whose length is any number, so
// that it is three quarters full or more.
type table[T Named] struct {
	tags  []uint8 // of the hash, 0: empty
	items []T
	n     int
}

const (
	partBits = 6
	many     = 4096 // things from which on there are parts: none grows for long
	least    = 8    // places of the smallest table
)

// New returns an empty set. Sets of one seed agree on Hash.
func New[T Named](seed maphash.Seed) *Set[T] {
	return &Set[T]{seed: seed, parts: make([]table[T], 1)}
}

// Hash is the hash by which the set finds id. Its lowest six bits are free for
// a choice among sets.
func (s *Set[T]) Hash(id string) uint64 { return maphash.String(s.seed, id) }

// Len is the number of things in the set.
func (s *Set[T]) Len() int { return s.n }

// Reserve makes room for about n things in an empty set, so that it does not
// grow step by step.
func (s *Set[T]) Reserve(n int) {
	if s.n > 0 {
		return
	}
	if n > many {
		s.parts = make([]table[T], 1<<partBits)
	}
	for i := range s.parts {
		s.resize(&s.parts[i], max(least, n/len(s.parts)*5/4))
	}
}

// Get finds the thing with an identifier; the zero value: there is none.
func (s *Set[T]) Get(id string) (x T) {
	h := s.Hash(id)
	t := s.part(h)
	if i, ok := t.find(h, id); ok {
		return t.items[i]
	}
	return x
}

// Put puts x in, in the place of a thing with the same identifier.
func (s *Set[T]) Put(x T) {
	id := x.ClientID()
	h := s.Hash(id)
	t := s.part(h)
	if i, ok := t.find(h, id); ok {
		t.items[i] = x
		return
	}
	if len(s.parts) == 1 && s.n >= many {
		s.cut()
		t = s.part(h)
	}
	s.put(t, h, x)
	s.n++
}

// put puts x into t, which grows where it has to.
func (s *Set[T]) put(t *table[T], h uint64, x T) {
	if 8*(t.n+1) > 7*len(t.tags) {
		s.resize(t, max(least, len(t.tags)+len(t.tags)/4))
	}
	t.put(h, x)
}

// Delete takes the thing with an identifier out, if it is there.
func (s *Set[T]) Delete(id string) {
	h := s.Hash(id)
	t := s.part(h)
	gap, ok := t.find(h, id)
	if !ok {
		return
	}
	s.n--
	t.n--
	t.close(gap, func(x T) uint64 { return s.Hash(x.ClientID()) })
	if len(t.tags) > least && 3*t.n < len(t.tags) {
		s.resize(t, max(least, t.n+t.n/2))
	}
}

// All yields the things in no order. The set must not be changed meanwhile.
func (s *Set[T]) All() iter.Seq[T] {
	return func(yield func(T) bool) {
		for i := range s.parts {
			for x := range s.Part(i) {
				if !yield(x) {
					return
				}
			}
		}
	}
}

// Parts is the number of parts, of which each is an equal share: who cannot hold
// a lock for all of a large set goes through one after the other with Part.
// A thing stays in its part as long as Parts is the same.
func (s *Set[T]) Parts() int { return len(s.parts) }

// Part yields the things in a part. The set must not be changed meanwhile.
func (s *Set[T]) Part(i int) iter.Seq[T] {
	return func(yield func(T) bool) {
		t := &s.parts[i]
		for j, tag := range t.tags {
			if tag != 0 && !yield(t.items[j]) {
				return
			}
		}
	}
}

func (s *Set[T]) part(h uint64) *table[T] {
	if len(s.parts) == 1 {
		return &s.parts[0]
	}
	return &s.parts[h>>(64-partBits)]
}

// cut gives the set its parts.
func (s *Set[T]) cut() {
	old := s.parts[0]
	s.parts = make([]table[T], 1<<partBits)
	for i, tag := range old.tags {
		if tag == 0 {
			continue
		}
		h := s.Hash(old.items[i].ClientID())
		t := s.part(h)
		s.put(t, h, old.items[i])
	}
}

func (s *Set[T]) resize(t *table[T], size int) {
	old := *t
	*t = table[T]{tags: make([]uint8, size), items: make([]T, size)}
	for i, tag := range old.tags {
		if tag != 0 {
			t.put(s.Hash(old.items[i].ClientID()), old.items[i])
		}
	}
}

func tag(h uint64) uint8 { return max(1, uint8(h>>8)) }

// home is the place where the search for a hash begins.
func (t *table[T]) home(h uint64) int {
	return int(uint64(uint32(h>>16)) * uint64(len(t.tags)) >> 32)
}

func (t *table[T]) next(i int) int {
	if i++; i == len(t.tags) {
		return 0
	}
	return i
}

// find is the place of an identifier. A table is never full.
func (t *table[T]) find(h uint64, id string) (i int, ok bool) {
	if t.n == 0 {
		return 0, false
	}
	want := tag(h)
	for i = t.home(h); t.tags[i] != 0; i = t.next(i) {
		if t.tags[i] == want && t.items[i].ClientID() == id {
			return i, true
		}
	}
	return 0, false
}

func (t *table[T]) put(h uint64, x T) {
	i := t.home(h)
	for t.tags[i] != 0 {
		i = t.next(i)
	}
	t.tags[i], t.items[i] = tag(h), x
	t.n++
}

// close empties a place, and moves into it what a search would not find behind
// an empty one.
func (t *table[T]) close(gap int, hash func(T) uint64) {
	size := len(t.tags)
	for i := t.next(gap); t.tags[i] != 0; i = t.next(i) {
		home := t.home(hash(t.items[i]))
		if (i-home+size)%size >= (i-gap+size)%size {
			t.tags[gap], t.items[gap] = t.tags[i], t.items[i]
			gap = i
		}
	}
	var none T
	t.tags[gap], t.items[gap] = 0, none
}
