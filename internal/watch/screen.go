package watch

// What a terminal is told. The table is drawn on its other screen, so that what
// stood there before comes back.
const (
	// Enter goes to the other screen and hides the cursor; Leave undoes it.
	Enter = "\x1b[?1049h\x1b[?25l\x1b[2J"
	Leave = "\x1b[?25h\x1b[?1049l"
)

// AppendFrame adds what draws the lines over the last ones: each from its
// beginning, wiped to its end, and nothing below. There is no moment at which
// the screen is empty, so that it does not flicker.
func AppendFrame(b []byte, lines []string) []byte {
	b = append(b, "\x1b[H"...)
	for i, line := range lines {
		if i > 0 {
			b = append(b, "\r\n"...)
		}
		b = append(b, line...)
		b = append(b, "\x1b[K"...)
	}
	return append(b, "\x1b[J"...)
}
