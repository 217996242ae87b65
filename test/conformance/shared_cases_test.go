//go:build conformance

package conformance

import (
	"fmt"
	"slices"
)

func sharedCases() []testCase {
	return []testCase{
		{"shared-one-member", all, sharedOneMember},
		{"shared-groups-apart", all, sharedGroupsApart},
		{"shared-filter-invalid", since, sharedFilterInvalid},
		{"shared-no-local", five, sharedNoLocal},
		{"shared-no-retained", all, sharedNoRetained},
		{"shared-qos-granted", all, sharedQoSGranted},
		{"shared-completes-at-reconnect", all, sharedCompletesAtReconnect},
		{"shared-session-terminates", all, sharedSessionTerminates},
		{"shared-departed", all, sharedDeparted},
		{"shared-error-discards", five, sharedErrorDiscards},
		{"shared-unsubscribe", all, sharedUnsubscribe},
		{"shared-and-plain", all, sharedAndPlain},
	}
}

// sharedOneMember: each message goes to one member, and each member gets some.
func sharedOneMember(e *env) {
	pub := e.client()
	var members []*client
	for range 3 {
		c := e.client()
		c.want("$share/group/"+e.topic("#"), 1)
		members = append(members, c)
	}
	const n = 60
	for i := range n {
		pub.publish(message{topic: e.topic(fmt.Sprint("t/", i)), payload: fmt.Sprint(i), qos: 1})
	}
	seen := map[string]int{}
	for _, c := range members {
		for _, p := range c.collect(pub) {
			seen[p.payload]++
		}
	}
	for payload, times := range seen {
		if times != 1 {
			e.Errorf("message %s came %d times", payload, times)
		}
	}
	if len(seen) != n {
		e.Errorf("%d messages reached somebody, want %d", len(seen), n)
	}
}

// collect acknowledges and gives all that is under way from a publisher.
func (c *client) collect(from *client) (list []*packet) {
	c.e.Helper()
	topic := c.fence()
	c.want(topic, 1)
	from.publish(message{topic: topic, payload: "fence", qos: 1})
	for {
		p := c.message()
		c.finish(p)
		if p.topic == topic {
			c.unsubscribe(topic)
			return list
		}
		list = append(list, p)
	}
}

func sharedGroupsApart(e *env) {
	pub, a, b := e.client(), e.client(), e.client()
	a.want("$share/one/"+e.topic("t"), 1)
	b.want("$share/two/"+e.topic("t"), 1)
	pub.publish(message{topic: e.topic("t"), payload: "m", qos: 1})
	a.receive("m")
	b.receive("m")
}

func sharedFilterInvalid(e *env) {
	want := byte(0x80)
	if e.v == v5 {
		want = 0x8F
	}
	c := e.client()
	for _, name := range []string{"$share/", "$share/group", "$share/group/", "$share//topic", "$share/gr+oup/topic", "$share/gr#oup/topic",
		"$share/+/topic", "$share/#", "$share/group/a#", "$share/group/a/#/b"} {
		if p := c.subscribe(nil, filter{name, 1}); p.codes[0] != want {
			e.Errorf("filter %q: got %s, want the code %#x", name, p, want)
		}
	}
	c.want("$share/group/"+e.topic("/#"), 1)
	c.want("$share/$odd name/"+e.topic("+"), 1)
}

func sharedNoLocal(e *env) {
	e.refuses(subscribe(e.v, 1, nil, filter{"$share/group/" + e.topic("t"), 1 | noLocal}), 0x82)
}

func sharedNoRetained(e *env) {
	c := e.client()
	c.retained(e.topic("t"), "kept")
	c.want("$share/group/"+e.topic("t"), 1)
	c.quiet()
	c.retained(e.topic("t"), "")
}

func sharedQoSGranted(e *env) {
	pub, sub := e.client(), e.client()
	for granted := byte(0); granted <= 2; granted++ {
		sub.want("$share/group/"+e.topic("t"), granted)
		pub.publish(message{topic: e.topic("t"), payload: "m", qos: 2})
		if p := sub.receive("m"); p.qos() != granted {
			e.Errorf("granted %d: got %s", granted, p)
		}
	}
}

