package packet

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

// sources are messages that come in in every form, and such as cannot go on as they are.
func sources(tb testing.TB) []*Publish {
	resolved := publish(tb, V5, `32 {"" 0005 {26 "k" "v" 23 0007 02 0000003c 03 "c"} 'hello'}`)
	resolved.SetTopic([]byte("a/resolved/topic"))
	made, err := NewPublish(&Message{Topic: "made", QoS: 1, Payload: []byte("hello"), Expiry: 60, HasExpiry: true}, 5)
	if err != nil {
		tb.Fatal(err)
	}
	return []*Publish{
		publish(tb, V31, `31 {"a/b" 'hello'}`),
		publish(tb, V311, `32 {"a/b" 0005 'hello'}`),
		publish(tb, V5, `30 {"a/b" {} 'hello'}`),
		publish(tb, V5, `3c {"a/b" 0005 {} 'hello'}`),
		publish(tb, V5, `32 {"a/b" 0005 {26 "k" "v" 02 0000003c 26 "k" "w" 01 01} 'hello'}`),
		publish(tb, V5, `30 {"a/b" {23 0007 02 0000003c 26 "k" "v"} 'hello'}`),
		publish(tb, V5, `30 {"a/b" {0b 01 02 0000003c 26 "k" "v" 0b 8001} 'hello'}`),
		publish(tb, V5, `30 {"a/b" {0b 01 23 0007 02 0000003c 0b 8001 26 "k" "v"} 'hello'}`),
		resolved,
		resolved.Keep(5),
		made,
	}
}

// asSent is what a target in this version must read of p.
func asSent(p *Publish, v Version, o PublishOpts) plainPub {
	m := plainPub{Message: *p.Message(), dup: o.Dup, id: o.ID}
	m.QoS, m.Retain = o.QoS, o.Retain
	if o.QoS == 0 {
		m.id, m.dup = 0, false
	}
	if v < V5 {
		m.Message = Message{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retain}
		return m
	}
	if m.HasExpiry {
		m.Expiry = o.Expiry
	}
	m.alias, m.subIDs = o.Alias, o.SubIDs
	if o.OmitTopic && o.Alias != 0 {
		m.Topic = ""
	}
	return m
}

func parseWhole(t *testing.T, b []byte, v Version) *Publish {
	t.Helper()
	p, n, err := Parse(b, 0, v)
	if err != nil || n != len(b) {
		t.Fatalf("%x in %v: %d of %d bytes, %v", b, v, n, len(b), err)
	}
	return p.(*Publish)
}

// TestForms: every source in every form, with the interval as it was and shorter, in any order.
func TestForms(t *testing.T) {
	var e Encoder // one for all, as in a loop
	for i, p := range sources(t) {
		for _, expiry := range []uint32{60, 7} {
			for first := range Form(forms) {
				e.Reset(p, expiry)
				for f := first; f < first+forms; f++ {
					checkForm(t, &e, p, f%forms, expiry, i%2 == 0)
				}
			}
		}
	}
}

func checkForm(t *testing.T, e *Encoder, p *Publish, f Form, expiry uint32, headFirst bool) {
	t.Helper()
	v, o := V311, PublishOpts{Expiry: expiry, Retain: true}
	if f&FormProps != 0 {
		v = V5
	}
	if f&FormID != 0 {
		o.QoS, o.ID, o.Dup = AtLeastOnce, 0x1234, true
	}
	var head []byte
	if headFirst {
		h, _ := e.Head(f)
		head = bytes.Clone(h)
	}
	b, at := e.Frame(f)
	if h, _ := e.Head(f); headFirst && !bytes.Equal(h, head) || !bytes.Equal(b, append(bytes.Clone(h), p.Payload()...)) {
		t.Fatalf("%v form %d: head %x, before the frame %x, frame %x", p, f, h, head, b)
	}
	if (at > 0) != (f&FormID != 0) {
		t.Fatalf("%v form %d: identifier at %d", p, f, at)
	}
	b = bytes.Clone(b)
	PatchFlags(b, o.QoS, o.Retain, o.Dup)
	if at > 0 {
		PatchID(b, at, o.ID)
	}
	if got, want := plainPublish(parseWhole(t, b, v)), asSent(p, v, o); !reflect.DeepEqual(got, want) {
		t.Errorf("%v form %d: got %+v, want %+v", p, f, got, want)
	}
	if again, _ := e.Frame(f); len(again) != len(b) || &again[0] == &b[0] {
		t.Errorf("%v form %d: the second Frame differs", p, f)
	}
}

