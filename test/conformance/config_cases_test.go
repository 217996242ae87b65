//go:build conformance

package conformance

import (
	"fmt"
	"strconv"
	"strings"
)

// configCases are rules that show only when the program is told so: each has a program of its own.
func configCases() []testCase {
	return []testCase{
		{"config-empty-id-refused", since, configEmptyIDRefused},
		{"config-subscriptions", since, configSubscriptions},
		{"config-topic-levels", since, configTopicLevels},
		{"config-packet-size", all, configPacketSize},
		{"config-receive-maximum", five, configReceiveMaximum},
		{"config-no-aliases", five, configNoAliases},
		{"config-inflight", all, configInflight},
		{"config-queue-drop-oldest", all, configQueueDropOldest},
		{"config-queue-drop-new", all, configQueueDropNew},
		{"config-queue-qos0", all, configQueueQoS0},
		{"config-outbound-bytes", all, configOutboundBytes},
		{"config-retained-limit", all, configRetainedLimit},
		{"config-shared-strategies", five, configSharedStrategies},
		{"config-connections", all, configConnections},
		{"config-goroutine-driver", all, configGoroutineDriver},
	}
}

func configEmptyIDRefused(e *env) {
	p := e.own("--allow-empty-client-id=false")
	c := p.at(e)
	c.hail(connect{noID: true})
	c.refused(map[byte]byte{v311: 2, v5: 0x85}[e.v])
	p.in(e, connect{}).alive()
}

func configSubscriptions(e *env) {
	c := e.own("--limits-max-subscriptions", "2").in(e, connect{})
	want := map[byte]byte{v311: 0x80, v5: 0x97}[e.v]
	p := c.subscribe(nil, filter{"a", 1}, filter{"b", 1}, filter{"c", 1}, filter{"a", 0})
	if p.codes[0] != 1 || p.codes[1] != 1 || p.codes[2] != want || p.codes[3] != 0 {
		e.Errorf("got %s, want the third refused with %#x", p, want)
	}
	c.unsubscribe("b")
	c.want("c", 1)
}

func configTopicLevels(e *env) {
	p := e.own("--limits-max-topic-levels", "4")
	c := p.in(e, connect{})
	if s := c.subscribe(nil, filter{"1/2/3/4", 1}, filter{"1/2/3/4/5", 1}); s.codes[0] != 1 || s.codes[1] < 0x80 {
		e.Errorf("got %s, want the second refused", s)
	}
	c.publish(message{topic: "1/2/3/4", payload: "m", qos: 1})
	c.receive("m")
	c.send(message{topic: "1/2/3/4/5", payload: "m", qos: 1, id: 9}.bytes(e.v))
	if q, err := c.read(patience); err == nil && q.code < 0x80 {
		e.Errorf("got %s, want an error", q)
	}
	p.in(e, connect{}).alive()
}

func configPacketSize(e *env) {
	p := e.own("--limits-max-packet-size", "1KiB")
	c := p.in(e, connect{})
	if e.v == v5 && c.hello.number(pMaximumPacket, 0) != 1024 {
		e.Errorf("got %s, want the maximum packet size 1024", c.hello)
	}
	c.want("t", 0)
	payload := strings.Repeat("x", 1000)
	c.publish(message{topic: "t", payload: payload})
	c.receive(payload)
	c.send(raw(tPUBLISH<<4), varint(1022), str("t"), raw(0)) // 1025 bytes, of which hardly any is there
	c.closed(0x95)
}

func configReceiveMaximum(e *env) {
	p := e.own("--limits-receive-maximum", "2")
	c := p.in(e, connect{})
	if c.hello.number(pReceiveMax, 65535) != 2 {
		e.Fatalf("got %s, want the receive maximum 2", c.hello)
	}
	m := func(id uint16) []byte { return message{topic: "t", qos: 2, id: id}.bytes(e.v) }
	c.send(m(1), m(2))
	c.ackFor(tPUBREC, 1)
	c.ackFor(tPUBREC, 2)
	c.send(ack(tPUBREL, 1)) // PUBCOMP gives room for one
	c.ackFor(tPUBCOMP, 1)
	c.send(m(3))
	c.ackFor(tPUBREC, 3)
	c.send(message{topic: "t", qos: 2, id: 2, dup: true}.bytes(e.v)) // one that is in flight already does not count again
	c.ackFor(tPUBREC, 2)
	for range 10 {
		c.publish(message{topic: "t"}) // QoS 0 does not count
	}
	c.alive()
	c.send(message{topic: "t", qos: 1, id: 4}.bytes(e.v))
	c.closed(0x93)
	// What a resumed session has open counts again only when it is sent again.
	c = p.in(e, lasting(e.unique()))
	c.send(m(1), m(2))
	c.ackFor(tPUBREC, 1)
	c.ackFor(tPUBREC, 2)
	c.drop()
	c = p.in(e, lasting(c.id))
	c.send(ack(tPUBREL, 1), ack(tPUBREL, 2))
	c.ackFor(tPUBCOMP, 1)
	c.ackFor(tPUBCOMP, 2)
	c.send(m(1), m(2))
	c.ackFor(tPUBREC, 1)
	c.ackFor(tPUBREC, 2)
	c.alive()
}

