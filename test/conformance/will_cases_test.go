//go:build conformance

package conformance

import "time"

func willCases() []testCase {
	return []testCase{
		{"will-after-close", all, willAfterClose},
		{"will-after-protocol-error", all, willAfterProtocolError},
		{"will-not-after-disconnect", all, willNotAfterDisconnect},
		{"will-after-disconnect-4", five, willAfterDisconnect4},
		{"will-after-disconnect-error", five, willAfterDisconnectError},
		{"will-only-once", all, willOnlyOnce},
		{"will-absent", all, willAbsent},
		{"will-qos", all, willQoS},
		{"will-not-retained", all, willNotRetained},
		{"will-retained", all, willRetained},
		{"will-payload", all, willPayload},
		{"will-delay", five, willDelay},
		{"will-delay-reconnect", five, willDelayReconnect},
		{"will-delay-session-ends", five, willDelaySessionEnds},
		{"will-delay-clean-start", five, willDelayCleanStart},
		{"will-at-takeover", all, willAtTakeover},
		{"will-at-takeover-delayed", five, willAtTakeoverDelayed},
		{"will-at-takeover-session-ends", five, willAtTakeoverSessionEnds},
		{"will-properties", five, willProperties},
		{"will-topic-invalid", all, willTopicInvalid},
		{"will-of-refused-connect", all, willOfRefusedConnect},
	}
}

// withWill gives a subscriber to the will's topic, and a client with a will for it.
func (e *env) withWill(k connect) (sub, c *client) {
	e.Helper()
	sub = e.client()
	sub.want(e.topic("will"), 2)
	if k.will == nil {
		k.will = &will{payload: "will"}
	}
	k.will.topic = e.topic("will")
	return sub, e.connect(k)
}

func willAfterClose(e *env) {
	sub, c := e.withWill(connect{})
	sub.quiet()
	c.drop()
	sub.receive("will")
}

func willAfterProtocolError(e *env) {
	sub, c := e.withWill(connect{})
	c.send(connect{id: c.id}.bytes(e.v))
	c.closed(0x82)
	sub.receive("will")
}

func willNotAfterDisconnect(e *env) {
	sub, c := e.withWill(connect{})
	c.disconnect()
	sub.nothing(e.client(), 0)
	if e.v < v5 {
		return
	}
	sub, c = e.withWill(lasting(""))
	c.leave(disconnectCode(0))
	sub.nothing(e.client(), 0)
}

func willAfterDisconnect4(e *env) {
	sub, c := e.withWill(connect{})
	c.leave(disconnectCode(4))
	sub.receive("will")
}

// willAfterDisconnectError: any code but 0x00 leaves the will in force.
func willAfterDisconnectError(e *env) {
	for _, code := range []byte{0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99} {
		sub, c := e.withWill(connect{})
		c.leave(disconnectCode(code, pStr(pReasonString, "because")))
		sub.receive("will")
		sub.disconnect()
	}
}

// willOnlyOnce: a will that was published is gone; so is one of an earlier connection.
func willOnlyOnce(e *env) {
	k := lasting(e.unique())
	sub, c := e.withWill(k)
	c.drop()
	sub.receive("will")
	c = e.connect(k)
	c.drop()
	sub.nothing(e.client(), 0)
	_, c = e.withWill(k)
	c.disconnect()
	e.connect(k).drop()
	sub.nothing(e.client(), 0)
}

func willAbsent(e *env) {
	sub := e.client()
	sub.want(e.topic("#"), 0)
	c := e.client()
	c.drop()
	sub.nothing(e.client(), 0)
}

func willQoS(e *env) {
	for qos := byte(0); qos <= 2; qos++ {
		sub, c := e.withWill(connect{will: &will{payload: "will", qos: qos}})
		c.drop()
		if p := sub.receive("will"); p.qos() != qos {
			e.Errorf("got %s, want quality of service %d", p, qos)
		}
		sub.disconnect()
	}
}

func willNotRetained(e *env) {
	sub, c := e.withWill(connect{})
	c.drop()
	if p := sub.receive("will"); p.retain() {
		e.Errorf("got %s, retained", p)
	}
	late := e.client()
	late.want(e.topic("will"), 0)
	late.quiet()
}

func willRetained(e *env) {
	sub, c := e.withWill(connect{will: &will{payload: "will", qos: 1, retain: true}})
	c.drop()
	if p := sub.receive("will"); p.retain() {
		e.Errorf("got %s, with RETAIN for a subscription that was there", p)
	}
	late := e.client()
	late.want(e.topic("will"), 1)
	if p := late.receive("will"); !p.retain() {
		e.Errorf("got %s, without RETAIN for a new subscription", p)
	}
	late.publish(message{topic: e.topic("will"), retain: true})
}

