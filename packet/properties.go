package packet

import "fmt"

// PropID identifies a property. [MQTT-2.2.2]
type PropID uint8

// The properties of MQTT 5.0.
const (
	PropPayloadFormat       PropID = 0x01
	PropMessageExpiry       PropID = 0x02
	PropContentType         PropID = 0x03
	PropResponseTopic       PropID = 0x08
	PropCorrelationData     PropID = 0x09
	PropSubscriptionID      PropID = 0x0B
	PropSessionExpiry       PropID = 0x11
	PropAssignedClientID    PropID = 0x12
	PropServerKeepAlive     PropID = 0x13
	PropAuthMethod          PropID = 0x15
	PropAuthData            PropID = 0x16
	PropRequestProblemInfo  PropID = 0x17
	PropWillDelay           PropID = 0x18
	PropRequestResponseInfo PropID = 0x19
	PropResponseInfo        PropID = 0x1A
	PropServerReference     PropID = 0x1C
	PropReasonString        PropID = 0x1F
	PropReceiveMaximum      PropID = 0x21
	PropTopicAliasMaximum   PropID = 0x22
	PropTopicAlias          PropID = 0x23
	PropMaximumQoS          PropID = 0x24
	PropRetainAvailable     PropID = 0x25
	PropUser                PropID = 0x26
	PropMaximumPacketSize   PropID = 0x27
	PropWildcardAvailable   PropID = 0x28
	PropSubIDAvailable      PropID = 0x29
	PropSharedAvailable     PropID = 0x2A
)

// UserProperty is a name and a value that mean something to the applications only. Names may repeat and their order
// counts.
type UserProperty struct{ Key, Value string }

// String is the name in the standard.
func (id PropID) String() string {
	if int(id) < len(propTable) && propTable[id].in != 0 {
		return propTable[id].name
	}
	return fmt.Sprintf("property 0x%02X", uint8(id))
}

// kind is the type of a property's value together with the values it may have.
type kind uint8

const (
	kindBool  kind = iota // one byte, 0 or 1
	kindU16               // two bytes
	kindU16NZ             // two bytes, not 0
	kindU32
	kindU32NZ
	kindVarNZ // variable byte integer, not 0
	kindText
	kindTopic // text without wildcards, not empty
	kindBinary
	kindPair
)

// section is a set of places where properties stand: bit 1<<t is packets of type t, bit 0 the will in a CONNECT.
type section uint16

const inWill section = 1

// in is the place where packets of this type have their properties.
func in(types ...Type) (s section) {
	for _, t := range types {
		s |= 1 << t
	}
	return s
}

type propRule struct {
	name string
	kind kind
	in   section
}

// propTable is table 2-4 of the standard, by identifier. [MQTT-2.2.2.2]
var propTable = [...]propRule{
	PropPayloadFormat:       {"Payload Format Indicator", kindBool, inWill | in(PUBLISH)},
	PropMessageExpiry:       {"Message Expiry Interval", kindU32, inWill | in(PUBLISH)},
	PropContentType:         {"Content Type", kindText, inWill | in(PUBLISH)},
	PropResponseTopic:       {"Response Topic", kindTopic, inWill | in(PUBLISH)},
	PropCorrelationData:     {"Correlation Data", kindBinary, inWill | in(PUBLISH)},
	PropSubscriptionID:      {"Subscription Identifier", kindVarNZ, in(PUBLISH, SUBSCRIBE)},
	PropSessionExpiry:       {"Session Expiry Interval", kindU32, in(CONNECT, CONNACK, DISCONNECT)},
	PropAssignedClientID:    {"Assigned Client Identifier", kindText, in(CONNACK)},
	PropServerKeepAlive:     {"Server Keep Alive", kindU16, in(CONNACK)},
	PropAuthMethod:          {"Authentication Method", kindText, in(CONNECT, CONNACK, AUTH)},
	PropAuthData:            {"Authentication Data", kindBinary, in(CONNECT, CONNACK, AUTH)},
	PropRequestProblemInfo:  {"Request Problem Information", kindBool, in(CONNECT)},
	PropWillDelay:           {"Will Delay Interval", kindU32, inWill},
	PropRequestResponseInfo: {"Request Response Information", kindBool, in(CONNECT)},
	PropResponseInfo:        {"Response Information", kindText, in(CONNACK)},
	PropServerReference:     {"Server Reference", kindText, in(CONNACK, DISCONNECT)},
	PropReasonString: {"Reason String", kindText,
		in(CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH)},
	PropReceiveMaximum:    {"Receive Maximum", kindU16NZ, in(CONNECT, CONNACK)},
	PropTopicAliasMaximum: {"Topic Alias Maximum", kindU16, in(CONNECT, CONNACK)},
	PropTopicAlias:        {"Topic Alias", kindU16, in(PUBLISH)},
	PropMaximumQoS:        {"Maximum QoS", kindBool, in(CONNACK)},
	PropRetainAvailable:   {"Retain Available", kindBool, in(CONNACK)},
	PropUser: {"User Property", kindPair,
		inWill | in(CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, DISCONNECT, AUTH)},
	PropMaximumPacketSize: {"Maximum Packet Size", kindU32NZ, in(CONNECT, CONNACK)},
	PropWildcardAvailable: {"Wildcard Subscription Available", kindBool, in(CONNACK)},
	PropSubIDAvailable:    {"Subscription Identifier Available", kindBool, in(CONNACK)},
	PropSharedAvailable:   {"Shared Subscription Available", kindBool, in(CONNACK)},
}

