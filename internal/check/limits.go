package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// search is the greatest number from low to high that works, if all below it
// do. low need not be tried.
func search(low, high int, works func(int) (bool, error)) (int, error) {
	if low >= high {
		return high, nil
	}
	if ok, err := works(high); err != nil || ok {
		return high, err
	}
	for high-low > 1 {
		middle := low + (high-low)/2
		ok, err := works(middle)
		if err != nil {
			return 0, err
		}
		if ok {
			low = middle
		} else {
			high = middle
		}
	}
	return low, nil
}

// pair is a publisher and a subscriber that are made anew where the server
// breaks off.
type pair struct {
	t        *trial
	filter   string
	pub, sub *conn
	round    int
	refusal  string        // how the server refused last
	code     packet.Reason // with which code, if any
}

// delivers reports whether a message gets through; a message that the server
// refuses does not, whichever way it does so.
func (p *pair) delivers(ctx context.Context, m *packet.Message) (bool, error) {
	if p.pub == nil {
		var err error
		if p.pub, p.sub, err = p.t.two(ctx, p.t.qos(1), p.filter); err != nil {
			return false, err
		}
	}
	// A long payload takes its time on a slow line: 128 KiB/s are enough.
	p.pub.patience = p.t.o.Patience + time.Duration(len(m.Payload)>>17)*time.Second
	p.sub.patience = p.pub.patience
	again := func(refusal string, code packet.Reason) (bool, error) {
		p.refusal, p.code = refusal, code
		p.pub.leave(ctx)
		p.sub.leave(ctx)
		p.pub, p.sub = nil, nil
		return false, nil
	}
	code, _, err := p.pub.offer(ctx, m)
	if end, ok := errors.AsType[*endError](err); ok {
		return again(end.how(), code)
	}
	if err != nil {
		return false, err
	}
	if code.Failed() {
		return again("PUBACK "+code.String(), code)
	}
	// Another message behind it shows, sooner than patience, that it is not to come.
	p.round++
	mark := fmt.Sprintf("mark %d", p.round)
	if err := p.pub.publish(ctx, &packet.Message{Topic: strings.TrimSuffix(p.filter, "#") + "mark", Payload: []byte(mark), QoS: m.QoS}); err != nil {
		if end, ok := errors.AsType[*endError](err); ok {
			return again(end.how(), 0)
		}
		return false, err
	}
	came := false
	for {
		got, err := p.sub.receive(ctx)
		if end, ok := errors.AsType[*endError](err); ok {
			return again("the subscriber: "+end.how(), 0)
		}
		if err != nil {
			return false, err
		}
		if string(got.Topic()) == m.Topic && bytes.Equal(got.Payload(), m.Payload) {
			came = true
		}
		if string(got.Payload()) == mark {
			break
		}
	}
	if !came {
		if p.pub.v >= packet.V5 && m.QoS > 0 {
			return false, broken("a message of %d bytes on a topic of %d was acknowledged, and did not arrive", len(m.Payload), len(m.Topic))
		}
		return again("dropped without a word", 0)
	}
	return true, nil
}

// longestPayload searches up to MaxPayload and the server's Maximum Packet Size,
// which is a promise.
func longestPayload(ctx context.Context, t *trial) error {
	m := &packet.Message{Topic: t.topic("t"), QoS: t.qos(1)}
	room, told := t.room(m)
	high := min(t.o.MaxPayload, room)
	payload := bytes.Repeat([]byte("0123456789abcdef"), high/16+1)
	p := pair{t: t, filter: t.topic("#")}
	n, err := search(0, high, func(n int) (bool, error) {
		m.Payload = payload[:n]
		return p.delivers(ctx, m)
	})
	if err != nil {
		return err
	}
	t.value("bytes", n)
	switch {
	case n == t.o.MaxPayload:
		t.tell("%s or more", size(n))
		t.value("more", true)
	case n == room:
		t.tell("%s, as the CONNACK says", size(n))
	case told || t.version >= packet.V5 && !forbidden(p.code) && p.code != packet.QuotaExceeded:
		// Without a Maximum Packet Size there is no limit but the protocol's.
		limit := "no Maximum Packet Size"
		if told {
			limit = fmt.Sprintf("Maximum Packet Size %d", *t.connack.MaxPacket)
		}
		return broken("%s, then %s: CONNACK has %s", size(n), p.refusal, limit)
	default:
		t.tell("%s, then %s", size(n), p.refusal)
	}
	return nil
}

