package packet

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// connectBytes is a CONNECT with this protocol name and level.
func connectBytes(name string, level byte) []byte {
	body := append([]byte{0, byte(len(name))}, name...)
	body = append(body, level, 2, 0, 60)
	if level&0x7F >= 5 {
		body = append(body, 0)
	}
	body = append(body, 0, 2, 'i', 'd')
	return append([]byte{0x10, byte(len(body))}, body...)
}

// TestConnectVersion: the version is known after an error as well, so that the refusal can be written in the right
// form. [MQTT-3.1.2-1] [MQTT-3.1.2-2]
func TestConnectVersion(t *testing.T) {
	for _, c := range []struct {
		name  string
		level byte
		want  Version
		ok    bool
	}{
		{"MQIsdp", 3, V31, true}, {"MQTT", 4, V311, true}, {"MQTT", 5, V5, true},
		{"MQIsdp", 0x83, V31, false}, {"MQTT", 0x84, V311, false}, {"MQTT", 0x85, V5, false}, // bridges
		{"MQTT", 6, V5, false}, {"MQTT", 0x7F, V5, false},
		{"MQTT", 3, V31, false}, {"MQTT", 0, V31, false}, {"MQIsdp", 4, V31, false}, {"MQIsdp", 5, V31, false},
		{"MQTt", 4, 0, false}, {"MQTTX", 4, 0, false}, {"", 4, 0, false}, {"MQISDP", 3, 0, false},
	} {
		var p Connect
		err := p.Parse(connectBytes(c.name, c.level), 2, 0)
		var e *Error
		if c.ok != (err == nil) || !c.ok && (!errors.As(err, &e) || e.Code != UnsupportedProtocolVersion) {
			t.Errorf("%s level %d: %v", c.name, c.level, err)
		}
		if p.Version != c.want {
			t.Errorf("%s level %d: version %v, want %v", c.name, c.level, p.Version, c.want)
		}
	}
	var p Connect // a later error leaves it known
	if err := p.Parse([]byte{0x10, 7, 0, 4, 'M', 'Q', 'T', 'T', 5}, 2, 0); err == nil || p.Version != V5 {
		t.Errorf("version %v after %v", p.Version, err)
	}
}

// TestConnectFlags goes through all flags in all versions, with a body that has what the flags promise.
func TestConnectFlags(t *testing.T) {
	for _, v := range versions {
		for f := range 256 {
			name, props := `"MQTT"`, ""
			if v == V31 {
				name = `"MQIsdp"`
			}
			if v == V5 {
				props = "{}"
			}
			s := fmt.Sprintf(`10 {%s %02x %02x 003c %s "id"`, name, uint8(v), f, props)
			will, qos, retain := f&4 != 0, f>>3&3, f&0x20 != 0
			user, pass := f&0x80 != 0, f&0x40 != 0
			if will {
				s += props + ` "gone" "now"`
			}
			if user {
				s += ` "anna"`
			}
			if pass {
				s += ` "secret"`
			}
			b, err := assemble(s + "}")
			if err != nil {
				t.Fatal(err)
			}
			want := f&1 == 0 && qos != 3
			if v > V31 {
				want = want && (will || qos == 0 && !retain)
			}
			if v < V5 {
				want = want && (user || !pass)
			}
			var c Connect
			err = c.Parse(b, 2, 0)
			if (err == nil) != want {
				t.Errorf("%v flags %08b: %v", v, f, err)
				continue
			}
			var e *Error
			if err != nil {
				if !errors.As(err, &e) || e.Code != MalformedPacket {
					t.Errorf("%v flags %08b: %v", v, f, err)
				}
				continue
			}
			if c.CleanStart != (f&2 != 0) || c.HasUsername != user || c.HasPassword != pass || (c.Will != nil) != will {
				t.Errorf("%v flags %08b: %v", v, f, &c)
			}
			if will && (c.Will.QoS != QoS(qos) || c.Will.Retain != retain) {
				t.Errorf("%v flags %08b: %v", v, f, &c)
			}
			checkPacket(t, b, v)
		}
	}
}

// TestConnectDefaults: what is absent has the standard's value.
func TestConnectDefaults(t *testing.T) {
	for _, v := range versions {
		b := (&Connect{Version: v, ClientID: "id", RequestProblemInfo: true}).Append(nil, 0)
		var c Connect
		if err := c.Parse(b, 2, 0); err != nil {
			t.Fatal(err)
		}
		if c.Version != v || c.ReceiveMax != 65_535 || !c.RequestProblemInfo || c.RequestResponseInfo || c.SessionExpiry != 0 ||
			c.MaxPacket != 0 || c.AliasMax != 0 || c.HasAuthMethod || c.AuthData != nil || c.Will != nil {
			t.Errorf("%v: %+v", v, c)
		}
	}
}

