//go:build conformance

package conformance

import (
	"fmt"
	"strings"
	"time"
)

func propertyCases() []testCase {
	return []testCase{
		{"forward-properties", five, forwardProperties},
		{"forward-many-user-properties", five, forwardManyUserProperties},
		{"forward-to-old", all, forwardToOld},
		{"forward-payload-format", five, forwardPayloadFormat},
		{"expiry-remaining", five, expiryRemaining},
		{"expiry-passed", five, expiryPassed},
		{"expiry-not-in-flight", five, expiryNotInFlight},
		{"response-topic-not-utf8", five, responseTopicNotUTF8},
		{"response-topic-wildcard", five, responseTopicWildcard},
		{"content-type-not-utf8", five, contentTypeNotUTF8},
		{"user-property-not-utf8", five, userPropertyNotUTF8},
		{"property-twice", five, propertyTwice},
		{"property-length-missing", five, propertyLengthMissing},
		{"varint-not-minimal", all, varintNotMinimal},
	}
}

// forwardedProps are the properties that a server hands on.
func forwardedProps() [][]byte {
	return [][]byte{pByte(pPayloadFormat, 1), pU32(pMessageExpiry, 100), pStr(pContentType, "type"), pStr(pResponseTopic, "re/ply"),
		pStr(pCorrelation, "\x00\x01"), pUserPair("b", "1"), pUserPair("a", "2"), pUserPair("b", "1"), pUserPair("", "")}
}

// checkForwarded wants forwardedProps unaltered.
func checkForwarded(e *env, p *packet) {
	e.Helper()
	str := func(id byte) string { q, _ := p.prop(id); return q.str }
	left := p.number(pMessageExpiry, 0)
	if p.number(pPayloadFormat, 0) != 1 || left < 90 || left > 100 || str(pContentType) != "type" || str(pResponseTopic) != "re/ply" ||
		str(pCorrelation) != "\x00\x01" {
		e.Errorf("got %s, want the properties as they were sent", p)
	}
	var user []string
	for _, q := range p.all(pUser) {
		user = append(user, q.str+"="+q.val)
	}
	if got := strings.Join(user, " "); got != "b=1 a=2 b=1 =" {
		e.Errorf("got the user properties %q, want them in their order", got)
	}
}

func forwardProperties(e *env) {
	pub, sub := e.pair(e.topic("t"), 2)
	with := e.client()
	with.want(e.topic("+"), 2, pVar(pSubscriptionID, 7))
	for qos := byte(0); qos <= 2; qos++ {
		pub.publish(message{topic: e.topic("t"), payload: "will", qos: qos, props: forwardedProps()})
		checkForwarded(e, sub.receive("will"))
		checkForwarded(e, with.receive("will"))
	}
	// Through a queue.
	late := e.connect(lasting(e.unique()))
	late.want(e.topic("t"), 1)
	late.disconnect()
	pub.publish(message{topic: e.topic("t"), payload: "queued", qos: 1, props: forwardedProps()})
	checkForwarded(e, e.connect(lasting(late.id)).receive("queued"))
}

func forwardManyUserProperties(e *env) {
	pub, sub := e.pair(e.topic("t"), 1)
	var props [][]byte
	for i := range 300 {
		props = append(props, pUserPair(fmt.Sprint("key ", i%5), fmt.Sprint("value ", i)))
	}
	pub.publish(message{topic: e.topic("t"), payload: "m", qos: 1, props: props})
	got := sub.receive("m").all(pUser)
	for i, q := range got {
		if q.str != fmt.Sprint("key ", i%5) || q.val != fmt.Sprint("value ", i) {
			e.Fatalf("user property %d is %q=%q", i, q.str, q.val)
		}
	}
	if len(got) != 300 {
		e.Errorf("got %d user properties, want 300", len(got))
	}
}

