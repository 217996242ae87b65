package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/myelin-mqtt/myelin/internal/qos"
	"github.com/myelin-mqtt/myelin/packet"
)

// pending is a message of QoS 1 or 2 whose handshake is not over.
type pending struct {
	done func(Receipt, error)
	over bool
}

// waiting0 is a QoS 0 message that waits for a connection.
type waiting0 struct {
	m    *packet.Publish
	done func(Receipt, error)
}

// Publish gives m to the client and waits until it is acknowledged: at QoS 0
// until it was written to the connection, at QoS 1 until its PUBACK came, at QoS
// 2 until its PUBCOMP came. Where there is no connection a message of QoS 1 or 2
// waits for the next one. When ctx ends first, the message is sent all the same.
// A refusal is a *ReasonError, and the receipt has it too.
func (c *Client) Publish(ctx context.Context, m *Message) (Receipt, error) {
	got := make(chan completion, 1)
	done := func(r Receipt, err error) { got <- completion{r: r, err: err} }
	if err := c.PublishAsync(ctx, m, done); err != nil {
		return Receipt{}, err
	}
	c.blocks(1)
	defer c.blocks(-1)
	select {
	case x := <-got:
		return x.r, x.err
	case <-ctx.Done():
		return Receipt{}, fmt.Errorf("wait for the acknowledgement: %w", context.Cause(ctx))
	}
}

// blocks notes that a caller waits for an acknowledgement, 1, or no longer does,
// -1, so that the reader does not wait for a handler that may be that caller.
func (c *Client) blocks(n int) {
	c.mu.Lock()
	c.blocked += n
	if n > 0 {
		c.changed.tell()
	}
	c.mu.Unlock()
}

// PublishAsync gives m to the client, waits for room in its queue only, and with
// a Store until it is kept there. done, which may be nil, is called once when it
// is acknowledged or given up, unless an error is returned. It must not block.
// m and its payload may be changed when PublishAsync returns.
func (c *Client) PublishAsync(ctx context.Context, m *Message, done func(Receipt, error)) error {
	var p *packet.Publish
	err := error(nil)
	if m.QoS > 0 {
		p, err = c.copyOf(m)
	} else {
		err = m.Check()
	}
	if err != nil {
		return fmt.Errorf("check the message: %w", err)
	}
	for {
		var wait bool
		var batch uint64
		c.mu.Lock()
		if m.QoS > 0 {
			wait, batch, err = c.accept(p, done)
		} else {
			wait, err = c.accept0(m, done)
		}
		var changed <-chan struct{}
		if wait {
			changed = c.changed.wait()
		}
		c.unlock()
		switch {
		case err != nil:
			return err
		case wait:
			select {
			case <-changed:
			case <-ctx.Done():
				return fmt.Errorf("wait for room: %w", context.Cause(ctx))
			}
		case batch > 0:
			// The message is the client's already: ctx does not count.
			if err := c.keep(batch); err != nil {
				return fmt.Errorf("%w: %w", ErrClosed, err)
			}
			return nil
		default:
			return nil
		}
	}
}

// copyOf checks and copies a message.
func (c *Client) copyOf(m *Message) (*packet.Publish, error) {
	var now uint32
	if m.HasExpiry || c.o.Store != nil {
		now = uint32(time.Now().Unix())
	}
	return packet.NewPublish(m, now)
}

// accept takes a message of QoS 1 or 2, or says that it must wait. batch is the batch of
// records that keeps it, 0: none. mu is held.
func (c *Client) accept(p *packet.Publish, done func(Receipt, error)) (wait bool, batch uint64, err error) {
	if c.ended || c.leaving {
		return false, 0, c.closedError()
	}
	if c.link != nil {
		if err := c.link.allows(p); err != nil {
			return false, 0, err
		}
	}
	if c.snd.Queued() > 0 || c.snd.Room() == 0 {
		if wait, err := c.room(p); wait || err != nil {
			return wait, 0, err
		}
	}
	x := qos.Slot{Msg: p, QoS: p.QoS(), LSN: c.seq}
	c.seq++
	c.pending.push(pending{done: done})
	if c.o.Store != nil {
		c.record(Record{Kind: RecordMessage, Seq: x.LSN, Packet: p.Bytes(), At: p.At})
		batch = c.recorded
	}
	c.passTaken()
	if id := c.snd.Send(x); id != 0 {
		c.send(id, &x)
	}
	return false, batch, nil
}

