//go:build conformance

package conformance

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
)

// badCases is input that has broken other brokers. Each ends with others being served as before.
func badCases() []testCase {
	list := []testCase{
		{"bad-huge-length-first", all, badHugeLengthFirst},
		{"bad-huge-length-no-connect", all, badHugeLengthNoConnect},
		{"bad-dollar-topic", all, badDollarTopic},
		{"bad-wildcard-names", all, badWildcardNames},
		{"bad-connack-from-client", all, badConnackFromClient},
		{"bad-topic-length-0", all, badTopicLength0},
		{"bad-keep-alive-extremes", all, badKeepAliveExtremes},
		{"bad-qos2-same-id", all, badQoS2SameID},
		{"bad-qos2-never-released", all, badQoS2NeverReleased},
		{"bad-will-properties", five, badWillProperties},
		{"bad-varint-in-properties", five, badVarintInProperties},
		{"bad-topic-of-slashes", all, badTopicOfSlashes},
		{"bad-thousands-of-user-properties", five, badThousandsOfUserProperties},
		{"bad-races", all, badRaces},
		{"bad-cut-streams", all, badCutStreams},
		{"bad-half-read", all, badHalfRead},
		{"bad-wrong-acks", all, badWrongAcks},
		{"bad-ping-flood", all, badPingFlood},
	}
	for i := range list {
		run := list[i].run
		list[i].run = func(e *env) {
			run(e)
			e.healthy()
			e.small()
		}
	}
	return list
}

