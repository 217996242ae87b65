package check

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// rounds is how often something is measured.
const rounds = 10

func median(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[len(s)/2]
}

// short is a duration in three digits or so.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func qos0(ctx context.Context, t *trial) error { return roundTrips(ctx, t, packet.AtMostOnce) }
func qos1(ctx context.Context, t *trial) error { return roundTrips(ctx, t, packet.AtLeastOnce) }
func qos2(ctx context.Context, t *trial) error { return roundTrips(ctx, t, packet.ExactlyOnce) }

// roundTrips measures until messages are acknowledged and until they arrive at
// another client.
func roundTrips(ctx context.Context, t *trial, q packet.QoS) error {
	if t.qos(q) < q {
		return absent("CONNACK has Maximum QoS %d", t.qos(q))
	}
	sub, err := t.clean(ctx)
	if err != nil {
		return err
	}
	granted, err := sub.subscribe(ctx, q, t.topic("t"))
	if err != nil {
		return err
	}
	if granted[0] < packet.Reason(q) {
		return absent("a subscription is granted QoS %d only", granted[0])
	}
	pub, err := t.clean(ctx)
	if err != nil {
		return err
	}
	var acked, arrived []time.Duration
	for i := range rounds {
		a, d, err := roundTrip(ctx, pub, sub, &packet.Message{Topic: t.topic("t"), Payload: fmt.Appendf(nil, "round %d", i), QoS: q})
		if err != nil {
			return err
		}
		acked, arrived = append(acked, a), append(arrived, d)
	}
	if q > 0 {
		t.tell("acknowledged in %s, ", short(median(acked)))
		t.value("acknowledged_ms", millis(median(acked)))
	}
	t.tell("%sdelivered in %s", t.detail, short(median(arrived)))
	t.value("delivered_ms", millis(median(arrived)))
	return nil
}

