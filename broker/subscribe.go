package broker

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/myelin-mqtt/myelin/internal/route"
	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/topic"
)

// onSubscribe takes a SUBSCRIBE. [MQTT-3.8.4-1], [MQTT-3.8.4-5]
func (c *conn) onSubscribe(t *turn, b []byte, hdr int) error {
	var p packet.Subscribe
	if err := p.Parse(b, hdr, c.ver); err != nil {
		return c.bad(t, b, err)
	}
	for _, f := range p.Filters {
		if f.Filter == "" { // [MQTT-4.7.3-1]
			return c.fail(t, packet.MalformedPacket, "topic filter is empty")
		}
		if f.Options.NoLocal() && strings.HasPrefix(f.Filter, "$share/") { // [MQTT-3.8.3-4]
			return c.fail(t, packet.ProtocolError, "no local on a shared subscription")
		}
	}
	codes := make([]packet.Reason, len(p.Filters))
	if err := c.fits(t, &packet.Suback{Codes: codes}); err != nil {
		return err
	}
	subs := make([]store.Sub, 0, len(p.Filters))
	var fresh map[string]bool // granted in this packet, where there is a limit
	rules := t.rules()
	for i := range p.Filters {
		f := &p.Filters[i]
		code, d := c.maySubscribe(t, f, fresh)
		if d == Later {
			c.flags |= flagPaused | flagAccess
			return errAgain
		}
		if codes[i] = code; code.Failed() {
			if c.ver == packet.V31 { // its SUBACK has no word for it
				return c.fail(t, code, "subscription to "+strconv.Quote(f.Filter))
			}
			continue
		}
		if t.o.MaxSubscriptions > 0 && c.s.find(f.Filter) < 0 {
			if fresh == nil {
				fresh = map[string]bool{}
			}
			fresh[f.Filter] = true
		}
		subs = append(subs, store.Sub{Filter: f.Filter, ID: p.SubID, Options: f.Options, Owed: c.bringsRetained(f, c.s.find(f.Filter) < 0) && f.Options.QoS() > 0})
	}
	c.logRefused(&p, codes)
	if c.s.store == nil || len(subs) == 0 {
		c.subscribed(t, &p, codes)
		return nil
	}
	return c.call(t, func(tok uint64) bool { return c.s.store.Subscribe(subs, c, tok) }, func(t *turn, err error) error {
		if t.rules() != rules { // what was allowed by others is judged again
			c.signal(sigRejudge)
		}
		return c.storedSubs(t, &p, codes, err)
	})
}

// storedSubs answers a SUBSCRIBE with what the store made of it.
func (c *conn) storedSubs(t *turn, p *packet.Subscribe, codes []packet.Reason, err error) error {
	if err != nil {
		code := packet.UnspecifiedError
		if errors.Is(err, store.ErrQuota) {
			code = packet.QuotaExceeded
		}
		if c.ver == packet.V31 { // its SUBACK has no word for it
			return c.fail(t, code, "subscribe: "+err.Error())
		}
		for i := range codes {
			codes[i] = code
		}
	}
	c.subscribed(t, p, codes)
	return nil
}

// fits ends the connection of a client whose Maximum Packet Size does not let
// it be answered [MQTT-3.1.2-24].
func (c *conn) fits(t *turn, answer interface{ Length(packet.Version) int }) error {
	if most := c.s.maxPacket; most > 0 && answer.Length(c.ver) > int(most) {
		return c.fail(t, packet.PacketTooLarge, "the answer exceeds the client's maximum packet size")
	}
	return nil
}

// logRefused writes one line for a SUBSCRIBE with refused filters, but for those
// that the access rules refuse.
func (c *conn) logRefused(p *packet.Subscribe, codes []packet.Reason) {
	refused, first := 0, 0
	for i, code := range codes {
		if code.Failed() && code != packet.NotAuthorized {
			if refused++; refused == 1 {
				first = i
			}
		}
	}
	if refused > 0 {
		c.b.log.Warn("subscription refused", "client", c.s.id, "address", c.io.RemoteAddr(), "filters", refused,
			"first", p.Filters[first].Filter, "code", codes[first].String())
	}
}

// maySubscribe decides on one filter: the granted QoS, or why it is refused.
// fresh are the new subscriptions that the packet has got already.
func (c *conn) maySubscribe(t *turn, f *packet.Subscription, fresh map[string]bool) (packet.Reason, Decision) {
	filter, err := topic.ParseFilter(f.Filter)
	switch {
	case err != nil, t.o.MaxTopicLevels > 0 && levels(filter.Filter) > t.o.MaxTopicLevels:
		return packet.TopicFilterInvalid, Deny
	case t.o.MaxSubscriptions > 0 && len(c.s.subs())+len(fresh) >= t.o.MaxSubscriptions && c.s.find(f.Filter) < 0 && !fresh[f.Filter]:
		return packet.QuotaExceeded, Deny
	}
	if t.o.Authorizer != nil {
		q := t.question(c.known(), Subscribe, filter.Filter, f.Options.QoS())
		switch t.o.Authorizer.Access(q, q.Client.asked) {
		case Later:
			return 0, Later
		case Deny:
			c.deniedSub(t, f.Filter)
			return packet.NotAuthorized, Deny
		}
		f.Options = lowered(f.Options, q.QoS)
	}
	return packet.Reason(f.Options.QoS()), Allow // [MQTT-3.8.4-7]
}

