package show

import (
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/myelin-mqtt/myelin/client"
)

// AppendClean adds text that may come from anywhere so that it stays on one
// line and does nothing to a terminal: control characters, those that nobody
// sees and what is no UTF-8 become escapes such as \n, \x1b or \u202e. A
// backslash stays one.
func AppendClean[S ~string | ~[]byte](b []byte, s S) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < 0x7F {
			b = append(b, c)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
		i += n
		switch {
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r == utf8.RuneError && n == 1:
			b = appendHex(append(b, '\\', 'x'), []byte{c}, false)
		case unicode.IsControl(r): // all are below 0x100
			b = appendHex(append(b, '\\', 'x'), []byte{byte(r)}, false)
		case hidden(r):
			b = appendEscape(b, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}

// Clean is AppendClean for a string.
func Clean(s string) string { return string(AppendClean(nil, s)) }

// AppendCleanLines is AppendClean that lets ends of lines and tabs be.
func AppendCleanLines(b, s []byte) []byte {
	from := 0
	for i, c := range s {
		if c == '\n' || c == '\t' {
			b = AppendClean(b, s[from:i])
			b = append(b, c)
			from = i + 1
		}
	}
	return AppendClean(b, s[from:])
}

// Width is how many cells of a terminal the text takes that AppendClean made.
func Width(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

// Fit is s in exactly width cells: cut, with … at its end, or filled with
// blanks, at its front where right is set.
func Fit(s string, width int, right bool) string {
	if width <= 0 {
		return ""
	}
	if w := Width(s); w > width {
		s = cutCells(s, width-1) + "…"
	}
	blanks := make([]byte, max(width-Width(s), 0))
	for i := range blanks {
		blanks[i] = ' '
	}
	if right {
		return string(blanks) + s
	}
	return s + string(blanks)
}

// cutCells is as much of the beginning of s as has room in width cells.
func cutCells(s string, width int) string {
	for i, r := range s {
		if width -= runeWidth(r); width < 0 {
			return s[:i]
		}
	}
	return s
}

// runeWidth is 0 for what is drawn over the character before it, 2 for what
// takes two cells, else 1.
func runeWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case unicode.Is(wide, r):
		return 2
	}
	return 1
}

// wide are the characters that take two cells: East Asian wide and fullwidth
// ones, and emoji that are shown as pictures by themselves.
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{
		{0x1100, 0x115F, 1}, {0x231A, 0x231B, 1}, {0x2329, 0x232A, 1}, {0x23E9, 0x23EC, 1}, {0x23F0, 0x23F3, 3},
		{0x25FD, 0x25FE, 1}, {0x2614, 0x2615, 1}, {0x2648, 0x2653, 1}, {0x267F, 0x2693, 20}, {0x26A1, 0x26A1, 1},
		{0x26AA, 0x26AB, 1}, {0x26BD, 0x26BE, 1}, {0x26C4, 0x26C5, 1}, {0x26CE, 0x26D4, 6}, {0x26EA, 0x26EA, 1},
		{0x26F2, 0x26F3, 1}, {0x26F5, 0x26FA, 5}, {0x26FD, 0x26FD, 1}, {0x2705, 0x2705, 1}, {0x270A, 0x270B, 1},
		{0x2728, 0x2728, 1}, {0x274C, 0x274E, 2}, {0x2753, 0x2755, 1}, {0x2757, 0x2757, 1}, {0x2795, 0x2797, 1},
		{0x27B0, 0x27BF, 15}, {0x2B1B, 0x2B1C, 1}, {0x2B50, 0x2B55, 5}, {0x2E80, 0x303E, 1}, {0x3041, 0x3247, 1},
		{0x3250, 0x4DBF, 1}, {0x4E00, 0xA4CF, 1}, {0xA960, 0xA97C, 1}, {0xAC00, 0xD7A3, 1}, {0xF900, 0xFAFF, 1},
		{0xFE10, 0xFE19, 1}, {0xFE30, 0xFE6B, 1}, {0xFF01, 0xFF60, 1}, {0xFFE0, 0xFFE6, 1},
	},
	R32: []unicode.Range32{
		{0x16FE0, 0x18D08, 1}, {0x1AFF0, 0x1B2FB, 1}, {0x1F004, 0x1F004, 1}, {0x1F0CF, 0x1F0CF, 1}, {0x1F18E, 0x1F18E, 1},
		{0x1F191, 0x1F19A, 1}, {0x1F200, 0x1F320, 1}, {0x1F32D, 0x1F335, 1}, {0x1F337, 0x1F37C, 1}, {0x1F37E, 0x1F393, 1},
		{0x1F3A0, 0x1F3CA, 1}, {0x1F3CF, 0x1F3D3, 1}, {0x1F3E0, 0x1F3F0, 1}, {0x1F3F4, 0x1F3F4, 1}, {0x1F3F8, 0x1F43E, 1},
		{0x1F440, 0x1F440, 1}, {0x1F442, 0x1F4FC, 1}, {0x1F4FF, 0x1F53D, 1}, {0x1F54B, 0x1F54E, 1}, {0x1F550, 0x1F567, 1},
		{0x1F57A, 0x1F57A, 1}, {0x1F595, 0x1F596, 1}, {0x1F5A4, 0x1F5A4, 1}, {0x1F5FB, 0x1F64F, 1}, {0x1F680, 0x1F6C5, 1},
		{0x1F6CC, 0x1F6CC, 1}, {0x1F6D0, 0x1F6D2, 1}, {0x1F6D5, 0x1F6DF, 1}, {0x1F6EB, 0x1F6EC, 1}, {0x1F6F4, 0x1F6FC, 1},
		{0x1F7E0, 0x1F7F0, 1}, {0x1F90C, 0x1F93A, 1}, {0x1F93C, 0x1F945, 1}, {0x1F947, 0x1F9FF, 1}, {0x1FA70, 0x1FAFF, 1},
		{0x20000, 0x3FFFD, 1},
	},
}

// appendDump adds a line with the topic and the length, and the payload as
// lines of sixteen bytes: place, hexadecimal, text.
func appendDump(b []byte, m *client.Received) []byte {
	b = AppendClean(b, m.Topic)
	b = append(b, " ("...)
	b = strconv.AppendInt(b, int64(len(m.Payload)), 10)
	b = append(b, " bytes)\n"...)
	for at := 0; at < len(m.Payload); at += 16 {
		b = appendDumpLine(b, at, m.Payload[at:min(at+16, len(m.Payload))])
	}
	return b
}

func appendDumpLine(b []byte, at int, line []byte) []byte {
	b = appendHex(b, []byte{byte(at >> 24), byte(at >> 16), byte(at >> 8), byte(at)}, false)
	b = append(b, ' ')
	for i := range 16 {
		if i == 8 {
			b = append(b, ' ')
		}
		b = append(b, ' ')
		if i < len(line) {
			b = appendHex(b, line[i:i+1], false)
		} else {
			b = append(b, "  "...)
		}
	}
	b = append(b, "  |"...)
	for _, c := range line {
		if c < ' ' || c > '~' {
			c = '.'
		}
		b = append(b, c)
	}
	return append(b, "|\n"...)
}
