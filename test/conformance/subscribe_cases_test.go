//go:build conformance

package conformance

import (
	"fmt"
	"slices"
	"strings"
)

func subscribeCases() []testCase {
	return []testCase{
		{"subscribe-answer", all, subscribeAnswer},
		{"subscribe-many", all, subscribeMany},
		{"subscribe-same-twice", all, subscribeSameTwice},
		{"subscribe-empty", all, subscribeEmpty},
		{"subscribe-options-reserved", all, subscribeOptionsReserved},
		{"subscribe-id-0", all, subscribeID0},
		{"subscribe-flags", all, subscribeFlags},
		{"subscribe-not-utf8", all, subscribeNotUTF8},
		{"subscribe-filter-empty", all, subscribeFilterEmpty},
		{"subscribe-filter-invalid", since, subscribeFilterInvalid},
		{"subscribe-filter-invalid-3.1", []byte{v31}, subscribeFilterInvalid31},
		{"subscribe-replaces", all, subscribeReplaces},
		{"subscribe-replaces-options", five, subscribeReplacesOptions},
		{"subscribe-replaces-without-loss", all, subscribeReplacesWithoutLoss},
		{"subscribe-no-local", five, subscribeNoLocal},
		{"subscribe-no-local-overlap", five, subscribeNoLocalOverlap},
		{"subscription-id-zero", five, subscriptionIDZero},
		{"subscribe-user-properties", five, subscribeUserProperties},
	}
}

func subscribeAnswer(e *env) {
	c := e.client()
	for _, id := range []uint16{1, 256, 65535} {
		c.send(subscribe(e.v, id, nil, filter{e.topic(fmt.Sprint(id)), 1}))
		if p := c.ackFor(tSUBACK, id); !slices.Equal(p.codes, []byte{1}) {
			e.Errorf("got %s", p)
		}
	}
}

// subscribeMany: one SUBSCRIBE with many filters is many of them: a code for each, in order.
func subscribeMany(e *env) {
	c := e.client()
	var filters []filter
	var want []byte
	for i := range 30 {
		filters = append(filters, filter{e.topic(fmt.Sprint(i)), byte(i % 3)})
		want = append(want, byte(i%3))
	}
	bad := 7
	if e.v > v31 {
		filters[bad].name = "in#valid"
		want[bad] = 0x80
		if e.v == v5 {
			want[bad] = 0x8F
		}
	}
	if p := c.subscribe(nil, filters...); !slices.Equal(p.codes, want) {
		e.Errorf("got %s, want % x", p, want)
	}
	for i := range 30 {
		if i == bad {
			continue
		}
		c.publish(message{topic: e.topic(fmt.Sprint(i)), payload: "m", qos: 2})
		if p := c.receive("m"); p.qos() != byte(i%3) {
			e.Errorf("filter %d: got %s", i, p)
		}
	}
}

// subscribeSameTwice: the same filter twice in one packet: the second replaces the first.
func subscribeSameTwice(e *env) {
	c := e.client()
	if p := c.subscribe(nil, filter{e.topic("t"), 2}, filter{e.topic("t"), 0}); !slices.Equal(p.codes, []byte{2, 0}) {
		e.Errorf("got %s", p)
	}
	c.publish(message{topic: e.topic("t"), payload: "m", qos: 2})
	if p := c.receive("m"); p.qos() != 0 {
		e.Errorf("got %s, want quality of service 0", p)
	}
	c.quiet()
}

func subscribeEmpty(e *env) { e.refuses(subscribe(e.v, 1, nil), 0x81, 0x82) }

func subscribeOptionsReserved(e *env) {
	options := []byte{3, 4, 8, 0x10, 0x20, 0x40, 0x80, 0xC0}
	if e.v == v5 {
		options = []byte{0x40, 0x80, 0xC0, 0x41}
	}
	for _, o := range options {
		e.refuses(subscribe(e.v, 1, nil, filter{e.topic("t"), o}), 0x81)
	}
	if e.v == v5 {
		e.refuses(subscribe(e.v, 1, nil, filter{e.topic("t"), 3}), 0x81, 0x82)
		e.refuses(subscribe(e.v, 1, nil, filter{e.topic("t"), 0x30}), 0x81, 0x82)
	}
}

func subscribeID0(e *env) {
	e.refuses(subscribe(e.v, 0, nil, filter{e.topic("t"), 0}), 0x81, 0x82)
	e.refuses(unsubscribe(e.v, 0, e.topic("t")), 0x81, 0x82)
}

func subscribeFlags(e *env) {
	for flags := byte(0); flags < 16; flags++ {
		if flags == 2 || e.v == v31 && flags == 0xA { // 3.1 has a DUP flag here
			continue
		}
		b := subscribe(e.v, 1, nil, filter{e.topic("t"), 0})
		b[0] = tSUBSCRIBE<<4 | flags
		e.refuses(b, 0x81)
	}
}

func subscribeNotUTF8(e *env) {
	for _, s := range notUTF8 {
		e.refuses(subscribe(e.v, 1, nil, filter{e.topic("ok"), 0}, filter{s, 0}), 0x81)
	}
}

func subscribeFilterEmpty(e *env) {
	e.refuses(subscribe(e.v, 1, nil, filter{"", 0}), 0x81, 0x82, 0x8F)
	e.refuses(subscribe(e.v, 1, nil, filter{e.topic("t"), 0}, filter{"", 0}), 0x81, 0x82, 0x8F)
}

