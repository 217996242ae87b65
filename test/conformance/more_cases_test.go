//go:build conformance

package conformance

import (
	"fmt"
	"strings"
	"time"
)

// furtherCases are combinations: two rules that meet.
func furtherCases() []testCase {
	return []testCase{
		{"keep-alive-partial-packet", all, keepAlivePartialPacket},
		{"takeover-across-versions", five, takeoverAcrossVersions},
		{"takeover-receive-maximum", five, takeoverReceiveMaximum},
		{"receive-maximum-pubrel", five, receiveMaximumPubrel},
		{"will-retained-empty", all, willRetainedEmpty},
		{"will-replaced", all, willReplaced},
		{"will-expiry", five, willExpiry},
		{"queue-keeps-options", five, queueKeepsOptions},
		{"queue-keeps-highest-qos", all, queueKeepsHighestQoS},
		{"pubrel-twice", all, pubrelTwice},
		{"subscribe-thousands", all, subscribeThousands},
		{"client-id-long", []byte{v31}, clientIDLong},
		{"packet-size-limit", all, packetSizeLimit},
		{"retain-hundred-thousand", five, retainHundredThousand},
		{"alias-with-qos", five, aliasWithQoS},
		{"qos2-interleaved", all, qos2Interleaved},
		{"unsubscribe-overlap", all, unsubscribeOverlap},
		{"no-local-retained", five, noLocalRetained},
		{"shared-qos2-spread", all, sharedQoS2Spread},
		{"identifiers-wrap", since, identifiersWrap},
	}
}

// keepAlivePartialPacket: bytes are not packets: one that never becomes whole keeps no connection alive.
func keepAlivePartialPacket(e *env) {
	c := e.connect(connect{keepAlive: 1})
	at := time.Now()
	go func() {
		for _, b := range (message{topic: e.topic("t"), payload: strings.Repeat("x", 40)}).bytes(e.v)[:40] {
			if c.write(raw(b)) != nil {
				return
			}
			time.Sleep(300 * time.Millisecond) // slower than the keep alive, faster with each byte
		}
	}()
	c.closed(0x8D)
	if d := time.Since(at); d > 4*time.Second {
		e.Errorf("closed after %v", d)
	}
}

// takeoverAcrossVersions: a connection of one version takes over that of another: each is told in its own way.
func takeoverAcrossVersions(e *env) {
	for _, pair := range [][2]byte{{v311, v5}, {v5, v311}, {v31, v5}, {v5, v31}} {
		old, fresh := e.dialVersion(pair[0]), e.dialVersion(pair[1])
		id := e.unique()
		old.hail(lasting(id))
		old.welcome()
		fresh.hail(lasting(id))
		fresh.welcome()
		old.closed(0x8E)
		fresh.alive()
	}
}

// takeoverReceiveMaximum: the newcomer takes fewer messages at a time than were in flight on the old connection.
func takeoverReceiveMaximum(e *env) {
	pub, old := e.client(), e.connect(narrow(e.unique(), 8))
	old.want(e.topic("t"), 2)
	for i := range 8 {
		pub.publish(message{topic: e.topic("t"), payload: fmt.Sprint(i), qos: byte(1 + i%2)})
		old.message()
	}
	sub := e.connect(narrow(old.id, 2))
	old.closed(0x8E)
	pub.publish(message{topic: e.topic("t"), payload: "8", qos: 1})
	a, b := sub.message(), sub.message()
	sub.quiet()
	sub.finish(a)
	c := sub.message()
	sub.quiet()
	sub.finish(b)
	sub.finish(c)
	if a.payload+b.payload+c.payload != "012" || !a.dup() || !c.dup() {
		e.Errorf("got %s, %s, %s", a, b, c)
	}
	for i := 3; i < 9; i++ {
		sub.receive(fmt.Sprint(i))
	}
}

