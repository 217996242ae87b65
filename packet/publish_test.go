package packet

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// publish parses a PUBLISH in the notation of testdata/packets.txt.
func publish(tb testing.TB, v Version, s string) *Publish {
	tb.Helper()
	b, err := assemble(s)
	if err != nil {
		tb.Fatal(err)
	}
	p, _, err := Parse(b, 0, v)
	if err != nil {
		tb.Fatalf("%s: %v", s, err)
	}
	return p.(*Publish)
}

const everyProp = `3b {"a/b" 0005 {26 "k" "v" 02 0000003c 23 0007 0b 01 03 "text" 26 "k" "w" 0b 8001 09 "id" 08 "re" 01 01} 'hello'}`

func TestPublishView(t *testing.T) {
	p := publish(t, V5, everyProp)
	if string(p.Topic()) != "a/b" || string(p.Payload()) != "hello" || p.QoS() != 1 || !p.Retain() || !p.Dup() || p.ID != 5 ||
		p.Alias != 7 || !p.HasSubID() || p.Version() != V5 || p.Type() != PUBLISH {
		t.Errorf("%v", p)
	}
	if got := p.SubIDs([]uint32{9}); !slices.Equal(got, []uint32{9, 1, 128}) {
		t.Errorf("subscription identifiers %v", got)
	}
	if sec, ok := p.Expiry(); sec != 60 || !ok {
		t.Errorf("expiry %d, %t", sec, ok)
	}
	for _, c := range []struct {
		id   PropID
		want string
	}{
		{PropPayloadFormat, "\x01"}, {PropMessageExpiry, "\x00\x00\x00\x3c"}, {PropContentType, "text"}, {PropResponseTopic, "re"},
		{PropCorrelationData, "id"}, {PropSubscriptionID, "\x01"}, {PropTopicAlias, "\x00\x07"}, {PropUser, "\x00\x01k\x00\x01v"},
	} {
		if got, ok := p.Property(c.id); !ok || string(got) != c.want {
			t.Errorf("%v: %q, %t; want %q", c.id, got, ok, c.want)
		}
	}
	if v, ok := p.Property(PropReasonString); ok || v != nil {
		t.Errorf("a reason string: %q", v)
	}
	var ids []PropID
	for id := range p.Properties() {
		ids = append(ids, id)
	}
	if want := []PropID{0x26, 2, 0x23, 0x0B, 3, 0x26, 0x0B, 9, 8, 1}; !slices.Equal(ids, want) {
		t.Errorf("properties %v, want %v", ids, want)
	}
	var user []string
	for k, v := range p.User() {
		user = append(user, string(k)+string(v))
	}
	if !slices.Equal(user, []string{"kv", "kw"}) {
		t.Errorf("user properties %v", user)
	}
	for range p.User() { // may be left early
		break
	}
	want := &Message{Topic: "a/b", Payload: []byte("hello"), QoS: 1, Retain: true, PayloadFormat: 1, Expiry: 60, HasExpiry: true,
		ContentType: "text", ResponseTopic: "re", Correlation: []byte("id"), User: []UserProperty{{"k", "v"}, {"k", "w"}}}
	if got := p.Message(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}

	old := publish(t, V311, `30 {"a/b" 'hello'}`)
	if len(old.Props()) != 0 || old.HasSubID() || old.SubIDs(nil) != nil || old.ID != 0 {
		t.Errorf("3.1.1: %v", old)
	}
	if _, ok := old.Expiry(); ok {
		t.Error("3.1.1 has an expiry")
	}
}

// TestPublishReuse: a view that is used again has nothing left of the packet before.
func TestPublishReuse(t *testing.T) {
	p := publish(t, V5, everyProp)
	p.SetTopic([]byte("other"))
	b, _ := assemble(`30 {"c" 'x'}`)
	if err := p.Parse(b, 2, V311); err != nil {
		t.Fatal(err)
	}
	if got, want := plainPublish(p), plainPublish(publish(t, V311, `30 {"c" 'x'}`)); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if f, asIs := p.Form(); f != 0 || !asIs {
		t.Errorf("form %d, %t", f, asIs)
	}
}

