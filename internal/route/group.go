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
	Sticky                        // the same member for the same key; a member that comes or goes moves few keys but its own
	LeastInflight                 // the one with the lowest rank, in turn among equals
)

// What a rank function answers for members that are not connected. Other answers are 0 and up: how busy the member is.
const (
	Offline = -1 // chosen only when nobody is online
	Never   = -2 // the session has ended: not chosen at all
)

// leastWindow is how many members LeastInflight compares at most. In larger groups the least busy of so many is as good.
const leastWindow = 64

// stickyTries is how often Sticky tries another place for a key before it takes the next member that is online.
const stickyTries = 8

// Group is one shared subscription. It is the same object from its first member to its last, and knows the filter with which Table.Group finds a later one of the
// same name. That is how an unacknowledged QoS 1 message of a member that has gone finds another member; for QoS 2 the standard forbids it. [MQTT-4.8.2-5]
type Group[T comparable] struct {
	filter  topic.Filter
	members atomic.Pointer[list[T]] // nil: it has ended
	turn    atomic.Uint32
}

// Name returns the share name.
func (g *Group[T]) Name() string { return g.filter.Share }

// Filter returns the filter with the share name.
func (g *Group[T]) Filter() topic.Filter { return g.filter }

// Len returns the number of members, some of which may have ended; 0: the shared subscription has ended.
func (g *Group[T]) Len() int { return len(g.Members()) }

// Members returns the members, some of which may have ended. The slice must not be changed.
func (g *Group[T]) Members() []Sub[T] {
	if l := g.members.Load(); l != nil {
		return l.subs()
	}
	return nil
}

// Pick chooses the member that gets the next message. key is a random number for Random, a hash of the publisher or the topic for Sticky, and unused
// otherwise. rank tells how busy a member is, or Offline or Never; nil: all are online and equal. It is called without a lock and may be called for all members.
// false: there is no member to choose.
func (g *Group[T]) Pick(st Strategy, key uint64, rank func(T) int) (Sub[T], bool) {
	l := g.Members()
	if len(l) == 0 {
		return Sub[T]{}, false
	}
	if rank == nil {
		rank = func(T) int { return 0 }
	}
	switch st {
	case Random:
		return scan(l, int(key%uint64(len(l))), 1, rank)
	case Sticky:
		return sticky(l, key, rank)
	case LeastInflight:
		return scan(l, g.next(len(l)), leastWindow, rank)
	default:
		return scan(l, g.next(len(l)), 1, rank)
	}
}

// next returns where the next turn begins.
func (g *Group[T]) next(n int) int { return int((g.turn.Add(1) - 1) % uint32(n)) }

// scan looks from member number i on, round the ring, until it has seen at least window members and one that is online, and returns the least busy one.
// Offline members are chosen only when it has seen all.
func scan[T comparable](l []Sub[T], i, window int, rank func(T) int) (Sub[T], bool) {
	best, at := Never, -1
	for n := range l {
		if n >= window && best >= 0 {
			break
		}
		switch r := rank(l[i].To); {
		case r <= Never, r == Offline && at >= 0: // the first offline one is as good as the others
		case best < 0 || r < best:
			best, at = r, i
		}
		if i++; i == len(l) {
			i = 0
		}
	}
	if at < 0 {
		return Sub[T]{}, false
	}
	return l[at], true
}

// sticky returns the member that belongs to key. If that one is not online, the key tries other places, so that what belongs to it spreads over all the others
// and returns to it later. If nobody is online, the key's own member gets it.
func sticky[T comparable](l []Sub[T], key uint64, rank func(T) int) (Sub[T], bool) {
	own := -1
	for try := range uint64(stickyTries) {
		i := jump(mix(key+try), len(l))
		switch r := rank(l[i].To); {
		case r >= 0:
			return l[i], true
		case r == Offline && own < 0:
			own = i
		}
	}
	i := jump(mix(key), len(l))
	s, ok := scan(l, i, 1, rank)
	if ok && own >= 0 && rank(s.To) < 0 {
		return l[own], true
	}
	return s, ok
}

// mix spreads a key over all bits.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// jump is the jump consistent hash: it gives each of n places the same share of the keys, and when n grows or shrinks by one it moves one key in n.
func jump(key uint64, n int) int {
	at, next := int64(-1), int64(0)
	for next < int64(n) {
		at = next
		key = key*2862933555777941757 + 1
		next = int64(float64(at+1) * (float64(int64(1)<<31) / float64(key>>33+1)))
	}
	return int(at)
}