// sharedCompletesAtReconnect: what a member had not acknowledged is brought to its end when it comes back.
func sharedCompletesAtReconnect(e *env) {
	pub, sub := e.client(), e.connect(lasting(e.unique()))
	sub.want("$share/group/"+e.topic("t"), 2)
	pub.publish(message{topic: e.topic("t"), payload: "m", qos: 2})
	first := sub.message()
	sub.send(ack(tPUBREC, first.id))
	sub.ackFor(tPUBREL, first.id)
	sub = sub.again()
	sub.ackFor(tPUBREL, first.id)
	sub.send(ack(tPUBCOMP, first.id))
	sub.quiet()
	// And what was published in the meantime comes as well.
	sub.disconnect()
	pub.publish(message{topic: e.topic("t"), payload: "meantime", qos: 1})
	e.connect(lasting(sub.id)).receive("meantime")
}

// sharedSessionTerminates: a QoS 2 message that a member had begun to receive goes to nobody else when its session ends.
func sharedSessionTerminates(e *env) {
	pub, name := e.client(), "$share/group/"+e.topic("t")
	for _, recorded := range []bool{false, true} {
		a := e.client()
		a.want(name, 2)
		pub.publish(message{topic: e.topic("t"), payload: "begun", qos: 2})
		first := a.message()
		b := e.client()
		b.want(name, 2)
		if recorded {
			a.send(ack(tPUBREC, first.id))
			a.ackFor(tPUBREL, first.id)
		}
		a.drop()
		pub.publish(message{topic: e.topic("t"), payload: "next", qos: 2})
		b.receive("next")
		b.nothing(pub, 2)
		b.disconnect()
	}
}

// sharedDeparted: QoS 1 messages that a member did not acknowledge before its session ended go to another member.
func sharedDeparted(e *env) {
	pub, a, name := e.client(), e.client(), "$share/group/"+e.topic("t")
	a.want(name, 1)
	for i := range 5 {
		pub.publish(message{topic: e.topic("t"), payload: fmt.Sprint(i), qos: 1})
		a.message()
	}
	b := e.client()
	b.want(name, 1)
	a.drop()
	for i := range 5 {
		b.receive(fmt.Sprint(i))
	}
	b.nothing(pub, 1)
}

// sharedErrorDiscards: a message that a member refuses goes to nobody else.
func sharedErrorDiscards(e *env) {
	pub, a := e.client(), e.client()
	name := "$share/group/" + e.topic("t")
	a.want(name, 2)
	for qos := byte(1); qos <= 2; qos++ {
		pub.publish(message{topic: e.topic("t"), payload: "m", qos: qos})
		p := a.message()
		b := e.client()
		b.want(name, 2)
		a.send(ackCode(tPUBACK+qos-1, p.id, 0x80))
		a.quiet()
		b.nothing(pub, 2)
		b.disconnect()
	}
}

func sharedUnsubscribe(e *env) {
	pub, a, b := e.client(), e.client(), e.client()
	name := "$share/group/" + e.topic("t")
	a.want(name, 1)
	b.want(name, 1)
	if p := a.unsubscribe(e.topic("t")); e.v == v5 && !slices.Equal(p.codes, []byte{0x11}) {
		e.Errorf("got %s", p)
	}
	if p := a.unsubscribe(name); e.v == v5 && !slices.Equal(p.codes, []byte{0}) {
		e.Errorf("got %s", p)
	}
	for i := range 6 {
		pub.publish(message{topic: e.topic("t"), payload: fmt.Sprint(i), qos: 1})
		b.receive(fmt.Sprint(i))
	}
	a.nothing(pub, 1)
}

// sharedAndPlain: a shared and a plain subscription of one client are two: it may get the message once for each.
func sharedAndPlain(e *env) {
	pub, c := e.client(), e.client()
	c.want("$share/group/"+e.topic("t"), 1)
	c.want(e.topic("t"), 1)
	pub.publish(message{topic: e.topic("t"), payload: "m", qos: 1})
	if n := len(c.collect(pub)); n != 1 && n != 2 {
		e.Errorf("the message came %d times", n)
	}
}