func TestPublishForm(t *testing.T) {
	for _, c := range []struct {
		v    Version
		s    string
		f    Form
		asIs bool
	}{
		{V31, `30 {"a"}`, 0, true},
		{V311, `32 {"a" 0001}`, FormID, true},
		{V5, `30 {"a" {}}`, FormProps, true},
		{V5, `34 {"a" 0001 {26 "k" "v"}}`, FormID | FormProps, true},
		{V5, `30 {"a" {23 0001}}`, FormProps, false},
		{V5, `30 {"a" {0b 01}}`, FormProps, false},
	} {
		p := publish(t, c.v, c.s)
		if f, asIs := p.Form(); f != c.f || asIs != c.asIs {
			t.Errorf("%s: %d, %t; want %d, %t", c.s, f, asIs, c.f, c.asIs)
		}
		if got := FormOf(c.v, p.QoS()); got != c.f {
			t.Errorf("FormOf(%v, %v) = %d, want %d", c.v, p.QoS(), got, c.f)
		}
		p.SetTopic([]byte("b"))
		if _, asIs := p.Form(); asIs {
			t.Errorf("%s: as is with another topic", c.s)
		}
	}
}

// TestKeep: a kept message does not change with the buffer it came from.
func TestKeep(t *testing.T) {
	for _, c := range []struct {
		v Version
		s string
	}{
		{V31, `30 {"a/b" 'hello'}`}, {V311, `3d {"a/b" ffff}`}, {V5, `30 {"a/b" {} 'hello'}`},
		{V5, `32 {"a/b" 0005 {26 "k" "v" 02 0000003c 03 "text"} 'hello'}`},
		{V5, `32 {"a/b" 0005 {0b 01 02 0000003c} 'hello'}`},
	} {
		p := publish(t, c.v, c.s)
		want := plainPublish(p)
		k := p.Keep(77)
		for i := range p.b {
			p.b[i] = 0xDB
		}
		if got := plainPublish(k); !reflect.DeepEqual(got, want) || k.At != 77 || k.Version() != c.v {
			t.Errorf("%s: kept %+v at %d, want %+v", c.s, got, k.At, want)
		}
		_, hdr, err := Frame(k.Bytes(), 0)
		var again Publish
		if err == nil {
			err = again.Parse(k.Bytes(), hdr, k.Version())
		}
		if err != nil || !reflect.DeepEqual(plainPublish(&again), want) {
			t.Errorf("%s: kept bytes %x: %v", c.s, k.Bytes(), err)
		}
	}
}

// TestKeepAlias: an alias is resolved for good, and the copy is what a parser would have made of it.
func TestKeepAlias(t *testing.T) {
	topic := []byte("some/longer/topic")
	for _, s := range []string{
		`30 {"" {23 0007} 'hello'}`,
		`32 {"" 0005 {23 0007} 'hello'}`,
		`3d {"a/b" ffff {26 "k" "v" 23 0007 02 0000003c 26 "k" "w"} 'hello'}`,
		`32 {"" 0005 {02 0000003c 26 "k" "v" 23 0007} 'hello'}`,
		`32 {"" 0005 {0b 01 23 0007 02 0000003c 0b 8001} 'hello'}`,
	} {
		p := publish(t, V5, s)
		want := plainPublish(p)
		if want.Topic == "" {
			p.SetTopic(topic)
			want.Topic = string(topic)
		}
		want.alias = 0
		k := p.Keep(1)
		for i := range p.b {
			p.b[i] = 0xDB
		}
		if got := plainPublish(k); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: kept %+v, want %+v", s, got, want)
		}
		if _, asIs := k.Form(); asIs == k.HasSubID() {
			t.Errorf("%s: as is: %t", s, asIs)
		}
		again := *k
		if err := again.Parse(k.b, int(k.hdr), V5); err != nil {
			t.Errorf("%s: kept bytes do not parse: %v", s, err)
		}
		again.At = k.At
		if !reflect.DeepEqual(&again, k) {
			t.Errorf("%s: kept\n%+v, parsed\n%+v", s, k, &again)
		}
	}

	// An alias that nobody resolved is kept as it is.
	k := publish(t, V5, `30 {"" {23 0007} 'hello'}`).Keep(1)
	if len(k.Topic()) != 0 || k.Alias != 7 || string(k.Payload()) != "hello" {
		t.Errorf("kept %v", k)
	}
}