// accept0 is accept for a QoS 0 message, which is not copied but into what leaves.
func (c *Client) accept0(m *Message, done func(Receipt, error)) (wait bool, err error) {
	l := c.link
	switch {
	case c.ended || c.leaving:
		return false, c.closedError()
	case l == nil && !c.o.QueueQoS0:
		return false, ErrNotConnected
	case l == nil:
		p, err := c.copyOf(m)
		if err != nil {
			return false, err
		}
		if wait, err := c.room(p); wait || err != nil {
			return wait, err
		}
		c.waiting0.push(waiting0{p, done})
		c.bytes0 += size(p)
		return false, nil
	case len(c.out) >= outFull && c.o.QueueFull == Wait:
		return true, nil
	case len(c.out) >= outFull:
		return false, ErrQueueFull
	}
	if err := l.permits(0, m.Retain, packet.SizeMessage(m, l.version, packet.PublishOpts{})); err != nil {
		return false, err
	}
	o := packet.PublishOpts{Retain: m.Retain, Expiry: m.Expiry}
	if l.version >= packet.V5 {
		o.Alias, o.OmitTopic = l.aliases.of([]byte(m.Topic))
	}
	c.out = packet.AppendMessage(c.grow(), m, l.version, o)
	c.stats.Sent++
	c.stats.PacketsOut++
	c.put0(done)
	return false, nil
}

// room makes room in the queue for one more, or says what becomes of it.
func (c *Client) room(p *packet.Publish) (wait bool, err error) {
	for c.snd.Queued()+c.waiting0.n >= c.o.QueueMessages || c.snd.QueueBytes+c.bytes0+size(p) > c.o.QueueBytes {
		switch {
		case size(p) > c.o.QueueBytes, c.o.QueueFull == Refuse:
			return false, ErrQueueFull
		case c.o.QueueFull == Wait:
			return true, nil
		}
		if x, ok := c.snd.DropOldest(); ok {
			c.complete(x.LSN, Receipt{}, ErrDropped)
		} else if c.waiting0.n > 0 {
			w := c.unwait0()
			c.tell(w.done, Receipt{}, ErrDropped)
		} else {
			return false, ErrQueueFull
		}
		c.stats.Dropped++
	}
	return false, nil
}

func (c *Client) unwait0() waiting0 {
	w := c.waiting0.pop()
	c.bytes0 -= size(w.m)
	return w
}

func size(p *packet.Publish) int { return len(p.Topic()) + len(p.Payload()) }

// allows judges a message by what the server said.
func (l *link) allows(p *packet.Publish) error {
	return l.permits(p.QoS(), p.Retain(), packet.SizePublish(p, l.version, packet.PublishOpts{QoS: p.QoS()}))
}

func (l *link) permits(q packet.QoS, retain bool, size int) error {
	switch {
	case q > l.maxQoS: // [MQTT-3.2.2-11]
		return fmt.Errorf("publish at QoS %d: %w", q, ErrUnsupported)
	case retain && l.ack.RetainAvailable != nil && !*l.ack.RetainAvailable: // [MQTT-3.2.2-14]
		return fmt.Errorf("publish with RETAIN: %w", ErrUnsupported)
	case l.maxPacket > 0 && size > int(l.maxPacket):
		return ErrTooLong // [MQTT-3.2.2-15]
	}
	return nil
}

// passTaken skips packet identifiers that a SUBSCRIBE or UNSUBSCRIBE has in use.
func (c *Client) passTaken() {
	for len(c.sent) > 0 {
		if _, taken := c.sent[c.snd.Upcoming()]; !taken || c.snd.Skip() == 0 {
			return
		}
	}
}

// pump sends what waits, as far as there is room; mu is held, and there is a
// connection.
func (c *Client) pump() {
	for len(c.out) < outFull {
		c.passTaken()
		id, x, ok := c.snd.Next()
		if !ok {
			break
		}
		c.send(id, &x)
	}
	for len(c.out) < outFull && c.waiting0.n > 0 {
		w := c.unwait0()
		if err := c.send0(w.m, w.done); err != nil {
			c.stats.Dropped++
			c.tell(w.done, Receipt{}, err)
		}
	}
}

