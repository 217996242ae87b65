package check

import (
	"context"
	"errors"
	"fmt"

	"github.com/myelin-mqtt/myelin/packet"
)

// misdeed says what is wrong, and does it on a connection. Where the wrong is in
// the first packet it gets one over which nothing was said.
type misdeed struct {
	what string
	on5  bool // 5.0 only
	raw  bool
	do   func(ctx context.Context, t *trial, c *conn) error
}

// bad makes a check of a misdeed: the server must close the connection
// [MQTT-4.13.1-1], and still be there for others.
func bad(m func() misdeed) func(context.Context, *trial) error {
	return func(ctx context.Context, t *trial) error {
		m := m()
		if m.on5 && t.version < packet.V5 {
			return t.v5()
		}
		connect := t.clean
		if m.raw {
			connect = func(ctx context.Context) (*conn, error) { return t.raw(ctx, t.version) }
		}
		c, err := connect(ctx)
		if err != nil {
			return err
		}
		if err := m.do(ctx, t, c); err != nil {
			return err
		}
		end, err := c.ends(ctx, m.what)
		if err != nil {
			return err
		}
		t.tell("%s", end.how())
		other, err := t.clean(ctx)
		if err != nil {
			return fmt.Errorf("after %s: %w", m.what, err)
		}
		return other.ping(ctx)
	}
}

// send is a misdeed that is only bytes.
func (m misdeed) send(b func(t *trial, v packet.Version) []byte) misdeed {
	m.do = func(ctx context.Context, t *trial, c *conn) error { return c.write(ctx, b(t, c.v)) }
	return m
}

// secondConnect [MQTT-3.1.0-2].
func secondConnect() misdeed {
	return misdeed{what: "a second CONNECT"}.send(func(t *trial, v packet.Version) []byte {
		k := packet.Connect{ClientID: t.id(), CleanStart: true, RequestProblemInfo: true}
		return k.Append(nil, v)
	})
}

// noConnect [MQTT-3.1.0-1].
func noConnect() misdeed {
	return misdeed{what: "PINGREQ as the first packet", raw: true}.send(func(_ *trial, v packet.Version) []byte {
		return new(packet.Pingreq).Append(nil, v)
	})
}

// firstConnect is a CONNECT with a byte changed: an offset behind the fixed
// header.
func firstConnect(what string, change func([]byte)) misdeed {
	m := misdeed{what: what, raw: true}
	m.do = func(ctx context.Context, t *trial, c *conn) error {
		k := packet.Connect{ClientID: t.id(), CleanStart: true, KeepAlive: 60, RequestProblemInfo: true}
		b := k.Append(nil, c.v)
		_, hdr, err := packet.Frame(b, 0)
		if err != nil {
			return err
		}
		change(b[hdr:])
		if err := c.write(ctx, b); err != nil {
			return err
		}
		// A CONNACK that refuses may come first.
		err = c.greeting(ctx)
		if _, ended := errors.AsType[*endError](err); ended {
			return nil
		}
		if err == nil && !c.ack.Code.Failed() {
			return broken("%s: accepted", what)
		}
		return err
	}
	return m
}

// protocolName [MQTT-3.1.2-1].
func protocolName() misdeed {
	return firstConnect("protocol name MQTZ", func(b []byte) { b[5] = 'Z' })
}

// connectFlag [MQTT-3.1.2-3].
func connectFlag() misdeed {
	return firstConnect("the reserved flag of CONNECT", func(b []byte) { b[2+len(b[2:2+int(b[1])])+1] |= 1 })
}

// reservedFlags [MQTT-3.8.1-1].
func reservedFlags() misdeed {
	return misdeed{what: "SUBSCRIBE with flags 0"}.send(func(t *trial, v packet.Version) []byte {
		s := packet.Subscribe{ID: 1, Filters: []packet.Subscription{{Filter: t.topic("t")}}}
		b := s.Append(nil, v)
		b[0] &= 0xF0
		return b
	})
}

