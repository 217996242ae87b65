//go:build conformance

package conformance

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// edgeCases are limits that are met while something else waits.
func edgeCases() []testCase {
	return []testCase{
		{"client-id-empty-3.1", []byte{v31}, clientIDEmpty31},
		{"expiry-behind-window", five, expiryBehindWindow},
		{"packet-size-behind-window", five, packetSizeBehindWindow},
		{"packet-size-to-the-byte", five, packetSizeToTheByte},
		{"sys-topics", all, sysTopics},
		{"answers-not-read", all, answersNotRead},
		{"shared-prefers-online", all, sharedPrefersOnline},
		{"shared-all-away", all, sharedAllAway},
		{"session-both-ways", all, sessionBothWays},
		{"disconnect-with-messages-before", all, disconnectWithMessagesBefore},
	}
}

// clientIDEmpty31: 3.1 has no empty identifiers, clean session or not.
func clientIDEmpty31(e *env) {
	e.begin(connect{noID: true}).refused(2)
	e.begin(connect{noID: true, resume: true}).refused(2)
}

// expiryBehindWindow: a message whose time passes while it waits for room in the window of a connected client does not come.
func expiryBehindWindow(e *env) {
	for _, k := range []connect{narrow(e.unique(), 1), {props: [][]byte{pU16(pReceiveMax, 1)}}} {
		pub, sub := e.client(), e.connect(k)
		sub.want(e.topic("t"), 2)
		send := func(payload string, qos byte, props ...[]byte) {
			pub.publish(message{topic: e.topic("t"), payload: payload, qos: qos, props: props})
		}
		send("first", 1)
		send("expires", 1, pU32(pMessageExpiry, 1))
		send("expires", 2, pU32(pMessageExpiry, 1))
		send("lasts", 2, pU32(pMessageExpiry, 100))
		send("ever", 1)
		first := sub.message()
		time.Sleep(2200 * time.Millisecond) // longer than the expiry
		sub.finish(first)
		if p := sub.receive("lasts"); p.number(pMessageExpiry, 0) > 98 || p.number(pMessageExpiry, 0) < 90 {
			e.Errorf("got %s, want an expiry of 100 s less two", p)
		}
		sub.receive("ever")
		sub.nothing(pub, 2)
	}
}

// packetSizeBehindWindow: what is too large is dropped when its turn comes, and takes no room.
func packetSizeBehindWindow(e *env) {
	for _, k := range []connect{narrow(e.unique(), 1), {props: [][]byte{pU16(pReceiveMax, 1)}}} {
		pub, sub := e.client(), e.limited(k, 150)
		sub.want(e.topic("t"), 2)
		for i := range 9 {
			payload := fmt.Sprint(i)
			if i%3 > 0 {
				payload = strings.Repeat("l", 200)
			}
			pub.publish(message{topic: e.topic("t"), payload: payload, qos: byte(1 + i%2)})
		}
		for i := 0; i < 9; i += 3 {
			sub.receive(fmt.Sprint(i))
			sub.alive()
		}
		sub.nothing(pub, 2)
	}
}

// packetSizeToTheByte: with subscription identifiers and aliases of the server, every message that fits comes, and none that does not.
func packetSizeToTheByte(e *env) {
	const limit = 120
	pub := e.client()
	sub := e.limited(connect{props: [][]byte{pU16(pAliasMax, 5)}}, limit)
	sub.want(e.topic("+"), 1, pVar(pSubscriptionID, 300))
	sub.want(e.topic("#"), 0, pVar(pSubscriptionID, 1))
	bare := message{topic: e.topic("x"), qos: 1, id: 1, props: [][]byte{pVar(pSubscriptionID, 300), pVar(pSubscriptionID, 1)}}
	fits := limit - len(bare.bytes(v5))
	for n := fits - 8; n < fits+20; n++ {
		pub.publish(message{topic: e.topic(string(rune('a' + n%26))), payload: strings.Repeat("x", n), qos: 1})
		pub.publish(message{topic: e.topic("m"), payload: fmt.Sprint("marker ", n), qos: 1})
		p := sub.message() // whose size is checked as it is read
		sub.finish(p)
		if len(p.payload) == n {
			p = sub.message()
			sub.finish(p)
		} else if n <= fits {
			e.Errorf("a payload of %d bytes did not come, of which %d fit", n, fits)
		}
		if p.payload != fmt.Sprint("marker ", n) {
			e.Fatalf("got %s, want the marker %d", p, n)
		}
	}
}

// sysTopics: the server's own topics come to those who ask for them by name.
func sysTopics(e *env) {
	c := e.client()
	c.want("$SYS/broker/#", 0)
	got := map[string]bool{}
	for !got["$SYS/broker/version"] || !got["$SYS/broker/uptime"] || !got["$SYS/broker/clients/connected"] {
		p := c.message()
		got[p.topic] = true
	}
	for _, topic := range []string{"$SYS/broker/version", "$SYS/broker/made/up"} { // nobody else publishes there
		pub := e.client()
		pub.write(message{topic: topic, payload: "forged " + e.prefix, qos: 1, id: 1, retain: true}.bytes(e.v))
		pub.read(patience)
		pub.nc.Close()
		d := e.client()
		d.want(topic, 0)
		d.send(pingreq())
		for p := d.next(); p.typ != tPINGRESP; p = d.next() {
			if strings.Contains(p.payload, "forged") {
				e.Errorf("got %s, which a client published", p)
			}
		}
	}
}