// subscribed makes granted subscriptions take effect, answers, and begins with
// the retained messages.
func (c *conn) subscribed(t *turn, p *packet.Subscribe, codes []packet.Reason) {
	s := c.s
	var retained []retainedJob
	for i, f := range p.Filters {
		if codes[i].Failed() {
			continue
		}
		filter, _ := topic.ParseFilter(f.Filter) // was checked
		sub := newSubscription(f.Filter, p.SubID, f.Options)
		fresh := c.keepSubscription(sub, filter)
		c.b.table.Subscribe(filter, route.Sub[*session]{To: s, ID: p.SubID, QoS: uint8(f.Options.QoS()), Opts: s.opts(f.Options)}, fresh)
		if c.bringsRetained(&f, fresh) {
			retained = append(retained, retainedJob{filter: filter.Filter, qos: f.Options.QoS(), id: p.SubID})
		}
		if e := t.o.Events.Subscribed; e != nil {
			e(c.info(), f.Filter, f.Options.QoS())
		}
	}
	for i, code := range codes {
		if code.Failed() && c.ver < packet.V5 {
			codes[i] = packet.UnspecifiedError // [MQTT3-3.9.3-2]: 0x80
		}
	}
	a := &t.suback
	*a = packet.Suback{ID: p.ID, Codes: codes} // [MQTT-3.8.4-2], [MQTT-3.8.4-6], [MQTT-3.9.3-1]
	t.own = a.Append(t.own, c.ver)
	t.n.packetsOut++
	t.flush(c)
	for i := range retained {
		c.startRetained(t, &retained[i])
	}
}

// bringsRetained reports whether a subscription, fresh if there was none with
// its filter, brings retained messages. [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11]
func (c *conn) bringsRetained(f *packet.Subscription, fresh bool) bool {
	return !strings.HasPrefix(f.Filter, "$share/") && (f.Options.RetainHandling() == 0 || f.Options.RetainHandling() == 1 && fresh)
}

// keepSubscription remembers a subscription in the session; fresh: the session
// had none with this filter. [MQTT-3.8.4-3]
func (c *conn) keepSubscription(sub subscription, f topic.Filter) (fresh bool) {
	s := c.s
	i := s.find(sub.filter())
	s.mu.Lock()
	defer s.mu.Unlock()
	if i >= 0 {
		s.subs()[i] = sub
		return false
	}
	s.add(sub)
	if f.Share != "" {
		s.shared++
		s.setLoad()
	}
	return true
}

// opts are the bits of a subscription for the table.
func (s *session) opts(o packet.SubOptions) (bits uint8) {
	if o.NoLocal() {
		bits |= route.NoLocal
	}
	if o.RetainAsPublished() {
		bits |= route.RetainAsPublished
	}
	if s.durable() {
		bits |= route.Durable
	}
	return bits
}

// onUnsubscribe takes an UNSUBSCRIBE. Messages on their way are finished.
// [MQTT-3.10.4-2], [MQTT-3.10.4-3], [MQTT-3.10.4-4]
func (c *conn) onUnsubscribe(t *turn, b []byte, hdr int) error {
	var p packet.Unsubscribe
	if err := p.Parse(b, hdr, c.ver); err != nil {
		return c.bad(t, b, err)
	}
	if slices.Contains(p.Filters, "") { // [MQTT-4.7.3-1]
		return c.fail(t, packet.MalformedPacket, "topic filter is empty")
	}
	if err := c.fits(t, &packet.Unsuback{Codes: make([]packet.Reason, len(p.Filters))}); err != nil {
		return err
	}
	if c.s.store == nil {
		c.unsubscribed(t, &p)
		return nil
	}
	return c.call(t, func(tok uint64) bool { return c.s.store.Unsubscribe(p.Filters, c, tok) }, func(t *turn, err error) error {
		if err != nil {
			return c.fail(t, packet.UnspecifiedError, "unsubscribe: "+err.Error())
		}
		c.unsubscribed(t, &p)
		return nil
	})
}

func (c *conn) unsubscribed(t *turn, p *packet.Unsubscribe) {
	s := c.s
	codes := make([]packet.Reason, len(p.Filters))
	for i, name := range p.Filters {
		f, err := topic.ParseFilter(name)
		j := s.find(name) // character by character [MQTT-3.10.4-1]
		switch {
		case err != nil:
			codes[i] = packet.TopicFilterInvalid
			continue
		case j < 0:
			codes[i] = packet.NoSubscriptionExisted
			continue
		}
		c.b.table.Unsubscribe(f, s)
		if f.Share == "" {
			c.jobs.stop(f.Filter)
		}
		s.mu.Lock()
		s.remove(j)
		if f.Share != "" {
			s.shared--
		}
		s.mu.Unlock()
		if e := t.o.Events.Unsubscribed; e != nil {
			e(c.info(), name)
		}
	}
	a := packet.Unsuback{ID: p.ID, Codes: codes} // [MQTT-3.10.4-5], [MQTT-3.11.3-1]
	t.own = a.Append(t.own, c.ver)
	t.n.packetsOut++
}