func configNoAliases(e *env) {
	p := e.own("--limits-topic-alias-maximum", "0", "--limits-topic-alias-outbound", "0")
	c := p.in(e, connect{props: [][]byte{pU16(pAliasMax, 10)}})
	if c.hello.number(pAliasMax, 0) != 0 {
		e.Errorf("got %s, want no topic aliases", c.hello)
	}
	c.want("some/topic", 0)
	for range 10 {
		c.publish(message{topic: "some/topic", payload: "m"})
		if q := c.receive("m"); q.number(pAlias, 0) != 0 {
			e.Errorf("got %s", q)
		}
	}
	c.send(aliased("t", "x", 1))
	c.closed(0x94)
}

// configInflight: the server's own window, for clients that do not limit it.
func configInflight(e *env) {
	p := e.own("--limits-max-inflight", "2")
	pub, sub := p.in(e, connect{}), p.in(e, connect{})
	sub.want("t", 1)
	for i := range 5 {
		pub.publish(message{topic: "t", payload: fmt.Sprint(i), qos: 1})
	}
	a, b := sub.message(), sub.message()
	sub.quiet()
	sub.finish(a)
	sub.finish(b)
	for i := 2; i < 5; i++ {
		sub.receive(fmt.Sprint(i))
	}
}

// overfull gives a session that is away, for which ten messages were published; the queue takes three.
func overfull(e *env, policy string) (p *process, sub *client) {
	e.Helper()
	p = e.own("--queue-policy", policy, "--queue-max-messages", "3")
	pub, sub := p.in(e, connect{}), p.in(e, lasting(e.unique()))
	sub.want("t", 1)
	sub.disconnect()
	for i := range 10 {
		if code := pub.publish(message{topic: "t", payload: fmt.Sprint(i), qos: 1}); code >= 0x80 {
			e.Errorf("message %d: code %#x", i, code)
		}
	}
	return p, p.in(e, lasting(sub.id))
}

func configQueueDropOldest(e *env) {
	_, sub := overfull(e, "drop_oldest")
	for i := 7; i < 10; i++ {
		sub.receive(fmt.Sprint(i))
	}
	sub.quiet()
}

func configQueueDropNew(e *env) {
	_, sub := overfull(e, "drop_new")
	for i := range 3 {
		sub.receive(fmt.Sprint(i))
	}
	sub.quiet()
}

func configQueueQoS0(e *env) {
	p := e.own("--queue-qos0")
	pub, sub := p.in(e, connect{}), p.in(e, lasting(e.unique()))
	sub.want("t", 2)
	sub.disconnect()
	for i := range 6 {
		pub.publish(message{topic: "t", payload: fmt.Sprint(i), qos: byte(i % 3)})
	}
	sub = p.in(e, lasting(sub.id))
	for payload, q := range sub.receiveOf("0", "1", "2", "3", "4", "5") {
		if i, err := strconv.Atoi(payload); err != nil || q.qos() != byte(i%3) {
			e.Errorf("got %s", q)
		}
	}
}