// propReader walks one section of properties. It checks everything that the table says, so that packets only store
// what it hands out: id with num (numbers), val (text and binary, part of the buffer) or val and val2 (a pair).
type propReader struct {
	reader
	in   section
	seen uint64

	id   PropID
	num  uint32
	val  []byte
	val2 []byte
}

// props takes a whole section, its length included, off the front of r.
func (r *reader) props(in section) propReader {
	n := r.varint()
	b := r.take(n)
	return propReader{reader: reader{b: b, err: r.err}, in: in}
}

// next moves to the next property; false at the end or at an error, which is in err.
func (p *propReader) next() bool {
	if p.err != nil || len(p.b) == 0 {
		return false
	}
	// Identifiers are variable byte integers, but none that is defined needs a second byte.
	p.id = PropID(p.b[0])
	if int(p.id) >= len(propTable) || propTable[p.id].in&p.in == 0 {
		p.fail(inProperty(p.id, errPropForeign))
		return false
	}
	p.b = p.b[1:]
	if p.id != PropUser { // a Subscription Identifier repeats in PUBLISH, which has a walk of its own
		if p.seen>>p.id&1 != 0 {
			p.fail(inProperty(p.id, errPropTwice))
			return false
		}
		p.seen |= 1 << p.id
	}
	p.value(propTable[p.id].kind)
	if p.err != nil {
		p.err = inProperty(p.id, p.err)
		return false
	}
	return true
}

func (p *propReader) value(k kind) {
	switch k {
	case kindBool:
		if p.num = uint32(p.u8()); p.num > 1 {
			p.fail(errPropBool)
		}
		return
	case kindU16, kindU16NZ:
		p.num = uint32(p.u16())
	case kindU32, kindU32NZ:
		p.num = p.u32()
	case kindVarNZ:
		p.num = uint32(p.varint())
	case kindBinary:
		p.val = p.binary()
	case kindText:
		p.val = p.text()
	case kindTopic:
		p.val = p.text()
		if p.err == nil && (len(p.val) == 0 || checkTopic(p.val) != nil) {
			p.fail(errResponse) // [MQTT-3.3.2-14] [MQTT-4.7.3-1]
		}
	case kindPair:
		p.val, p.val2 = p.text(), p.text() // [MQTT-1.5.7-1]
	}
	if p.num == 0 && (k == kindU16NZ || k == kindU32NZ || k == kindVarNZ) {
		p.fail(errPropZero)
	}
}

// common stores the two properties that nearly every packet may have. reason is nil where there is no Reason String.
func (p *propReader) common(reason *string, user *[]UserProperty) {
	switch p.id {
	case PropReasonString:
		*reason = string(p.val)
	case PropUser:
		*user = append(*user, UserProperty{string(p.val), string(p.val2)})
	}
}

// propWriter is a packet, or a will, that writes its properties without their length.
type propWriter interface{ props(w *writer) }

// section writes the properties of p with their length in front. [MQTT-2.2.2-1]
func (w *writer) section(p propWriter) {
	size := writer{count: true}
	p.props(&size)
	w.varint(size.n)
	p.props(w)
}

func (w *writer) propU8(id PropID, v byte)     { w.u8(byte(id)); w.u8(v) }
func (w *writer) propU16(id PropID, v uint16)  { w.u8(byte(id)); w.u16(v) }
func (w *writer) propU32(id PropID, v uint32)  { w.u8(byte(id)); w.u32(v) }
func (w *writer) propData(id PropID, b []byte) { w.u8(byte(id)); w.binary(b) }

// propText writes a text property unless it is empty.
func (w *writer) propText(id PropID, s string) {
	if s != "" {
		w.u8(byte(id))
		w.text(s)
	}
}

// propBool writes an optional flag.
func (w *writer) propBool(id PropID, v *bool) {
	if v != nil {
		w.propU8(id, byte(bit(*v)))
	}
}

func (w *writer) propUser(user []UserProperty) {
	for _, u := range user {
		w.u8(byte(PropUser))
		w.text(u.Key)
		w.text(u.Value)
	}
}
