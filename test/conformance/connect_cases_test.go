//go:build conformance

package conformance

import (
	"strings"
	"time"
)

func connectCases() []testCase {
	return []testCase{
		{"first-packet-connect", all, firstPacketConnect},
		{"second-connect", all, secondConnect},
		{"protocol-name", all, protocolName},
		{"protocol-level", all, protocolLevel},
		{"connect-reserved-flag", all, connectReservedFlag},
		{"connect-payload-order", all, connectPayloadOrder},
		{"connect-user-password-fields", all, connectUserPasswordFields},
		{"password-without-user", all, passwordWithoutUser},
		{"will-flags-without-will", since, willFlagsWithoutWill},
		{"will-fields-missing", all, willFieldsMissing},
		{"will-qos-3", all, willQoS3},
		{"client-id-missing", all, clientIDMissing},
		{"client-id-not-utf8", all, clientIDNotUTF8},
		{"client-id-characters", all, clientIDCharacters},
		{"client-id-empty", since, clientIDEmpty},
		{"client-id-empty-unclean", four, clientIDEmptyUnclean},
		{"client-id-odd", since, clientIDOdd},
		{"user-name-not-utf8", all, userNameNotUTF8},
		{"will-topic-not-utf8", all, willTopicNotUTF8},
		{"refused-nothing-processed", all, refusedNothingProcessed},
		{"connack-first", all, connackFirst},
		{"connack-once", all, connackOnce},
		{"connack-refusal", all, connackRefusal},
		{"connack-packet-size", five, connackPacketSize},
		{"pipelined", all, pipelined},
		{"split-everywhere", all, splitEverywhere},
		{"keep-alive-timeout", all, keepAliveTimeout},
		{"keep-alive-any-packet", all, keepAliveAnyPacket},
		{"keep-alive-off", all, keepAliveOff},
		{"ping", all, ping},
	}
}

func firstPacketConnect(e *env) {
	for name, b := range map[string][]byte{
		"PUBLISH":     message{topic: e.topic("x"), payload: "x"}.bytes(e.v),
		"SUBSCRIBE":   subscribe(e.v, 1, nil, filter{e.topic("x"), 0}),
		"PINGREQ":     pingreq(),
		"DISCONNECT":  disconnect(),
		"PUBACK":      ack(tPUBACK, 1),
		"UNSUBSCRIBE": unsubscribe(e.v, 1, e.topic("x")),
	} {
		c := e.dial()
		c.id = "first packet " + name
		c.send(b)
		c.drain(nil)
	}
	e.healthy()
}

func secondConnect(e *env) {
	c := e.client()
	c.send(connect{id: c.id}.bytes(e.v))
	c.closed(0x82)
}

func protocolName(e *env) {
	for _, name := range []string{"", "MQTT ", "mqtt", "MQTS", "MQIsd", "HTTP", "MQTTMQTT"} {
		c := e.dial()
		c.id = "protocol name " + name
		c.send(frame(tCONNECT<<4, str(name), raw(e.v, 2), u16(0), connect{}.properties(e.v), str(e.unique())))
		c.turnedAway()
	}
}

// turnedAway waits for the end; a CONNACK of any form may come before it, but not a success.
func (c *client) turnedAway() {
	c.e.Helper()
	b := c.rest()
	if len(b) > 0 && (b[0] != tCONNACK<<4 || len(b) < 4 || b[3] == 0) {
		c.e.Fatalf("%s: got % x, want a refusal or nothing", c.id, b)
	}
}

// rest is all that the server still sends until it closes.
func (c *client) rest() (b []byte) {
	c.e.Helper()
	c.nc.SetReadDeadline(time.Now().Add(patience))
	for {
		d, err := c.r.ReadByte()
		if err == nil {
			b = append(b, d)
			continue
		}
		if gone(err).Error() != "EOF" {
			c.e.Fatalf("%s: got % x, waiting for the end: %v", c.id, b, err)
		}
		return b
	}
}

func protocolLevel(e *env) {
	levels := map[byte][]byte{v31: {4, 5, 0}, v311: {0, 1, 2, 3}, v5: {6, 7, 127, 255}}[e.v]
	for _, level := range levels {
		p := protocol(e.v)
		p[len(p)-1] = level
		c := e.dial()
		c.send(frame(tCONNECT<<4, p, raw(2), u16(0), connect{}.properties(e.v), str(e.unique())))
		b := c.rest()
		old := len(b) == 4 && b[0] == 0x20 && b[1] == 2 && b[2] == 0 && b[3] == 1
		fresh := len(b) >= 5 && b[0] == 0x20 && b[2] == 0 && b[3] == 0x84
		if e.v < v5 && !old && !fresh || e.v == v5 && !fresh {
			e.Errorf("level %d: got % x, want a CONNACK that names the unsupported version", level, b)
		}
	}
}

