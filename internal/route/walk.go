package route

import (
	"hash/maphash"
	"strings"

	"github.com/myelin-mqtt/myelin/topic"
)

// walker collects the lists of all filters that match one name. It visits each node at most once and holds at most one waiting step for each level, so
// its work is bounded by the number and length of the filters in the table, and its memory by the levels of the name.
type walker[T comparable] struct {
	seed   maphash.Seed
	name   string
	levels []level // as far as they were needed
	whole  bool    // levels has all of them
	steps  []step[T]
	lists  []*list[T]
}

// level is one level of the name.
type level struct {
	from, to uint32
	hash     uint32 // 0: not needed yet
}

// step is a node whose label has been matched: its children come next, at level number at.
type step[T comparable] struct {
	k  *kids[T]
	at int
}

// keepSteps bounds what a walker keeps of its memory for the next walk.
const keepSteps = 1024

// walk collects into w.lists. h is the hash of the name.
func (w *walker[T]) walk(t *Table[T], name string, h uint64) {
	w.reset()
	w.name = name
	exact := &t.exact[h>>(64-shardBits)]
	if at := exact.root.other.Load().whole(uint32(h), name); at != nil {
		w.take(at.Load())
	}
	if name[0] != '$' { // [MQTT-4.7.2-1]
		if n := t.wild.root.hash.Load(); n != nil {
			w.take(n)
		}
		if n := t.wild.root.plus.Load(); n != nil {
			w.enter(n, 0, false)
		}
	}
	w.has(0)
	first := w.text(0)
	sh, fh := shardOf(&t.trie, t.seed, first)
	if at := sh.root.other.Load().level(fh, first); at != nil {
		w.enter(at.Load(), 0, true)
	}
	for len(w.steps) > 0 {
		s := w.steps[len(w.steps)-1]
		w.steps = w.steps[:len(w.steps)-1]
		w.below(s.k, s.at)
	}
}

// below visits the children of a node.
func (w *walker[T]) below(k *kids[T], at int) {
	if n := k.hash.Load(); n != nil {
		w.take(n) // # stands for any number of levels, the parent's own included
	}
	if !w.has(at) {
		return
	}
	if n := k.plus.Load(); n != nil {
		w.enter(n, at, false)
	}
	if s := k.other.Load(); s != nil {
		if p := s.level(w.hash(at), w.text(at)); p != nil {
			w.enter(p.Load(), at, true)
		}
	}
}

// enter compares the label of n with the name from level number at. known: the first level has been compared.
func (w *walker[T]) enter(n *node[T], at int, known bool) {
	if n.grave() { // removed this moment
		return
	}
	for label, more := n.label(), true; more; at++ {
		var want string
		want, label, more = topic.Cut(label)
		switch {
		case known:
			known = false
			continue
		case want == "#": // always the last
			w.take(n)
			return
		case !w.has(at), want != "+" && want != w.text(at):
			return
		}
	}
	if !w.has(at) {
		w.take(n)
	}
	if k := n.kids.Load(); k != nil {
		w.steps = append(w.steps, step[T]{k, at})
	}
}

// take adds the subscribers of n to the answer.
func (w *walker[T]) take(n *node[T]) {
	if l := n.subs.Load(); l != nil {
		w.lists = append(w.lists, l)
	}
}

// has reports whether the name has a level number i. It is asked for one number after the other.
func (w *walker[T]) has(i int) bool {
	for len(w.levels) <= i {
		if w.whole {
			return false
		}
		from := uint32(0)
		if n := len(w.levels); n > 0 {
			from = w.levels[n-1].to + 1
		}
		to := uint32(len(w.name))
		if j := strings.IndexByte(w.name[from:], '/'); j >= 0 {
			to = from + uint32(j)
		} else {
			w.whole = true
		}
		w.levels = append(w.levels, level{from: from, to: to})
	}
	return true
}

// text returns level number i, which the name has.
func (w *walker[T]) text(i int) string { return w.name[w.levels[i].from:w.levels[i].to] }

// hash returns the hash of level number i.
func (w *walker[T]) hash(i int) uint32 {
	l := &w.levels[i]
	if l.hash == 0 {
		l.hash = uint32(maphash.String(w.seed, w.text(i)))
	}
	return l.hash
}

// reset empties the walker, and gives back the memory of an unusually large walk.
func (w *walker[T]) reset() {
	if cap(w.levels) > keepSteps {
		w.levels = nil
	}
	if cap(w.steps) > keepSteps {
		w.steps = nil
	}
	if cap(w.lists) > keepSteps {
		w.lists = nil
	}
	clear(w.lists)
	w.levels, w.steps, w.lists, w.whole = w.levels[:0], w.steps[:0], w.lists[:0], false
}
