package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/myelin-mqtt/myelin/packet"
)

// canWildcard is absent where the server says that it has no wildcards.
func (t *trial) canWildcard() error {
	if a := t.connack.WildcardAvailable; a != nil && !*a {
		return absent("CONNACK has Wildcard Subscription Available 0")
	}
	return nil
}

// matches subscribes to filter and publishes to topics: those in yes must
// arrive, those in no must not.
func (t *trial) matches(ctx context.Context, filter string, yes, no []string) error {
	pub, sub, err := t.two(ctx, t.qos(1), filter)
	if err != nil {
		return err
	}
	defer pub.leave(ctx)
	defer sub.leave(ctx)
	for _, topic := range slices.Concat(no, yes) {
		if err := pub.publish(ctx, &packet.Message{Topic: topic, Payload: []byte(topic), QoS: t.qos(1)}); err != nil {
			return err
		}
	}
	// Topics have no order among them.
	left := slices.Clone(yes)
	for len(left) > 0 {
		m, err := sub.receive(ctx)
		if err != nil {
			return fmt.Errorf("%q and topic %q: %w", filter, left[0], err)
		}
		i := slices.Index(left, string(m.Payload()))
		if i < 0 {
			return broken("%q got the message of %.80q", filter, m.Topic())
		}
		left = slices.Delete(left, i, i+1)
	}
	return sub.silence(ctx, fmt.Sprintf("%q does not match", filter))
}

func wildcardPlus(ctx context.Context, t *trial) error {
	if err := t.canWildcard(); err != nil {
		return err
	}
	x := t.topic
	if err := t.matches(ctx, x("+/b"), []string{x("a/b"), x("/b"), x("c/b")}, []string{x("b"), x("a/b/c"), x("a/c")}); err != nil {
		return err
	}
	return t.matches(ctx, x("a/+"), []string{x("a/b"), x("a/")}, []string{x("a"), x("a/b/c")})
}

func wildcardHash(ctx context.Context, t *trial) error {
	if err := t.canWildcard(); err != nil {
		return err
	}
	x := t.topic
	if err := t.matches(ctx, x("a/#"), []string{x("a"), x("a/b"), x("a/b/c"), x("a/")}, []string{x("ab"), x("b/a")}); err != nil {
		return err
	}
	return t.matches(ctx, x("+/b/#"), []string{x("a/b"), x("c/b/c")}, []string{x("a"), x("a/c/b")})
}

// dollarTopics publishes to a topic that begins with $, where the server lets
// it [MQTT-4.7.2-1].
func dollarTopics(ctx context.Context, t *trial) error {
	if err := t.canWildcard(); err != nil {
		return err
	}
	_, rest, _ := strings.Cut(t.topic("t"), "/")
	hidden, shown := "$myelin-check/"+rest, t.topic("t")
	wild, err := t.clean(ctx)
	if err != nil {
		return err
	}
	// Not "#": it would bring all that goes through the server.
	if _, err := wild.subscribe(ctx, t.qos(1), "+/"+rest); err != nil {
		return err
	}
	pub, plain, err := t.two(ctx, t.qos(1), hidden)
	if err != nil {
		if v, ok := errors.AsType[*verdict](err); ok && v.status == Broken {
			err = unknown("no subscription to %q: %s", "$myelin-check/...", v.text)
		}
		return err
	}
	for _, topic := range []string{hidden, shown} {
		// A refusal is the server's right; then there is nothing to hide.
		_, _, err := pub.offer(ctx, &packet.Message{Topic: topic, Payload: []byte(topic), QoS: t.qos(1)})
		if _, ended := errors.AsType[*endError](err); ended && topic == hidden {
			pub, err = t.clean(ctx)
		}
		if err != nil {
			return err
		}
	}
	if _, err := wild.expect(ctx, shown); err != nil {
		return err
	}
	if err := wild.silence(ctx, "a wildcard in front matches a $-topic"); err != nil {
		return err
	}
	if got, err := plain.drain(ctx); err != nil || len(got) > 0 {
		return err
	}
	return dollarSys(ctx, t)
}

