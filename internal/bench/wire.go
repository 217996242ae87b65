//go:build linux

package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The packets that the generator knows, by the first byte without flags.
const (
	connect    = 0x10
	connack    = 0x20
	publish    = 0x30
	puback     = 0x40
	pubrec     = 0x50
	pubrel     = 0x60 // with the flags 0x02
	pubcomp    = 0x70
	subscribe  = 0x80 // with the flags 0x02
	suback     = 0x90
	disconnect = 0xe0
)

// v5 is the protocol level of MQTT 5.0; v311 that of 3.1.1.
const (
	v311 = 4
	v5   = 5
)

var errCut = errors.New("packet is cut")

// frame finds the packet at the front of b: its whole length and the length of its fixed header. n is 0 if it is not
// whole yet.
func frame(b []byte) (n, hdr int, err error) {
	if len(b) < 2 {
		return 0, 0, nil
	}
	length, hdr, err := varint(b[1:])
	if errors.Is(err, errCut) {
		return 0, 0, nil
	}
	hdr++
	if err != nil || len(b) < hdr+length {
		return 0, hdr, err
	}
	return hdr + length, hdr, nil
}

// varint reads a variable byte integer and tells how many bytes it takes.
func varint(b []byte) (v, n int, err error) {
	for i := 0; i < 4; i++ {
		if i == len(b) {
			return 0, 0, errCut
		}
		v |= int(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return v, i + 1, nil
		}
	}
	return 0, 0, errors.New("variable byte integer of more than four bytes")
}

func appendVarint(dst []byte, v int) []byte {
	for v > 0x7f {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

func appendString(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

// appendPacket adds a packet of the given first byte around body.
func appendPacket(dst []byte, first byte, body []byte) []byte {
	return append(appendVarint(append(dst, first), len(body)), body...)
}

// appendConnect adds a CONNECT without keep alive. keep asks for a session that outlives the connection for good, and
// for the one that is there; without it the start is clean, and the session ends with the connection.
func appendConnect(dst []byte, version byte, id string, keep bool) []byte {
	body := appendString(nil, "MQTT")
	flags := byte(0x02)
	if keep {
		flags = 0
	}
	body = append(body, version, flags, 0, 0)
	switch {
	case version == v5 && keep:
		body = append(body, 5, 0x11, 0xff, 0xff, 0xff, 0xff) // Session Expiry Interval
	case version == v5:
		body = append(body, 0)
	}
	return appendPacket(dst, connect, appendString(body, id))
}

// appendSubscribe adds a SUBSCRIBE of all filters at one QoS.
func appendSubscribe(dst []byte, version byte, id uint16, qos byte, filters ...string) []byte {
	body := binary.BigEndian.AppendUint16(nil, id)
	if version == v5 {
		body = append(body, 0)
	}
	for _, f := range filters {
		body = append(appendString(body, f), qos)
	}
	return appendPacket(dst, subscribe|2, body)
}

// appendAck adds a PUBACK, PUBREC, PUBREL or PUBCOMP in its short form, which means success in every version.
func appendAck(dst []byte, first byte, id uint16) []byte {
	return append(dst, first, 2, byte(id>>8), byte(id))
}

// refusal reads the code of a CONNACK, SUBACK or acknowledgement and returns an error if it is one of failure.
func refusal(b []byte, hdr int, version byte) error {
	body := b[hdr:]
	first := b[0] & 0xf0
	switch first {
	case connack:
		if len(body) < 2 {
			return errCut
		}
		if body[1] != 0 {
			return fmt.Errorf("CONNACK with code %#x", body[1])
		}
		return nil
	case suback:
		at := 2
		if version == v5 {
			if len(body) < 3 {
				return errCut
			}
			n, used, err := varint(body[2:])
			if err != nil {
				return err
			}
			at += used + n
		}
		if len(body) <= at {
			return errCut
		}
		for _, code := range body[at:] {
			if code >= 0x80 {
				return fmt.Errorf("SUBACK with code %#x", code)
			}
		}
		return nil
	case puback, pubrec, pubrel, pubcomp:
		if len(body) < 2 {
			return errCut
		}
		if len(body) > 2 && body[2] >= 0x80 {
			return fmt.Errorf("acknowledgement %#x with code %#x", first, body[2])
		}
		return nil
	}
	return nil
}

// stamp is what stands at the front of every payload.
type stamp struct {
	pub  uint32 // which publisher
	slot uint16 // of the publisher's window
	seq  uint64 // counts the publisher's messages, from 0
	due  int64  // when it was due to be sent, in nanoseconds of the generator's clock
}

// stampSize is the least payload.
const stampSize = 4 + 2 + 8 + 8

func (s stamp) put(b []byte) {
	binary.LittleEndian.PutUint32(b, s.pub)
	binary.LittleEndian.PutUint16(b[4:], s.slot)
	binary.LittleEndian.PutUint64(b[6:], s.seq)
	binary.LittleEndian.PutUint64(b[14:], uint64(s.due))
}

func readStamp(b []byte) (s stamp, err error) {
	if len(b) < stampSize {
		return s, fmt.Errorf("payload of %d bytes is too short for a stamp", len(b))
	}
	return stamp{
		pub:  binary.LittleEndian.Uint32(b),
		slot: binary.LittleEndian.Uint16(b[4:]),
		seq:  binary.LittleEndian.Uint64(b[6:]),
		due:  int64(binary.LittleEndian.Uint64(b[14:])),
	}, nil
}

// template is a PUBLISH that is complete but for the packet identifier and the stamp.
type template struct {
	b     []byte
	idAt  int // 0 at QoS 0
	stamp int
}

func newTemplate(version, qos byte, topic string, payload int) template {
	body := appendString(nil, topic)
	idAt := 0
	if qos > 0 {
		idAt = len(body)
		body = append(body, 0, 0)
	}
	if version == v5 {
		body = append(body, 0)
	}
	at := len(body)
	body = append(body, make([]byte, max(payload, stampSize))...)
	for i := at + stampSize; i < len(body); i++ {
		body[i] = byte('a' + i%26)
	}
	b := appendPacket(nil, publish|qos<<1, body)
	hdr := len(b) - len(body)
	if qos > 0 {
		idAt += hdr
	}
	return template{b: b, idAt: idAt, stamp: hdr + at}
}

// appendTo adds the message to dst.
func (t *template) appendTo(dst []byte, id uint16, s stamp) []byte {
	at := len(dst)
	dst = append(dst, t.b...)
	if t.idAt > 0 {
		binary.BigEndian.PutUint16(dst[at+t.idAt:], id)
	}
	s.put(dst[at+t.stamp:])
	return dst
}

// readPublish takes a PUBLISH apart; b is exactly one packet.
func readPublish(b []byte, hdr int, version byte) (qos byte, id uint16, payload []byte, err error) {
	qos = b[0] >> 1 & 3
	body := b[hdr:]
	if len(body) < 2 {
		return 0, 0, nil, errCut
	}
	at := 2 + int(binary.BigEndian.Uint16(body))
	if qos > 0 {
		if len(body) < at+2 {
			return 0, 0, nil, errCut
		}
		id = binary.BigEndian.Uint16(body[at:])
		at += 2
	}
	if version == v5 {
		if len(body) < at {
			return 0, 0, nil, errCut
		}
		n, used, err := varint(body[at:])
		if err != nil {
			return 0, 0, nil, err
		}
		at += used + n
	}
	if len(body) < at {
		return 0, 0, nil, errCut
	}
	return qos, id, body[at:], nil
}