// roundTrip publishes, and has the message arrive as it was, with its QoS.
func roundTrip(ctx context.Context, pub, sub *conn, m *packet.Message) (acked, arrived time.Duration, err error) {
	type arrival struct {
		m   *packet.Publish
		at  time.Time
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	came := make(chan arrival, 1)
	began := time.Now()
	go func() {
		got, err := sub.take(ctx)
		came <- arrival{got, sub.at, err}
	}()
	err = pub.publish(ctx, m)
	acked = time.Since(began)
	if err != nil {
		cancel()
		<-came
		return 0, 0, err
	}
	a := <-came
	if a.err != nil {
		return 0, 0, a.err
	}
	if err := same(a.m, m); err != nil {
		return 0, 0, err
	}
	return acked, a.at.Sub(began), sub.thank(ctx, a.m)
}

// same compares what came, live, with what was sent.
func same(got *packet.Publish, want *packet.Message) error {
	switch {
	case string(got.Topic()) != want.Topic:
		return broken("topic %.80q where %.80q was published", got.Topic(), want.Topic)
	case !bytes.Equal(got.Payload(), want.Payload):
		return broken("payload %.40q of %d bytes where %.40q of %d was published", got.Payload(), len(got.Payload()), want.Payload, len(want.Payload))
	case got.QoS() != want.QoS:
		return broken("QoS %d where QoS %d was published and granted", got.QoS(), want.QoS) // [MQTT-3.8.4-8]
	case got.Dup():
		return broken("DUP is set on a message that came for the first time") // [MQTT-3.3.1-3]
	case got.Retain():
		return broken("RETAIN is set on a message that was not retained") // [MQTT-3.3.1-12]
	}
	return nil
}

// qosGranted publishes with a QoS above and one below the granted one
// [MQTT-3.8.4-8].
func qosGranted(ctx context.Context, t *trial) error {
	if t.qos(2) < 1 {
		return absent("CONNACK has Maximum QoS 0")
	}
	high, low := t.qos(2), t.qos(2)-1
	for _, c := range []struct{ publish, subscribe packet.QoS }{{high, low}, {low, high}, {high, 0}, {0, high}} {
		topic := fmt.Sprintf("%d-%d", c.publish, c.subscribe)
		pub, sub, err := t.two(ctx, c.subscribe, t.topic(topic))
		if err != nil {
			return err
		}
		if err := pub.publish(ctx, &packet.Message{Topic: t.topic(topic), Payload: []byte("m"), QoS: c.publish}); err != nil {
			return err
		}
		m, err := sub.expect(ctx, "m")
		if err != nil {
			return err
		}
		if want := min(c.publish, c.subscribe); m.QoS() != want {
			return broken("QoS %d arrives where it was published with %d and subscribed with %d", m.QoS(), c.publish, c.subscribe)
		}
		pub.leave(ctx)
		sub.leave(ctx)
	}
	return nil
}

// exactlyOnce sends a message of QoS 2 and its PUBREL twice [MQTT-4.3.3-10].
func exactlyOnce(ctx context.Context, t *trial) error {
	if t.qos(2) < 2 {
		return absent("CONNACK has Maximum QoS %d", t.qos(2))
	}
	pub, sub, err := t.two(ctx, 2, t.topic("t"))
	if err != nil {
		return err
	}
	m := &packet.Message{Topic: t.topic("t"), Payload: []byte("once"), QoS: 2}
	id := pub.packetID()
	for _, dup := range []bool{false, true} {
		b, err := pub.encode(m, packet.PublishOpts{ID: id, Dup: dup})
		if err != nil {
			return err
		}
		if err := pub.write(ctx, b); err != nil {
			return err
		}
		if _, err := pub.acked(ctx, packet.PUBREC, id); err != nil {
			return err
		}
	}
	for range 2 { // [MQTT-4.3.3-11]
		if err := pub.release(ctx, id); err != nil {
			return err
		}
	}
	if _, err := sub.expect(ctx, "once"); err != nil {
		return err
	}
	return sub.silence(ctx, "a message of QoS 2 that was sent twice arrives twice")
}

// order sends a burst at each QoS [MQTT-4.6.0-5].
func order(ctx context.Context, t *trial) error {
	for q := range t.qos(2) + 1 {
		n := 100
		if most := t.connack.ReceiveMax; most != nil {
			n = min(n, int(*most))
		}
		topic := t.topic(fmt.Sprint(q))
		pub, sub, err := t.two(ctx, q, topic)
		if err != nil {
			return err
		}
		var ids []uint16
		for i := range n {
			id, err := pub.start(ctx, &packet.Message{Topic: topic, Payload: fmt.Append(nil, i), QoS: q})
			if err != nil {
				return err
			}
			ids = append(ids, id)
		}
		// A server may pass on a message of QoS 2 when it is released, or before.
		if q > 0 {
			if err := pub.finish(ctx, q, ids); err != nil {
				return err
			}
		}
		got, err := sub.collect(ctx, n)
		if err != nil {
			return fmt.Errorf("after %d of %d messages at QoS %d: %w", len(got), n, q, err)
		}
		for i, m := range got {
			if string(m.Payload()) != fmt.Sprint(i) {
				return broken("at QoS %d message %.20s came where %d was next", q, m.Payload(), i)
			}
		}
		sub.leave(ctx)
		pub.leave(ctx)
	}
	return nil
}

// utf8Topics uses what is allowed in a topic name, and must not be changed
// [MQTT-4.7.3-4].
func utf8Topics(ctx context.Context, t *trial) error {
	pub, sub, err := t.two(ctx, 0, t.topic("#"))
	if err != nil {
		return err
	}
	// An é in one code point and in two, empty levels, a blank, a byte order mark
	// [MQTT-1.5.4-3], four bytes.
	for _, name := range []string{"caf\u00e9", "cafe\u0301", "a//b/", " ", "\ufeffbom", "\U0001F321/\u6E29\u5EA6"} {
		m := &packet.Message{Topic: t.topic(name), Payload: []byte(name)}
		if err := pub.publish(ctx, m); err != nil {
			return err
		}
		got, err := sub.receive(ctx)
		if err != nil {
			return fmt.Errorf("topic %q: %w", m.Topic, err)
		}
		if err := same(got, m); err != nil {
			return err
		}
	}
	return nil
}

// properties has all that a publisher says about a message arrive.
func properties(ctx context.Context, t *trial) error {
	if err := t.v5(); err != nil {
		return err
	}
	return arrives(ctx, t, &packet.Message{
		Topic: t.topic("t"), Payload: []byte(`{"t":21.5}`), QoS: t.qos(1),
		PayloadFormat: 1, ContentType: "application/json", ResponseTopic: t.topic("answer"), Correlation: []byte{0, 1, 0xFF},
		User: []packet.UserProperty{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}, {Key: "b", Value: "3"}, {Key: "", Value: ""}},
	})
}

