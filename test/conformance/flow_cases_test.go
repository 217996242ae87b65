//go:build conformance

package conformance

import "fmt"

func flowCases() []testCase {
	return []testCase{
		{"qos0-delivery", all, qos0Delivery},
		{"qos1-delivery", all, qos1Delivery},
		{"qos2-delivery", all, qos2Delivery},
		{"qos1-id-reuse", all, qos1IDReuse},
		{"qos2-duplicate", all, qos2Duplicate},
		{"qos2-duplicate-after-resume", all, qos2DuplicateAfterResume},
		{"qos2-id-reuse", all, qos2IDReuse},
		{"pubrel-unknown", all, pubrelUnknown},
		{"puback-unknown", all, pubackUnknown},
		{"redelivery-qos1", all, redeliveryQoS1},
		{"redelivery-qos2", all, redeliveryQoS2},
		{"redelivery-pubrel", all, redeliveryPubrel},
		{"redelivery-order", all, redeliveryOrder},
		{"redelivery-only-at-reconnect", all, redeliveryOnlyAtReconnect},
		{"error-ack-ends-flow", five, errorAckEndsFlow},
		{"identifiers-unused", all, identifiersUnused},
		{"reason-codes", five, reasonCodes},
		{"ack-long-form", five, ackLongForm},
	}
}

func qos0Delivery(e *env) {
	pub, sub := e.pair(e.topic("t"), 2)
	pub.publish(message{topic: e.topic("t"), payload: "m"})
	if p := sub.receive("m"); p.qos() != 0 || p.dup() {
		e.Errorf("got %s", p)
	}
	sub.quiet()
}

func qos1Delivery(e *env) {
	pub, sub := e.pair(e.topic("t"), 1)
	pub.publish(message{topic: e.topic("t"), payload: "m", qos: 1})
	if p := sub.receive("m"); p.qos() != 1 || p.dup() || p.id == 0 {
		e.Errorf("got %s", p)
	}
	sub.quiet()
}

// qos2Delivery: PUBREL follows PUBREC with the same identifier, and after PUBCOMP there is no more.
func qos2Delivery(e *env) {
	pub, sub := e.pair(e.topic("t"), 2)
	pub.publish(message{topic: e.topic("t"), payload: "m", qos: 2})
	p := sub.message()
	if p.qos() != 2 || p.dup() || p.id == 0 {
		e.Errorf("got %s", p)
	}
	sub.quiet() // nothing before PUBREC
	sub.send(ack(tPUBREC, p.id))
	if r := sub.ackFor(tPUBREL, p.id); r.code != 0 {
		e.Errorf("got %s", r)
	}
	sub.send(ack(tPUBCOMP, p.id))
	sub.quiet()
}

// qos1IDReuse: after PUBACK the identifier is free, and DUP changes nothing.
func qos1IDReuse(e *env) {
	pub, sub := e.pair(e.topic("t"), 1)
	for i := range 3 {
		payload := fmt.Sprint(i)
		pub.publish(message{topic: e.topic("t"), payload: payload, qos: 1, id: 7, dup: i > 0})
		sub.receive(payload)
	}
}

// qos2Duplicate: until PUBREL a PUBLISH with the same identifier is the same message, with or without DUP.
func qos2Duplicate(e *env) {
	pub, sub := e.pair(e.topic("t"), 2)
	for _, dup := range []bool{false, true, true, false} {
		pub.send(message{topic: e.topic("t"), payload: "m", qos: 2, id: 7, dup: dup}.bytes(e.v))
		if p := pub.ackFor(tPUBREC, 7); p.code >= 0x80 && p.code != 0x91 {
			e.Errorf("got %s", p)
		}
	}
	pub.send(ack(tPUBREL, 7))
	pub.ackFor(tPUBCOMP, 7)
	sub.receive("m")
	sub.nothing(pub, 2)
}

func qos2DuplicateAfterResume(e *env) {
	sub := e.client()
	sub.want(e.topic("t"), 2)
	pub := e.connect(lasting(e.unique()))
	m := message{topic: e.topic("t"), payload: "m", qos: 2, id: 7}
	pub.send(m.bytes(e.v))
	pub.ackFor(tPUBREC, 7)
	pub.drop()
	pub = e.connect(lasting(pub.id))
	m.dup = true
	pub.send(m.bytes(e.v))
	pub.ackFor(tPUBREC, 7)
	pub.drop()
	pub = e.connect(lasting(pub.id))
	pub.send(ack(tPUBREL, 7))
	if p := pub.ackFor(tPUBCOMP, 7); p.code != 0 {
		e.Errorf("got %s", p)
	}
	sub.receive("m")
	sub.nothing(e.client(), 2)
}

