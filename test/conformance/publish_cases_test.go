//go:build conformance

package conformance

import (
	"fmt"
	"strings"
)

func publishCases() []testCase {
	return []testCase{
		{"publish-dup-qos-0", all, publishDupQoS0},
		{"publish-qos-3", all, publishQoS3},
		{"publish-id-0", all, publishID0},
		{"publish-dup-not-propagated", all, publishDupNotPropagated},
		{"publish-topic-missing", all, publishTopicMissing},
		{"publish-topic-not-utf8", all, publishTopicNotUTF8},
		{"publish-topic-empty", all, publishTopicEmpty},
		{"publish-topic-wildcard", all, publishTopicWildcard},
		{"publish-topic-longest", all, publishTopicLongest},
		{"publish-answer", all, publishAnswer},
		{"publish-no-subscriber", all, publishNoSubscriber},
		{"publish-payload", all, publishPayload},
		{"publish-order", all, publishOrder},
		{"publish-qos-granted", all, publishQoSGranted},
		{"publish-byte-order-mark", all, publishByteOrderMark},
		{"publish-not-normalized", all, publishNotNormalized},
		{"publish-to-self", all, publishToSelf},
		{"overlap-highest-qos", all, overlapHighestQoS},
		{"overlap-subscription-ids", five, overlapSubscriptionIDs},
		{"publish-with-subscription-id", five, publishWithSubscriptionID},
	}
}

// refuses sends one packet on a fresh connection, which must be ended by it: in 5.0 with DISCONNECT and one of the codes.
func (e *env) refuses(b []byte, codes ...byte) {
	e.Helper()
	c := e.client()
	c.send(b)
	c.closed(codes...)
}

func publishDupQoS0(e *env) {
	e.refuses(message{topic: e.topic("t"), dup: true}.bytes(e.v), 0x81, 0x82)
}

func publishQoS3(e *env) {
	e.refuses(message{topic: e.topic("t"), qos: 3, id: 1}.bytes(e.v), 0x81)
	e.refuses(message{topic: e.topic("t"), qos: 3, id: 1, dup: true, retain: true}.bytes(e.v), 0x81)
}

func publishID0(e *env) {
	e.refuses(message{topic: e.topic("t"), qos: 1}.bytes(e.v), 0x81, 0x82)
	e.refuses(message{topic: e.topic("t"), qos: 2}.bytes(e.v), 0x81, 0x82)
}

func publishDupNotPropagated(e *env) {
	pub, sub := e.pair(e.topic("t"), 2)
	for qos := byte(1); qos <= 2; qos++ {
		pub.publish(message{topic: e.topic("t"), payload: "m", qos: qos, dup: true})
		if p := sub.receive("m"); p.dup() {
			e.Errorf("got %s, with the publisher's DUP", p)
		}
	}
}

func publishTopicMissing(e *env) {
	e.refuses(frame(tPUBLISH<<4), 0x81)
	e.refuses(frame(tPUBLISH<<4|2, raw(0)), 0x81)
	e.refuses(frame(tPUBLISH<<4, raw(0, 9, 'a')), 0x81)
}

func publishTopicNotUTF8(e *env) {
	for name, s := range notUTF8 {
		e.refuses(message{topic: s, payload: name}.bytes(e.v), 0x81)
	}
}

func publishTopicEmpty(e *env) {
	e.refuses(message{payload: "x"}.bytes(e.v), 0x81, 0x82, 0x90)
	e.refuses(message{payload: "x", qos: 1, id: 1}.bytes(e.v), 0x81, 0x82, 0x90)
}

func publishTopicWildcard(e *env) {
	sub := e.client()
	sub.want(e.topic("#"), 0)
	for _, name := range []string{"#", "+", e.topic("#"), e.topic("+/x"), e.topic("a+"), e.topic("a#b")} {
		e.refuses(message{topic: name, payload: "x"}.bytes(e.v), 0x90)
		e.refuses(message{topic: name, payload: "x", qos: 1, id: 1}.bytes(e.v), 0x90)
	}
	sub.quiet()
}

