package route

import (
	"strings"
	"sync/atomic"

	"github.com/myelin-mqtt/myelin/topic"
)

// node is where the subscribers of one filter hang, or where filters part. Its label is one or more levels, so a filter costs at most two nodes
// however many levels it has, and a walk is bounded by the number and length of the filters that are there.
type node[T comparable] struct {
	key   string // all levels from the root to the end of the label
	from  uint32 // where in key the label begins
	grave bool   // not a node: what a slots table has in the place of a removed one
	kids  atomic.Pointer[kids[T]]
	subs  atomic.Pointer[list[T]] // nil: nobody subscribes to key itself
}

// kids are the children of a node or of a root. Their address stays when their node is replaced by a split or a merge, so readers that are still in the old
// node see the same children.
type kids[T comparable] struct {
	plus  atomic.Pointer[node[T]]  // its label begins with +
	hash  atomic.Pointer[node[T]]  // its label is #
	other atomic.Pointer[slots[T]] // by the hash of the first level of the label
}

func (n *node[T]) label() string { return n.key[n.from:] }

// begins reports whether level is the first level of the label.
func (n *node[T]) begins(level string) bool {
	l := n.key[n.from:]
	return len(l) >= len(level) && l[:len(level)] == level && (len(l) == len(level) || l[len(level)] == '/') && !n.grave
}

// replaced returns a node with other key and label, and the children and subscribers of n.
func (n *node[T]) replaced(key string, from uint32) *node[T] {
	c := &node[T]{key: key, from: from}
	c.kids.Store(n.kids.Load())
	c.subs.Store(n.subs.Load())
	return c
}

// place is the pointer through which a parent holds a child.
type place[T comparable] struct {
	k    *kids[T]
	at   *atomic.Pointer[node[T]] // nil: no such child
	cell *cell[T]                 // at's cell if it is one of k.other
}

// place finds the child of k whose label begins with level.
func (k *kids[T]) place(level string, h uint32) place[T] {
	switch level {
	case "+":
		return place[T]{k: k, at: &k.plus}
	case "#":
		return place[T]{k: k, at: &k.hash}
	}
	if c := k.other.Load().level(h, level); c != nil {
		return place[T]{k: k, at: &c.n, cell: c}
	}
	return place[T]{k: k}
}

func (p place[T]) node() *node[T] {
	if p.at == nil {
		return nil
	}
	return p.at.Load()
}

// add hangs n, the first with this level, below p.k.
func (p place[T]) add(h uint32, n *node[T]) {
	if p.at != nil { // + or #
		p.at.Store(n)
		return
	}
	if s := p.k.other.Load(); s == nil {
		p.k.other.Store(s.add(h, n))
	} else if t := s.add(h, n); t != s {
		p.k.other.Store(t)
	}
}

// remove takes the child away.
func (p place[T]) remove() {
	if p.cell == nil {
		p.at.Store(nil)
		return
	}
	s := p.k.other.Load()
	if t := s.remove(p.cell); t != s {
		p.k.other.Store(t)
	}
}

// size returns the number of children, and one of them.
func (k *kids[T]) size() (n int, one *node[T]) {
	if k == nil {
		return 0, nil
	}
	for _, c := range []*node[T]{k.plus.Load(), k.hash.Load()} {
		if c != nil {
			n, one = n+1, c
		}
	}
	if s := k.other.Load(); s != nil {
		if n += int(s.live); n == 1 {
			one = s.only()
		}
	}
	return n, one
}

// frame is a place in an iteration over a tree: the next child of k to visit.
type frame[T comparable] struct {
	k     *kids[T]
	s     *slots[T]
	cells []cell[T] // what is left of a row of s
	row   int       // the next row
	wild  int       // how many of + and # have been visited
}

// each yields the subscriptions of all nodes below k. It keeps one frame for each node between the root and where it is, not for each child.
func (k *kids[T]) each(yield func(topic.Filter, Sub[T]) bool) bool {
	stack := []frame[T]{{k: k, s: k.other.Load()}}
	for len(stack) > 0 {
		n, ok := stack[len(stack)-1].child()
		if !ok {
			stack = stack[:len(stack)-1]
			continue
		}
		if n == nil {
			continue
		}
		if !n.subs.Load().each(n.key, yield) {
			return false
		}
		if below := n.kids.Load(); below != nil {
			stack = append(stack, frame[T]{k: below, s: below.other.Load()})
		}
	}
	return true
}

// child returns the next child, which may be nil. false: there are no more.
func (f *frame[T]) child() (n *node[T], ok bool) {
	if f.wild < 2 {
		f.wild++
		if f.wild == 1 {
			return f.k.plus.Load(), true
		}
		return f.k.hash.Load(), true
	}
	for len(f.cells) == 0 {
		if f.row >= f.s.width() {
			return nil, false
		}
		f.cells = f.s.row(f.row)
		f.row++
	}
	n = f.cells[0].n.Load()
	f.cells = f.cells[1:]
	if n != nil && n.grave {
		n = nil
	}
	return n, true
}

// common returns the length of the whole levels with which a and b both begin. Their first levels are equal.
func common(a, b string) int {
	for n := 0; ; n++ {
		la, _, ma := topic.Cut(a[n:])
		lb, _, mb := topic.Cut(b[n:])
		if la != lb {
			return n - 1 // without the separator before the level that differs
		}
		n += len(la)
		if !ma || !mb {
			return n
		}
	}
}

// firstLevel returns the first level of a label.
func firstLevel(label string) string {
	if i := strings.IndexByte(label, '/'); i >= 0 {
		return label[:i]
	}
	return label
}
