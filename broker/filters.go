package broker

import "hash/maphash"

// filterIndex finds the place of a filter among many subscriptions of one
// session: an open-addressing table of places, 4 bytes an entry. Its hash is
// seeded, so that nobody can choose filters that collide.
type filterIndex struct {
	seed  maphash.Seed
	slots []uint32 // place+1, 0 is empty; length a power of two
	n     int
}

// indexed is the number of subscriptions from which on there is an index.
const indexed = 16

func newFilterIndex(subs []subscription) *filterIndex {
	x := &filterIndex{seed: maphash.MakeSeed()}
	x.build(subs, 4*indexed)
	return x
}

func (x *filterIndex) build(subs []subscription, size int) {
	x.slots, x.n = make([]uint32, size), 0
	for i := range subs {
		x.put(subs, i)
	}
}

func (x *filterIndex) home(filter string) int {
	return int(maphash.String(x.seed, filter)) & (len(x.slots) - 1)
}

// slot is where the filter stands, or would.
func (x *filterIndex) slot(subs []subscription, filter string) int {
	i := x.home(filter)
	for x.slots[i] != 0 && subs[x.slots[i]-1].filter() != filter {
		i = (i + 1) & (len(x.slots) - 1)
	}
	return i
}

// find is the place of a filter, or -1.
func (x *filterIndex) find(subs []subscription, filter string) int {
	return int(x.slots[x.slot(subs, filter)]) - 1
}

// put enters place i, whose filter is new.
func (x *filterIndex) put(subs []subscription, i int) {
	if 4*(x.n+1) > 3*len(x.slots) {
		x.build(subs[:i], 2*len(x.slots))
	}
	x.slots[x.slot(subs, subs[i].filter())] = uint32(i) + 1
	x.n++
}

// move is told that the subscription at place from is about to be moved to the
// place to; its entry follows.
func (x *filterIndex) move(subs []subscription, from, to int) {
	x.slots[x.slot(subs, subs[from].filter())] = uint32(to) + 1
}

// remove takes out the entry of place i, whose filter is still there, and
// closes the gap.
func (x *filterIndex) remove(subs []subscription, i int) {
	mask := len(x.slots) - 1
	gap := x.slot(subs, subs[i].filter())
	x.slots[gap] = 0
	x.n--
	for j := (gap + 1) & mask; x.slots[j] != 0; j = (j + 1) & mask {
		if home := x.home(subs[x.slots[j]-1].filter()); (j-home)&mask >= (j-gap)&mask {
			x.slots[gap], x.slots[j] = x.slots[j], 0
			gap = j
		}
	}
}
