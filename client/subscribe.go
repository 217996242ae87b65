package client

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/topic"
)

// subscribed is a filter that a handler has.
type subscribed struct {
	s     Subscription
	name  string // without $share/NAME/
	group *group
}

// group is what was subscribed together: it has one Subscription Identifier.
type group struct {
	id    uint32
	h     Handler
	names []string // the filters, without $share/NAME/
}

// maxSubID is the greatest Subscription Identifier. [MQTT-3.8.2.1.2]
const maxSubID = 268_435_455

// call is a SUBSCRIBE or UNSUBSCRIBE that was not answered.
type call struct {
	kind    packet.Type
	id      uint16 // 0: not sent on this connection
	group   *group // SUBSCRIBE's
	subs    []Subscription
	filters []string
	user    []packet.UserProperty
	quiet   bool // the client asks by itself

	done  chan struct{} // closed when it is answered
	codes []packet.Reason
	err   error
}

func (x *call) end(err error) {
	x.err = err
	close(x.done)
}

// Subscribe asks for the subscriptions, all in one packet, waits for the SUBACK,
// and has h called with their messages. The codes are the server's, one for each:
// the granted QoS, or why not; where one failed, the error is a *SubscribeError,
// and those that were granted stand. A filter that h or another handler has is
// replaced. When the client comes back to a server without its session, it
// subscribes again. Where there is no connection Subscribe waits for the next.
func (c *Client) Subscribe(ctx context.Context, h Handler, subs ...Subscription) ([]packet.Reason, error) {
	if h == nil || len(subs) == 0 {
		return nil, errors.New("subscribe: a handler and a topic filter are needed")
	}
	x := &call{kind: packet.SUBSCRIBE, subs: slices.Clone(subs), group: &group{h: h}, done: make(chan struct{})}
	for _, s := range subs {
		f, err := topic.ParseFilter(s.Filter)
		if err != nil {
			return nil, fmt.Errorf("subscribe to %q: %w", s.Filter, err)
		}
		if s.QoS > 2 || s.RetainHandling > 2 || f.Shared() && s.NoLocal { // [MQTT-3.8.3-4]
			return nil, fmt.Errorf("subscribe to %q: its options are not allowed", s.Filter)
		}
		x.group.names = append(x.group.names, f.Filter)
		x.filters = append(x.filters, s.Filter)
	}
	return c.ask(ctx, x)
}

// Unsubscribe ends subscriptions and waits for the UNSUBACK. Their handlers may
// still be called with what came before it.
func (c *Client) Unsubscribe(ctx context.Context, filters ...string) error {
	if len(filters) == 0 {
		return errors.New("unsubscribe: a topic filter is needed")
	}
	for _, f := range filters {
		if _, err := topic.ParseFilter(f); err != nil {
			return fmt.Errorf("unsubscribe from %q: %w", f, err)
		}
	}
	_, err := c.ask(ctx, &call{kind: packet.UNSUBSCRIBE, filters: slices.Clone(filters), done: make(chan struct{})})
	return err
}

// ask sends a call, now or when there is a connection, and waits for its answer.
func (c *Client) ask(ctx context.Context, x *call) ([]packet.Reason, error) {
	c.mu.Lock()
	if c.ended || c.leaving {
		defer c.mu.Unlock()
		return nil, c.closedError()
	}
	if x.group != nil {
		c.lastSub = c.lastSub%maxSubID + 1
		x.group.id = c.lastSub
	}
	c.calls = append(c.calls, x)
	if c.link != nil {
		c.sendCall(c.link, x)
	}
	c.mu.Unlock()
	c.blocks(1)
	defer c.blocks(-1)
	select {
	case <-x.done:
		return x.codes, x.err
	case <-ctx.Done():
		c.mu.Lock()
		defer c.mu.Unlock()
		if x.id == 0 { // it will not be asked
			c.calls = slices.DeleteFunc(c.calls, func(y *call) bool { return y == x })
		}
		return nil, fmt.Errorf("wait for the answer to %s: %w", x.kind, context.Cause(ctx))
	}
}

