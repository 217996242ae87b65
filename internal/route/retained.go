package route

import (
	"slices"
	"sync"

	"github.com/myelin-mqtt/myelin/topic"
)

// Retained maps topic names to their retained messages. The zero value is empty and ready. All methods may be called by any goroutine.
type Retained[M any] struct {
	mu sync.RWMutex
	m  map[string]M
}

// Set stores m for name and returns what it replaces.
func (r *Retained[M]) Set(name string, m M) (old M, had bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.m == nil {
		r.m = map[string]M{}
	}
	old, had = r.m[name]
	r.m[name] = m
	return old, had
}

// Delete removes the message of name and returns it.
func (r *Retained[M]) Delete(name string) (old M, had bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, had = r.m[name]
	delete(r.m, name)
	return old, had
}

// Get returns the message of name.
func (r *Retained[M]) Get(name string) (m M, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	m, ok = r.m[name]
	return m, ok
}

// Len returns the number of messages.
func (r *Retained[M]) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.m)
}

// Cursor returns a cursor over the names that filter (without $share/NAME/) matches.
func (r *Retained[M]) Cursor(filter string) *Cursor[M] { return &Cursor[M]{r: r, filter: filter} }

// Cursor walks over the retained messages that a filter matches, in steps of bounded length between which the index may change: a name that is
// there throughout is yielded exactly once, with its message at the time of the step. A cursor belongs to one goroutine.
type Cursor[M any] struct {
	r      *Retained[M]
	filter string
	names  []string
	begun  bool
}

// Next goes on, looking at no more than limit names, and reports whether there may be more. yield is called without any lock held; if it returns false,
// Next returns and the next call goes on after the name last yielded.
func (c *Cursor[M]) Next(limit int, yield func(name string, m M) bool) (more bool) {
	if !c.begun {
		c.begun = true
		c.r.mu.RLock()
		for n := range c.r.m {
			if topic.Match(c.filter, n) {
				c.names = append(c.names, n)
			}
		}
		c.r.mu.RUnlock()
		slices.Sort(c.names)
	}
	for ; len(c.names) > 0 && limit > 0; limit-- {
		n := c.names[0]
		c.names = c.names[1:]
		if m, ok := c.r.Get(n); ok && !yield(n, m) {
			break
		}
	}
	return len(c.names) > 0
}