// send appends a message of QoS 1 or 2 to what leaves.
func (c *Client) send(id uint16, x *qos.Slot) {
	again := x.Flags&qos.Resend != 0
	left, err := left(x.Msg)
	if again { // the server may have it, and knows its identifier: the handshake ends as it began
		err = nil
	}
	if err == nil {
		err = c.link.allows(x.Msg)
	}
	if err != nil {
		c.snd.Drop(id)
		c.stats.Dropped++
		c.complete(x.LSN, Receipt{}, err)
		return
	}
	if c.o.Store != nil && !again {
		c.record(Record{Kind: RecordSent, Seq: x.LSN, ID: id})
	}
	if again {
		c.stats.Resent++
	}
	c.put(x.Msg, packet.PublishOpts{QoS: x.QoS, Dup: again, ID: id, Expiry: left})
}

// send0 appends a QoS 0 message to what leaves.
func (c *Client) send0(p *packet.Publish, done func(Receipt, error)) error {
	left, err := left(p)
	if err == nil {
		err = c.link.allows(p)
	}
	if err != nil {
		return err
	}
	c.put(p, packet.PublishOpts{Expiry: left})
	c.put0(done)
	return nil
}

// put0 has done called when what leaves was written.
func (c *Client) put0(done func(Receipt, error)) {
	if done != nil {
		c.written = append(c.written, done)
	}
}

func (c *Client) put(p *packet.Publish, o packet.PublishOpts) {
	l := c.link
	o.Retain = p.Retain()
	if l.version >= packet.V5 {
		o.Alias, o.OmitTopic = l.aliases.of(p.Topic())
	}
	c.out = packet.AppendPublish(c.grow(), p, l.version, o)
	c.stats.Sent++
	c.stats.PacketsOut++
}

// left is what is left of the message's expiry interval.
func left(p *packet.Publish) (uint32, error) {
	if _, has := p.Expiry(); !has {
		return 0, nil
	}
	left, expired := p.Left(uint32(time.Now().Unix()))
	if expired {
		return 0, ErrExpired
	}
	return left, nil
}

// complete ends the handshake of the message seq; mu is held.
func (c *Client) complete(seq uint64, r Receipt, err error) {
	if seq < c.first || seq-c.first >= uint64(c.pending.n) {
		return
	}
	p := c.pending.at(int(seq - c.first))
	if p.over {
		return
	}
	c.tell(p.done, r, err)
	c.changed.tell()
	*p = pending{over: true}
	for c.pending.n > 0 && c.pending.at(0).over {
		c.pending.pop()
		c.first++
	}
	if c.o.Store != nil {
		c.record(Record{Kind: RecordDone, Seq: seq})
	}
}

// onAck takes a PUBACK, PUBREC or PUBCOMP; mu is held.
func (c *Client) onAck(l *link, t packet.Type, b []byte, hdr int) error {
	id, code, err := packet.ParseAck(b, hdr, l.version)
	if err != nil {
		return err
	}
	r := Receipt{Code: code, PacketID: id}
	if code != packet.Success && len(b) > hdr+3 {
		var a packet.Ack
		if err := a.Parse(b, hdr, l.version); err != nil {
			return err
		}
		r.Reason = a.ReasonString
	}
	if t == packet.PUBREC {
		c.onPubrec(l, r)
		return nil
	}
	x, ok := c.snd.Ack(t, id)
	if !ok {
		c.log.Debug("acknowledgement of nothing", "packet", t, "id", id)
		return nil
	}
	c.acknowledged(x.LSN, r, t)
	return nil
}

func (c *Client) acknowledged(seq uint64, r Receipt, t packet.Type) {
	c.stats.Acknowledged++
	var err error
	// The message of an unknown identifier in a PUBCOMP has arrived before.
	if r.Code.Failed() && t != packet.PUBCOMP {
		err = &ReasonError{Packet: t, Code: r.Code, Reason: r.Reason}
	}
	c.complete(seq, r, err)
}

func (c *Client) onPubrec(l *link, r Receipt) {
	x, what := c.snd.Record(r.PacketID, r.Code.Failed())
	code := packet.Success
	switch what {
	case qos.Ended: // [MQTT-4.4.0-2]
		c.acknowledged(x.LSN, r, packet.PUBREC)
		return
	case qos.Release:
		if c.o.Store != nil {
			c.record(Record{Kind: RecordReleased, Seq: x.LSN})
		}
	case qos.Unknown:
		code = packet.PacketIdentifierNotFound
	}
	c.answer(l, packet.PUBREL, r.PacketID, code)
}

