package show

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/myelin-mqtt/myelin/client"
)

// timeLayout is RFC 3339 with nine digits of a second, so that lines sort.
const timeLayout = "2006-01-02T15:04:05.000000000Z07:00"

// AppendJSON adds the message as one JSON object without an end of line:
//
//	{"time":"2026-11-24T20:30:00.123456789Z","topic":"a/b","qos":1,"retain":false,
//	 "dup":false,"id":7,"payload":"text","properties":{…}}
//
// The time is when it came, in UTC. The id is there where the QoS is not 0. A
// payload that is no UTF-8 has the name payload_base64. properties is there
// where the message has some: payload_format, message_expiry, content_type,
// response_topic, correlation_data (or correlation_data_base64),
// subscription_ids, and user, an array of {"key":…,"value":…}.
func AppendJSON(b []byte, m *client.Received) []byte {
	b = append(b, `{"time":"`...)
	b = m.At.UTC().AppendFormat(b, timeLayout)
	b = append(b, `","topic":`...)
	b = AppendString(b, m.Topic)
	b = append(b, `,"qos":`...)
	b = strconv.AppendUint(b, uint64(m.QoS), 10)
	b = append(b, `,"retain":`...)
	b = strconv.AppendBool(b, m.Retain)
	b = append(b, `,"dup":`...)
	b = strconv.AppendBool(b, m.Dup)
	if m.QoS > 0 {
		b = append(b, `,"id":`...)
		b = strconv.AppendUint(b, uint64(m.PacketID), 10)
	}
	b = appendBinary(append(b, ','), "payload", m.Payload)
	b = appendProperties(b, m)
	return append(b, '}')
}

// appendBinary adds "name": and the data as text, or as base64 under the name
// that says so.
func appendBinary(b []byte, name string, data []byte) []byte {
	if utf8.Valid(data) {
		b = append(append(append(b, '"'), name...), `":`...)
		return AppendString(b, data)
	}
	b = append(append(append(b, '"'), name...), `_base64":"`...)
	b = base64.StdEncoding.AppendEncode(b, data)
	return append(b, '"')
}

// appendProperties adds ,"properties":{…} if there are any.
func appendProperties(b []byte, m *client.Received) []byte {
	const begin = `,"properties":{`
	at := len(b)
	name := func(s string) {
		if len(b) == at {
			b = append(b, begin...)
		} else {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), s...), `":`...)
	}
	if m.PayloadFormat != 0 {
		name("payload_format")
		b = strconv.AppendUint(b, uint64(m.PayloadFormat), 10)
	}
	if m.HasExpiry {
		name("message_expiry")
		b = strconv.AppendUint(b, uint64(m.Expiry), 10)
	}
	if m.ContentType != "" {
		name("content_type")
		b = AppendString(b, m.ContentType)
	}
	if m.ResponseTopic != "" {
		name("response_topic")
		b = AppendString(b, m.ResponseTopic)
	}
	if m.Correlation != nil {
		if len(b) == at {
			b = append(b, begin...)
		} else {
			b = append(b, ',')
		}
		b = appendBinary(b, "correlation_data", m.Correlation)
	}
	if len(m.SubscriptionIDs) > 0 {
		name("subscription_ids")
		for i, id := range m.SubscriptionIDs {
			b = append(b, "[,"[bit(i > 0)])
			b = strconv.AppendUint(b, uint64(id), 10)
		}
		b = append(b, ']')
	}
	if len(m.User) > 0 {
		name("user")
		for i, u := range m.User {
			b = append(b, "[,"[bit(i > 0)])
			b = AppendString(append(b, `{"key":`...), u.Key)
			b = AppendString(append(b, `,"value":`...), u.Value)
			b = append(b, '}')
		}
		b = append(b, ']')
	}
	if len(b) > at {
		b = append(b, '}')
	}
	return b
}

