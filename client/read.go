package client

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

const (
	readFirst = 512      // the read buffer of a client that hears little
	readLarge = 64 << 10 // and of one that hears much
	readIdle  = time.Second
)

// read reads until the connection ends, and says why.
func (c *Client) read(l *link) error {
	buf := make([]byte, max(readFirst, len(l.rest)))
	n := copy(buf, l.rest)
	l.rest = nil
	l.known = make([][]byte, 0)
	for {
		used, err := c.feed(l, buf[:n])
		if err != nil {
			return c.leaveWith(l, err)
		}
		n = copy(buf, buf[used:n])
		switch {
		case n == len(buf): // a packet that is longer, and not longer than MaxPacket
			buf = append(buf, make([]byte, len(buf))...)
		case n == 0 && len(buf) > readLarge:
			buf = make([]byte, readLarge)
		}
		before := c.heard.Load()
		k, err := l.Read(buf[n:])
		now := c.since()
		c.heard.Store(now)
		switch n += k; {
		case n == len(buf) && len(buf) < readLarge:
			buf = append(buf, make([]byte, len(buf))...)
		case n < readFirst && len(buf) > readFirst && now-before > int64(readIdle): // it hears little now
			buf = append(make([]byte, 0, readFirst), buf[:n]...)[:readFirst]
			l.inline = nil
		}
		if err != nil && k == 0 {
			if cause := l.cause.Load(); cause != nil {
				return *cause
			}
			if errors.Is(err, io.EOF) {
				return fmt.Errorf("the server closed the connection: %w", err)
			}
			return fmt.Errorf("read: %w", err)
		}
	}
}

// leaveWith tells a server of 5.0 what was wrong with what it sent, and closes.
func (c *Client) leaveWith(l *link, err error) error {
	var e *packet.Error
	if errors.As(err, &e) && l.version >= packet.V5 {
		c.mu.Lock()
		b := (&packet.Disconnect{Code: e.Code}).Append(nil, l.version)
		c.mu.Unlock()
		_ = l.SetWriteDeadline(time.Now().Add(time.Second))
		c.traceOut(b, l.version)
		_, _ = l.Write(b) // it is a courtesy
	}
	l.Close()
	return err
}

// feed takes the whole packets of b, and tells how many bytes they have.
func (c *Client) feed(l *link, b []byte) (used int, err error) {
	at := time.Now()
	c.mu.Lock()
	for err == nil {
		n, hdr, bad := packet.Frame(b[used:], int(c.o.MaxPacket))
		if bad != nil {
			err = fmt.Errorf("read a packet: %w", bad)
			break
		}
		if n == 0 {
			break
		}
		if c.o.Trace.Packet != nil {
			c.o.Trace.Packet(PacketEvent{At: at, Bytes: b[used : used+n], Version: l.version})
		}
		c.stats.PacketsIn++
		if err = c.take(l, b[used:used+n], hdr, at); err != nil {
			if _, said := errors.AsType[*ReasonError](err); !said { // which names the packet
				err = fmt.Errorf("read %s: %w", packet.FrameType(b[used:]), err)
			}
		}
		used += n
	}
	c.stats.BytesIn += uint64(used)
	if err == nil {
		c.pump()
	}
	c.unlock()
	if len(l.inline) > 0 {
		c.handleInline(l)
	}
	if err == nil {
		c.awaitRoom(l)
	}
	return used, err
}

