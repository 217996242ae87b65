package check

import (
	"context"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// mourn makes a client with a will and one that has subscribed to it.
func (t *trial) mourn(ctx context.Context, k packet.Connect) (c, sub *conn, err error) {
	if sub, err = t.clean(ctx); err != nil {
		return nil, nil, err
	}
	k.Will.Topic, k.Will.Payload = t.topic("will"), []byte("gone")
	if _, err = sub.subscribe(ctx, 2, k.Will.Topic); err != nil {
		return nil, nil, err
	}
	c, err = t.connect(ctx, k)
	return c, sub, err
}

// will cuts the connection [MQTT-3.1.2-8].
func will(ctx context.Context, t *trial) error {
	for q := range t.qos(2) + 1 {
		c, sub, err := t.mourn(ctx, packet.Connect{CleanStart: true, Will: &packet.Will{Message: packet.Message{QoS: q}}})
		if err != nil {
			return err
		}
		if err := sub.silence(ctx, "the will comes while the client is there"); err != nil {
			return err
		}
		c.cut()
		m, err := sub.expect(ctx, "gone")
		if err != nil {
			return err
		}
		if m.QoS() != q {
			return broken("the will comes with QoS %d, not %d", m.QoS(), q)
		}
		sub.leave(ctx)
	}
	return nil
}

// willDiscarded leaves as a client should [MQTT-3.14.4-3].
func willDiscarded(ctx context.Context, t *trial) error {
	c, sub, err := t.mourn(ctx, packet.Connect{CleanStart: true, Will: new(packet.Will)})
	if err != nil {
		return err
	}
	if err := c.bid(ctx, &packet.Disconnect{}); err != nil {
		return err
	}
	return sub.silence(ctx, "the will comes after a DISCONNECT")
}

// willDisconnect leaves with the reason code that wants the will.
func willDisconnect(ctx context.Context, t *trial) error {
	if err := t.v5(); err != nil {
		return err
	}
	c, sub, err := t.mourn(ctx, packet.Connect{CleanStart: true, Will: new(packet.Will)})
	if err != nil {
		return err
	}
	if err := c.bid(ctx, &packet.Disconnect{Code: packet.DisconnectWithWillMessage}); err != nil {
		return err
	}
	_, err = sub.expect(ctx, "gone")
	return err
}

// willRetained has the will kept for who comes later [MQTT-3.1.2-15].
func willRetained(ctx context.Context, t *trial) error {
	if err := t.canRetain(); err != nil {
		return err
	}
	c, sub, err := t.mourn(ctx, packet.Connect{CleanStart: true, Will: &packet.Will{Message: packet.Message{QoS: t.qos(1), Retain: true}}})
	if err != nil {
		return err
	}
	c.cut()
	if _, err := sub.expect(ctx, "gone"); err != nil {
		return err
	}
	return t.shows(ctx, t.topic("will"), "gone")
}

// willDelay comes back before the delay is over, and does not
// [MQTT-3.1.3-9].
func willDelay(ctx context.Context, t *trial) error {
	if err := t.v5(); err != nil {
		return err
	}
	const delay = 2
	k := packet.Connect{ClientID: t.id(), SessionExpiry: sessionExpiry, Will: &packet.Will{Delay: delay}}
	c, sub, err := t.mourn(ctx, k)
	if err != nil {
		return err
	}
	if s := c.ack.SessionExpiry; s != nil && *s < delay {
		return absent("the server ends sessions after %d s", *s)
	}
	c.cut()
	if err := sub.silence(ctx, "the will comes without its delay"); err != nil {
		return err
	}
	if c, err = t.connect(ctx, k); err != nil {
		return err
	}
	if !c.ack.SessionPresent {
		return broken("no session present after coming back")
	}
	if err := wait(ctx, delay*time.Second+t.o.Quiet); err != nil {
		return err
	}
	if err := sub.silence(ctx, "the will comes although the client was back in time"); err != nil {
		return err
	}
	began := time.Now()
	c.cut()
	sub.patience = delay*time.Second + t.o.Patience
	if _, err := sub.expect(ctx, "gone"); err != nil {
		return err
	}
	took := time.Since(began)
	// Whole seconds leave it open where in a second a server begins to count.
	if took < (delay-1)*time.Second {
		return broken("the will comes after %s, its delay is %d s", short(took), delay)
	}
	t.tell("after %s, the delay is %d s", short(took), delay)
	t.value("ms", millis(took))
	return nil
}
