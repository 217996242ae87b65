// Package ws is the WebSocket protocol (RFC 6455) of a server on byte slices: it opens the frames of a client in place,
// makes the headers of its own, and answers an upgrade. It does no I/O, holds no payload and knows only binary messages.
//
// Start with Reader.Open (frames in), AppendHeader (frames out) and Upgrade (the handshake).
package ws

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Opcodes of frames. [RFC 6455 5.2]
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

// Status codes of close frames. [RFC 6455 7.4.1]
const (
	StatusNormal      = 1000
	StatusGoingAway   = 1001
	StatusProtocol    = 1002
	StatusUnsupported = 1003
	StatusNoCode      = 1005 // never sent: the peer's close frame had none
	StatusInvalidData = 1007
	StatusPolicy      = 1008
)

// Error is a violation of the protocol by the client. Code is the status to close with.
type Error struct {
	Code uint16
	Text string
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("websocket: %s (%d)", e.Text, e.Code) }

// CloseError says that the client closed the connection, with this status and reason.
type CloseError struct {
	Code   uint16
	Reason string
}

// Error implements error.
func (e *CloseError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("websocket: closed by the client (%d)", e.Code)
	}
	return fmt.Sprintf("websocket: closed by the client (%d): %q", e.Code, e.Reason)
}

var (
	errReserved     = &Error{StatusProtocol, "reserved bit is set"}
	errOpcode       = &Error{StatusProtocol, "unknown opcode"}
	errUnmasked     = &Error{StatusProtocol, "frame is not masked"}
	errText         = &Error{StatusUnsupported, "text message, want binary"}
	errContinuation = &Error{StatusProtocol, "continuation of nothing"}
	errInterrupted  = &Error{StatusProtocol, "message begins inside of another"}
	errControlSize  = &Error{StatusProtocol, "control frame is too long"}
	errControlFin   = &Error{StatusProtocol, "control frame is fragmented"}
	errLength       = &Error{StatusProtocol, "length is not in its shortest form"}
	errLengthRange  = &Error{StatusProtocol, "length is out of range"}
	errCloseLength  = &Error{StatusProtocol, "close frame of one byte"}
	errCloseCode    = &Error{StatusProtocol, "invalid status in close frame"}
	errCloseReason  = &Error{StatusInvalidData, "reason in close frame is not UTF-8"}
	errFlood        = errors.New("websocket: reader used after its end")
)

// Reader opens the frames of a client. The zero value is ready for the first.
type Reader struct {
	left    uint64 // bytes of the payload still to come
	mask    [4]byte
	pos     uint8 // position of the next payload byte in mask
	op      uint8 // of the frame that is open
	open    bool  // a frame is open
	partial bool  // a message is open: its last frame had no FIN
	ended   bool

	n    uint8 // bytes in head
	head [14]byte
	ctl  []byte // payload of a control frame
}

// maxControl is the longest payload of a control frame. [RFC 6455 5.5]
const maxControl = 125

// Open unmasks the payload of the binary messages in b in place, packs it to the front of b and returns how many bytes it
// is. Frames may be cut anywhere. Pongs for the pings in b are appended to *out. On an error the b[:n] before it still
// counts and nothing after it is looked at: *Error is a violation, *CloseError the end that the client asked for.
func (r *Reader) Open(b []byte, out *[]byte) (n int, err error) {
	if r.ended {
		return 0, errFlood
	}
	for i := 0; ; {
		if !r.open {
			used, err := r.header(b[i:])
			if err != nil {
				r.ended = true
				return n, err
			}
			if i += used; !r.open {
				return n, nil
			}
		}
		k := len(b) - i
		if uint64(k) > r.left {
			k = int(r.left)
		}
		p := b[i : i+k]
		r.unmask(p)
		if r.op >= opClose {
			r.ctl = append(r.ctl, p...)
		} else {
			n += copy(b[n:], p)
		}
		i += k
		if r.left -= uint64(k); r.left > 0 {
			return n, nil
		}
		r.open = false
		if r.op >= opClose {
			if err = r.control(out); err != nil {
				r.ended = true
				return n, err
			}
		}
	}
}

