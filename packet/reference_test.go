package packet

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// parseReference is a second reading of PUBLISH, slow and made of the parts that the rare packets use. The walk by hand in
// publish.go must agree with it on every input, down to the reason code.
func parseReference(b []byte, hdr int, v Version) (*plainPub, error) {
	p := &plainPub{dup: b[0]&8 != 0}
	p.QoS, p.Retain = QoS(b[0]>>1&3), b[0]&1 != 0
	r := reader{b: b[hdr:]}
	topic := r.binary()
	if r.err == nil {
		if err := checkTopicSlow(topic); err != nil {
			return nil, err
		}
	}
	p.Topic = string(topic)
	if p.QoS > 0 {
		p.id = r.id()
	}
	if v >= V5 {
		ps := r.props(in(PUBLISH))
		for ps.next() {
			switch ps.id {
			case PropTopicAlias:
				if p.alias = uint16(ps.num); p.alias == 0 {
					return nil, errAlias
				}
			case PropSubscriptionID:
				p.subIDs = append(p.subIDs, ps.num)
				ps.seen &^= 1 << PropSubscriptionID // the only packet in which it repeats
			default:
				p.set(&ps)
			}
		}
		if ps.err != nil {
			return nil, ps.err
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	if p.Topic == "" && p.alias == 0 {
		return nil, errTopicEmpty
	}
	p.Payload = clone(r.b)
	return p, nil
}

// failer is what sameAsReference needs of a *testing.T or *rapid.T.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// sameAsReference compares the two on one packet.
func sameAsReference(tb failer, b []byte, v Version) {
	tb.Helper()
	n, hdr, err := Frame(b, 0)
	if err != nil || n == 0 || FrameType(b) != PUBLISH {
		return
	}
	b = b[:n]
	var p Publish
	err = p.Parse(b, hdr, v)
	want, wantErr := parseReference(b, hdr, v)
	if (err == nil) != (wantErr == nil) {
		tb.Fatalf("%x in %v: %v, the reference says %v", b, v, err, wantErr)
	}
	if err != nil {
		var e, w *Error
		if !errors.As(err, &e) || !errors.As(wantErr, &w) || e.Code != w.Code {
			tb.Fatalf("%x in %v: %v, the reference says %v", b, v, err, wantErr)
		}
		return
	}
	if got := fmt.Sprintf("%#v", plainPublish(&p)); got != fmt.Sprintf("%#v", *want) {
		tb.Fatalf("%x in %v: %s\nthe reference says %#v", b, v, got, *want)
	}
}

func TestReferenceGolden(t *testing.T) {
	all, _ := goldens(t)
	for _, g := range all {
		for _, v := range versions {
			sameAsReference(t, g.b, v)
		}
	}
}

// TestReferenceRandom mixes right and wrong pieces of properties at random.
func TestReferenceRandom(t *testing.T) {
	pieces := []string{
		`01 00`, `01 01`, `01 02`, `02 00000001`, `02 0000`, `03 "c"`, `03 0001 ff`, `03 "more than sixteen bytes of it"`,
		`08 "re"`, `08 "+"`, `08 ""`, `09 "d"`, `09 0009 00`, `0b 01`, `0b 00`, `0b 8001`, `0b 8000`, `23 0001`, `23 0000`,
		`26 "k" "v"`, `26 "" ""`, `26 "k"`, `26 "k" 0001 00`, `11 00000001`, `00`, `ff`, `26 "k" "a value of more than sixteen"`,
	}
	topics := []string{`"a/b"`, `""`, `"a/#"`, `"ü"`, `0001 ff`, `0005 'a'`, `"a/topic/of/some/length"`}
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.SampledFrom([]string{"30", "31", "32", "34", "3b", "3d"}).Draw(t, "first")
		props := ""
		for range rapid.IntRange(0, 5).Draw(t, "properties") {
			// The good pieces are tried more often, or hardly a packet would be right.
			n := len(pieces)
			if rapid.IntRange(0, 3).Draw(t, "good") > 0 {
				n = 1
			}
			if n == 1 {
				props += " " + rapid.SampledFrom([]string{`26 "k" "v"`, `0b 05`, `01 01`, `02 00000001`, `03 "c"`, `23 0001`}).Draw(t, "piece")
			} else {
				props += " " + rapid.SampledFrom(pieces).Draw(t, "piece")
			}
		}
		id := ""
		if first[1] > '1' {
			id = rapid.SampledFrom([]string{"0001", "0001", "ffff", "0000", "00"}).Draw(t, "id")
		}
		topic := topics[0]
		if rapid.IntRange(0, 3).Draw(t, "odd topic") == 0 {
			topic = rapid.SampledFrom(topics).Draw(t, "topic")
		}
		b, err := assemble(fmt.Sprintf("%s {%s %s {%s} 'payload'}", first, topic, id, props))
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range versions {
			sameAsReference(t, b, v)
		}
	})
}

// FuzzReference lets the fuzzer look for a packet on which they differ.
func FuzzReference(f *testing.F) {
	seed(f, PUBLISH)
	f.Fuzz(func(t *testing.T, b []byte, version uint8) {
		v := versions[version%3]
		sameAsReference(t, b, v)
		if len(b) > 1 {
			sameAsReference(t, append(appendVarint([]byte{0x30 | b[0]&0xF}, len(b)-1), b[1:]...), v)
		}
	})
}

// TestFlippedBytes changes every byte of every golden packet: whatever comes of it is refused or understood.
func TestFlippedBytes(t *testing.T) {
	all, _ := goldens(t)
	for _, g := range all {
		for i := range g.b {
			for _, x := range []byte{0x01, 0x02, 0x04, 0x80, 0x7F, 0xFF} {
				b := append([]byte(nil), g.b...)
				b[i] ^= x
				checkPacket(t, b, g.v)
				sameAsReference(t, b, g.v)
			}
		}
	}
}