// take takes one packet; mu is held.
func (c *Client) take(l *link, b []byte, hdr int, at time.Time) error {
	switch t := packet.FrameType(b); t {
	case packet.PUBLISH:
		return c.onPublish(l, b, hdr, at)
	case packet.PUBACK, packet.PUBREC, packet.PUBCOMP:
		return c.onAck(l, t, b, hdr)
	case packet.PUBREL:
		return c.onPubrel(l, b, hdr)
	case packet.SUBACK:
		return c.onSuback(l, b, hdr)
	case packet.UNSUBACK:
		return c.onUnsuback(l, b, hdr)
	case packet.PINGRESP:
		return (&packet.Pingresp{}).Parse(b, hdr, l.version)
	case packet.DISCONNECT:
		return serverLeft(b, l.version)
	case packet.AUTH:
		return c.onAuth(l, b, hdr)
	default:
		return &packet.Error{Code: packet.ProtocolError, Text: "a server does not send it"}
	}
}

// serverLeft is what the server's DISCONNECT says. Below 5.0 it sends none.
func serverLeft(b []byte, v packet.Version) error {
	if v < packet.V5 {
		return &packet.Error{Code: packet.ProtocolError, Text: "a server of 3.1.1 does not send it"}
	}
	var d packet.Disconnect
	if err := parse(&d, b, v); err != nil {
		return err
	}
	return &ReasonError{packet.DISCONNECT, d.Code, d.ReasonString, d.ServerReference}
}

// resumeIn begins a connection for the receiving half; mu is held.
func (c *Client) resumeIn(l *link) {
	c.rcv.Max = 0
	if l.version >= packet.V5 {
		c.rcv.Max = c.o.ReceiveMaximum
	}
	c.rcv.Resume()
	c.firstAck += uint32(c.toAck.n)
	c.toAck = deque[toAck]{}
}

// toAck is a message that came on this connection and is to be acknowledged.
type toAck struct {
	id    uint16
	qos   packet.QoS
	ready bool
}

// open2 is a QoS 2 message that was handed out and not acknowledged.
type open2 struct {
	serial uint64
	place  uint32 // in toAck, where it came on the connection gen
	gen    uint64
	ready  bool // it was acknowledged when its connection was gone
}

// onPublish takes a message; mu is held.
func (c *Client) onPublish(l *link, b []byte, hdr int, at time.Time) error {
	var p packet.Publish
	if err := p.Parse(b, hdr, l.version); err != nil {
		return err
	}
	if err := l.resolve(&p, c.o.TopicAliasMaximum); err != nil {
		return err
	}
	c.stats.Arrived++
	q := p.QoS()
	place := c.firstAck + uint32(c.toAck.n)
	var serial uint64
	switch q {
	case 1:
		if !c.rcv.Begin() {
			return &packet.Error{Code: packet.ReceiveMaximumExceeded, Text: "more messages in flight than the client takes"}
		}
		c.toAck.push(toAck{id: p.ID, qos: 1})
	case 2:
		dup, ok := c.rcv.Publish(p.ID)
		if !ok { // [MQTT-3.3.4-7]
			return &packet.Error{Code: packet.ReceiveMaximumExceeded, Text: "more messages in flight than the client takes"}
		}
		x := c.opened[p.ID]
		if dup {
			c.stats.Duplicates++
			if x != nil && !x.ready && x.gen == l.gen { // one PUBREC answers both
				return nil
			}
		}
		c.toAck.push(toAck{id: p.ID, qos: 2})
		if dup {
			if x != nil && !x.ready { // its handler has not ended
				x.place, x.gen = place, l.gen
				return nil
			}
			c.ready(l, place)
			return nil
		}
		if c.opened == nil {
			c.opened = make(map[uint16]*open2)
		}
		serial = c.stats.Arrived
		c.opened[p.ID] = &open2{serial: serial, place: place, gen: l.gen}
	}
	m := &Received{Dup: p.Dup(), PacketID: p.ID, At: at, c: c, conn: l.gen, place: place, serial: serial}
	m.Topic = l.topic
	p.Decode(&m.Message)
	l.topic = m.Topic
	if p.HasSubID() {
		m.SubscriptionIDs = p.SubIDs(m.oneID[:0])
	}
	a := arrival{m: m}
	c.route(&a)
	switch {
	case a.h == nil && c.o.OnMessage == nil:
		c.stats.Unwanted++
		c.acknowledge(m)
		return nil
	case a.h == nil:
		a.h = c.o.OnMessage
	}
	c.unhandled++
	if c.o.Inline {
		l.inline = append(l.inline, a)
		return nil
	}
	c.inbox = append(c.inbox, a)
	if !c.handling {
		c.handling = true
		go c.handle()
	}
	return nil
}

