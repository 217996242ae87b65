package broker

import (
	"github.com/myelin-mqtt/myelin/internal/route"
	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/topic"
)

// Rejudge has the Authorizer judge every subscription, and every will, of the
// clients that are connected, after its rules have changed. Those that it denies
// now are removed, with a log line, and what waits for them is not delivered.
// The clients that are away are judged when they come back. Rejudge does not
// wait for the end of it.
func (b *Broker) Rejudge() {
	if b.opt().Authorizer == nil {
		return
	}
	b.registry.each(func(c *conn) { c.signal(sigRejudge) })
}

// known describes the client for who may remember it.
func (c *conn) known() *Client {
	if c.client == nil || c.client.asked == nil {
		i := *c.info()
		i.asked = func() { c.signal(sigAccess) }
		c.client = &i
	}
	return c.client
}

// question is one for the Authorizer. It is overwritten by the next.
func (t *turn) question(who *Client, a Action, name string, q packet.QoS) *AccessRequest {
	t.access = AccessRequest{Client: who, Action: a, Topic: name, QoS: q}
	return &t.access
}

// rule is what decided on the last question, for a person.
func (t *turn) rule() string {
	if t.access.Rule == "" {
		return "the access rules"
	}
	return t.access.Rule
}

// rules is the epoch of the access rules.
func (t *turn) rules() uint32 {
	if t.o.Authorizer == nil {
		return 0
	}
	return t.o.Authorizer.Epoch()
}

// lowered are options with the quality of service that was granted.
func lowered(o packet.SubOptions, q packet.QoS) packet.SubOptions {
	if q < o.QoS() {
		return o&^3 | packet.SubOptions(q)
	}
	return o
}

// revoked is what one judgement took from a session.
type revoked struct {
	filter string
	rule   string
	sub    subscription
	low    bool // the quality of service alone
}

// judge asks the Authorizer for the subscriptions of a session that this
// connection owns, and takes away what it denies. false: an answer comes later,
// with a call of done.
func (c *conn) judge(t *turn, s *session, done func()) bool {
	a := t.o.Authorizer
	if a == nil {
		return true
	}
	var taken []revoked
	subs := s.subs()
	for i := range subs {
		x := &subs[i]
		f, err := topic.ParseFilter(x.filter())
		if x.text == nil || err != nil {
			continue
		}
		q := t.question(c.known(), Subscribe, f.Filter, x.options.QoS())
		switch a.Access(q, done) {
		case Later:
			return false
		case Deny:
			taken = append(taken, revoked{filter: x.filter(), rule: q.Rule, sub: *x})
		case Allow:
			if low := lowered(x.options, q.QoS); low != x.options {
				taken = append(taken, revoked{filter: x.filter(), rule: q.Rule, low: true, sub: newSubscription(x.filter(), x.id, low)})
			}
		}
	}
	if len(taken) > 0 {
		c.revoke(t, s, taken)
	}
	return true
}

// revoke takes subscriptions from a session, or their quality of service. What
// the store cannot take away now is judged when the session is resumed.
func (c *conn) revoke(t *turn, s *session, taken []revoked) {
	jobs := c.jobs
	if c.s == nil && s.active != nil {
		jobs = s.jobs
	}
	var gone []string
	var low []store.Sub
	for _, x := range taken {
		f, _ := topic.ParseFilter(x.filter) // was parsed
		if x.low {
			c.lower(s, f, x)
			low = append(low, store.Sub{Filter: x.filter, ID: x.sub.id, Options: x.sub.options})
		} else {
			gone = append(gone, x.filter)
			c.b.table.Unsubscribe(f, s)
			if f.Share == "" {
				jobs.stop(f.Filter)
			}
			s.mu.Lock()
			s.remove(s.find(x.filter))
			if s.active != nil {
				s.strict = true
				if f.Share != "" && s.shared > 0 {
					s.shared--
				}
			}
			s.mu.Unlock()
			c.b.stats.revoked.Add(1)
			if e := t.o.Events.Unsubscribed; e != nil {
				e(c.info(), x.filter)
			}
		}
	}
	if s.store != nil && len(gone) > 0 {
		s.store.Unsubscribe(gone, nobody{}, 0)
	}
	if s.store != nil && len(low) > 0 {
		s.store.Subscribe(low, nobody{}, 0)
	}
	c.b.log.Warn("subscriptions revoked", "client", s.id, "user", c.known().Username, "address", c.io.RemoteAddr(),
		"filters", len(gone), "lower_qos", len(low), "first", taken[0].filter, "rule", taken[0].rule)
}

// lower grants a subscription less than before.
func (c *conn) lower(s *session, f topic.Filter, x revoked) {
	i := s.find(x.filter)
	s.mu.Lock()
	s.subs()[i] = x.sub
	s.mu.Unlock()
	c.b.table.Subscribe(f, route.Sub[*session]{To: s, ID: x.sub.id, QoS: uint8(x.sub.options.QoS()), Opts: s.opts(x.sub.options)}, false)
}

// rejudge judges what the client has on a connection that stands: its
// subscriptions and its will.
func (c *conn) rejudge(t *turn) {
	a := t.o.Authorizer
	if a == nil {
		return
	}
	again := func() { c.signal(sigRejudge) } // an answer that came late: from the beginning
	if w := c.s.lastWill(); w != nil {
		q := t.question(c.known(), Publish, string(w.Msg.Topic()), w.Msg.QoS())
		q.Retain = w.Msg.Retain()
		switch a.Access(q, again) {
		case Later:
			return
		case Deny:
			c.s.setWill(nil)
			c.b.stats.deniedPubs.Add(1)
			c.b.log.Warn("will revoked", "client", c.s.id, "address", c.io.RemoteAddr(), "topic", string(w.Msg.Topic()), "rule", t.rule())
		}
	}
	c.judge(t, c.s, again)
}

// wants reports whether a subscription of the session matches a message that
// waits. The caller holds s.mu.
func (t *turn) wants(s *session, m *packet.Publish) bool {
	name := string(m.Topic())
	subs := s.subs()
	if len(subs) <= indexed {
		for i := range subs {
			if f, err := topic.ParseFilter(subs[i].filter()); err == nil && topic.Match(f.Filter, name) {
				return true
			}
		}
		return false
	}
	if t.matches == nil {
		t.matches = new(topic.Tree[struct{}])
		for i := range subs {
			if f, err := topic.ParseFilter(subs[i].filter()); err == nil {
				t.matches.Set(f.Filter, struct{}{})
			}
		}
	}
	for range t.matches.Matching(name) {
		return true
	}
	return false
}

// looked is called at the end of a pump: where nothing waits any more, what
// comes was routed by the subscriptions as they are. The caller holds s.mu.
func (t *turn) looked(s *session) {
	t.matches = nil
	if s.strict && !s.stored && s.out.Send.Queued() == 0 && !s.out.Send.Pending() {
		s.strict = false
	}
}

// deniedSub counts a subscription that the access rules refuse, and logs the
// first of a connection.
func (c *conn) deniedSub(t *turn, filter string) {
	c.b.stats.deniedSubs.Add(1)
	const bit = 1 << 31 // none of dropReasons
	if c.s.told.Or(bit)&bit == 0 {
		c.b.log.Warn("subscription denied; more of this client are only counted", "client", c.s.id, "user", c.known().Username,
			"address", c.io.RemoteAddr(), "filter", filter, "rule", t.rule())
	}
}
