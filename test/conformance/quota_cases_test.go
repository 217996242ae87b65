//go:build conformance

package conformance

import (
	"fmt"
	"strings"
)

func quotaCases() []testCase {
	return []testCase{
		{"receive-maximum-exceeded", five, receiveMaximumExceeded},
		{"receive-maximum-of-client", five, receiveMaximumOfClient},
		{"receive-maximum-after-resume", five, receiveMaximumAfterResume},
		{"receive-maximum-other-packets", five, receiveMaximumOtherPackets},
		{"receive-maximum-zero", five, receiveMaximumZero},
		{"maximum-packet-size", five, maximumPacketSize},
		{"maximum-packet-size-shared", five, maximumPacketSizeShared},
		{"maximum-packet-size-retained", five, maximumPacketSizeRetained},
		{"maximum-packet-size-acks", five, maximumPacketSizeAcks},
		{"maximum-packet-size-disconnect", five, maximumPacketSizeDisconnect},
		{"maximum-packet-size-zero", five, maximumPacketSizeZero},
		{"maximum-packet-size-of-server", five, maximumPacketSizeOfServer},
	}
}

// receiveMaximumExceeded: one message in flight more than the server allows ends the connection with 0x93. As many as allowed do not.
func receiveMaximumExceeded(e *env) {
	c := e.client()
	limit := int(c.hello.number(pReceiveMax, 65535))
	if limit == 65535 {
		e.Logf("the server allows 65535 messages in flight: there is no identifier for one more")
		return
	}
	var burst []byte
	for i := range limit {
		burst = append(burst, message{topic: e.topic("t"), qos: 2, id: uint16(i + 1)}.bytes(e.v)...)
	}
	go c.write(burst)
	for i := range limit {
		c.ackFor(tPUBREC, uint16(i+1))
	}
	c.send(message{topic: e.topic("t"), qos: 0}.bytes(e.v)) // which does not count
	c.alive()
	c.send(message{topic: e.topic("t"), qos: 2, id: uint16(limit + 1)}.bytes(e.v))
	c.closed(0x93)
}

// narrow is a session that takes n messages at a time.
func narrow(id string, n uint16) connect {
	k := lasting(id)
	k.props = [][]byte{pU16(pReceiveMax, n)}
	return k
}

// receiveMaximumOfClient: never more in flight than the client takes; PUBACK, PUBCOMP and a failing PUBREC give room for one more.
func receiveMaximumOfClient(e *env) {
	pub, sub := e.client(), e.connect(narrow(e.unique(), 2))
	sub.want(e.topic("t"), 2)
	for i := range 8 {
		pub.publish(message{topic: e.topic("t"), payload: fmt.Sprint(i), qos: byte(1 + i%2)})
	}
	a, b := sub.message(), sub.message()
	sub.quiet()
	sub.send(ack(tPUBACK, a.id))
	c := sub.message() // 2
	sub.quiet()
	sub.send(ack(tPUBREC, b.id)) // PUBREC gives no room
	sub.ackFor(tPUBREL, b.id)
	sub.quiet()
	sub.send(ack(tPUBCOMP, b.id))
	d := sub.message() // 3
	sub.quiet()
	sub.send(ackCode(tPUBREC, d.id, 0x80)) // a failing one does
	sub.message()                          // 4
	sub.quiet()
	sub.send(ack(tPUBACK, c.id))
	if p := sub.message(); p.payload != "5" {
		e.Errorf("got %s, want message 5", p)
	}
	sub.quiet()
}

// receiveMaximumAfterResume: the client's new maximum counts for what is sent again as well.
func receiveMaximumAfterResume(e *env) {
	pub, sub := e.client(), e.connect(narrow(e.unique(), 10))
	sub.want(e.topic("t"), 2)
	for i := range 10 {
		pub.publish(message{topic: e.topic("t"), payload: fmt.Sprint(i), qos: byte(1 + i%2)})
		sub.message()
	}
	sub.drop()
	for i := 10; i < 15; i++ {
		pub.publish(message{topic: e.topic("t"), payload: fmt.Sprint(i), qos: 1})
	}
	sub = e.connect(narrow(sub.id, 3))
	var window []*packet
	for i := range 15 {
		for len(window) < min(3, 15-i) {
			window = append(window, sub.message())
		}
		sub.quiet()
		if p := window[0]; p.payload != fmt.Sprint(i) || p.dup() != (i < 10) {
			e.Fatalf("got %s, want message %d", p, i)
		}
		sub.finish(window[0])
		window = window[1:]
	}
}

// receiveMaximumOtherPackets: without room for a PUBLISH everything else goes on: QoS 0, SUBACK, PINGRESP, acknowledgements.
func receiveMaximumOtherPackets(e *env) {
	pub, sub := e.client(), e.connect(narrow(e.unique(), 1))
	sub.want(e.topic("t"), 2)
	pub.publish(message{topic: e.topic("t"), payload: "fills", qos: 1})
	pub.publish(message{topic: e.topic("t"), payload: "waits", qos: 2})
	first := sub.message()
	sub.quiet()
	sub.want(e.topic("other"), 0)
	sub.publish(message{topic: e.topic("x"), qos: 1})
	sub.publish(message{topic: e.topic("x"), qos: 2})
	sub.unsubscribe(e.topic("none"))
	pub.publish(message{topic: e.topic("other"), payload: "zero"})
	sub.receive("zero")
	sub.send(ack(tPUBACK, first.id))
	sub.receive("waits")
}