// qos3 [MQTT-3.3.1-4].
func qos3() misdeed {
	return misdeed{what: "PUBLISH with QoS 3"}.send(func(t *trial, v packet.Version) []byte {
		b := publishOf(t.topic("t"), v, 1)
		b[0] |= 6
		return b
	})
}

// packetID0 [MQTT-2.2.1-3].
func packetID0() misdeed {
	return misdeed{what: "packet identifier 0"}.send(func(t *trial, v packet.Version) []byte {
		return publishOf(t.topic("t"), v, 0)
	})
}

// noFilter [MQTT-3.8.3-2].
func noFilter() misdeed {
	return misdeed{what: "SUBSCRIBE without a filter"}.send(func(_ *trial, v packet.Version) []byte {
		return (&packet.Subscribe{ID: 1}).Append(nil, v)
	})
}

// nullCharacter [MQTT-1.5.4-2].
func nullCharacter() misdeed {
	return misdeed{what: "U+0000 in a topic name"}.send(func(t *trial, v packet.Version) []byte {
		return publishOf(t.topic("a\x00b"), v, 1)
	})
}

// unknownAlias uses a topic alias before it has said what it stands for; where
// there are none, that is too high.
func unknownAlias() misdeed {
	m := misdeed{what: "a topic alias that stands for nothing", on5: true}
	return m.send(func(*trial, packet.Version) []byte {
		return publishRaw("", []byte{3, byte(packet.PropTopicAlias), 0, 1}, 1)
	})
}

// publishOf is a PUBLISH of QoS 1, right or wrong.
func publishOf(topic string, v packet.Version, id uint16) []byte {
	if v < packet.V5 {
		return publishRaw(topic, nil, id)
	}
	return publishRaw(topic, []byte{0}, id)
}

// publishRaw is a PUBLISH of QoS 1 by hand, because package packet makes only
// right ones.
func publishRaw(topic string, props []byte, id uint16) []byte {
	body := append([]byte{byte(len(topic) >> 8), byte(len(topic))}, topic...)
	body = append(append(body, byte(id>>8), byte(id)), props...)
	body = append(body, "payload"...)
	b := []byte{byte(packet.PUBLISH)<<4 | 2}
	n := len(body)
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(append(b, byte(n)), body...)
}

// topicWildcard publishes to a topic with a wildcard: the server closes, or
// refuses, and gives it to nobody [MQTT-3.3.2-2].
func topicWildcard(ctx context.Context, t *trial) error {
	_, sub, err := t.two(ctx, 0, t.topic("#"))
	if err != nil {
		return err
	}
	for _, name := range []string{"a/#", "+"} {
		c, err := t.clean(ctx)
		if err != nil {
			return err
		}
		const id = 1
		if err := c.write(ctx, publishOf(t.topic(name), c.v, id)); err != nil {
			return err
		}
		a, err := c.acked(ctx, packet.PUBACK, id)
		end, ended := errors.AsType[*endError](err)
		switch {
		case ended:
			t.tell("%s", end.how())
		case err != nil:
			return err
		case !a.Code.Failed():
			return broken("PUBLISH to %q: PUBACK %v", t.topic(name), a.Code)
		default:
			t.tell("PUBACK %v", a.Code)
		}
	}
	return sub.silence(ctx, "the message was delivered")
}

// filterInvalid subscribes to what is no topic filter: the server closes, or
// refuses it [MQTT-4.7.1-1] [MQTT-4.7.1-2].
func filterInvalid(ctx context.Context, t *trial) error {
	for _, name := range []string{"#/a", "a#", "a+/b"} {
		c, err := t.clean(ctx)
		if err != nil {
			return err
		}
		a, err := c.ask(ctx, packet.Subscribe{Filters: []packet.Subscription{{Filter: t.topic(name)}}})
		end, ended := errors.AsType[*endError](err)
		switch {
		case ended:
			t.tell("%s", end.how())
		case err != nil:
			return err
		case !a.Codes[0].Failed():
			return broken("SUBSCRIBE to %q: %v", t.topic(name), a.Codes[0])
		default:
			t.tell("SUBACK %v", a.Codes[0])
		}
	}
	return nil
}
