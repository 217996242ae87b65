package broker

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/myelin-mqtt/myelin/internal/qos"
	"github.com/myelin-mqtt/myelin/internal/route"
	sess "github.com/myelin-mqtt/myelin/internal/session"
	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/transport"
	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/topic"
)

// session is what the broker knows of one client identifier, connected or not.
// It is the handle that the subscription table holds. There may be a million of
// them whose clients are away, so what such a session does not need is in
// active.
type session struct {
	mu      sync.Mutex    // guards active, what is in it, and the subscriptions; never held with another session's
	*active               // nil: not connected, and nothing is in flight, waits or is to be told
	load    atomic.Int32  // messages in flight; -1: not connected, -2: ended, for good
	told    atomic.Uint32 // bit set of the classes of drops that were logged on this connection

	// Written by the owner under mu, read by the owner without.
	one  [1]subscription // where there is one, as most have
	many *many           // where there were more

	// The owner's; it changes store under mu.
	id     string
	store  store.Session // nil: the session ends with its connection
	expiry uint32        // seconds after the end of a connection, 0xFFFFFFFF: never
	gone   uint32        // the end of its last connection in Unix seconds, not earlier; 0: it is not over

	// The registry's, under its shard's lock.
	owner *conn
}

// active is what a session has while it is connected, and as long as there is
// something to remember after that. The owner makes it and takes it away, under
// the session's lock, which guards all but what is said to be the owner's.
type active struct {
	io    *transport.Conn // nil: not connected
	out   sess.Out
	local *Subscription // an in-process subscriber
	alias *aliases      // outbound topic aliases of this connection
	jobs  *retainedJob  // retained messages that the last connection did not get
	done  []completion  // the store's word on messages that it published
	late  atomic.Bool   // there is something in done
	ready atomic.Bool   // the store has said Ready since stored was looked at

	// The owner's.
	in     *sess.In    // nil until the first PUBLISH that needs it
	will   *store.Will // armed or waiting for its delay
	willAt int64       // when its delay is over in Unix nanoseconds, 0: it does not wait

	maxPacket uint32 // the client's Maximum Packet Size, 0: no limit
	ver       packet.Version
	strict    bool   // what waits is not sent unless a subscription matches it
	stored    bool   // the store has messages that did not fit into the window
	shared    uint16 // shared subscriptions it is in

	heldN, heldBytes int32 // what held counts of it
}

// many are the subscriptions of a session that has or had more than one.
type many struct {
	subs  []subscription
	index *filterIndex // their places, where there are many
}

// setStore gives the session its place in the store. Only the owner calls it.
func (s *session) setStore(to store.Session) {
	s.mu.Lock()
	s.store = to
	s.mu.Unlock()
}

// activate makes s.active where there is none. Only the owner calls it.
func (s *session) activate() {
	if s.active == nil {
		s.mu.Lock()
		s.active = new(active)
		s.mu.Unlock()
	}
}

// settle takes s.active away where it holds nothing that is needed again. Only
// the owner calls it, without a connection.
func (s *session) settle() {
	a := s.active
	if a == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.io == nil && a.local == nil && a.jobs == nil && a.will == nil && a.out.Idle() && (a.in == nil || a.in.Idle()) {
		s.active = nil
	}
}

// conn is the connection that the session's messages go to, nil: none. The
// caller holds mu.
func (s *session) conn() *transport.Conn {
	if s.active == nil {
		return nil
	}
	return s.active.io
}

// there reports whether messages can be delivered. The caller holds mu.
func (s *session) there() bool {
	return s.active != nil && (s.active.io != nil || s.active.local != nil)
}

// setWill is the will from now on, nil: none. Only the owner calls it.
func (s *session) setWill(w *store.Will) {
	if w != nil {
		s.activate()
	}
	if s.active != nil {
		s.active.will, s.active.willAt = w, 0
	}
}

// lastWill is the will. Only the owner calls it.
func (s *session) lastWill() *store.Will {
	if s.active == nil {
		return nil
	}
	return s.active.will
}

