//go:build conformance

package conformance

import (
	"fmt"
	"time"
)

func retainCases() []testCase {
	return []testCase{
		{"retain-replaces", all, retainReplaces},
		{"retain-clear", all, retainClear},
		{"retain-zero-not-stored", all, retainZeroNotStored},
		{"retain-flag-0", all, retainFlag0},
		{"retain-handling-0", five, retainHandling0},
		{"retain-handling-1", five, retainHandling1},
		{"retain-handling-2", five, retainHandling2},
		{"retain-as-published-0", all, retainAsPublished0},
		{"retain-as-published-1", five, retainAsPublished1},
		{"retain-resubscribe", all, retainResubscribe},
		{"retain-not-on-resume", all, retainNotOnResume},
		{"retain-wildcard-complete", all, retainWildcardComplete},
		{"retain-overlap", all, retainOverlap},
		{"retain-qos", all, retainQoS},
		{"retain-expiry", five, retainExpiry},
		{"retain-properties", five, retainProperties},
		{"retain-dollar", all, retainDollar},
		{"retain-through-window", five, retainThroughWindow},
		{"retain-abandoned", all, retainAbandoned},
	}
}

// retained publishes a retained message.
func (c *client) retained(topic, payload string, props ...[]byte) {
	c.e.Helper()
	c.publish(message{topic: topic, payload: payload, qos: 1, retain: true, props: props})
}

// look subscribes to a filter with a new client, and wants just these payloads, with RETAIN.
func (e *env) look(name string, options byte, payloads ...string) {
	e.Helper()
	c := e.client()
	c.want(name, options)
	c.gets(payloads...)
	c.disconnect()
}

// gets wants these payloads with RETAIN, in any order, and nothing else.
func (c *client) gets(payloads ...string) {
	c.e.Helper()
	want := map[string]int{}
	for _, p := range payloads {
		want[p]++
	}
	for range payloads {
		p := c.message()
		c.finish(p)
		if want[p.payload]--; want[p.payload] < 0 || !p.retain() {
			c.e.Fatalf("%s: got %s, want one of %.100q with RETAIN", c.id, p, payloads)
		}
	}
	c.quiet()
}

func retainReplaces(e *env) {
	c := e.client()
	for qos := byte(0); qos <= 2; qos++ {
		payload := fmt.Sprint("at ", qos)
		c.publish(message{topic: e.topic("t"), payload: payload, qos: qos, retain: true})
		c.alive()
		e.look(e.topic("t"), 2, payload)
	}
	c.retained(e.topic("t"), "")
}

// retainClear: an empty payload removes the retained message, and is itself delivered like any message.
func retainClear(e *env) {
	c, sub := e.pair(e.topic("t"), 1)
	c.retained(e.topic("t"), "kept")
	sub.receive("kept")
	c.retained(e.topic("t"), "")
	if p := sub.receive(""); p.retain() {
		e.Errorf("got %s, with RETAIN for a subscription that was there", p)
	}
	e.look(e.topic("t"), 1)
}

func retainZeroNotStored(e *env) {
	c := e.client()
	for qos := byte(0); qos <= 2; qos++ {
		c.publish(message{topic: e.topic("t"), qos: qos, retain: true})
	}
	c.alive()
	e.look(e.topic("#"), 2)
}

// retainFlag0: a message without RETAIN neither becomes nor changes a retained one, not even an empty one.
func retainFlag0(e *env) {
	c := e.client()
	c.publish(message{topic: e.topic("none"), payload: "x", qos: 1})
	c.retained(e.topic("t"), "kept")
	c.publish(message{topic: e.topic("t"), payload: "x", qos: 1})
	c.publish(message{topic: e.topic("t"), payload: "", qos: 1})
	e.look(e.topic("#"), 1, "kept")
	c.retained(e.topic("t"), "")
}

func retainHandling0(e *env) {
	c := e.client()
	c.retained(e.topic("t"), "kept")
	for range 2 { // also when the subscription is there already
		c.want(e.topic("t"), 1)
		c.gets("kept")
	}
	c.retained(e.topic("t"), "")
}

