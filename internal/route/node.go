package route

import (
	"math"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/myelin-mqtt/myelin/topic"
)

// node is where the subscribers of one filter hang, or where filters part. Its label is one or more levels, so a filter costs at most two nodes
// however many levels it has, and a walk is bounded by the number and length of the filters that are there.
type node[T comparable] struct {
	text *byte  // of the key: all levels from the root to the end of the label
	size uint32 // of the key
	from uint32 // where in the key the label begins; isGrave: not a node, but what a slots table has in the place of a removed one
	kids atomic.Pointer[kids[T]]
	subs atomic.Pointer[list[T]] // nil: nobody subscribes to the key itself
}

const isGrave = math.MaxUint32

// newNode returns a node. It holds the bytes of key, without the half of a string's head that a key does not need.
func newNode[T comparable](key string, from uint32) *node[T] {
	return &node[T]{text: unsafe.StringData(key), size: uint32(len(key)), from: from}
}

// kids are the children of a node or of a root. Their address stays when their node is replaced by a split or a merge, so readers that are still in the old
// node see the same children.
type kids[T comparable] struct {
	plus  atomic.Pointer[node[T]]  // its label begins with +
	hash  atomic.Pointer[node[T]]  // its label is #
	other atomic.Pointer[slots[T]] // by the hash of the first level of the label
}

func (n *node[T]) key() string { return unsafe.String(n.text, int(n.size)) }

func (n *node[T]) label() string { return n.key()[n.from:] }

func (n *node[T]) grave() bool { return n.from == isGrave }

// begins reports whether level is the first level of the label.
func (n *node[T]) begins(level string) bool {
	if n.grave() {
		return false
	}
	l := n.label()
	return len(l) >= len(level) && l[:len(level)] == level && (len(l) == len(level) || l[len(level)] == '/')
}

// replaced returns a node with other key and label, and the children and subscribers of n.
func (n *node[T]) replaced(key string, from uint32) *node[T] {
	c := newNode[T](key, from)
	c.kids.Store(n.kids.Load())
	c.subs.Store(n.subs.Load())
	return c
}

// place is the pointer through which a parent holds a child.
type place[T comparable] struct {
	k    *kids[T]
	at   *atomic.Pointer[node[T]] // nil: no such child
	hash uint32                   // of the level
	wild bool                     // it is + or #
}

// place finds the child of k whose label begins with level.
func (k *kids[T]) place(level string, h uint32) place[T] {
	switch level {
	case "+":
		return place[T]{k: k, at: &k.plus, wild: true}
	case "#":
		return place[T]{k: k, at: &k.hash, wild: true}
	}
	return place[T]{k: k, at: k.other.Load().level(h, level), hash: h}
}

func (p place[T]) node() *node[T] {
	if p.at == nil {
		return nil
	}
	return p.at.Load()
}

// add hangs n, the first with this level, below p.k.
func (p place[T]) add(n *node[T]) {
	if p.wild {
		p.at.Store(n)
		return
	}
	if s := p.k.other.Load(); s == nil {
		p.k.other.Store(s.add(p.hash, n))
	} else if t := s.add(p.hash, n); t != s {
		p.k.other.Store(t)
	}
}

// remove takes the child away.
func (p place[T]) remove(grave *node[T]) {
	if p.wild {
		p.at.Store(nil)
		return
	}
	s := p.k.other.Load()
	if t := s.remove(p.hash, p.at, grave); t != s {
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
	k    *kids[T]
	s    *slots[T]
	left []atomic.Pointer[node[T]] // what is left of a row of s
	row  int                       // the next row
	wild int                       // how many of + and # have been visited
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
		if !n.subs.Load().each(n.key(), yield) {
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
	for len(f.left) == 0 {
		if f.row >= f.s.width() {
			return nil, false
		}
		f.left = f.s.row(f.row).nodes
		f.row++
	}
	n = f.left[0].Load()
	f.left = f.left[1:]
	if n != nil && n.grave() {
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