// Done implements store.Completer for the messages that the session's client
// publishes; any goroutine. It reaches whoever owns the session by then. Where
// nothing is remembered of the client, its word is for nobody: no
// acknowledgement waits, and no identifier.
func (s *session) Done(tok uint64, err error) {
	s.mu.Lock()
	a := s.active
	if a == nil {
		s.mu.Unlock()
		return
	}
	a.done = append(a.done, completion{tok, err})
	a.late.Store(true)
	io := a.io
	s.mu.Unlock()
	if io != nil {
		io.Wake()
	}
}

// errLate is left in place of an error where the message's commit waits for
// room on the disk: Done is still to come.
var errLate = errors.New("late")

// Late implements store.Patient. It means the connection of now only: one that
// comes later is told again.
func (s *session) Late(tok uint64) {
	s.mu.Lock()
	connected := s.conn() != nil
	s.mu.Unlock()
	if connected {
		s.Done(tok, errLate)
	}
}

// committed takes what the store has said. The session is connected.
func (s *session) committed() []completion {
	if !s.late.Swap(false) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	done := s.done
	s.done = nil
	return done
}

const neverExpires = 0xFFFFFFFF

// subscription is one filter of a session. It holds the filter's bytes, which
// are at most 65,535, without the half of a string's head that this does not
// need.
type subscription struct {
	text    *byte // of the filter as the client wrote it, $share included
	id      uint32
	n       uint16
	options packet.SubOptions
}

func newSubscription(filter string, id uint32, o packet.SubOptions) subscription {
	return subscription{text: unsafe.StringData(filter), n: uint16(len(filter)), id: id, options: o}
}

// filter is the filter as the client wrote it.
func (x *subscription) filter() string { return unsafe.String(x.text, int(x.n)) }

// subs are the subscriptions in no order.
func (s *session) subs() []subscription {
	switch {
	case s.many != nil:
		return s.many.subs
	case s.one[0].text != nil:
		return s.one[:]
	}
	return nil
}

func newSession(id string) *session {
	s := &session{id: id}
	s.load.Store(route.Offline)
	return s
}

// ClientID implements ids.Named.
func (s *session) ClientID() string { return s.id }

// ended reports whether the session is over.
func (s *session) ended() bool { return s.load.Load() <= route.Never }

func (s *session) durable() bool { return s.store != nil }

// wake is the store's word that messages wait: the loop that owns the
// connection fetches them. A connection that comes looks for itself.
func (s *session) wake() {
	s.mu.Lock()
	a := s.active
	if a == nil || a.ready.Swap(true) || a.io == nil {
		s.mu.Unlock()
		return
	}
	io := a.io
	s.mu.Unlock()
	io.Wake()
}

// rank is how busy a member of a shared subscription is.
func rank(s *session) int { return int(s.load.Load()) }

// setLoad tells shared subscriptions how busy the session is; the caller holds mu.
func (s *session) setLoad() {
	switch {
	case s.ended():
	case !s.there():
		s.load.Store(route.Offline)
	default:
		s.load.Store(int32(s.out.Send.Live() + s.out.Send.Queued()))
	}
}

// find is the subscription with this very filter [MQTT-3.10.4-1], or -1.
func (s *session) find(filter string) int {
	subs := s.subs()
	if s.many != nil && s.many.index != nil {
		return s.many.index.find(subs, filter)
	}
	for i := range subs {
		if subs[i].filter() == filter {
			return i
		}
	}
	return -1
}

// add appends a subscription whose filter is new. The caller holds mu.
func (s *session) add(x subscription) {
	m := s.many
	if m == nil {
		if s.one[0].text == nil {
			s.one[0] = x
			return
		}
		m = &many{subs: []subscription{s.one[0]}}
		s.many, s.one[0] = m, subscription{}
	}
	m.subs = append(m.subs, x)
	switch {
	case m.index != nil:
		m.index.put(m.subs, len(m.subs)-1)
	case len(m.subs) == indexed:
		m.index = newFilterIndex(m.subs)
	}
}

