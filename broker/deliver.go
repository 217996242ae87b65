package broker

import (
	"fmt"

	"github.com/myelin-mqtt/myelin/internal/qos"
	"github.com/myelin-mqtt/myelin/internal/route"
	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/transport"
	"github.com/myelin-mqtt/myelin/packet"
)

// form is how one session gets a message.
type form struct {
	qos    packet.QoS
	retain bool
	dup    bool
	id     uint16
	sub    uint32          // the one subscription identifier, 0: none
	more   *[]uint32       // where there are several
	kept   *packet.Publish // the message where it is kept: its payload may be queued by reference
}

// deliver hands a message to one session that the store does not serve. t.enc
// was Reset with p. false: the session is not there.
func (t *turn) deliver(sub *route.Sub[*session], more []uint32, p, kept *packet.Publish, flags uint8) bool {
	s := sub.To
	f := form{qos: min(p.QoS(), packet.QoS(sub.QoS)), sub: sub.ID, kept: kept} // [MQTT-3.8.4-8]
	f.retain = p.Retain() && sub.Opts&route.RetainAsPublished != 0             // [MQTT-3.3.1-12], [MQTT-3.3.1-13]
	if len(more) > 1 {
		f.more = several(more)
	}
	s.mu.Lock()
	if !s.there() {
		s.mu.Unlock()
		return false
	}
	lost := t.deliverLocked(s, p, &f, flags)
	s.mu.Unlock()
	lost.report(t.b, s)
	return true
}

// loss is what a delivery cost: n messages like m.
type loss struct {
	m   *packet.Publish
	why DropReason
	n   int
}

// report counts a loss; the caller holds no session's lock.
func (l loss) report(b *Broker, s *session) {
	for range l.n {
		b.dropped(s, l.m, l.why)
	}
}

// deliverLocked is deliver to a session that is there. The caller holds s.mu.
func (t *turn) deliverLocked(s *session, p *packet.Publish, f *form, flags uint8) loss {
	if s.io == nil {
		if !s.local.put(p) {
			return loss{p, DropSubscriber, 1}
		}
		return loss{}
	}
	if f.qos == 0 {
		switch {
		case s.io.Queued() > t.o.MaxOutboundBytes:
			return loss{p, DropSlow, 1}
		case !t.send(s, p, f):
			return loss{p, DropTooLarge, 1}
		}
		return loss{}
	}
	x := qos.Slot{Msg: f.kept, Sub: f.sub, More: f.more, QoS: f.qos, Flags: flags}
	if f.retain {
		x.Flags |= qos.Retain
	}
	l := t.b.held.limits(t.o, s)
	d := s.out.Deliver(x, &l)
	if d.ID == 0 || s.heldN != 0 {
		t.b.held.weigh(s)
	}
	lost := loss{d.Dropped, DropQueueFull, d.Drops}
	if f.id = d.ID; f.id != 0 && !t.send(s, p, f) {
		s.out.Send.Drop(f.id) // [MQTT-3.1.2-25]
		lost = loss{p, DropTooLarge, 1}
	}
	if s.shared > 0 {
		s.setLoad()
	}
	return lost
}

// several makes a place for subscription identifiers that outlives the call.
func several(ids []uint32) *[]uint32 { return &ids }

// send puts one PUBLISH into the out-queue of a connected session. t.enc was
// Reset with p, and the caller holds s.mu: the packet identifier and the bytes
// go in under one hold of it, so that nothing overtakes. false: the packet
// exceeds the client's Maximum Packet Size [MQTT-3.1.2-24].
func (t *turn) send(s *session, p *packet.Publish, f *form) bool {
	payload := p.Payload()
	if s.ver < packet.V5 || f.sub == 0 && f.more == nil && s.alias == nil {
		head, at := t.enc.Head(packet.FormOf(s.ver, f.qos))
		if s.maxPacket != 0 && len(head)+len(payload) > int(s.maxPacket) {
			return false
		}
		t.head = append(t.head[:0], head...)
		packet.PatchFlags(t.head, f.qos, f.retain, f.dup)
		if at != 0 {
			packet.PatchID(t.head, at, f.id)
		}
	} else if !t.ownHead(s, p, f) {
		return false
	}
	if f.kept != nil && len(payload) >= byRef {
		s.io.AppendRef(t.tt, t.head, f.kept.Payload())
	} else {
		s.io.Append2(t.tt, t.head, payload)
	}
	t.n.packetsOut++
	t.n.pubOut[f.qos]++
	t.n.pubBytesOut += uint64(len(payload))
	return true
}

