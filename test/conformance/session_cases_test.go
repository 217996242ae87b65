//go:build conformance

package conformance

import (
	"fmt"
	"sync"
	"time"
)

func sessionCases() []testCase {
	return []testCase{
		{"session-clean-start", all, sessionCleanStart},
		{"session-resumed", all, sessionResumed},
		{"session-created", all, sessionCreated},
		{"session-ends-with-connection", all, sessionEndsWithConnection},
		{"session-by-client-id", all, sessionByClientID},
		{"session-while-connected", all, sessionWhileConnected},
		{"session-expires", five, sessionExpires},
		{"session-expiry-at-disconnect", five, sessionExpiryAtDisconnect},
		{"session-expiry-from-zero", five, sessionExpiryFromZero},
		{"session-expiry-of-the-last-connect", five, sessionExpiryOfLastConnect},
		{"session-never-expires", five, sessionNeverExpires},
		{"session-outlived-by-retained", all, sessionOutlivedByRetained},
		{"session-across-versions", five, sessionAcrossVersions},
		{"offline-queue-in-order", all, offlineQueueInOrder},
		{"takeover", all, takeover},
		{"takeover-resends", all, takeoverResends},
		{"takeover-half-open", all, takeoverHalfOpen},
		{"takeover-storm", all, takeoverStorm},
	}
}

func sessionCleanStart(e *env) {
	pub, sub := e.client(), e.connect(lasting(e.unique()))
	sub.want(e.topic("t"), 1)
	sub.disconnect()
	pub.publish(message{topic: e.topic("t"), payload: "old", qos: 1})
	sub = e.connect(connect{id: sub.id})
	if sub.hello.present {
		e.Errorf("session present after a clean start")
	}
	pub.publish(message{topic: e.topic("t"), payload: "new", qos: 1})
	sub.nothing(pub, 1)
	// The discarded state is not found again later either.
	sub.disconnect()
	if sub = e.connect(lasting(sub.id)); sub.hello.present {
		e.Errorf("session present after the clean one ended")
	}
	sub.nothing(pub, 1)
}

func sessionResumed(e *env) {
	pub, sub := e.client(), e.connect(lasting(e.unique()))
	sub.want(e.topic("t"), 2)
	sub.disconnect()
	pub.publish(message{topic: e.topic("t"), payload: "one", qos: 1})
	pub.publish(message{topic: e.topic("t"), payload: "two", qos: 2})
	sub = e.connect(lasting(sub.id))
	if sub.hello.present != (e.v > v31) {
		e.Errorf("session present is %v", sub.hello.present)
	}
	if p := sub.receive("one"); p.qos() != 1 {
		e.Errorf("got %s, want quality of service 1", p)
	}
	if p := sub.receive("two"); p.qos() != 2 {
		e.Errorf("got %s, want quality of service 2", p)
	}
	pub.publish(message{topic: e.topic("t"), payload: "three", qos: 0})
	sub.receive("three") // the subscription is part of the session
}

func sessionCreated(e *env) {
	c := e.connect(lasting(e.unique()))
	if c.hello.present {
		e.Errorf("session present for an identifier that was never seen")
	}
	c.disconnect()
	if c = e.connect(lasting(c.id)); c.hello.present != (e.v > v31) {
		e.Errorf("session present is %v the second time", c.hello.present)
	}
}

// sessionEndsWithConnection: a clean session (5.0: one without an expiry) leaves nothing behind.
func sessionEndsWithConnection(e *env) {
	pub, c := e.client(), e.connect(connect{id: e.unique()})
	c.want(e.topic("t"), 1)
	pub.publish(message{topic: e.topic("t"), payload: "in flight", qos: 1})
	c.message()
	c.drop()
	pub.publish(message{topic: e.topic("t"), payload: "missed", qos: 1})
	if c = e.connect(lasting(c.id)); c.hello.present {
		e.Errorf("session present")
	}
	c.nothing(pub, 1)
}

func sessionByClientID(e *env) {
	pub, a, b := e.client(), e.connect(lasting(e.unique())), e.connect(lasting(e.unique()))
	a.want(e.topic("a"), 1)
	b.want(e.topic("b"), 1)
	a.disconnect()
	b.disconnect()
	pub.publish(message{topic: e.topic("a"), payload: "for a", qos: 1})
	pub.publish(message{topic: e.topic("b"), payload: "for b", qos: 1})
	a, b = e.connect(lasting(a.id)), e.connect(lasting(b.id))
	a.receive("for a")
	b.receive("for b")
	a.quiet()
	b.quiet()
}