// dollarSys looks at what the server says of itself, where clients can publish
// to no $-topic.
func dollarSys(ctx context.Context, t *trial) error {
	plain, err := t.clean(ctx)
	if err != nil {
		return err
	}
	if _, err := plain.subscribe(ctx, 0, "$SYS/broker/+"); err != nil {
		return unknown("no $-topic is there to look at: %v", err)
	}
	if got, err := plain.drain(ctx); err != nil || len(got) == 0 {
		return unknown("no $-topic is there to look at")
	}
	wild, err := t.clean(ctx)
	if err != nil {
		return err
	}
	if _, err := wild.subscribe(ctx, 0, "+/broker/+"); err != nil {
		return err
	}
	got, err := wild.drain(ctx)
	if err != nil {
		return err
	}
	for _, m := range got {
		if strings.HasPrefix(string(m.Topic()), "$") {
			return broken("%q got the message of %.80q", "+/broker/+", m.Topic())
		}
	}
	t.tell("seen by $SYS: clients can publish to no $-topic")
	return nil
}

// overlap has one message match three subscriptions.
func overlap(ctx context.Context, t *trial) error {
	if err := t.canWildcard(); err != nil {
		return err
	}
	sub, err := t.clean(ctx)
	if err != nil {
		return err
	}
	most := t.qos(2)
	if _, err := sub.subscribe(ctx, 0, t.topic("+")); err != nil {
		return err
	}
	if _, err := sub.subscribe(ctx, most, t.topic("t")); err != nil {
		return err
	}
	if _, err := sub.subscribe(ctx, 0, t.topic("#")); err != nil {
		return err
	}
	pub, err := t.clean(ctx)
	if err != nil {
		return err
	}
	if err := pub.publish(ctx, &packet.Message{Topic: t.topic("t"), Payload: []byte("m"), QoS: most}); err != nil {
		return err
	}
	m, err := sub.expect(ctx, "m")
	if err != nil {
		return err
	}
	more, err := sub.drain(ctx)
	if err != nil {
		return err
	}
	highest := m.QoS()
	for _, m := range more {
		highest = max(highest, m.QoS())
	}
	t.value("copies", 1+len(more))
	if highest != most { // [MQTT-3.3.4-2]
		return broken("%d of 3 copies possible, the highest with QoS %d, where a subscription has %d", 1+len(more), highest, most)
	}
	if len(more) == 0 {
		t.tell("one copy")
		return nil
	}
	if t.tell("%d copies for 3 subscriptions", 1+len(more)); len(more) > 2 {
		return broken("%d copies for 3 subscriptions", 1+len(more))
	}
	return nil
}

// replace subscribes to one filter twice, the second time with another QoS
// [MQTT-3.8.4-3].
func replace(ctx context.Context, t *trial) error {
	topic := t.topic("t")
	pub, sub, err := t.two(ctx, 0, topic)
	if err != nil {
		return err
	}
	if _, err := sub.subscribe(ctx, t.qos(1), topic); err != nil {
		return err
	}
	if err := pub.publish(ctx, &packet.Message{Topic: topic, Payload: []byte("m"), QoS: t.qos(1)}); err != nil {
		return err
	}
	m, err := sub.expect(ctx, "m")
	if err != nil {
		return err
	}
	if m.QoS() != t.qos(1) {
		return broken("QoS %d after the subscription was replaced with %d", m.QoS(), t.qos(1))
	}
	return sub.silence(ctx, "a second copy")
}

// unsubscribe ends a subscription, and one that is not there.
func unsubscribe(ctx context.Context, t *trial) error {
	pub, sub, err := t.two(ctx, t.qos(1), t.topic("t"))
	if err != nil {
		return err
	}
	if _, err := sub.subscribe(ctx, t.qos(1), t.topic("other")); err != nil {
		return err
	}
	codes, err := sub.unsubscribe(ctx, t.topic("t"), t.topic("none"))
	if err != nil {
		return err
	}
	want := []packet.Reason{packet.Success, packet.NoSubscriptionExisted}
	if t.version >= packet.V5 && !slices.Equal(codes, want) {
		return broken("UNSUBACK %v for a subscription and none, not %v", codes, want)
	}
	for _, topic := range []string{"t", "other"} {
		if err := pub.publish(ctx, &packet.Message{Topic: t.topic(topic), Payload: []byte(topic), QoS: t.qos(1)}); err != nil {
			return err
		}
	}
	if _, err := sub.expect(ctx, "other"); err != nil { // [MQTT-3.10.4-2]
		return err
	}
	return sub.silence(ctx, "unsubscribed")
}