// sendCall sends a call on the connection, or ends it where the server said that
// it has no such thing; mu is held.
func (c *Client) sendCall(l *link, x *call) {
	err := x.allowed(l)
	if err == nil {
		c.passTaken()
		if x.id = c.snd.Skip(); x.id == 0 {
			err = errors.New("no packet identifier is free")
		}
	}
	var p packet.Packet
	if err == nil {
		p = x.packet(l)
		if n := p.Length(l.version); n > packet.MaxSize || l.maxPacket > 0 && n > int(l.maxPacket) {
			err = ErrTooLong
		}
	}
	if err != nil {
		c.endCall(x, fmt.Errorf("send %s: %w", x.kind, err))
		return
	}
	if c.sent == nil {
		c.sent = make(map[uint16]*call)
	}
	c.sent[x.id] = x
	if x.kind == packet.SUBSCRIBE {
		c.subscribe(x) // messages may come before the SUBACK [MQTT-3.8.4-2]
	}
	c.out = p.Append(c.grow(), l.version)
	c.stats.PacketsOut++
}

func (x *call) packet(l *link) packet.Packet {
	if x.kind == packet.UNSUBSCRIBE {
		return &packet.Unsubscribe{ID: x.id, Filters: x.filters, User: x.user}
	}
	p := &packet.Subscribe{ID: x.id, User: x.user}
	if a := l.ack.SubIDAvailable; l.version >= packet.V5 && (a == nil || *a) {
		p.SubID = x.group.id
	}
	for _, s := range x.subs {
		o := packet.SubOptions(s.QoS)
		if l.version >= packet.V5 {
			if s.NoLocal {
				o |= packet.NoLocal
			}
			if s.RetainAsPublished {
				o |= packet.RetainAsPublished
			}
			o |= packet.SubOptions(s.RetainHandling) << packet.RetainHandlingShift
		}
		p.Filters = append(p.Filters, packet.Subscription{Filter: s.Filter, Options: o})
	}
	return p
}

// allowed judges a call by what the server said.
func (x *call) allowed(l *link) error {
	no := func(p *bool) bool { return p != nil && !*p }
	for _, f := range x.filters {
		p, _ := topic.ParseFilter(f)
		if x.kind == packet.SUBSCRIBE && (p.Shared() && no(l.ack.SharedAvailable) || p.Wildcard() && no(l.ack.WildcardAvailable)) {
			return fmt.Errorf("%q: %w", f, ErrUnsupported)
		}
	}
	return nil
}

// endCall ends a call; mu is held.
func (c *Client) endCall(x *call, err error) {
	c.calls = slices.DeleteFunc(c.calls, func(y *call) bool { return y == x })
	delete(c.sent, x.id)
	if x.quiet && err != nil {
		c.log.Error("cannot subscribe again", "err", err)
	}
	x.end(err)
}

// subscribe gives the filters of a call to its handler; mu is held.
func (c *Client) subscribe(x *call) {
	if c.filters == nil {
		c.filters, c.groups = make(map[string]*subscribed), make(map[uint32]*group)
	}
	c.groups[x.group.id] = x.group
	for i, s := range x.subs {
		if c.filters[s.Filter] != nil && c.filters[s.Filter].group == x.group {
			continue
		}
		c.unsubscribe(s.Filter)
		f := &subscribed{s, x.group.names[i], x.group}
		c.filters[s.Filter] = f
		all, _ := c.tree.Get(f.name)
		c.tree.Set(f.name, append(slices.Clip(all), f))
	}
}

// unsubscribe takes a filter from its handler; mu is held.
func (c *Client) unsubscribe(filter string) {
	f := c.filters[filter]
	if f == nil {
		return
	}
	delete(c.filters, filter)
	all, _ := c.tree.Get(f.name)
	all = slices.DeleteFunc(slices.Clone(all), func(g *subscribed) bool { return g == f })
	if len(all) == 0 {
		c.tree.Delete(f.name)
	} else {
		c.tree.Set(f.name, all)
	}
	for _, g := range c.filters {
		if g.group == f.group {
			return
		}
	}
	delete(c.groups, f.group.id)
}