func TestLeft(t *testing.T) {
	with := publish(t, V5, `30 {"a" {02 0000003c}}`).Keep(1000)
	none := publish(t, V5, `30 {"a" {02 00000000}}`).Keep(1000)
	for _, c := range []struct {
		p       *Publish
		now     uint32
		sec     uint32
		expired bool
	}{
		{with, 1000, 60, false}, {with, 1059, 1, false}, {with, 1060, 0, true}, {with, 5000, 0, true},
		{with, 900, 60, false}, // the clock stepped back
		{none, 1000, 0, true},
		{publish(t, V5, `30 {"a" {02 ffffffff}}`).Keep(0), 0xFFFFFFFE, 1, false},
		{publish(t, V311, `30 {"a"}`).Keep(1000), 9_999_999, 0, false},
	} {
		if sec, expired := c.p.Left(c.now); sec != c.sec || expired != c.expired {
			t.Errorf("%v at %d: %d, %t; want %d, %t", c.p, c.now, sec, expired, c.sec, c.expired)
		}
	}
}

func TestNewPublish(t *testing.T) {
	long := strings.Repeat("x", maxField+1)
	good := Message{Topic: "a", Payload: []byte("p"), QoS: 2, Retain: true, ContentType: "c", Expiry: 5, HasExpiry: true}
	p, err := NewPublish(&good, 42)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Message(); !reflect.DeepEqual(got, &good) || p.At != 42 || p.ID != 0 || p.Version() != V5 || p.Dup() {
		t.Errorf("%v at %d", p, p.At)
	}
	if k := p.Keep(43); !reflect.DeepEqual(k.Message(), &good) {
		t.Errorf("kept %v", k)
	}
	empty := Message{Topic: "a", Payload: []byte{}}
	if p, err := NewPublish(&Message{Topic: "a"}, 0); err != nil || !reflect.DeepEqual(p.Message(), &empty) {
		t.Errorf("%v, %v", p, err)
	}
	for _, c := range []struct {
		m    Message
		code Reason
	}{
		{Message{}, ProtocolError},
		{Message{Topic: "a/#"}, TopicNameInvalid},
		{Message{Topic: "a\x00"}, MalformedPacket},
		{Message{Topic: "\xff"}, MalformedPacket},
		{Message{Topic: long}, MalformedPacket},
		{Message{Topic: "a", QoS: 3}, MalformedPacket},
		{Message{Topic: "a", PayloadFormat: 2}, ProtocolError},
		{Message{Topic: "a", ResponseTopic: "+"}, ProtocolError},
		{Message{Topic: "a", ContentType: "\xc3"}, MalformedPacket},
		{Message{Topic: "a", ContentType: long}, MalformedPacket},
		{Message{Topic: "a", ResponseTopic: long}, MalformedPacket},
		{Message{Topic: "a", Correlation: []byte(long)}, MalformedPacket},
		{Message{Topic: "a", User: []UserProperty{{"k", long}}}, MalformedPacket},
		{Message{Topic: "a", User: []UserProperty{{long, "v"}}}, MalformedPacket},
		{Message{Topic: "a", User: []UserProperty{{"k", "\x00"}}}, MalformedPacket},
		{Message{Topic: "a", User: slices.Repeat([]UserProperty{{"k", long[1:]}}, 4096)}, PacketTooLarge}, // 256 MB of one string
	} {
		_, err := NewPublish(&c.m, 0)
		var e *Error
		if !errors.As(err, &e) || e.Code != c.code {
			t.Errorf("topic %.20q: %v, want %v", c.m.Topic, err, c.code)
		}
	}
}

