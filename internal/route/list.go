package route

import (
	"slices"

	"github.com/myelin-mqtt/myelin/topic"
)

// list is the subscribers of one filter, or the members of one group. It is not changed once it is published, with two exceptions that readers cannot see: more.subs may
// be appended to behind the length that they know, and the writers' part of extra. A nil list is empty.
type list[T comparable] struct {
	one  [1]Sub[T] // the only one where more is nil: most filters have one subscriber
	more *more[T]
}

// more is what a list has unless it is but one subscriber.
type more[T comparable] struct {
	subs  []Sub[T]
	extra *extra[T] // nil while nobody was forgotten and there are no groups
}

// extra is what few lists have.
type extra[T comparable] struct {
	groups []*Group[T] // as immutable as subs; some may have lost their last member

	// The writers':
	dead   int                  // how many of subs were forgotten and are still there
	gone   func(T) bool         // how to recognise them
	empty  int                  // how many of groups have no members
	byName map[string]*Group[T] // groups again, if there are many
}

const (
	shortList  = 32 // up to this length a list is searched and copied, not marked
	fewGroups  = 16 // up to this number groups are found by looking at each
	deadFactor = 4  // one in four dead: clean up
)

// newList returns a list of subs, whose spare room it owns from now on; nil if there is nothing to hold.
func newList[T comparable](subs []Sub[T], x *extra[T]) *list[T] {
	switch {
	case len(subs) == 0 && (x == nil || len(x.groups) == 0):
		return nil
	case len(subs) == 1 && x == nil:
		return &list[T]{one: [1]Sub[T]{subs[0]}}
	}
	l := new(struct { // in one piece
		list[T]
		all more[T]
	})
	l.all = more[T]{subs: subs, extra: x}
	l.list.more = &l.all
	return &l.list
}

// subs returns the subscribers.
func (l *list[T]) subs() []Sub[T] {
	if l.more != nil {
		return l.more.subs
	}
	return l.one[:]
}

// extra returns what few lists have, nil if l is not one of them.
func (l *list[T]) extra() *extra[T] {
	if l == nil || l.more == nil {
		return nil
	}
	return l.more.extra
}

// add returns the list with s in it, and 1 if s.To was not. fresh: it is not, so do not look.
func (l *list[T]) add(s Sub[T], fresh bool) (nl *list[T], added int) {
	if l == nil {
		return newList([]Sub[T]{s}, nil), 1
	}
	if !fresh {
		if i := slices.IndexFunc(l.subs(), func(o Sub[T]) bool { return o.To == s.To }); i >= 0 {
			subs := slices.Clone(l.subs())
			subs[i] = s
			return newList(subs, l.extra()), 0
		}
	}
	return newList(append(l.subs(), s), l.extra()), 1
}

// forget returns the list without to, and by how much the number of living subscribers has shrunk. In a long list an ended session is only counted, and
// l itself returned, until enough of them are there; then all that gone recognises are removed at once. That may hit sessions whose own turn to be forgotten is
// still to come and will be counted a second time, so each cleaning sets the number right.
func (l *list[T]) forget(to T, gone func(T) bool) (nl *list[T], removed int) {
	if gone != nil && len(l.subs()) > shortList {
		x := l.extra()
		if x == nil {
			x = new(extra[T])
			l = newList(l.subs(), x)
		}
		x.dead++
		x.gone = gone
		if x.dead*deadFactor < len(l.subs()) {
			return l, 1
		}
		nl, removed = l.cleaned(to)
		return nl, removed + 1
	}
	if x := l.extra(); x != nil && x.dead > 0 {
		nl, removed = l.without(func(o Sub[T]) bool { return o.To == to })
		if nl == nil || nl.extra().dead*deadFactor < len(nl.subs()) {
			return nl, removed
		}
		nl, more := nl.cleaned(to)
		return nl, removed + more
	}
	return l.without(func(o Sub[T]) bool { return o.To == to })
}