func receiveMaximumZero(e *env) {
	e.begin(connect{props: [][]byte{pU16(pReceiveMax, 0)}}).refused(0x82)
}

// limited is a client with a maximum packet size; every packet that it gets is measured.
func (e *env) limited(k connect, size uint32) *client {
	e.Helper()
	k.props = append(k.props, pU32(pMaximumPacket, size))
	c := e.begin(k)
	c.limit = int(size)
	return c.welcome()
}

// maximumPacketSize: a message that is too large for a client is as good as sent: the next ones come, the window is free, and it does not
// come after a reconnect either.
func maximumPacketSize(e *env) {
	k := narrow(e.unique(), 1)
	pub, sub, other := e.client(), e.limited(k, 150), e.client()
	sub.want(e.topic("t"), 2)
	other.want(e.topic("t"), 2)
	for qos := byte(0); qos <= 2; qos++ {
		large := strings.Repeat("l", 200)
		if code := pub.publish(message{topic: e.topic("t"), payload: large, qos: qos}); code >= 0x80 {
			e.Errorf("the publisher got the code %#x", code)
		}
		pub.publish(message{topic: e.topic("t"), payload: "small", qos: qos})
		sub.receive("small")
		other.receive(large)
		other.receive("small")
	}
	sub.drop()
	pub.publish(message{topic: e.topic("t"), payload: strings.Repeat("q", 200), qos: 1})
	pub.publish(message{topic: e.topic("t"), payload: "queued", qos: 1})
	sub = e.limited(k, 150)
	sub.receive("queued")
	sub.quiet()
}

// maximumPacketSizeShared: in a shared group a message that is too large for one may go to another or to nobody, but the rest is served.
func maximumPacketSizeShared(e *env) {
	pub, small, big := e.client(), e.limited(connect{}, 150), e.client()
	name := "$share/g/" + e.topic("t")
	small.want(name, 1)
	big.want(name, 1)
	for range 6 {
		pub.publish(message{topic: e.topic("t"), payload: strings.Repeat("l", 200), qos: 1})
	}
	small.quiet()
	for range 6 {
		pub.publish(message{topic: e.topic("t"), payload: "small", qos: 1})
	}
	big.unsubscribe(name)
	pub.publish(message{topic: e.topic("t"), payload: "last", qos: 1})
	for {
		p := small.message()
		small.finish(p)
		if p.payload == "last" {
			return
		}
	}
}

func maximumPacketSizeRetained(e *env) {
	c := e.client()
	c.retained(e.topic("large"), strings.Repeat("l", 200))
	c.retained(e.topic("small"), "small")
	sub := e.limited(connect{}, 150)
	sub.want(e.topic("+"), 1)
	sub.gets("small")
	c.retained(e.topic("large"), "")
	c.retained(e.topic("small"), "")
}

// maximumPacketSizeAcks: no acknowledgement is larger than the client takes, not even one with an error: what does not fit of reason string
// and user properties stays away.
func maximumPacketSizeAcks(e *env) {
	for _, limit := range []uint32{32, 40, 64} {
		c := e.limited(connect{}, limit)
		c.send(message{topic: e.topic("t"), qos: 1, id: 1}.bytes(e.v))
		c.ackFor(tPUBACK, 1)
		c.send(message{topic: e.topic("t"), qos: 2, id: 1}.bytes(e.v))
		c.ackFor(tPUBREC, 1)
		c.send(ack(tPUBREL, 1))
		c.ackFor(tPUBCOMP, 1)
		c.send(ack(tPUBREL, 99))
		c.ackFor(tPUBCOMP, 99)
		c.send(ack(tPUBREC, 98))
		c.ackFor(tPUBREL, 98)
		c.subscribe(nil, filter{"a#", 0}, filter{"b/#/c", 1})
		c.subscribe(nil, filter{e.topic("ok"), 1})
		c.unsubscribe(e.topic("unknown"), e.topic("ok"))
	}
}

func maximumPacketSizeDisconnect(e *env) {
	for _, limit := range []uint32{32, 40, 64} {
		c := e.limited(connect{}, limit)
		c.send(message{topic: e.topic("#")}.bytes(e.v))
		c.closed(0x90)
		c = e.limited(connect{}, limit)
		c.send(raw(0xF0, 0))
		c.closed(0x81, 0x82)
	}
}

func maximumPacketSizeZero(e *env) {
	e.begin(connect{props: [][]byte{pU32(pMaximumPacket, 0)}}).refused(0x82)
}

// maximumPacketSizeOfServer: a packet larger than the server announced is refused by its length alone, before its body is there.
func maximumPacketSizeOfServer(e *env) {
	c := e.client()
	limit := int(c.hello.number(pMaximumPacket, 0))
	if limit == 0 || limit > 268435455 {
		e.Logf("the server takes every size that the protocol can express")
		return
	}
	c.send(raw(tPUBLISH<<4), varint(limit), str(e.topic("t")), raw(0))
	c.closed(0x95)
}
