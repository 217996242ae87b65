package packet

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

// seed adds the golden packets to a fuzz target's corpus.
func seed(f *testing.F, only Type) {
	all, _ := goldens(f)
	for _, g := range all {
		if only == 0 || FrameType(g.b) == only {
			f.Add(g.b, uint8(g.v))
		}
	}
}

// FuzzFrame: what Frame says of a buffer agrees with the obvious reading of it, and with what it says of its parts.
func FuzzFrame(f *testing.F) {
	seed(f, 0)
	f.Fuzz(func(t *testing.T, b []byte, limit uint8) {
		n, hdr, err := Frame(b, int(limit))
		var e *Error
		if err != nil && (!errors.As(err, &e) || n != 0 || hdr != 0) {
			t.Fatalf("%d, %d, %v", n, hdr, err)
		}
		if n > 0 {
			if n > len(b) || hdr < 2 || hdr > 5 || hdr > n || limit > 0 && n > int(limit) {
				t.Fatalf("n %d, hdr %d of %d bytes with limit %d", n, hdr, len(b), limit)
			}
			again := append(appendVarint([]byte{b[0]}, n-hdr), b[hdr:n]...)
			if !bytes.Equal(again, b[:n]) {
				t.Fatalf("%x is not %x", again, b[:n])
			}
		}
		for i := range min(len(b), 8) {
			if in, _, ierr := Frame(b[:i], int(limit)); ierr != nil && ierr != err || in != 0 && in != n {
				t.Fatalf("first %d bytes: %d, %v; all: %d, %v", i, in, ierr, n, err)
			}
		}
	})
}

// FuzzParse: no bytes make a parser panic, and what it accepts Append brings back.
func FuzzParse(f *testing.F) {
	seed(f, 0)
	f.Fuzz(func(t *testing.T, b []byte, version uint8) {
		checkPacket(t, b, versions[version%3])
		if len(b) == 0 {
			return
		}
		// The same as the body of a packet that is whole, so that the fuzzer need not find the length.
		whole := append(appendVarint([]byte{b[0]}, len(b)-1), b[1:]...)
		checkPacket(t, whole, versions[version%3])
	})
}

// FuzzPublish: a PUBLISH that is accepted says the same kept, in each form and on the slow path, and ParseAck agrees with
// Ack.Parse.
func FuzzPublish(f *testing.F) {
	seed(f, PUBLISH)
	seed(f, PUBREC)
	f.Fuzz(func(t *testing.T, b []byte, version uint8) {
		v := versions[version%3]
		x, n, err := Parse(b, 0, v)
		if err != nil || n == 0 {
			return
		}
		if a, ok := x.(*Ack); ok {
			_, hdr, _ := Frame(b, 0)
			if id, code, err := ParseAck(b[:n], hdr, v); id != a.ID || code != a.Code || err != nil {
				t.Fatalf("ParseAck: %d, %v, %v; Ack %v", id, code, err, a)
			}
		}
		p, ok := x.(*Publish)
		if !ok {
			return
		}
		if len(p.Topic()) == 0 {
			p.SetTopic([]byte("what/the/alias/was"))
		}
		kept := p.Keep(1)
		want := plainPublish(p)
		want.alias = 0
		if got := plainPublish(kept); !reflect.DeepEqual(got, want) {
			t.Fatalf("kept %+v, want %+v", got, want)
		}
		again := *kept
		if err := again.Parse(kept.b, int(kept.hdr), v); err != nil {
			t.Fatal(err)
		}
		if again.At = 1; !reflect.DeepEqual(&again, kept) {
			t.Fatalf("kept %+v, parsed %+v", kept, &again)
		}
		for _, q := range []*Publish{p, kept} {
			var e Encoder
			for _, expiry := range []uint32{7, p.expiry} {
				e.Reset(q, expiry)
				for form := range Form(forms) {
					checkForm(t, &e, q, form, expiry, version&1 == 0)
				}
			}
			for _, to := range versions {
				o := PublishOpts{QoS: 2, ID: 9, SubIDs: []uint32{200}, Alias: 3, OmitTopic: version&2 == 0, Expiry: 7}
				out := AppendPublish(nil, q, to, o)
				if got, want := plainPublish(parseWhole(t, out, to)), asSent(q, to, o); !reflect.DeepEqual(got, want) {
					t.Fatalf("in %v got %+v, want %+v", to, got, want)
				}
			}
		}
	})
}