// forwardToOld: each version gets the messages of every other.
func forwardToOld(e *env) {
	for _, v := range all {
		pub := e.dialVersion(v)
		pub.hail(connect{})
		pub.welcome()
		sub := e.client()
		sub.want(e.topic("t"), 2)
		for qos := byte(0); qos <= 2; qos++ {
			m := message{topic: e.topic("t"), payload: "m", qos: qos}
			if v == v5 {
				m.props = forwardedProps()
			}
			pub.publish(m)
			if p := sub.receive("m"); v < v5 && len(p.props) > 0 {
				e.Errorf("got %s, with properties that nobody set", p)
			}
		}
		sub.disconnect()
	}
}

func forwardPayloadFormat(e *env) {
	pub, sub := e.pair(e.topic("t"), 1)
	for _, format := range []byte{0, 1} {
		pub.publish(message{topic: e.topic("t"), payload: "text", qos: 1, props: [][]byte{pByte(pPayloadFormat, format)}})
		if p := sub.receive("text"); p.number(pPayloadFormat, 0) != uint32(format) {
			e.Errorf("payload format %d: got %s", format, p)
		}
	}
	// A payload that is not what it says is forwarded unchanged, or refused with 0x99.
	c := e.client()
	m := message{topic: e.topic("t"), payload: "\xff\xfe", qos: 1, id: 1, props: [][]byte{pByte(pPayloadFormat, 1)}}
	c.send(m.bytes(e.v))
	if p := c.next(); p.typ == tPUBACK && p.code == 0 {
		if q := sub.receive("\xff\xfe"); q.number(pPayloadFormat, 0) != 1 {
			e.Errorf("got %s", q)
		}
	} else if p.code != 0x99 {
		e.Errorf("got %s", p)
	}
}

func expiryRemaining(e *env) {
	pub, sub := e.client(), e.connect(lasting(e.unique()))
	sub.want(e.topic("t"), 2)
	pub.publish(message{topic: e.topic("t"), payload: "at once", qos: 1, props: [][]byte{pU32(pMessageExpiry, 100)}})
	if p := sub.receive("at once"); p.number(pMessageExpiry, 0) < 90 || p.number(pMessageExpiry, 0) > 100 {
		e.Errorf("got %s, want an expiry of 100", p)
	}
	sub.disconnect()
	pub.publish(message{topic: e.topic("t"), payload: "waited", qos: 1, props: [][]byte{pU32(pMessageExpiry, 100)}})
	pub.publish(message{topic: e.topic("t"), payload: "ever", qos: 1})
	time.Sleep(2200 * time.Millisecond) // the time that the message waits
	sub = e.connect(lasting(sub.id))
	if p := sub.receive("waited"); p.number(pMessageExpiry, 0) < 90 || p.number(pMessageExpiry, 0) > 98 {
		e.Errorf("got %s, want an expiry of 100 s less the two seconds that it waited", p)
	}
	if p := sub.receive("ever"); p.number(pMessageExpiry, 0) != 0 {
		e.Errorf("got %s, with an expiry that nobody set", p)
	}
}

func expiryPassed(e *env) {
	pub, sub := e.client(), e.connect(lasting(e.unique()))
	sub.want(e.topic("t"), 2)
	sub.disconnect()
	for qos := byte(1); qos <= 2; qos++ {
		pub.publish(message{topic: e.topic("t"), payload: "expired", qos: qos, props: [][]byte{pU32(pMessageExpiry, 1)}})
	}
	pub.publish(message{topic: e.topic("t"), payload: "stays", qos: 1, props: [][]byte{pU32(pMessageExpiry, 100)}})
	time.Sleep(2200 * time.Millisecond) // longer than the expiry
	sub = e.connect(lasting(sub.id))
	sub.receive("stays")
	sub.nothing(pub, 1)
}

