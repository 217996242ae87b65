//go:build linux

package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
)

// Env tells where and how results were measured.
type Env struct {
	Date     string            `json:"date"`
	Command  string            `json:"command"`
	Machine  string            `json:"machine"`
	Kernel   string            `json:"kernel"`
	Go       string            `json:"go"`
	Brokers  map[string]string `json:"brokers"` // version by name
	Pinned   bool              `json:"pinned"`
	Rounds   int               `json:"rounds"`
	Seconds  float64           `json:"seconds"`
	Comments []string          `json:"comments,omitempty"`
}

// WriteJSON writes everything that was measured.
func WriteJSON(w io.Writer, e Env, rs []Result) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(struct {
		Env     Env      `json:"env"`
		Results []Result `json:"results"`
	}{e, rs})
}

// The lines between which Replace puts the tables.
const (
	Begin = "<!-- bench: begin -->"
	End   = "<!-- bench: end -->"
)

// Replace puts text between the markers in a file.
func Replace(file, text string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	s := string(b)
	i, j := strings.Index(s, Begin), strings.Index(s, End)
	if i < 0 || j < i {
		return fmt.Errorf("replace the tables in %s: the markers %s and %s are not there", file, Begin, End)
	}
	s = s[:i+len(Begin)] + "\n" + text + s[j:]
	return os.WriteFile(file, []byte(s), 0o644)
}

// Line tells one result in one line, for a person who waits.
func Line(r Result) string {
	head := fmt.Sprintf("%-15s %-10s", r.Load, r.Broker)
	switch {
	case r.Error != "":
		return head + " failed: " + r.Error
	case r.Figures != nil:
		for _, k := range slices.Sorted(maps.Keys(r.Figures)) {
			v := r.Figures[k]
			head += fmt.Sprintf(" %s %s,", k, number(v, some(v)))
		}
		return strings.TrimSuffix(head, ",")
	case r.Latency != nil:
		return fmt.Sprintf("%s %9.0f/s %7.2f CPU-s/M  p50 %.0f p99 %.0f p99.9 %.0f us  %.1f MB", head, r.Rate, r.PerMillion, r.Latency.P50, r.Latency.P99, r.Latency.P999, float64(r.RSS)/1e6)
	case r.Each > 0:
		return fmt.Sprintf("%s %9.0f/s %7.1f us each  %.0f bytes each  %.1f MB", head, r.PerSec, r.CPUEach, r.Each, float64(r.RSS)/1e6)
	default:
		return fmt.Sprintf("%s %9.0f/s %7.2f CPU-s/M  %.1f MB", head, r.Rate, r.PerMillion, float64(r.RSS)/1e6)
	}
}

// cell is what the rounds of one load on one broker gave for one quantity.
type cell struct {
	best, median float64
	failed       string
	ok           bool
}

// gather reduces the rounds of a load on a broker; low tells that less is better. The best round of a paced load is not
// looked for: what is held up is sent in batches then, which costs less.
func gather(rs []Result, l Load, broker string, low bool, of func(Result) float64) (c cell) {
	var vs []float64
	for _, r := range rs {
		if r.Load != l.Name || r.Broker != broker {
			continue
		}
		if r.Error != "" {
			c.failed = r.Error
			continue
		}
		vs = append(vs, of(r))
	}
	if len(vs) == 0 || c.failed != "" {
		return c
	}
	slices.Sort(vs)
	if !low {
		slices.Reverse(vs)
	}
	c.best, c.median, c.ok = vs[0], median(vs), true
	if l.Rate > 0 {
		c.best = c.median
	}
	return c
}

// median is that of a sorted list, with the mean of the two in the middle of an even number.
func median(vs []float64) float64 {
	n := len(vs)
	return (vs[(n-1)/2] + vs[n/2]) / 2
}

// product is the broker that the goals are for.
const product = "myelin"

// table is one of the tables of the report.
type table struct {
	head   string
	note   string
	low    bool
	digits func(float64) int
	pick   func(Load) bool
	of     func(Result) float64
	goal   bool
}

// fine is how many digits behind the point tell something.
func fine(v float64) int {
	switch {
	case v < 10:
		return 2
	case v < 100:
		return 1
	}
	return 0
}