// malformedConnect sends a CONNECT that is refused: in 5.0 with one of the codes, in 3.x without an answer [MQTT3-3.1.4-1].
func (e *env) malformedConnect(b []byte, codes ...byte) {
	e.Helper()
	c := e.dial()
	c.id = "malformed CONNECT"
	c.send(b)
	if e.v == v5 {
		c.refused(codes...)
	} else {
		c.drain(nil)
	}
}

func connectReservedFlag(e *env) {
	e.malformedConnect(connect{id: e.unique(), orFlags: 1}.bytes(e.v), 0x81)
}

// connectPayloadOrder: every field is there, and the server finds each in its place: the will arrives, and the identifier is the session's.
func connectPayloadOrder(e *env) {
	pub, sub := e.pair(e.topic("will"), 1)
	defer pub.disconnect()
	user, password := "user", "pass\x00word"
	k := lasting(e.unique())
	k.user, k.password = &user, &password
	k.will = &will{topic: e.topic("will"), payload: "w", qos: 1}
	if e.v == v5 {
		k.will.props = [][]byte{pStr(pContentType, "text")}
		k.expiry = 300
	}
	c := e.connect(k)
	c.drop()
	sub.receive("w")
	if c := e.connect(connect{id: k.id, resume: true}); e.v > v31 && !c.hello.present {
		e.Errorf("the session is not known by the first field of the payload")
	}
}

func connectUserPasswordFields(e *env) {
	id := str(e.unique())
	build := func(flags byte, fields ...[]byte) []byte {
		return frame(tCONNECT<<4, protocol(e.v), raw(2|flags), u16(0), connect{}.properties(e.v), id, cat(fields...))
	}
	e.malformedConnect(build(0, str("user")), 0x81)
	e.malformedConnect(build(0x80, str("user"), str("password")), 0x81)
	if e.v == v31 {
		return // there the remaining length has precedence over the flags
	}
	e.malformedConnect(build(0x80), 0x81)
	e.malformedConnect(build(0xC0, str("user")), 0x81)
}

func passwordWithoutUser(e *env) {
	password := "secret"
	k := connect{id: e.unique(), password: &password}
	if e.v < v5 {
		e.malformedConnect(k.bytes(e.v))
	} else {
		e.connect(k)
	}
}

func willFlagsWithoutWill(e *env) {
	for _, flags := range []byte{0x08, 0x10, 0x18, 0x20, 0x28} {
		e.malformedConnect(connect{id: e.unique(), orFlags: flags}.bytes(e.v), 0x81, 0x82)
	}
	// The will's fields without the flag are bytes too many.
	k := connect{id: e.unique(), will: &will{topic: e.topic("x"), payload: "x"}}
	b := k.bytes(e.v)
	at := 2 + len(protocol(e.v))
	b[at] &^= 4
	e.malformedConnect(b, 0x81)
}

func willFieldsMissing(e *env) {
	id := str(e.unique())
	for _, fields := range [][]byte{nil, str("topic"), cat(str("topic"), raw(0, 9), []byte("short"))} {
		payload := id
		if e.v == v5 && fields != nil {
			payload = cat(id, raw(0))
		}
		e.malformedConnect(connect{orFlags: 4, payload: cat(payload, fields)}.bytes(e.v), 0x81)
	}
}

func willQoS3(e *env) {
	k := connect{id: e.unique(), will: &will{topic: e.topic("x"), payload: "x", qos: 3}}
	e.malformedConnect(k.bytes(e.v), 0x81)
}

func clientIDMissing(e *env) {
	e.malformedConnect(connect{payload: []byte{}}.bytes(e.v), 0x81)
	e.malformedConnect(connect{payload: []byte{0}}.bytes(e.v), 0x81)
	e.malformedConnect(connect{payload: []byte{0, 5, 'a', 'b'}}.bytes(e.v), 0x81)
}

// notUTF8 are the faults that a UTF-8 string may have.
var notUTF8 = map[string]string{
	"surrogate":          "a\xed\xa0\x80b",
	"last-surrogate":     "a\xed\xbf\xbfb",
	"surrogate-pair":     "\xed\xa0\xbd\xed\xb8\x80",
	"overlong-2":         "a\xc0\x80b",
	"overlong-slash":     "\xc1\xbf",
	"overlong-3":         "\xe0\x80\xaf",
	"overlong-4":         "\xf0\x80\x80\xaf",
	"above-10ffff":       "\xf4\x90\x80\x80",
	"five-bytes":         "\xf8\x88\x80\x80\x80",
	"byte-ff":            "a\xff",
	"lone-continuation":  "a\x80b",
	"cut-sequence":       "a\xe2\x82",
	"cut-in-the-middle":  "\xe2\x82a",
	"null":               "a\x00b",
	"null-alone":         "\x00",
	"latin-1":            "caf\xe9",
	"overlong-null-4":    "\xf0\x80\x80\x80",
	"utf-16-byte-order":  "\xfe\xff\x00a",
	"start-without-rest": "\xc3",
}

