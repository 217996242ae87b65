//go:build conformance

package conformance

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// property is one property as read: num for the numbers, str for strings and binary data, val for a user property's value (str its key).
type property struct {
	id       byte
	num      uint32
	str, val string
}

// packet is what the server sent, decoded.
type packet struct {
	typ, flags byte
	size       int // of the whole packet
	id         uint16
	code       byte   // CONNACK, PUBACK ... DISCONNECT, AUTH
	codes      []byte // SUBACK, UNSUBACK
	present    bool   // CONNACK: session present
	topic      string
	payload    string
	props      []property
}

func (p *packet) qos() byte    { return p.flags >> 1 & 3 }
func (p *packet) retain() bool { return p.flags&1 != 0 }
func (p *packet) dup() bool    { return p.flags&8 != 0 }

// prop finds a property: its value and whether it is there.
func (p *packet) prop(id byte) (property, bool) {
	i := slices.IndexFunc(p.props, func(q property) bool { return q.id == id })
	if i < 0 {
		return property{}, false
	}
	return p.props[i], true
}

// number is a number property, or the value that its absence means.
func (p *packet) number(id byte, absent uint32) uint32 {
	if q, ok := p.prop(id); ok {
		return q.num
	}
	return absent
}

// all gives every property with this identifier.
func (p *packet) all(id byte) (list []property) {
	for _, q := range p.props {
		if q.id == id {
			list = append(list, q)
		}
	}
	return list
}

func (p *packet) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s flags=%x", typeNames[p.typ], p.flags)
	switch p.typ {
	case tPUBLISH:
		fmt.Fprintf(&b, " id=%d topic=%.60q payload=%.60q", p.id, p.topic, p.payload)
	case tSUBACK, tUNSUBACK:
		fmt.Fprintf(&b, " id=%d codes=%x", p.id, p.codes)
	case tPINGRESP:
	default:
		fmt.Fprintf(&b, " id=%d code=%#02x", p.id, p.code)
	}
	if len(p.props) > 0 {
		fmt.Fprintf(&b, " props=%v", p.props)
	}
	return b.String()
}