func qos2IDReuse(e *env) {
	pub, sub := e.pair(e.topic("t"), 2)
	for i := range 3 {
		payload := fmt.Sprint(i)
		pub.publish(message{topic: e.topic("t"), payload: payload, qos: 2, id: 7, dup: i > 0})
		sub.receive(payload)
	}
}

func pubrelUnknown(e *env) {
	c := e.client()
	for _, id := range []uint16{1, 300, 65535} {
		c.send(ack(tPUBREL, id))
		if p := c.ackFor(tPUBCOMP, id); e.v == v5 && p.code != 0x92 {
			e.Errorf("got %s, want the code 0x92", p)
		}
	}
	c.alive()
}

// pubackUnknown: acknowledgements for nothing harm nothing.
func pubackUnknown(e *env) {
	c := e.client()
	c.send(ack(tPUBACK, 9), ack(tPUBCOMP, 9), ack(tPUBREC, 9))
	if p := c.next(); p.typ == tPUBREL && p.id == 9 {
		if e.v == v5 && p.code != 0x92 {
			e.Errorf("got %s, want the code 0x92", p)
		}
	} else {
		e.Errorf("got %s, want PUBREL for the unknown PUBREC", p)
	}
	c.alive()
}

// again drops the connection, resumes the session, and gives the new connection.
func (c *client) again() *client {
	c.e.Helper()
	c.drop()
	return c.e.connect(lasting(c.id))
}

func redeliveryQoS1(e *env) {
	pub, sub := e.client(), e.connect(lasting(e.unique()))
	sub.want(e.topic("t"), 1)
	pub.publish(message{topic: e.topic("t"), payload: "m", qos: 1})
	first := sub.message()
	for range 3 {
		sub = sub.again()
		if p := sub.message(); p.id != first.id || !p.dup() || p.payload != "m" || p.qos() != 1 || p.topic != first.topic {
			e.Errorf("got %s, want %s again", p, first)
		}
	}
	sub.send(ack(tPUBACK, first.id))
	sub.alive()
	sub.again().quiet()
}

func redeliveryQoS2(e *env) {
	pub, sub := e.client(), e.connect(lasting(e.unique()))
	sub.want(e.topic("t"), 2)
	pub.publish(message{topic: e.topic("t"), payload: "m", qos: 2})
	first := sub.message()
	sub = sub.again()
	p := sub.message()
	if p.id != first.id || !p.dup() || p.payload != "m" || p.qos() != 2 {
		e.Errorf("got %s, want %s again", p, first)
	}
	sub.finish(p)
	sub.alive()
	sub.again().quiet()
}

// redeliveryPubrel: after PUBREC only PUBREL is sent again, until PUBCOMP.
func redeliveryPubrel(e *env) {
	pub, sub := e.client(), e.connect(lasting(e.unique()))
	sub.want(e.topic("t"), 2)
	pub.publish(message{topic: e.topic("t"), payload: "m", qos: 2})
	p := sub.message()
	sub.send(ack(tPUBREC, p.id))
	sub.ackFor(tPUBREL, p.id)
	for range 2 {
		sub = sub.again()
		if r := sub.next(); r.typ != tPUBREL || r.id != p.id {
			e.Fatalf("got %s, want PUBREL %d", r, p.id)
		}
	}
	sub.send(ack(tPUBCOMP, p.id))
	sub.alive()
	sub.again().quiet()
}

// redeliveryOrder: what is sent again comes in the order in which it was sent first, and before what waits.
func redeliveryOrder(e *env) {
	pub, sub := e.client(), e.connect(lasting(e.unique()))
	sub.want(e.topic("+"), 2)
	var first []*packet
	for i := range 8 {
		pub.publish(message{topic: e.topic(fmt.Sprint(i % 3)), payload: fmt.Sprint(i), qos: byte(1 + i/2%2)})
		first = append(first, sub.message())
	}
	sub.finish(first[1])
	sub.finish(first[6])
	sub.drop()
	pub.publish(message{topic: e.topic("0"), payload: "waits", qos: 1})
	sub = e.connect(lasting(sub.id))
	for _, i := range []int{0, 2, 3, 4, 5, 7} {
		if p := sub.message(); p.id != first[i].id || p.payload != first[i].payload || !p.dup() {
			e.Errorf("got %s, want %s again", p, first[i])
		}
	}
	if p := sub.message(); p.payload != "waits" || p.dup() {
		e.Errorf("got %s, want what waited", p)
	}
}

