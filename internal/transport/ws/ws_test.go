package ws

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// frame makes a client's frame; first is its first byte.
func frame(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = append(b, 0x80|126, byte(n>>8), byte(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := [4]byte{0xA1, 0xB2, 0xC3, byte(len(payload))}
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i&3])
	}
	return b
}

func join(bs ...[]byte) []byte { return bytes.Join(bs, nil) }

// openAll opens b in the pieces that cut gives.
func openAll(b []byte, cut func() int) (plain, out []byte, err error) {
	var r Reader
	for len(b) > 0 && err == nil {
		piece := bytes.Clone(b[:min(cut(), len(b))])
		b = b[len(piece):]
		var n int
		n, err = r.Open(piece, &out)
		plain = append(plain, piece[:n]...)
	}
	return plain, out, err
}

func TestOpen(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 5000)
	for _, x := range []struct {
		name       string
		in         []byte
		plain, out string
		err        string // part of it
	}{
		{"nothing", nil, "", "", ""},
		{"one", frame(0x82, []byte("hello")), "hello", "", ""},
		{"empty", frame(0x82, nil), "", "", ""},
		{"two", join(frame(0x82, []byte("ab")), frame(0x82, []byte("cd"))), "abcd", "", ""},
		{"125, 126, 65536 bytes", join(frame(0x82, big[:125]), frame(0x82, big[:126]), frame(0x82, big[:65536])), string(join(big[:125], big[:126], big[:65536])), "", ""},
		{"fragments", join(frame(0x02, []byte("a")), frame(0x00, []byte("b")), frame(0x00, nil), frame(0x80, []byte("c"))), "abc", "", ""},
		{"ping between fragments", join(frame(0x02, []byte("a")), frame(0x89, []byte("P")), frame(0x80, []byte("b"))), "ab", "\x8a\x01P", ""},
		{"empty ping", frame(0x89, nil), "", "\x8a\x00", ""},
		{"longest ping", frame(0x89, big[:125]), "", "\x8a\x7d" + string(big[:125]), ""},
		{"pong is ignored", join(frame(0x8A, []byte("x")), frame(0x82, []byte("y"))), "y", "", ""},
		{"header cut off", frame(0x82, big[:300])[:3], "", "", ""},

		{"close", join(frame(0x82, []byte("last")), frame(0x88, []byte("\x03\xe8bye")), frame(0x82, []byte("ignored"))), "last", "", `closed by the client (1000): "bye"`},
		{"close without status", frame(0x88, nil), "", "", "closed by the client (1005)"},
		{"close with own status", frame(0x88, []byte{0x0f, 0xa0}), "", "", "closed by the client (4000)"},
		{"close of one byte", frame(0x88, []byte{3}), "", "", "close frame of one byte (1002)"},
		{"close with 999", frame(0x88, []byte{0x03, 0xe7}), "", "", "invalid status in close frame (1002)"},
		{"close with 1005", frame(0x88, []byte{0x03, 0xed}), "", "", "invalid status in close frame (1002)"},
		{"close with 1015", frame(0x88, []byte{0x03, 0xf7}), "", "", "invalid status in close frame (1002)"},
		{"close with 5000", frame(0x88, []byte{0x13, 0x88}), "", "", "invalid status in close frame (1002)"},
		{"close with bad UTF-8", frame(0x88, []byte{0x03, 0xe8, 0xff}), "", "", "not UTF-8 (1007)"},
		{"text", join(frame(0x82, []byte("a")), frame(0x81, []byte("b"))), "a", "", "text message, want binary (1003)"},
		{"text fragment", frame(0x01, []byte("b")), "", "", "text message, want binary (1003)"},
		{"not masked", []byte{0x82, 1, 'x'}, "", "", "frame is not masked (1002)"},
		{"RSV1", frame(0xC2, []byte("x")), "", "", "reserved bit is set (1002)"},
		{"RSV2", frame(0xA2, []byte("x")), "", "", "reserved bit is set (1002)"},
		{"RSV3", frame(0x92, []byte("x")), "", "", "reserved bit is set (1002)"},
		{"opcode 3", frame(0x83, []byte("x")), "", "", "unknown opcode (1002)"},
		{"opcode 11", frame(0x8B, []byte("x")), "", "", "unknown opcode (1002)"},
		{"continuation of nothing", frame(0x80, []byte("x")), "", "", "continuation of nothing (1002)"},
		{"continuation after the end", join(frame(0x82, []byte("a")), frame(0x00, []byte("x"))), "a", "", "continuation of nothing (1002)"},
		{"message in a message", join(frame(0x02, []byte("a")), frame(0x82, []byte("b"))), "a", "", "message begins inside of another (1002)"},
		{"text in a message", join(frame(0x02, []byte("a")), frame(0x81, []byte("b"))), "a", "", "message begins inside of another (1002)"},
		{"fragmented ping", frame(0x09, []byte("x")), "", "", "control frame is fragmented (1002)"},
		{"long ping", frame(0x89, big[:126]), "", "", "control frame is too long (1002)"},
		{"16-bit length for 125", []byte{0x82, 0xFE, 0, 125, 1, 2, 3, 4}, "", "", "length is not in its shortest form (1002)"},
		{"64-bit length for 65535", []byte{0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 1, 2, 3, 4}, "", "", "length is not in its shortest form (1002)"},
		{"length of 2^63", []byte{0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, "", "", "length is out of range (1002)"},
		{"beginning of a frame of 2^62", []byte{0x82, 0xFF, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 'a', 'b'}, "ab", "", ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			for size := 1; size < 18; size++ {
				plain, out, err := openAll(x.in, func() int {
					if size == 17 {
						return 1 << 30
					}
					return size
				})
				if string(plain) != x.plain || string(out) != x.out {
					t.Fatalf("cut at %d: got %q and %q", size, plain, out)
				}
				if (err == nil) != (x.err == "") || err != nil && !strings.Contains(err.Error(), x.err) {
					t.Fatalf("cut at %d: got %v, want %q", size, err, x.err)
				}
			}
		})
	}
}

