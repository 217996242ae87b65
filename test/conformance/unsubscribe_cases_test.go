//go:build conformance

package conformance

import (
	"slices"
)

func unsubscribeCases() []testCase {
	return []testCase{
		{"unsubscribe-stops", all, unsubscribeStops},
		{"unsubscribe-exact", all, unsubscribeExact},
		{"unsubscribe-unknown", all, unsubscribeUnknown},
		{"unsubscribe-many", all, unsubscribeMany},
		{"unsubscribe-in-flight", all, unsubscribeInFlight},
		{"unsubscribe-queued", all, unsubscribeQueued},
		{"unsubscribe-empty", all, unsubscribeEmpty},
		{"unsubscribe-not-utf8", all, unsubscribeNotUTF8},
		{"unsubscribe-flags", all, unsubscribeFlags},
		{"unsubscribe-of-session", all, unsubscribeOfSession},
	}
}

func unsubscribeStops(e *env) {
	pub, sub := e.pair(e.topic("t"), 1)
	pub.publish(message{topic: e.topic("t"), payload: "one", qos: 1})
	sub.receive("one")
	if p := sub.unsubscribe(e.topic("t")); e.v == v5 && !slices.Equal(p.codes, []byte{0}) {
		e.Errorf("got %s", p)
	}
	pub.publish(message{topic: e.topic("t"), payload: "two", qos: 1})
	sub.nothing(pub, 1)
}

// unsubscribeExact: filters are compared byte by byte; that one matches the other means nothing.
func unsubscribeExact(e *env) {
	pub, sub := e.client(), e.client()
	sub.want(e.topic("a/b"), 0)
	sub.want(e.topic("x/+"), 0)
	for _, name := range []string{"a/+", "a/#", "#", "A/b", "a/b/", "a/b ", "x/y", "x/#", "+/+"} {
		if p := sub.unsubscribe(e.topic(name)); e.v == v5 && !slices.Equal(p.codes, []byte{0x11}) {
			e.Errorf("%q: got %s", name, p)
		}
	}
	pub.publish(message{topic: e.topic("a/b"), payload: "one"})
	sub.receive("one")
	pub.publish(message{topic: e.topic("x/y"), payload: "two"})
	sub.receive("two")
	sub.unsubscribe(e.topic("x/+"))
	pub.publish(message{topic: e.topic("x/y"), payload: "three"})
	sub.nothing(pub, 0)
}

func unsubscribeUnknown(e *env) {
	c := e.client()
	for _, id := range []uint16{1, 256, 65535} {
		c.send(unsubscribe(e.v, id, e.topic("unknown")))
		if p := c.ackFor(tUNSUBACK, id); e.v == v5 && !slices.Equal(p.codes, []byte{0x11}) {
			e.Errorf("got %s", p)
		}
	}
}

// unsubscribeMany: one UNSUBSCRIBE with many filters is many of them, with one answer.
func unsubscribeMany(e *env) {
	c := e.client()
	c.want(e.topic("a"), 0)
	c.want(e.topic("b"), 0)
	c.want(e.topic("c"), 0)
	p := c.unsubscribe(e.topic("a"), e.topic("none"), e.topic("c"), e.topic("a"))
	if e.v == v5 && !slices.Equal(p.codes, []byte{0, 0x11, 0, 0x11}) {
		e.Errorf("got %s", p)
	}
	for _, name := range []string{"a", "b", "c"} {
		c.publish(message{topic: e.topic(name), payload: name})
	}
	c.alive()
	c.receive("b")
	c.quiet()
}

// unsubscribeInFlight: what was being sent is brought to its end, also over a reconnect.
func unsubscribeInFlight(e *env) {
	pub, sub := e.client(), e.connect(lasting(e.unique()))
	sub.want(e.topic("t"), 2)
	pub.publish(message{topic: e.topic("t"), payload: "one", qos: 1})
	pub.publish(message{topic: e.topic("t"), payload: "two", qos: 2})
	one, two := sub.message(), sub.message()
	sub.unsubscribe(e.topic("t"))
	sub.send(ack(tPUBREC, two.id))
	sub.ackFor(tPUBREL, two.id)
	sub = sub.again()
	sub.ackFor(tPUBREL, two.id)
	sub.send(ack(tPUBCOMP, two.id))
	if p := sub.message(); p.id != one.id || !p.dup() {
		e.Errorf("got %s, want %s again", p, one)
	}
	sub.send(ack(tPUBACK, one.id))
	sub.nothing(pub, 2)
}

// unsubscribeQueued: whether what only waits is still delivered is the server's choice; what comes later is not.
func unsubscribeQueued(e *env) {
	k := lasting(e.unique())
	if e.v == v5 {
		k.props = [][]byte{pU16(pReceiveMax, 1)}
	}
	pub, sub := e.client(), e.connect(k)
	sub.want(e.topic("t"), 1)
	pub.publish(message{topic: e.topic("t"), payload: "sent", qos: 1})
	pub.publish(message{topic: e.topic("t"), payload: "waits", qos: 1})
	first := sub.message()
	sub.unsubscribe(e.topic("t"))
	pub.publish(message{topic: e.topic("t"), payload: "late", qos: 1})
	sub.send(ack(tPUBACK, first.id))
	sub.want(e.topic("end"), 1)
	pub.publish(message{topic: e.topic("end"), payload: "end", qos: 1})
	for {
		p := sub.message()
		sub.finish(p)
		if p.payload == "end" {
			return
		}
		if p.payload != "waits" {
			e.Fatalf("got %s", p)
		}
	}
}

func unsubscribeEmpty(e *env) { e.refuses(unsubscribe(e.v, 1), 0x81, 0x82) }

func unsubscribeNotUTF8(e *env) {
	for _, s := range notUTF8 {
		e.refuses(unsubscribe(e.v, 1, s), 0x81)
	}
}

func unsubscribeFlags(e *env) {
	for flags := byte(0); flags < 16; flags++ {
		if flags == 2 || e.v == v31 && flags == 0xA { // 3.1 has a DUP flag here
			continue
		}
		b := unsubscribe(e.v, 1, e.topic("t"))
		b[0] = tUNSUBSCRIBE<<4 | flags
		e.refuses(b, 0x81)
	}
}

// unsubscribeOfSession: a subscription that the session kept can be given up after the reconnect.
func unsubscribeOfSession(e *env) {
	pub, sub := e.client(), e.connect(lasting(e.unique()))
	sub.want(e.topic("t"), 1)
	sub = sub.again()
	if p := sub.unsubscribe(e.topic("t")); e.v == v5 && !slices.Equal(p.codes, []byte{0}) {
		e.Errorf("got %s", p)
	}
	sub.disconnect()
	pub.publish(message{topic: e.topic("t"), payload: "m", qos: 1})
	e.connect(lasting(sub.id)).nothing(pub, 1)
}