// room is how long a payload can be in a PUBLISH like m; told: the server has
// said so.
func (t *trial) room(m *packet.Message) (n int, told bool) {
	most := packet.MaxSize
	if p := t.connack.MaxPacket; p != nil {
		most, told = int(*p), true
	}
	// Topic, identifier and properties, and the fixed header with the shortest
	// length that fits.
	rest := 2 + len(m.Topic)
	if m.QoS > 0 {
		rest += 2
	}
	if t.version >= packet.V5 {
		rest++
	}
	least := 0
	for width := 1; width <= 4; width++ {
		longest := 1<<(7*width) - 1
		if body := min(most-1-width, longest); body >= least {
			n = max(body-rest, 0)
		}
		least = longest + 1
	}
	return n, told
}

// size is a number of bytes for a person.
func size(n int) string {
	switch {
	case n > 0 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n > 0 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}

// longestTopic searches up to what a string can hold [MQTT-4.7.3-3].
func longestTopic(ctx context.Context, t *trial) error {
	base := len(t.topic(""))
	return longest(ctx, t, "bytes", base, 65535-base, t.topicRoom(), func(n int) string { return strings.Repeat("t", n) })
}

// mostLevels searches up to as many levels as a topic name has room for, short
// ones.
func mostLevels(ctx context.Context, t *trial) error {
	base := t.topic("")
	high := (65535 - len(base) - 1) / 2
	return longest(ctx, t, "levels", strings.Count(base, "/"), high, t.topicRoom()/2, func(n int) string { return strings.Repeat("l/", n-1) + "l" })
}

// topicRoom is how long a topic name can be behind the check's own part of it,
// as far as the server's Maximum Packet Size says.
func (t *trial) topicRoom() int {
	n, _ := t.room(&packet.Message{Topic: t.topic(""), QoS: t.qos(1)})
	return n - 1 // the payload
}

// longest searches topics: name makes the part behind the prefix, which is base
// units long, of up to high units, and no more than room, which the server has
// set.
func longest(ctx context.Context, t *trial, unit string, base, high, room int, name func(int) string) error {
	if t.canWildcard() != nil {
		return skipped("without wildcards")
	}
	end := "the most there can be"
	if room < high {
		high, end = max(room, 1), "the most that fits into the Maximum Packet Size"
	}
	p := pair{t: t, filter: t.topic("#")}
	n, err := search(0, high, func(n int) (bool, error) {
		return p.delivers(ctx, &packet.Message{Topic: t.topic(name(n)), Payload: []byte("m"), QoS: t.qos(1)})
	})
	if err != nil {
		return err
	}
	t.value(unit, base+n)
	if t.tell("%d %s, %s", base+n, unit, end); n < high {
		t.tell("%d %s, then %s", base+n, unit, p.refusal)
	}
	return nil
}

// longestClientID searches up to what a string can hold: 23 bytes are for every
// server [MQTT-3.1.3-5].
func longestClientID(ctx context.Context, t *trial) error {
	const least = 23
	fill := func(n int) string {
		id := t.id()
		return id + strings.Repeat("x", max(n-len(id), 0))
	}
	refusal := ""
	works := func(n int) (bool, error) {
		c, err := t.try(ctx, packet.Connect{ClientID: fill(n), CleanStart: true})
		if end, ok := errors.AsType[*endError](err); ok {
			refusal = end.how()
			return false, nil
		}
		if err != nil {
			return false, err
		}
		defer c.leave(ctx)
		if c.ack.Code == packet.Success {
			return true, nil
		}
		refusal = fmt.Sprintf("CONNACK %v", c.ack.Code)
		return false, nil
	}
	if ok, err := works(least); err != nil {
		return err
	} else if !ok && t.o.IDPrefix == "mc" {
		return broken("%d letters and digits: %s", least, refusal)
	} else if !ok {
		return unknown("%d bytes: %s", least, refusal)
	}
	high, end := 65535, "the most there can be"
	if most := t.connack.MaxPacket; most != nil && int(*most) < 66<<10 {
		// The rest of a CONNECT is not long, apart from who asks.
		high, end = max(int(*most)-64-len(t.o.Username)-len(t.o.Password), least), "the most that fits into the Maximum Packet Size"
	}
	n, err := search(least, high, works)
	if err != nil {
		return err
	}
	t.value("bytes", n)
	if t.tell("%d bytes, %s", n, end); n < high {
		t.tell("%d bytes, then %s", n, refusal)
	}
	return nil
}

// receiveMaximum does not acknowledge, and counts what the server sends
// [MQTT-3.3.4-9].
func receiveMaximum(ctx context.Context, t *trial) error {
	if err := t.v5(); err != nil {
		return err
	}
	if t.qos(1) == 0 {
		return absent("CONNACK has Maximum QoS 0")
	}
	const most, n = 3, 8
	sub, err := t.connect(ctx, packet.Connect{CleanStart: true, ReceiveMax: most})
	if err != nil {
		return err
	}
	if _, err := sub.subscribe(ctx, 2, t.topic("t")); err != nil {
		return err
	}
	pub, err := t.clean(ctx)
	if err != nil {
		return err
	}
	for i := range n {
		m := &packet.Message{Topic: t.topic("t"), Payload: fmt.Append(nil, i), QoS: min(packet.QoS(1+i%2), t.qos(2))}
		if err := pub.publish(ctx, m); err != nil {
			return err
		}
	}
	var first []*packet.Publish
	for range most {
		m, err := sub.take(ctx)
		if err != nil {
			return fmt.Errorf("with %d in flight of %d allowed: %w", len(first), most, err)
		}
		first = append(first, m)
	}
	if err := sub.silence(ctx, fmt.Sprintf("more than Receive Maximum %d in flight", most)); err != nil {
		return err
	}
	if err := sub.ping(ctx); err != nil { // [MQTT-4.9.0-3]
		return err
	}
	for _, m := range first {
		if err := sub.thank(ctx, m); err != nil {
			return err
		}
	}
	for i := range n - most {
		if _, err := sub.receive(ctx); err != nil {
			return fmt.Errorf("after the acknowledgements, message %d of %d: %w", i+1, n-most, err)
		}
	}
	return nil
}

// receiveMaximumServer has as many messages in flight as the server allows, by
// beginning QoS 2 handshakes that it does not finish.
func receiveMaximumServer(ctx context.Context, t *trial) error {
	if err := t.v5(); err != nil {
		return err
	}
	if t.qos(2) < 2 {
		return skipped("without QoS 2 nothing stays in flight")
	}
	const most = 2000
	told := 65535
	if r := t.connack.ReceiveMax; r != nil {
		told = int(*r)
	}
	c, err := t.clean(ctx)
	if err != nil {
		return err
	}
	begin := func() (id uint16, err error) {
		return c.start(ctx, &packet.Message{Topic: t.topic("t"), Payload: []byte("m"), QoS: 2})
	}
	n := min(told, most)
	var ids []uint16
	for range n {
		id, err := begin()
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	for i, id := range ids {
		a, err := c.acked(ctx, packet.PUBREC, id)
		if err != nil {
			return fmt.Errorf("after the PUBREC of %d in flight of %d allowed: %w", i, told, err)
		}
		if a.Code.Failed() {
			return refused(packet.PUBREC, a.Code, a.ReasonString)
		}
	}
	t.value("in_flight", n)
	if n < told {
		t.tell("%d of %d tried", n, told)
		return nil
	}
	if _, err := begin(); err != nil {
		return err
	}
	// What the server does about one too many is its own affair.
	next := "one more is taken as well"
	if end, ok := errors.AsType[*endError](c.ping(ctx)); ok {
		next = "one more: " + end.how()
	}
	t.tell("%d; %s", n, next)
	return nil
}

// packetSize takes only short packets [MQTT-3.1.2-24].
func packetSize(ctx context.Context, t *trial) error {
	if err := t.v5(); err != nil {
		return err
	}
	most := len(t.topic("t")) + 200
	sub, err := t.connect(ctx, packet.Connect{CleanStart: true, MaxPacket: uint32(most)})
	if err != nil {
		return err
	}
	if _, err := sub.subscribe(ctx, t.qos(1), t.topic("t")); err != nil {
		return err
	}
	pub, err := t.clean(ctx)
	if err != nil {
		return err
	}
	for _, payload := range []string{"short", strings.Repeat("long ", most/5), "short again"} {
		if err := pub.publish(ctx, &packet.Message{Topic: t.topic("t"), Payload: []byte(payload), QoS: t.qos(1)}); err != nil {
			return err
		}
	}
	if _, err := sub.expect(ctx, "short"); err != nil {
		return err
	}
	_, err = sub.expect(ctx, "short again") // [MQTT-3.1.2-25]
	return err
}

// packetSizeServer sends more than the server says that it takes.
func packetSizeServer(ctx context.Context, t *trial) error {
	if err := t.v5(); err != nil {
		return err
	}
	m := &packet.Message{Topic: t.topic("t")}
	room, told := t.room(m)
	switch {
	case !told:
		return skipped("CONNACK has no Maximum Packet Size")
	case room >= t.o.MaxPayload:
		return skipped("Maximum Packet Size %d is more than --max-payload", *t.connack.MaxPacket)
	}
	pub, sub, err := t.two(ctx, 0, m.Topic)
	if err != nil {
		return err
	}
	// A server that does not count a byte or two of the header does no harm.
	const more = 100
	what := fmt.Sprintf("a packet of %d bytes more", more)
	m.Payload = make([]byte, room+more)
	if err := pub.publish(ctx, m); err != nil {
		return err
	}
	end, err := pub.ends(ctx, what)
	if err != nil {
		return err
	}
	t.tell("%s: %s", what, end.how())
	return sub.silence(ctx, "the packet was delivered")
}

// aliasMaximum uses the highest alias [MQTT-3.3.2-12], and one above it.
func aliasMaximum(ctx context.Context, t *trial) error {
	if err := t.v5(); err != nil {
		return err
	}
	var most uint16
	if a := t.connack.AliasMax; a != nil {
		most = *a
	}
	pub, sub, err := t.two(ctx, t.qos(1), t.topic("t"))
	if err != nil {
		return err
	}
	m := &packet.Message{Topic: t.topic("t"), Payload: []byte("m"), QoS: t.qos(1)}
	for _, omit := range []bool{false, true} {
		if most == 0 {
			break
		}
		if err := pub.byAlias(ctx, m, most, omit); err != nil {
			return err
		}
		if _, err := sub.expect(ctx, "m"); err != nil {
			return err
		}
	}
	if most == 65535 {
		t.tell("%d, the highest there is", most)
		return nil
	}
	b, err := pub.encode(m, packet.PublishOpts{ID: pub.packetID(), Alias: most + 1})
	if err != nil {
		return err
	}
	if err := pub.write(ctx, b); err != nil {
		return err
	}
	end, err := pub.ends(ctx, fmt.Sprintf("topic alias %d where the maximum is %d", most+1, most))
	if err != nil {
		return err
	}
	t.tell("%d; alias %d: %s", most, most+1, end.how())
	return nil
}

// maximumQoS asks for more than there is.
func maximumQoS(ctx context.Context, t *trial) error {
	if err := t.v5(); err != nil {
		return err
	}
	if t.qos(2) == 2 {
		return skipped("all qualities of service are there")
	}
	pub, sub, err := t.two(ctx, 2, t.topic("t")) // [MQTT-3.2.2-10]
	if err != nil {
		return err
	}
	if _, err := pub.start(ctx, &packet.Message{Topic: t.topic("t"), Payload: []byte("m"), QoS: t.qos(2) + 1}); err != nil {
		return err
	}
	end, err := pub.ends(ctx, fmt.Sprintf("QoS %d where the maximum is %d", t.qos(2)+1, t.qos(2)))
	if err != nil {
		return err
	}
	t.tell("QoS %d: %s", t.qos(2)+1, end.how())
	c, err := t.try(ctx, packet.Connect{ClientID: t.id(), CleanStart: true, Will: &packet.Will{Message: packet.Message{Topic: t.topic("t"), QoS: 2}}})
	if _, ended := errors.AsType[*endError](err); !ended && err != nil {
		return err
	} else if !ended && !c.ack.Code.Failed() { // [MQTT-3.2.2-12]
		return broken("a will with QoS 2 is accepted")
	}
	return sub.silence(ctx, "the message was delivered")
}

// retainUnavailable retains where the server says that it does not.
func retainUnavailable(ctx context.Context, t *trial) error {
	if err := t.v5(); err != nil {
		return err
	}
	if t.canRetain() == nil {
		return skipped("there are retained messages")
	}
	c, err := t.clean(ctx)
	if err != nil {
		return err
	}
	if _, err := c.start(ctx, &packet.Message{Topic: t.topic("t"), Payload: []byte("m"), Retain: true}); err != nil {
		return err
	}
	end, err := c.ends(ctx, "RETAIN where CONNACK has Retain Available 0")
	if err != nil {
		return err
	}
	t.tell("%s", end.how())
	c, err = t.try(ctx, packet.Connect{ClientID: t.id(), CleanStart: true, Will: &packet.Will{Message: packet.Message{Topic: t.topic("t"), Retain: true}}})
	if _, ended := errors.AsType[*endError](err); !ended && err != nil {
		return err
	} else if !ended && !c.ack.Code.Failed() { // [MQTT-3.2.2-13]
		return broken("a will to be retained is accepted")
	}
	return nil
}