// small wants the program to be up and its memory bounded.
func (e *env) small() {
	e.Helper()
	if target.pid == 0 {
		return
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", target.pid))
	if err != nil {
		e.Fatalf("the program is gone: %v", err)
	}
	pages, _ := strconv.Atoi(strings.Fields(string(b))[1])
	if size := pages * os.Getpagesize(); size > 600<<20 {
		e.Errorf("the program has %d MiB of memory", size>>20)
	}
}

// badHugeLengthFirst: a CONNECT that announces 256 MB is not waited for, nor is memory taken for it.
func badHugeLengthFirst(e *env) {
	for range 20 {
		c := e.dial()
		c.write(raw(tCONNECT<<4, 0xFF, 0xFF, 0xFF, 0x7F), protocol(e.v), raw(2), u16(0))
		c.turnedAway()
	}
}

func badHugeLengthNoConnect(e *env) {
	for _, t := range []byte{tPUBLISH, tSUBSCRIBE, tPUBREL, tCONNACK, tAUTH, 0} {
		c := e.dial()
		c.write(raw(t<<4|2, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1, 'a'))
		c.drain(nil)
	}
}

// badDollarTopic: names that begin with $ but are not $SYS.
func badDollarTopic(e *env) {
	for _, name := range []string{"$", "$/", "$foo/bar", "$SYS", "$SYS/x", "$share", "$share/a", "$SHARE/a/b", "$queue/x", "$$"} {
		c := e.client()
		c.write(subscribe(e.v, 1, nil, filter{"$foo/#", 1}, filter{"$/+", 1}), message{topic: name, payload: "x", qos: 1, id: 2, retain: true}.bytes(e.v),
			message{topic: name, qos: 1, id: 3, retain: true}.bytes(e.v))
		c.ackFor(tSUBACK, 1)
		for { // the server may take it, refuse it, or end the connection
			p, err := c.read(patience)
			if err != nil || p.typ == tPUBACK && p.id == 3 || p.typ == tDISCONNECT {
				break
			}
		}
	}
}

// badWildcardNames: identifiers and user names that look like patterns open nothing.
func badWildcardNames(e *env) {
	password := "p"
	for _, s := range []string{"#", "+", "+/#", "$SYS", "%c", "%u", "../..", "a/b"} {
		c := e.begin(connect{id: s + e.unique(), user: &s, password: &password})
		if p := c.next(); p.typ != tCONNACK {
			e.Errorf("identifier and user %q: got %s", s, p)
		}
	}
}

func badConnackFromClient(e *env) {
	for _, b := range [][]byte{raw(0x20, 2, 0, 0), raw(0x20, 3, 0, 0, 0), raw(0x20, 0), raw(0x20, 2, 1, 0x84), raw(0x20, 8, 0, 0, 5, 0x27, 0, 0, 0, 1)} {
		e.refuses(b, 0x81, 0x82)
		c := e.dial()
		c.send(b)
		c.drain(nil)
	}
}

func badTopicLength0(e *env) {
	for qos := byte(0); qos <= 2; qos++ {
		for _, payload := range []string{"", "x"} {
			e.refuses(message{payload: payload, qos: qos, id: 1}.bytes(e.v), 0x81, 0x82, 0x90)
		}
	}
}

// badKeepAliveExtremes: no keep alive, and the longest.
func badKeepAliveExtremes(e *env) {
	for _, n := range []uint16{0, 1, 65535} {
		c := e.connect(connect{keepAlive: n})
		c.alive()
	}
}

// badQoS2SameID: thousands of times the same QoS 2 message, never released: it is one message.
func badQoS2SameID(e *env) {
	pub, sub := e.pair(e.topic("t"), 2)
	const n = 5000
	var burst []byte
	for range n {
		burst = append(burst, message{topic: e.topic("t"), payload: strings.Repeat("x", 100), qos: 2, id: 1, dup: true}.bytes(e.v)...)
	}
	go pub.write(burst)
	for range n {
		pub.ackFor(tPUBREC, 1)
	}
	pub.send(ack(tPUBREL, 1))
	pub.ackFor(tPUBCOMP, 1)
	sub.receive(strings.Repeat("x", 100))
	sub.nothing(pub, 2)
}

// badQoS2NeverReleased: every identifier that the server allows is opened and none closed.
func badQoS2NeverReleased(e *env) {
	c := e.client()
	limit := int(min(c.hello.number(pReceiveMax, 1000), 2000))
	if e.v < v5 {
		limit = 20 // what a server takes is not announced
	}
	var burst []byte
	for i := range limit {
		burst = append(burst, message{topic: e.topic("t"), payload: "x", qos: 2, id: uint16(i + 1)}.bytes(e.v)...)
	}
	go c.write(burst)
	for i := range limit {
		c.ackFor(tPUBREC, uint16(i+1))
	}
	c.nc.Close()
}

func badWillProperties(e *env) {
	w := func(props ...[]byte) []byte {
		return connect{id: e.unique(), will: &will{topic: "t", payload: "p", props: props}}.bytes(e.v)
	}
	for range 20 {
		e.malformedConnect(w(pU16(pReceiveMax, 1)), 0x81)
		e.malformedConnect(w(raw(0x7F, 1)), 0x81)
		e.malformedConnect(w(pU32(pWillDelay, 1), pU32(pWillDelay, 1)), 0x82)
		e.malformedConnect(w(pUserPair("k", "\xff")), 0x81)
		e.malformedConnect(w(pStr(pContentType, "x")[:3]), 0x81)
		e.malformedConnect(w(pByte(pPayloadFormat, 2)), 0x81, 0x82)
	}
}

func badVarintInProperties(e *env) {
	for _, v := range [][]byte{{0xFF, 0xFF, 0xFF, 0xFF, 0x7F}, {0x80, 0x80, 0x80, 0x80, 0x01}, {0xFF, 0xFF, 0xFF, 0xFF}} {
		e.refuses(frame(tPUBLISH<<4, str("t"), v), 0x81)
		e.refuses(frame(tSUBSCRIBE<<4|2, u16(1), v, str("t"), raw(0)), 0x81)
		b := cat(raw(pSubscriptionID), v)
		e.refuses(frame(tSUBSCRIBE<<4|2, u16(1), varint(len(b)), b, str("t"), raw(0)), 0x81)
		e.malformedConnect(frame(tCONNECT<<4, protocol(e.v), raw(2), u16(0), v, str(e.unique())), 0x81)
	}
}

// badTopicOfSlashes: the deepest topic and the deepest filters there can be.
func badTopicOfSlashes(e *env) {
	slashes := strings.Repeat("/", 65000-len(e.topic("")))
	name := e.topic(slashes)
	pub, sub := e.client(), e.client()
	sub.want(e.topic("#"), 1)
	for _, f := range []string{name, name + "#", strings.Repeat("+/", 32000) + "+", e.topic(strings.Repeat("/+", 32000))} {
		id := sub.free()
		sub.send(subscribe(e.v, id, nil, filter{f, 1}))
		p, err := sub.read(patience)
		if err != nil || p.typ != tSUBACK { // a server may have a limit, if it says so
			e.Logf("a filter of %d bytes: %v, %v", len(f), p, err)
			return
		}
	}
	if code := pub.publish(message{topic: name, payload: "deep", qos: 1, retain: true}); code == 0 {
		sub.receive("deep")
	}
	pub.publish(message{topic: name, qos: 1, retain: true})
}

func badThousandsOfUserProperties(e *env) {
	var list []byte
	for range 8000 {
		list = append(list, pUserPair("", "")...)
	}
	c := e.begin(connect{props: [][]byte{list}})
	if p := c.next(); p.typ != tCONNACK {
		e.Errorf("got %s", p)
	}
	c = e.client()
	c.send(message{topic: e.topic("t"), qos: 1, id: 1, props: [][]byte{list}}.bytes(e.v))
	if p := c.next(); p.typ != tPUBACK && p.typ != tDISCONNECT {
		e.Errorf("got %s", p)
	}
}

// badRaces: connections that come, subscribe, publish, unsubscribe and go at every moment.
func badRaces(e *env) {
	var wg sync.WaitGroup
	ids := []string{e.unique(), e.unique(), e.unique()}
	for i := range 12 {
		wg.Go(func() {
			for j := range 15 {
				nc, err := dial()
				if err != nil {
					e.Errorf("dial: %v", err)
					return
				}
				k := lasting(ids[(i+j)%len(ids)])
				k.resume = j%3 > 0
				name := e.topic(fmt.Sprint(j % 4))
				c := newClient(e, e.v, nc)
				parts := [][]byte{k.bytes(e.v), subscribe(e.v, 1, nil, filter{name, 2}), message{topic: name, qos: byte(j % 3), id: 9}.bytes(e.v),
					unsubscribe(e.v, 2, name), disconnect()}
				b := cat(parts[:1+(i+j)%5]...)
				c.write(b[:len(b)-j%3])
				if j%3 == 0 {
					c.read(patience)
				}
				nc.Close()
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		if !e.usable(id) {
			e.Errorf("the identifier %s cannot be used any more", id)
		}
	}
}

// usable tells whether an identifier serves in the end: connections that were cut off before may still be read, and take it over.
func (e *env) usable(id string) bool {
	e.Helper()
	for range 50 {
		c := e.begin(connect{id: id})
		if p, err := c.read(patience); err != nil || p.typ != tCONNACK {
			continue
		}
		c.write(pingreq())
		if p, err := c.read(patience); err == nil && p.typ == tPINGRESP {
			return true
		}
	}
	return false
}

// badCutStreams: a conversation that ends after each of its bytes.
func badCutStreams(e *env) {
	all := cat(connect{id: e.unique(), will: &will{topic: e.topic("will"), payload: "w"}}.bytes(e.v), subscribe(e.v, 1, nil, filter{e.topic("t"), 2}),
		message{topic: e.topic("t"), payload: "m", qos: 2, id: 2}.bytes(e.v), ack(tPUBREL, 2), pingreq())
	for n := range all {
		nc, err := dial()
		if err != nil {
			e.Fatalf("dial: %v", err)
		}
		newClient(e, e.v, nc).write(all[:n])
		nc.Close()
	}
}

// badHalfRead: a client that asks for much and reads nothing holds up nobody.
func badHalfRead(e *env) {
	pub, lazy := e.client(), e.client()
	lazy.send(subscribe(e.v, 1, nil, filter{e.topic("t"), 0}))
	good := e.client()
	good.want(e.topic("t"), 0)
	payload := strings.Repeat("x", 64000)
	for range 100 {
		pub.publish(message{topic: e.topic("t"), payload: payload})
		good.receive(payload)
	}
	lazy.nc.Close()
}

// badWrongAcks: acknowledgements of the wrong kind for what is in flight. The server may ignore them or end the connection.
func badWrongAcks(e *env) {
	for qos := byte(1); qos <= 2; qos++ {
		for _, t := range []byte{tPUBACK, tPUBREC, tPUBREL, tPUBCOMP} {
			pub, sub := e.pair(e.topic("t"), 2)
			pub.publish(message{topic: e.topic("t"), payload: "m", qos: qos})
			id := sub.message().id
			sub.write(ack(t, id), ack(t, id), ack(tPUBCOMP, id), ack(tPUBREC, id), pingreq())
			for {
				p, err := sub.read(patience)
				if err != nil || p.typ == tPINGRESP {
					break
				}
				if p.typ == tPUBLISH {
					e.Errorf("got %s again", p)
				}
			}
			pub.nc.Close()
			sub.nc.Close()
		}
	}
}

// badPingFlood: thousands of packets in one piece, whose answers are not read for a while.
func badPingFlood(e *env) {
	c := e.client()
	const n = 50000
	go c.write([]byte(strings.Repeat(string(pingreq()), n)))
	e.healthy()
	for i := range n {
		p, err := c.read(patience)
		if err != nil { // a server may end it, but not stop answering
			e.Logf("ended after %d answers: %v", i, err)
			return
		}
		if p.typ != tPINGRESP {
			e.Fatalf("got %s", p)
		}
	}
	c.alive()
}
