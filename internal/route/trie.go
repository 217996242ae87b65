package route

import (
	"sync"

	"github.com/myelin-mqtt/myelin/topic"
)

// All methods here are the writers': the shard is locked.

// spot is where a filter belongs.
type spot[T comparable] struct {
	*sync.Mutex
	root  *kids[T]
	hash  uint32 // of the whole filter if exact, of its first level otherwise
	exact bool   // no wildcards: it hangs directly below the root
}

// find returns the node whose key is filter, nil if there is none.
func (t *Table[T]) find(sp spot[T], filter string) *node[T] {
	if sp.exact {
		if at := sp.root.other.Load().whole(sp.hash, filter); at != nil {
			return at.Load()
		}
		return nil
	}
	k, h, at := sp.root, sp.hash, 0
	for k != nil {
		n := k.place(firstLevel(filter[at:]), h).node()
		if n == nil {
			return nil
		}
		label := n.label()
		if rest := filter[at:]; len(rest) < len(label) || rest[:len(label)] != label {
			return nil
		}
		at += len(label)
		if at == len(filter) {
			return n
		}
		if filter[at] != '/' {
			return nil
		}
		at++
		h = t.levelHash(firstLevel(filter[at:]))
		k = n.kids.Load()
	}
	return nil
}

// grow returns the node whose key is filter, made if there was none.
func (t *Table[T]) grow(sp spot[T], filter string) *node[T] {
	if sp.exact {
		if at := sp.root.other.Load().whole(sp.hash, filter); at != nil {
			return at.Load()
		}
		n := newNode[T](filter, 0)
		place[T]{k: sp.root, hash: sp.hash}.add(n)
		return n
	}
	k, h, at := sp.root, sp.hash, 0
	for {
		p := k.place(firstLevel(filter[at:]), h)
		n := p.node()
		if n == nil {
			n = newNode[T](filter, uint32(at))
			p.add(n)
			return n
		}
		same := common(n.label(), filter[at:])
		at += same
		if same < len(n.label()) {
			n = t.split(n, clip(filter[:at], filter))
			p.at.Store(n)
		}
		if at == len(filter) {
			return n
		}
		at++ // the separator
		h = t.levelHash(firstLevel(filter[at:]))
		if k = n.kids.Load(); k == nil {
			k = new(kids[T])
			n.kids.Store(k)
		}
	}
}

// split returns what takes the place of n: a node that ends where key ends, with what is left of n below it.
func (t *Table[T]) split(n *node[T], key string) *node[T] {
	top, k := newNode[T](key, n.from), new(kids[T])
	low := n.replaced(n.key(), uint32(len(key)+1))
	level := firstLevel(low.label())
	h := t.levelHash(level)
	k.place(level, h).add(low)
	top.kids.Store(k)
	return top
}

// prune removes the node of filter, whose last subscriber has gone, with the nodes above that it leaves without use. Where a node is left with one child and
// no subscribers, the two become one, so that filters that come and go leave no chains behind.
func (t *Table[T]) prune(sp spot[T], filter string) {
	if sp.exact {
		place[T]{k: sp.root, at: sp.root.other.Load().whole(sp.hash, filter), hash: sp.hash}.remove(t.grave)
		return
	}
	path := t.path(sp, filter)
	for i := len(path) - 1; i >= 0; i-- {
		p := path[i]
		n := p.node()
		if n.subs.Load() != nil {
			if c, _ := n.kids.Load().size(); c == 0 {
				n.kids.Store(nil)
			}
			return
		}
		switch size, c := n.kids.Load().size(); size {
		case 0:
			p.remove(t.grave)
		case 1:
			p.at.Store(c.replaced(c.key(), n.from))
			return
		default:
			return
		}
	}
}

// path returns the places of all nodes from the root to filter's, which exists.
func (t *Table[T]) path(sp spot[T], filter string) []place[T] {
	var path []place[T]
	k, h, at := sp.root, sp.hash, 0
	for {
		p := k.place(firstLevel(filter[at:]), h)
		path = append(path, p)
		n := p.node()
		at = int(n.size)
		if at == len(filter) {
			return path
		}
		at++
		h = t.levelHash(firstLevel(filter[at:]))
		k = n.kids.Load()
	}
}

// spot finds where a filter belongs.
func (t *Table[T]) spot(filter string) spot[T] {
	if !topic.HasWildcard(filter) {
		sh, h := shardOf(&t.exact, t.seed, filter)
		return spot[T]{Mutex: &sh.mu, root: &sh.root, hash: h, exact: true}
	}
	level := firstLevel(filter)
	if level == "+" || level == "#" {
		return spot[T]{Mutex: &t.wild.mu, root: &t.wild.root}
	}
	sh, h := shardOf(&t.trie, t.seed, level)
	return spot[T]{Mutex: &sh.mu, root: &sh.root, hash: h}
}
