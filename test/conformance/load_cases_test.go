//go:build conformance

package conformance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
)

// loadCases are about much of something: nothing is lost, doubled, reordered or mixed up.
func loadCases() []testCase {
	return []testCase{
		{"integrity-direct", all, integrityDirect},
		{"integrity-kept", all, integrityKept},
		{"slow-reader", all, slowReader},
		{"lazy-publisher", all, lazyPublisher},
		{"many-in-flight-resumed", all, manyInFlightResumed},
		{"many-connections", all, manyConnections},
		{"bad-mutations", all, badMutations},
	}
}

// pattern is a payload that no other message has, in every part of it.
func pattern(name string, size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "<%s:%d>", name, i)
	}
	return b.String()[:size]
}

// same tells where two payloads differ.
func same(got, want string) string {
	if got == want {
		return ""
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	return fmt.Sprintf("%d bytes, want %d; the first difference is at %d: %.60q, want %.60q", len(got), len(want), i, got[i:], want[i:])
}

var sizes = []int{100, 4095, 4096, 4097, 8192, 16384, 65535, 65536, 200000}

// integrityDirect: several publishers and subscribers at once, with payloads around every size at which a server may treat them differently.
func integrityDirect(e *env) {
	var publishers, readers sync.WaitGroup
	for i := range 4 {
		topic := e.topic(fmt.Sprint("t", i))
		pub, sub := e.pair(topic, 2)
		everything := e.client()
		everything.want(e.topic("+"), byte(i%3))
		readers.Go(everything.checkPatterns)
		publishers.Go(func() {
			for round := range 3 {
				for j, size := range sizes {
					text := pattern(fmt.Sprintf("%d-%d-%d", i, round, j), size)
					if err := relay(pub, sub, topic, text, byte((round+j)%3)); err != nil {
						e.Errorf("%s, %d bytes: %v", topic, size, err)
						return
					}
				}
			}
		})
	}
	publishers.Wait()
	e.client().publish(message{topic: e.topic("end"), payload: "end", qos: 1})
	readers.Wait()
}

// checkPatterns reads and acknowledges everything until the message "end": each payload must be a whole pattern.
func (c *client) checkPatterns() {
	for {
		p, err := c.read(patience)
		if err != nil {
			c.e.Errorf("%s: %v", c.id, err)
			return
		}
		switch {
		case p.typ == tPUBREL:
			c.write(ack(tPUBCOMP, p.id))
		case p.qos() == 1:
			c.write(ack(tPUBACK, p.id))
		case p.qos() == 2:
			c.write(ack(tPUBREC, p.id))
		}
		if p.payload == "end" {
			return
		}
		if p.typ == tPUBLISH {
			name, _, _ := strings.Cut(strings.TrimPrefix(p.payload, "<"), ":")
			if d := same(p.payload, pattern(name, len(p.payload))); d != "" {
				c.e.Errorf("%s: %s: %s", c.id, p.topic, d)
			}
		}
	}
}

// relay publishes one message and wants it at the subscriber; it runs outside of the test's goroutine.
func relay(pub, sub *client, topic, text string, qos byte) error {
	if err := pub.write(message{topic: topic, payload: text, qos: qos, id: 3}.bytes(pub.v)); err != nil {
		return err
	}
	if qos == 1 {
		if p, err := pub.read(patience); err != nil || p.typ != tPUBACK {
			return fmt.Errorf("the publisher got %v, %w", p, err)
		}
	}
	if qos == 2 {
		if p, err := pub.read(patience); err != nil || p.typ != tPUBREC {
			return fmt.Errorf("the publisher got %v, %w", p, err)
		}
		pub.write(ack(tPUBREL, 3))
		if p, err := pub.read(patience); err != nil || p.typ != tPUBCOMP {
			return fmt.Errorf("the publisher got %v, %w", p, err)
		}
	}
	p, err := sub.read(patience)
	if err != nil || p.typ != tPUBLISH {
		return fmt.Errorf("the subscriber got %v, %w", p, err)
	}
	if d := same(p.payload, text); d != "" {
		return fmt.Errorf("%s", d)
	}
	switch qos {
	case 1:
		return sub.write(ack(tPUBACK, p.id))
	case 2:
		sub.write(ack(tPUBREC, p.id))
		if p, err := sub.read(patience); err != nil || p.typ != tPUBREL {
			return fmt.Errorf("the subscriber got %v, %w", p, err)
		}
		return sub.write(ack(tPUBCOMP, p.id))
	}
	return nil
}

// integrityKept: payloads that a server keeps: for a session that is away, retained, sent again, as a will. In between the connection from
// which they came is used for others.
func integrityKept(e *env) {
	pub, sub := e.client(), e.connect(lasting(e.unique()))
	sub.want(e.topic("t/+"), 2)
	sub.disconnect()
	texts := map[string]string{}
	for i, size := range sizes {
		topic := e.topic(fmt.Sprint("t/", i))
		texts[topic] = pattern(topic, size)
		pub.publish(message{topic: topic, payload: texts[topic], qos: byte(1 + i%2), retain: true})
		pub.publish(message{topic: e.topic("noise"), payload: strings.Repeat("noise", 4000), qos: 1})
	}
	w := &will{topic: e.topic("t/will"), payload: pattern("will", 60000), qos: 1}
	texts[w.topic] = w.payload
	e.connect(connect{will: w}).drop()
	check := func(c *client, n int) {
		e.Helper()
		for range n {
			p := c.message()
			if d := same(p.payload, texts[p.topic]); d != "" {
				e.Errorf("%s: %s", p.topic, d)
			}
		}
	}
	for range 2 { // what was queued, and then the same again
		sub = e.connect(lasting(sub.id))
		check(sub, len(sizes)+1)
		pub.publish(message{topic: e.topic("noise"), payload: strings.Repeat("noise", 50000), qos: 2})
		sub.drop()
	}
	late := e.client()
	late.want(e.topic("t/+"), 2)
	check(late, len(sizes))
	for topic := range texts {
		pub.retained(topic, "")
	}
	e.connect(connect{id: sub.id}).disconnect()
}

// slowReader: a subscriber that does not read for a while loses no QoS 1 message, and gets them in order.
func slowReader(e *env) {
	pub, sub := e.pair(e.topic("t"), 1)
	const n, batch = 3000, 100
	for i := 0; i < n; i += batch {
		var burst []byte
		for j := range batch {
			burst = append(burst, message{topic: e.topic("t"), payload: fmt.Sprintf("%d %s", i+j, strings.Repeat("x", 500)), qos: 1, id: uint16(j + 1)}.bytes(e.v)...)
		}
		pub.send(burst)
		for j := range batch {
			pub.ackFor(tPUBACK, uint16(j+1))
		}
	}
	for i := range n {
		p := sub.message()
		sub.finish(p)
		if got, _, _ := strings.Cut(p.payload, " "); got != fmt.Sprint(i) || p.dup() {
			e.Fatalf("got %s, want message %d", p, i)
		}
	}
	sub.nothing(pub, 1)
}

// lazyPublisher: a publisher that does not read its acknowledgements for a while gets all of them, in order, and nothing of it is lost.
func lazyPublisher(e *env) {
	pub, sub := e.pair(e.topic("t"), 0)
	n := int(min(pub.hello.number(pReceiveMax, 1000), 1000))
	const rounds = 20
	for round := range rounds {
		var burst []byte
		for i := range n {
			burst = append(burst, message{topic: e.topic("t"), payload: fmt.Sprint(round, i), qos: 1, id: uint16(i + 1)}.bytes(e.v)...)
		}
		done := make(chan error, 1)
		go func() { done <- pub.write(burst) }()
		for i := range n {
			sub.receive(fmt.Sprint(round, i))
		}
		if err := <-done; err != nil {
			e.Fatal(err)
		}
		for i := range n {
			pub.ackFor(tPUBACK, uint16(i+1))
		}
	}
}

// manyInFlightResumed: hundreds of messages in flight are all sent again, in order, with their identifiers.
func manyInFlightResumed(e *env) {
	pub, sub := e.client(), e.connect(lasting(e.unique()))
	sub.want(e.topic("t"), 2)
	const n = 500
	go func() {
		for i := range n {
			pub.write(message{topic: e.topic("t"), payload: fmt.Sprint(i), qos: 1, id: 1}.bytes(e.v))
			if _, err := pub.read(patience); err != nil {
				return
			}
		}
	}()
	var ids []uint16
	for i := range n {
		p := sub.message()
		if p.payload != fmt.Sprint(i) {
			e.Fatalf("got %s, want message %d", p, i)
		}
		ids = append(ids, p.id)
	}
	for i := 0; i < n; i += 2 { // out of order, as it were: the odd ones stay
		sub.send(ack(tPUBACK, ids[i]))
	}
	sub.alive()
	sub = sub.again()
	for i := 1; i < n; i += 2 {
		if p := sub.message(); p.id != ids[i] || !p.dup() || p.payload != fmt.Sprint(i) {
			e.Fatalf("got %s, want message %d with the identifier %d again", p, i, ids[i])
		}
		sub.send(ack(tPUBACK, ids[i]))
	}
	sub.quiet()
	e.connect(connect{id: sub.id}).disconnect()
}

// manyConnections: hundreds of clients at once, each of which gets what is for all, and what is for itself.
func manyConnections(e *env) {
	const n = 150
	var clients []*client
	for i := range n {
		c := e.client()
		c.send(subscribe(e.v, 1, nil, filter{e.topic("all"), byte(i % 3)}, filter{e.topic(fmt.Sprint("one/", i)), 1}))
		clients = append(clients, c)
	}
	for _, c := range clients {
		c.ackFor(tSUBACK, 1)
	}
	pub := e.client()
	pub.publish(message{topic: e.topic("all"), payload: pattern("all", 5000), qos: 2})
	for i := range n {
		pub.publish(message{topic: e.topic(fmt.Sprint("one/", i)), payload: fmt.Sprint(i), qos: 1})
	}
	for i, c := range clients {
		p := c.message()
		c.finish(p)
		if d := same(p.payload, pattern("all", 5000)); d != "" || p.qos() != byte(i%3) {
			e.Fatalf("client %d: got %s: %s", i, p, d)
		}
		c.receive(fmt.Sprint(i))
	}
}

// badMutations: conversations with bytes changed, taken out, put in, or repeated, at random but the same in every run. Whatever the server
// makes of them, it answers with well-formed packets or the end, and serves others.
func badMutations(e *env) {
	r := rand.New(rand.NewPCG(5, uint64(e.v)))
	user := "user"
	good := [][]byte{
		connect{id: e.unique(), user: &user, will: &will{topic: e.topic("will"), payload: "w"}}.bytes(e.v),
		subscribe(e.v, 1, nil, filter{e.topic("a/+"), 2}, filter{e.topic("b/#"), 1}),
		message{topic: e.topic("a/b"), payload: "payload", qos: 1, id: 2}.bytes(e.v),
		message{topic: e.topic("b/c"), payload: "payload", qos: 2, id: 3}.bytes(e.v),
		ack(tPUBREL, 3), unsubscribe(e.v, 4, e.topic("a/+")), pingreq(),
	}
	if e.v == v5 {
		good[1] = subscribe(e.v, 1, [][]byte{pVar(pSubscriptionID, 7), pUserPair("k", "v")}, filter{e.topic("a/+"), 2 | retainAsPublished})
		good[2] = message{topic: e.topic("a/b"), payload: "payload", qos: 1, id: 2, props: append(forwardedProps(), pU16(pAlias, 1))}.bytes(e.v)
		good[3] = message{payload: "payload", qos: 2, id: 3, props: [][]byte{pU16(pAlias, 1)}}.bytes(e.v)
		good = append(good, ackCode(tPUBACK, 1, 0, pStr(pReasonString, "r")), ackCode(tPUBREC, 2, 0x10))
	}
	for range 1200 {
		stream := slices.Clone(good)
		from := r.IntN(len(stream)) // most of the time the CONNECT is good
		for i := from; i < len(stream); i++ {
			if r.IntN(3) == 0 {
				stream[i] = mutate(r, stream[i])
			}
		}
		nc, err := dial()
		if err != nil {
			e.Fatalf("dial: %v", err)
		}
		c := newClient(e, e.v, nc)
		c.write(append(cat(stream...), disconnect()...))
		c.nc.(interface{ CloseWrite() error }).CloseWrite()
		for {
			p, err := c.read(patience)
			if err != nil {
				if err.Error() != "EOF" && !otherVersion(stream[0], e.v) {
					e.Errorf("sent %x: got %v, %v", cat(stream...), p, err)
				}
				break
			}
		}
		nc.Close()
	}
	e.healthy()
	e.small()
}

// otherVersion tells whether a CONNECT is no longer one of the version, so that the answer has another form.
func otherVersion(b []byte, v byte) bool {
	return !strings.Contains(string(b[:min(len(b), 16)]), string(protocol(v)))
}

// mutate changes a packet.
func mutate(r *rand.Rand, b []byte) []byte {
	b = slices.Clone(b)
	at := r.IntN(len(b))
	switch r.IntN(6) {
	case 0:
		b[at] ^= 1 << r.IntN(8)
	case 1:
		b[at] = []byte{0, 1, 2, 0x7F, 0x80, 0xFF}[r.IntN(6)]
	case 2:
		b = slices.Delete(b, at, at+1)
	case 3:
		b = slices.Insert(b, at, byte(r.IntN(256)))
	case 4: // a body of another length, which the header tells rightly
		if len(b) > 2 && b[1] < 0x70 {
			b = append(b[:2+r.IntN(len(b)-1)], b[r.IntN(len(b)):]...)
			b[1] = byte(len(b) - 2)
		}
	case 5:
		b = append(b, b...)
	}
	return b
}