func retainHandling1(e *env) {
	c := e.client()
	c.retained(e.topic("t"), "kept")
	c.want(e.topic("t"), 1|retainIfNew)
	c.gets("kept")
	c.want(e.topic("t"), 1|retainIfNew)
	c.gets()
	c.unsubscribe(e.topic("t"))
	c.want(e.topic("t"), 0|retainIfNew)
	c.gets("kept")
	// A subscription that a session has kept is there.
	d := e.connect(lasting(e.unique()))
	d.want(e.topic("t"), 1|retainNever)
	d.disconnect()
	d = e.connect(lasting(d.id))
	d.want(e.topic("t"), 1|retainIfNew)
	d.gets()
	e.client().retained(e.topic("t"), "")
}

func retainHandling2(e *env) {
	c := e.client()
	c.retained(e.topic("t"), "kept")
	for range 2 {
		c.want(e.topic("t"), 1|retainNever)
		c.gets()
		c.want(e.topic("#"), 1|retainNever)
		c.gets()
	}
	c.retained(e.topic("t"), "")
}

func retainAsPublished0(e *env) {
	pub, sub := e.pair(e.topic("t"), 2)
	for _, retain := range []bool{true, false} {
		for qos := byte(0); qos <= 2; qos++ {
			pub.publish(message{topic: e.topic("t"), payload: "m", qos: qos, retain: retain})
			if p := sub.receive("m"); p.retain() {
				e.Errorf("published with RETAIN %v: got %s", retain, p)
			}
		}
	}
	pub.retained(e.topic("t"), "")
}

func retainAsPublished1(e *env) {
	pub, sub := e.pair(e.topic("t"), 2|retainAsPublished)
	for _, retain := range []bool{true, false} {
		for qos := byte(0); qos <= 2; qos++ {
			pub.publish(message{topic: e.topic("t"), payload: "m", qos: qos, retain: retain})
			if p := sub.receive("m"); p.retain() != retain {
				e.Errorf("published with RETAIN %v: got %s", retain, p)
			}
		}
	}
	pub.retained(e.topic("t"), "")
	if p := sub.receive(""); !p.retain() {
		e.Errorf("got %s", p)
	}
}

// retainResubscribe: a repeated SUBSCRIBE brings the retained messages again.
func retainResubscribe(e *env) {
	c := e.client()
	c.retained(e.topic("a"), "one")
	c.retained(e.topic("b"), "two")
	for range 3 {
		c.want(e.topic("+"), 1)
		c.gets("one", "two")
	}
	c.retained(e.topic("a"), "")
	c.retained(e.topic("b"), "")
}

func retainNotOnResume(e *env) {
	pub, sub := e.client(), e.connect(lasting(e.unique()))
	pub.retained(e.topic("t"), "kept")
	sub.want(e.topic("t"), 1)
	sub.gets("kept")
	sub.disconnect()
	e.connect(lasting(sub.id)).quiet()
	pub.retained(e.topic("t"), "")
}

// retainWildcardComplete: a wildcard brings every match, once, with as many as there are.
func retainWildcardComplete(e *env) {
	c := e.client()
	const n = 500
	var want []string
	var burst []byte
	for i := range n {
		topic := e.topic(fmt.Sprintf("%d/%d", i%7, i))
		want = append(want, topic)
		burst = append(burst, message{topic: topic, payload: topic, retain: true}.bytes(e.v)...)
	}
	c.send(burst)
	c.alive()
	e.look(e.topic("#"), 0, want...)
	e.look(e.topic("+/+"), 2, want...)
	e.look(e.topic("3/+"), 1, every(want, 7, 3)...)
	burst = nil
	for _, topic := range want {
		burst = append(burst, message{topic: topic, retain: true}.bytes(e.v)...)
	}
	c.send(burst)
	c.alive()
	e.look(e.topic("#"), 0)
}

// every gives each n-th of the list, from the one with this index on.
func every(list []string, n, from int) (out []string) {
	for i := from; i < len(list); i += n {
		out = append(out, list[i])
	}
	return out
}

// retainOverlap: each SUBSCRIBE brings what its own filter matches.
func retainOverlap(e *env) {
	c := e.client()
	c.retained(e.topic("a/b"), "kept")
	c.want(e.topic("a/+"), 1)
	c.gets("kept")
	c.want(e.topic("a/b"), 0)
	c.gets("kept")
	c.want(e.topic("a/#"), 2)
	c.gets("kept")
	c.retained(e.topic("a/b"), "")
}