// some is fine for what may be a count.
func some(v float64) int {
	if v == math.Trunc(v) {
		return 0
	}
	return fine(v)
}

// Markdown writes the tables. The first of brokers is the one that the others are compared with.
func Markdown(w io.Writer, e Env, loads []Load, brokers []Broker, rs []Result) error {
	if len(brokers) == 0 || len(loads) == 0 {
		return errors.New("write tables: nothing was measured")
	}
	whole := func(float64) int { return 0 }
	messages := func(l Load) bool { return l.Conns == 0 && l.Trial == nil }
	holds := func(l Load) bool { return l.Conns > 0 }
	paced := func(l Load) bool { return l.Rate > 0 }
	lat := func(f func(*Latency) float64) func(Result) float64 {
		return func(r Result) float64 {
			if r.Latency == nil {
				return 0
			}
			return f(r.Latency)
		}
	}
	tables := []table{
		{head: "Broker CPU-seconds per million deliveries", note: "User and system time of all the broker's threads. The figure to trust on a noisy machine.", low: true, digits: fine, pick: messages, of: func(r Result) float64 { return r.PerMillion }, goal: true},
		{head: "Deliveries per second", digits: whole, pick: func(l Load) bool { return messages(l) && !paced(l) }, of: func(r Result) float64 { return r.Rate }},
		{head: "Latency at 10,000 messages/s, median, in µs", note: "From the time at which a message was due to be sent to its arrival in the generator.", low: true, digits: whole, pick: paced, of: lat(func(l *Latency) float64 { return l.P50 })},
		{head: "Latency at 10,000 messages/s, 99th percentile, in µs", low: true, digits: whole, pick: paced, of: lat(func(l *Latency) float64 { return l.P99 })},
		{head: "Latency at 10,000 messages/s, 99.9th percentile, in µs", low: true, digits: whole, pick: paced, of: lat(func(l *Latency) float64 { return l.P999 })},
		{head: "Resident bytes for each connection or subscription", low: true, digits: whole, pick: holds, of: func(r Result) float64 { return r.Each }, goal: true},
		{head: "Connections or subscriptions made per second", digits: whole, pick: holds, of: func(r Result) float64 { return r.PerSec }},
	}
	var b strings.Builder
	e.write(&b)
	for _, t := range tables {
		t.write(&b, loads, brokers, rs)
	}
	trialTable(&b, loads, brokers, rs)
	failures(&b, rs)
	_, err := io.WriteString(w, b.String())
	return err
}

func (e Env) write(b *strings.Builder) {
	fmt.Fprintf(b, "\nMeasured on %s with `%s`: %s, %s, %s.\n", e.Date, e.Command, e.Machine, e.Kernel, e.Go)
	pinned := "Brokers and generator shared the cores."
	if e.Pinned {
		pinned = "The broker had one core (GOMAXPROCS=1), the generator another."
	}
	fmt.Fprintf(b, "%s %d rounds of %g s, brokers one after the other in each; a cell is the best round, and the median in brackets; with a pace the median only.\n", pinned, e.Rounds, e.Seconds)
	var vs []string
	for name, v := range e.Brokers {
		vs = append(vs, fmt.Sprintf("%s is `%s`", name, v))
	}
	slices.Sort(vs)
	fmt.Fprintf(b, "%s.\n", strings.Join(vs, ", "))
	for _, c := range e.Comments {
		fmt.Fprintf(b, "%s\n", c)
	}
}

func (t table) write(b *strings.Builder, loads []Load, brokers []Broker, rs []Result) {
	first := brokers[0].Name
	t.goal = t.goal && first == product
	var rows strings.Builder
	for _, l := range loads {
		if !t.pick(l) {
			continue
		}
		fmt.Fprintf(&rows, "| %s |", l.Title)
		mine := gather(rs, l, first, t.low, t.of)
		for _, br := range brokers {
			rows.WriteString(" " + t.cell(gather(rs, l, br.Name, t.low, t.of)) + " |")
		}
		for _, br := range brokers[1:] {
			rows.WriteString(" " + ratio(mine, gather(rs, l, br.Name, t.low, t.of)) + " |")
		}
		if t.goal {
			rows.WriteString(" " + goal(l.Goal, mine) + " |")
		}
		rows.WriteString("\n")
	}
	if rows.Len() == 0 {
		return
	}
	fmt.Fprintf(b, "\n**%s**\n", t.head)
	if t.note != "" {
		fmt.Fprintf(b, "\n%s\n", t.note)
	}
	b.WriteString("\n| load |")
	rule := "| --- |"
	for _, br := range brokers {
		b.WriteString(" " + br.Name + " |")
		rule += " --- |"
	}
	for _, br := range brokers[1:] {
		fmt.Fprintf(b, " %s / %s |", br.Name, first)
		rule += " --- |"
	}
	if t.goal {
		fmt.Fprintf(b, " goal for %s |", first)
		rule += " --- |"
	}
	b.WriteString("\n" + rule + "\n" + rows.String())
}