// TestAsIs: the incoming bytes themselves go out where they have the form, and only there.
func TestAsIs(t *testing.T) {
	var e Encoder
	for i, p := range sources(t) {
		for _, expiry := range []uint32{60, 7} {
			e.Reset(p, expiry)
			have, asIs := p.Form()
			_, expires := p.Expiry()
			for f := range Form(forms) {
				b, _ := e.Frame(f)
				want := asIs && f == have && (!expires || expiry == 60)
				if got := &b[0] == &p.Bytes()[0]; got != want {
					t.Errorf("source %d, form %d, expiry %d: as it is: %t, want %t", i, f, expiry, got, want)
				}
			}
		}
	}
}

// TestOnce: a form is encoded once.
func TestOnce(t *testing.T) {
	var e Encoder
	e.Reset(publish(t, V311, `30 {"a" 'x'}`), 0)
	for f := range Form(forms) {
		b, at := e.Frame(f)
		c, ct := e.Frame(f)
		if &b[0] != &c[0] || len(b) != len(c) || at != ct {
			t.Errorf("form %d is made twice", f)
		}
	}
}

// TestLargeBuffers: an encoder does not hold on to the memory of one large message.
func TestLargeBuffers(t *testing.T) {
	large, err := NewPublish(&Message{Topic: "a", Payload: make([]byte, 2*maxIdle)}, 0)
	if err != nil {
		t.Fatal(err)
	}
	var e Encoder
	e.Reset(large, 0)
	e.Frame(0)
	e.Frame(FormID)
	e.Reset(publish(t, V311, `30 {"a" 'x'}`), 0)
	for f := range Form(forms) {
		e.Frame(f)
		if cap(e.buf[f]) > maxIdle {
			t.Errorf("form %d keeps %d bytes", f, cap(e.buf[f]))
		}
	}
	e.Reset(large, 0) // by reference: only the head is made
	if h, _ := e.Head(FormID | FormProps); len(h) > 20 || cap(e.buf[FormID|FormProps]) > maxIdle {
		t.Errorf("head of %d bytes", len(h))
	}
}

// TestAppendPublish: every source with every option.
func TestAppendPublish(t *testing.T) {
	for _, p := range sources(t) {
		for _, v := range versions {
			for _, o := range []PublishOpts{
				{},
				{Retain: true, Dup: true, ID: 9},
				{QoS: 1, ID: 0xFFFF, Expiry: 1},
				{QoS: 2, ID: 9, Dup: true, Retain: true, Expiry: 0xFFFFFFFF},
				{SubIDs: []uint32{1, 127, 128, MaxRemaining}},
				{QoS: 1, ID: 9, Alias: 1, SubIDs: []uint32{5}},
				{QoS: 1, ID: 9, Alias: 0xFFFF, OmitTopic: true, Expiry: 5},
				{OmitTopic: true}, // nothing to omit it for
			} {
				b := AppendPublish([]byte("before"), p, v, o)[len("before"):]
				if n := SizePublish(p, v, o); n != len(b) {
					t.Errorf("%v %+v: SizePublish %d, %d bytes", p, o, n, len(b))
				}
				if got, want := plainPublish(parseWhole(t, b, v)), asSent(p, v, o); !reflect.DeepEqual(got, want) {
					t.Errorf("%v in %v with %+v:\n got %+v\nwant %+v", p, v, o, got, want)
				}
				o.NoPayload = true
				head := AppendPublish(nil, p, v, o)
				if n := SizePublish(p, v, o); n != len(b) || !bytes.Equal(append(head, p.Payload()...), b) {
					t.Errorf("%v %+v: without payload %x, size %d; with %x", p, o, head, n, b)
				}
			}
		}
	}
}

// TestPropertyOrder: others get the properties in the order they came in. [MQTT-3.3.2-18]
func TestPropertyOrder(t *testing.T) {
	p := publish(t, V5, everyProp)
	want, err := assemble(`30 {"a/b" {26 "k" "v" 02 00000009 03 "text" 26 "k" "w" 09 "id" 08 "re" 01 01} 'hello'}`)
	if err != nil {
		t.Fatal(err)
	}
	if got := AppendPublish(nil, p, V5, PublishOpts{Expiry: 9}); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

// TestLargePublish: lengths of two to four bytes in the packet and in its properties.
func TestLargePublish(t *testing.T) {
	for _, n := range []int{100, 127, 128, 200, 16_300, 16_383, 16_400, 70_000, 2_097_152} {
		text := strings.Repeat("v", min(n, maxField))
		m := &Message{Topic: "a/b", QoS: 1, Payload: make([]byte, n), Expiry: 60, HasExpiry: true, User: []UserProperty{{"k", text}}}
		p, err := NewPublish(m, 0)
		if err != nil {
			t.Fatal(err)
		}
		var e Encoder
		e.Reset(p, 7)
		for f := range Form(forms) {
			checkForm(t, &e, p, f, 7, true)
		}
	}
}