// receiveMaximumPubrel: a flow of an earlier connection, of which only PUBREL is sent again, gives no room in the window of the new one when
// it ends. (Whether it takes any is the server's choice: the quota begins anew with each connection.)
func receiveMaximumPubrel(e *env) {
	k := narrow(e.unique(), 1)
	pub, sub := e.client(), e.connect(k)
	sub.want(e.topic("t"), 2)
	for i, payload := range []string{"first", "second", "third"} {
		pub.publish(message{topic: e.topic("t"), payload: payload, qos: byte(2 - min(i, 1))})
	}
	p := sub.message()
	sub.send(ack(tPUBREC, p.id))
	sub.ackFor(tPUBREL, p.id)
	sub.drop()
	sub = e.connect(k)
	sub.ackFor(tPUBREL, p.id)
	sub.send(ack(tPUBCOMP, p.id))
	second := sub.message()
	sub.quiet()
	sub.finish(second)
	sub.receive("third")
}

// willRetainedEmpty: an empty retained will clears the topic.
func willRetainedEmpty(e *env) {
	pub := e.client()
	pub.retained(e.topic("will"), "old")
	sub, c := e.withWill(connect{will: &will{retain: true, qos: 1}})
	sub.gets("old")
	c.drop()
	if p := sub.receive(""); p.retain() {
		e.Errorf("got %s", p)
	}
	e.look(e.topic("will"), 1)
}

// willReplaced: the will of the connection counts, not that of an earlier one of the session.
func willReplaced(e *env) {
	k := lasting(e.unique())
	k.will = &will{payload: "first"}
	sub, c := e.withWill(k)
	c.disconnect()
	k.will = &will{payload: "second", topic: e.topic("will")}
	e.connect(k).drop()
	sub.receive("second")
	sub.nothing(e.client(), 0)
}

// willExpiry: the will's expiry begins when it is published, not when it is set.
func willExpiry(e *env) {
	k := connect{will: &will{payload: "will", qos: 1, props: [][]byte{pU32(pMessageExpiry, 100)}}}
	sub, c := e.withWill(k)
	time.Sleep(3200 * time.Millisecond) // the time that the will waits
	c.drop()
	if p := sub.receive("will"); p.number(pMessageExpiry, 0) < 98 {
		e.Errorf("got %s, want an expiry of 100", p)
	}
}

// queueKeepsOptions: what waits for a session comes with the identifiers of all its subscriptions, and with RETAIN as published.
func queueKeepsOptions(e *env) {
	pub, sub := e.client(), e.connect(lasting(e.unique()))
	sub.want(e.topic("a/+"), 1|retainAsPublished, pVar(pSubscriptionID, 1))
	sub.want(e.topic("a/#"), 2, pVar(pSubscriptionID, 200))
	sub.want(e.topic("b"), 1|retainAsPublished)
	sub.want(e.topic("c"), 1)
	sub.disconnect()
	pub.publish(message{topic: e.topic("a/b"), payload: "both", qos: 2})
	pub.publish(message{topic: e.topic("b"), payload: "as published", qos: 1, retain: true})
	pub.publish(message{topic: e.topic("c"), payload: "not", qos: 1, retain: true})
	sub = e.connect(lasting(sub.id))
	got := sub.receiveOf("both", "as published", "not")
	if p := got["both"]; len(p.all(pSubscriptionID)) != 2 || p.qos() != 2 {
		e.Errorf("got %s, want the identifiers 1 and 200", p)
	}
	if p := got["as published"]; !p.retain() || len(p.all(pSubscriptionID)) != 0 {
		e.Errorf("got %s, want RETAIN", p)
	}
	if p := got["not"]; p.retain() {
		e.Errorf("got %s, want no RETAIN", p)
	}
	pub.retained(e.topic("b"), "")
	pub.retained(e.topic("c"), "")
}

func queueKeepsHighestQoS(e *env) {
	pub, sub := e.client(), e.connect(lasting(e.unique()))
	sub.want(e.topic("a"), 0)
	sub.want(e.topic("+"), 2)
	sub.disconnect()
	for qos := byte(1); qos <= 2; qos++ {
		pub.publish(message{topic: e.topic("a"), payload: "m", qos: qos})
	}
	sub = e.connect(lasting(sub.id))
	for qos := byte(1); qos <= 2; qos++ {
		if p := sub.receive("m"); p.qos() != qos {
			e.Errorf("got %s, want quality of service %d", p, qos)
		}
	}
	sub.nothing(pub, 2)
}