func retainQoS(e *env) {
	c := e.client()
	for qos := byte(0); qos <= 2; qos++ {
		c.publish(message{topic: e.topic("t"), payload: "kept", qos: qos, retain: true})
		c.alive()
		for granted := byte(0); granted <= 2; granted++ {
			sub := e.client()
			sub.want(e.topic("t"), granted)
			if p := sub.receive("kept"); p.qos() != min(qos, granted) || !p.retain() {
				e.Errorf("retained at %d, granted %d: got %s", qos, granted, p)
			}
			sub.disconnect()
		}
	}
	c.retained(e.topic("t"), "")
}

// retainExpiry: a retained message is sent with what is left of its time, and when nothing is left it is gone.
func retainExpiry(e *env) {
	c := e.client()
	c.retained(e.topic("short"), "short", pU32(pMessageExpiry, 2))
	c.retained(e.topic("long"), "long", pU32(pMessageExpiry, 100))
	c.retained(e.topic("ever"), "ever")
	e.look(e.topic("#"), 1, "short", "long", "ever")
	time.Sleep(3200 * time.Millisecond) // longer than the expiry of the first
	e.look(e.topic("#"), 1, "long", "ever")
	c.want(e.topic("long"), 1)
	if p := c.receive("long"); p.number(pMessageExpiry, 0) < 90 || p.number(pMessageExpiry, 0) > 98 {
		e.Errorf("got %s, want an expiry of 100 s less the three seconds that passed", p)
	}
	c.retained(e.topic("long"), "")
	c.retained(e.topic("ever"), "")
}

func retainProperties(e *env) {
	c := e.client()
	c.retained(e.topic("t"), "will", forwardedProps()...)
	c.want(e.topic("t"), 1, pVar(pSubscriptionID, 42))
	p := c.receive("will")
	checkForwarded(e, p)
	if p.number(pSubscriptionID, 0) != 42 {
		e.Errorf("got %s, want the subscription identifier 42", p)
	}
	c.retained(e.topic("t"), "")
}

// retainDollar: retained messages of $ topics do not come for a leading wildcard.
func retainDollar(e *env) {
	c := e.client()
	topic := "$conformance/" + e.prefix
	c.retained(topic, "hidden")
	sub := e.client()
	sub.want("+/"+e.prefix, 1)
	sub.quiet()
	c.retained(topic, "")
}

// many publishes n retained messages under e.topic("many/"); the payloads are their numbers.
func (c *client) many(n int, payload func(i int) string) {
	c.e.Helper()
	var burst []byte
	for i := range n {
		m := message{topic: c.e.topic(fmt.Sprint("many/", i)), payload: payload(i), qos: 1, id: uint16(i + 1), retain: true}
		burst = append(burst, m.bytes(c.v)...)
	}
	go c.write(burst)
	for i := range n {
		c.ackFor(tPUBACK, uint16(i+1))
	}
}

func nothing(int) string { return "" }

// retainThroughWindow: all the retained messages come, also to a client that takes two at a time.
func retainThroughWindow(e *env) {
	c := e.client()
	c.many(60, func(i int) string { return fmt.Sprint(i) })
	sub := e.connect(narrow(e.unique(), 2))
	sub.want(e.topic("many/+"), 1)
	seen := map[string]bool{}
	var window []*packet
	for len(seen) < 60 {
		for len(window) < min(2, 60-len(seen)) {
			window = append(window, sub.message())
		}
		sub.quiet()
		if seen[window[0].payload] || !window[0].retain() {
			e.Fatalf("got %s, again or without RETAIN", window[0])
		}
		seen[window[0].payload] = true
		sub.finish(window[0])
		window = window[1:]
	}
	sub.quiet()
	c.many(60, nothing)
}

// retainAbandoned: who asks for many retained messages and goes, or unsubscribes, harms nobody.
func retainAbandoned(e *env) {
	c := e.client()
	c.many(600, func(int) string { return "some payload that takes its time" })
	for i := range 10 {
		sub := e.client()
		sub.send(subscribe(e.v, 1, nil, filter{e.topic("many/+"), byte(i % 3)}, filter{e.topic("#"), 1}))
		if i%2 == 0 {
			sub.send(unsubscribe(e.v, 2, e.topic("many/+"), e.topic("#")))
			sub.ackFor(tSUBACK, 1)
			sub.ackFor(tUNSUBACK, 2)
		}
		sub.nc.Close()
	}
	e.healthy()
	c.many(600, nothing)
}