// ownHead encodes the head for one session alone: subscription identifiers
// [MQTT-3.3.4-4] and a topic alias [MQTT-3.3.2-11].
func (t *turn) ownHead(s *session, p *packet.Publish, f *form) bool {
	o := packet.PublishOpts{QoS: f.qos, Retain: f.retain, Dup: f.dup, ID: f.id, Expiry: t.expiry, NoPayload: true}
	switch {
	case f.more != nil:
		o.SubIDs = *f.more
	case f.sub != 0:
		t.id[0] = f.sub
		o.SubIDs = t.id[:]
	}
	var fresh bool
	alias := s.alias
	if alias != nil && s.ver >= packet.V5 {
		o.Alias, fresh = alias.find(p.Topic())
		o.OmitTopic = o.Alias != 0 && !fresh
	}
	if s.maxPacket != 0 && packet.SizePublish(p, s.ver, o) > int(s.maxPacket) {
		if o.Alias == 0 || !fresh {
			return false
		}
		if o.Alias, fresh = 0, false; packet.SizePublish(p, s.ver, o) > int(s.maxPacket) {
			return false
		}
	}
	if fresh {
		alias.add(p.Topic())
	}
	t.head = packet.AppendPublish(t.head[:0], p, s.ver, o)
	return true
}

// aliases are the topic aliases that the broker assigned on one connection:
// the first topics that came get them.
type aliases struct {
	max uint16
	m   map[string]uint16
}

// find is the alias of a topic, and whether it is one to be assigned now;
// 0: there is none left.
func (a *aliases) find(name []byte) (alias uint16, fresh bool) {
	if alias, ok := a.m[string(name)]; ok {
		return alias, false
	}
	if n := len(a.m); n < int(a.max) && len(name) > 2 {
		return uint16(n + 1), true
	}
	return 0, false
}

func (a *aliases) add(name []byte) {
	if a.m == nil {
		a.m = map[string]uint16{}
	}
	a.m[string(name)] = uint16(len(a.m) + 1)
}

// pump sends what waits for the session as far as its window has room: what
// an earlier connection did not finish, then the queue, then the store's.
func (t *turn) pump(s *session) {
	var lost []lostMessage
	s.mu.Lock()
	if s.conn() != nil {
		lost = t.pumpWindow(s, lost)
		if s.store != nil {
			lost = t.pumpStore(s, lost)
		}
		if s.shared > 0 {
			s.setLoad()
		}
		t.looked(s)
	}
	s.mu.Unlock()
	for _, l := range lost {
		t.b.dropped(s, l.m, l.why)
	}
}

type lostMessage struct {
	m   *packet.Publish
	why DropReason
}

// pumpWindow sends again, and sends what was queued. The caller holds s.mu.
func (t *turn) pumpWindow(s *session, lost []lostMessage) []lostMessage {
	for {
		id, x, ok := s.out.Send.Next()
		if !ok {
			if s.heldN != 0 {
				t.b.held.weigh(s)
			}
			return lost
		}
		left, expired := x.Msg.Left(t.now)
		again := x.Flags&qos.Resend != 0
		switch {
		case s.strict && !again && !t.wants(s, x.Msg):
			lost = s.drop(id, &x, DropDenied, lost)
		case expired && !again: // [MQTT-3.3.2-5]; a message that was sent stays, [MQTT-4.3.3-7]
			lost = s.drop(id, &x, DropExpired, lost)
		case x.State == qos.Held: // from the queue: its identifier is to be recorded first
			t.record(s, id, x.LSN)
		case !t.sendSlot(s, &x, id, left):
			lost = s.drop(id, &x, DropTooLarge, lost)
		}
	}
}