// answersNotRead: a million requests whose answers are not read: the server stops reading rather than keeping the answers, and gives every
// one in the end.
func answersNotRead(e *env) {
	p := e.own("--limits-max-outbound-bytes", "64KiB")
	c := p.at(e)
	c.nc.(*net.TCPConn).SetReadBuffer(64 << 10)
	c.hail(connect{})
	c.welcome()
	const n = 1 << 20
	done := make(chan error, 1)
	go func() {
		chunk := bytes.Repeat(pingreq(), 1<<15)
		for range n / (1 << 15) {
			c.nc.SetWriteDeadline(time.Now().Add(2 * patience))
			if _, err := c.nc.Write(chunk); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	other := p.in(e, connect{})
	other.want("t", 1)
	other.publish(message{topic: "t", payload: "m", qos: 1})
	other.receive("m")
	want := bytes.Repeat(raw(tPINGRESP<<4, 0), 1<<15)
	got := make([]byte, len(want))
	for i := range n / (1 << 15) {
		c.nc.SetReadDeadline(time.Now().Add(2 * patience))
		if _, err := io.ReadFull(c.r, got); err != nil || !bytes.Equal(got, want) {
			e.Fatalf("chunk %d: %v, or something else than PINGRESP", i, err)
		}
	}
	if err := <-done; err != nil {
		e.Error(err)
	}
}

// sharedPrefersOnline: while a member is there, messages do not wait for one that is away.
func sharedPrefersOnline(e *env) {
	pub, away, here := e.client(), e.connect(lasting(e.unique())), e.client()
	name := "$share/g/" + e.topic("t")
	away.want(name, 1)
	here.want(name, 1)
	away.disconnect()
	for i := range 10 {
		pub.publish(message{topic: e.topic("t"), payload: fmt.Sprint(i), qos: 1})
		here.receive(fmt.Sprint(i))
	}
	e.connect(lasting(away.id)).nothing(pub, 1)
}

// sharedAllAway: when all members are away the message waits for one of them, and comes once.
func sharedAllAway(e *env) {
	pub, a, b := e.client(), e.connect(lasting(e.unique())), e.connect(lasting(e.unique()))
	name := "$share/g/" + e.topic("t")
	a.want(name, 1)
	b.want(name, 1)
	a.disconnect()
	b.disconnect()
	for i := range 10 {
		pub.publish(message{topic: e.topic("t"), payload: fmt.Sprint(i), qos: 1})
	}
	seen := map[string]int{}
	for _, id := range []string{a.id, b.id} {
		for _, p := range e.connect(lasting(id)).collect(pub) {
			seen[p.payload]++
		}
	}
	for i := range 10 {
		if seen[fmt.Sprint(i)] != 1 {
			e.Errorf("message %d came %d times", i, seen[fmt.Sprint(i)])
		}
	}
}

// sessionBothWays: flows in both directions are cut off together and go on together; their identifiers have nothing to do with each other.
func sessionBothWays(e *env) {
	c, other := e.connect(lasting(e.unique())), e.client()
	c.want(e.topic("in"), 2)
	other.want(e.topic("out"), 2)
	other.publish(message{topic: e.topic("in"), payload: "in", qos: 2})
	in := c.message()
	c.send(message{topic: e.topic("out"), payload: "out", qos: 2, id: in.id}.bytes(e.v))
	c.ackFor(tPUBREC, in.id)
	c.send(ack(tPUBREC, in.id))
	c.ackFor(tPUBREL, in.id)
	c = c.again()
	c.ackFor(tPUBREL, in.id)
	c.send(message{topic: e.topic("out"), payload: "out", qos: 2, id: in.id, dup: true}.bytes(e.v))
	c.ackFor(tPUBREC, in.id)
	c.send(ack(tPUBREL, in.id))
	c.ackFor(tPUBCOMP, in.id)
	c.send(ack(tPUBCOMP, in.id))
	other.receive("out")
	other.nothing(e.client(), 2)
	c.quiet()
}

// disconnectWithMessagesBefore: what a client sent before its DISCONNECT, in the same segment, is processed, however it then goes.
func disconnectWithMessagesBefore(e *env) {
	sub := e.client()
	sub.want(e.topic("t"), 2)
	for i := range 3 {
		c := e.dial()
		c.id = e.unique()
		b := connect{id: c.id}.bytes(e.v)
		for j := range 20 {
			b = append(b, message{topic: e.topic("t"), payload: fmt.Sprint(i, j), qos: byte(j % 2), id: uint16(j + 1)}.bytes(e.v)...)
		}
		if i == 0 {
			b = append(b, disconnect()...)
		}
		c.send(b)
		if i == 2 {
			c.nc.Close()
		} else {
			c.nc.(interface{ CloseWrite() error }).CloseWrite()
		}
		for j := range 20 {
			if i == 2 && j == 0 {
				break // a reset may overtake the data
			}
			sub.receive(fmt.Sprint(i, j))
		}
	}
	e.healthy()
}