// AppendString adds a JSON string. Control characters, and those that turn the
// direction of text, are escaped, so that it does nothing to a terminal. What
// is no UTF-8 becomes U+FFFD.
func AppendString[S ~string | ~[]byte](b []byte, s S) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < 0x7F && c != '"' && c != '\\' {
			b = append(b, c)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
		i += n
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', c)
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case hidden(r):
			b = appendEscape(b, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

// appendEscape adds \uXXXX, twice for what lies outside the first plane.
func appendEscape(b []byte, r rune) []byte {
	unit := func(r rune) {
		b = append(b, '\\', 'u')
		for shift := 12; shift >= 0; shift -= 4 {
			b = append(b, "0123456789abcdef"[r>>shift&15])
		}
	}
	if r > 0xFFFF {
		r -= 0x10000
		unit(0xD800 + r>>10)
		r = 0xDC00 + r&0x3FF
	}
	unit(r)
	return b
}

// hidden tells of characters that a terminal obeys or that nobody sees.
func hidden(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}

// Value is the message as AppendJSON has it, in the types of a parsed JSON
// document, with numbers as int or json.Number. A payload that is JSON is there
// as what it says, not as text.
func Value(m *client.Received) map[string]any {
	v := map[string]any{
		"time": m.At.UTC().Format(timeLayout), "topic": m.Topic, "qos": int(m.QoS),
		"retain": m.Retain, "dup": m.Dup,
	}
	if m.QoS > 0 {
		v["id"] = int(m.PacketID)
	}
	if parsed, ok := parsePayload(m.Payload); ok {
		v["payload"] = parsed
	} else {
		setBinary(v, "payload", m.Payload)
	}
	if p := properties(m); len(p) > 0 {
		v["properties"] = p
	}
	return v
}

// parsePayload is what a JSON payload says.
func parsePayload(payload []byte) (v any, ok bool) {
	if !json.Valid(payload) || !utf8.Valid(payload) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber() // large numbers stay what they are
	return v, d.Decode(&v) == nil
}

func setBinary(v map[string]any, name string, data []byte) {
	if utf8.Valid(data) {
		v[name] = string(data)
		return
	}
	v[name+"_base64"] = base64.StdEncoding.EncodeToString(data)
}

func properties(m *client.Received) map[string]any {
	v := map[string]any{}
	if m.PayloadFormat != 0 {
		v["payload_format"] = int(m.PayloadFormat)
	}
	if m.HasExpiry {
		v["message_expiry"] = int(m.Expiry)
	}
	if m.ContentType != "" {
		v["content_type"] = m.ContentType
	}
	if m.ResponseTopic != "" {
		v["response_topic"] = m.ResponseTopic
	}
	if m.Correlation != nil {
		setBinary(v, "correlation_data", m.Correlation)
	}
	if len(m.SubscriptionIDs) > 0 {
		var ids []any
		for _, id := range m.SubscriptionIDs {
			ids = append(ids, int(id))
		}
		v["subscription_ids"] = ids
	}
	if len(m.User) > 0 {
		var user []any
		for _, u := range m.User {
			user = append(user, map[string]any{"key": u.Key, "value": u.Value})
		}
		v["user"] = user
	}
	return v
}

// appendMosquitto adds the object that mosquitto_sub has for %j, and for %J
// where bare is set: the payload, which is JSON, as it is.
func appendMosquitto(b []byte, m *client.Received, bare bool) []byte {
	b = append(b, `{"tst":"`...)
	b = m.At.AppendFormat(b, "2006-01-02T15:04:05.000000-0700")
	b = append(b, `","topic":`...)
	b = AppendString(b, m.Topic)
	b = append(b, `,"qos":`...)
	b = strconv.AppendUint(b, uint64(m.QoS), 10)
	b = append(b, `,"retain":`...)
	b = strconv.AppendInt(b, int64(bit(m.Retain)), 10)
	b = append(b, `,"payloadlen":`...)
	b = strconv.AppendInt(b, int64(len(m.Payload)), 10)
	if m.QoS > 0 {
		b = append(b, `,"mid":`...)
		b = strconv.AppendUint(b, uint64(m.PacketID), 10)
	}
	b = appendMosquittoProperties(b, m)
	b = append(b, `,"payload":`...)
	if bare {
		b = appendCompact(b, m.Payload)
	} else {
		b = AppendString(b, m.Payload)
	}
	return append(b, '}')
}

func appendMosquittoProperties(b []byte, m *client.Received) []byte {
	at := len(b)
	name := func(s string) {
		b = append(b, `,"`...)
		b = append(append(b, s...), `":`...)
	}
	text := func(s, value string) {
		if value != "" {
			name(s)
			b = AppendString(b, value)
		}
	}
	text("content-type", m.ContentType)
	if len(m.User) > 0 {
		name("user-properties")
		for i, u := range m.User {
			b = AppendString(append(b, "{,"[bit(i > 0)]), u.Key)
			b = AppendString(append(b, ':'), u.Value)
		}
		b = append(b, '}')
	}
	text("response-topic", m.ResponseTopic)
	text("correlation-data", string(m.Correlation))
	if m.PayloadFormat != 0 {
		name("payload-format-indicator")
		b = strconv.AppendUint(b, uint64(m.PayloadFormat), 10)
	}
	if m.HasExpiry {
		name("message-expiry-interval")
		b = strconv.AppendUint(b, uint64(m.Expiry), 10)
	}
	if len(m.SubscriptionIDs) > 0 {
		name("subscription-identifier")
		b = strconv.AppendUint(b, uint64(m.SubscriptionIDs[0]), 10)
	}
	if len(b) == at {
		return b
	}
	inner := string(b[at+1:])
	return append(append(append(b[:at], `,"properties":{`...), inner...), '}')
}

// appendCompact adds a valid JSON text on one line.
func appendCompact(b, text []byte) []byte {
	out := bytes.NewBuffer(b)
	_ = json.Compact(out, text) // it is valid
	return out.Bytes()
}