func pubrelTwice(e *env) {
	pub, sub := e.pair(e.topic("t"), 2)
	pub.publish(message{topic: e.topic("t"), payload: "m", qos: 2, id: 4})
	pub.send(ack(tPUBREL, 4))
	if p := pub.ackFor(tPUBCOMP, 4); e.v == v5 && p.code != 0x92 {
		e.Errorf("got %s", p)
	}
	sub.receive("m")
	sub.nothing(pub, 2)
}

// subscribeThousands: one packet with thousands of filters.
func subscribeThousands(e *env) {
	c := e.client()
	var filters []filter
	var names []string
	for i := range 2000 {
		names = append(names, e.topic(fmt.Sprint("many/", i)))
		filters = append(filters, filter{names[i], byte(i % 3)})
	}
	p := c.subscribe(nil, filters...)
	for i, code := range p.codes {
		if code != byte(i%3) {
			e.Fatalf("filter %d: code %#x", i, code)
		}
	}
	c.publish(message{topic: names[1999], payload: "m", qos: 1})
	c.receive("m")
	c.unsubscribe(names...)
	c.publish(message{topic: names[1999], payload: "m", qos: 1})
	c.nothing(e.client(), 1)
}

// clientIDLong: 3.1 has 23 characters at most; a server may take more, or refuse with 2.
func clientIDLong(e *env) {
	c := e.begin(connect{id: e.unique() + strings.Repeat("x", 30)})
	if p := c.next(); p.typ != tCONNACK || p.code != 0 && p.code != 2 {
		e.Errorf("got %s", p)
	}
}

// packetSizeLimit: a packet of just the size that the server announces (to clients of 5.0) is served; one byte more ends the connection.
func packetSizeLimit(e *env) {
	probe := e.dialVersion(v5)
	probe.hail(connect{})
	probe.welcome()
	limit := int(probe.hello.number(pMaximumPacket, 0))
	if limit == 0 {
		e.Logf("the server announces no limit")
		return
	}
	pub, sub := e.pair(e.topic("t"), 0)
	empty := message{topic: e.topic("t")}
	exact := limit - len(empty.bytes(e.v)) - len(varint(limit)) + 1
	payload := strings.Repeat("x", exact)
	pub.publish(message{topic: e.topic("t"), payload: payload})
	sub.receive(payload)
	pub.write(message{topic: e.topic("t"), payload: payload + "x"}.bytes(e.v)) // which may be cut off
	pub.closed(0x95)
	sub.quiet()
}

// retainHundredThousand: a wildcard over very many retained messages brings all of them, once each, while others are served.
func retainHundredThousand(e *env) {
	c := e.client()
	const n = 100000
	all := func(payload string) {
		for i := 0; i < n; i += 1000 {
			var burst []byte
			for j := i; j < i+1000; j++ {
				burst = append(burst, message{topic: e.topic(fmt.Sprintf("r/%d/%d", j%10, j)), payload: payload, retain: true}.bytes(e.v)...)
			}
			c.send(burst)
		}
		c.alive()
	}
	all(strings.Repeat("x", 80))
	defer all("")
	sub := e.client()
	id := sub.free()
	sub.send(subscribe(e.v, id, nil, filter{e.topic("r/#"), 0}))
	sub.ackFor(tSUBACK, id)
	e.healthy()
	seen := make(map[string]bool, n)
	for range n {
		p := sub.message()
		if seen[p.topic] || !p.retain() {
			e.Fatalf("got %s, again or without RETAIN", p)
		}
		seen[p.topic] = true
	}
	sub.quiet()
	sub.nc.Close()
}

// aliasWithQoS: an alias holds for messages of every quality of service; one that is sent twice sets it all the same.
func aliasWithQoS(e *env) {
	pub, sub := e.pair(e.topic("+"), 2)
	if pub.hello.number(pAliasMax, 0) < 2 {
		return
	}
	alias := func(n uint16) [][]byte { return [][]byte{pU16(pAlias, n)} }
	m := message{topic: e.topic("a"), payload: "m", qos: 2, id: 7, props: alias(1)}
	pub.send(m.bytes(e.v))
	pub.ackFor(tPUBREC, 7)
	m.dup, m.props = true, alias(2)
	pub.send(m.bytes(e.v)) // the same message: nothing is delivered, but the alias is set
	pub.ackFor(tPUBREC, 7)
	pub.send(ack(tPUBREL, 7))
	pub.ackFor(tPUBCOMP, 7)
	sub.receive("m")
	for n := uint16(1); n <= 2; n++ {
		pub.publish(message{payload: "used", qos: 1, props: alias(n)})
		if p := sub.receive("used"); p.topic != e.topic("a") {
			e.Errorf("alias %d: got %s", n, p)
		}
	}
}

