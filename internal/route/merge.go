package route

import "slices"

// Result is who gets the messages of one topic name. It is not changed once it is made.
type Result[T comparable] struct {
	// Subs has each session once: the highest QoS of its matching subscriptions [MQTT-3.3.4-2], NoLocal only if all of them have it, RetainAsPublished and
	// Durable if any has. It may be the table's own list, so it must not be changed, and it may still hold sessions that have ended.
	Subs    []Sub[T]
	Groups  []*Group[T]    // the shared subscriptions, apart from Subs; some may have lost their last member
	More    map[T][]uint32 // all subscription identifiers of the sessions that have more than one here [MQTT-3.3.4-4]; others have Sub.ID
	Own     map[T]Own[T]   // for sessions with matching subscriptions both with NoLocal and without: what they get of their own messages
	Durable int            // how many of Subs are Durable with a QoS above 0
}

// Own replaces a session's Sub and identifiers where it is the publisher itself: what its subscriptions without NoLocal come to. [MQTT-3.8.3-3]
type Own[T comparable] struct {
	Sub Sub[T]
	IDs []uint32 // as in Result.More: nil unless there is more than one
}

// fewSubs is the number of subscriptions up to which a session is found among the others by looking at each.
const fewSubs = 24

// keepSubs bounds what a merger keeps of its memory for the next merge.
const keepSubs = 16384

// merger makes one Result of the lists that match a name.
type merger[T comparable] struct {
	subs   []Sub[T]
	groups []*Group[T]
	index  map[T]int // where in subs a session is, if there are many
	more   map[T][]uint32
	own    map[T]Own[T]
}

// merge returns the answer. It may share the memory of the lists, or be valid only until the next merge: owned tells which.
func (m *merger[T]) merge(lists []*list[T]) (r Result[T], owned bool) {
	switch len(lists) {
	case 0:
		return r, true
	case 1:
		r.Subs, r.Groups, owned = lists[0].subs(), lists[0].groups(), true
	default:
		m.reset()
		for _, l := range lists {
			m.groups = append(m.groups, l.groups()...)
		}
		m.mergeSubs(lists)
		r = Result[T]{Subs: m.subs, Groups: m.groups, More: m.more, Own: m.own}
	}
	for _, s := range r.Subs {
		if s.QoS > 0 && s.Opts&Durable != 0 {
			r.Durable++
		}
	}
	return r, owned
}

func (m *merger[T]) mergeSubs(lists []*list[T]) {
	total := 0
	for _, l := range lists {
		total += len(l.subs())
	}
	find := m.scan
	if total > fewSubs {
		find = m.lookUp
		if m.index == nil {
			m.index = make(map[T]int, total)
		}
	}
	m.subs = slices.Grow(m.subs, total)
	for _, l := range lists {
		for _, s := range l.subs() {
			if i := find(s.To); i >= 0 {
				m.join(&m.subs[i], s)
			} else {
				m.subs = append(m.subs, s)
			}
		}
	}
}

// scan returns where a session is in m.subs, -1 if it is new.
func (m *merger[T]) scan(to T) int {
	return slices.IndexFunc(m.subs, func(s Sub[T]) bool { return s.To == to })
}

// lookUp does the same with the index, in which it enters the session.
func (m *merger[T]) lookUp(to T) int {
	if i, had := m.index[to]; had {
		return i
	}
	m.index[to] = len(m.subs)
	return -1
}

// join adds one more subscription of the same session to what its earlier ones came to.
func (m *merger[T]) join(a *Sub[T], b Sub[T]) {
	ids := withID(m.more[a.To], a.ID, b.ID)
	if own, mixed := m.own[a.To]; mixed || (a.Opts^b.Opts)&NoLocal != 0 {
		m.joinOwn(own, mixed, *a, b)
	}
	union(a, b)
	if len(ids) > 1 {
		if m.more == nil {
			m.more = make(map[T][]uint32)
		}
		m.more[a.To] = ids
	}
}

// joinOwn keeps apart what a session gets of its own messages. If it is not mixed yet, all before b agreed on NoLocal.
func (m *merger[T]) joinOwn(own Own[T], mixed bool, a, b Sub[T]) {
	switch {
	case !mixed && a.Opts&NoLocal != 0:
		own = Own[T]{Sub: b}
	case !mixed:
		own = Own[T]{Sub: a, IDs: slices.Clone(m.more[a.To])}
	case b.Opts&NoLocal == 0:
		ids := withID(own.IDs, own.Sub.ID, b.ID)
		union(&own.Sub, b)
		if len(ids) > 1 {
			own.IDs = ids
		}
	}
	if m.own == nil {
		m.own = make(map[T]Own[T])
	}
	m.own[a.To] = own
}

// union makes one Sub of two of the same session.
func union[T comparable](a *Sub[T], b Sub[T]) {
	if a.ID == 0 {
		a.ID = b.ID
	}
	a.QoS = max(a.QoS, b.QoS)
	a.Opts = a.Opts&b.Opts&NoLocal | (a.Opts|b.Opts)&^NoLocal
}

// withID returns the identifiers of a session's earlier subscriptions, all of which are in ids if there are more than one, with one more. An identifier that
// several subscriptions share stands there several times.
func withID(ids []uint32, first, id uint32) []uint32 {
	if id == 0 {
		return ids
	}
	if len(ids) == 0 && first != 0 {
		ids = append(ids, first)
	}
	return append(ids, id)
}

// reset empties the merger and lets go of the sessions in it.
func (m *merger[T]) reset() {
	if cap(m.subs) > keepSubs {
		m.subs, m.index = nil, nil
	}
	if cap(m.groups) > keepSubs {
		m.groups = nil
	}
	clear(m.subs)
	clear(m.groups)
	clear(m.index)
	m.subs, m.groups, m.more, m.own = m.subs[:0], m.groups[:0], nil, nil
}