func clientIDNotUTF8(e *env) {
	for _, s := range notUTF8 {
		e.malformedConnect(connect{id: s}.bytes(e.v), 0x81, 0x85)
	}
}

func clientIDCharacters(e *env) {
	const chars = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	for i := 0; i < len(chars); i += 20 {
		id := e.unique() + chars[i:min(i+20, len(chars))]
		e.connect(connect{id: id[max(0, len(id)-23):]}).disconnect()
	}
	// One byte is the shortest; only one version at a time may use it, or the cases would take it over from each other.
	e.connect(connect{id: string(chars[10+e.v])}).disconnect()
}

func clientIDEmpty(e *env) {
	a, b := e.connect(connect{noID: true}), e.connect(connect{noID: true})
	a.alive()
	b.alive()
	if e.v < v5 {
		return
	}
	x, _ := a.hello.prop(pAssignedID)
	y, _ := b.hello.prop(pAssignedID)
	if x.str == "" || y.str == "" || x.str == y.str {
		e.Fatalf("the assigned identifiers are %q and %q", x.str, y.str)
	}
	c := e.connect(connect{noID: true, resume: true, expiry: 300})
	id, _ := c.hello.prop(pAssignedID)
	c.want(e.topic("kept"), 1)
	c.disconnect()
	a.publish(message{topic: e.topic("kept"), payload: "kept", qos: 1})
	again := e.connect(lasting(id.str))
	if !again.hello.present {
		e.Errorf("the session of the assigned identifier is not there")
	}
	if _, ok := again.hello.prop(pAssignedID); ok {
		e.Errorf("an identifier was assigned to a client that brought one")
	}
	again.receive("kept")
}

func clientIDEmptyUnclean(e *env) {
	c := e.begin(connect{noID: true, resume: true})
	c.refused(2)
}

// clientIDOdd: identifiers that a server may refuse, but if it does then properly.
func clientIDOdd(e *env) {
	for _, id := range []string{e.unique() + " with space", e.unique() + "/slash", e.unique() + "\u00e9\u4e16", e.unique() + strings.Repeat("x", 300),
		e.unique() + strings.Repeat("y", 65000), "\ufeff" + e.unique()} {
		c := e.begin(connect{id: id})
		c.id = id[:8]
		p := c.next()
		switch {
		case p.typ == tCONNACK && p.code == 0:
			c.disconnect()
		case p.typ == tCONNACK && (p.code == 0x85 || e.v < v5 && p.code == 2):
			c.drain(nil)
		default:
			e.Errorf("identifier %.40q: got %s", id, p)
		}
	}
}

func userNameNotUTF8(e *env) {
	for _, s := range notUTF8 {
		e.malformedConnect(connect{id: e.unique(), user: &s}.bytes(e.v), 0x81)
	}
}

func willTopicNotUTF8(e *env) {
	for _, s := range notUTF8 {
		e.malformedConnect(connect{id: e.unique(), will: &will{topic: s}}.bytes(e.v), 0x81)
	}
}

// refusedNothingProcessed: what stands behind a refused CONNECT has no effect.
func refusedNothingProcessed(e *env) {
	sub := e.client()
	sub.want(e.topic("behind"), 1)
	c := e.dial()
	c.id = "refused"
	k := connect{id: e.unique(), orFlags: 1}
	c.send(k.bytes(e.v), message{topic: e.topic("behind"), payload: "x", qos: 1, id: 1, retain: true}.bytes(e.v))
	if e.v == v5 {
		c.refused(0x81)
	} else {
		c.drain(nil)
	}
	sub.quiet()
	late := e.client()
	late.want(e.topic("behind"), 1)
	late.quiet()
}

// connackFirst: not even a waiting message comes before CONNACK.
func connackFirst(e *env) {
	pub, sub := e.client(), e.connect(lasting(e.unique()))
	sub.want(e.topic("t"), 1)
	sub.disconnect()
	for range 5 {
		pub.publish(message{topic: e.topic("t"), payload: "m", qos: 1})
	}
	sub = e.begin(lasting(sub.id))
	sub.welcome()
	for range 5 {
		sub.receive("m")
	}
}

func connackOnce(e *env) {
	c := e.client()
	c.want(e.topic("t"), 0)
	c.send(pingreq(), connect{id: c.id}.bytes(e.v))
	c.expect(tPINGRESP)
	c.closed(0x82) // and not a second CONNACK
}