func publishTopicLongest(e *env) {
	topic := e.topic("")
	topic += strings.Repeat("x", 65535-len(topic))
	pub, sub := e.pair(topic, 1)
	pub.publish(message{topic: topic, payload: "long", qos: 1})
	if p := sub.receive("long"); p.topic != topic {
		e.Errorf("the topic of 65535 bytes came with %d", len(p.topic))
	}
}

func publishAnswer(e *env) {
	c := e.client()
	c.want(e.topic("t"), 0) // so that 0x10 is no answer
	c.send(message{topic: e.topic("t"), payload: "0"}.bytes(e.v))
	c.alive()
	c.receive("0")
	c.send(message{topic: e.topic("t"), payload: "1", qos: 1, id: 65535}.bytes(e.v))
	if p := c.ackFor(tPUBACK, 65535); p.code != 0 {
		e.Errorf("got %s", p)
	}
	c.send(message{topic: e.topic("t"), payload: "2", qos: 2, id: 65535}.bytes(e.v))
	if p := c.ackFor(tPUBREC, 65535); p.code != 0 {
		e.Errorf("got %s", p)
	}
	c.send(ack(tPUBREL, 65535))
	if p := c.ackFor(tPUBCOMP, 65535); p.code != 0 {
		e.Errorf("got %s", p)
	}
}

func publishNoSubscriber(e *env) {
	c := e.client()
	for qos := byte(1); qos <= 2; qos++ {
		if code := c.publish(message{topic: e.topic("nobody"), payload: "x", qos: qos}); code != 0 && code != 0x10 {
			e.Errorf("quality of service %d: code %#x", qos, code)
		}
	}
}

// publishPayload: any bytes, none, and many.
func publishPayload(e *env) {
	pub, sub := e.pair(e.topic("t"), 2)
	for _, payload := range []string{"", "\x00", "\xff\xfe\x00\xc0", strings.Repeat("p", 127), strings.Repeat("p", 16384), strings.Repeat("q", 300000)} {
		for qos := byte(0); qos <= 2; qos++ {
			pub.publish(message{topic: e.topic("t"), payload: payload, qos: qos})
			sub.receive(payload)
		}
	}
}

// publishOrder: the messages of one client on one topic and quality of service come in its order, to exact and wildcard subscriptions.
func publishOrder(e *env) {
	for qos := byte(0); qos <= 2; qos++ {
		topic := e.topic(fmt.Sprint("t", qos))
		pub, exact := e.pair(topic, 2)
		wild := e.client()
		wild.want(e.topic("+"), 2)
		const n = 20
		var burst []byte
		for i := range n {
			burst = append(burst, message{topic: topic, payload: fmt.Sprint(i), qos: qos, id: uint16(i + 1)}.bytes(e.v)...)
		}
		pub.send(burst)
		if qos == 2 { // a server may hand on a message only when it is released
			for i := range uint16(n) {
				pub.ackFor(tPUBREC, i+1)
			}
			for i := range uint16(n) {
				pub.send(ack(tPUBREL, i+1))
				pub.ackFor(tPUBCOMP, i+1)
			}
		}
		for i := range n {
			exact.receive(fmt.Sprint(i))
			wild.receive(fmt.Sprint(i))
		}
	}
}

// publishQoSGranted: the lower of the message's and the subscription's quality of service.
func publishQoSGranted(e *env) {
	for granted := byte(0); granted <= 2; granted++ {
		topic := e.topic(fmt.Sprint("t", granted))
		pub, sub := e.pair(topic, granted)
		for qos := byte(0); qos <= 2; qos++ {
			pub.publish(message{topic: topic, payload: "m", qos: qos})
			if p := sub.receive("m"); p.qos() != min(qos, granted) {
				e.Errorf("published at %d, granted %d: got %s", qos, granted, p)
			}
		}
	}
}

