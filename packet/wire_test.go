package packet

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestVarint(t *testing.T) {
	for _, c := range []struct {
		v int
		b []byte
	}{
		{0, []byte{0}}, {127, []byte{0x7F}}, {128, []byte{0x80, 1}}, {16_383, []byte{0xFF, 0x7F}},
		{16_384, []byte{0x80, 0x80, 1}}, {2_097_151, []byte{0xFF, 0xFF, 0x7F}},
		{2_097_152, []byte{0x80, 0x80, 0x80, 1}}, {MaxRemaining, []byte{0xFF, 0xFF, 0xFF, 0x7F}},
	} {
		if got := appendVarint(nil, c.v); !bytes.Equal(got, c.b) || len(got) != varintLen(c.v) {
			t.Errorf("%d: encoded %x, length %d; want %x", c.v, got, varintLen(c.v), c.b)
		}
		if v, used, err := varint(append(bytes.Clone(c.b), 0xAA)); v != c.v || used != len(c.b) || err != nil {
			t.Errorf("%x: got %d, %d, %v; want %d", c.b, v, used, err, c.v)
		}
		for i := range c.b {
			if _, used, err := varint(c.b[:i]); used != 0 || err != errShort {
				t.Errorf("%x cut to %d bytes: %d, %v", c.b, i, used, err)
			}
		}
	}
	for _, c := range []struct {
		b    []byte
		want error
	}{
		{[]byte{0x80, 0}, errMinimal}, {[]byte{0xFF, 0x80, 0}, errMinimal}, {[]byte{0x80, 0x80, 0x80, 0}, errMinimal},
		{[]byte{0x80, 0x80, 0x80, 0x80}, errVarint}, {[]byte{0xFF, 0xFF, 0xFF, 0xFF, 0x7F}, errVarint},
	} {
		if v, used, err := varint(c.b); used != 0 || err != c.want {
			t.Errorf("%x: got %d, %d, %v; want %v", c.b, v, used, err, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.IntRange(0, MaxRemaining).Draw(t, "v")
		if got, _, err := varint(appendVarint(nil, v)); got != v || err != nil {
			t.Fatalf("got %d, %v; want %d", got, err, v)
		}
	})
}

func TestValidString(t *testing.T) {
	for _, c := range []struct {
		s    string
		want bool
	}{
		{"", true}, {"a", true}, {"ü€😀", true}, {"\ufeffx", true}, {"\U0010ffff", true},
		{"\uffff", true}, {"\x01\x1f\x7f", true}, // advised against, not forbidden
		{"\x00", false}, {"a\x00", false}, {"\xff", false}, {"\xc0\x80", false}, {"\xe0\x80\x80", false},
		{"\xed\xa0\x80", false}, {"\xed\xbf\xbf", false}, {"\xf4\x90\x80\x80", false}, {"\xc3", false}, {"\xe2\x82", false},
		{"\x80", false}, {"\xf8\x88\x80\x80\x80", false},
	} {
		if got := validString([]byte(c.s)); got != c.want {
			t.Errorf("%q: %t, want %t", c.s, got, c.want)
		}
	}
}

// TestPlainASCII goes through each byte at each of the eight places.
func TestPlainASCII(t *testing.T) {
	for c := range 256 {
		want := c != 0 && c != '+' && c != '#' && c < 0x80
		for place := range 8 {
			for _, fill := range []byte{1, 'a', 0x7F, '*', '$', '"', ','} {
				b := bytes.Repeat([]byte{fill}, 8)
				b[place] = byte(c)
				if got := plainASCII(binary.LittleEndian.Uint64(b)); got != want {
					t.Fatalf("%x: %t, want %t", b, got, want)
				}
			}
		}
	}
}

// TestCheckTopic compares the fast check with the obvious one.
func TestCheckTopic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SliceOfN(rapid.SampledFrom([]byte("abcdefgh/////$ \x00+#\xc3\xa9\xed\xa0\x80\x7f\x01")), 0, 40).Draw(t, "topic")
		if rapid.Bool().Draw(t, "mostly good") {
			s = bytes.Map(func(r rune) rune {
				if r == utf8.RuneError || r == 0 {
					return 'x'
				}
				return r
			}, s)
		}
		want := error(nil)
		switch {
		case !utf8.Valid(s) || bytes.Contains(s, []byte{0}):
			want = errTopicUTF8
		case strings.ContainsAny(string(s), "+#"):
			want = errTopicWild
		}
		if got := checkTopic(s); got != want {
			t.Fatalf("%q: %v, want %v", s, got, want)
		}
	})
}

// TestReaderStaysBroken: after the first failure everything is zero and the first error stays.
func TestReaderStaysBroken(t *testing.T) {
	r := reader{b: []byte{0, 5, 'a'}}
	if b := r.binary(); b != nil || r.err != errShort {
		t.Fatalf("got %q, %v", b, r.err)
	}
	r.fail(errUTF8)
	if r.u8() != 0 || r.u16() != 0 || r.u32() != 0 || r.varint() != 0 || r.id() != 0 || len(r.text()) != 0 || len(r.take(0)) != 0 {
		t.Error("a broken reader reads")
	}
	if err := r.end(); err != errShort {
		t.Errorf("the error became %v", err)
	}
}

// TestLongFields: no field, however long, breaks the frame around it.
func TestLongFields(t *testing.T) {
	for _, c := range []string{"x", "é", "€", "😀"} {
		checkLongFields(t, strings.Repeat(c, maxField/len(c)+10))
	}
}

func checkLongFields(t *testing.T, long string) {
	t.Helper()
	data := []byte(long)
	user := []UserProperty{{long, long}}
	for _, p := range []Packet{
		&Connect{Version: V5, ClientID: long, HasUsername: true, Username: long, HasPassword: true, Password: data,
			Will:          &Will{Message: Message{Topic: long, Payload: data, Correlation: data}},
			HasAuthMethod: true, AuthMethod: long, AuthData: data, User: user},
		&Connack{ReasonString: long, AuthMethod: long, AuthData: data, User: user},
		&Ack{Kind: PUBACK, ID: 1, ReasonString: long, User: user},
		&Subscribe{ID: 1, SubID: 1 << 31, Filters: []Subscription{{Filter: long}}, User: user},
		&Suback{ID: 1, Codes: []Reason{0}, ReasonString: long},
		&Unsubscribe{ID: 1, Filters: []string{long}},
		&Unsuback{ID: 1, Codes: []Reason{0}, ReasonString: long},
		&Disconnect{ReasonString: long, ServerReference: long},
		&Auth{Method: long, Data: data},
	} {
		b := p.Append(nil, V5)
		q, n, err := Parse(b, 0, V5)
		if err != nil || n != len(b) || p.Length(V5) != len(b) {
			t.Errorf("%v: %d of %d bytes, Length %d, %v", p.Type(), n, len(b), p.Length(V5), err)
			continue
		}
		if again := q.Append(nil, V5); !bytes.Equal(again, b) {
			t.Errorf("%v: %d bytes became %d", p.Type(), len(b), len(again))
		}
		if u, ok := q.(*Unsubscribe); ok && (len(u.Filters[0]) <= maxField-4 || !strings.HasPrefix(long, u.Filters[0])) {
			t.Errorf("cut to %d bytes", len(u.Filters[0]))
		}
	}
}