// sessionWhileConnected: a session stays as long as its connection, whatever its expiry and its clean start say.
func sessionWhileConnected(e *env) {
	k := connect{}
	if e.v == v5 {
		k.expiry = 1
	}
	pub, c := e.client(), e.connect(k)
	c.want(e.topic("t"), 1)
	time.Sleep(1500 * time.Millisecond) // longer than the expiry
	pub.publish(message{topic: e.topic("t"), payload: "still", qos: 1})
	c.receive("still")
}

func sessionExpires(e *env) {
	pub, c := e.client(), e.connect(connect{id: e.unique(), resume: true, expiry: 1})
	c.want(e.topic("t"), 1)
	c.disconnect()
	pub.publish(message{topic: e.topic("t"), payload: "missed", qos: 1})
	time.Sleep(2500 * time.Millisecond) // longer than the expiry
	if c = e.connect(lasting(c.id)); c.hello.present {
		e.Errorf("session present after its expiry")
	}
	c.nothing(pub, 1)
}

// sessionExpiryAtDisconnect: DISCONNECT may change the expiry, in both directions.
func sessionExpiryAtDisconnect(e *env) {
	c := e.connect(lasting(e.unique()))
	c.leave(disconnectCode(0, pU32(pSessionExpiry, 0)))
	if c = e.connect(lasting(c.id)); c.hello.present {
		e.Errorf("session present after DISCONNECT set its expiry to 0")
	}
	c.disconnect()
	c = e.connect(connect{id: c.id, resume: true, expiry: 1})
	c.leave(disconnectCode(0, pU32(pSessionExpiry, 300)))
	time.Sleep(2500 * time.Millisecond) // longer than the first expiry
	if c = e.connect(lasting(c.id)); !c.hello.present {
		e.Errorf("no session although DISCONNECT set its expiry to 300 s")
	}
}

func sessionExpiryFromZero(e *env) {
	c := e.client()
	c.send(disconnectCode(0, pU32(pSessionExpiry, 10)))
	c.closed(0x82)
	if c = e.connect(lasting(c.id)); c.hello.present {
		e.Errorf("session present: the expiry of a protocol error was honoured")
	}
}

// sessionExpiryOfLastConnect: an expiry that is absent when a session is resumed is 0.
func sessionExpiryOfLastConnect(e *env) {
	c := e.connect(lasting(e.unique()))
	c.disconnect()
	c = e.connect(connect{id: c.id, resume: true})
	if !c.hello.present {
		e.Errorf("no session to resume")
	}
	c.disconnect()
	if c = e.connect(lasting(c.id)); c.hello.present {
		e.Errorf("session present although its last CONNECT had no expiry")
	}
}

func sessionNeverExpires(e *env) {
	c := e.connect(connect{id: e.unique(), resume: true, expiry: 0xFFFFFFFF})
	c.disconnect()
	if c = e.connect(connect{id: c.id, resume: true}); !c.hello.present {
		e.Errorf("no session")
	}
}

func sessionOutlivedByRetained(e *env) {
	c := e.client()
	c.publish(message{topic: e.topic("t"), payload: "kept", qos: 1, retain: true})
	c.disconnect()
	c = e.connect(connect{id: c.id})
	c.want(e.topic("t"), 1)
	c.receive("kept")
	c.publish(message{topic: e.topic("t"), qos: 1, retain: true})
}

// sessionAcrossVersions: a session of 3.1.1 is the same session for 5.0, and the other way round.
func sessionAcrossVersions(e *env) {
	pub := e.client()
	c := e.dialVersion(v311)
	c.hail(lasting(e.unique()))
	c.welcome()
	c.want(e.topic("t"), 1)
	c.disconnect()
	pub.publish(message{topic: e.topic("t"), payload: "one", qos: 1, props: [][]byte{pUserPair("k", "v")}})
	d := e.connect(lasting(c.id))
	if p := d.receive("one"); !d.hello.present || len(p.all(pUser)) != 1 {
		e.Errorf("session present %v, got %s", d.hello.present, p)
	}
	d.disconnect()
	pub.publish(message{topic: e.topic("t"), payload: "two", qos: 1, props: [][]byte{pUserPair("k", "v")}})
	c = e.dialVersion(v311)
	c.hail(lasting(d.id))
	c.welcome()
	c.receive("two")
}

