package topic

import "iter"

// Tree maps topic filters, or topic names, to values. Keys that are filters are looked up by a name (Matching), keys that are names by a filter (Within); one
// tree should hold one kind. A key is text without $share/NAME/ and is not checked. The zero value is an empty tree. A Tree is not safe for concurrent use, and
// must not be changed while one of its iterators runs.
type Tree[V any] struct {
	root branch[V]
	n    int
}

// branch is one level of the tree.
type branch[V any] struct {
	kids  map[string]*branch[V] // by level; + and # are levels like others
	key   string
	value V
	has   bool // key and value are set
}

// Len returns the number of keys.
func (t *Tree[V]) Len() int { return t.n }

// Get returns the value of exactly this key.
func (t *Tree[V]) Get(key string) (v V, ok bool) {
	b := &t.root
	for level := range Levels(key) {
		if b = b.kids[level]; b == nil {
			return v, false
		}
	}
	return b.value, b.has
}

// Set stores v for key and returns what it replaces.
func (t *Tree[V]) Set(key string, v V) (old V, had bool) {
	b := &t.root
	for level := range Levels(key) {
		next := b.kids[level]
		if next == nil {
			next = new(branch[V])
			if b.kids == nil {
				b.kids = make(map[string]*branch[V])
			}
			b.kids[level] = next
		}
		b = next
	}
	old, had = b.value, b.has
	if !had {
		t.n++
	}
	b.key, b.value, b.has = key, v, true
	return old, had
}

// Delete removes key, with all levels that nothing else needs, and returns its value.
func (t *Tree[V]) Delete(key string) (old V, had bool) {
	path := []*branch[V]{&t.root}
	var levels []string
	for level := range Levels(key) {
		b := path[len(path)-1].kids[level]
		if b == nil {
			return old, false
		}
		path, levels = append(path, b), append(levels, level)
	}
	b := path[len(path)-1]
	if !b.has {
		return old, false
	}
	old = b.value
	var none V
	b.key, b.value, b.has = "", none, false
	t.n--
	for i := len(levels) - 1; i >= 0 && len(path[i+1].kids) == 0 && !path[i+1].has; i-- {
		delete(path[i].kids, levels[i])
	}
	return old, true
}

// walk is a branch that has been reached and what is left of the text below it.
type walk[V any] struct {
	b    *branch[V]
	rest string
	more bool // a level is left, perhaps an empty one
}

// Matching yields the filters that match the topic name, and their values, in no order. It visits each branch at most once.
func (t *Tree[V]) Matching(name string) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		todo := []walk[V]{{&t.root, name, true}}
		for len(todo) > 0 {
			w := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			wild := w.b != &t.root || len(name) == 0 || name[0] != '$' // [MQTT-4.7.2-1]
			if b := w.b.kids["#"]; b != nil && wild && b.has && !yield(b.key, b.value) {
				return
			}
			if !w.more {
				if w.b.has && !yield(w.b.key, w.b.value) {
					return
				}
				continue
			}
			level, rest, more := Cut(w.rest)
			if b := w.b.kids["+"]; b != nil && wild {
				todo = append(todo, walk[V]{b, rest, more})
			}
			if b := w.b.kids[level]; b != nil && level != "+" && level != "#" {
				todo = append(todo, walk[V]{b, rest, more})
			}
		}
	}
}

// Within yields the names that the topic filter matches, and their values, in no order.
func (t *Tree[V]) Within(filter string) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		todo := []walk[V]{{&t.root, filter, true}}
		for len(todo) > 0 {
			w := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			level, rest, more := Cut(w.rest)
			if w.more && level != "+" && level != "#" {
				if b := w.b.kids[level]; b != nil {
					todo = append(todo, walk[V]{b, rest, more})
				}
				continue
			}
			if !w.more || level == "#" {
				if w.b.has && !yield(w.b.key, w.b.value) {
					return
				}
			}
			if !w.more {
				continue
			}
			if level == "#" {
				rest, more = w.rest, true
			}
			for l, b := range w.b.kids {
				if w.b == &t.root && len(l) > 0 && l[0] == '$' { // [MQTT-4.7.2-1]
					continue
				}
				todo = append(todo, walk[V]{b, rest, more})
			}
		}
	}
}

// All yields all keys and values, in no order.
func (t *Tree[V]) All() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		todo := []*branch[V]{&t.root}
		for len(todo) > 0 {
			b := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			if b.has && !yield(b.key, b.value) {
				return
			}
			for _, k := range b.kids {
				todo = append(todo, k)
			}
		}
	}
}
