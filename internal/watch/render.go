package watch

import (
	"fmt"
	"strconv"
	"time"

	"github.com/myelin-mqtt/myelin/internal/show"
)

// View says how a Table is drawn.
type View struct {
	// Width and Height are the cells and lines that there are. 0: as many as it
	// takes.
	Width, Height int
	Order         Order
	// Bold makes what came within the last second stand out.
	Bold bool
}

// The widths of columns.
const (
	ageWidth   = 5
	countWidth = 9
	rateWidth  = 8
	gap        = "  "
	figures    = ageWidth + countWidth + rateWidth + 3*len(gap)

	// plainTopic and plainValue are the widest where nothing limits them.
	plainTopic = 64
	plainValue = 80
)

// Lines draws the table: a line of totals, one of titles, and the rows. None is
// wider than the view, and they do nothing to a terminal but make it bold.
func (t *Table) Lines(now time.Time, v View) []string {
	rows := t.sorted(v.Order, now)
	hidden := 0
	if v.Height > 0 {
		room := max(v.Height-2, 0)
		if len(rows) > room || t.others > 0 {
			room = max(room-1, 0) // the line that tells of it
		}
		hidden = max(len(rows)-room, 0)
		rows = rows[:len(rows)-hidden]
	}
	c := t.columns(rows, v)
	lines := []string{
		c.cut(fmt.Sprintf("%d topics, %d messages, %s, %s", len(t.rows), t.count, rate(t.perSecond(t.rate, now)), age(now.Sub(t.begun)))),
		c.line("TOPIC", "LAST VALUE", "AGE", "COUNT", "RATE"),
	}
	for _, r := range rows {
		s := c.line(show.Clean(r.topic), r.text(), age(now.Sub(r.last)), count(r.count), rate(t.perSecond(r.rate, now)))
		if v.Bold && now.Sub(r.last) < time.Second {
			s = "\x1b[1m" + s + "\x1b[m"
		}
		lines = append(lines, s)
	}
	if s := t.rest(hidden); s != "" {
		lines = append(lines, c.cut(s))
	}
	if v.Height > 0 && len(lines) > v.Height {
		lines = lines[:v.Height]
	}
	return lines
}

// rest tells of what has no line.
func (t *Table) rest(hidden int) string {
	switch {
	case hidden > 0 && t.others > 0:
		return fmt.Sprintf("and %d topics more, and %d messages of others than the first %d", hidden, t.others, t.limit)
	case hidden > 0:
		return fmt.Sprintf("and %d topics more", hidden)
	case t.others > 0:
		return fmt.Sprintf("and %d messages of other topics than the first %d", t.others, t.limit)
	}
	return ""
}

func (r *row) text() string {
	if len(r.value) == 0 {
		return "(empty)"
	}
	s := show.Clean(string(r.value))
	if r.long {
		s += "…"
	}
	return s
}

// columns are the widths of a drawing.
type columns struct {
	width        int // 0: any
	topic, value int
	figures      bool
}

// columns gives the topics what they need, up to a half of what there is, and
// the values the rest. On a narrow screen there are no figures.
func (t *Table) columns(rows []*row, v View) columns {
	topic, value := len("TOPIC"), len("LAST VALUE")
	for _, r := range rows {
		topic = max(topic, show.Width(show.Clean(r.topic)))
		value = max(value, show.Width(r.text()))
	}
	if v.Width == 0 {
		return columns{topic: min(topic, plainTopic), value: min(value, plainValue), figures: true}
	}
	c := columns{width: v.Width, figures: v.Width >= figures+30}
	room := v.Width - len(gap)
	if c.figures {
		room -= figures
	}
	c.topic = max(min(topic, room/2, room), 0)
	c.value = max(room-c.topic, 0)
	return c
}

func (c columns) line(topic, value, age, count, rate string) string {
	s := show.Fit(topic, c.topic, false) + gap + show.Fit(value, c.value, false)
	if c.figures {
		s += gap + show.Fit(age, ageWidth, true) + gap + show.Fit(count, countWidth, true) + gap + show.Fit(rate, rateWidth, true)
	}
	return c.cut(s)
}

func (c columns) cut(s string) string {
	if c.width > 0 && show.Width(s) > c.width {
		return show.Fit(s, c.width, false)
	}
	return s
}

// age is a duration in its largest unit.
func age(d time.Duration) string {
	switch {
	case d < time.Second:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

func count(n uint64) string {
	if n < 1e9 {
		return strconv.FormatUint(n, 10)
	}
	return fmt.Sprintf("%.3gG", float64(n)/1e9)
}

// rate is messages a second in three digits.
func rate(perSecond float64) string {
	switch {
	case perSecond == 0:
		return "-"
	case perSecond < 9.95:
		return fmt.Sprintf("%.1f/s", perSecond)
	case perSecond < 9_999.5:
		return fmt.Sprintf("%.0f/s", perSecond)
	}
	return fmt.Sprintf("%.0fk/s", perSecond/1000)
}
