package show

import (
	"encoding/json"
	"errors"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
)

// noon is a Tuesday in another zone than UTC.
var noon = time.Date(2026, 11, 24, 13, 4, 5, 123456789, time.FixedZone("CET", 3600))

func full() *client.Received {
	return &client.Received{
		Message: packet.Message{
			Topic: "a/bé", Payload: []byte(`hello "w"`), QoS: 1, Retain: true,
			PayloadFormat: 1, Expiry: 60, HasExpiry: true, ContentType: "text/plain", ResponseTopic: "re/x",
			Correlation: []byte("c1"), User: []packet.UserProperty{{Key: "k1", Value: "v1"}, {Key: "k1", Value: "v2"}},
		},
		Dup: true, PacketID: 7, SubscriptionIDs: []uint32{3, 4}, At: noon,
	}
}

func bare(payload string) *client.Received {
	return &client.Received{Message: packet.Message{Topic: "t", Payload: []byte(payload)}, At: noon}
}

func TestFormat(t *testing.T) {
	f := func(format string, m *client.Received, want string) {
		t.Helper()
		p, err := ParseFormat(format)
		if err != nil {
			t.Errorf("%s: %v", format, err)
			return
		}
		got, err := p.Append([]byte("x"), m, false)
		if err != nil || string(got) != "x"+want {
			t.Errorf("%s: %q, %v, want %q", format, got, err, "x"+want)
		}
	}
	f("", full(), "")
	f("[%A][%C][%D][%E][%F][%l][%m][%P]", full(), "[][text/plain][c1][60][1][9][7][k1:v1 k1:v2]")
	f("[%p][%q][%R][%r][%S][%t][%%]", full(), `[hello "w"][1][re/x][1][3,4][a/bé][%]`)
	f("%x %X", bare("\xab\x01"), "ab01 AB01")
	f("%I %U", full(), "2026-11-24T13:04:05+0100 1795521845.123456789")
	f("[%A][%C][%D][%E][%F][%m][%P][%R][%S][%r]", bare(""), "[][][][][][0][][][][0]")

	// Widths.
	f("[%010E][%-6F][%05l][%05m][%12p]", full(), `[0000000060][1     ][00009][00007][   hello "w"]`)
	f("[%6t][%-6t][%.3t][%6.3t][%-06t][%.0t]", full(), "[  a/bé][a/bé  ][a/b][   a/b][a/bé  ][]")
	f("[%5A][%05C][%08x][%-8X][%.1x]", bare("\x01\x02"), "[     ][     ][00000102][0102    ][01]")

	// Time.
	f("@Y-@m-@d @H:@M:@S.@N @@ @z @s @j", full(), "2026-11-24 13:04:05.123456789 @ +0100 1795521845 328")
	f("@a @A @b @B @h|@c|@C|@D|@e|@F|@g|@G", full(), "Tue Tuesday Nov November Nov|Tue Nov 24 13:04:05 2026|20|11/24/26|24|2026-11-24|26|2026")
	f("@I@k@l@p@P@r|@R|@T|@u@w|@U|@V|@W|@x|@X|@y|@Z@n@t", full(), "0113 1PMpm01:04:05 PM|13:04|13:04:05|22|47|48|47|11/24/26|13:04:05|26|CET\n\t")

	f(`\\\0\a\e\n\r\t\v`, full(), "\\\x00\a\x1b\n\r\t\v")
	f("é%q€", bare(""), "é0€")

	f("%j", full(), `{"tst":"2026-11-24T13:04:05.123456+0100","topic":"a/bé","qos":1,"retain":1,"payloadlen":9,"mid":7,`+
		`"properties":{"content-type":"text/plain","user-properties":{"k1":"v1","k1":"v2"},"response-topic":"re/x","correlation-data":"c1",`+
		`"payload-format-indicator":1,"message-expiry-interval":60,"subscription-identifier":3},"payload":"hello \"w\""}`)
	f("%j", bare("\xff"), `{"tst":"2026-11-24T13:04:05.123456+0100","topic":"t","qos":0,"retain":0,"payloadlen":1,"payload":"`+"\uFFFD"+`"}`)
	f("%J", bare(" {\"a\": [1,\n2]}"), `{"tst":"2026-11-24T13:04:05.123456+0100","topic":"t","qos":0,"retain":0,"payloadlen":14,"payload":{"a":[1,2]}}`)
}

