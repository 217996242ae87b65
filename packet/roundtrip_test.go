package packet

import (
	"bytes"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// The generators below make every packet that a version can say.

func genText() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		runes := []rune("abc/ $é€😀\ufeff\x01\x7f")
		s := string(rapid.SliceOfN(rapid.SampledFrom(runes), 0, 12).Draw(t, "text"))
		if rapid.IntRange(0, 19).Draw(t, "long") == 0 {
			s = string(bytes.Repeat([]byte("x"), rapid.SampledFrom([]int{127, 128, 16_384, maxField}).Draw(t, "length")))
		}
		return s
	})
}

func genTopic() *rapid.Generator[string] {
	return rapid.Map(genText(), func(s string) string {
		if s == "" {
			return "t"
		}
		return s
	})
}

func genBytes() *rapid.Generator[[]byte] {
	return rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 20), clone)
}

// maybe is nil half of the time.
func maybe(g *rapid.Generator[[]byte]) *rapid.Generator[[]byte] {
	return rapid.Custom(func(t *rapid.T) []byte {
		if rapid.Bool().Draw(t, "absent") {
			return nil
		}
		return g.Draw(t, "data")
	})
}

func genUser() *rapid.Generator[[]UserProperty] {
	pair := rapid.Custom(func(t *rapid.T) UserProperty {
		return UserProperty{genText().Draw(t, "key"), genText().Draw(t, "value")}
	})
	return rapid.Map(rapid.SliceOfN(pair, 0, 3), func(u []UserProperty) []UserProperty {
		if len(u) == 0 {
			return nil
		}
		return u
	})
}

// optional is a number that is 0, and means absent, half of the time.
func optional[T uint16 | uint32](t *rapid.T, name string) T {
	if rapid.Bool().Draw(t, "absent") {
		return 0
	}
	return T(rapid.Uint32().Draw(t, name))
}

func pointer[T any](t *rapid.T, g *rapid.Generator[T], name string) *T {
	if rapid.Bool().Draw(t, "absent") {
		return nil
	}
	return new(g.Draw(t, name))
}

func genMessage(v Version) *rapid.Generator[Message] {
	return rapid.Custom(func(t *rapid.T) Message {
		m := Message{
			Topic: genTopic().Draw(t, "topic"), Payload: genBytes().Draw(t, "payload"),
			QoS: QoS(rapid.IntRange(0, 2).Draw(t, "qos")), Retain: rapid.Bool().Draw(t, "retain"),
		}
		if v < V5 {
			return m
		}
		m.PayloadFormat = byte(rapid.IntRange(0, 1).Draw(t, "format"))
		if m.HasExpiry = rapid.Bool().Draw(t, "expires"); m.HasExpiry {
			m.Expiry = rapid.Uint32().Draw(t, "expiry")
		}
		m.ContentType = genText().Draw(t, "type")
		if rapid.Bool().Draw(t, "request") {
			m.ResponseTopic = genTopic().Draw(t, "response")
		}
		m.Correlation = maybe(genBytes()).Draw(t, "correlation")
		m.User = genUser().Draw(t, "user")
		return m
	})
}

func genConnect(t *rapid.T, v Version) Packet {
	c := &Connect{
		Version: v, CleanStart: rapid.Bool().Draw(t, "clean"), KeepAlive: rapid.Uint16().Draw(t, "keepalive"),
		ClientID: genText().Draw(t, "id"), ReceiveMax: maxField, RequestProblemInfo: true,
	}
	if c.HasUsername = rapid.Bool().Draw(t, "user"); c.HasUsername {
		c.Username = genText().Draw(t, "name")
	}
	if c.HasPassword = (c.HasUsername || v >= V5) && rapid.Bool().Draw(t, "pass"); c.HasPassword {
		c.Password = genBytes().Draw(t, "password")
	}
	if rapid.Bool().Draw(t, "will") {
		c.Will = &Will{Message: genMessage(v).Draw(t, "message")}
		if v >= V5 {
			c.Will.Delay = optional[uint32](t, "delay")
		}
	}
	if v < V5 {
		return c
	}
	c.SessionExpiry = optional[uint32](t, "expiry")
	c.ReceiveMax = max(1, rapid.Uint16().Draw(t, "receive"))
	c.MaxPacket = optional[uint32](t, "size")
	c.AliasMax = optional[uint16](t, "aliases")
	c.RequestResponseInfo = rapid.Bool().Draw(t, "response")
	c.RequestProblemInfo = rapid.Bool().Draw(t, "problem")
	if c.HasAuthMethod = rapid.Bool().Draw(t, "auth"); c.HasAuthMethod {
		c.AuthMethod = genText().Draw(t, "method")
		c.AuthData = maybe(genBytes()).Draw(t, "data")
	}
	c.User = genUser().Draw(t, "props")
	return c
}

