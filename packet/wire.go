package packet

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
	"unsafe"
)

// maxField is the longest string or binary field: its length has two bytes.
const maxField = 65_535

// varint reads the variable byte integer at the front of b. used is 0 if there is none: errShort if b ends inside it,
// another error if no bytes to come can mend it.
func varint(b []byte) (v, used int, err error) {
	for i := range 4 {
		if i >= len(b) {
			return 0, 0, errShort
		}
		v |= int(b[i]&0x7F) << (7 * i)
		if b[i] < 0x80 {
			if b[i] == 0 && i > 0 {
				return 0, 0, errMinimal // [MQTT-1.5.5-1]
			}
			return v, i + 1, nil
		}
	}
	return 0, 0, errVarint
}

// varintLen is the number of bytes appendVarint adds.
func varintLen(v int) int {
	switch {
	case v < 1<<7:
		return 1
	case v < 1<<14:
		return 2
	case v < 1<<21:
		return 3
	}
	return 4
}

// appendVarint appends v, at most MaxRemaining, as a variable byte integer.
func appendVarint(dst []byte, v int) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

// validString says whether b may stand in a UTF-8 encoded string: well-formed, without surrogates and without U+0000.
// U+FEFF and the other code points that the standard merely advises against pass.
func validString(b []byte) bool {
	return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0 // [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-1.5.4-3]
}

// bytesOf is s without a copy, only to be read.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

const (
	each   = 0x0101010101010101 // times c: c in each byte
	top    = 0x80 * each
	sevens = 0x7F * each
)

// plainASCII says whether none of the eight bytes is beyond ASCII, zero, '+' or '#'. Adding 0x7F to a byte below 0x80
// sets its top bit unless the byte is zero; '+' (0x2B) and '#' (0x23) differ in one bit only.
func plainASCII(x uint64) bool {
	wild := (x | 0x08*each) ^ 0x2B*each
	return x&top == 0 && (x+sevens)&(wild&sevens+sevens)&top == top
}

// checkTopic judges a topic name's characters: nil, errTopicUTF8 or errTopicWild. Names are mostly short and ASCII, so
// it looks at eight bytes at a time and goes byte by byte only where something is odd.
func checkTopic(b []byte) error {
	if len(b) >= 8 {
		for i := 0; i+8 <= len(b); i += 8 {
			if !plainASCII(binary.LittleEndian.Uint64(b[i:])) {
				return checkTopicSlow(b)
			}
		}
		if !plainASCII(binary.LittleEndian.Uint64(b[len(b)-8:])) {
			return checkTopicSlow(b)
		}
		return nil
	}
	for _, c := range b {
		if c == 0 || c == '+' || c == '#' || c >= 0x80 {
			return checkTopicSlow(b)
		}
	}
	return nil
}

func checkTopicSlow(b []byte) error {
	if !validString(b) {
		return errTopicUTF8
	}
	if bytes.IndexByte(b, '+') >= 0 || bytes.IndexByte(b, '#') >= 0 {
		return errTopicWild // [MQTT-3.3.2-2]
	}
	return nil
}

// reader takes fields off the front of b. The first failure stays in err, and every field after it is zero, so a
// packet is read in one go and the error looked at once.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err, r.b = err, nil
	}
}

// take is the next n bytes, still part of the buffer.
func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.fail(errShort)
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u8() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) varint() int {
	if r.err != nil {
		return 0
	}
	v, used, err := varint(r.b)
	if err != nil {
		r.fail(err)
		return 0
	}
	r.b = r.b[used:]
	return v
}

// binary is the next length-prefixed field, still part of the buffer.
func (r *reader) binary() []byte { return r.take(int(r.u16())) }

// text is the next UTF-8 string, still part of the buffer.
func (r *reader) text() []byte {
	b := r.binary()
	if !validString(b) {
		r.fail(errUTF8)
		return nil
	}
	return b
}

// id is a packet identifier, which is never zero.
func (r *reader) id() uint16 {
	id := r.u16()
	if id == 0 {
		r.fail(errZeroID) // [MQTT-2.2.1-3]
	}
	return id
}

// end is the error of the whole packet: the first failure, or bytes that nothing has read.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		return errTrailing
	}
	return r.err
}

// clone copies a field out of the buffer. The result is never nil, so that a field that is there and empty differs
// from one that is absent.
func clone(b []byte) []byte { return append(make([]byte, 0, len(b)), b...) }

// body is a packet that writes what follows its fixed header.
type body interface{ body(w *writer, v Version) }

// writer appends fields to b, or only counts their bytes in n. The same code does both, so that lengths cannot
// disagree with contents.
type writer struct {
	b     []byte
	n     int
	count bool
}

// lengthOf is the length of the whole packet.
func lengthOf(p body, v Version) int {
	w := writer{count: true}
	p.body(&w, v)
	return 1 + varintLen(w.n) + w.n
}

// appendTo appends the whole packet.
func appendTo(dst []byte, first byte, p body, v Version) []byte {
	size := writer{count: true}
	p.body(&size, v)
	w := writer{b: appendVarint(append(dst, first), size.n)}
	p.body(&w, v)
	return w.b
}

func (w *writer) u8(v byte) {
	w.n++
	if !w.count {
		w.b = append(w.b, v)
	}
}

func (w *writer) u16(v uint16) {
	w.n += 2
	if !w.count {
		w.b = binary.BigEndian.AppendUint16(w.b, v)
	}
}

func (w *writer) u32(v uint32) {
	w.n += 4
	if !w.count {
		w.b = binary.BigEndian.AppendUint32(w.b, v)
	}
}

func (w *writer) varint(v int) {
	w.n += varintLen(v)
	if !w.count {
		w.b = appendVarint(w.b, v)
	}
}

// text writes a length-prefixed string. One that is too long is cut between two characters.
func (w *writer) text(s string) {
	if len(s) > maxField {
		n := maxField
		for n > maxField-utf8.UTFMax && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	w.u16(uint16(len(s)))
	w.n += len(s)
	if !w.count {
		w.b = append(w.b, s...)
	}
}

// binary writes a length-prefixed field.
func (w *writer) binary(b []byte) {
	b = b[:min(len(b), maxField)]
	w.u16(uint16(len(b)))
	w.n += len(b)
	if !w.count {
		w.b = append(w.b, b...)
	}
}