// noLocal publishes to the client's own subscription [MQTT-3.8.3-3].
func noLocal(ctx context.Context, t *trial) error {
	if err := t.v5(); err != nil {
		return err
	}
	topic := t.topic("t")
	c, err := t.clean(ctx)
	if err != nil {
		return err
	}
	o := packet.SubOptions(t.qos(1)) | packet.NoLocal
	if _, err := c.subscribeAs(ctx, packet.Subscribe{Filters: []packet.Subscription{{Filter: topic, Options: o}}}); err != nil {
		return err
	}
	if err := c.publish(ctx, &packet.Message{Topic: topic, Payload: []byte("own"), QoS: t.qos(1)}); err != nil {
		return err
	}
	other, err := t.clean(ctx)
	if err != nil {
		return err
	}
	if err := other.publish(ctx, &packet.Message{Topic: topic, Payload: []byte("another's"), QoS: t.qos(1)}); err != nil {
		return err
	}
	if _, err := c.expect(ctx, "another's"); err != nil {
		return err
	}
	return c.silence(ctx, "No Local")
}

// identifiers has a message match two subscriptions with identifiers and one
// without [MQTT-3.3.4-3].
func identifiers(ctx context.Context, t *trial) error {
	if err := t.v5(); err != nil {
		return err
	}
	if a := t.connack.SubIDAvailable; a != nil && !*a {
		return absent("CONNACK has Subscription Identifiers Available 0")
	}
	sub, err := t.clean(ctx)
	if err != nil {
		return err
	}
	want := []uint32{7, packet.MaxRemaining}
	for i, f := range []struct {
		filter string
		id     uint32
	}{{"t", want[0]}, {"+", want[1]}, {"#", 0}} {
		if i > 0 && t.canWildcard() != nil {
			want = want[:1]
			break
		}
		s := packet.Subscribe{SubID: f.id, Filters: []packet.Subscription{{Filter: t.topic(f.filter), Options: packet.SubOptions(t.qos(1))}}}
		if _, err := sub.subscribeAs(ctx, s); err != nil {
			return err
		}
	}
	pub, err := t.clean(ctx)
	if err != nil {
		return err
	}
	if err := pub.publish(ctx, &packet.Message{Topic: t.topic("t"), Payload: []byte("m"), QoS: t.qos(1)}); err != nil {
		return err
	}
	m, err := sub.expect(ctx, "m")
	if err != nil {
		return err
	}
	more, err := sub.drain(ctx)
	if err != nil {
		return err
	}
	var got []uint32
	for _, m := range append(more, m) {
		got = m.SubIDs(got)
	}
	if slices.Sort(got); !slices.Equal(got, want) { // [MQTT-3.3.4-4] [MQTT-3.3.4-5]
		return broken("identifiers %v in %d copies, not %v", got, 1+len(more), want)
	}
	t.tell("%d identifiers in %s", len(want), []string{"one copy", "several copies"}[min(len(more), 1)])
	return nil
}

// shared publishes to a group of two, and beside them one that is in no group.
func shared(ctx context.Context, t *trial) error {
	if a := t.connack.SharedAvailable; a != nil && !*a {
		return absent("CONNACK has Shared Subscription Available 0")
	}
	const n = 40
	filter := "$share/" + t.id() + "/" + t.topic("t")
	pub, plain, err := t.two(ctx, t.qos(1), t.topic("t"))
	if err != nil {
		return err
	}
	var members [2]*conn
	for i := range members {
		if members[i], err = t.clean(ctx); err != nil {
			return err
		}
		if _, err := members[i].subscribe(ctx, t.qos(1), filter); err != nil {
			if t.version < packet.V5 {
				return absent("below MQTT 5.0 no server has to have them: %v", err)
			}
			return err
		}
	}
	for i := range n {
		if err := pub.publish(ctx, &packet.Message{Topic: t.topic("t"), Payload: fmt.Append(nil, i), QoS: t.qos(1)}); err != nil {
			return err
		}
	}
	for i := range n {
		if _, err := plain.expect(ctx, fmt.Sprint(i)); err != nil {
			return err
		}
	}
	seen, got := map[string]int{}, [2]int{}
	for i, c := range members {
		all, err := c.drain(ctx)
		if err != nil {
			return err
		}
		for _, m := range all {
			seen[string(m.Payload())]++
		}
		got[i] = len(all)
	}
	switch {
	case len(seen) == 0 && t.version < packet.V5:
		return absent("below MQTT 5.0 no server has to have them")
	case len(seen) < n:
		return broken("%d of %d messages came to nobody in the group", n-len(seen), n)
	case got[0]+got[1] > n:
		return broken("%d messages came to a group that should get %d", got[0]+got[1], n)
	}
	t.tell("%d messages to two members: %d and %d", n, got[0], got[1])
	return nil
}