// configOutboundBytes: for a client that does not read, QoS 0 messages are dropped, whole ones: what it reads in the end is well formed and
// in order, and nobody waits for it.
func configOutboundBytes(e *env) {
	p := e.own("--limits-max-outbound-bytes", "64KiB")
	pub, lazy, good := p.in(e, connect{}), p.in(e, connect{}), p.in(e, connect{})
	lazy.want("t", 0)
	good.want("t", 0)
	const n = 1500
	for i := range n {
		text := fmt.Sprintf("%06d %s", i, strings.Repeat("x", 20000))
		pub.publish(message{topic: "t", payload: text})
		good.receive(text)
	}
	pub.alive()
	lazy.send(pingreq())
	last, count := -1, 0
	for {
		q, err := lazy.read(patience)
		if err != nil {
			e.Fatal(err)
		}
		if q.typ == tPINGRESP {
			break
		}
		i := 0
		fmt.Sscanf(q.payload, "%d", &i)
		if i <= last || len(q.payload) != 20007 {
			e.Fatalf("got %s behind message %d", q, last)
		}
		last = i
		count++
	}
	if count == n {
		e.Logf("the client that did not read lost nothing: the system's buffers were large enough")
	}
}

// configRetainedLimit: a message that there is no room for is delivered all the same.
func configRetainedLimit(e *env) {
	p := e.own("--retain-max-messages", "2")
	c := p.in(e, connect{})
	c.want("+", 1)
	for i := range 4 {
		topic := fmt.Sprint(i)
		c.send(message{topic: topic, payload: topic, qos: 1, id: 9, retain: true}.bytes(e.v))
		if q := c.ackFor(tPUBACK, 9); q.code < 0x80 {
			c.receive(topic)
		}
	}
	late := p.in(e, connect{})
	late.want("+", 1)
	late.gets("0", "1")
	c.retained("0", "")
	c.retained("3", "three")
	later := p.in(e, connect{})
	later.want("+", 1)
	later.gets("1", "three")
}

// configSharedStrategies: whatever the choice, each message goes to one member.
func configSharedStrategies(e *env) {
	for _, strategy := range []string{"round_robin", "random", "sticky", "least_inflight"} {
		p := e.own("--shared-strategy", strategy)
		pub, other := p.in(e, connect{}), p.in(e, connect{})
		var members []*client
		for range 3 {
			c := p.in(e, connect{})
			c.want("$share/g/t/+", 1)
			members = append(members, c)
		}
		const n = 60
		for i := range n {
			[]*client{pub, other}[i%2].publish(message{topic: fmt.Sprint("t/", i%4), payload: fmt.Sprint(i), qos: 1})
		}
		seen, got := map[string]int{}, []int{0, 0, 0}
		for i, c := range members {
			for _, q := range c.collect(pub) {
				seen[q.payload]++
				got[i]++
			}
		}
		if len(seen) != n || got[0]+got[1]+got[2] != n {
			e.Errorf("%s: %d different messages came, %v to the members", strategy, len(seen), got)
		}
		if strategy == "round_robin" || strategy == "least_inflight" {
			if min(got[0], got[1], got[2]) < n/6 {
				e.Errorf("%s: the members got %v", strategy, got)
			}
		}
		e.Logf("%s: %v", strategy, got)
	}
}

// configConnections: one connection too many is refused, and there is room again when another goes.
func configConnections(e *env) {
	p := e.own("--limits-max-connections", "2")
	a, b := p.admitted(e), p.admitted(e)
	c := p.at(e)
	c.write(connect{id: e.unique()}.bytes(e.v))
	c.turnedAway()
	a.alive()
	b.disconnect()
	p.admitted(e).alive()
}

// admitted is a connection to a program that may still have to take note that another one is over.
func (p *process) admitted(e *env) *client {
	e.Helper()
	for range 200 {
		c := p.at(e)
		c.id = e.unique()
		c.write(connect{id: c.id}.bytes(e.v))
		if q, err := c.read(patience); err == nil && q.typ == tCONNACK && q.code == 0 {
			return c
		}
	}
	e.Fatal("no connection is accepted")
	return nil
}

// configGoroutineDriver: the other way of serving connections, in short; -serve "--io goroutine" runs every case on it.
func configGoroutineDriver(e *env) {
	p := e.own("--io", "goroutine")
	pub, sub := p.in(e, connect{}), p.in(e, lasting(e.unique()))
	sub.want("t", 2)
	for qos := byte(0); qos <= 2; qos++ {
		pub.publish(message{topic: "t", payload: strings.Repeat("m", 5000), qos: qos})
		sub.receive(strings.Repeat("m", 5000))
	}
	sub.drop()
	pub.publish(message{topic: "t", payload: "kept", qos: 1})
	p.in(e, lasting(sub.id)).receive("kept")
	p.in(e, connect{id: pub.id})
	pub.closed(0x8E)
}
