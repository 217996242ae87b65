package broker

import (
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
	subs := make([]store.Sub, 0, len(p.Filters))
	for i, f := range p.Filters {
		code, d := c.maySubscribe(t, &f)
		if d == Later {
			c.flags |= flagPaused
			return errAgain
		}
		if codes[i] = code; code.Failed() {
			if c.ver == packet.V31 { // its SUBACK has no word for it
				return c.fail(t, code, "subscription to "+strconv.Quote(f.Filter))
			}
			c.b.log.Warn("subscription refused", "client", c.s.id, "address", c.io.RemoteAddr(), "filter", f.Filter, "code", codeText(code))
			continue
		}
		subs = append(subs, store.Sub{Filter: f.Filter, ID: p.SubID, Options: f.Options})
	}
	if c.s.store == nil || len(subs) == 0 {
		c.subscribed(t, &p, codes)
		return nil
	}
	return c.call(t, func(tok uint64) bool { return c.s.store.Subscribe(subs, c, tok) }, func(t *turn, err error) error {
		if err != nil {
			for i := range codes {
				codes[i] = packet.UnspecifiedError
			}
		}
		c.subscribed(t, &p, codes)
		return nil
	})
}

// maySubscribe decides on one filter: the granted QoS, or why it is refused.
func (c *conn) maySubscribe(t *turn, f *packet.Subscription) (packet.Reason, Decision) {
	filter, err := topic.ParseFilter(f.Filter)
	switch {
	case err != nil, t.o.MaxTopicLevels > 0 && levels(filter.Filter) > t.o.MaxTopicLevels:
		return packet.TopicFilterInvalid, Deny
	case t.o.MaxSubscriptions > 0 && len(c.s.subs) >= t.o.MaxSubscriptions && c.s.find(f.Filter) < 0:
		return packet.QuotaExceeded, Deny
	}
	if a := t.o.Authorizer; a != nil {
		c.client = c.info()
		q := AccessRequest{Client: c.client, Action: Subscribe, Topic: filter.Filter, QoS: f.Options.QoS()}
		switch a.Access(&q, func() { c.signal(sigAccess) }) {
		case Later:
			return 0, Later
		case Deny:
			return packet.NotAuthorized, Deny
		}
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
		sub := subscription{filter: f.Filter, id: p.SubID, options: f.Options}
		fresh := c.keepSubscription(sub, filter)
		c.b.table.Subscribe(filter, route.Sub[*session]{To: s, ID: p.SubID, QoS: uint8(f.Options.QoS()), Opts: s.opts(f.Options)}, fresh)
		if filter.Share == "" && (f.Options.RetainHandling() == 0 || f.Options.RetainHandling() == 1 && fresh) { // [MQTT-3.3.1-9..11]
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

// keepSubscription remembers a subscription in the session; fresh: the session
// had none with this filter. [MQTT-3.8.4-3]
func (c *conn) keepSubscription(sub subscription, f topic.Filter) (fresh bool) {
	s := c.s
	i := s.find(sub.filter)
	s.mu.Lock()
	defer s.mu.Unlock()
	if i >= 0 {
		s.subs[i] = sub
		return false
	}
	if len(s.subs) == 0 {
		s.subs = make([]subscription, 0, 1)
	}
	s.subs = append(s.subs, sub)
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
		s.mu.Lock()
		last := len(s.subs) - 1
		s.subs[j] = s.subs[last]
		s.subs[last] = subscription{}
		s.subs = s.subs[:last]
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

// retainedJob delivers the retained messages of one new subscription, a
// portion a turn, so that live traffic goes on.
type retainedJob struct {
	filter string
	qos    packet.QoS
	id     uint32
	cursor *route.Cursor[*packet.Publish]
	wait   []*packet.Publish // taken from the cursor, not delivered yet
	over   bool              // the cursor is at its end
	next   *retainedJob
}

const (
	retainedNodes = 512       // of the index, looked at in one turn
	retainedRoom  = 256 << 10 // bytes of the out-queue above which delivery waits
	retainedAhead = 256       // messages in the store's queue above which it waits
)

// startRetained begins with the retained messages of a subscription.
// [MQTT-3.3.1-9]
func (c *conn) startRetained(t *turn, j *retainedJob) {
	if strings.HasPrefix(j.filter, "$SYS") {
		j.cursor = c.b.sys.Cursor(j.filter)
	} else {
		j.cursor = c.b.store.Retained(j.filter)
	}
	last := &c.jobs
	for *last != nil {
		last = &(*last).next
	}
	*last = j
	if c.jobs == j {
		c.retained(t)
	}
}

// retained goes on with the retained messages as far as there is room. It is
// called again when the out-queue is empty, or the window has room, or, where
// only the portion is over, in the next turn.
func (c *conn) retained(t *turn) {
	for c.jobs != nil {
		j := c.jobs
		fetched := false
		if len(j.wait) == 0 && !j.over {
			fetched = true
			j.over = !j.cursor.Next(retainedNodes, func(_ string, m *packet.Publish) bool {
				j.wait = append(j.wait, m)
				return true
			})
		}
		for i, m := range j.wait {
			if !c.retainedRoom(j, m) {
				j.wait = append(j.wait[:0:0], j.wait[i:]...)
				return
			}
			c.sendRetained(t, j, m)
		}
		clear(j.wait)
		j.wait = j.wait[:0]
		switch {
		case !j.over && fetched:
			c.io.Wake() // others come first
			return
		case j.over:
			c.jobs = j.next
		}
	}
}

// retainedRoom tells whether the client can take one more retained message
// now; if not, it is seen to that retained is called again.
func (c *conn) retainedRoom(j *retainedJob, m *packet.Publish) bool {
	s := c.s
	if j.qos == 0 || m.QoS() == 0 {
		if c.io.Queued() > retainedRoom {
			c.io.NotifyDrained()
			return false
		}
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store != nil {
		n, _ := s.store.Queued()
		return n < retainedAhead || s.out.Send.Live() == 0
	}
	return s.out.Send.Queued() == 0 && (s.out.Send.Room() > 0 || s.out.Send.Live() == 0)
}

// sendRetained sends one retained message with RETAIN set [MQTT-3.3.1-8].
func (c *conn) sendRetained(t *turn, j *retainedJob, m *packet.Publish) {
	left, expired := m.Left(t.now)
	if expired { // [MQTT-3.3.2-5]
		c.b.store.Forget(m)
		return
	}
	t.enc.Reset(m, left)
	t.expiry = left
	sub := route.Sub[*session]{To: c.s, ID: j.id, QoS: uint8(j.qos), Opts: route.RetainAsPublished}
	if c.s.store != nil && j.qos > 0 && m.QoS() > 0 {
		t.targets = t.targets[:0]
		t.target(&sub, nil, m)
		if _, err := c.b.store.Publish(m, t.targets, store.Inbound{Again: true}, nobody{}, 0); err != nil {
			c.b.dropped(c.s, m, DropQueueFull)
		}
		return
	}
	t.deliver(&sub, nil, m, m, 0)
}
