//go:build linux

package bench

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

func TestPacketsAsBytes(t *testing.T) {
	t311 := newTemplate(v311, 0, "a/b", stampSize)
	t5 := newTemplate(v5, 1, "a/b", stampSize+2)
	at := stamp{pub: 0x01020304, slot: 0x0506, seq: 7, due: 8}
	const stamped = "04030201" + "0605" + "0700000000000000" + "0800000000000000"
	for _, c := range []struct {
		what string
		got  []byte
		want string
	}{
		{"CONNECT 3.1.1", appendConnect(nil, v311, "id", false), "10 0e 0004 4d515454 04 02 0000 0002 6964"},
		{"CONNECT 5.0", appendConnect(nil, v5, "id", false), "10 0f 0004 4d515454 05 02 0000 00 0002 6964"},
		{"CONNECT 3.1.1, to stay", appendConnect(nil, v311, "id", true), "10 0e 0004 4d515454 04 00 0000 0002 6964"},
		{"CONNECT 5.0, to stay", appendConnect(nil, v5, "id", true), "10 14 0004 4d515454 05 00 0000 05 11 ffffffff 0002 6964"},
		{"SUBSCRIBE 3.1.1", appendSubscribe(nil, v311, 0x1234, 1, "a", "b/#"), "82 0c 1234 0001 61 01 0003 622f23 01"},
		{"SUBSCRIBE 5.0", appendSubscribe(nil, v5, 1, 2, "a"), "82 07 0001 00 0001 61 02"},
		{"PUBACK", appendAck(nil, puback, 0x0102), "40 02 0102"},
		{"PUBREL", appendAck(nil, pubrel|2, 0x0102), "62 02 0102"},
		{"PUBLISH 3.1.1, QoS 0", t311.appendTo(nil, 9, at), "30 1b 0003 612f62" + stamped},
		{"PUBLISH 5.0, QoS 1", t5.appendTo(nil, 9, at), "32 20 0003 612f62 0009 00" + stamped + "6566"},
	} {
		want, err := hex.DecodeString(strings.ReplaceAll(c.want, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(c.got, want) {
			t.Errorf("%s:\ngot  %x\nwant %x", c.what, c.got, want)
		}
	}
}

func TestTemplateRoundTrip(t *testing.T) {
	for _, version := range []byte{v311, v5} {
		for qos := byte(0); qos <= 2; qos++ {
			for _, size := range []int{stampSize, 64, 256, 20_000} {
				tmpl := newTemplate(version, qos, "some/topic", size)
				want := stamp{pub: 5, slot: 6, seq: 1 << 40, due: -3}
				b := tmpl.appendTo([]byte("before"), 0xabcd, want)[len("before"):]
				n, hdr, err := frame(b)
				if err != nil || n != len(b) {
					t.Fatalf("frame: %d of %d bytes, %v", n, len(b), err)
				}
				q, id, payload, err := readPublish(b, hdr, version)
				if err != nil || q != qos || len(payload) != size || (qos > 0) != (id == 0xabcd) {
					t.Fatalf("version %d QoS %d: got QoS %d, id %#x, %d bytes, %v", version, qos, q, id, len(payload), err)
				}
				if got, err := readStamp(payload); err != nil || got != want {
					t.Errorf("got stamp %+v, %v; want %+v", got, err, want)
				}
			}
		}
	}
}

func TestFrameOfEveryPrefix(t *testing.T) {
	tmpl := newTemplate(v311, 1, "t", 300)
	b := tmpl.appendTo(nil, 1, stamp{})
	for i := range len(b) {
		if n, _, err := frame(b[:i]); n != 0 || err != nil {
			t.Fatalf("%d of %d bytes: got %d, %v; want no packet yet", i, len(b), n, err)
		}
	}
	if n, hdr, err := frame(append(b, 0xc0, 0)); n != len(b) || hdr != 3 || err != nil {
		t.Errorf("got %d, %d, %v; want %d, 3", n, hdr, err, len(b))
	}
	if _, _, err := frame([]byte{0x30, 0xff, 0xff, 0xff, 0xff, 1}); err == nil {
		t.Error("a length of five bytes is taken")
	}
}

func TestVarint(t *testing.T) {
	for v, want := range map[int]string{0: "00", 127: "7f", 128: "8001", 16383: "ff7f", 16384: "808001", 268_435_455: "ffffff7f"} {
		b := appendVarint(nil, v)
		if hex.EncodeToString(b) != want {
			t.Errorf("%d: got %x, want %s", v, b, want)
		}
		if got, n, err := varint(b); got != v || n != len(b) || err != nil {
			t.Errorf("%x: got %d, %d bytes, %v", b, got, n, err)
		}
	}
	if _, _, err := varint([]byte{0x80}); !errors.Is(err, errCut) {
		t.Errorf("half a varint: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		packet  string
		version byte
		bad     bool
	}{
		{"20020000", v311, false},
		{"20020005", v311, true},
		{"2003008700", v5, true},
		{"2000", v311, true},
		{"9003000101", v311, false},
		{"9003000180", v311, true},
		{"900400010000", v5, false},
		{"9005000100008f", v5, true},
		{"9006000103260000", v5, true}, // the properties take all the rest: no code
		{"40020001", v5, false},
		{"4003000110", v5, false},
		{"4003000197", v5, true},
		{"500400019700", v5, true},
		{"4000", v311, true},
	} {
		b, err := hex.DecodeString(c.packet)
		if err != nil {
			t.Fatal(err)
		}
		if err := refusal(b, 2, c.version); (err != nil) != c.bad {
			t.Errorf("%s: got %v, want an error: %t", c.packet, err, c.bad)
		}
	}
}

func TestReadPublishCut(t *testing.T) {
	tmpl := newTemplate(v5, 1, "topic", stampSize)
	b := tmpl.appendTo(nil, 1, stamp{})
	const whole = 2 + 2 + 5 + 2 + 1 // up to the payload
	for i := 2; i < whole; i++ {
		if _, _, _, err := readPublish(b[:i], 2, v5); err == nil {
			t.Errorf("%d bytes are taken", i)
		}
	}
	_, _, payload, err := readPublish(b[:whole+3], 2, v5)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readStamp(payload); err == nil {
		t.Error("a stamp of 3 bytes is taken")
	}
}