// offlineQueueInOrder: what waited comes in the order in which it was published, also when it is more than the client takes at once, and
// before what is published afterwards.
func offlineQueueInOrder(e *env) {
	pub, sub := e.client(), e.connect(lasting(e.unique()))
	sub.want(e.topic("t"), 2)
	sub.disconnect()
	const n = 60
	for i := range n {
		pub.publish(message{topic: e.topic("t"), payload: fmt.Sprint(i), qos: 1})
	}
	k := lasting(sub.id)
	if e.v == v5 {
		k.props = [][]byte{pU16(pReceiveMax, 3)}
	}
	sub = e.connect(k)
	pub.publish(message{topic: e.topic("t"), payload: fmt.Sprint(n), qos: 1})
	for i := range n + 1 {
		if p := sub.receive(fmt.Sprint(i)); p.dup() {
			e.Errorf("got %s, which was never sent before", p)
		}
	}
}

func takeover(e *env) {
	a := e.client()
	b := e.connect(connect{id: a.id})
	a.closed(0x8E)
	b.alive()
	// Exactly one of the two is served: the newcomer.
	b.want(e.topic("t"), 0)
	b.publish(message{topic: e.topic("t"), payload: "once"})
	b.receive("once")
	b.quiet()
}

// takeoverResends: the newcomer gets what the old connection did not acknowledge, with the old identifiers and in the old order, before
// anything else.
func takeoverResends(e *env) {
	pub, a := e.client(), e.connect(lasting(e.unique()))
	a.want(e.topic("t"), 2)
	var first []*packet
	for i := range 4 {
		pub.publish(message{topic: e.topic("t"), payload: fmt.Sprint(i), qos: byte(1 + i%2)})
		first = append(first, a.message())
	}
	a.send(ack(tPUBREC, first[3].id)) // from here on the server may only send PUBREL
	if p := a.ackFor(tPUBREL, first[3].id); p.code != 0 {
		e.Errorf("got %s", p)
	}
	b := e.connect(lasting(a.id))
	a.closed(0x8E)
	if b.hello.present != (e.v > v31) {
		e.Errorf("session present is %v", b.hello.present)
	}
	pub.publish(message{topic: e.topic("t"), payload: "new", qos: 1})
	b.ackFor(tPUBREL, first[3].id) // before, behind, or among the PUBLISH packets
	for i := range 3 {
		p := b.message()
		if p.id != first[i].id || p.payload != first[i].payload || p.qos() != first[i].qos() || !p.dup() {
			e.Errorf("got %s, want %s again", p, first[i])
		}
	}
	b.send(ack(tPUBCOMP, first[3].id))
	if p := b.message(); p.payload != "new" || p.dup() {
		e.Errorf("got %s, want the new message", p)
	}
}

// takeoverHalfOpen: what went to a connection that nobody read any more is not lost.
func takeoverHalfOpen(e *env) {
	pub, a := e.client(), e.connect(lasting(e.unique()))
	a.want(e.topic("t"), 1)
	for i := range 10 {
		pub.publish(message{topic: e.topic("t"), payload: fmt.Sprint(i), qos: 1})
	}
	b := e.connect(lasting(a.id)) // a never read
	for i := range 10 {
		b.receive(fmt.Sprint(i))
	}
	b.nothing(pub, 1)
}

// takeoverStorm: many connections fight for one identifier; in the end one is there, and it works.
func takeoverStorm(e *env) {
	id := e.unique()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				nc, err := dial()
				if err != nil {
					e.Errorf("dial: %v", err)
					return
				}
				c := newClient(e, e.v, nc)
				c.write(lasting(id).bytes(e.v), subscribe(e.v, 1, nil, filter{e.topic("t"), 1}))
				c.read(patience) // CONNACK, or the end: displaced before it was welcome
			}
		})
	}
	wg.Wait()
	c := e.connect(lasting(id))
	c.want(e.topic("t"), 1)
	c.publish(message{topic: e.topic("t"), payload: "last", qos: 1})
	c.receive("last")
	c.nothing(c, 1)
}
