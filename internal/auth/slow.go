package auth

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// slow makes who guesses passwords wait. Only a refusal is delayed: nobody can
// keep a user out by guessing. The delay doubles with each wrong attempt of an
// address and of a user, and what is remembered of them fades.
type slow struct {
	base, most time.Duration // base 0: nothing is delayed

	mu      sync.Mutex
	addrs   table
	users   table
	waiting map[*refusal]struct{}
	from    map[string]int // refusals that wait, by address
	closed  bool
}

// refusal is one that waits.
type refusal struct {
	timer *time.Timer
	from  string
	then  func()
}

const (
	fade        = 30 * time.Second // a wrong attempt is forgotten in so long, one after the other
	freeOfAddr  = 4                // many clients may share an address, and one may have an old password
	maxTracked  = 10_000           // addresses, and as many users
	maxWaiting  = 10_000           // refusals; more are not delayed
	maxFromAddr = 32               // refusals of one address; meanwhile it may not try again
)

func newSlow(base, most time.Duration) *slow {
	return &slow{base: base, most: max(base, most), addrs: newTable(), users: newTable(), waiting: map[*refusal]struct{}{}, from: map[string]int{}}
}

// admits tells whether an address may try now. One with many refusals under way
// may not: otherwise it could try any number of passwords side by side.
func (s *slow) admits(addr string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.from[addr] < maxFromAddr
}

// refuse counts a wrong attempt, and calls then after the delay.
func (s *slow) refuse(addr, user string, then func()) {
	if s.base == 0 {
		then()
		return
	}
	s.mu.Lock()
	now := time.Now()
	d := max(s.delay(s.addrs.wrong(addr, now)-freeOfAddr), s.delay(s.users.wrong(clip(user), now)))
	if s.closed || len(s.waiting) >= maxWaiting || d == 0 {
		s.mu.Unlock()
		then()
		return
	}
	r := &refusal{from: addr, then: then}
	s.waiting[r] = struct{}{}
	s.from[addr]++
	r.timer = time.AfterFunc(d, func() { s.fire(r) })
	s.mu.Unlock()
}

// delay of the nth wrong attempt.
func (s *slow) delay(n int) time.Duration {
	if n < 1 {
		return 0
	}
	d := s.base
	for ; n > 1 && d < s.most; n-- {
		d *= 2
	}
	return min(d, s.most)
}

// fire ends the wait of a refusal; the second time it does nothing.
func (s *slow) fire(r *refusal) {
	s.mu.Lock()
	_, waits := s.waiting[r]
	delete(s.waiting, r)
	if waits {
		if s.from[r.from]--; s.from[r.from] == 0 {
			delete(s.from, r.from)
		}
	}
	s.mu.Unlock()
	if waits {
		r.then()
	}
}

// close lets all refusals go that wait.
func (s *slow) close() {
	s.mu.Lock()
	s.closed = true
	all := make([]*refusal, 0, len(s.waiting))
	for r := range s.waiting {
		r.timer.Stop()
		all = append(all, r)
	}
	s.mu.Unlock()
	for _, r := range all {
		s.fire(r)
	}
}

// table counts wrong attempts by name. Where it is full, it forgets who was
// wrong the longest time ago.
type table struct {
	byName map[string]*list.Element
	order  *list.List // of *offender, the last one first
}

type offender struct {
	name  string
	wrong int
	since time.Time // when wrong last changed
}

func newTable() table { return table{byName: map[string]*list.Element{}, order: list.New()} }

// wrong counts one more, and returns how many there are.
func (t *table) wrong(name string, now time.Time) int {
	e := t.byName[name]
	if e == nil {
		if t.order.Len() >= maxTracked {
			last := t.order.Back()
			delete(t.byName, last.Value.(*offender).name)
			t.order.Remove(last)
		}
		e = t.order.PushFront(&offender{name: name, since: now})
		t.byName[name] = e
	}
	t.order.MoveToFront(e)
	o := e.Value.(*offender)
	o.wrong = max(0, o.wrong-int(now.Sub(o.since)/fade)) + 1
	o.since = now
	return o.wrong
}

// network is what of a client's address counts: an IPv4 address, the half of an
// IPv6 address that one household has.
func network(addr string) string {
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return addr
	}
	ip := a.Addr().Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	p, err := ip.Prefix(64)
	if err != nil {
		return addr
	}
	return p.String()
}