// connackRefusal: session present is off in a refusal even though there is a session, the connection ends, and the session is unharmed.
func connackRefusal(e *env) {
	c := e.connect(lasting(e.unique()))
	c.disconnect()
	k := lasting(c.id)
	if e.v == v5 {
		k.props = [][]byte{pU16(pReceiveMax, 0)}
		p := e.begin(k).refused(0x82)
		if p.present {
			e.Errorf("got %s with session present", p)
		}
	} else {
		b := k.bytes(e.v)
		b[1+1+len(protocol(e.v))-1] = 9 // the level
		r := e.dial()
		r.send(b)
		if got := r.rest(); len(got) < 4 || got[0] != 0x20 || got[2] != 0 || got[3] == 0 {
			e.Errorf("got % x, want a refusal without session present", got)
		}
	}
	if c = e.connect(lasting(c.id)); e.v > v31 && !c.hello.present {
		e.Errorf("a refused CONNECT harmed the session")
	}
}

// connackPacketSize: a CONNACK, refusing or not, is never larger than the client's maximum.
func connackPacketSize(e *env) {
	for _, limit := range []uint32{8, 16, 24, 40, 64} {
		for _, props := range [][][]byte{{pU32(pMaximumPacket, limit)}, {pU32(pMaximumPacket, limit), pStr(pAuthMethod, "nonesuch")}} {
			c := e.begin(connect{props: props})
			c.limit = int(limit)
			p, err := c.read(patience)
			if err != nil && p != nil {
				e.Errorf("limit %d: %v", limit, err)
			} else if p != nil && p.typ != tCONNACK {
				e.Errorf("limit %d: got %s", limit, p)
			}
			c.nc.Close()
		}
	}
}

// pipelined: everything may follow CONNECT in the same segment.
func pipelined(e *env) {
	c := e.dial()
	c.id = e.unique()
	topic := e.topic("t")
	c.send(connect{id: c.id}.bytes(e.v), subscribe(e.v, 1, nil, filter{topic, 1}),
		message{topic: topic, payload: "one", qos: 1, id: 2}.bytes(e.v), pingreq(), message{topic: topic, payload: "two"}.bytes(e.v))
	c.welcome()
	c.ackFor(tSUBACK, 1)
	c.ackFor(tPUBACK, 2)
	c.expect(tPINGRESP)
	c.receive("one")
	c.receive("two")
}

// splitEverywhere: packets arrive byte by byte.
func splitEverywhere(e *env) {
	c := e.dial()
	c.id = e.unique()
	topic := e.topic("t")
	for _, b := range cat(connect{id: c.id}.bytes(e.v), subscribe(e.v, 1, nil, filter{topic, 2}),
		message{topic: topic, payload: strings.Repeat("p", 200), qos: 1, id: 2}.bytes(e.v), pingreq()) {
		c.send(raw(b))
	}
	c.welcome()
	c.ackFor(tSUBACK, 1)
	c.ackFor(tPUBACK, 2)
	c.expect(tPINGRESP)
	c.receive(strings.Repeat("p", 200))
}

// keepAliveTimeout: one and a half times the keep alive after the last packet the connection ends, and the will is sent. A server keep
// alive in CONNACK counts instead.
func keepAliveTimeout(e *env) {
	pub, sub := e.pair(e.topic("will"), 0)
	pub.alive()
	c := e.connect(connect{keepAlive: 1, will: &will{topic: e.topic("will"), payload: "dead"}})
	interval := time.Duration(c.hello.number(pServerKeepAlive, 1)) * time.Second
	at := time.Now()
	c.closed(0x8D)
	if d := time.Since(at); d < interval*3/2-100*time.Millisecond || d > interval*3/2+4*time.Second {
		e.Errorf("closed after %v with a keep alive of %v", d, interval)
	}
	sub.receive("dead")
}

// keepAliveAnyPacket: every packet counts, not only PINGREQ.
func keepAliveAnyPacket(e *env) {
	c := e.connect(connect{keepAlive: 2})
	for range 4 {
		time.Sleep(1200 * time.Millisecond) // time itself is what is tested
		c.publish(message{topic: e.topic("x"), payload: "x"})
	}
	c.alive()
}

func keepAliveOff(e *env) {
	c := e.connect(connect{keepAlive: 0})
	time.Sleep(2500 * time.Millisecond) // time itself is what is tested
	c.alive()
}

func ping(e *env) {
	c := e.client()
	for range 3 {
		c.quiet()
	}
	c.send(pingreq(), pingreq(), pingreq())
	for range 3 {
		c.expect(tPINGRESP)
	}
}