// cleaned returns the list without to and all ended sessions, and how many more than the ones already counted as dead that were.
func (l *list[T]) cleaned(to T) (nl *list[T], more int) {
	x := l.extra()
	dead, gone := x.dead, x.gone
	x.dead, x.gone = 0, nil
	nl, removed := l.without(func(o Sub[T]) bool { return o.To == to || gone(o.To) })
	return nl, removed - dead
}

// without returns the list without the subscribers that drop names, and their number; l itself if there are none. The last ones move into the gaps, so that few
// members of a group change their place.
func (l *list[T]) without(drop func(Sub[T]) bool) (nl *list[T], removed int) {
	first := slices.IndexFunc(l.subs(), drop)
	if first < 0 {
		return l, 0
	}
	subs := slices.Clone(l.subs())
	for i := first; i < len(subs); {
		if !drop(subs[i]) {
			i++
			continue
		}
		last := len(subs) - 1
		subs[i], subs[last] = subs[last], Sub[T]{}
		subs = subs[:last]
		removed++
	}
	return newList(subs, l.extra()), removed
}

// groups returns the shared subscriptions of the filter.
func (l *list[T]) groups() []*Group[T] {
	if x := l.extra(); x != nil {
		return x.groups
	}
	return nil
}

// group returns the shared subscription with this name, which may have no members.
func (l *list[T]) group(name string) *Group[T] {
	x := l.extra()
	if x == nil {
		return nil
	}
	if x.byName != nil {
		return x.byName[name]
	}
	for _, g := range x.groups {
		if g.filter.Share == name {
			return g
		}
	}
	return nil
}

// join returns the list with s a member of f's group.
func (l *list[T]) join(f topic.Filter, s Sub[T], fresh bool, count *counters) *list[T] {
	g := l.group(f.Share)
	switch {
	case g == nil:
		g = &Group[T]{filter: f}
		l = l.withGroup(g)
		count.groups.Add(1)
	case g.members.Load() == nil: // ended, but still in the list
		l.extra().empty--
		count.groups.Add(1)
	}
	m, added := g.members.Load().add(s, fresh)
	g.members.Store(m)
	count.shared.Add(int64(added))
	return l
}

// withGroup returns the list with one more group.
func (l *list[T]) withGroup(g *Group[T]) *list[T] {
	var x extra[T]
	var subs []Sub[T]
	if l != nil {
		subs = l.subs()
		if old := l.extra(); old != nil {
			x = *old
		}
	}
	x.groups = append(x.groups, g)
	switch {
	case x.byName != nil:
		x.byName[g.filter.Share] = g
	case len(x.groups) > fewGroups:
		x.indexGroups()
	}
	return newList(subs, &x)
}

func (x *extra[T]) indexGroups() {
	x.byName = make(map[string]*Group[T], len(x.groups))
	for _, g := range x.groups {
		x.byName[g.filter.Share] = g
	}
}

// leave returns the list without to as a member of the group, and by how much the number of members has shrunk.
func (l *list[T]) leave(name string, to T, gone func(T) bool, count *counters) (nl *list[T], removed int) {
	g := l.group(name)
	if g == nil || g.members.Load() == nil {
		return l, 0
	}
	m, removed := g.members.Load().forget(to, gone)
	g.members.Store(m)
	count.shared.Add(-int64(removed))
	if m != nil {
		return l, removed
	}
	count.groups.Add(-1)
	x := l.extra()
	x.empty++
	if len(x.groups) > shortList && x.empty*deadFactor < len(x.groups) {
		return l, removed
	}
	y := &extra[T]{dead: x.dead, gone: x.gone}
	for _, g := range x.groups {
		if g.members.Load() != nil {
			y.groups = append(y.groups, g)
		}
	}
	if len(y.groups) > fewGroups {
		y.indexGroups()
	}
	return newList(l.subs(), y), removed
}

// each yields the subscribers and the members of all groups of the filter.
func (l *list[T]) each(filter string, yield func(topic.Filter, Sub[T]) bool) bool {
	if l == nil {
		return true
	}
	for _, s := range l.subs() {
		if !yield(topic.Filter{Filter: filter}, s) {
			return false
		}
	}
	for _, g := range l.groups() {
		for _, s := range g.Members() {
			if !yield(g.filter, s) {
				return false
			}
		}
	}
	return true
}
