package packet

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write what Parse makes of testdata/packets.txt into it")

const goldenFile = "testdata/packets.txt"

// golden is one line of testdata/packets.txt.
type golden struct {
	line  int
	left  string // version and bytes as they stand in the file
	v     Version
	b     []byte
	arrow string
	want  string
}

var versions = []Version{V31, V311, V5}

// goldens reads the file; other tests take their packets from it, too.
func goldens(tb testing.TB) (all []golden, lines []string) {
	tb.Helper()
	text, err := os.ReadFile(goldenFile)
	if err != nil {
		tb.Fatal(err)
	}
	lines = strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	for i, l := range lines {
		if l == "" || l[0] == '#' {
			continue
		}
		g := golden{line: i}
		for _, arrow := range []string{"=>", "~>", "!>"} {
			if left, want, ok := strings.Cut(l, arrow); ok {
				g.left, g.arrow, g.want = strings.TrimSpace(left), arrow, strings.TrimSpace(want)
				break
			}
		}
		version, code, ok := strings.Cut(g.left, " ")
		for _, v := range versions {
			if v.String() == version {
				g.v = v
			}
		}
		g.b, err = assemble(code)
		if !ok || g.v == 0 || err != nil {
			tb.Fatalf("%s:%d: not a line of packets (%v): %s", goldenFile, i+1, err, l)
		}
		all = append(all, g)
	}
	return all, lines
}

// assemble turns the notation of testdata/packets.txt into bytes.
func assemble(s string) ([]byte, error) {
	stack := [][]byte{nil}
	put := func(b ...byte) { stack[len(stack)-1] = append(stack[len(stack)-1], b...) }
	for s = strings.TrimLeft(s, " "); s != ""; s = strings.TrimLeft(s, " ") {
		switch c := s[0]; c {
		case '"', '\'':
			text, rest, ok := strings.Cut(s[1:], string(c))
			if !ok {
				return nil, errors.New("text without end")
			}
			if c == '"' {
				put(byte(len(text)>>8), byte(len(text)))
			}
			put([]byte(text)...)
			s = rest
		case '{':
			stack = append(stack, nil)
			s = s[1:]
		case '}':
			if len(stack) == 1 {
				return nil, errors.New("} without {")
			}
			inner := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			put(appendVarint(nil, len(inner))...)
			put(inner...)
			s = s[1:]
		default:
			n := strings.IndexAny(s, " {}\"'")
			if n < 0 {
				n = len(s)
			}
			b, err := hex.DecodeString(s[:n])
			if err != nil {
				return nil, err
			}
			put(b...)
			s = s[n:]
		}
	}
	if len(stack) != 1 {
		return nil, errors.New("{ without }")
	}
	return stack[0], nil
}

