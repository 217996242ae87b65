package packet

import (
	"bytes"
	"errors"
	"testing"
)

func TestFrame(t *testing.T) {
	long := func(n int) []byte { return append(appendVarint([]byte{0x30}, n), make([]byte, n)...) }
	for _, c := range []struct {
		name   string
		b      []byte
		max    int
		n, hdr int
		code   Reason // Success: no error
	}{
		{"nothing", nil, 0, 0, 0, Success},
		{"first byte", []byte{0xC0}, 0, 0, 0, Success},
		{"first byte wrong", []byte{0xC1}, 0, 0, 0, MalformedPacket},
		{"whole", []byte{0xC0, 0}, 0, 2, 2, Success},
		{"two packets", []byte{0xC0, 0, 0xD0, 0}, 0, 2, 2, Success},
		{"a byte short", []byte{0x40, 2, 0}, 0, 0, 0, Success},
		{"at the limit", long(10), 12, 12, 2, Success},
		{"beyond the limit", long(11), 12, 0, 0, PacketTooLarge},
		{"beyond the limit, body not there", long(11)[:2], 12, 0, 0, PacketTooLarge},
		{"longest one-byte length", long(127), 0, 129, 2, Success},
		{"shortest two-byte length", long(128), 0, 131, 3, Success},
		{"two-byte length not whole", long(128)[:2], 0, 0, 0, Success},
		{"longest two-byte length", long(16_383), 0, 16_386, 3, Success},
		{"shortest three-byte length", long(16_384), 0, 16_388, 4, Success},
		{"longest three-byte length", long(2_097_151), 0, 2_097_155, 4, Success},
		{"shortest four-byte length", long(2_097_152), 0, 2_097_157, 5, Success},
		{"longest length, no limit", []byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F}, 0, 0, 0, Success},
		{"longest length, largest limit", []byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F}, MaxSize, 0, 0, Success},
		{"longest length, limit", []byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F}, MaxSize - 1, 0, 0, PacketTooLarge},
		{"five-byte length, four there", []byte{0x30, 0xFF, 0xFF, 0xFF, 0xFF}, 10, 0, 0, MalformedPacket},
		{"three continuation bytes", []byte{0x30, 0x80, 0x80, 0x80}, 10, 0, 0, Success},
		{"not the shortest form", []byte{0x30, 0x85, 0x00}, 10, 0, 0, MalformedPacket},
	} {
		n, hdr, err := Frame(c.b, c.max)
		var e *Error
		code := Success
		if errors.As(err, &e) {
			code = e.Code
		}
		if n != c.n || hdr != c.hdr || code != c.code {
			t.Errorf("%s: got %d, %d, %v; want %d, %d, %v", c.name, n, hdr, err, c.n, c.hdr, c.code)
		}
	}
}

// TestFirstByte goes through all first bytes. [MQTT-2.1.3-1] [MQTT3-2.2.2-2]
func TestFirstByte(t *testing.T) {
	good := map[byte]bool{}
	for _, b := range []byte{
		0x10, 0x20, 0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xA2, 0xB0, 0xC0, 0xD0, 0xE0, 0xF0,
		0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x3A, 0x3B, 0x3C, 0x3D,
	} {
		good[b] = true
	}
	for i := range 256 {
		_, _, err := Frame([]byte{byte(i)}, 0)
		if (err == nil) != good[byte(i)] {
			t.Errorf("first byte %02x: %v, want accepted: %t", i, err, good[byte(i)])
		}
	}
}

// TestFrameByByte: the answer does not depend on how the bytes arrive.
func TestFrameByByte(t *testing.T) {
	all, _ := goldens(t)
	for _, g := range all {
		n, hdr, err := Frame(g.b, 0)
		for i := range g.b {
			in, ih, ierr := Frame(g.b[:i], 0)
			if ierr != nil && !errors.Is(ierr, err) {
				t.Fatalf("line %d: %d bytes give %v, all of them %v", g.line+1, i, ierr, err)
			}
			if ierr == nil && (in != 0 || ih != 0) {
				t.Fatalf("line %d: whole after %d bytes", g.line+1, i)
			}
		}
		if more, mh, merr := Frame(append(bytes.Clone(g.b), 0xFF), 0); more != n || mh != hdr || merr != err {
			t.Fatalf("line %d: with a byte behind it: %d, %d, %v; want %d, %d, %v", g.line+1, more, mh, merr, n, hdr, err)
		}
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{V31.String(), "3.1"}, {V311.String(), "3.1.1"}, {V5.String(), "5.0"}, {Version(9).String(), "level 9"},
		{CONNECT.String(), "CONNECT"}, {AUTH.String(), "AUTH"}, {Type(0).String(), "RESERVED"}, {Type(16).String(), "type 16"},
		{ExactlyOnce.String(), "q2"},
		{PropReceiveMaximum.String(), "Receive Maximum"}, {PropID(0).String(), "property 0x00"},
		{PropID(0x04).String(), "property 0x04"}, {PropID(0xFF).String(), "property 0xFF"},
		{(&Error{TopicNameInvalid, "topic: wildcard"}).Error(), "topic: wildcard: topic name invalid (0x90)"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}
