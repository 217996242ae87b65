//go:build conformance

package conformance

import (
	"encoding/binary"
	"strings"
)

// The protocol versions, as CONNECT names them.
const (
	v31  byte = 3
	v311 byte = 4
	v5   byte = 5
)

// The packet types, shifted left by four in the first byte.
const (
	tCONNECT byte = iota + 1
	tCONNACK
	tPUBLISH
	tPUBACK
	tPUBREC
	tPUBREL
	tPUBCOMP
	tSUBSCRIBE
	tSUBACK
	tUNSUBSCRIBE
	tUNSUBACK
	tPINGREQ
	tPINGRESP
	tDISCONNECT
	tAUTH
)

var typeNames = strings.Fields("RESERVED CONNECT CONNACK PUBLISH PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE UNSUBACK PINGREQ PINGRESP DISCONNECT AUTH")

// The properties of 5.0.
const (
	pPayloadFormat   byte = 0x01
	pMessageExpiry   byte = 0x02
	pContentType     byte = 0x03
	pResponseTopic   byte = 0x08
	pCorrelation     byte = 0x09
	pSubscriptionID  byte = 0x0B
	pSessionExpiry   byte = 0x11
	pAssignedID      byte = 0x12
	pServerKeepAlive byte = 0x13
	pAuthMethod      byte = 0x15
	pAuthData        byte = 0x16
	pProblemInfo     byte = 0x17
	pWillDelay       byte = 0x18
	pResponseInfoReq byte = 0x19
	pResponseInfo    byte = 0x1A
	pServerReference byte = 0x1C
	pReasonString    byte = 0x1F
	pReceiveMax      byte = 0x21
	pAliasMax        byte = 0x22
	pAlias           byte = 0x23
	pMaximumQoS      byte = 0x24
	pRetainAvailable byte = 0x25
	pUser            byte = 0x26
	pMaximumPacket   byte = 0x27
	pWildcards       byte = 0x28
	pSubIDs          byte = 0x29
	pShared          byte = 0x2A
)

func cat(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func raw(b ...byte) []byte { return b }

func u16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

func u32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// str is a length-prefixed field: a string, or binary data.
func str(s string) []byte { return append(u16(uint16(len(s))), s...) }

func varint(n int) []byte {
	var b []byte
	for {
		c := byte(n & 0x7f)
		if n >>= 7; n == 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

// frame puts the fixed header in front of a body.
func frame(first byte, body ...[]byte) []byte {
	b := cat(body...)
	return cat(raw(first), varint(len(b)), b)
}

func pByte(id, v byte) []byte          { return raw(id, v) }
func pU16(id byte, v uint16) []byte    { return cat(raw(id), u16(v)) }
func pU32(id byte, v uint32) []byte    { return cat(raw(id), u32(v)) }
func pVar(id byte, v int) []byte       { return cat(raw(id), varint(v)) }
func pStr(id byte, v string) []byte    { return cat(raw(id), str(v)) }
func pUserPair(key, val string) []byte { return cat(raw(pUser), str(key), str(val)) }
func properties(list ...[]byte) []byte { b := cat(list...); return cat(varint(len(b)), b) }
func ack(t byte, id uint16) []byte     { return frame(t<<4|ackFlags(t), u16(id)) }
func pingreq() []byte                  { return raw(tPINGREQ<<4, 0) }
func disconnect() []byte               { return raw(tDISCONNECT<<4, 0) }
func disconnectCode(code byte, props ...[]byte) []byte {
	return frame(tDISCONNECT<<4, raw(code), properties(props...))
}

// ackCode is the long form of an acknowledgement, of 5.0 only.
func ackCode(t byte, id uint16, code byte, props ...[]byte) []byte {
	return frame(t<<4|ackFlags(t), u16(id), raw(code), properties(props...))
}

func ackFlags(t byte) byte {
	if t == tPUBREL {
		return 2
	}
	return 0
}

// will is the will of a CONNECT.
type will struct {
	topic, payload string
	qos            byte
	retain         bool
	props          [][]byte // 5.0
}

// connect describes a CONNECT. The zero value is a clean one with an identifier of its own and no keep alive.
type connect struct {
	id        string // "": the case's next free one, unless noID
	noID      bool
	resume    bool   // clean start off
	expiry    uint32 // 5.0: seconds; put among the properties when not 0
	keepAlive uint16
	will      *will
	user      *string
	password  *string
	props     [][]byte // 5.0
	orFlags   byte     // wrong flags, set in addition
	payload   []byte   // in place of the payload, when not nil
}

func (c connect) bytes(v byte) []byte {
	flags := c.orFlags
	if !c.resume {
		flags |= 2
	}
	payload := str(c.id)
	if w := c.will; w != nil {
		flags |= 4 | w.qos<<3
		if w.retain {
			flags |= 0x20
		}
		if v == v5 {
			payload = append(payload, properties(w.props...)...)
		}
		payload = cat(payload, str(w.topic), str(w.payload))
	}
	if c.user != nil {
		flags |= 0x80
		payload = append(payload, str(*c.user)...)
	}
	if c.password != nil {
		flags |= 0x40
		payload = append(payload, str(*c.password)...)
	}
	if c.payload != nil {
		payload = c.payload
	}
	return frame(tCONNECT<<4, protocol(v), raw(flags), u16(c.keepAlive), c.properties(v), payload)
}

func (c connect) properties(v byte) []byte {
	if v < v5 {
		return nil
	}
	list := c.props
	if c.expiry > 0 {
		list = append([][]byte{pU32(pSessionExpiry, c.expiry)}, list...)
	}
	return properties(list...)
}

// protocol is the protocol name and level.
func protocol(v byte) []byte {
	if v == v31 {
		return cat(str("MQIsdp"), raw(v))
	}
	return cat(str("MQTT"), raw(v))
}

// message describes a PUBLISH from a client.
type message struct {
	topic, payload string
	qos            byte
	retain, dup    bool
	id             uint16 // 0: the client's next free one, when sent by client.publish
	props          [][]byte
}

func (m message) bytes(v byte) []byte {
	first := tPUBLISH<<4 | m.qos<<1
	if m.retain {
		first |= 1
	}
	if m.dup {
		first |= 8
	}
	body := str(m.topic)
	if m.qos > 0 {
		body = append(body, u16(m.id)...)
	}
	if v == v5 {
		body = append(body, properties(m.props...)...)
	}
	return frame(first, body, []byte(m.payload))
}

// filter is one entry of a SUBSCRIBE: the options byte is the quality of service, and in 5.0 the option bits too.
type filter struct {
	name    string
	options byte
}

// The option bits of a subscription in 5.0.
const (
	noLocal           byte = 1 << 2
	retainAsPublished byte = 1 << 3
	retainIfNew       byte = 1 << 4
	retainNever       byte = 2 << 4
)

func subscribe(v byte, id uint16, props [][]byte, filters ...filter) []byte {
	body := u16(id)
	if v == v5 {
		body = append(body, properties(props...)...)
	}
	for _, f := range filters {
		body = cat(body, str(f.name), raw(f.options))
	}
	return frame(tSUBSCRIBE<<4|2, body)
}

func unsubscribe(v byte, id uint16, names ...string) []byte {
	body := u16(id)
	if v == v5 {
		body = append(body, 0)
	}
	for _, n := range names {
		body = append(body, str(n)...)
	}
	return frame(tUNSUBSCRIBE<<4|2, body)
}