// header takes what it can of a frame's header from b. When the header is whole it opens the frame.
func (r *Reader) header(b []byte) (used int, err error) {
	for {
		want := r.want()
		if int(r.n) == want {
			break
		}
		m := copy(r.head[r.n:want], b[used:])
		if m == 0 {
			return used, nil
		}
		r.n += uint8(m)
		used += m
		if r.n == 2 {
			if err = r.check(); err != nil {
				return used, err
			}
		}
	}
	switch l := r.head[1] & 0x7F; l {
	case 126:
		if r.left = uint64(binary.BigEndian.Uint16(r.head[2:])); r.left < 126 {
			return used, errLength
		}
	case 127:
		switch r.left = binary.BigEndian.Uint64(r.head[2:]); {
		case r.left < 1<<16:
			return used, errLength
		case r.left >= 1<<63: // [RFC 6455 5.2] the most significant bit MUST be 0
			return used, errLengthRange
		}
	default:
		r.left = uint64(l)
	}
	copy(r.mask[:], r.head[r.n-4:r.n])
	r.n, r.pos, r.open = 0, 0, true
	return used, nil
}

// want is how long the header is, as far as that is known.
func (r *Reader) want() int {
	if r.n < 2 {
		return 2
	}
	switch r.head[1] & 0x7F {
	case 126:
		return 8
	case 127:
		return 14
	}
	return 6
}

// check judges the first two bytes of a header.
func (r *Reader) check() error {
	fin, op, l := r.head[0]&0x80 != 0, r.head[0]&0x0F, r.head[1]&0x7F
	switch {
	case r.head[0]&0x70 != 0:
		return errReserved
	case r.head[1]&0x80 == 0: // [RFC 6455 5.1] a client MUST mask
		return errUnmasked
	}
	r.op = op
	switch op {
	case opContinuation:
		if !r.partial {
			return errContinuation
		}
		r.partial = !fin
	case opText, opBinary:
		if r.partial {
			return errInterrupted
		}
		if op == opText { // [MQTT-6.0.0-1] only binary frames
			return errText
		}
		r.partial = !fin
	case opClose, opPing, opPong:
		if !fin {
			return errControlFin
		}
		if l > maxControl {
			return errControlSize
		}
	default:
		return errOpcode
	}
	return nil
}

// control acts on a whole control frame.
func (r *Reader) control(out *[]byte) error {
	p := r.ctl
	r.ctl = r.ctl[:0]
	switch r.op {
	case opPing:
		*out = append(append(*out, 0x80|opPong, byte(len(p))), p...)
	case opClose:
		return closeError(p)
	}
	return nil
}

// closeError returns what a close frame with payload p says.
func closeError(p []byte) error {
	switch len(p) {
	case 0:
		return &CloseError{Code: StatusNoCode}
	case 1:
		return errCloseLength
	}
	code := binary.BigEndian.Uint16(p)
	if !validStatus(code) {
		return errCloseCode
	}
	if !utf8.Valid(p[2:]) {
		return errCloseReason
	}
	return &CloseError{Code: code, Reason: string(p[2:])}
}

// validStatus says whether a status may stand in a close frame. [RFC 6455 7.4]
func validStatus(code uint16) bool {
	switch {
	case code >= 3000 && code < 5000:
		return true
	case code < 1000 || code > 1014:
		return false
	}
	return code != 1004 && code != 1005 && code != 1006
}

// unmask takes the mask off p, the next bytes of the payload.
func (r *Reader) unmask(p []byte) {
	if len(p) == 0 {
		return
	}
	var m [8]byte
	for i := range m {
		m[i] = r.mask[(int(r.pos)+i)&3]
	}
	r.pos = uint8((int(r.pos) + len(p)) & 3)
	w := binary.LittleEndian.Uint64(m[:])
	for len(p) >= 8 {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^w)
		p = p[8:]
	}
	for i := range p {
		p[i] ^= m[i]
	}
}

// AppendHeader appends the header of a final binary frame of n bytes, unmasked as a server's are.
func AppendHeader(dst []byte, n int) []byte {
	dst = append(dst, 0x80|opBinary)
	switch {
	case n < 126:
		return append(dst, byte(n))
	case n < 1<<16:
		return append(dst, 126, byte(n>>8), byte(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, 127), uint64(n))
}

// AppendClose appends a close frame with a status; StatusNoCode makes an empty one.
func AppendClose(dst []byte, code uint16) []byte {
	if code == StatusNoCode {
		return append(dst, 0x80|opClose, 0)
	}
	return append(dst, 0x80|opClose, 2, byte(code>>8), byte(code))
}