func TestPackets(t *testing.T) {
	all, lines := goldens(t)
	for _, g := range all {
		p, n, err := Parse(g.b, 0, g.v)
		got, arrow := "", "!>"
		switch {
		case err != nil:
			got = err.Error()
			var e *Error
			if !errors.As(err, &e) || !e.Code.Failed() || e.Text == "" {
				t.Errorf("line %d: %#v is no *Error with a code and a text", g.line+1, err)
			}
			if p != nil || n != 0 {
				t.Errorf("line %d: a packet (%v, %d) and an error", g.line+1, p, n)
			}
		case n != len(g.b):
			t.Errorf("line %d: Parse took %d of %d bytes", g.line+1, n, len(g.b))
			continue
		default:
			got, arrow = p.String(), "=>"
			again := p.Append(nil, g.v)
			if len(again) != p.Length(g.v) {
				t.Errorf("line %d: Length %d, Append %d bytes", g.line+1, p.Length(g.v), len(again))
			}
			if !bytes.Equal(again, g.b) {
				arrow = "~>"
			}
			if p.Type() != FrameType(g.b) {
				t.Errorf("line %d: Type %v, want %v", g.line+1, p.Type(), FrameType(g.b))
			}
		}
		if *rewrite {
			lines[g.line] = strings.TrimSpace(lines[g.line][:strings.Index(lines[g.line], g.arrow)]) + " " + arrow + " " + got
			continue
		}
		if got != g.want || arrow != g.arrow {
			t.Errorf("line %d: %s\n got %s %s\nwant %s %s", g.line+1, g.left, arrow, got, g.arrow, g.want)
		}
	}
	if *rewrite {
		if err := os.WriteFile(goldenFile, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCut: a packet that is not whole yet is waited for at every byte; one that claims to be whole where it is not
// is an error or a shorter packet, and never a panic.
func TestCut(t *testing.T) {
	all, _ := goldens(t)
	for _, g := range all {
		if g.arrow == "!>" {
			continue
		}
		for i := range g.b {
			if p, n, err := Parse(g.b[:i], 0, g.v); p != nil || n != 0 || err != nil {
				t.Fatalf("line %d: the first %d bytes: %v, %d, %v; want to be asked for more", g.line+1, i, p, n, err)
			}
		}
		_, hdr, err := Frame(g.b, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i := range len(g.b) - hdr {
			b := append(appendVarint([]byte{g.b[0]}, i), g.b[hdr:hdr+i]...)
			checkPacket(t, b, g.v)
		}
	}
}

// TestTrailing: a byte behind the last field is refused in every packet that has a last field.
func TestTrailing(t *testing.T) {
	all, _ := goldens(t)
	for _, g := range all {
		switch FrameType(g.b) {
		case PUBLISH, SUBACK, UNSUBACK: // a payload or a list up to the end
			continue
		}
		_, hdr, err := Frame(g.b, 0)
		if g.arrow == "!>" || err != nil || g.v == V5 && len(g.b) < hdr+4 {
			continue // the shortest forms leave fields out: a byte more is the next field
		}
		if g.v == V31 && FrameType(g.b) == CONNECT && g.arrow == "~>" {
			continue
		}
		b := append(appendVarint([]byte{g.b[0]}, len(g.b)-hdr+1), g.b[hdr:]...)
		if p, _, err := Parse(append(b, 0), 0, g.v); err == nil {
			t.Errorf("line %d: %v although there is a byte more", g.line+1, p)
		}
	}
}

// checkPacket holds whatever Parse makes of b to its promises: an error, or a packet that Append and Parse bring back.
func checkPacket(tb testing.TB, b []byte, v Version) {
	tb.Helper()
	p, n, err := Parse(b, 0, v)
	if err != nil {
		var e *Error
		if !errors.As(err, &e) || !e.Code.Failed() {
			tb.Fatalf("%x: %v is no *Error with a failure", b, err)
		}
		return
	}
	if p == nil {
		return
	}
	if c, ok := p.(*Connect); ok {
		v = c.Version
	}
	if p.String() == "" {
		tb.Fatalf("%x: empty String", b[:n])
	}
	again := p.Append([]byte{0xAA}, v)
	if again[0] != 0xAA || len(again)-1 != p.Length(v) {
		tb.Fatalf("%x: Append gave %x, Length %d", b[:n], again, p.Length(v))
	}
	q, m, err := Parse(again[1:], 0, v)
	if err != nil || m != len(again)-1 {
		tb.Fatalf("%x: %v appended as %x does not parse: %d bytes, %v", b[:n], p, again[1:], m, err)
	}
	if got, want := fmt.Sprintf("%#v", plain(q)), fmt.Sprintf("%#v", plain(p)); got != want {
		tb.Fatalf("%x: came back as\n%s\nwant\n%s", b[:n], got, want)
	}
}

// plain is what a packet says, without where in a buffer it says so.
func plain(p Packet) any {
	switch x := p.(type) {
	case *Publish:
		return plainPublish(x)
	case *Connack:
		type values struct {
			Connack
			numbers string
		}
		y := values{Connack: *x, numbers: x.String()}
		y.SessionExpiry, y.ReceiveMax, y.MaxQoS, y.MaxPacket, y.AliasMax, y.ServerKeepAlive = nil, nil, nil, nil, nil, nil
		y.RetainAvailable, y.WildcardAvailable, y.SubIDAvailable, y.SharedAvailable = nil, nil, nil, nil
		return y
	case *Connect:
		type values struct {
			Connect
			will Will
		}
		y := values{Connect: *x}
		if x.Will != nil {
			y.will, y.Will = *x.Will, nil
		}
		return y
	}
	return p
}

// plainPub is everything a PUBLISH says.
type plainPub struct {
	Message
	dup    bool
	id     uint16
	alias  uint16
	subIDs []uint32
}

func plainPublish(p *Publish) plainPub {
	return plainPub{*p.Message(), p.Dup(), p.ID, p.Alias, p.SubIDs(nil)}
}
