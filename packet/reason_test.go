package packet

import (
	"fmt"
	"slices"
	"testing"
)

// standardReasons is table 2-6 of the standard by packet, typed off it and not derived from the code.
var standardReasons = map[Type][]Reason{
	CONNACK: {0, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B,
		0x9C, 0x9D, 0x9F},
	PUBACK:   {0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
	PUBREC:   {0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
	PUBREL:   {0, 0x92},
	PUBCOMP:  {0, 0x92},
	SUBACK:   {0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
	UNSUBACK: {0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
	DISCONNECT: {0, 4, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98,
		0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2},
	AUTH: {0, 0x18, 0x19},
}

// TestReasonPlaces tries all 256 codes in all packets, by the table and by the parser.
func TestReasonPlaces(t *testing.T) {
	forms := map[Type]string{
		CONNACK: `20 {00 %02x {}}`, PUBACK: `40 {0005 %02x}`, PUBREC: `50 {0005 %02x {}}`, PUBREL: `62 {0005 %02x}`,
		PUBCOMP: `70 {0005 %02x {}}`, SUBACK: `90 {0005 {} 00 %02x}`, UNSUBACK: `b0 {0005 {} %02x 00}`,
		DISCONNECT: `e0 {%02x}`, AUTH: `f0 {%02x {15 "m"}}`,
	}
	for p := CONNECT; p <= AUTH; p++ {
		for code := range 256 {
			r := Reason(code)
			want := slices.Contains(standardReasons[p], r)
			if r.Allowed(p) != want {
				t.Errorf("%v.Allowed(%v) = %t", r, p, !want)
			}
			form, ok := forms[p]
			if !ok {
				continue
			}
			b, err := assemble(fmt.Sprintf(form, code))
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := Parse(b, 0, V5); (err == nil) != want {
				t.Errorf("%v with code 0x%02X: %v", p, code, err)
			}
		}
	}
}

func TestReasonNames(t *testing.T) {
	for _, c := range []struct {
		r    Reason
		want string
	}{
		{Success, "Success (0x00)"}, {MalformedPacket, "Malformed packet (0x81)"}, {GrantedQoS2, "Granted QoS 2 (0x02)"},
		{WildcardSubscriptionsNotSupported, "Wildcard subscriptions not supported (0xA2)"},
		{3, "Unknown reason (0x03)"}, {0xFF, "Unknown reason (0xFF)"},
	} {
		if got := c.r.String(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	for code := range 256 {
		if r := Reason(code); r.Failed() != (code >= 128) {
			t.Errorf("%v.Failed() = %t", r, r.Failed())
		}
	}
}

// TestReturnCode: every reason a server may refuse a client with, and what is left of it below 5.0.
func TestReturnCode(t *testing.T) {
	want := map[Reason]int{
		0: 0, 0x84: 1, 0x85: 2, 0x88: 3, 0x89: 3, 0x97: 3, 0x9C: 3, 0x9D: 3, 0x9F: 3, 0x86: 4, 0x87: 5, 0x8A: 5, 0x8C: 5,
	}
	for code := range 256 {
		r := Reason(code)
		got, ok := r.ReturnCode()
		w, known := want[r]
		if ok != known || int(got) != w {
			t.Errorf("%v: %d, %t; want %d, %t", r, got, ok, w, known)
		}
		b := (&Connack{Code: r}).Append(nil, V311)
		if known && int(b[3]) != w || !known && b[3] != 3 {
			t.Errorf("%v: CONNACK %x", r, b)
		}
	}
	for code, r := range returnCodes {
		if got, ok := r.ReturnCode(); !ok || int(got) != code {
			t.Errorf("return code %d is read as %v, which is written as %d", code, r, got)
		}
	}
}