// onSuback ends a SUBSCRIBE; mu is held.
func (c *Client) onSuback(l *link, b []byte, hdr int) error {
	var p packet.Suback
	if err := p.Parse(b, hdr, l.version); err != nil {
		return err
	}
	x := c.sent[p.ID]
	if x == nil || x.kind != packet.SUBSCRIBE {
		return &packet.Error{Code: packet.ProtocolError, Text: "no SUBSCRIBE has its packet identifier"}
	}
	if len(p.Codes) != len(x.subs) { // [MQTT-3.8.4-6]
		return &packet.Error{Code: packet.ProtocolError, Text: "it has not one code for each filter"}
	}
	x.codes = p.Codes
	var err error
	for i, code := range p.Codes {
		if code.Failed() {
			err = &SubscribeError{packet.SUBACK, x.filters, p.Codes, p.ReasonString}
			if f := c.filters[x.filters[i]]; f != nil && f.group == x.group {
				c.unsubscribe(x.filters[i])
			}
		}
	}
	c.endCall(x, err)
	return nil
}

// onUnsuback ends an UNSUBSCRIBE; mu is held.
func (c *Client) onUnsuback(l *link, b []byte, hdr int) error {
	var p packet.Unsuback
	if err := p.Parse(b, hdr, l.version); err != nil {
		return err
	}
	x := c.sent[p.ID]
	if x == nil || x.kind != packet.UNSUBSCRIBE {
		return &packet.Error{Code: packet.ProtocolError, Text: "no UNSUBSCRIBE has its packet identifier"}
	}
	if l.version >= packet.V5 && len(p.Codes) != len(x.filters) { // [MQTT-3.11.3-2]
		return &packet.Error{Code: packet.ProtocolError, Text: "it has not one code for each filter"}
	}
	x.codes = p.Codes
	var err error
	for i, f := range x.filters {
		if i < len(p.Codes) && p.Codes[i].Failed() {
			err = &SubscribeError{packet.UNSUBACK, x.filters, p.Codes, p.ReasonString}
			continue
		}
		c.unsubscribe(f)
	}
	c.endCall(x, err)
	return nil
}

// askAgain sends what was not answered, and where the server has no session, what
// was subscribed in the last one; mu is held.
func (c *Client) askAgain(l *link, lost bool) {
	calls := slices.Clone(c.calls)
	for _, x := range calls {
		x.id = 0
	}
	if lost {
		asked := map[string]bool{}
		for _, x := range calls {
			for _, f := range x.filters {
				asked[f] = true
			}
		}
		for _, g := range c.groups {
			x := &call{kind: packet.SUBSCRIBE, group: g, quiet: true, done: make(chan struct{})}
			names := g.names
			g.names = nil
			for _, f := range c.filters {
				if f.group == g && !asked[f.s.Filter] {
					x.subs, x.filters = append(x.subs, f.s), append(x.filters, f.s.Filter)
					g.names = append(g.names, f.name)
				}
			}
			if len(x.subs) == 0 {
				g.names = names
				continue
			}
			c.calls = append(c.calls, x)
			c.sendCall(l, x)
		}
	}
	for _, x := range calls {
		c.sendCall(l, x)
	}
}

// route finds the handlers of a message; mu is held.
func (c *Client) route(a *arrival) {
	var groups [4]*group
	found := groups[:0]
	add := func(g *group) {
		if slices.Contains(found, g) {
			return
		}
		if found = append(found, g); len(found) == 1 {
			a.h = g.h
		} else {
			a.more = append(a.more, g.h)
		}
	}
	for _, id := range a.m.SubscriptionIDs {
		// Another program may have given the identifier in this session before.
		if g := c.groups[id]; g != nil && slices.ContainsFunc(g.names, func(f string) bool { return topic.Match(f, a.m.Topic) }) {
			add(g)
		}
	}
	if len(found) > 0 {
		return
	}
	for _, all := range c.tree.Matching(a.m.Topic) {
		for _, f := range all {
			add(f.group)
		}
	}
}
