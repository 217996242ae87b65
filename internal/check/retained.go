package check

import (
	"context"

	"github.com/myelin-mqtt/myelin/packet"
)

// canRetain is absent where the server says that it keeps no messages.
func (t *trial) canRetain() error {
	if a := t.connack.RetainAvailable; a != nil && !*a {
		return absent("CONNACK has Retain Available 0")
	}
	return nil
}

// retain publishes a message to be kept; empty: to be removed.
func (c *conn) retain(ctx context.Context, topic, payload string) error {
	return c.publish(ctx, &packet.Message{Topic: topic, Payload: []byte(payload), QoS: c.t.qos(1), Retain: true})
}

// shows subscribes, with a connection of its own, and expects the retained
// message, or none where payload is empty.
func (t *trial) shows(ctx context.Context, topic, payload string) error {
	c, err := t.clean(ctx)
	if err != nil {
		return err
	}
	defer c.leave(ctx)
	if _, err := c.subscribe(ctx, t.qos(1), topic); err != nil {
		return err
	}
	if payload == "" {
		return c.silence(ctx, "there must be no retained message")
	}
	m, err := c.expect(ctx, payload)
	if err != nil {
		return err
	}
	if !m.Retain() {
		return broken("RETAIN is not set on a retained message for a new subscription")
	}
	return nil
}

// retained sets, gets, replaces and clears.
func retained(ctx context.Context, t *trial) error {
	if err := t.canRetain(); err != nil {
		return err
	}
	topic := t.topic("t")
	pub, live, err := t.two(ctx, t.qos(1), topic)
	if err != nil {
		return err
	}
	for _, payload := range []string{"first", "second"} {
		if err := pub.retain(ctx, topic, payload); err != nil {
			return err
		}
		m, err := live.expect(ctx, payload)
		if err != nil {
			return err
		}
		if m.Retain() { // [MQTT-3.3.1-12]
			return broken("RETAIN is set on a message for a subscription that was there before it")
		}
		if err := t.shows(ctx, topic, payload); err != nil { // [MQTT-3.3.1-5]
			return err
		}
	}
	// One that is not retained changes nothing [MQTT-3.3.1-8].
	if err := pub.publish(ctx, &packet.Message{Topic: topic, Payload: []byte("passing"), QoS: t.qos(1)}); err != nil {
		return err
	}
	if _, err := live.expect(ctx, "passing"); err != nil {
		return err
	}
	if err := t.shows(ctx, topic, "second"); err != nil {
		return err
	}
	if err := pub.retain(ctx, topic, ""); err != nil { // [MQTT-3.3.1-6]
		return err
	}
	if _, err := live.expect(ctx, ""); err != nil {
		return err
	}
	return t.shows(ctx, topic, "")
}

// retainHandling subscribes with each value, anew and again.
func retainHandling(ctx context.Context, t *trial) error {
	if err := t.v5(); err != nil {
		return err
	}
	if err := t.canRetain(); err != nil {
		return err
	}
	topic := t.topic("t")
	pub, err := t.clean(ctx)
	if err != nil {
		return err
	}
	if err := pub.retain(ctx, topic, "kept"); err != nil {
		return err
	}
	for handling, sent := range [3][2]bool{{true, true}, {true, false}, {false, false}} {
		c, err := t.clean(ctx)
		if err != nil {
			return err
		}
		for again, want := range sent {
			o := packet.SubOptions(t.qos(1)) | packet.SubOptions(handling)<<packet.RetainHandlingShift
			if _, err := c.subscribeAs(ctx, packet.Subscribe{Filters: []packet.Subscription{{Filter: topic, Options: o}}}); err != nil {
				return err
			}
			if want { // [MQTT-3.3.1-9] [MQTT-3.3.1-10]
				_, err = c.expect(ctx, "kept")
			} else { // [MQTT-3.3.1-11]
				err = c.silence(ctx, "Retain Handling "+string(rune('0'+handling))+", subscription "+[]string{"new", "there"}[again])
			}
			if err != nil {
				return err
			}
		}
		c.leave(ctx)
	}
	return nil
}

// retainAsPublished has RETAIN arrive as it was set [MQTT-3.3.1-13].
func retainAsPublished(ctx context.Context, t *trial) error {
	if err := t.v5(); err != nil {
		return err
	}
	if err := t.canRetain(); err != nil {
		return err
	}
	topic := t.topic("t")
	c, err := t.clean(ctx)
	if err != nil {
		return err
	}
	o := packet.SubOptions(t.qos(1)) | packet.RetainAsPublished
	if _, err := c.subscribeAs(ctx, packet.Subscribe{Filters: []packet.Subscription{{Filter: topic, Options: o}}}); err != nil {
		return err
	}
	pub, err := t.clean(ctx)
	if err != nil {
		return err
	}
	for _, retain := range []bool{true, false} {
		if err := pub.publish(ctx, &packet.Message{Topic: topic, Payload: []byte("m"), QoS: t.qos(1), Retain: retain}); err != nil {
			return err
		}
		m, err := c.expect(ctx, "m")
		if err != nil {
			return err
		}
		if m.Retain() != retain {
			return broken("RETAIN %t arrives where %t was published", m.Retain(), retain)
		}
	}
	return nil
}
