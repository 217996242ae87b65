//go:build conformance

package conformance

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// generator collects the rows of one version.
type generator struct {
	v    byte
	rows []row
}

// malformedRows is the whole table: every fault of every packet type in every version.
func malformedRows() []row {
	var rows []row
	for _, v := range all {
		g := &generator{v: v}
		g.connects()
		g.publishes()
		g.acks()
		g.subscribes()
		g.unsubscribes()
		g.plain()
		g.serverOnly()
		g.beforeConnect()
		g.propertyFaults()
		rows = append(rows, g.rows...)
	}
	return rows
}

// later adds a row for a connected client.
func (g *generator) later(typ byte, name string, b []byte, codes ...byte) {
	g.rows = append(g.rows, row{g.v, "later", lower(typ), name, b, g.answer(expectDisconnect, codes)})
}

// both adds a row for a connected client, and one in which the packet stands right behind the CONNECT.
func (g *generator) both(typ byte, name string, b []byte, codes ...byte) {
	g.later(typ, name, b, codes...)
	g.rows = append(g.rows, row{g.v, "behind", lower(typ), name, b, g.answer(expectDisconnect, codes)})
}

// first adds a row for a CONNECT that is refused.
func (g *generator) first(name string, b []byte, codes ...byte) {
	g.rows = append(g.rows, row{g.v, "first", "connect", name, b, g.answer(expectRefused, codes)})
}

// turnedAway adds a row for a CONNECT whose version the server may not get to know.
func (g *generator) turnedAway(name string, b []byte) {
	g.rows = append(g.rows, row{g.v, "first", "connect", name, b, expectTurnedAway})
}

func lower(typ byte) string { return strings.ToLower(typeNames[typ]) }

// answer is the expectation: codes are for 5.0 only, older versions just close.
func (g *generator) answer(kind string, codes []byte) string {
	if g.v < v5 {
		return expectClose
	}
	for _, c := range codes {
		kind += fmt.Sprintf(" %02x", c)
	}
	return kind
}