// remove takes out the subscription at place i. The caller holds mu.
func (s *session) remove(i int) {
	m := s.many
	if m == nil {
		s.one[0] = subscription{}
		return
	}
	last := len(m.subs) - 1
	if m.index != nil {
		m.index.remove(m.subs, i)
		if i != last {
			m.index.move(m.subs, last, i)
		}
	}
	m.subs[i] = m.subs[last]
	m.subs[last] = subscription{}
	if m.subs = m.subs[:last]; last == 0 {
		s.many = nil
	}
}

// end discards the session: its subscriptions, what waits in it, and its
// place in the store. Its will is published if it is still there. What came
// through shared subscriptions and was not acknowledged goes to other members.
// Only the owner calls it, with the connection detached. done: it need not be
// waited for, and c is not called; c may be nil, where nobody waits.
func (b *Broker) end(t *turn, s *session, c store.Completer) (done bool) {
	done = true
	var again []store.Delivery
	var lost []*packet.Publish
	s.mu.Lock()
	s.load.Store(route.Never)
	if s.active != nil {
		again, lost = s.unshared()
		s.out = sess.Out{}
		b.held.weigh(s)
	}
	s.mu.Unlock()
	for _, sub := range s.subs() {
		if f, err := topic.ParseFilter(sub.filter()); err == nil {
			b.table.Forget(f, s, (*session).ended)
		}
	}
	b.fireWill(t, s) // before the store forgets it
	for _, m := range lost {
		b.dropped(s, m, DropSessionEnded)
	}
	if s.store == nil {
		t.redistribute(s, again)
	} else { // others have it before s has it no more
		shared := s.store.Shared()
		t.redistribute(s, append(again, shared...))
		var rest []store.Delivery
		rest, done = s.store.End(c, 0)
		t.redistribute(s, slices.DeleteFunc(rest, func(d store.Delivery) bool {
			return slices.ContainsFunc(shared, func(o store.Delivery) bool { return o.LSN == d.LSN })
		}))
	}
	s.mu.Lock()
	s.one[0], s.many = subscription{}, nil
	s.mu.Unlock()
	s.settle()
	b.expirer.cancel(s)
	if f := b.opt().Events.SessionEnded; f != nil {
		f(s.id)
	}
	return done
}

// unshared takes what came through shared subscriptions and may go to another
// member: QoS 1 that is not acknowledged, and what was not sent at all. A
// QoS 2 message that was sent stays with its member [MQTT-4.8.2-5]. The caller
// holds mu. lost is the rest that was not delivered.
func (s *session) unshared() (again []store.Delivery, lost []*packet.Publish) {
	s.out.Send.Unacked(func(id uint16, x *qos.Slot) bool {
		if x.Flags&qos.Shared != 0 && x.Msg != nil && (id == 0 || x.QoS == 1) {
			again = append(again, store.Delivery{Msg: x.Msg, QoS: x.QoS, Flags: x.Flags})
		} else if x.Msg != nil {
			lost = append(lost, x.Msg)
		}
		return true
	})
	return again, lost
}

// groupOf is the shared subscription of s that a message came through.
func (t *turn) groupOf(s *session, m *packet.Publish) *route.Group[*session] {
	for _, sub := range s.subs() {
		f, err := topic.ParseFilter(sub.filter())
		if err == nil && f.Share != "" && topic.Match(f.Filter, string(m.Topic())) {
			return t.b.table.Group(f)
		}
	}
	return nil
}

// redistribute gives messages of shared subscriptions that s left to others.
func (t *turn) redistribute(s *session, again []store.Delivery) {
	for _, d := range again {
		left, expired := d.Msg.Left(t.now)
		if expired { // [MQTT-3.3.2-5]
			t.b.dropped(s, d.Msg, DropExpired)
			continue
		}
		t.enc.Reset(d.Msg, left)
		t.expiry = left
		g := t.groupOf(s, d.Msg)
		if g == nil { // it has unsubscribed, or was the last
			t.b.dropped(s, d.Msg, DropNoMember)
			continue
		}
		t.toGroup(g, d.Msg, d.Msg, nil)
	}
}