// publishByteOrderMark: U+FEFF is a character like others, and stays.
func publishByteOrderMark(e *env) {
	with, without := e.topic("\ufefft\ufeff"), e.topic("t")
	pub, sub := e.pair(with, 0)
	sub.want(e.topic("end"), 0)
	pub.publish(message{topic: without, payload: "without"})
	pub.publish(message{topic: with, payload: "with"})
	if p := sub.receive("with"); p.topic != with {
		e.Errorf("got %s", p)
	}
	lead := "\ufeff" + e.topic("lead")
	sub.want(lead, 0)
	pub.publish(message{topic: lead, payload: "lead"})
	if p := sub.receive("lead"); p.topic != lead {
		e.Errorf("got %s", p)
	}
}

// publishNotNormalized: topics that look alike are different: case, spaces, composed characters, slashes, dots.
func publishNotNormalized(e *env) {
	names := []string{"a", "A", " a", "a ", "a/", "/a", "a//b", "a/b", "\u00e9", "e\u0301", "\u212b", "\u00c5", "a/../b", "a/./b", "%61", "\U0001f600"}
	sub := e.client()
	for _, n := range names {
		sub.want(e.topic(n), 0)
	}
	pub := e.client()
	for _, n := range names {
		pub.publish(message{topic: e.topic(n), payload: n})
		if p := sub.receive(n); p.topic != e.topic(n) {
			e.Errorf("published to %q: got %s", n, p)
		}
	}
	sub.quiet()
}

func publishToSelf(e *env) {
	c := e.client()
	c.want(e.topic("t"), 1)
	c.publish(message{topic: e.topic("t"), payload: "m", qos: 1})
	c.receive("m")
}

// overlapHighestQoS: however many subscriptions of a client match, it gets the message at the highest quality of service, once.
func overlapHighestQoS(e *env) {
	pub, sub := e.client(), e.client()
	sub.want(e.topic("a/+"), 2)
	sub.want(e.topic("a/b"), 0)
	sub.want(e.topic("#"), 1)
	for qos := byte(0); qos <= 2; qos++ {
		pub.publish(message{topic: e.topic("a/b"), payload: "m", qos: qos})
		if p := sub.receive("m"); p.qos() != qos {
			e.Errorf("published at %d: got %s", qos, p)
		}
	}
	sub.nothing(pub, 2)
}

func overlapSubscriptionIDs(e *env) {
	pub, sub := e.client(), e.client()
	sub.want(e.topic("a/+"), 2, pVar(pSubscriptionID, 1))
	sub.want(e.topic("a/b"), 0, pVar(pSubscriptionID, 268435455))
	sub.want(e.topic("#"), 1)
	sub.want(e.topic("a/#"), 0, pVar(pSubscriptionID, 128))
	sub.want(e.topic("+/b"), 0, pVar(pSubscriptionID, 1))
	pub.publish(message{topic: e.topic("a/b"), payload: "m", qos: 2})
	p := sub.receive("m")
	got := map[uint32]int{}
	for _, q := range p.all(pSubscriptionID) {
		got[q.num]++
	}
	if len(got) != 3 || got[1] == 0 || got[268435455] != 1 || got[128] != 1 || p.qos() != 2 {
		e.Errorf("got %s, want the subscription identifiers 1, 128 and 268435455 at quality of service 2", p)
	}
	sub.nothing(pub, 2)
	// Each subscription alone carries its own, and one without carries none.
	pub.publish(message{topic: e.topic("other"), payload: "n"})
	if p := sub.receive("n"); len(p.all(pSubscriptionID)) != 0 {
		e.Errorf("got %s, want no subscription identifier", p)
	}
	pub.publish(message{topic: e.topic("x/b"), payload: "o"})
	if list := sub.receive("o").all(pSubscriptionID); len(list) != 1 || list[0].num != 1 {
		e.Errorf("got the subscription identifiers %v, want 1", list)
	}
}

func publishWithSubscriptionID(e *env) {
	sub := e.client()
	sub.want(e.topic("t"), 0)
	for qos := byte(0); qos <= 2; qos++ {
		e.refuses(message{topic: e.topic("t"), qos: qos, id: 1, props: [][]byte{pVar(pSubscriptionID, 1)}}.bytes(e.v), 0x82)
	}
	sub.quiet()
}
