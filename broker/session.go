package broker

import (
	"sync"
	"sync/atomic"

	"github.com/myelin-mqtt/myelin/internal/qos"
	"github.com/myelin-mqtt/myelin/internal/route"
	sess "github.com/myelin-mqtt/myelin/internal/session"
	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/transport"
	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/topic"
)

// session is what the broker knows of one client identifier, connected or not.
// It is the handle that the subscription table holds.
type session struct {
	mu        sync.Mutex      // guards down to subs; never held with another session's
	io        *transport.Conn // nil: not connected
	more      *more           // what few sessions have, else nil
	out       sess.Out
	maxPacket uint32 // the client's Maximum Packet Size, 0: no limit
	ver       packet.Version
	shared    uint16 // shared subscriptions it is in
	stored    bool   // the store has messages that did not fit into the window
	ended     atomic.Bool
	ready     atomic.Bool   // the store has said Ready since stored was looked at
	told      atomic.Uint32 // bit set of the classes of drops that were logged on this connection
	load      atomic.Int32  // messages in flight; -1: not connected, -2: ended

	// Written by the owner under mu, read by the owner without.
	subs []subscription

	// The owner's.
	id     string
	store  store.Session // nil: the session ends with its connection
	in     *sess.In      // nil until the first PUBLISH that needs it
	will   *store.Will   // armed or waiting for its delay
	expiry uint32        // seconds after the end of a connection, 0xFFFFFFFF: never
	timer  uint32        // generation of the expirer's entries
	due    *due          // what the expirer waits for, nil: nothing

	// The registry's, under its shard's lock.
	owner *conn
	line  *[]*conn
}

// more is what few sessions have.
type more struct {
	local *Subscription // an in-process subscriber
	alias *aliases      // outbound topic aliases of this connection
	index *filterIndex  // the places of subs, where there are many
	jobs  *retainedJob  // retained messages that the last connection did not get
	done  *commits      // of the messages that it published, nil until one may be late
}

// commits is where the store leaves word of a session's messages.
type commits struct {
	mu   sync.Mutex
	done []completion
	any  atomic.Bool
}

// commits makes the place for the store's word, before a call that may need it.
func (s *session) commits() {
	if s.more != nil && s.more.done != nil {
		return
	}
	s.mu.Lock()
	s.rare().done = new(commits)
	s.mu.Unlock()
}

// Done implements store.Completer for the messages that the session's client
// publishes; any goroutine. It reaches whoever owns the session by then.
func (s *session) Done(tok uint64, err error) {
	k := s.more.done
	k.mu.Lock()
	k.done = append(k.done, completion{tok, err})
	k.mu.Unlock()
	k.any.Store(true)
	s.mu.Lock()
	io := s.io
	s.mu.Unlock()
	if io != nil {
		io.Wake()
	}
}

// committed takes what the store has said.
func (s *session) committed() []completion {
	if s.more == nil || s.more.done == nil || !s.more.done.any.Swap(false) {
		return nil
	}
	k := s.more.done
	k.mu.Lock()
	defer k.mu.Unlock()
	done := k.done
	k.done = nil
	return done
}

// rare is s.more, made where there is none.
func (s *session) rare() *more {
	if s.more == nil {
		s.more = new(more)
	}
	return s.more
}

// setAlias begins or ends the outbound aliases of a connection. The caller
// holds mu.
func (s *session) setAlias(a *aliases) {
	if a != nil || s.more != nil {
		s.rare().alias = a
	}
}

func (s *session) local() *Subscription {
	if s.more == nil {
		return nil
	}
	return s.more.local
}

func (s *session) alias() *aliases {
	if s.more == nil {
		return nil
	}
	return s.more.alias
}

// due is when a session without connection has its will published, and when it
// ends: Unix nanoseconds, 0: never.
type due struct{ will, end int64 }

const neverExpires = 0xFFFFFFFF

// subscription is one filter of a session.
type subscription struct {
	filter  string // as the client wrote it, $share included
	id      uint32
	options packet.SubOptions
}

func newSession(id string) *session {
	s := &session{id: id}
	s.load.Store(route.Offline)
	return s
}

func (s *session) durable() bool { return s.store != nil }

// wake is the store's word that messages wait: the loop that owns the
// connection fetches them.
func (s *session) wake() {
	if s.ready.Swap(true) {
		return
	}
	s.mu.Lock()
	io := s.io
	s.mu.Unlock()
	if io != nil {
		io.Wake()
	}
}

// rank is how busy a member of a shared subscription is.
func rank(s *session) int { return int(s.load.Load()) }

// setLoad tells shared subscriptions how busy the session is; the caller holds mu.
func (s *session) setLoad() {
	switch {
	case s.ended.Load():
		s.load.Store(route.Never)
	case s.io == nil && s.local() == nil:
		s.load.Store(route.Offline)
	default:
		s.load.Store(int32(s.out.Send.Live() + s.out.Send.Queued()))
	}
}

// find is the subscription with this very filter [MQTT-3.10.4-1], or -1.
func (s *session) find(filter string) int {
	if s.more != nil && s.more.index != nil {
		return s.more.index.find(s.subs, filter)
	}
	for i := range s.subs {
		if s.subs[i].filter == filter {
			return i
		}
	}
	return -1
}

// add appends a subscription whose filter is new. The caller holds mu.
func (s *session) add(x subscription) {
	if len(s.subs) == 0 {
		s.subs = make([]subscription, 0, 1)
	}
	s.subs = append(s.subs, x)
	switch m := s.more; {
	case m != nil && m.index != nil:
		m.index.put(s.subs, len(s.subs)-1)
	case len(s.subs) == indexed:
		s.rare().index = newFilterIndex(s.subs)
	}
}

// remove takes out the subscription at place i. The caller holds mu.
func (s *session) remove(i int) {
	last := len(s.subs) - 1
	if m := s.more; m != nil && m.index != nil {
		m.index.remove(s.subs, i)
		if i != last {
			m.index.move(s.subs, last, i)
		}
	}
	s.subs[i] = s.subs[last]
	s.subs[last] = subscription{}
	s.subs = s.subs[:last]
}

// end discards the session: its subscriptions, what waits in it, and its
// place in the store. Its will is published if it is still there. What came
// through shared subscriptions and was not acknowledged goes to other members.
// Only the owner calls it, with the connection detached.
func (b *Broker) end(t *turn, s *session) {
	s.mu.Lock()
	s.ended.Store(true)
	s.setLoad()
	again, lost := s.unshared()
	s.out = sess.Out{}
	s.mu.Unlock()
	for _, sub := range s.subs {
		if f, err := topic.ParseFilter(sub.filter); err == nil {
			b.table.Forget(f, s, func(s *session) bool { return s.ended.Load() })
		}
	}
	b.fireWill(t, s) // before the store forgets it
	if s.store != nil {
		again = append(again, s.store.End()...)
	}
	for _, m := range lost {
		b.dropped(s, m, DropSessionEnded)
	}
	t.redistribute(s, again)
	s.mu.Lock()
	s.subs = nil
	s.mu.Unlock()
	b.expirer.cancel(s)
	if f := b.opt().Events.SessionEnded; f != nil {
		f(s.id)
	}
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
	for _, sub := range s.subs {
		f, err := topic.ParseFilter(sub.filter)
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