// invalidFilters are well-formed strings that are no topic filters.
var invalidFilters = []string{"a#", "#a", "a/#/b", "#/", "a/#/", "##", "a+", "+a", "a/+b", "a/b+/c", "++", "a/#b", "sport+", "+#", "a/+#"}

func subscribeFilterInvalid(e *env) {
	want := byte(0x80)
	if e.v == v5 {
		want = 0x8F
	}
	c := e.client()
	for _, name := range invalidFilters {
		if p := c.subscribe(nil, filter{name, 1}); p.codes[0] != want {
			e.Errorf("filter %q: got %s, want the code %#x", name, p, want)
		}
	}
	for _, name := range []string{"+", "a/+", "+/b", "a/+/c", "/+", "+/", "+/+/#", "a//+", "#", "/#"} {
		if p := c.subscribe(nil, filter{e.topic(name), 1}); p.codes[0] != 1 {
			e.Errorf("filter %q: got %s", name, p)
		}
	}
}

// subscribeFilterInvalid31: 3.1 has no code for a failure.
func subscribeFilterInvalid31(e *env) {
	for _, name := range invalidFilters {
		e.refuses(subscribe(e.v, 1, nil, filter{name, 1}))
	}
}

func subscribeReplaces(e *env) {
	c := e.client()
	for _, qos := range []byte{0, 2, 1, 2, 0} {
		c.want(e.topic("t"), qos)
		c.publish(message{topic: e.topic("t"), payload: "m", qos: 2})
		if p := c.receive("m"); p.qos() != qos {
			e.Errorf("got %s, want quality of service %d", p, qos)
		}
		c.quiet() // once, not once for each SUBSCRIBE
	}
}

// subscribeReplacesOptions: all of the old subscription goes: its identifier and its options.
func subscribeReplacesOptions(e *env) {
	c, pub := e.client(), e.client()
	name := e.topic("t")
	c.want(name, 1|noLocal|retainAsPublished, pVar(pSubscriptionID, 5))
	c.want(name, 1, pVar(pSubscriptionID, 6))
	pub.retained(name, "m")
	if p := c.receive("m"); p.retain() || len(p.all(pSubscriptionID)) != 1 || p.number(pSubscriptionID, 0) != 6 {
		e.Errorf("got %s, want the identifier 6 and no RETAIN", p)
	}
	pub.retained(name, "")
	c.receive("")
	c.publish(message{topic: name, payload: "own", qos: 1})
	c.receive("own")
	c.want(name, 1)
	pub.publish(message{topic: name, payload: "n", qos: 1})
	if p := c.receive("n"); len(p.all(pSubscriptionID)) != 0 {
		e.Errorf("got %s, want no identifier", p)
	}
}

// subscribeReplacesWithoutLoss: subscribing again and again while messages flow loses and doubles none.
func subscribeReplacesWithoutLoss(e *env) {
	pub, sub := e.pair(e.topic("t"), 1)
	const n = 50
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range n {
			pub.write(message{topic: e.topic("t"), payload: fmt.Sprint(i), qos: 1, id: uint16(i + 1)}.bytes(e.v))
			pub.read(patience)
		}
	}()
	for i := range n {
		sub.want(e.topic("t"), byte(1+i%2))
	}
	<-done
	for i := range n {
		sub.receive(fmt.Sprint(i))
	}
	sub.nothing(e.client(), 1)
}

func subscribeNoLocal(e *env) {
	c, other := e.client(), e.client()
	c.want(e.topic("t"), 1|noLocal)
	c.publish(message{topic: e.topic("t"), payload: "own", qos: 1})
	c.quiet()
	other.publish(message{topic: e.topic("t"), payload: "foreign", qos: 1})
	c.receive("foreign")
	// The client identifier counts, not the connection: also for what waits in the session.
	d := e.connect(lasting(e.unique()))
	d.want(e.topic("u"), 1|noLocal)
	d = d.again()
	d.publish(message{topic: e.topic("u"), payload: "own", qos: 1})
	d.quiet()
}

// subscribeNoLocalOverlap: a second subscription without the option delivers the client's own message.
func subscribeNoLocalOverlap(e *env) {
	c := e.client()
	c.want(e.topic("t"), 2|noLocal)
	c.want(e.topic("+"), 1)
	c.publish(message{topic: e.topic("t"), payload: "own", qos: 2})
	c.receive("own")
	c.quiet()
}

func subscriptionIDZero(e *env) {
	e.refuses(subscribe(e.v, 1, [][]byte{{pSubscriptionID, 0}}, filter{e.topic("t"), 0}), 0x82)
}

func subscribeUserProperties(e *env) {
	c := e.client()
	c.want(e.topic("t"), 1, pUserPair("a", "b"), pUserPair("a", "b"), pUserPair("", strings.Repeat("v", 1000)))
	id := c.free()
	c.send(frame(tUNSUBSCRIBE<<4|2, u16(id), properties(pUserPair("a", "b"), pUserPair("a", "b")), str(e.topic("t"))))
	if p := c.ackFor(tUNSUBACK, id); !slices.Equal(p.codes, []byte{0}) {
		e.Errorf("got %s", p)
	}
}
