package packet

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// standardProps is table 2-4 of the standard, typed off it and not derived from the code: identifier, a good value,
// and the packets it may stand in ("will" for the will).
var standardProps = []struct {
	id      int
	value   string // in the notation of testdata/packets.txt
	packets string
}{
	{1, `01`, "PUBLISH will"},
	{2, `00000001`, "PUBLISH will"},
	{3, `"text"`, "PUBLISH will"},
	{8, `"re"`, "PUBLISH will"},
	{9, `"data"`, "PUBLISH will"},
	{11, `01`, "PUBLISH SUBSCRIBE"},
	{17, `00000001`, "CONNECT CONNACK DISCONNECT"},
	{18, `"id"`, "CONNACK"},
	{19, `0001`, "CONNACK"},
	{21, `"m"`, "CONNECT CONNACK AUTH"},
	{22, `"data"`, "CONNECT CONNACK AUTH"},
	{23, `01`, "CONNECT"},
	{24, `00000001`, "will"},
	{25, `01`, "CONNECT"},
	{26, `"info"`, "CONNACK"},
	{28, `"ref"`, "CONNACK DISCONNECT"},
	{31, `"why"`, "CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH"},
	{33, `0001`, "CONNECT CONNACK"},
	{34, `0001`, "CONNECT CONNACK"},
	{35, `0001`, "PUBLISH"},
	{36, `01`, "CONNACK"},
	{37, `01`, "CONNACK"},
	{38, `"k" "v"`, "CONNECT CONNACK PUBLISH will PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE UNSUBACK DISCONNECT AUTH"},
	{39, `00000001`, "CONNECT CONNACK"},
	{40, `01`, "CONNACK"},
	{41, `01`, "CONNACK"},
	{42, `01`, "CONNACK"},
}

// places are packets with a hole for properties.
var places = map[string]string{
	"CONNECT":     `10 {"MQTT" 05 02 003c {%s} "id"}`,
	"will":        `10 {"MQTT" 05 06 003c {} "id" {%s} "gone" "now"}`,
	"CONNACK":     `20 {00 00 {%s}}`,
	"PUBLISH":     `30 {"a/b" {%s} 'x'}`,
	"PUBACK":      `40 {0005 00 {%s}}`,
	"PUBREC":      `50 {0005 00 {%s}}`,
	"PUBREL":      `62 {0005 00 {%s}}`,
	"PUBCOMP":     `70 {0005 00 {%s}}`,
	"SUBSCRIBE":   `82 {0005 {%s} "a" 00}`,
	"SUBACK":      `90 {0005 {%s} 00}`,
	"UNSUBSCRIBE": `a2 {0005 {%s} "a"}`,
	"UNSUBACK":    `b0 {0005 {%s} 00}`,
	"DISCONNECT":  `e0 {00 {%s}}`,
	"AUTH":        `f0 {18 {%s}}`,
}

// outcome parses a place with properties in it; Success is no error.
func outcome(t *testing.T, place, props string) Reason {
	t.Helper()
	// What must stand beside a property for the packet to be right without it.
	switch {
	case place == "AUTH" && !strings.HasPrefix(props, "15") && !strings.Contains(props, " 15"):
		props = `15 "m" ` + props
	case place == "CONNECT" && strings.HasPrefix(props, "16"):
		props += ` 15 "m"`
	}
	b, err := assemble(fmt.Sprintf(places[place], props))
	if err != nil {
		t.Fatal(err)
	}
	checkPacket(t, b, V5)
	_, _, err = Parse(b, 0, V5)
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Success
}

func expect(t *testing.T, place, props string, want Reason) {
	t.Helper()
	if got := outcome(t, place, props); got != want {
		t.Errorf("%s with {%s}: %v, want %v", place, props, got, want)
	}
}

// TestPropertyPlaces tries all 256 identifiers in all packets. [MQTT-2.2.2-1]
func TestPropertyPlaces(t *testing.T) {
	values := map[int]string{}
	allowed := map[int]string{}
	for _, p := range standardProps {
		values[p.id], allowed[p.id] = p.value, " "+p.packets+" "
	}
	for place := range places {
		for id := range 256 {
			value, known := values[id]
			if !known {
				value = "01"
			}
			want := MalformedPacket
			if strings.Contains(allowed[id], " "+place+" ") {
				want = Success
			}
			expect(t, place, fmt.Sprintf("%02x %s", id, value), want)
		}
	}
}