func genConnack(t *rapid.T, v Version) Packet {
	c := &Connack{}
	switch {
	case v >= V5:
		c.Code = rapid.SampledFrom(standardReasons[CONNACK]).Draw(t, "code")
	default:
		c.Code = rapid.SampledFrom(returnCodes[:]).Draw(t, "code")
	}
	c.SessionPresent = v > V31 && c.Code == Success && rapid.Bool().Draw(t, "present")
	if v < V5 {
		return c
	}
	u32, u16 := rapid.Uint32(), rapid.Uint16()
	c.SessionExpiry = pointer(t, u32, "expiry")
	c.ReceiveMax = pointer(t, rapid.Uint16Min(1), "receive")
	c.MaxQoS = pointer(t, rapid.SampledFrom([]QoS{0, 1}), "qos")
	c.RetainAvailable = pointer(t, rapid.Bool(), "retain")
	c.MaxPacket = pointer(t, rapid.Uint32Min(1), "size")
	c.AssignedClientID = genText().Draw(t, "id")
	c.AliasMax = pointer(t, u16, "aliases")
	c.WildcardAvailable = pointer(t, rapid.Bool(), "wildcard")
	c.SubIDAvailable = pointer(t, rapid.Bool(), "subid")
	c.SharedAvailable = pointer(t, rapid.Bool(), "shared")
	c.ServerKeepAlive = pointer(t, u16, "keepalive")
	c.ResponseInfo = genText().Draw(t, "info")
	c.ServerReference = genText().Draw(t, "server")
	c.AuthMethod = genText().Draw(t, "method")
	c.AuthData = maybe(genBytes()).Draw(t, "data")
	c.ReasonString = genText().Draw(t, "reason")
	c.User = genUser().Draw(t, "props")
	return c
}

// answer draws what every answer of 5.0 may have.
func answer(t *rapid.T, v Version, reason *string, user *[]UserProperty) {
	if v >= V5 {
		*reason, *user = genText().Draw(t, "reason"), genUser().Draw(t, "props")
	}
}

func genAck(t *rapid.T, v Version) Packet {
	a := &Ack{Kind: rapid.SampledFrom([]Type{PUBACK, PUBREC, PUBREL, PUBCOMP}).Draw(t, "kind"), ID: rapid.Uint16Min(1).Draw(t, "id")}
	if v >= V5 {
		a.Code = rapid.SampledFrom(standardReasons[a.Kind]).Draw(t, "code")
	}
	answer(t, v, &a.ReasonString, &a.User)
	return a
}

func genSubscribe(t *rapid.T, v Version) Packet {
	s := &Subscribe{ID: rapid.Uint16Min(1).Draw(t, "id")}
	if v >= V5 {
		if rapid.Bool().Draw(t, "identified") {
			s.SubID = rapid.Uint32Range(1, MaxRemaining).Draw(t, "sub")
		}
		s.User = genUser().Draw(t, "props")
	}
	for range rapid.IntRange(1, 4).Draw(t, "filters") {
		o := SubOptions(rapid.IntRange(0, 2).Draw(t, "qos"))
		if v >= V5 {
			o |= rapid.SampledFrom([]SubOptions{0, NoLocal, RetainAsPublished}).Draw(t, "flags")
			o |= SubOptions(rapid.IntRange(0, 2).Draw(t, "handling")) << RetainHandlingShift
		}
		s.Filters = append(s.Filters, Subscription{genText().Draw(t, "filter"), o})
	}
	return s
}

func genSuback(t *rapid.T, v Version) Packet {
	s := &Suback{ID: rapid.Uint16Min(1).Draw(t, "id")}
	codes := standardReasons[SUBACK]
	switch v { // the first ones are all that the older versions have
	case V31:
		codes = codes[:3]
	case V311:
		codes = codes[:4]
	}
	s.Codes = rapid.SliceOfN(rapid.SampledFrom(codes), 1, 5).Draw(t, "codes")
	answer(t, v, &s.ReasonString, &s.User)
	return s
}

func genUnsubscribe(t *rapid.T, v Version) Packet {
	u := &Unsubscribe{ID: rapid.Uint16Min(1).Draw(t, "id"), Filters: rapid.SliceOfN(genText(), 1, 4).Draw(t, "filters")}
	if v >= V5 {
		u.User = genUser().Draw(t, "props")
	}
	return u
}

func genUnsuback(t *rapid.T, v Version) Packet {
	u := &Unsuback{ID: rapid.Uint16Min(1).Draw(t, "id")}
	if v >= V5 {
		u.Codes = rapid.SliceOfN(rapid.SampledFrom(standardReasons[UNSUBACK]), 1, 5).Draw(t, "codes")
	}
	answer(t, v, &u.ReasonString, &u.User)
	return u
}