// TestPublishAppend: Append says all that the packet says, in its own version and in the others.
func TestPublishAppend(t *testing.T) {
	p := publish(t, V5, everyProp)
	if got := p.Append(nil, V5); !bytes.Equal(got, p.b) || p.Length(V5) != len(got) {
		t.Errorf("in its own version %x, want %x", got, p.b)
	}
	want, _ := assemble(`3b {"a/b" 0005 'hello'}`)
	if got := p.Append(nil, V311); !bytes.Equal(got, want) || p.Length(V311) != len(got) {
		t.Errorf("in 3.1.1 %x, want %x", got, want)
	}
	p.SetTopic([]byte("t"))
	want, _ = assemble(`3b {"t" 0005 {26 "k" "v" 02 0000003c 0b 01 03 "text" 26 "k" "w" 0b 8001 09 "id" 08 "re" 01 01} 'hello'}`)
	if got := p.Append(nil, V5); !bytes.Equal(got, want) || p.Length(V5) != len(got) {
		t.Errorf("with its alias resolved %x, want %x", got, want)
	}
	old := publish(t, V31, `30 {"a" 'x'}`)
	want, _ = assemble(`30 {"a" {} 'x'}`)
	if got := old.Append(nil, V5); !bytes.Equal(got, want) || old.Length(V5) != len(got) {
		t.Errorf("3.1 in 5.0 %x, want %x", got, want)
	}
}

// TestSizes: a message costs the broker its bytes and not much more.
func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(Publish{}); n > 80 {
		t.Errorf("Publish has %d bytes, want at most 80", n)
	}
	if n := unsafe.Sizeof(PublishOpts{}); n > 48 {
		t.Errorf("PublishOpts has %d bytes, want at most 48", n)
	}
}

// TestAllocations: nothing on the path of a message allocates but Keep, which does twice.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	f := func(name string, want float64, op func()) {
		t.Helper()
		op()
		if got := testing.AllocsPerRun(100, op); got > want {
			t.Errorf("%s: %v allocations, want at most %v", name, got, want)
		}
	}
	for _, x := range benchBodies(t) {
		_, hdr, err := Frame(x.b, 0)
		if err != nil {
			t.Fatal(err)
		}
		var p Publish
		var e Encoder
		out := make([]byte, 0, 4096)
		f("parse "+x.name, 0, func() {
			if _, _, err := Frame(x.b, 1000); err != nil {
				t.Fatal(err)
			}
			if err := p.Parse(x.b, hdr, x.v); err != nil {
				t.Fatal(err)
			}
		})
		f("keep "+x.name, 2, func() { p.Keep(1) })
		f("forms "+x.name, 0, func() {
			e.Reset(&p, 5)
			for form := range Form(forms) {
				e.Head(form)
				e.Frame(form)
			}
		})
		ids := []uint32{7, 300}
		for _, v := range versions {
			f("append "+x.name, 0, func() {
				o := PublishOpts{QoS: 1, ID: 5, SubIDs: ids, Alias: 3, OmitTopic: true, Expiry: 9}
				out = AppendPublish(out[:0], &p, v, o)
				if SizePublish(&p, v, o) != len(out) {
					t.Fatal("size")
				}
			})
		}
	}
	ack := (&Ack{Kind: PUBREC, ID: 5, Code: QuotaExceeded, ReasonString: "full", User: []UserProperty{{"k", "v"}}}).Append(nil, V5)
	out := make([]byte, 0, 100)
	f("ack", 0, func() {
		id, code, err := ParseAck(ack, 2, V5)
		if err != nil {
			t.Fatal(err)
		}
		out = AppendAck(out[:0], PUBREC, V5, id, code)
	})
}
