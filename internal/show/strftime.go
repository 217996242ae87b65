package show

import (
	"strconv"
	"time"
)

// appendTime adds what strftime has for %verb, in the C locale. @N is the
// nanoseconds of the second.
func appendTime(b []byte, verb byte, t time.Time) []byte {
	if layout := layoutOf(verb); layout != "" {
		return t.AppendFormat(b, layout)
	}
	isoYear, isoWeek := t.ISOWeek()
	twelve := (t.Hour()+11)%12 + 1
	switch verb {
	case 'C':
		return appendPadded(b, t.Year()/100, 2, '0')
	case 'g':
		return appendPadded(b, isoYear%100, 2, '0')
	case 'G':
		return strconv.AppendInt(b, int64(isoYear), 10)
	case 'j':
		return appendPadded(b, t.YearDay(), 3, '0')
	case 'k':
		return appendPadded(b, t.Hour(), 2, ' ')
	case 'l':
		return appendPadded(b, twelve, 2, ' ')
	case 'n':
		return append(b, '\n')
	case 'N':
		return appendPadded(b, t.Nanosecond(), 9, '0')
	case 's':
		return strconv.AppendInt(b, t.Unix(), 10)
	case 't':
		return append(b, '\t')
	case 'u':
		return strconv.AppendInt(b, int64((t.Weekday()+6)%7+1), 10)
	case 'U': // weeks begin on Sunday
		return appendPadded(b, (t.YearDay()+6-int(t.Weekday()))/7, 2, '0')
	case 'V':
		return appendPadded(b, isoWeek, 2, '0')
	case 'w':
		return strconv.AppendInt(b, int64(t.Weekday()), 10)
	case 'W': // weeks begin on Monday
		return appendPadded(b, (t.YearDay()+6-(int(t.Weekday())+6)%7)/7, 2, '0')
	}
	return b
}

// layoutOf is the verb as a layout of package time, "": it has none.
func layoutOf(verb byte) string {
	switch verb {
	case 'a':
		return "Mon"
	case 'A':
		return "Monday"
	case 'b', 'h':
		return "Jan"
	case 'B':
		return "January"
	case 'c':
		return "Mon Jan _2 15:04:05 2006"
	case 'd':
		return "02"
	case 'D', 'x':
		return "01/02/06"
	case 'e':
		return "_2"
	case 'F':
		return "2006-01-02"
	case 'H':
		return "15"
	case 'I':
		return "03"
	case 'm':
		return "01"
	case 'M':
		return "04"
	case 'p':
		return "PM"
	case 'P':
		return "pm"
	case 'r':
		return "03:04:05 PM"
	case 'R':
		return "15:04"
	case 'S':
		return "05"
	case 'T', 'X':
		return "15:04:05"
	case 'y':
		return "06"
	case 'Y':
		return "2006"
	case 'z':
		return "-0700"
	case 'Z':
		return "MST"
	}
	return ""
}

// appendPadded adds a number that is not negative, width characters wide.
func appendPadded(b []byte, n, width int, with byte) []byte {
	s := strconv.Itoa(n)
	for range width - len(s) {
		b = append(b, with)
	}
	return append(b, s...)
}