// arrives publishes m and compares the properties with which it comes.
func arrives(ctx context.Context, t *trial, m *packet.Message) error {
	pub, sub, err := t.two(ctx, m.QoS, m.Topic)
	if err != nil {
		return err
	}
	if err := pub.publish(ctx, m); err != nil {
		return err
	}
	p, err := sub.expect(ctx, string(m.Payload))
	if err != nil {
		return err
	}
	got := p.Message()
	switch {
	case got.PayloadFormat != m.PayloadFormat: // [MQTT-3.3.2-4]
		return broken("Payload Format Indicator %d where %d was published", got.PayloadFormat, m.PayloadFormat)
	case got.ContentType != m.ContentType: // [MQTT-3.3.2-20]
		return broken("Content Type %.40q where %q was published", got.ContentType, m.ContentType)
	case got.ResponseTopic != m.ResponseTopic: // [MQTT-3.3.2-15]
		return broken("Response Topic %.80q where %q was published", got.ResponseTopic, m.ResponseTopic)
	case !bytes.Equal(got.Correlation, m.Correlation) || (got.Correlation == nil) != (m.Correlation == nil): // [MQTT-3.3.2-16]
		return broken("Correlation Data %x where %x was published", got.Correlation, m.Correlation)
	case !slices.Equal(got.User, m.User): // [MQTT-3.3.2-17] [MQTT-3.3.2-18]
		return broken("user properties %.200q where %q were published", got.User, m.User)
	}
	return nil
}

// requestResponse asks another client over the server.
func requestResponse(ctx context.Context, t *trial) error {
	if err := t.v5(); err != nil {
		return err
	}
	asker, answerer, err := t.two(ctx, t.qos(1), t.topic("ask"))
	if err != nil {
		return err
	}
	if _, err := asker.subscribe(ctx, t.qos(1), t.topic("answer")); err != nil {
		return err
	}
	ask := &packet.Message{Topic: t.topic("ask"), Payload: []byte("?"), QoS: t.qos(1), ResponseTopic: t.topic("answer"), Correlation: []byte("7")}
	began := time.Now()
	if err := asker.publish(ctx, ask); err != nil {
		return err
	}
	p, err := answerer.expect(ctx, "?")
	if err != nil {
		return err
	}
	m := p.Message()
	if m.ResponseTopic != ask.ResponseTopic {
		return broken("Response Topic %.80q where %q was published", m.ResponseTopic, ask.ResponseTopic)
	}
	if err := answerer.publish(ctx, &packet.Message{Topic: m.ResponseTopic, Payload: []byte("!"), QoS: t.qos(1), Correlation: m.Correlation}); err != nil {
		return err
	}
	if p, err = asker.expect(ctx, "!"); err != nil {
		return err
	}
	if got := p.Message().Correlation; !bytes.Equal(got, ask.Correlation) {
		return broken("Correlation Data %x where %x was published", got, ask.Correlation)
	}
	t.tell("%s", short(time.Since(began)))
	return nil
}

