//go:build conformance

package conformance

import "fmt"

func aliasCases() []testCase {
	return []testCase{
		{"alias-accepted", five, aliasAccepted},
		{"alias-zero", five, aliasZero},
		{"alias-above-maximum", five, aliasAboveMaximum},
		{"alias-unknown", five, aliasUnknown},
		{"alias-per-connection", five, aliasPerConnection},
		{"alias-not-forwarded", five, aliasNotForwarded},
		{"alias-outbound-none", five, aliasOutboundNone},
		{"alias-outbound-limit", five, aliasOutboundLimit},
	}
}

// aliased is a PUBLISH with a topic alias.
func aliased(topic, payload string, alias uint16) []byte {
	return message{topic: topic, payload: payload, props: [][]byte{pU16(pAlias, alias)}}.bytes(v5)
}

// aliasAccepted: every alias up to the maximum works, is kept, and can be given a new meaning.
func aliasAccepted(e *env) {
	pub, sub := e.pair(e.topic("+"), 0)
	limit := uint16(pub.hello.number(pAliasMax, 0))
	for _, a := range []uint16{1, 2, limit / 2, limit} {
		if a == 0 || a > limit {
			continue
		}
		pub.send(aliased(e.topic("one"), "set", a), aliased("", "used", a), aliased(e.topic("two"), "set again", a), aliased("", "used again", a))
		for i, payload := range []string{"set", "used", "set again", "used again"} {
			if p := sub.receive(payload); p.topic != e.topic([]string{"one", "one", "two", "two"}[i]) {
				e.Errorf("alias %d: got %s", a, p)
			}
		}
	}
	// All of them at once.
	for a := uint16(1); a <= min(limit, 50); a++ {
		pub.send(aliased(e.topic(fmt.Sprint(a)), "set", a))
		sub.receive("set")
	}
	for a := uint16(1); a <= min(limit, 50); a++ {
		pub.send(aliased("", "used", a))
		if p := sub.receive("used"); p.topic != e.topic(fmt.Sprint(a)) {
			e.Errorf("alias %d: got %s", a, p)
		}
	}
}

func aliasZero(e *env) {
	e.refuses(aliased(e.topic("t"), "x", 0), 0x94)
	e.refuses(aliased("", "x", 0), 0x94)
}

func aliasAboveMaximum(e *env) {
	limit := uint16(e.client().hello.number(pAliasMax, 0))
	if limit < 65535 {
		e.refuses(aliased(e.topic("t"), "x", limit+1), 0x94)
		e.refuses(aliased(e.topic("t"), "x", 65535), 0x94)
	}
}

func aliasUnknown(e *env) {
	if limit := uint16(e.client().hello.number(pAliasMax, 0)); limit > 0 {
		e.refuses(aliased("", "x", limit), 0x82, 0x94)
	}
}

// aliasPerConnection: an alias ends with its connection, also when the session goes on.
func aliasPerConnection(e *env) {
	sub := e.client()
	sub.want(e.topic("t"), 0)
	c := e.connect(lasting(e.unique()))
	if c.hello.number(pAliasMax, 0) == 0 {
		return
	}
	c.send(aliased(e.topic("t"), "set", 1))
	sub.receive("set")
	c.disconnect()
	c = e.connect(lasting(c.id))
	c.send(aliased("", "x", 1))
	c.closed(0x82, 0x94)
	sub.quiet()
}

// aliasNotForwarded: the publisher's alias means nothing to subscribers, neither at once, nor retained, nor through a queue.
func aliasNotForwarded(e *env) {
	pub, sub := e.pair(e.topic("t"), 1)
	if pub.hello.number(pAliasMax, 0) == 0 {
		return
	}
	late := e.connect(lasting(e.unique()))
	late.want(e.topic("t"), 1)
	late.disconnect()
	alias := [][]byte{pU16(pAlias, 1)}
	pub.publish(message{topic: e.topic("t"), payload: "set", qos: 1, props: alias})
	pub.publish(message{payload: "used", qos: 1, retain: true, props: alias})
	old := e.dialVersion(v311)
	old.hail(connect{})
	old.welcome()
	old.want(e.topic("t"), 1)
	if p := old.receive("used"); p.topic != e.topic("t") {
		e.Errorf("got %s", p)
	}
	for _, c := range []*client{sub, e.connect(lasting(late.id))} {
		for _, payload := range []string{"set", "used"} {
			p := c.receive(payload)
			if _, ok := p.prop(pAlias); ok || p.topic != e.topic("t") {
				e.Errorf("got %s", p)
			}
		}
	}
	pub.retained(e.topic("t"), "")
}

func aliasOutboundNone(e *env) {
	for _, props := range [][][]byte{nil, {pU16(pAliasMax, 0)}} {
		pub, sub := e.client(), e.connect(connect{props: props})
		sub.want(e.topic("t"), 1)
		for range 10 {
			pub.publish(message{topic: e.topic("t"), payload: "m", qos: 1})
			if _, ok := sub.receive("m").prop(pAlias); ok {
				e.Fatal("the server used a topic alias that the client does not allow")
			}
		}
	}
}

// aliasOutboundLimit: aliases of the server stay within the client's maximum, and every topic can be found again.
func aliasOutboundLimit(e *env) {
	pub, sub := e.client(), e.connect(connect{props: [][]byte{pU16(pAliasMax, 3)}})
	sub.want(e.topic("+"), 1)
	used := 0
	for i := range 60 {
		topic := e.topic(fmt.Sprint(i % (1 + i/10)))
		pub.publish(message{topic: topic, payload: "m", qos: byte(i % 2)})
		p := sub.receive("m") // finds the topic for the alias
		a := p.number(pAlias, 0)
		if a > 3 || p.topic != topic {
			e.Errorf("got %s, want the topic %s and an alias of at most 3", p, topic)
		}
		if a > 0 {
			used++
		}
	}
	e.Logf("%d of 60 messages came with an alias", used)
}