// faults are the names of the UTF-8 faults in a fixed order.
func faults() []string {
	var names []string
	for name := range notUTF8 {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// flags adds a row for every wrong value of the fixed header's flags.
func (g *generator) flags(typ byte, b []byte, codes ...byte) {
	for f := byte(0); f < 16; f++ {
		dup := g.v == v31 && f == 0xA && (typ == tPUBREL || typ == tSUBSCRIBE || typ == tUNSUBSCRIBE) // 3.1 has a DUP flag there
		if f == b[0]&15 || dup {
			continue
		}
		wrong := slices.Clone(b)
		wrong[0] = typ<<4 | f
		if typ == tCONNECT {
			g.turnedAway(fmt.Sprintf("flags-%x", f), wrong)
		} else {
			g.later(typ, fmt.Sprintf("flags-%x", f), wrong, codes...)
		}
	}
}

// lengths adds rows with wrong encodings of the remaining length. add is told to use what fits the packet.
func (g *generator) lengths(b []byte, add func(name string, b []byte)) {
	body := b[2:]
	n := byte(len(body))
	add("length-five-bytes", cat(b[:1], raw(0x80, 0x80, 0x80, 0x80, 0x01), body))
	add("length-five-bytes-ff", cat(b[:1], raw(0xFF, 0xFF, 0xFF, 0xFF, 0x7F), body))
	add("length-four-continued", cat(b[:1], raw(n|0x80, 0x80, 0x80, 0x80), body))
	add("length-not-minimal-2", cat(b[:1], raw(n|0x80, 0), body))
	add("length-not-minimal-3", cat(b[:1], raw(n|0x80, 0x80, 0), body))
	add("length-not-minimal-4", cat(b[:1], raw(n|0x80, 0x80, 0x80, 0), body))
}

// cuts adds a row for each length at which the body is cut and the packet is no packet any more; whole are the lengths at which it is one.
func (g *generator) cuts(typ byte, name string, b []byte, whole []int, codes ...byte) {
	body := b[2:]
	for n := range body {
		if !slices.Contains(whole, n) {
			g.later(typ, fmt.Sprintf("%s-cut-%d", name, n), frame(b[0], body[:n]), codes...)
		}
	}
}

var (
	text  = "text"
	userX = "user"
	passX = "pass"
)

func (g *generator) fullConnect() connect {
	k := connect{id: "client", keepAlive: 60, user: &userX, password: &passX, will: &will{topic: "a/b", payload: "gone", qos: 1}}
	if g.v == v5 {
		k.props = [][]byte{pU32(pSessionExpiry, 10), pU16(pReceiveMax, 10), pUserPair("k", "v")}
		k.will.props = [][]byte{pU32(pWillDelay, 1), pStr(pContentType, text), pUserPair("k", "v")}
	}
	return k
}

func (g *generator) connects() {
	full := g.fullConnect().bytes(g.v)
	g.flags(tCONNECT, full)
	g.lengths(full, g.turnedAway)
	g.connectCuts(full)
	g.first("trailing-byte", frame(full[0], full[2:], raw(0)), 0x81)
	g.first("trailing-string", frame(full[0], full[2:], str("more")), 0x81)
	g.connectFlags()
	g.connectNames()
	g.connectStrings()
	for _, topic := range []string{"", "#", "+", "a/#", "a/+/b", "a+", "a#"} {
		k := g.fullConnect()
		k.will.topic = topic
		g.first("will-topic-"+topic, k.bytes(g.v), 0x81, 0x82, 0x90)
	}
	second := connect{id: "client"}.bytes(g.v)
	g.both(tCONNECT, "second", second, 0x82)
	g.later(tCONNECT, "second-full", full, 0x82)
	g.later(tCONNECT, "second-cut", frame(full[0], full[2:12]), 0x81, 0x82)
	g.later(tCONNECT, "second-flags", cat(raw(0x11), second[1:]), 0x81)
}

func (g *generator) connectCuts(full []byte) {
	body := full[2:]
	head := len(protocol(g.v))
	// In 3.1 the remaining length has precedence over the user name's and the password's flags.
	password := len(body) - len(str(passX))
	user := password - len(str(userX))
	for n := range body {
		name := fmt.Sprintf("cut-%d", n)
		b := frame(full[0], body[:n])
		switch {
		case n < head:
			g.turnedAway(name, b)
		case g.v == v31 && (n == password || n == user):
		default:
			g.first(name, b, 0x81)
		}
	}
}

func (g *generator) connectFlags() {
	plain := connect{id: "client"}
	with := func(flags byte) []byte { k := plain; k.orFlags = flags; return k.bytes(g.v) }
	full := g.fullConnect().bytes(g.v)
	at := 2 + len(protocol(g.v))
	patched := func(set, clear byte) []byte {
		b := slices.Clone(full)
		b[at] = b[at]&^clear | set
		return b
	}
	g.first("reserved-flag", with(1), 0x81)
	g.first("reserved-flag-full", patched(1, 0), 0x81)
	g.first("will-qos-3", patched(0x18, 0), 0x81)
	if g.v > v31 { // 3.1 does not look at them without the will flag
		g.first("will-qos-1-without-will", with(0x08), 0x81, 0x82)
		g.first("will-qos-2-without-will", with(0x10), 0x81, 0x82)
		g.first("will-qos-3-without-will", with(0x18), 0x81, 0x82)
		g.first("will-retain-without-will", with(0x20), 0x81, 0x82)
		g.first("will-qos-and-retain-without-will", with(0x28), 0x81, 0x82)
	}
	g.first("will-without-fields", with(0x04), 0x81)
	g.first("will-fields-without-flag", patched(0, 0x1C), 0x81)
	g.first("user-without-flag", patched(0, 0xC0), 0x81)
	if g.v > v31 {
		g.first("user-flag-without-field", with(0x80), 0x81)
		g.first("user-and-password-flags-without-fields", with(0xC0), 0x81)
		g.first("all-flags-without-fields", with(0xFC), 0x81)
	}
	if g.v < v5 {
		g.first("password-flag-without-user", with(0x40), 0x81)
		g.first("password-without-user-flag", patched(0, 0x80), 0x81)
	} else {
		g.first("password-flag-without-field", with(0x40), 0x81)
	}
	g.first("password-without-flag", patched(0, 0x40), 0x81)
}

func (g *generator) connectNames() {
	rest := cat(raw(2, 0, 60), connect{}.properties(g.v), str("client"))
	for _, name := range []string{"", "M", "MQT", "mqtt", "MQTt", "MQTTT", "MQTT\x00", "MQIsd", "MQIsdpx", "HTTP", "\xff\xff\xff\xff"} {
		g.turnedAway(fmt.Sprintf("protocol-name-%q", name), frame(tCONNECT<<4, str(name), raw(g.v), rest))
	}
	name := protocol(g.v)[:len(protocol(g.v))-1]
	levels := map[byte][]byte{v31: {0, 1, 2, 4, 5, 6}, v311: {0, 1, 2, 3}, v5: {6, 7, 0x7F, 0x80, 0xFF}}[g.v]
	for _, l := range levels {
		g.turnedAway(fmt.Sprintf("protocol-level-%d", l), frame(tCONNECT<<4, name, raw(l), rest))
	}
	g.turnedAway("protocol-name-length", frame(tCONNECT<<4, raw(0xFF, 0xFF), name[2:], raw(g.v), rest))
	g.turnedAway("empty", frame(tCONNECT<<4))
}

func (g *generator) connectStrings() {
	for _, f := range faults() {
		s := notUTF8[f]
		k := g.fullConnect()
		k.id = s
		g.first("client-id-"+f, k.bytes(g.v), 0x81, 0x85)
		k = g.fullConnect()
		k.user = &s
		g.first("user-"+f, k.bytes(g.v), 0x81)
		k = g.fullConnect()
		k.will.topic = s
		g.first("will-topic-"+f, k.bytes(g.v), 0x81)
	}
}

func (g *generator) publishes() {
	for qos := byte(0); qos <= 2; qos++ {
		m := message{topic: "a/b", payload: "payload", qos: qos, id: 9}
		if g.v == v5 {
			m.props = [][]byte{pU32(pMessageExpiry, 10), pUserPair("k", "v")}
		}
		b := m.bytes(g.v)
		var whole []int
		for n := len(b) - 2 - len(m.payload); n < len(b); n++ {
			whole = append(whole, n)
		}
		g.cuts(tPUBLISH, fmt.Sprint("qos", qos), b, whole, 0x81)
		g.lengths(b, func(name string, b []byte) { g.later(tPUBLISH, fmt.Sprint(name, "-qos", qos), b, 0x81) })
		if qos > 0 {
			m.id = 0
			g.both(tPUBLISH, fmt.Sprint("id-0-qos", qos), m.bytes(g.v), 0x81, 0x82)
		}
		for _, topic := range []string{"#", "+", "a/#", "a/+/b", "a#", "+a"} {
			g.later(tPUBLISH, fmt.Sprintf("topic-%s-qos%d", topic, qos), message{topic: topic, payload: "p", qos: qos, id: 9}.bytes(g.v), 0x90)
		}
		g.later(tPUBLISH, fmt.Sprint("topic-empty-qos", qos), message{payload: "p", qos: qos, id: 9}.bytes(g.v), 0x81, 0x82, 0x90)
		g.later(tPUBLISH, fmt.Sprint("topic-and-payload-empty-qos", qos), message{qos: qos, id: 9}.bytes(g.v), 0x81, 0x82, 0x90)
	}
	for _, f := range []byte{6, 7, 14, 15} {
		g.both(tPUBLISH, fmt.Sprintf("flags-%x", f), frame(tPUBLISH<<4|f, message{topic: "a/b", qos: 1, id: 9}.bytes(g.v)[2:]), 0x81)
	}
	for _, f := range []byte{8, 9} {
		g.both(tPUBLISH, fmt.Sprintf("flags-%x", f), frame(tPUBLISH<<4|f, message{topic: "a/b"}.bytes(g.v)[2:]), 0x81, 0x82)
	}
	for _, f := range faults() {
		g.later(tPUBLISH, "topic-"+f, message{topic: notUTF8[f], payload: "p"}.bytes(g.v), 0x81)
	}
}

func (g *generator) acks() {
	for _, t := range []byte{tPUBACK, tPUBREC, tPUBREL, tPUBCOMP} {
		short := ack(t, 9)
		g.flags(t, short, 0x81)
		g.cuts(t, "short", short, nil, 0x81)
		g.lengths(short, func(name string, b []byte) { g.later(t, name, b, 0x81) })
		g.both(t, "id-0", ack(t, 0), 0x81, 0x82)
		if g.v < v5 {
			g.later(t, "trailing-byte", frame(short[0], short[2:], raw(0)))
			g.later(t, "trailing-bytes", frame(short[0], short[2:], raw(0, 0)))
			continue
		}
		long := ackCode(t, 9, 0, pStr(pReasonString, text), pUserPair("k", "v"))
		g.cuts(t, "long", long, []int{2, 3}, 0x81)
		g.later(t, "trailing-byte", frame(long[0], long[2:], raw(0)), 0x81)
		for _, code := range []byte{1, 2, 3, 4, 0x0F, 0x10, 0x11, 0x18, 0x19, 0x7F, 0x80, 0x81, 0x82, 0x87, 0x8E, 0x92, 0x98, 0x9A, 0xA2, 0xFE, 0xFF} {
			if !slices.Contains(serverCodes[t], code) {
				g.later(t, fmt.Sprintf("code-%02x", code), frame(long[0], u16(9), raw(code)), 0x81, 0x82)
			}
		}
	}
}

func (g *generator) subscribes() {
	var props [][]byte
	if g.v == v5 {
		props = [][]byte{pVar(pSubscriptionID, 200), pUserPair("k", "v")}
	}
	b := subscribe(g.v, 9, props, filter{"a/b", 1}, filter{"c/#", 2})
	g.flags(tSUBSCRIBE, b, 0x81)
	g.lengths(b, func(name string, b []byte) { g.later(tSUBSCRIBE, name, b, 0x81) })
	bare := len(b) - 2 - 12 // without a filter
	g.cuts(tSUBSCRIBE, "filters", b, []int{bare, bare + 6}, 0x81)
	g.both(tSUBSCRIBE, "no-filter", subscribe(g.v, 9, props), 0x81, 0x82)
	g.later(tSUBSCRIBE, "no-filter-no-properties", subscribe(g.v, 9, nil), 0x81, 0x82)
	g.later(tSUBSCRIBE, "trailing-byte", frame(b[0], b[2:], raw(0)), 0x81)
	g.later(tSUBSCRIBE, "trailing-length", frame(b[0], b[2:], raw(0, 1)), 0x81)
	g.both(tSUBSCRIBE, "id-0", subscribe(g.v, 0, props, filter{"a/b", 1}), 0x81, 0x82)
	g.later(tSUBSCRIBE, "filter-empty", subscribe(g.v, 9, nil, filter{"", 1}), 0x81, 0x82, 0x8F)
	g.later(tSUBSCRIBE, "second-filter-empty", subscribe(g.v, 9, nil, filter{"a/b", 1}, filter{"", 1}), 0x81, 0x82, 0x8F)
	for _, o := range []byte{0x03, 0x04, 0x08, 0x0C, 0x10, 0x20, 0x30, 0x40, 0x80, 0xC0, 0xC1, 0xFF} {
		codes := []byte{0x81}
		if g.v == v5 {
			if o&0xC0 == 0 && o&3 < 3 && o&0x30 < 0x30 {
				continue
			}
			if o&0xC0 == 0 || o == 0xFF {
				codes = []byte{0x81, 0x82}
			}
		}
		g.later(tSUBSCRIBE, fmt.Sprintf("options-%02x", o), subscribe(g.v, 9, nil, filter{"a/b", o}), codes...)
		g.later(tSUBSCRIBE, fmt.Sprintf("second-options-%02x", o), subscribe(g.v, 9, nil, filter{"a/b", 1}, filter{"c", o}), codes...)
	}
	if g.v == v31 {
		for _, name := range invalidFilters {
			g.later(tSUBSCRIBE, "filter-"+name, subscribe(g.v, 9, nil, filter{name, 1}))
		}
	}
	for _, f := range faults() {
		g.later(tSUBSCRIBE, "filter-"+f, subscribe(g.v, 9, nil, filter{notUTF8[f], 1}), 0x81)
		g.later(tSUBSCRIBE, "second-filter-"+f, subscribe(g.v, 9, nil, filter{"a/b", 1}, filter{notUTF8[f], 1}), 0x81)
	}
	if g.v == v5 {
		g.later(tSUBSCRIBE, "shared-no-local", subscribe(g.v, 9, nil, filter{"$share/g/a", 1 | noLocal}), 0x82)
		g.later(tSUBSCRIBE, "second-shared-no-local", subscribe(g.v, 9, nil, filter{"a", 1}, filter{"$share/g/a", 1 | noLocal}), 0x82)
	}
}

func (g *generator) unsubscribes() {
	b := unsubscribe(g.v, 9, "a/b", "c/#")
	if g.v == v5 {
		b = frame(tUNSUBSCRIBE<<4|2, u16(9), properties(pUserPair("k", "v")), str("a/b"), str("c/#"))
	}
	g.flags(tUNSUBSCRIBE, b, 0x81)
	g.lengths(b, func(name string, b []byte) { g.later(tUNSUBSCRIBE, name, b, 0x81) })
	bare := len(b) - 2 - 10
	g.cuts(tUNSUBSCRIBE, "filters", b, []int{bare, bare + 5}, 0x81)
	g.both(tUNSUBSCRIBE, "no-filter", unsubscribe(g.v, 9), 0x81, 0x82)
	g.later(tUNSUBSCRIBE, "trailing-byte", frame(b[0], b[2:], raw(0)), 0x81)
	g.later(tUNSUBSCRIBE, "trailing-length", frame(b[0], b[2:], raw(0, 1)), 0x81)
	g.both(tUNSUBSCRIBE, "id-0", unsubscribe(g.v, 0, "a/b"), 0x81, 0x82)
	g.later(tUNSUBSCRIBE, "filter-empty", unsubscribe(g.v, 9, ""), 0x81, 0x82, 0x8F)
	for _, f := range faults() {
		g.later(tUNSUBSCRIBE, "filter-"+f, unsubscribe(g.v, 9, notUTF8[f]), 0x81)
		g.later(tUNSUBSCRIBE, "second-filter-"+f, unsubscribe(g.v, 9, "a/b", notUTF8[f]), 0x81)
	}
}

// plain adds the packets that have no body, or hardly any: PINGREQ, DISCONNECT, AUTH.
func (g *generator) plain() {
	g.flags(tPINGREQ, pingreq(), 0x81)
	g.lengths(pingreq(), func(name string, b []byte) { g.later(tPINGREQ, name, b, 0x81) })
	g.both(tPINGREQ, "body", raw(tPINGREQ<<4, 1, 0), 0x81)
	g.later(tPINGREQ, "body-two", raw(tPINGREQ<<4, 2, 0, 1), 0x81)
	g.flags(tDISCONNECT, disconnect(), 0x81)
	g.lengths(disconnect(), func(name string, b []byte) { g.later(tDISCONNECT, name, b, 0x81) })
	if g.v < v5 {
		g.later(tDISCONNECT, "body", raw(tDISCONNECT<<4, 1, 0))
		g.later(tDISCONNECT, "body-two", raw(tDISCONNECT<<4, 2, 0, 0))
		return
	}
	b := disconnectCode(4, pStr(pReasonString, text), pUserPair("k", "v"))
	g.cuts(tDISCONNECT, "long", b, []int{0, 1}, 0x81)
	g.later(tDISCONNECT, "trailing-byte", frame(b[0], b[2:], raw(0)), 0x81)
	g.later(tDISCONNECT, "session-expiry-from-zero", disconnectCode(0, pU32(pSessionExpiry, 10)), 0x82)
	for _, code := range []byte{1, 2, 3, 5, 0x10, 0x18, 0x7F, 0x84, 0x85, 0x86, 0x8A, 0x91, 0x92, 0xA3, 0xFF} {
		g.later(tDISCONNECT, fmt.Sprintf("code-%02x", code), frame(b[0], raw(code)), 0x81, 0x82)
	}
	auth := frame(tAUTH<<4, raw(0x18), properties(pStr(pAuthMethod, "m"), pStr(pAuthData, "d"), pStr(pReasonString, text), pUserPair("k", "v")))
	g.flags(tAUTH, auth, 0x81)
	g.lengths(auth, func(name string, b []byte) { g.later(tAUTH, name, b, 0x81) })
	g.cuts(tAUTH, "unasked", auth, nil, 0x81, 0x82)
	g.both(tAUTH, "unasked", auth, 0x82)
	g.later(tAUTH, "unasked-again", frame(tAUTH<<4, raw(0x19), properties(pStr(pAuthMethod, "m"))), 0x82)
	g.later(tAUTH, "trailing-byte", frame(auth[0], auth[2:], raw(0)), 0x81, 0x82)
}

// serverOnlyPackets are the packets that only a server sends, and the types that there are not, all well formed.
func (g *generator) serverOnlyPackets() map[byte][]byte {
	var none []byte
	if g.v == v5 {
		none = []byte{0}
	}
	list := map[byte][]byte{
		tCONNACK:  frame(tCONNACK<<4, raw(0, 0), none),
		tSUBACK:   frame(tSUBACK<<4, u16(9), none, raw(1)),
		tUNSUBACK: frame(tUNSUBACK<<4, u16(9), none, none),
		tPINGRESP: raw(tPINGRESP<<4, 0),
		0:         raw(0, 0),
	}
	if g.v < v5 {
		list[tAUTH] = raw(tAUTH<<4, 0)
	}
	return list
}

func (g *generator) serverOnly() {
	list := g.serverOnlyPackets()
	for t := byte(0); t <= tAUTH; t++ {
		b, ok := list[t]
		if !ok {
			continue
		}
		g.both(t, "from-client", b, 0x81, 0x82)
		for f := byte(1); f < 16; f++ {
			g.later(t, fmt.Sprintf("flags-%x", f), cat(raw(t<<4|f), b[1:]), 0x81, 0x82)
		}
		for n := range b[2:] {
			g.later(t, fmt.Sprintf("cut-%d", n), frame(b[0], b[2:2+n]), 0x81, 0x82)
		}
		g.later(t, "trailing-byte", frame(b[0], b[2:], raw(0)), 0x81, 0x82)
	}
}

// beforeConnect adds every packet, well formed but for its place, as the first one.
func (g *generator) beforeConnect() {
	list := g.serverOnlyPackets()
	list[tPUBLISH] = message{topic: "a/b", payload: "p", qos: 1, id: 9}.bytes(g.v)
	for _, t := range []byte{tPUBACK, tPUBREC, tPUBREL, tPUBCOMP} {
		list[t] = ack(t, 9)
	}
	list[tSUBSCRIBE] = subscribe(g.v, 9, nil, filter{"a/b", 1})
	list[tUNSUBSCRIBE] = unsubscribe(g.v, 9, "a/b")
	list[tPINGREQ] = pingreq()
	list[tDISCONNECT] = disconnect()
	if g.v == v5 {
		list[tAUTH] = frame(tAUTH<<4, raw(0x18), properties(pStr(pAuthMethod, "m")))
	}
	for t := byte(0); t <= tAUTH; t++ {
		if b, ok := list[t]; ok {
			g.rows = append(g.rows, row{g.v, "first", lower(t), "before-connect", b, expectClose})
			g.rows = append(g.rows, row{g.v, "first", lower(t), "before-connect-then-connect", cat(b, connect{id: "client"}.bytes(g.v)), expectClose})
		}
	}
}
