package topic

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// MaxLength is the length in bytes of the longest topic name or filter. [MQTT-4.7.3-3]
const MaxLength = 65535

// The reasons for which a name or filter is refused. Compare with errors.Is. ErrUTF8 and ErrNull make the packet malformed; the others are an
// invalid topic name (0x90) or topic filter (0x8F).
var (
	ErrEmpty       = errors.New("topic is empty")
	ErrTooLong     = errors.New("topic is longer than 65535 bytes")
	ErrUTF8        = errors.New("topic is not valid UTF-8")
	ErrNull        = errors.New("topic contains the null character")
	ErrWildcard    = errors.New("topic name contains a wildcard")
	ErrMultiLevel  = errors.New("# is not alone in the last level of the filter")
	ErrSingleLevel = errors.New("+ is not alone in its level of the filter")
	ErrShareName   = errors.New("share name is empty or contains a wildcard")
	ErrShareFilter = errors.New("shared subscription has no topic filter")
)

// CheckName tells why name cannot be the topic name of a message, or nil if it can.
func CheckName(name string) error {
	if err := checkText(name); err != nil {
		return err
	}
	if strings.IndexByte(name, '#') >= 0 || strings.IndexByte(name, '+') >= 0 { // [MQTT-4.7.0-1]
		return ErrWildcard
	}
	return nil
}

// ValidName reports whether name can be the topic name of a message. It does not allocate.
func ValidName(name []byte) bool {
	if len(name) == 0 || len(name) > MaxLength {
		return false
	}
	for _, c := range name {
		if c == 0 || c == '#' || c == '+' {
			return false
		}
	}
	return utf8.Valid(name)
}

// checkText checks what names and filters have in common.
func checkText(s string) error {
	switch {
	case s == "": // [MQTT-4.7.3-1]
		return ErrEmpty
	case len(s) > MaxLength: // [MQTT-4.7.3-3]
		return ErrTooLong
	case !utf8.ValidString(s): // [MQTT-1.5.4-1]: surrogates and overlong forms are not valid either
		return ErrUTF8
	case strings.IndexByte(s, 0) >= 0: // [MQTT-4.7.3-2]
		return ErrNull
	}
	return nil
}

// checkLevels checks where the wildcards stand in a filter that checkText has passed.
func checkLevels(filter string) error {
	for level, rest, more := Cut(filter); ; level, rest, more = Cut(rest) {
		if strings.IndexByte(level, '#') >= 0 && (level != "#" || more) { // [MQTT-4.7.1-1]
			return ErrMultiLevel
		}
		if strings.IndexByte(level, '+') >= 0 && level != "+" { // [MQTT-4.7.1-2]
			return ErrSingleLevel
		}
		if !more {
			return nil
		}
	}
}