func genDisconnect(t *rapid.T, v Version) Packet {
	d := &Disconnect{}
	if v < V5 {
		return d
	}
	d.Code = rapid.SampledFrom(standardReasons[DISCONNECT]).Draw(t, "code")
	if d.HasSessionExpiry = rapid.Bool().Draw(t, "expires"); d.HasSessionExpiry {
		d.SessionExpiry = rapid.Uint32().Draw(t, "expiry")
	}
	d.ServerReference = genText().Draw(t, "server")
	answer(t, v, &d.ReasonString, &d.User)
	return d
}

func genAuth(t *rapid.T, v Version) Packet {
	a := &Auth{Code: rapid.SampledFrom(standardReasons[AUTH]).Draw(t, "code"), Method: genText().Draw(t, "method")}
	a.Data = maybe(genBytes()).Draw(t, "data")
	answer(t, v, &a.ReasonString, &a.User)
	return a
}

// TestRoundTrip: what is appended is read back as it was, byte for byte as long as Length says, whatever stands in
// front of it and behind it.
func TestRoundTrip(t *testing.T) {
	for name, gen := range map[string]func(*rapid.T, Version) Packet{
		"connect": genConnect, "connack": genConnack, "ack": genAck, "subscribe": genSubscribe, "suback": genSuback,
		"unsubscribe": genUnsubscribe, "unsuback": genUnsuback, "disconnect": genDisconnect, "auth": genAuth,
		"pingreq":  func(*rapid.T, Version) Packet { return &Pingreq{} },
		"pingresp": func(*rapid.T, Version) Packet { return &Pingresp{} },
	} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				v := rapid.SampledFrom(versions).Draw(t, "version")
				if name == "auth" {
					v = V5
				}
				want := gen(t, v)
				b := want.Append([]byte("front"), v)[len("front"):]
				if want.Length(v) != len(b) {
					t.Fatalf("Length %d, %d bytes", want.Length(v), len(b))
				}
				got, n, err := Parse(append(bytes.Clone(b), 0xFF), len(b), v)
				if err != nil || n != len(b) {
					t.Fatalf("%x: %d of %d bytes, %v", b, n, len(b), err)
				}
				if !reflect.DeepEqual(got, want) {
					t.Fatalf("got %+v\nwant %+v", got, want)
				}
				if got.String() != want.String() {
					t.Fatalf("got %s, want %s", got, want)
				}
				cut := rapid.IntRange(0, len(b)-1).Draw(t, "cut")
				if p, n, err := Parse(b[:cut], 0, v); p != nil || n != 0 || err != nil {
					t.Fatalf("%d of %d bytes: %v, %d, %v", cut, len(b), p, n, err)
				}
				if _, _, err := Parse(b, len(b)-1, v); err != errTooLarge {
					t.Fatalf("a byte beyond the limit: %v", err)
				}
			})
		})
	}
}

// TestRoundTripPublish: a message comes back through every form and through the slow path.
func TestRoundTripPublish(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := genMessage(V5).Draw(t, "message")
		p, err := NewPublish(&m, 5)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Message(); !reflect.DeepEqual(got, &m) {
			t.Fatalf("got %+v, want %+v", got, m)
		}
		v := rapid.SampledFrom(versions).Draw(t, "version")
		o := PublishOpts{
			QoS: QoS(rapid.IntRange(0, 2).Draw(t, "qos")), Retain: rapid.Bool().Draw(t, "retain"), Dup: rapid.Bool().Draw(t, "dup"),
			ID: rapid.Uint16Min(1).Draw(t, "id"), Expiry: rapid.Uint32().Draw(t, "left"), OmitTopic: rapid.Bool().Draw(t, "omit"),
			Alias: optional[uint16](t, "alias"),
		}
		if ids := rapid.SliceOfN(rapid.Uint32Range(1, MaxRemaining), 0, 3).Draw(t, "subs"); len(ids) > 0 {
			o.SubIDs = ids
		}
		b := AppendPublish(nil, p, v, o)
		if n := SizePublish(p, v, o); n != len(b) {
			t.Fatalf("SizePublish %d, %d bytes", n, len(b))
		}
		if direct := AppendMessage(nil, &m, v, o); !bytes.Equal(direct, b) || SizeMessage(&m, v, o) != len(b) {
			t.Fatalf("AppendMessage %x, AppendPublish %x", direct, b)
		}
		q, n, err := Parse(b, 0, v)
		if err != nil || n != len(b) {
			t.Fatalf("%x: %d of %d bytes, %v", b, n, len(b), err)
		}
		if got, want := plainPublish(q.(*Publish)), asSent(p, v, o); !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v\nwant %+v", got, want)
		}
	})
}