// qos2Interleaved: several QoS 2 flows at once, released in another order than they were begun.
func qos2Interleaved(e *env) {
	pub, sub := e.pair(e.topic("t"), 2)
	for id := uint16(1); id <= 5; id++ {
		pub.send(message{topic: e.topic("t"), payload: fmt.Sprint(id), qos: 2, id: id}.bytes(e.v))
		pub.ackFor(tPUBREC, id)
	}
	for _, id := range []uint16{3, 1, 5, 2, 4} {
		pub.send(ack(tPUBREL, id))
		if p := pub.ackFor(tPUBCOMP, id); p.code != 0 {
			e.Errorf("got %s", p)
		}
	}
	seen := map[string]bool{}
	for range 5 {
		p := sub.message()
		sub.finish(p)
		seen[p.payload] = true
	}
	if len(seen) != 5 {
		e.Errorf("got the messages %v, want five", seen)
	}
}

// unsubscribeOverlap: of two subscriptions that match, one is given up: the other stays, with its own quality of service.
func unsubscribeOverlap(e *env) {
	pub, sub := e.pair(e.topic("a"), 2)
	sub.want(e.topic("+"), 0)
	sub.unsubscribe(e.topic("a"))
	pub.publish(message{topic: e.topic("a"), payload: "m", qos: 2})
	if p := sub.receive("m"); p.qos() != 0 {
		e.Errorf("got %s, want quality of service 0", p)
	}
	sub.nothing(pub, 2)
}

// noLocalRetained: no local is about messages as they are published; whether a client's own retained message comes for a new subscription is
// the server's choice, but another's comes.
func noLocalRetained(e *env) {
	c, other := e.client(), e.client()
	other.retained(e.topic("other"), "other")
	c.retained(e.topic("own"), "own")
	c.want(e.topic("+"), 1|noLocal)
	found := false
	for _, p := range c.collect(other) {
		found = found || p.payload == "other"
	}
	if !found {
		e.Errorf("the other client's retained message did not come")
	}
	other.retained(e.topic("other"), "")
	other.retained(e.topic("own"), "")
}

// sharedQoS2Spread: QoS 2 messages of one flow each go to one member, whose acknowledgements belong to itself.
func sharedQoS2Spread(e *env) {
	pub, a, b := e.client(), e.client(), e.client()
	a.want("$share/g/"+e.topic("t"), 2)
	b.want("$share/g/"+e.topic("t"), 2)
	for i := range 10 {
		pub.publish(message{topic: e.topic("t"), payload: fmt.Sprint(i), qos: 2})
	}
	if n := len(a.collect(pub)) + len(b.collect(pub)); n != 10 {
		e.Errorf("%d messages reached the members, want 10", n)
	}
}

// identifiersWrap: more than 65535 messages on one connection: identifiers begin again, without 0, and never one that is in use.
func identifiersWrap(e *env) {
	pub, sub := e.pair(e.topic("t"), 2)
	pub.publish(message{topic: e.topic("t"), payload: "held", qos: 2})
	held := sub.message()
	const n, batch = 66000, 100
	for i := 0; i < n; i += batch {
		var burst []byte
		for j := range uint16(batch) {
			burst = append(burst, message{topic: e.topic("t"), qos: 1, id: j + 1}.bytes(e.v)...)
		}
		pub.send(burst)
		var acks []byte
		used := map[uint16]bool{held.id: i < n/2}
		for range batch {
			p := sub.message()
			if used[p.id] {
				e.Fatalf("after %d messages the identifier %d, which is in use, came again", i, p.id)
			}
			used[p.id] = true
			acks = append(acks, ack(tPUBACK, p.id)...)
		}
		sub.send(acks)
		for j := range uint16(batch) {
			pub.ackFor(tPUBACK, j+1)
		}
		if i == n/2 {
			sub.finish(held)
		}
	}
}
