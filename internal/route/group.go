package route

import (
	"sync/atomic"

	"github.com/myelin-mqtt/myelin/topic"
)

// Strategy is how a shared subscription chooses among its members.
type Strategy uint8

// The strategies.
const (
	RoundRobin    Strategy = iota // one after the other
	Random                        // by the caller's random key
	Sticky                        // the same member for the same key, as long as it is there; a member that goes or comes moves only its own keys
	LeastInflight                 // the one with the lowest rank
)

// What a rank function answers for members that are not connected. Other answers are 0 and up: how busy the member is.
const (
	Offline = -1 // chosen only when nobody is online
	Never   = -2 // the session has ended: not chosen at all
)

// Group is one shared subscription. It is the same object from its first member to its last; Filter finds a later one of the same name again
// (Table.Group).
type Group[T comparable] struct {
	filter  topic.Filter
	members atomic.Pointer[[]Sub[T]]
	turn    atomic.Uint32
}

// Name returns the share name.
func (g *Group[T]) Name() string { return g.filter.Share }

// Filter returns the filter with the share name.
func (g *Group[T]) Filter() topic.Filter { return g.filter }

// Len returns the number of members; 0: the shared subscription has ended.
func (g *Group[T]) Len() int { return len(g.Members()) }

// Members returns the members, some of which may have ended. The slice must not be changed.
func (g *Group[T]) Members() []Sub[T] {
	if p := g.members.Load(); p != nil {
		return *p
	}
	return nil
}

// Pick chooses the member that gets the next message. key is a random number for Random, a hash of the publisher or the topic for Sticky, and unused
// otherwise. rank tells how busy a member is, Offline or Never; nil: all are online. false: there is no member to choose.
func (g *Group[T]) Pick(st Strategy, key uint64, rank func(T) int) (Sub[T], bool) {
	l := g.Members()
	if len(l) == 0 {
		return Sub[T]{}, false
	}
	i := int(key % uint64(len(l)))
	if st == RoundRobin || st == LeastInflight {
		i = int(g.turn.Add(1) % uint32(len(l)))
	}
	best, at := Never, -1
	for range l {
		r := 0
		if rank != nil {
			r = rank(l[i].To)
		}
		switch {
		case r <= Never, r == Offline && best > Never:
		case best < 0 || st == LeastInflight && r < best:
			best, at = r, i
		}
		i = (i + 1) % len(l)
	}
	if at < 0 {
		return Sub[T]{}, false
	}
	return l[at], true
}

func (g *Group[T]) put(s Sub[T]) {
	l := append(without(g.Members(), s.To), s)
	g.members.Store(&l)
}

func (g *Group[T]) drop(to T) bool {
	l := g.Members()
	n := without(l, to)
	g.members.Store(&n)
	return len(n) < len(l)
}