func TestOpenAfterTheEnd(t *testing.T) {
	var r Reader
	var out []byte
	if _, err := r.Open(frame(0x88, nil), &out); err == nil {
		t.Fatal("no error")
	}
	if n, err := r.Open(frame(0x82, []byte("x")), &out); n != 0 || err == nil {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestOpenAllocatesNothing(t *testing.T) {
	var r Reader
	var out []byte
	in := bytes.Repeat(join(frame(0x82, make([]byte, 300)), frame(0x89, []byte("ping"))), 100)
	b := make([]byte, len(in))
	if n := testing.AllocsPerRun(100, func() {
		copy(b, in)
		out = out[:0]
		if n, err := r.Open(b, &out); n != 300*100 || err != nil {
			t.Fatalf("got %d, %v", n, err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzOpen cuts any bytes anywhere: the plaintext, the answers and the error must be those of the whole.
func FuzzOpen(f *testing.F) {
	f.Add(frame(0x82, []byte("hello")), uint64(1))
	f.Add(join(frame(0x02, []byte("a")), frame(0x89, []byte("P")), frame(0x80, make([]byte, 300)), frame(0x88, []byte("\x03\xe8bye"))), uint64(2))
	f.Add(join(frame(0x82, make([]byte, 70000)), frame(0x81, nil)), uint64(3))
	f.Add([]byte{0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 1, 2, 3, 4}, uint64(4))
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		plain, out, err := openAll(b, func() int { return 1 << 30 })
		r := rand.New(rand.NewPCG(seed, 1))
		most := 1 + r.IntN(40)
		plain2, out2, err2 := openAll(b, func() int { return 1 + r.IntN(most) })
		if !bytes.Equal(plain, plain2) || !bytes.Equal(out, out2) || fmt.Sprint(err) != fmt.Sprint(err2) {
			t.Fatalf("whole: %q, %q, %v; cut: %q, %q, %v", plain, out, err, plain2, out2, err2)
		}
		if len(plain) > len(b) {
			t.Fatal("more came out than went in")
		}
		var a *Error
		var c *CloseError
		if err != nil && !errors.As(err, &a) && !errors.As(err, &c) {
			t.Fatalf("error of another type: %v", err)
		}
	})
}

func TestAppendHeader(t *testing.T) {
	for n, want := range map[int]string{
		0: "8200", 125: "827d", 126: "827e007e", 65535: "827effff", 65536: "827f0000000000010000", 1 << 28: "827f0000000010000000",
	} {
		if got := fmt.Sprintf("%x", AppendHeader(nil, n)); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
	if got := fmt.Sprintf("%x %x", AppendClose(nil, 1001), AppendClose(nil, StatusNoCode)); got != "880203e9 8800" {
		t.Errorf("close: got %s", got)
	}
}

func BenchmarkOpen(b *testing.B) {
	in := bytes.Repeat(frame(0x82, make([]byte, 290)), 64<<10/296)
	buf := make([]byte, len(in))
	var r Reader
	var out []byte
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		copy(buf, in)
		if _, err := r.Open(buf, &out); err != nil {
			b.Fatal(err)
		}
	}
}