// answer appends an acknowledgement to what leaves; mu is held.
func (c *Client) answer(l *link, t packet.Type, id uint16, code packet.Reason) {
	c.out = packet.AppendAck(c.grow(), t, l.version, id, code)
	c.answers++
	c.stats.PacketsOut++
}

// forget begins a new session where the server has none: what the server has
// taken over is done, the rest is sent as new. mu is held.
func (c *Client) forget() {
	old := c.snd
	c.snd = qos.Sender{MaxBytes: windowBytes}
	old.Unacked(func(id uint16, x *qos.Slot) bool {
		if x.State == qos.Released {
			c.stats.Acknowledged++
			c.complete(x.LSN, Receipt{PacketID: id}, nil)
			return true
		}
		c.snd.Send(qos.Slot{Msg: x.Msg, QoS: x.QoS, LSN: x.LSN})
		return true
	})
	c.rcv = qos.Receiver{}
	c.opened = nil
}

// maxGap bounds the numbers between messages that a Store has kept: more can
// pass one that waits for its acknowledgement only as far as packet identifiers
// reach, and the queue.
const maxGap = 1 << 24

// restore takes what the Store has.
func (c *Client) restore() error {
	s, err := c.o.Store.Load()
	if err != nil {
		return err
	}
	if s.ClientID != "" && s.ClientID != c.o.ClientID {
		return fmt.Errorf("it is the session of the client %q", s.ClientID)
	}
	c.toldStore = s.ClientID != ""
	c.seq = max(s.Next, 1)
	c.first = c.seq
	if len(s.Out) > 0 {
		c.first = s.Out[0].Seq
	}
	for _, k := range s.Out {
		if k.Seq < c.first+uint64(c.pending.n) || k.Seq-c.first > maxGap || k.Seq >= c.seq {
			return fmt.Errorf("message %d stands where it cannot", k.Seq)
		}
		for c.first+uint64(c.pending.n) < k.Seq {
			c.pending.push(pending{over: true})
		}
		c.pending.push(pending{})
		if err := c.restoreOut(k); err != nil {
			return fmt.Errorf("restore message %d: %w", k.Seq, err)
		}
	}
	if c.seq-c.first > maxGap {
		return fmt.Errorf("message %d stands where it cannot", c.first)
	}
	for c.first+uint64(c.pending.n) < c.seq {
		c.pending.push(pending{over: true})
	}
	for _, id := range s.In {
		c.rcv.Restore(id)
	}
	return nil
}

func (c *Client) restoreOut(k Kept) error {
	x := qos.Slot{QoS: 2, LSN: k.Seq, State: qos.Released}
	if !k.Released {
		n, hdr, err := packet.Frame(k.Packet, 0)
		if err != nil {
			return err
		}
		if n != len(k.Packet) || packet.FrameType(k.Packet) != packet.PUBLISH {
			return errors.New("it is no PUBLISH")
		}
		m, err := parseKept(k.Packet, hdr)
		if err != nil {
			return err
		}
		m.At = k.At
		x = qos.Slot{Msg: m, QoS: m.QoS(), LSN: k.Seq, State: qos.Sent}
	}
	if k.ID == 0 {
		x.State = qos.Free
		c.snd.Send(x) // nothing has room before the first connection: it waits
		return nil
	}
	if !c.snd.Restore(k.ID, x) {
		return fmt.Errorf("packet identifier %d is taken", k.ID)
	}
	return nil
}

// parseKept reads a message as NewPublish made it: with a packet identifier of
// 0, which nobody may send.
func parseKept(b []byte, hdr int) (*packet.Publish, error) {
	b = append([]byte(nil), b...)
	m := new(packet.Publish)
	if b[0]&6 != 0 && len(b) >= hdr+2 {
		if i := hdr + 2 + int(b[hdr])<<8 + int(b[hdr+1]); i+2 <= len(b) && b[i] == 0 && b[i+1] == 0 {
			b[i+1] = 1
			if err := m.Parse(b, hdr, packet.V5); err != nil {
				return nil, err
			}
			return m, nil
		}
	}
	if err := m.Parse(b, hdr, packet.V5); err != nil {
		return nil, err
	}
	return m, nil
}
