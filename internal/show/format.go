package show

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
)

// maxWidth is the widest field that a format may ask for.
const maxWidth = 10_000

// ErrNotJSON: the format has %J and the payload is no JSON.
var ErrNotJSON = errors.New("payload is not JSON")

// Format is a format as mosquitto_sub takes it with -F, ready to be used:
//
//	%t topic          %p payload        %x %X payload in hexadecimal
//	%l payload bytes  %q QoS            %r retained, 0 or 1
//	%m packet identifier                %% a percent sign
//	%A topic alias    %C content type   %D correlation data
//	%E expiry         %F payload format indicator
//	%P user properties, name:value      %R response topic
//	%S subscription identifiers
//	%I time in ISO 8601                 %U seconds since 1970
//	%j JSON with the payload as text    %J JSON with the payload as it is
//	@X what strftime has for %X         @N nanoseconds   @@ an at sign
//	\\ \0 \a \e \n \r \t \v             characters
//
// Between % and a letter may stand - (left), 0 (zeros in front of numbers), a
// least width and a point with a largest one, as in %-20.20t. Widths count
// characters, those of payloads bytes. What a message has not is empty.
type Format struct {
	parts []part
}

// part is text that stays, or one field.
type part struct {
	text       string // if kind is 0
	kind, verb byte   // '%' or '@', and the letter
	left, zero bool
	least      int
	most       int // -1: any
}

// The letters that may stand behind a % or an @.
const (
	verbs      = "ACDEFIJPRSUXjlmpqrtx"
	timeVerbs  = "aAbBcCdDeFgGhHIjklmMnNpPrRsStTuUVwWxXyYzZ"
	numberVerb = "AEFlmqrSxX" // %x too, as mosquitto has it
)

// ParseFormat makes a Format of its text. Errors name the place.
func ParseFormat(s string) (*Format, error) {
	f := &Format{}
	var text strings.Builder
	for i := 0; i < len(s); {
		c := s[i]
		if c != '%' && c != '@' && c != '\\' {
			text.WriteByte(c)
			i++
			continue
		}
		p, n, err := parsePart(s[i:])
		if err != nil {
			return nil, fmt.Errorf("format %q, at %d: %w", s, i+1, err)
		}
		i += n
		if p.kind == 0 {
			text.WriteString(p.text)
			continue
		}
		if text.Len() > 0 {
			f.parts = append(f.parts, part{text: text.String()})
			text.Reset()
		}
		f.parts = append(f.parts, p)
	}
	if text.Len() > 0 {
		f.parts = append(f.parts, part{text: text.String()})
	}
	return f, nil
}

// parsePart reads what begins with a %, @ or \, n bytes of it.
func parsePart(s string) (p part, n int, err error) {
	start, i := s[0], 1
	p.most = -1
	if start == '%' {
		for ; i < len(s) && (s[i] == '-' || s[i] == '0'); i++ {
			p.left = p.left || s[i] == '-'
			p.zero = p.zero || s[i] == '0'
		}
		if p.least, i, err = parseWidth(s, i); err != nil {
			return p, 0, err
		}
		if i < len(s) && s[i] == '.' {
			if p.most, i, err = parseWidth(s, i+1); err != nil {
				return p, 0, err
			}
		}
	}
	if i >= len(s) {
		return p, 0, fmt.Errorf("nothing follows %s", s)
	}
	c := s[i]
	n = i + 1
	switch {
	case start == '\\':
		escaped := strings.IndexByte("\\0aenrtv", c)
		if escaped < 0 {
			return p, 0, fmt.Errorf("no character is written \\%s", firstRune(s[i:]))
		}
		return part{text: "\\\x00\a\x1b\n\r\t\v"[escaped : escaped+1]}, n, nil
	case c == start:
		return part{text: string(c)}, n, nil
	case start == '%' && strings.IndexByte(verbs, c) >= 0, start == '@' && strings.IndexByte(timeVerbs, c) >= 0:
		p.kind, p.verb = start, c
		return p, n, nil
	}
	return p, 0, fmt.Errorf("there is no %c%s", start, firstRune(s[i:]))
}

func firstRune(s string) string {
	_, n := utf8.DecodeRuneInString(s)
	return s[:n]
}

// parseWidth reads the digits from i on.
func parseWidth(s string, i int) (width, next int, err error) {
	for ; i < len(s) && s[i] >= '0' && s[i] <= '9'; i++ {
		if width = width*10 + int(s[i]-'0'); width > maxWidth {
			return 0, i, fmt.Errorf("no field can be wider than %d", maxWidth)
		}
	}
	return width, i, nil
}

