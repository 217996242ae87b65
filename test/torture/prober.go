package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// prober sees whether subscriptions come and go as acknowledged. Its one session takes a new subscription and gives up
// the old one, again and again: with an UNSUBSCRIBE, with a DISCONNECT that ends the session, or with a CONNECT that
// begins a new one. After each restart it publishes to both topics.
type prober struct {
	client
	filter  string // the subscription that was acknowledged; "": none yet
	removed string // the last one whose end was acknowledged
	leaving string // the one that the CONNECT under way ends
	n       int
	probes  int // subscriptions that were seen to work after a restart
	ends    int // sessions whose end was acknowledged
	tried   int // the round of the last probe
	endedIn int // the round in which a session was ended last
	id      uint16
}

func (p *prober) run(ctx context.Context) {
	p.tried, p.endedIn = -1, -1
	for {
		round, ok := p.w.running(ctx)
		if !ok {
			return
		}
		clean := p.clean
		l, ack := p.connect(ctx, round, nil)
		if l == nil {
			pause(ctx, time.Millisecond)
			continue
		}
		if !ack.SessionPresent {
			p.filter = ""
		}
		if clean {
			p.removed = p.leaving
			p.ends++
		}
		p.ended(ctx, round, p.session(l, round))
		l.close()
	}
}

// session does on one connection what there is to do, and then waits for its end.
func (p *prober) session(l *link, round int) error {
	if p.filter != "" && p.tried != round {
		if err := p.probe(l, round); err != nil {
			return err
		}
	}
	if _, _, final, _ := p.w.look(); !final {
		if p.filter != "" && p.endedIn != round && p.n%3 != 0 {
			p.endedIn = round
			return p.end(l, round)
		}
		if err := p.move(l); err != nil {
			return err
		}
	}
	return l.read(time.Time{}, func(got packet.Packet) (bool, error) { return true, p.other(l, got) })
}

// probe publishes to the topic that is not subscribed to any more, then to the one that is, and waits for the latter.
func (p *prober) probe(l *link, round int) error {
	body := fmt.Sprintf("%d", round)
	for _, topic := range []string{p.removed, p.filter} {
		if topic != "" {
			m := &packet.Message{Topic: topic, QoS: packet.AtLeastOnce, Payload: []byte(body)}
			l.publish(m, packet.PublishOpts{QoS: m.QoS, ID: p.nextID()})
		}
	}
	acks := 0
	err := l.read(time.Now().Add(patience), func(got packet.Packet) (bool, error) {
		if a, ok := got.(*packet.Ack); ok && a.Kind == packet.PUBACK {
			acks++
			return true, nil
		}
		m, ok := got.(*packet.Publish)
		mine := ok && string(m.Topic()) == p.filter && string(m.Payload()) == body
		return !mine, p.other(l, got)
	})
	switch {
	case err == nil:
		p.tried = round
		p.probes++
	case errors.Is(err, os.ErrDeadlineExceeded):
		p.w.ledger.note(subscribed, "%s has subscribed to %s, and what was sent there (%d acknowledgements) does not come", p.client.id, p.filter, acks)
	}
	return err
}

// end ends the session with a DISCONNECT, or sees to it that the next CONNECT does.
func (p *prober) end(l *link, round int) error {
	old := p.filter
	// Until the end is confirmed, nothing is known of session and subscription.
	p.filter, p.removed, p.established = "", "", false
	if p.n%3 == 1 {
		p.clean, p.leaving = true, old
		return errLeft
	}
	l.send(&packet.Disconnect{HasSessionExpiry: true})
	err := l.read(time.Now().Add(patience), func(got packet.Packet) (bool, error) { return true, p.other(l, got) })
	if errors.Is(err, io.EOF) && p.w.alive(round) {
		// Nobody has killed the broker yet: it is the answer to the DISCONNECT.
		p.over, p.removed = true, old
		p.ends++
		return errLeft
	}
	return err
}

// move subscribes to a new topic and gives up the old one.
func (p *prober) move(l *link) error {
	p.n++
	next := fmt.Sprintf("torture/probe/%d", p.n)
	sub := &packet.Subscribe{ID: p.nextID(), Filters: []packet.Subscription{{Filter: next, Options: packet.SubOptions(packet.AtLeastOnce)}}}
	l.send(sub)
	if err := p.await(l, packet.SUBACK); err != nil {
		return err
	}
	old := p.filter
	p.filter = next
	if old == "" {
		return nil
	}
	l.send(&packet.Unsubscribe{ID: p.nextID(), Filters: []string{old}})
	if err := p.await(l, packet.UNSUBACK); err != nil {
		return err
	}
	p.removed = old
	return nil
}

// await reads up to the packet of this type.
func (p *prober) await(l *link, kind packet.Type) error {
	return l.read(time.Now().Add(patience), func(got packet.Packet) (bool, error) {
		if got.Type() == kind {
			return false, nil
		}
		return true, p.other(l, got)
	})
}

// other takes what comes besides: acknowledgements of probes, and messages, of which none may be of the topic that is
// given up.
func (p *prober) other(l *link, got packet.Packet) error {
	switch got := got.(type) {
	case *packet.Ack:
		return nil
	case *packet.Publish:
		if topic := string(got.Topic()); topic == p.removed {
			p.w.ledger.note(subscribed, "%s has given up %s, and got a message from there", p.client.id, topic)
		}
		if got.QoS() != packet.AtMostOnce {
			l.sendAck(packet.PUBACK, got.ID)
		}
		return nil
	}
	return unexpected(got)
}

func (p *prober) nextID() uint16 {
	p.id = p.id%60000 + 1
	return p.id
}

// mourner leaves a will in each round: a session of its own, which is connected when the broker is killed and never
// comes back, so that its will must be published after the restart.
type mourner struct {
	w      *world
	stream int
	topic  string
	wills  int // acknowledged, and due
}

func (m *mourner) run(ctx context.Context) {
	for n := 0; ; n++ {
		round, ok := m.w.running(ctx)
		if _, _, final, _ := m.w.look(); !ok || final {
			return
		}
		c := &client{w: m.w, id: fmt.Sprintf("mourner-%d", n), v: packet.V5}
		will := &packet.Will{}
		if n%2 == 1 {
			c.v = packet.V311
		} else if n%4 == 2 {
			will.Delay = 1
		}
		seq := m.w.ledger.send(m.stream)
		will.Message = packet.Message{Topic: m.topic, QoS: packet.ExactlyOnce, Payload: appendBody(nil, m.stream, seq, 64)}
		l, _ := c.connect(ctx, round, will)
		if l == nil {
			pause(ctx, time.Millisecond)
			continue
		}
		err := l.read(time.Time{}, func(got packet.Packet) (bool, error) { return true, unexpected(got) })
		c.ended(ctx, round, err)
		l.close()
		if ctx.Err() == nil {
			m.w.ledger.ack(m.stream, seq)
			m.wills++
		}
	}
}