// What a server may send: the properties of each packet, and its reason codes in 5.0.
var (
	serverProps = map[byte][]byte{
		tCONNACK: {pSessionExpiry, pReceiveMax, pMaximumQoS, pRetainAvailable, pMaximumPacket, pAssignedID, pAliasMax, pReasonString, pUser,
			pWildcards, pSubIDs, pShared, pServerKeepAlive, pResponseInfo, pServerReference, pAuthMethod, pAuthData},
		tPUBLISH:    {pPayloadFormat, pMessageExpiry, pAlias, pResponseTopic, pCorrelation, pUser, pSubscriptionID, pContentType},
		tPUBACK:     {pReasonString, pUser},
		tPUBREC:     {pReasonString, pUser},
		tPUBREL:     {pReasonString, pUser},
		tPUBCOMP:    {pReasonString, pUser},
		tSUBACK:     {pReasonString, pUser},
		tUNSUBACK:   {pReasonString, pUser},
		tDISCONNECT: {pReasonString, pUser, pServerReference}, // no Session Expiry Interval [MQTT-3.14.2-2]
		tAUTH:       {pAuthMethod, pAuthData, pReasonString, pUser},
	}
	serverCodes = map[byte][]byte{
		tCONNACK: {0, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C,
			0x9D, 0x9F},
		tPUBACK:   {0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
		tPUBREC:   {0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
		tPUBREL:   {0, 0x92},
		tPUBCOMP:  {0, 0x92},
		tSUBACK:   {0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
		tUNSUBACK: {0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
		tDISCONNECT: {0, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A,
			0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2},
		tAUTH: {0, 0x18},
	}
)

// cursor reads a body; its first fault stays.
type cursor struct {
	b   []byte
	err error
}

func (c *cursor) take(n int) []byte {
	if n > len(c.b) {
		c.fail("body too short")
		c.b = nil
	}
	if c.err != nil {
		return make([]byte, n)
	}
	b := c.b[:n]
	c.b = c.b[n:]
	return b
}

func (c *cursor) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

func (c *cursor) byte() byte     { return c.take(1)[0] }
func (c *cursor) u16() uint16    { return binary.BigEndian.Uint16(c.take(2)) }
func (c *cursor) binary() string { return string(c.take(int(c.u16()))) }

// string reads a UTF-8 string, which must be one.
func (c *cursor) string() string {
	s := c.binary()
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		c.fail("not a UTF-8 string: %q", s)
	}
	return s
}

func (c *cursor) varint() (n int) {
	for i := range 4 {
		d := c.byte()
		n |= int(d&0x7f) << (7 * i)
		if d < 0x80 {
			if d == 0 && i > 0 {
				c.fail("a variable byte integer is not minimal") // [MQTT-1.5.5-1]
			}
			return n
		}
	}
	c.fail("a variable byte integer has more than four bytes")
	return 0
}

func (c *cursor) properties(allowed []byte) (list []property) {
	n := c.varint()
	if n > len(c.b) {
		c.fail("the property length %d leaves the packet", n)
		return nil
	}
	in := &cursor{b: c.b[:n]}
	c.b = c.b[n:]
	for len(in.b) > 0 && in.err == nil {
		p := in.property()
		if !slices.Contains(allowed, p.id) {
			in.fail("property %#02x does not belong here", p.id)
		}
		once := p.id != pUser && p.id != pSubscriptionID
		if once && slices.ContainsFunc(list, func(q property) bool { return q.id == p.id }) {
			in.fail("property %#02x is there twice", p.id)
		}
		list = append(list, p)
	}
	if in.err != nil {
		c.fail("properties: %w", in.err)
	}
	return list
}

func (c *cursor) property() property {
	p := property{id: c.byte()}
	switch p.id {
	case pPayloadFormat, pProblemInfo, pResponseInfoReq, pMaximumQoS, pRetainAvailable, pWildcards, pSubIDs, pShared:
		if p.num = uint32(c.byte()); p.num > 1 {
			c.fail("property %#02x has the value %d", p.id, p.num)
		}
	case pServerKeepAlive, pReceiveMax, pAliasMax, pAlias:
		if p.num = uint32(c.u16()); p.num == 0 && (p.id == pReceiveMax || p.id == pAlias) {
			c.fail("property %#02x is zero", p.id)
		}
	case pMessageExpiry, pSessionExpiry, pWillDelay, pMaximumPacket:
		p.num = binary.BigEndian.Uint32(c.take(4))
		if p.num == 0 && p.id == pMaximumPacket {
			c.fail("the maximum packet size is zero")
		}
	case pSubscriptionID:
		if p.num = uint32(c.varint()); p.num == 0 {
			c.fail("the subscription identifier is zero")
		}
	case pContentType, pResponseTopic, pAssignedID, pAuthMethod, pResponseInfo, pServerReference, pReasonString:
		p.str = c.string()
	case pCorrelation, pAuthData:
		p.str = c.binary()
	case pUser:
		p.str, p.val = c.string(), c.string()
	default:
		c.fail("property %#02x is unknown", p.id)
	}
	return p
}

// decode reads one packet from a server, which must be perfect.
func decode(v, first byte, body []byte) (*packet, error) {
	p := &packet{typ: first >> 4, flags: first & 15}
	c := &cursor{b: body}
	wantFlags := ackFlags(p.typ)
	if p.typ != tPUBLISH && p.flags != wantFlags {
		return p, fmt.Errorf("%s with fixed header flags %#x", typeNames[p.typ], p.flags) // [MQTT-2.1.3-1]
	}
	switch p.typ {
	case tCONNACK:
		p.connack(c, v)
	case tPUBLISH:
		p.publish(c, v)
	case tPUBACK, tPUBREC, tPUBREL, tPUBCOMP:
		p.ack(c, v)
	case tSUBACK, tUNSUBACK:
		p.suback(c, v)
	case tPINGRESP:
	case tDISCONNECT, tAUTH:
		p.goodbye(c, v)
	default:
		return p, fmt.Errorf("a server sent %s", typeNames[p.typ])
	}
	if len(c.b) > 0 {
		c.fail("%d bytes too many", len(c.b))
	}
	if c.err != nil {
		return p, fmt.Errorf("%s % x: %w", typeNames[p.typ], bytes.Clone(body[:min(len(body), 64)]), c.err)
	}
	return p, nil
}

func (p *packet) connack(c *cursor, v byte) {
	flags := c.byte()
	p.present = flags&1 != 0
	p.code = c.byte()
	if flags > 1 {
		c.fail("CONNACK flags %#x", flags) // [MQTT-3.2.2-1]
	}
	if p.code != 0 && p.present {
		c.fail("session present in a refusal") // [MQTT-3.2.2-6]
	}
	if v == v31 && p.present {
		c.fail("session present in 3.1")
	}
	if v < v5 {
		if p.code > 5 {
			c.fail("return code %d", p.code)
		}
		return
	}
	p.props = c.properties(serverProps[tCONNACK])
	p.checkCode(c)
}

func (p *packet) checkCode(c *cursor) {
	if c.err == nil && !slices.Contains(serverCodes[p.typ], p.code) {
		c.fail("reason code %#02x", p.code)
	}
}

func (p *packet) publish(c *cursor, v byte) {
	if p.qos() == 3 || p.qos() == 0 && p.dup() {
		c.fail("PUBLISH flags %#x", p.flags)
	}
	p.topic = c.string()
	if p.qos() > 0 {
		if p.id = c.u16(); p.id == 0 {
			c.fail("packet identifier 0")
		}
	}
	if v == v5 {
		p.props = c.properties(serverProps[tPUBLISH])
	}
	if strings.ContainsAny(p.topic, "+#") {
		c.fail("wildcard in the topic %q", p.topic)
	}
	if _, ok := p.prop(pAlias); p.topic == "" && !ok {
		c.fail("no topic and no alias")
	}
	p.payload = string(c.b)
	c.b = nil
}

func (p *packet) ack(c *cursor, v byte) {
	if p.id = c.u16(); p.id == 0 {
		c.fail("packet identifier 0")
	}
	if v < v5 || len(c.b) == 0 {
		return
	}
	p.code = c.byte()
	p.checkCode(c)
	if len(c.b) > 0 {
		p.props = c.properties(serverProps[p.typ])
	}
}

func (p *packet) suback(c *cursor, v byte) {
	if p.id = c.u16(); p.id == 0 {
		c.fail("packet identifier 0")
	}
	if v == v5 {
		p.props = c.properties(serverProps[p.typ])
	}
	p.codes = bytes.Clone(c.b)
	c.b = nil
	if v < v5 && p.typ == tUNSUBACK && len(p.codes) > 0 {
		c.fail("UNSUBACK with a payload")
	}
	allowed := serverCodes[p.typ]
	if v < v5 {
		allowed = []byte{0, 1, 2, 0x80}[:v] // the first three in 3.1, which knows no failure
	}
	for _, code := range p.codes {
		if !slices.Contains(allowed, code) {
			c.fail("code %#02x", code)
		}
	}
}

func (p *packet) goodbye(c *cursor, v byte) {
	if v < v5 {
		c.fail("not in this version")
		return
	}
	if len(c.b) == 0 {
		return
	}
	p.code = c.byte()
	p.checkCode(c)
	if len(c.b) > 0 {
		p.props = c.properties(serverProps[p.typ])
	}
	if _, ok := p.prop(pAuthMethod); p.typ == tAUTH && !ok {
		c.fail("no authentication method")
	}
}

var errLength = errors.New("the remaining length is malformed")