// TestSecrets: what a log shows of a packet has no password and no authentication data in it.
func TestSecrets(t *testing.T) {
	const secret = "s3cr3t"
	for _, p := range []Packet{
		&Connect{Version: V5, HasPassword: true, Password: []byte(secret), HasAuthMethod: true, AuthMethod: "m", AuthData: []byte(secret)},
		&Connack{AuthMethod: "m", AuthData: []byte(secret)},
		&Auth{Code: ContinueAuthentication, Method: "m", Data: []byte(secret)},
	} {
		if s := p.String(); strings.Contains(s, secret) {
			t.Errorf("%s", s)
		}
	}
	hostile := "a\x1b[2J\n\x07" // text is quoted: a log line stays one line
	for _, p := range []Packet{
		&Connect{Version: V5, ClientID: hostile, HasUsername: true, Username: hostile, User: []UserProperty{{hostile, hostile}},
			Will: &Will{Message: Message{Topic: hostile, ContentType: hostile}}, HasAuthMethod: true, AuthMethod: hostile},
		&Connack{AssignedClientID: hostile, ReasonString: hostile, ServerReference: hostile, ResponseInfo: hostile, AuthMethod: hostile},
		&Subscribe{Filters: []Subscription{{Filter: hostile}}}, &Unsubscribe{Filters: []string{hostile}},
		&Suback{ReasonString: hostile}, &Unsuback{ReasonString: hostile}, &Ack{Kind: PUBACK, ReasonString: hostile},
		&Disconnect{ReasonString: hostile, ServerReference: hostile}, &Auth{Method: hostile, ReasonString: hostile},
	} {
		if s := p.String(); strings.ContainsAny(s, "\x1b\n\x07") {
			t.Errorf("%q", s)
		}
	}
}

// TestOlderVersions: what a version cannot say is left out.
func TestOlderVersions(t *testing.T) {
	f := func(p Packet, v Version, want string) {
		t.Helper()
		b, err := assemble(want)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Append(nil, v); string(got) != string(b) || p.Length(v) != len(b) {
			t.Errorf("%v in %v: %x (Length %d), want %x", p, v, got, p.Length(v), b)
		}
	}
	user := []UserProperty{{"k", "v"}}
	f(&Connack{SessionPresent: true, SessionExpiry: new(uint32(7)), User: user}, V31, `20 {00 00}`)
	f(&Connack{SessionPresent: true, SessionExpiry: new(uint32(7)), User: user}, V311, `20 {01 00}`)
	f(&Connack{SessionPresent: true, Code: NotAuthorized}, V311, `20 {00 05}`)
	f(&Connack{SessionPresent: true, Code: NotAuthorized}, V5, `20 {00 87 {}}`)
	f(&Connack{MaxQoS: new(ExactlyOnce)}, V5, `20 {00 00 {}}`)
	f(&Ack{Kind: PUBREC, ID: 5, Code: QuotaExceeded, ReasonString: "full", User: user}, V311, `50 {0005}`)
	f(&Ack{Kind: PUBREL, ID: 5}, V5, `62 {0005}`)
	f(&Subscribe{ID: 5, SubID: 7, Filters: []Subscription{{"a", 0x2D}}, User: user}, V311, `82 {0005 "a" 01}`)
	codes := []Reason{GrantedQoS2, TopicFilterInvalid, GrantedQoS1}
	f(&Suback{ID: 5, Codes: codes, ReasonString: "no"}, V31, `90 {0005 02 00 01}`)
	f(&Suback{ID: 5, Codes: codes, ReasonString: "no"}, V311, `90 {0005 02 80 01}`)
	f(&Suback{ID: 5, Codes: codes, ReasonString: "no"}, V5, `90 {0005 {1f "no"} 02 8f 01}`)
	f(&Unsuback{ID: 5, Codes: []Reason{NoSubscriptionExisted}, User: user}, V311, `b0 {0005}`)
	f(&Disconnect{Code: ServerBusy, User: user}, V311, `e0 {}`)
	f(&Connect{Version: V5, ClientID: "id", User: user, Will: &Will{Message: Message{Topic: "t", ContentType: "c"}, Delay: 9}},
		V31, `10 {"MQIsdp" 03 04 0000 "id" "t" ""}`)
}
