package packet

import (
	"bytes"
	"fmt"
	"testing"
)

var acks = []Type{PUBACK, PUBREC, PUBREL, PUBCOMP}

// TestAppendAck: the short way writes what the long way writes, and ParseAck reads it, for every code in every version.
func TestAppendAck(t *testing.T) {
	for _, kind := range acks {
		for _, v := range versions {
			for _, code := range standardReasons[kind] {
				for _, id := range []uint16{1, 0xFF, 0x100, 0xFFFF} {
					a := Ack{Kind: kind, ID: id, Code: code}
					got, want := AppendAck([]byte("front"), kind, v, id, code), a.Append([]byte("front"), v)
					if !bytes.Equal(got, want) {
						t.Fatalf("%v in %v: %x, want %x", &a, v, got, want)
					}
					b := got[len("front"):]
					n, hdr, err := Frame(b, 0)
					if err != nil || n != len(b) {
						t.Fatalf("%v in %v: frame %x: %d, %v", &a, v, b, n, err)
					}
					if v < V5 {
						code = Success
					}
					if gotID, gotCode, err := ParseAck(b, hdr, v); gotID != id || gotCode != code || err != nil {
						t.Fatalf("%x in %v: %d, %v, %v; want %d, %v", b, v, gotID, gotCode, err, id, code)
					}
				}
			}
		}
	}
}

// TestParseAck: the short way and the long way accept and refuse the same, with the same error.
func TestParseAck(t *testing.T) {
	bodies := []string{
		``, `00`, `0000`, `0001`, `0001 00`, `0001 10`, `0001 92`, `0001 7f`, `0001 ff`, `0000 00`, `0001 00 {}`, `0001 00 {} 00`,
		`0001 00 {1f "r"}`, `0001 00 {1f "r" 1f "r"}`, `0001 00 {26 "k" "v" 1f ""}`, `0001 00 {1f 0001}`, `0001 00 {1f 0001 ff}`,
		`0001 00 {11 00000000}`, `0001 00 05`, `0001 00 8000`, `0001 00 ffffffff7f`, `0001 92 {26 "k" "v" 26 "k" "v"}`,
	}
	for _, first := range []byte{0x40, 0x50, 0x62, 0x70} {
		for _, body := range bodies {
			b, err := assemble(fmt.Sprintf("%02x {%s}", first, body))
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range versions {
				id, code, err := ParseAck(b, 2, v)
				var a Ack
				long := a.Parse(b, 2, v)
				if fmt.Sprint(err) != fmt.Sprint(long) {
					t.Errorf("%x in %v: ParseAck %v, Ack.Parse %v", b, v, err, long)
				}
				if err == nil && (a.ID != id || a.Code != code || a.Kind != FrameType(b)) {
					t.Errorf("%x in %v: %d, %v; Ack %v", b, v, id, code, &a)
				}
				if err != nil && (id != 0 || code != 0) {
					t.Errorf("%x in %v: %d, %v with %v", b, v, id, code, err)
				}
			}
		}
	}
}