// resolve puts the topic in the place of its alias.
func (l *link) resolve(p *packet.Publish, most int) error {
	switch n := int(p.Alias); {
	case n == 0 && len(p.Topic()) == 0:
		return &packet.Error{Code: packet.ProtocolError, Text: "neither topic nor alias"}
	case n == 0:
		return nil
	case n > most: // [MQTT-3.1.2-26]
		return &packet.Error{Code: packet.TopicAliasInvalid, Text: "topic alias is above the maximum"}
	case len(p.Topic()) > 0:
		for len(l.known) < n {
			l.known = append(l.known, nil)
		}
		l.known[n-1] = append([]byte(nil), p.Topic()...)
		return nil
	case n > len(l.known) || l.known[n-1] == nil:
		return &packet.Error{Code: packet.ProtocolError, Text: "topic alias was not set"}
	default:
		p.SetTopic(l.known[n-1])
		return nil
	}
}

// Ack acknowledges the message, where Options.ManualAck is set. Acknowledgements
// leave in the order in which the messages came [MQTT-4.6.0-2], so that one that
// is missing holds back those behind it. It does nothing at QoS 0, the second
// time, and at QoS 1 when the connection that brought the message is gone.
func (m *Received) Ack() {
	if m.QoS == 0 || m.c == nil {
		return
	}
	m.c.mu.Lock()
	m.c.acknowledge(m)
	m.c.unlock()
}

// acknowledge has a message acknowledged; mu is held.
func (c *Client) acknowledge(m *Received) {
	switch m.QoS {
	case 1:
		if l := c.link; l != nil && l.gen == m.conn {
			c.ready(l, m.place)
		}
	case 2:
		x := c.opened[m.PacketID]
		if x == nil || x.serial != m.serial || x.ready {
			return
		}
		x.ready = true
		if c.o.Store != nil {
			c.record(Record{Kind: RecordReceived, ID: m.PacketID})
		}
		if l := c.link; l != nil && l.gen == x.gen {
			c.ready(l, x.place)
		}
	}
}

// ready acknowledges the message at a place, and those behind it that wait for
// it. [MQTT-4.6.0-2], [MQTT-4.6.0-3]
func (c *Client) ready(l *link, place uint32) {
	i := place - c.firstAck
	if i >= uint32(c.toAck.n) {
		return
	}
	c.toAck.at(int(i)).ready = true
	for c.toAck.n > 0 && c.toAck.at(0).ready {
		x := c.toAck.pop()
		c.firstAck++
		if x.qos == 1 {
			c.rcv.End()
			c.answer(l, packet.PUBACK, x.id, packet.Success)
		} else {
			c.answer(l, packet.PUBREC, x.id, packet.Success)
		}
	}
}

// onPubrel ends a QoS 2 message; mu is held.
func (c *Client) onPubrel(l *link, b []byte, hdr int) error {
	id, _, err := packet.ParseAck(b, hdr, l.version)
	if err != nil {
		return err
	}
	code := packet.Success
	if x := c.opened[id]; x != nil && !x.ready {
		return &packet.Error{Code: packet.ProtocolError, Text: "PUBREL for a message that was not acknowledged"}
	}
	delete(c.opened, id)
	if !c.rcv.Release(id) {
		code = packet.PacketIdentifierNotFound
	} else if c.o.Store != nil {
		c.record(Record{Kind: RecordForgotten, ID: id})
	}
	c.answer(l, packet.PUBCOMP, id, code)
	return nil
}
