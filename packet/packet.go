package packet

import (
	"fmt"
	"strings"
)

// Version is the protocol level byte of CONNECT.
type Version uint8

// The versions this package speaks.
const (
	V31  Version = 3 // MQTT 3.1, protocol name MQIsdp
	V311 Version = 4 // MQTT 3.1.1
	V5   Version = 5 // MQTT 5.0
)

// String is the version's usual name, such as "3.1.1".
func (v Version) String() string {
	switch v {
	case V31:
		return "3.1"
	case V311:
		return "3.1.1"
	case V5:
		return "5.0"
	}
	return fmt.Sprintf("level %d", uint8(v))
}

// Type is the control packet type, the upper half of the first byte.
type Type uint8

// The control packet types. Zero is forbidden on the wire and means "none" in this module.
const (
	CONNECT     Type = 1
	CONNACK     Type = 2
	PUBLISH     Type = 3
	PUBACK      Type = 4
	PUBREC      Type = 5
	PUBREL      Type = 6
	PUBCOMP     Type = 7
	SUBSCRIBE   Type = 8
	SUBACK      Type = 9
	UNSUBSCRIBE Type = 10
	UNSUBACK    Type = 11
	PINGREQ     Type = 12
	PINGRESP    Type = 13
	DISCONNECT  Type = 14
	AUTH        Type = 15 // 5.0 only
)

// String is the name in the standard, such as "PUBLISH".
func (t Type) String() string {
	names := [...]string{
		"RESERVED", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
		"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
	}
	if int(t) < len(names) {
		return names[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// first is the first byte of a packet of this type: the type and the flags that the standard fixes for it.
func (t Type) first() byte {
	switch t {
	case PUBREL, SUBSCRIBE, UNSUBSCRIBE: // [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1]
		return byte(t)<<4 | 2
	}
	return byte(t) << 4
}

// QoS is the quality of service of a message: 0, 1 or 2.
type QoS uint8

// The three levels of service.
const (
	AtMostOnce  QoS = 0
	AtLeastOnce QoS = 1
	ExactlyOnce QoS = 2
)

// String is "q0", "q1" or "q2".
func (q QoS) String() string { return fmt.Sprintf("q%d", uint8(q)) }

// Packet is any control packet. The concrete types are pointers: *Connect, *Connack, *Publish, *Ack, *Subscribe,
// *Suback, *Unsubscribe, *Unsuback, *Pingreq, *Pingresp, *Disconnect, *Auth.
type Packet interface {
	// Type is the packet's type.
	Type() Type
	// Append appends the whole packet in the form of version v to dst and returns the longer slice. Strings and
	// binary fields beyond 65,535 bytes, which the wire cannot carry, are cut there.
	Append(dst []byte, v Version) []byte
	// Length is the number of bytes that Append would add.
	Length(v Version) int
	// String is one line for a person. It never shows a password or authentication data, and quotes all text.
	String() string
}

// parser is what the rare packets share; Parse dispatches on it.
type parser interface {
	Packet
	Parse(b []byte, hdr int, v Version) error
}

// Parse reads the packet at the front of b, of any type, in version v (a CONNECT brings its own and ignores v). n is
// the packet's length, or 0 with a nil Packet and a nil error while b does not hold the whole of it. A packet longer
// than max bytes is refused; max 0 is no limit beyond the protocol's own. Errors are *Error.
//
// A *Publish that comes back is a view of b; everything else is copied.
func Parse(b []byte, max int, v Version) (p Packet, n int, err error) {
	n, hdr, err := Frame(b, max)
	if n == 0 || err != nil {
		return nil, 0, err
	}
	q := blank(FrameType(b))
	if FrameType(b) == AUTH && v < V5 {
		return nil, 0, errAuthVersion
	}
	if err := q.Parse(b[:n:n], hdr, v); err != nil {
		return nil, 0, err
	}
	return q, n, nil
}

// blank makes an empty packet of a type that Frame has let through.
func blank(t Type) parser {
	switch t {
	case CONNECT:
		return new(Connect)
	case CONNACK:
		return new(Connack)
	case PUBLISH:
		return new(Publish)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		return new(Ack)
	case SUBSCRIBE:
		return new(Subscribe)
	case SUBACK:
		return new(Suback)
	case UNSUBSCRIBE:
		return new(Unsubscribe)
	case UNSUBACK:
		return new(Unsuback)
	case PINGREQ:
		return new(Pingreq)
	case PINGRESP:
		return new(Pingresp)
	case DISCONNECT:
		return new(Disconnect)
	}
	return new(Auth)
}

// line builds the String of a packet: words apart by single spaces.
type line struct{ strings.Builder }

func (l *line) add(format string, args ...any) {
	if l.Len() > 0 {
		l.WriteByte(' ')
	}
	fmt.Fprintf(l, format, args...)
}

// text adds name and quoted value unless the value is empty.
func (l *line) text(name, value string) {
	if value != "" {
		l.add("%s %q", name, value)
	}
}

// user adds the user properties.
func (l *line) user(u []UserProperty) {
	for _, p := range u {
		l.add("%q=%q", p.Key, p.Value)
	}
}

// bit is a flag as people write it.
func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
