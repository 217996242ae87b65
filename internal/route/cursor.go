package route

import (
	"strings"
	"unsafe"

	"github.com/myelin-mqtt/myelin/topic"
)

// Cursor walks over the retained messages that a filter matches, in the byte order of their names and in steps of bounded length, between which the index may
// change: a name that is there throughout is yielded exactly once, with its message at the time of the step. A cursor belongs to one goroutine.
type Cursor[M any] struct {
	r      *Retained[M]
	filter string
	from   []byte // no name below it is still to come
	batch  []item[M]
	done   bool
	all    bool // the $ rule does not hold
}

// Cursor returns a cursor over the names that filter, without $share/NAME/, matches. A filter without wildcards costs one look.
func (r *Retained[M]) Cursor(filter string) *Cursor[M] { return &Cursor[M]{r: r, filter: filter} }

// All begins a walk over every name, those with $ included.
func (r *Retained[M]) All() *Cursor[M] { return &Cursor[M]{r: r, filter: "#", all: true} }

// Next goes on, looking at no more than limit names, and reports whether there may be more. yield is called without a lock held, so it may use the index.
// If it returns false, Next returns, and the next call goes on after the name that was yielded last.
func (c *Cursor[M]) Next(limit int, yield func(name string, m M) bool) (more bool) {
	if c.done {
		return false
	}
	if topic.HasWildcard(c.filter) {
		c.collect(max(limit, 1))
	} else {
		if m, ok := c.r.Get(c.filter); ok {
			c.batch = append(c.batch, item[M]{c.filter, m})
		}
		c.done = true
	}
	defer func() {
		clear(c.batch)
		c.batch = c.batch[:0]
	}()
	for i := range c.batch {
		it := &c.batch[i]
		if yield(it.name, it.m) {
			continue
		}
		if i < len(c.batch)-1 {
			c.from = append(append(c.from[:0], it.name...), 0)
			c.done = false
		}
		break
	}
	return !c.done
}

// collect looks at up to limit names and puts those that match into the batch. It leaves in c.from where to go on.
func (c *Cursor[M]) collect(limit int) {
	c.r.mu.RLock()
	defer c.r.mu.RUnlock()
	order := &c.r.order
	it, p := order.at(order.seek(text(c.from)))
	for range limit {
		if it == nil {
			c.done = true
			return
		}
		match, jump := c.ahead(it.name)
		if match {
			c.batch = append(c.batch, *it)
		}
		switch {
		case !jump:
			p.item++
			it, p = order.at(p)
		case len(c.from) == 0:
			c.done = true
			return
		default:
			it, p = order.at(order.seek(text(c.from)))
		}
	}
	if it == nil {
		c.done = true
		return
	}
	c.from = append(c.from[:0], it.name...)
}

// ahead reports whether the filter matches name. If it does not, and no name matches before one that stands further ahead, jump is true and c.from is the lowest that can
// match, or empty if none can.
//
// The names that begin with the same bytes stand together. So where name leaves the filter at some level, only names with the same levels before and the
// filter's level there can match, or else none that has the same levels before.
func (c *Cursor[M]) ahead(name string) (match, jump bool) {
	if !c.all && strings.HasPrefix(name, "$") && (c.filter[0] == '+' || c.filter[0] == '#') { // [MQTT-4.7.2-1]
		c.from = append(c.from[:0], '$'+1)
		return false, true
	}
	filter, begin := c.filter, 0 // begin: where in name the level begins
	for {
		want, frest, fmore := topic.Cut(filter)
		if want == "#" {
			return true, false
		}
		have, _, more := topic.Cut(name[begin:])
		end := begin + len(have)
		switch {
		case want != "+" && want != have:
			return false, c.jumpTo(name, begin, want, fmore)
		case !more:
			return !fmore || frest == "#", false
		case !fmore: // all that begins with name[:end]/ is too long
			c.jumpOver(name[:end])
			return false, true
		}
		filter, begin = frest, end+1
	}
}

// jumpTo sets c.from where the filter wants the level want at name[begin:] and name has another there. deeper: the filter has more levels.
func (c *Cursor[M]) jumpTo(name string, begin int, want string, deeper bool) bool {
	c.from = append(append(c.from[:0], name[:begin]...), want...)
	if text(c.from) > name {
		return true
	}
	c.from = append(c.from, '/')
	if deeper && text(c.from) > name {
		return true
	}
	if begin == 0 {
		c.from = c.from[:0]
		return true
	}
	c.jumpOver(name[:begin-1])
	return true
}

// jumpOver sets c.from behind all names that begin with levels and a separator.
func (c *Cursor[M]) jumpOver(levels string) {
	c.from = append(append(c.from[:0], levels...), '/'+1)
}

// text lends the bytes of b as a string, for a comparison.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