func TestFormatNotJSON(t *testing.T) {
	p, err := ParseFormat("x%J")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Append(nil, bare("no"), false); !errors.Is(err, ErrNotJSON) {
		t.Error(err)
	}
	printer := Printer{Style: Custom, Format: p}
	if b, err := printer.Append([]byte("before"), bare("no")); !errors.Is(err, ErrNotJSON) || string(b) != "before" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestFormatFaults(t *testing.T) {
	f := func(format, want string) {
		t.Helper()
		if _, err := ParseFormat(format); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", format, err, want)
		}
	}
	f("ab%z", `format "ab%z", at 3: there is no %z`)
	f("%é", `format "%é", at 1: there is no %é`)
	f("%", `format "%", at 1: nothing follows %`)
	f("%-5.2", `format "%-5.2", at 1: nothing follows %-5.2`)
	f("@", `format "@", at 1: nothing follows @`)
	f("@Q", `format "@Q", at 1: there is no @Q`)
	f(`\`, `format "\\", at 1: nothing follows \`)
	f(`\q`, `format "\\q", at 1: no character is written \q`)
	f("%99999999999999999999t", `format "%99999999999999999999t", at 1: no field can be wider than 10000`)
	f("%.10001t", `format "%.10001t", at 1: no field can be wider than 10000`)
}

// TestWeeks: the number of the week as the C library has it, around the turns
// of years.
func TestWeeks(t *testing.T) {
	f := func(date, want string) {
		t.Helper()
		day, err := time.Parse(time.DateOnly, date)
		if err != nil {
			t.Fatal(err)
		}
		got := string(appendTime(append(appendTime(append(appendTime(append(appendTime(nil, 'U', day), ' '), 'W', day), ' '), 'V', day), ' '), 'G', day))
		if got != want {
			t.Errorf("%s: %s, want %s", date, got, want)
		}
	}
	f("2026-01-01", "00 00 01 2026") // Thursday
	f("2026-01-04", "01 00 01 2026") // Sunday
	f("2026-01-05", "01 01 02 2026")
	f("2027-01-01", "00 00 53 2026") // Friday
	f("2023-01-01", "01 00 52 2022") // Sunday
	f("2024-01-01", "00 01 01 2024") // Monday
	f("2024-12-31", "52 53 01 2025")
}

func TestJSON(t *testing.T) {
	f := func(m *client.Received, want string) {
		t.Helper()
		if got := string(AppendJSON(nil, m)); got != want {
			t.Errorf("\n%s, want\n%s", got, want)
		}
	}
	f(full(), `{"time":"2026-11-24T12:04:05.123456789Z","topic":"a/bé","qos":1,"retain":true,"dup":true,"id":7,"payload":"hello \"w\"",`+
		`"properties":{"payload_format":1,"message_expiry":60,"content_type":"text/plain","response_topic":"re/x","correlation_data":"c1",`+
		`"subscription_ids":[3,4],"user":[{"key":"k1","value":"v1"},{"key":"k1","value":"v2"}]}}`)
	f(bare("\xff\x00"), `{"time":"2026-11-24T12:04:05.123456789Z","topic":"t","qos":0,"retain":false,"dup":false,"payload_base64":"/wA="}`)
	m := bare("\x1b[2J\u009b\u202e\U000E0041\u2028\n\r\t\x7f")
	m.Correlation = []byte{0xFE}
	f(m, `{"time":"2026-11-24T12:04:05.123456789Z","topic":"t","qos":0,"retain":false,"dup":false,`+
		`"payload":"\u001b[2J\u009b\u202e\udb40\udc41\u2028\n\r\t\u007f","properties":{"correlation_data_base64":"/g=="}}`)
}

// TestValue: what jq gets is what the line says, but for a payload that is JSON.
func TestValue(t *testing.T) {
	for _, m := range []*client.Received{full(), bare("text"), bare("\xff"), bare("")} {
		value, err := json.Marshal(Value(m))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(decoded(t, AppendJSON(nil, m)), decoded(t, value)); diff != "" {
			t.Error(diff)
		}
	}
	if got := Value(bare(`{"a":9007199254740993}`))["payload"]; !cmp.Equal(got, any(map[string]any{"a": json.Number("9007199254740993")})) {
		t.Errorf("%#v", got)
	}
	if got := Value(bare("\"\xff\""))["payload_base64"]; got != "Iv8i" {
		t.Errorf("%#v", got)
	}
	if got := Value(bare("1 2"))["payload"]; got != "1 2" {
		t.Errorf("%#v", got)
	}
}

func decoded(t *testing.T, text []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestPrinter(t *testing.T) {
	f := func(p Printer, m *client.Received, want string) {
		t.Helper()
		got, err := p.Append(nil, m)
		if err != nil || string(got) != want {
			t.Errorf("%+v: %q, %v, want %q", p, got, err, want)
		}
	}
	evil := bare("a\x1b[2Jb\nc\td\r\xff")
	evil.Topic = "t\u009b"
	f(Printer{}, evil, "a\x1b[2Jb\nc\td\r\xff\n")
	f(Printer{NoNewline: true}, evil, "a\x1b[2Jb\nc\td\r\xff")
	f(Printer{Style: Verbose}, evil, "t\u009b a\x1b[2Jb\nc\td\r\xff\n")
	f(Printer{Style: Verbose, Clean: true}, evil, `t\x9b a\x1b[2Jb`+"\nc\td"+`\r\xff`+"\n")
	format, err := ParseFormat(`\e[1m%t\e[m %9p`)
	if err != nil {
		t.Fatal(err)
	}
	f(Printer{Style: Custom, Format: format, Clean: true}, evil, "\x1b[1mt\\x9b\x1b[m a\\x1b[2Jb\nc\td\\r\\xff\n")
	f(Printer{Style: Hex, NoNewline: true}, bare("0123456789abcdef\x00\xff"), "t (18 bytes)\n"+
		"00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|\n"+
		"00000010  00 ff                                             |..|\n")
	f(Printer{Style: JSON}, bare("1"), string(AppendJSON(nil, bare("1")))+"\n")
}

func TestClean(t *testing.T) {
	f := func(s, want string) {
		t.Helper()
		if got := Clean(s); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
	f("plain é € 漢 🙂", "plain é € 漢 🙂")
	f("a\nb\rc\td\x00\x1b\x7f", `a\nb\rc\td\x00\x1b\x7f`)
	f("\u0085\u009b31m", `\x85\x9b31m`)
	f("\u202eabc\u200b\u2028\ufeff", `\u202eabc\u200b\u2028\ufeff`)
	f("\xff\xc3", `\xff\xc3`)
	f("\uFFFD", "\uFFFD")
}

func TestFit(t *testing.T) {
	f := func(s string, width int, right bool, want string) {
		t.Helper()
		got := Fit(s, width, right)
		if got != want || Width(got) != max(width, 0) {
			t.Errorf("%q in %d: %q (%d), want %q", s, width, got, Width(got), want)
		}
	}
	f("abc", 5, false, "abc  ")
	f("abc", 5, true, "  abc")
	f("abcdef", 5, false, "abcd…")
	f("漢字漢字", 5, false, "漢字…")
	f("漢字漢字", 4, false, "漢… ")
	f("漢", 2, false, "漢")
	f("e\u0301e\u0301", 2, false, "e\u0301e\u0301")
	f("🙂🙂", 3, false, "🙂…")
	f("abc", 1, false, "…")
	f("abc", 0, false, "")
	f("abc", -1, false, "")
	f("", 2, true, "  ")
}

// quiet fails where text does something to a terminal.
func quiet(t *testing.T, s string) {
	t.Helper()
	if !utf8.ValidString(s) {
		t.Errorf("not UTF-8: %q", s)
	}
	for _, r := range s {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
			t.Errorf("%q has %U", s, r)
		}
	}
}

// FuzzShow: whatever the format and the message, nothing panics, and what is
// meant for a terminal does nothing to it.
func FuzzShow(f *testing.F) {
	f.Add("%10.3t %p @Y", "a/b", []byte("x\x1b[31m"), byte(1))
	f.Add("%j|%J|%-05S", "é\u202e", []byte(`{"a":1}`), byte(6))
	f.Add(`%x%.2X\e`, "", []byte{0xff, 0xc3}, byte(0))
	f.Fuzz(func(t *testing.T, format, topic string, payload []byte, flags byte) {
		m := full()
		m.Topic, m.Payload, m.QoS = topic, payload, packet.QoS(flags%3)
		m.ContentType, m.Correlation = topic, payload
		p, err := ParseFormat(format)
		if err == nil {
			raw, err1 := p.Append(nil, m, false)
			_, err2 := p.Append(nil, m, true)
			if (err1 == nil) != (err2 == nil) {
				t.Error(err1, err2)
			}
			if limit := (len(format) + 1) * (maxWidth + 20*(len(topic)+len(payload)+1) + 1000); len(raw) > limit {
				t.Errorf("%d bytes", len(raw))
			}
		}
		for _, style := range []Style{Payload, Verbose, Hex, JSON} {
			b, err := (&Printer{Style: style, Clean: true}).Append(nil, m)
			if err != nil {
				t.Error(err)
			}
			quiet(t, string(b))
		}
		for _, b := range [][]byte{AppendJSON(nil, m), appendMosquitto(nil, m, false)} {
			if !json.Valid(b) {
				t.Errorf("not JSON: %s", b)
			}
		}
		Value(m)
		clean := Clean(string(payload))
		quiet(t, clean)
		for _, width := range []int{0, 1, 2, 7, 40} {
			if fit := Fit(clean, width, flags&1 != 0); Width(fit) != width {
				t.Errorf("%q is %d wide, not %d", fit, Width(fit), width)
			}
		}
	})
}