func (t table) cell(c cell) string {
	switch {
	case c.failed != "":
		return "failed"
	case !c.ok:
		return "-"
	}
	if c.best == c.median {
		return number(c.median, t.digits(c.median))
	}
	return number(c.best, t.digits(c.best)) + " (" + number(c.median, t.digits(c.median)) + ")"
}

// number writes v with digits behind the point and a comma between thousands.
func number(v float64, digits int) string {
	s := fmt.Sprintf("%.*f", digits, v)
	head, tail := s, ""
	if i := strings.IndexByte(s, '.'); i >= 0 {
		head, tail = s[:i], s[i:]
	}
	sign := ""
	if strings.HasPrefix(head, "-") {
		sign, head = "-", head[1:]
	}
	for i := len(head) - 3; i > 0; i -= 3 {
		head = head[:i] + "," + head[i:]
	}
	return sign + head + tail
}

func ratio(mine, other cell) string {
	if !mine.ok || !other.ok || mine.best == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", other.best/mine.best)
}

// trialTable writes what the trials gave, one row for each figure.
func trialTable(b *strings.Builder, loads []Load, brokers []Broker, rs []Result) {
	var rows strings.Builder
	for _, l := range loads {
		for _, f := range l.Figures {
			t := table{digits: some, low: f.Rule != AtLeast, of: func(r Result) float64 { return r.Figures[f.Key] }}
			fmt.Fprintf(&rows, "| %s | %s |", l.Title, f.Title)
			for _, br := range brokers {
				rows.WriteString(" " + t.cell(gather(rs, l, br.Name, t.low, t.of)) + " |")
			}
			if brokers[0].Name == product {
				rows.WriteString(" " + f.judge(gather(rs, l, product, t.low, t.of)) + " |")
			}
			rows.WriteString("\n")
		}
	}
	if rows.Len() == 0 {
		return
	}
	b.WriteString("\n**What outlives a connection, and the process**\n\n| load | figure |")
	rule := "| --- | --- |"
	for _, br := range brokers {
		b.WriteString(" " + br.Name + " |")
		rule += " --- |"
	}
	if brokers[0].Name == product {
		fmt.Fprintf(b, " goal for %s |", product)
		rule += " --- |"
	}
	b.WriteString("\n" + rule + "\n" + rows.String())
}

// judge tells the figure's goal, and whether it was reached.
func (f Figure) judge(c cell) string {
	s := "at most "
	switch f.Rule {
	case NoGoal:
		return "-"
	case AtLeast:
		s = "at least "
	}
	s += number(f.Goal, some(f.Goal))
	switch {
	case !c.ok:
		return s
	case f.Rule == AtMost && c.best <= f.Goal || f.Rule == AtLeast && c.best >= f.Goal:
		return s + ", reached"
	}
	return s + ", **missed**"
}

func goal(limit float64, c cell) string {
	if limit == 0 {
		return "-"
	}
	digits := 0
	if limit != math.Trunc(limit) {
		digits = 2
	}
	s := "at most " + number(limit, digits)
	switch {
	case !c.ok:
		return s
	case c.best <= limit:
		return s + ", reached"
	default:
		return s + ", **missed**"
	}
}

func failures(b *strings.Builder, rs []Result) {
	first := true
	for _, r := range rs {
		if r.Error == "" {
			continue
		}
		if first {
			b.WriteString("\n**Runs that failed**\n\n")
			first = false
		}
		fmt.Fprintf(b, "- %s, %s, round %d: %s\n", r.Load, r.Broker, r.Round+1, strings.ReplaceAll(r.Error, "\n", " "))
	}
}
