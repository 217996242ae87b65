package check

import (
	"context"
	"fmt"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// waiting makes a durable session with a subscription for QoS 2, and one that
// publishes.
func (t *trial) waiting(ctx context.Context) (sub, pub *conn, err error) {
	if t.qos(1) == 0 {
		return nil, nil, absent("CONNACK has Maximum QoS 0")
	}
	if sub, err = t.keep(ctx, t.id()); err != nil {
		return nil, nil, err
	}
	if _, err = sub.subscribe(ctx, 2, t.topic("t")); err != nil {
		return nil, nil, err
	}
	pub, err = t.clean(ctx)
	return sub, pub, err
}

// sessionResume comes back for what was published meanwhile [MQTT-4.5.0-1].
func sessionResume(ctx context.Context, t *trial) error {
	sub, pub, err := t.waiting(ctx)
	if err != nil {
		return err
	}
	sub.leave(ctx)
	for i := range 10 {
		m := &packet.Message{Topic: t.topic("t"), Payload: fmt.Append(nil, i), QoS: min(packet.QoS(1+i%2), t.qos(2))}
		if err := pub.publish(ctx, m); err != nil {
			return err
		}
	}
	if sub, err = t.resume(ctx, sub.id); err != nil {
		return err
	}
	got := map[string]bool{}
	for range 10 { // two qualities of service have no order among them
		m, err := sub.receive(ctx)
		if err != nil {
			return fmt.Errorf("after %d of 10 messages: %w", len(got), err)
		}
		if got[string(m.Payload())] {
			return broken("message %.20s came twice", m.Payload())
		}
		got[string(m.Payload())] = true
	}
	return sub.silence(ctx, "more messages than were published")
}

// sessionResend does not acknowledge, breaks off and comes back
// [MQTT-4.4.0-1].
func sessionResend(ctx context.Context, t *trial) error {
	sub, pub, err := t.waiting(ctx)
	if err != nil {
		return err
	}
	for q := packet.AtLeastOnce; q <= t.qos(2); q++ {
		payload := fmt.Sprintf("at %d", q)
		if err := pub.publish(ctx, &packet.Message{Topic: t.topic("t"), Payload: []byte(payload), QoS: q}); err != nil {
			return err
		}
		first, err := sub.take(ctx)
		if err != nil {
			return err
		}
		sub.cut()
		if sub, err = t.resume(ctx, sub.id); err != nil {
			return err
		}
		again, err := sub.expect(ctx, payload)
		if err != nil {
			return err
		}
		switch {
		case again.ID != first.ID:
			return broken("QoS %d comes again with packet identifier %d, not %d", q, again.ID, first.ID)
		case !again.Dup(): // [MQTT-3.3.1-1]
			return broken("QoS %d comes again without DUP", q)
		case again.QoS() != q:
			return broken("QoS %d comes again as QoS %d", q, again.QoS())
		}
	}
	return sub.silence(ctx, "everything was acknowledged")
}

// sessionRelease breaks off between PUBREL and PUBCOMP.
func sessionRelease(ctx context.Context, t *trial) error {
	if t.qos(2) < 2 {
		return absent("CONNACK has Maximum QoS %d", t.qos(2))
	}
	sub, pub, err := t.waiting(ctx)
	if err != nil {
		return err
	}
	if err := pub.publish(ctx, &packet.Message{Topic: t.topic("t"), Payload: []byte("m"), QoS: 2}); err != nil {
		return err
	}
	m, err := sub.take(ctx)
	if err != nil {
		return err
	}
	if err := sub.write(ctx, packet.AppendAck(nil, packet.PUBREC, sub.v, m.ID, packet.Success)); err != nil {
		return err
	}
	if _, err := sub.acked(ctx, packet.PUBREL, m.ID); err != nil {
		return err
	}
	sub.cut()
	if sub, err = t.resume(ctx, sub.id); err != nil {
		return err
	}
	if _, err := sub.acked(ctx, packet.PUBREL, m.ID); err != nil {
		return fmt.Errorf("after coming back: %w", err)
	}
	if err := sub.write(ctx, packet.AppendAck(nil, packet.PUBCOMP, sub.v, m.ID, packet.Success)); err != nil {
		return err
	}
	return sub.silence(ctx, "a message comes again after its PUBREC") // [MQTT-4.3.3-6]
}

// sessionReceive breaks off between PUBREC and PUBREL, as the sender
// [MQTT-4.3.3-10].
func sessionReceive(ctx context.Context, t *trial) error {
	if t.qos(2) < 2 {
		return absent("CONNACK has Maximum QoS %d", t.qos(2))
	}
	sub, err := t.clean(ctx)
	if err != nil {
		return err
	}
	if _, err := sub.subscribe(ctx, 2, t.topic("t")); err != nil {
		return err
	}
	pub, err := t.keep(ctx, t.id())
	if err != nil {
		return err
	}
	m := &packet.Message{Topic: t.topic("t"), Payload: []byte("m"), QoS: 2}
	id, err := pub.start(ctx, m)
	if err != nil {
		return err
	}
	if _, err := pub.acked(ctx, packet.PUBREC, id); err != nil {
		return err
	}
	pub.cut()
	if pub, err = t.resume(ctx, pub.id); err != nil {
		return err
	}
	b, err := pub.encode(m, packet.PublishOpts{ID: id, Dup: true})
	if err != nil {
		return err
	}
	if err := pub.write(ctx, b); err != nil {
		return err
	}
	a, err := pub.acked(ctx, packet.PUBREC, id)
	if err != nil {
		return err
	}
	if a.Code.Failed() {
		return refused(packet.PUBREC, a.Code, a.ReasonString)
	}
	if err := pub.release(ctx, id); err != nil {
		return err
	}
	if _, err := sub.expect(ctx, "m"); err != nil {
		return err
	}
	return sub.silence(ctx, "a message of QoS 2 arrives twice")
}

// sessionExpires stays away for less and for more than the interval
// [MQTT-4.1.0-2], and takes the interval back with DISCONNECT.
func sessionExpires(ctx context.Context, t *trial) error {
	if err := t.v5(); err != nil {
		return err
	}
	const seconds = 2
	id := t.id()
	k := packet.Connect{ClientID: id, SessionExpiry: seconds}
	c, err := t.connect(ctx, k)
	if err != nil {
		return err
	}
	if s := c.ack.SessionExpiry; s != nil {
		return skipped("the server makes %d s of %d s", *s, seconds)
	}
	c.leave(ctx)
	if c, err = t.connect(ctx, k); err != nil {
		return err
	}
	if !c.ack.SessionPresent {
		return broken("no session present within its interval")
	}
	c.leave(ctx)
	// A server may look only now and then.
	for late := time.Duration(1); ; late *= 2 {
		if err := wait(ctx, (seconds+late)*time.Second); err != nil {
			return err
		}
		if c, err = t.connect(ctx, k); err != nil {
			return err
		}
		if !c.ack.SessionPresent {
			break
		}
		if c.leave(ctx); late == 4 {
			return broken("session present %d s after an interval of %d s", late, seconds)
		}
		t.also("still there %d s after an interval of %d s", late, seconds)
	}
	if err := c.bid(ctx, &packet.Disconnect{HasSessionExpiry: true}); err != nil {
		return err
	}
	if c, err = t.connect(ctx, k); err != nil {
		return err
	}
	if c.ack.SessionPresent {
		return broken("session present after a DISCONNECT with Session Expiry Interval 0")
	}
	return nil
}

// sessionEnd comes back to a session that was to end with its connection
// [MQTT-3.2.2-3].
func sessionEnd(ctx context.Context, t *trial) error {
	id := t.id()
	c, err := t.connect(ctx, packet.Connect{ClientID: id, CleanStart: true})
	if err != nil {
		return err
	}
	if _, err := c.subscribe(ctx, t.qos(1), t.topic("t")); err != nil {
		return err
	}
	c.cut()
	// That the connection is closed shows at the server a moment later.
	if err := wait(ctx, t.o.Quiet); err != nil {
		return err
	}
	if c, err = t.connect(ctx, packet.Connect{ClientID: id}); err != nil {
		return err
	}
	if c.ack.SessionPresent {
		return broken("session present")
	}
	pub, err := t.clean(ctx)
	if err != nil {
		return err
	}
	if err := pub.publish(ctx, &packet.Message{Topic: t.topic("t"), Payload: []byte("m"), QoS: t.qos(1)}); err != nil {
		return err
	}
	return c.silence(ctx, "the subscription is still there")
}

// cleanStart comes back to a durable session and wants a new one
// [MQTT-3.1.2-4].
func cleanStart(ctx context.Context, t *trial) error {
	sub, pub, err := t.waiting(ctx)
	if err != nil {
		return err
	}
	sub.leave(ctx)
	if err := pub.publish(ctx, &packet.Message{Topic: t.topic("t"), Payload: []byte("before"), QoS: 1}); err != nil {
		return err
	}
	k := t.durable(sub.id)
	k.CleanStart = true
	if sub, err = t.connect(ctx, k); err != nil {
		return err
	}
	if sub.ack.SessionPresent { // [MQTT-3.2.2-2]
		return broken("session present with clean start")
	}
	if err := pub.publish(ctx, &packet.Message{Topic: t.topic("t"), Payload: []byte("after"), QoS: 1}); err != nil {
		return err
	}
	return sub.silence(ctx, "the old session is still there")
}
