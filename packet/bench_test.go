package packet

import (
	"bytes"
	"fmt"
	"testing"
)

// benchBodies are the three PUBLISH packets the parser is measured with: 20 bytes of topic, 64 bytes of payload.
func benchBodies(tb testing.TB) []benchBody {
	m := &Message{Topic: "plant/7/line/3/speed", Payload: bytes.Repeat([]byte("x"), 64), QoS: 1}
	with := *m
	with.Expiry, with.HasExpiry = 3600, true
	with.ContentType = "application/json"
	with.User = []UserProperty{{"trace", "0123456789abcdef"}}
	bodies := []benchBody{{"v311", V311, nil}, {"v5", V5, nil}, {"v5props", V5, nil}}
	for i, m := range []*Message{m, m, &with} {
		p, err := NewPublish(m, 0)
		if err != nil {
			tb.Fatal(err)
		}
		bodies[i].b = AppendPublish(nil, p, bodies[i].v, PublishOpts{QoS: 1, ID: 7, Expiry: m.Expiry})
	}
	return bodies
}

type benchBody struct {
	name string
	v    Version
	b    []byte
}

func (x benchBody) view(tb testing.TB) *Publish {
	var p Publish
	_, hdr, err := Frame(x.b, 0)
	if err == nil {
		err = p.Parse(x.b, hdr, x.v)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return &p
}

func BenchmarkParse(b *testing.B) {
	for _, x := range benchBodies(b) {
		b.Run(x.name, func(b *testing.B) {
			b.ReportAllocs()
			var p Publish
			for b.Loop() {
				_, hdr, err := Frame(x.b, 1<<20)
				if err != nil {
					b.Fatal(err)
				}
				if err := p.Parse(x.b, hdr, x.v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkKeep(b *testing.B) {
	for _, x := range benchBodies(b) {
		b.Run(x.name, func(b *testing.B) {
			b.ReportAllocs()
			p := x.view(b)
			for b.Loop() {
				p.Keep(1)
			}
		})
	}
}

// BenchmarkForms is a message that goes to 1,000 targets: the time of one target.
func BenchmarkForms(b *testing.B) {
	for _, x := range benchBodies(b) {
		for f := range Form(forms) {
			b.Run(fmt.Sprintf("%s/form%d", x.name, f), func(b *testing.B) {
				b.ReportAllocs()
				p := x.view(b)
				var e Encoder
				out := make([]byte, 0, 1<<20)
				for i := 0; b.Loop(); i++ {
					if i%1000 == 0 {
						e.Reset(p, 3600)
						out = out[:0]
					}
					frame, at := e.Frame(f)
					n := len(out)
					out = append(out, frame...)
					PatchFlags(out[n:], QoS(f&FormID), false, false)
					if at > 0 {
						PatchID(out[n:], at, uint16(i))
					}
				}
			})
		}
	}
	x := benchBodies(b)[2]
	b.Run("own", func(b *testing.B) {
		b.ReportAllocs()
		p := x.view(b)
		ids := []uint32{7}
		var out []byte
		for b.Loop() {
			out = AppendPublish(out[:0], p, V5, PublishOpts{QoS: 1, ID: 7, SubIDs: ids, Expiry: 7})
		}
	})
}

func BenchmarkAck(b *testing.B) {
	in := AppendAck(nil, PUBACK, V5, 7, NoMatchingSubscribers)
	b.ReportAllocs()
	var out []byte
	for b.Loop() {
		id, code, err := ParseAck(in, 2, V5)
		if err != nil {
			b.Fatal(err)
		}
		out = AppendAck(out[:0], PUBACK, V5, id, code)
	}
}