// drop ends the handshake of a message that is not sent. The caller holds s.mu.
func (s *session) drop(id uint16, x *qos.Slot, why DropReason, lost []lostMessage) []lostMessage {
	s.out.Send.Drop(id)
	if s.store != nil && x.Flags&qos.Durable != 0 {
		s.store.Ack(x.LSN)
	}
	return append(lost, lostMessage{x.Msg, why})
}

// record makes the packet identifier of a QoS 2 message durable; when it is,
// pumpWindow may send it. The caller holds s.mu.
func (t *turn) record(s *session, id uint16, lsn uint64) {
	if s.store.Sent2(lsn, id, &outbound{t.b, s, s.io}, uint64(id)) {
		s.out.Send.Hold(id, qos.Sent)
	}
}

func (t *turn) sendSlot(s *session, x *qos.Slot, id uint16, left uint32) bool {
	t.enc.Reset(x.Msg, left)
	t.expiry = left
	return t.send(s, x.Msg, &form{qos: x.QoS, retain: x.Flags&qos.Retain != 0, dup: x.Flags&qos.Resend != 0, // [MQTT-3.3.1-1]
		id: id, sub: x.Sub, more: x.More, kept: x.Msg})
}

// pumpStore takes from the store what the window has room for. The caller
// holds s.mu.
func (t *turn) pumpStore(s *session, lost []lostMessage) []lostMessage {
	if s.ready.Swap(false) {
		s.stored = true
	}
	for s.stored && s.out.Send.Queued() == 0 {
		room := min(s.out.Send.Room(), len(t.next))
		if room == 0 {
			return lost
		}
		n, more := s.store.Next(t.next[:room], t.now)
		s.stored = more
		for i := range t.next[:n] {
			if s.strict && !t.wants(s, t.next[i].Msg) {
				s.store.Ack(t.next[i].LSN)
				lost = append(lost, lostMessage{t.next[i].Msg, DropDenied})
				continue
			}
			lost = t.sendStored(s, &t.next[i], lost)
		}
		clear(t.next[:n])
		if n == 0 {
			return lost
		}
	}
	return lost
}

// recordAgain asks the store again for what it has not answered to the last
// connection, or could not do. The caller holds s.mu.
func (t *turn) recordAgain(s *session) {
	s.out.Send.Unacked(func(id uint16, x *qos.Slot) bool {
		switch {
		case id == 0 || s.store == nil:
		case x.State == qos.Held:
			t.record(s, id, x.LSN)
		case x.State == qos.Recorded && s.store.Received2(id, &outbound{t.b, s, s.io}, uint64(id)|recorded):
			s.out.Send.Settle(id, qos.Recorded)
			t.own = packet.AppendAck(t.own, packet.PUBREL, s.ver, id, packet.Success)
			t.n.packetsOut++
		}
		return true
	})
}

// sendStored sends a message that the store handed out.
func (t *turn) sendStored(s *session, d *store.Delivery, lost []lostMessage) []lostMessage {
	x := qos.Slot{Msg: d.Msg, More: d.More, LSN: d.LSN, Sub: d.Sub, QoS: d.QoS, Flags: d.Flags | qos.Durable}
	switch d.QoS {
	case 0:
		s.store.Ack(d.LSN)
		switch {
		case s.io.Queued() > t.o.MaxOutboundBytes:
			lost = append(lost, lostMessage{d.Msg, DropSlow})
		case !t.sendSlot(s, &x, 0, t.left(d.Msg)):
			lost = append(lost, lostMessage{d.Msg, DropTooLarge})
		}
		return lost
	case 2:
		x.State = qos.Held
	}
	id := s.out.Send.Send(x)
	switch {
	case id == 0: // closed by bytes meanwhile: it waits in front of the store's
		return lost
	case d.QoS == 2:
		t.record(s, id, d.LSN)
		return t.pumpWindow(s, lost)
	case !t.sendSlot(s, &x, id, t.left(d.Msg)):
		lost = s.drop(id, &x, DropTooLarge, lost)
	}
	return lost
}