// Append adds the message to b in the format. clean makes control characters of
// its fields visible. The error is ErrNotJSON or nil.
func (f *Format) Append(b []byte, m *client.Received, clean bool) ([]byte, error) {
	for i := range f.parts {
		p := &f.parts[i]
		switch {
		case p.kind == 0:
			b = append(b, p.text...)
		case p.kind == '@':
			b = appendTime(b, p.verb, m.At)
		case p.verb == 'J' && !json.Valid(m.Payload):
			return b, ErrNotJSON
		default:
			b = p.append(b, m, clean)
		}
	}
	return b, nil
}

// append adds one field, cut and filled to its width.
func (p *part) append(b []byte, m *client.Received, clean bool) []byte {
	at := len(b)
	raw := false // the field may hold anything
	switch p.verb {
	case 'p':
		b, raw = append(b, cutBytes(m.Payload, p.most)...), true
	case 'x', 'X':
		b = appendHex(b, cutBytes(m.Payload, p.most), p.verb == 'X')
	case 't', 'C', 'R', 'I', 'D', 'P':
		b, raw = append(b, cutRunes(textOf(m, p.verb), p.most)...), true
	case 'j', 'J':
		b = appendMosquitto(b, m, p.verb == 'J')
	default:
		b = appendNumber(b, m, p.verb)
	}
	if raw && clean {
		b = AppendCleanLines(b[:at], append([]byte(nil), b[at:]...))
	}
	return p.fill(b, at)
}

// fill makes what stands from at on as wide as the field has to be.
func (p *part) fill(b []byte, at int) []byte {
	if p.least == 0 {
		return b
	}
	width := len(b) - at
	if p.verb != 'p' && p.verb != 'x' && p.verb != 'X' {
		width = utf8.RuneCount(b[at:])
	}
	lacks := p.least - width
	if lacks <= 0 {
		return b
	}
	with := byte(' ')
	if p.zero && !p.left && width > 0 && strings.IndexByte(numberVerb, p.verb) >= 0 {
		with = '0'
	}
	end := len(b)
	for range lacks {
		b = append(b, with)
	}
	if !p.left {
		copy(b[at+lacks:], b[at:end])
		for i := range lacks {
			b[at+i] = with
		}
	}
	return b
}

func cutBytes(b []byte, most int) []byte {
	if most >= 0 && len(b) > most {
		return b[:most]
	}
	return b
}

// cutRunes is the first characters of s.
func cutRunes(s string, most int) string {
	if most < 0 {
		return s
	}
	for i := range s {
		if most == 0 {
			return s[:i]
		}
		most--
	}
	return s
}

// textOf is a field that is text.
func textOf(m *client.Received, verb byte) string {
	switch verb {
	case 't':
		return m.Topic
	case 'C':
		return m.ContentType
	case 'R':
		return m.ResponseTopic
	case 'D':
		return string(m.Correlation)
	case 'I':
		return m.At.Format("2006-01-02T15:04:05-0700")
	}
	return userText(m.User)
}

func userText(user []packet.UserProperty) string {
	var s strings.Builder
	for i, u := range user {
		if i > 0 {
			s.WriteByte(' ')
		}
		s.WriteString(u.Key + ":" + u.Value)
	}
	return s.String()
}

// appendNumber adds a field that is a number.
func appendNumber(b []byte, m *client.Received, verb byte) []byte {
	switch verb {
	case 'l':
		return strconv.AppendInt(b, int64(len(m.Payload)), 10)
	case 'm':
		return strconv.AppendUint(b, uint64(m.PacketID), 10)
	case 'q':
		return strconv.AppendUint(b, uint64(m.QoS), 10)
	case 'r':
		return strconv.AppendInt(b, int64(bit(m.Retain)), 10)
	case 'E':
		if m.HasExpiry {
			return strconv.AppendUint(b, uint64(m.Expiry), 10)
		}
	case 'F':
		if m.PayloadFormat != 0 {
			return strconv.AppendUint(b, uint64(m.PayloadFormat), 10)
		}
	case 'S':
		for i, id := range m.SubscriptionIDs {
			if i > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendUint(b, uint64(id), 10)
		}
	case 'U':
		b = strconv.AppendInt(b, m.At.Unix(), 10)
		b = append(b, '.')
		return appendPadded(b, m.At.Nanosecond(), 9, '0')
	}
	return b // %A: an alias belongs to a connection, and is resolved
}

func bit(set bool) int {
	if set {
		return 1
	}
	return 0
}

func appendHex(b, data []byte, upper bool) []byte {
	digits := "0123456789abcdef"
	if upper {
		digits = "0123456789ABCDEF"
	}
	for _, c := range data {
		b = append(b, digits[c>>4], digits[c&15])
	}
	return b
}