// TestPropertyTwice: only two properties may repeat, and one of them only in PUBLISH.
func TestPropertyTwice(t *testing.T) {
	for _, p := range standardProps {
		for _, place := range strings.Fields(p.packets) {
			want := ProtocolError
			if p.id == 38 || p.id == 11 && place == "PUBLISH" {
				want = Success
			}
			one := fmt.Sprintf("%02x %s", p.id, p.value)
			expect(t, place, one+" "+one, want)
			expect(t, place, one+` 26 "k" "v" `+one, want)
		}
	}
}

// TestPropertyCut: a value that ends too early, at every byte, in every packet that may have it.
func TestPropertyCut(t *testing.T) {
	for _, p := range standardProps {
		whole, err := assemble(fmt.Sprintf("%02x %s", p.id, p.value))
		if err != nil {
			t.Fatal(err)
		}
		for _, place := range strings.Fields(p.packets) {
			for i := 1; i < len(whole); i++ {
				expect(t, place, fmt.Sprintf(`26 "k" "v" %x`, whole[:i]), MalformedPacket)
			}
		}
	}
}

// TestPropertyValues: the values that the standard forbids, with the code it names.
func TestPropertyValues(t *testing.T) {
	for _, p := range standardProps {
		for _, place := range strings.Fields(p.packets) {
			f := func(value string, want Reason) {
				t.Helper()
				expect(t, place, fmt.Sprintf("%02x %s", p.id, value), want)
			}
			switch id := PropID(p.id); id {
			case PropPayloadFormat, PropRequestProblemInfo, PropRequestResponseInfo, PropMaximumQoS, PropRetainAvailable,
				PropWildcardAvailable, PropSubIDAvailable, PropSharedAvailable:
				f("00", Success)
				f("02", ProtocolError)
				f("ff", ProtocolError)
			case PropReceiveMaximum:
				f("0000", ProtocolError)
				f("ffff", Success)
			case PropMaximumPacketSize:
				f("00000000", ProtocolError)
				f("ffffffff", Success)
			case PropSubscriptionID:
				f("00", ProtocolError)
				f("ffffff7f", Success)
				f("ffffffff", MalformedPacket)
				f("8000", MalformedPacket)
			case PropTopicAlias:
				f("0000", TopicAliasInvalid)
				f("ffff", Success)
			case PropTopicAliasMaximum, PropServerKeepAlive:
				f("0000", Success)
				f("ffff", Success)
			case PropMessageExpiry, PropSessionExpiry, PropWillDelay:
				f("00000000", Success)
				f("ffffffff", Success)
			case PropCorrelationData, PropAuthData:
				f(`""`, Success)
				f(`0002 00ff`, Success)
			case PropUser:
				f(`"" ""`, Success)
				f(`0001 00 "v"`, MalformedPacket)
				f(`"k" 0001 00`, MalformedPacket)
				f(`"k" 0003 eda080`, MalformedPacket)
			default: // text
				f(`0001 00`, MalformedPacket)
				f(`0002 c080`, MalformedPacket)
				f(`0003 efbbbf`, Success)
				if id == PropResponseTopic {
					f(`""`, ProtocolError)
					f(`"a/+"`, ProtocolError)
					f(`"#"`, ProtocolError)
				} else {
					f(`""`, Success)
					f(`"a/+"`, Success)
				}
			}
		}
	}
}

// TestPropertyLength: a section longer or shorter than what it holds.
func TestPropertyLength(t *testing.T) {
	for place, form := range places {
		for _, wrong := range []string{"ffffff7f", "ffffffff7f", "8000", "7f"} {
			b, err := assemble(strings.Replace(form, "{%s}", wrong, 1))
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = Parse(b, 0, V5)
			var e *Error
			if !errors.As(err, &e) || e.Code != MalformedPacket {
				t.Errorf("%s with a property length of %s: %v", place, wrong, err)
			}
		}
	}
}