// redeliveryOnlyAtReconnect: nothing is sent again while the connection lasts.
func redeliveryOnlyAtReconnect(e *env) {
	pub, sub := e.pair(e.topic("t"), 2)
	for qos := byte(1); qos <= 2; qos++ {
		pub.publish(message{topic: e.topic("t"), payload: "m", qos: qos})
		sub.message()
	}
	sub.quiet()
	sub.want(e.topic("t"), 2) // subscribing again is no reason either
	sub.nothing(pub, 2)
}

// errorAckEndsFlow: PUBACK or PUBREC with an error ends the flow: no PUBREL, never again, and the quota is free.
func errorAckEndsFlow(e *env) {
	k := lasting(e.unique())
	k.props = [][]byte{pU16(pReceiveMax, 1)}
	pub, sub := e.client(), e.connect(k)
	sub.want(e.topic("t"), 2)
	for i, code := range []byte{0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99} {
		pub.publish(message{topic: e.topic("t"), payload: fmt.Sprint(i), qos: byte(1 + i%2)})
		p := sub.message()
		if p.payload != fmt.Sprint(i) {
			e.Fatalf("got %s, want message %d", p, i)
		}
		sub.send(ackCode([]byte{tPUBACK, tPUBREC}[i%2], p.id, code))
		sub.quiet()
	}
	sub.drop()
	e.connect(k).quiet()
}

// identifiersUnused: what is in flight has identifiers of its own, also when old ones were given back in between.
func identifiersUnused(e *env) {
	pub, sub := e.pair(e.topic("t"), 2)
	inFlight := map[uint16]bool{}
	for i := range 20 {
		pub.publish(message{topic: e.topic("t"), payload: "m", qos: byte(1 + i%2)})
		p := sub.message()
		if inFlight[p.id] || p.id == 0 {
			e.Fatalf("got %s, whose identifier is in use", p)
		}
		if i%3 == 0 {
			sub.finish(p)
		} else if inFlight[p.id] = true; len(inFlight) > 15 {
			break
		}
	}
}

// reasonCodes: every code that may stand in an acknowledgement is taken, with and without properties.
func reasonCodes(e *env) {
	pub, sub := e.pair(e.topic("t"), 2)
	for _, code := range []byte{0, 0x10} {
		pub.publish(message{topic: e.topic("t"), payload: "m", qos: 1})
		sub.send(ackCode(tPUBACK, sub.message().id, code, pStr(pReasonString, "because"), pUserPair("k", "v")))
		sub.quiet()
		pub.publish(message{topic: e.topic("t"), payload: "m", qos: 2})
		id := sub.message().id
		sub.send(ackCode(tPUBREC, id, code, pStr(pReasonString, "because"), pUserPair("k", "v")))
		sub.ackFor(tPUBREL, id)
		sub.send(ackCode(tPUBCOMP, id, 0x92, pStr(pReasonString, "because")))
		sub.quiet()
	}
}

// ackLongForm: an identifier alone, with a code, or with everything, is the same.
func ackLongForm(e *env) {
	pub, sub := e.pair(e.topic("t"), 2)
	forms := func(t byte, id uint16) [][]byte {
		return [][]byte{ack(t, id), frame(t<<4|ackFlags(t), u16(id), raw(0)), ackCode(t, id, 0), ackCode(t, id, 0, pUserPair("a", "b"))}
	}
	for i := range 4 {
		pub.send(message{topic: e.topic("t"), payload: "m", qos: 2, id: 3}.bytes(e.v))
		pub.ackFor(tPUBREC, 3)
		pub.send(forms(tPUBREL, 3)[i])
		pub.ackFor(tPUBCOMP, 3)
		id := sub.message().id
		sub.send(forms(tPUBREC, id)[i])
		sub.ackFor(tPUBREL, id)
		sub.send(forms(tPUBCOMP, id)[i])
		sub.quiet()
	}
}