// outbound completes the store's records of a session's outgoing QoS 2
// messages. tok is the packet identifier, with recorded for a PUBREC.
type outbound struct {
	b  *Broker
	s  *session
	io *transport.Conn // that asked
}

const recorded = 1 << 16

// Done implements store.Completer.
func (o *outbound) Done(tok uint64, err error) {
	t := o.b.borrow()
	defer o.b.give(t)
	s, id := o.s, uint16(tok)
	s.mu.Lock()
	if err != nil { // the next connection asks again
		if s.conn() != nil && s.io == o.io {
			s.io.Close(fmt.Errorf("store the state of a QoS 2 message: %w", err))
		}
		s.mu.Unlock()
		o.b.log.Error("the state of a QoS 2 message cannot be stored", "client", s.id, "err", err)
		return
	}
	switch {
	case s.active == nil: // it is over
	case tok&recorded != 0:
		if s.out.Send.Settle(id, qos.Recorded) && s.io != nil {
			s.io.Append(t.tt, packet.AppendAck(nil, packet.PUBREL, s.ver, id, packet.Success))
			t.n.packetsOut++
		}
	default:
		s.out.Send.Settle(id, qos.Held)
	}
	s.mu.Unlock()
	t.pump(s) // in their order: the store's answers come in any
}

// onAck takes a PUBACK, PUBREC, PUBREL or PUBCOMP.
func (c *conn) onAck(t *turn, typ packet.Type, b []byte, hdr int) error {
	id, code, err := packet.ParseAck(b, hdr, c.ver)
	if err != nil {
		return c.bad(t, b, err)
	}
	if typ == packet.PUBREL {
		return c.onPubrel(t, id)
	}
	s := c.s
	s.mu.Lock()
	r := s.out.Acked(typ, id, code)
	waits := r.Done && (s.out.Send.Queued() > 0 || s.out.Send.Pending() || s.store != nil && (s.stored || s.ready.Load()))
	if r.Done && s.shared > 0 {
		s.setLoad()
	}
	held := false
	if s.store != nil && r.Slot.Flags&qos.Durable != 0 {
		switch {
		case r.Done:
			s.store.Ack(r.Slot.LSN)
		case r.Recorded && !s.store.Received2(id, &outbound{t.b, s, s.io}, uint64(id)|recorded):
			s.out.Send.Hold(id, qos.Recorded)
			held = true
		}
	}
	s.mu.Unlock()
	if r.Send != 0 && !held {
		t.own = packet.AppendAck(t.own, r.Send, c.ver, id, r.Code)
		t.n.packetsOut++
	}
	if waits {
		t.pump(s)
	}
	if r.Done && c.jobs != nil {
		c.retained(t)
	}
	return nil
}

// onPubrel ends the receiving side of a QoS 2 message [MQTT-4.3.3-11].
func (c *conn) onPubrel(t *turn, id uint16) error {
	code := c.receiver().Release(id)
	again := c.async != nil && len(c.async.later) > 0 // the PUBREL that it repeats may wait for the store
	if c.s.store != nil && (code == packet.Success || again) {
		return c.call(t, func(tok uint64) bool { return c.s.store.Release2(id, c, tok) }, func(t *turn, err error) error {
			if err != nil {
				return c.fail(t, packet.UnspecifiedError, "release: "+err.Error())
			}
			c.pubcomp(t, id, code)
			return nil
		})
	}
	c.pubcomp(t, id, code)
	return nil
}

func (c *conn) pubcomp(t *turn, id uint16, code packet.Reason) {
	t.own = packet.AppendAck(t.own, packet.PUBCOMP, c.ver, id, code)
	t.n.packetsOut++
}