// expiryNotInFlight: once it was sent, a message is sent again after its expiry all the same, and its flow goes on to the end; so does the
// flow from a publisher.
func expiryNotInFlight(e *env) {
	pub, sub := e.client(), e.connect(lasting(e.unique()))
	sub.want(e.topic("t"), 2)
	expiry := [][]byte{pU32(pMessageExpiry, 1)}
	pub.publish(message{topic: e.topic("t"), payload: "m", qos: 2, props: expiry})
	first := sub.message()
	sub.drop()
	pub.send(message{topic: e.topic("other"), payload: "m", qos: 2, id: 5, props: expiry}.bytes(e.v))
	pub.ackFor(tPUBREC, 5)
	time.Sleep(2200 * time.Millisecond) // longer than the expiry
	sub = e.connect(lasting(sub.id))
	p := sub.message()
	if p.id != first.id || !p.dup() || p.payload != "m" {
		e.Errorf("got %s, want %s again", p, first)
	}
	sub.finish(p)
	pub.send(ack(tPUBREL, 5))
	if p := pub.ackFor(tPUBCOMP, 5); p.code != 0 {
		e.Errorf("got %s", p)
	}
}

func (e *env) refusesProps(codes []byte, props ...[]byte) {
	e.Helper()
	e.refuses(message{topic: e.topic("t"), payload: "x", props: props}.bytes(e.v), codes...)
}

func responseTopicNotUTF8(e *env) {
	for _, s := range notUTF8 {
		e.refusesProps([]byte{0x81}, pStr(pResponseTopic, s))
	}
}

func responseTopicWildcard(e *env) {
	for _, s := range []string{"#", "+", "a/+/b", "a/#", "a#"} {
		e.refusesProps([]byte{0x81, 0x82, 0x90}, pStr(pResponseTopic, s))
	}
}

func contentTypeNotUTF8(e *env) {
	for _, s := range notUTF8 {
		e.refusesProps([]byte{0x81}, pStr(pContentType, s))
	}
}

func userPropertyNotUTF8(e *env) {
	for _, s := range notUTF8 {
		e.refusesProps([]byte{0x81}, pUserPair(s, "value"))
		e.refusesProps([]byte{0x81}, pUserPair("key", s))
		e.begin(connect{props: [][]byte{pUserPair(s, s)}}).refused(0x81)
	}
}

func propertyTwice(e *env) {
	for _, p := range forwardedProps()[:5] {
		e.refusesProps([]byte{0x82}, p, p)
	}
	for _, p := range [][]byte{pU32(pSessionExpiry, 1), pU16(pReceiveMax, 1), pU32(pMaximumPacket, 100), pU16(pAliasMax, 1),
		pByte(pResponseInfoReq, 1), pByte(pProblemInfo, 1), pStr(pAuthMethod, "m")} {
		e.begin(connect{props: [][]byte{p, p}}).refused(0x82)
	}
}

// propertyLengthMissing: without properties there is a length of zero; the server writes it too, as the decoder sees.
func propertyLengthMissing(e *env) {
	e.malformedConnect(frame(tCONNECT<<4, protocol(e.v), raw(2), u16(0)), 0x81)
	e.refuses(frame(tPUBLISH<<4, str(e.topic("t"))), 0x81)
	e.refuses(frame(tSUBSCRIBE<<4|2, u16(1)), 0x81, 0x82)
	pub, sub := e.pair(e.topic("t"), 1)
	pub.publish(message{topic: e.topic("t"), payload: "m", qos: 1})
	if p := sub.receive("m"); len(p.props) != 0 {
		e.Errorf("got %s, with properties that nobody set", p)
	}
}

func varintNotMinimal(e *env) {
	e.refuses(raw(tPINGREQ<<4, 0x80, 0), 0x81)
	e.refuses(raw(tPINGREQ<<4, 0x80, 0x80, 0x80, 0), 0x81)
	e.refuses(raw(tPINGREQ<<4, 0x80, 0x80, 0x80, 0x80, 0), 0x81)
	if e.v < v5 {
		return
	}
	e.refuses(frame(tPUBLISH<<4, str(e.topic("t")), raw(0x80, 0)), 0x81)
	e.refuses(frame(tPUBLISH<<4, str(e.topic("t")), raw(0x80, 0x80, 0x80, 0x80, 0)), 0x81)
	e.refuses(subscribe(e.v, 1, [][]byte{{pSubscriptionID, 0x81, 0}}, filter{e.topic("t"), 0}), 0x81)
}