// messageExpiry has messages wait in a session.
func messageExpiry(ctx context.Context, t *trial) error {
	if err := t.v5(); err != nil {
		return err
	}
	if t.qos(1) == 0 {
		return skipped("without QoS 1 no message waits")
	}
	const long, least = 100, 2
	id := t.id()
	sub, err := t.keep(ctx, id)
	if err != nil {
		return err
	}
	if _, err := sub.subscribe(ctx, 1, t.topic("t")); err != nil {
		return err
	}
	sub.leave(ctx)
	pub, err := t.clean(ctx)
	if err != nil {
		return err
	}
	for _, m := range []struct {
		payload string
		expiry  uint32
	}{{"short", 1}, {"long", long}} {
		if err := pub.publish(ctx, &packet.Message{Topic: t.topic("t"), Payload: []byte(m.payload), QoS: 1, HasExpiry: true, Expiry: m.expiry}); err != nil {
			return err
		}
	}
	if err := wait(ctx, least*time.Second+500*time.Millisecond); err != nil {
		return err
	}
	if sub, err = t.resume(ctx, id); err != nil {
		return err
	}
	// [MQTT-3.3.2-5]
	p, err := sub.expect(ctx, "long")
	if err != nil {
		return err
	}
	left, ok := p.Expiry()
	switch {
	case !ok:
		return broken("Message Expiry Interval is missing")
	case left > long-least: // [MQTT-3.3.2-6]
		return broken("Message Expiry Interval is %d s after a wait of %d s, from %d s", left, least, long)
	}
	t.tell("%d s become %d s", long, left)
	return nil
}

// topicAlias publishes by an alias, after a change of what it stands for as
// well.
func topicAlias(ctx context.Context, t *trial) error {
	if err := t.v5(); err != nil {
		return err
	}
	if most := t.connack.AliasMax; most == nil || *most == 0 {
		return absent("CONNACK has Topic Alias Maximum 0")
	}
	pub, sub, err := t.two(ctx, t.qos(1), t.topic("+"))
	if err != nil {
		return err
	}
	for _, step := range []struct {
		topic string
		omit  bool
	}{{"a", false}, {"a", true}, {"b", false}, {"b", true}} {
		m := &packet.Message{Topic: t.topic(step.topic), Payload: []byte(step.topic), QoS: t.qos(1)}
		if err := pub.byAlias(ctx, m, 1, step.omit); err != nil {
			return err
		}
		p, err := sub.expect(ctx, step.topic)
		if err != nil {
			return err
		}
		if string(p.Topic()) != m.Topic {
			return broken("topic %.80q where the alias stands for %q", p.Topic(), m.Topic)
		}
	}
	return nil
}

// byAlias publishes with a topic alias.
func (c *conn) byAlias(ctx context.Context, m *packet.Message, alias uint16, omit bool) error {
	id := c.packetID()
	b, err := c.encode(m, packet.PublishOpts{ID: id, Alias: alias, OmitTopic: omit})
	if err != nil {
		return err
	}
	if err := c.write(ctx, b); err != nil || m.QoS == 0 {
		return err
	}
	code, reason, err := c.answer(ctx, m.QoS, id)
	if err == nil && code.Failed() {
		err = refused(packet.PUBACK, code, reason)
	}
	return err
}

// topicAliasServer lets the server use aliases, to two clients: one that allows
// none [MQTT-3.1.2-27].
func topicAliasServer(ctx context.Context, t *trial) error {
	if err := t.v5(); err != nil {
		return err
	}
	const most = 2
	pub, err := t.clean(ctx)
	if err != nil {
		return err
	}
	used := 0
	for _, allowed := range []uint16{0, most} {
		sub, err := t.connect(ctx, packet.Connect{CleanStart: true, AliasMax: allowed})
		if err != nil {
			return err
		}
		if _, err := sub.subscribe(ctx, 0, t.topic("+")); err != nil {
			return err
		}
		for i := range 12 { // four topics, three times
			name := fmt.Sprintf("topic-%d", i%4)
			if err := pub.publish(ctx, &packet.Message{Topic: t.topic(name), Payload: []byte(name), QoS: 0}); err != nil {
				return err
			}
			p, err := sub.expect(ctx, name)
			if err != nil {
				return err
			}
			switch {
			case p.Alias > allowed: // [MQTT-3.1.2-26]
				return broken("the server used topic alias %d, the client allows %d", p.Alias, allowed)
			case string(p.Topic()) != t.topic(name):
				return broken("topic %.80q where the alias must stand for %q", p.Topic(), t.topic(name))
			case p.Alias > 0:
				used++
			}
		}
		sub.leave(ctx)
	}
	if used == 0 {
		t.tell("none used")
	} else {
		t.tell("%d of %d allowed used", min(used, most), most)
	}
	t.value("used", used > 0)
	return nil
}