// willPayload: a will may be empty, or any bytes.
func willPayload(e *env) {
	for _, payload := range []string{"", "\x00\xff\xfe", "\xef\xbb\xbftext"} {
		sub, c := e.withWill(connect{will: &will{payload: payload}})
		c.drop()
		sub.receive(payload)
		sub.disconnect()
	}
}

func delayed(seconds uint32) *will {
	return &will{payload: "will", props: [][]byte{pU32(pWillDelay, seconds)}}
}

func willDelay(e *env) {
	k := lasting("")
	k.will = delayed(3)
	sub, c := e.withWill(k)
	at := time.Now()
	c.drop()
	sub.nothing(e.client(), 0)
	sub.receive("will")
	if d := time.Since(at); d < 2500*time.Millisecond {
		e.Errorf("the will came after %v, want 3 s", d)
	}
}

func willDelayReconnect(e *env) {
	k := lasting(e.unique())
	k.will = delayed(2)
	sub, c := e.withWill(k)
	c.drop()
	e.connect(lasting(k.id))
	time.Sleep(3500 * time.Millisecond) // longer than the delay
	sub.nothing(e.client(), 0)
}

// willDelaySessionEnds: the end of the session comes before the end of the delay.
func willDelaySessionEnds(e *env) {
	at := time.Now()
	k := connect{resume: true, expiry: 1, will: delayed(60)}
	sub, c := e.withWill(k)
	c.drop()
	sub.receive("will")
	if d := time.Since(at); d < 500*time.Millisecond {
		e.Errorf("the will came after %v, want 1 s", d)
	}
	sub, c = e.withWill(connect{will: delayed(60)}) // its session ends with the connection
	c.drop()
	sub.receive("will")
}

// willDelayCleanStart: a clean start ends the old session, and so the delay.
func willDelayCleanStart(e *env) {
	k := lasting(e.unique())
	k.will = delayed(60)
	sub, c := e.withWill(k)
	c.drop()
	e.connect(connect{id: c.id})
	sub.receive("will")
}

// willAtTakeover: a will without delay is published when another connection takes the session over.
func willAtTakeover(e *env) {
	for _, k := range []connect{lasting(e.unique()), {id: e.unique()}} {
		sub, c := e.withWill(k)
		e.connect(connect{id: k.id, resume: k.resume, expiry: k.expiry})
		c.closed(0x8E)
		sub.receive("will")
		sub.disconnect()
	}
}

// willAtTakeoverDelayed: the session goes on within the delay, so there is no will.
func willAtTakeoverDelayed(e *env) {
	k := lasting(e.unique())
	k.will = delayed(1)
	sub, c := e.withWill(k)
	e.connect(lasting(k.id))
	c.closed(0x8E)
	time.Sleep(2500 * time.Millisecond) // longer than the delay
	sub.nothing(e.client(), 0)
}

// willAtTakeoverSessionEnds: a clean start, or an expiry of 0, ends the session at the takeover, whatever the delay.
func willAtTakeoverSessionEnds(e *env) {
	k := lasting(e.unique())
	k.will = delayed(60)
	sub, c := e.withWill(k)
	e.connect(connect{id: k.id})
	c.closed(0x8E)
	sub.receive("will")
}

func willProperties(e *env) {
	props := [][]byte{pByte(pPayloadFormat, 1), pU32(pMessageExpiry, 100), pStr(pContentType, "type"), pStr(pResponseTopic, "re/ply"),
		pStr(pCorrelation, "\x00\x01"), pUserPair("b", "1"), pUserPair("a", "2"), pUserPair("b", "1"), pUserPair("", "")}
	sub, c := e.withWill(connect{will: &will{payload: "will", qos: 1, props: props}})
	c.drop()
	checkForwarded(e, sub.receive("will"))
}

func willTopicInvalid(e *env) {
	for _, topic := range []string{"", "a/#", "+/b", "#", "a/+/c"} {
		e.malformedConnect(connect{id: e.unique(), will: &will{topic: topic}}.bytes(e.v), 0x81, 0x82, 0x90)
	}
}

func willOfRefusedConnect(e *env) {
	sub := e.client()
	sub.want(e.topic("will"), 0)
	e.malformedConnect(connect{id: e.unique(), orFlags: 1, will: &will{topic: e.topic("will"), payload: "x"}}.bytes(e.v), 0x81)
	sub.nothing(e.client(), 0)
}
