package watch

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/myelin-mqtt/myelin/internal/show"
)

var start = time.Date(2026, 11, 24, 13, 4, 5, 0, time.UTC)

func at(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }

// lines draws the table and fails where a line is too wide.
func lines(t *testing.T, tab *Table, now float64, v View) string {
	t.Helper()
	all := tab.Lines(at(now), v)
	for _, l := range all {
		if plain := strings.NewReplacer("\x1b[1m", "", "\x1b[m", "").Replace(l); v.Width > 0 && show.Width(plain) > v.Width {
			t.Errorf("%d cells in %d: %q", show.Width(plain), v.Width, plain)
		}
	}
	if v.Height > 0 && len(all) > v.Height {
		t.Errorf("%d lines in %d", len(all), v.Height)
	}
	return "\n" + strings.Join(all, "\n") + "\n"
}

func same(t *testing.T, got, want string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s\ngot:%s", diff, got)
	}
}

func home() *Table {
	tab := New(4, start)
	for i := range 40 {
		tab.Add("home/kitchen/temperature", fmt.Appendf(nil, "2%d.5", i%10), at(float64(i)/2))
	}
	tab.Add("home/漢字", []byte("値は\x1b[31m"), at(3))
	tab.Add("home/door", nil, at(19.5))
	tab.Add("$x", []byte(strings.Repeat("long ", 400)), at(1))
	tab.Add("too/many", []byte("x"), at(1))
	tab.Add("too/many", []byte("x"), at(2))
	return tab
}

func TestLines(t *testing.T) {
	same(t, lines(t, home(), 20.4, View{Width: 72, Height: 10}), `
4 topics, 45 messages, 2.4/s, 20s
TOPIC                  LAST VALUE               AGE      COUNT      RATE
$x                     long long long long …    19s          1         -
home/door              (empty)                  now          1     0.1/s
home/kitchen/tempera…  29.5                     now         40     1.9/s
home/漢字              値は\x1b[31m             17s          1         -
and 2 messages of other topics than the first 4
`)
	same(t, lines(t, home(), 20.4, View{Width: 72, Height: 5, Order: ByRate, Bold: true}), `
4 topics, 45 messages, 2.4/s, 20s
TOPIC                  LAST VALUE               AGE      COUNT      RATE
`+"\x1b[1m"+`home/kitchen/tempera…  29.5                     now         40     1.9/s`+"\x1b[m"+`
`+"\x1b[1m"+`home/door              (empty)                  now          1     0.1/s`+"\x1b[m"+`
and 2 topics more, and 2 messages of others than the first 4
`)
	same(t, lines(t, home(), 4000, View{Width: 20, Height: 4}), `
4 topics, 45 messag…
TOPIC  LAST VALUE   
$x     long long lo…
and 3 topics more, …
`)
}

func TestPlain(t *testing.T) {
	tab := New(10, start)
	tab.Add("a", []byte("1"), at(0))
	tab.Add("b", []byte(strings.Repeat("x", 200)), at(0))
	tab.Add(strings.Repeat("t", 100), []byte("漢"), at(0))
	same(t, lines(t, tab, 0.5, View{}), `
3 topics, 3 messages, 3.0/s, now
TOPIC                                                             LAST VALUE`+strings.Repeat(" ", 70)+`    AGE      COUNT      RATE
a                                                                 1`+strings.Repeat(" ", 79)+`    now          1     1.0/s
b                                                                 `+strings.Repeat("x", 79)+`…    now          1     1.0/s
`+strings.Repeat("t", 63)+`…  漢`+strings.Repeat(" ", 78)+`    now          1     1.0/s
`)
}

// TestSmall: no size makes it panic or draw too much.
func TestSmall(t *testing.T) {
	for width := range 60 {
		for height := range 8 {
			lines(t, home(), 20, View{Width: width, Height: height, Bold: true})
		}
	}
}

func TestRate(t *testing.T) {
	f := func(now float64, want string, adds ...float64) {
		t.Helper()
		tab := New(1, start)
		for _, s := range adds {
			tab.Add("t", nil, at(s))
		}
		if got := rate(tab.perSecond(tab.rows["t"].rate, at(now))); got != want {
			t.Errorf("%v at %v: %s, want %s", adds, now, got, want)
		}
	}
	f(0.1, "1.0/s", 0)
	f(2, "0.5/s", 0)
	f(2, "1.0/s", 0, 1.9)
	f(9.9, "0.1/s", 0)
	f(10, "-", 0)
	f(10, "0.1/s", 1)
	f(100, "-", 0, 1, 2, 50)
	f(100, "0.2/s", 0, 1, 50, 95, 99)
	f(5, "0.4/s", 4, 3)   // the later came first
	f(5, "0.2/s", -3)     // before the table
	f(5, "0.4/s", 4, 4.5) // in one second
	var many []float64
	for i := range 50_000 {
		many = append(many, float64(i)/10_000)
	}
	f(5, "10k/s", many...)
}

func TestUnits(t *testing.T) {
	f := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	f(age(-time.Second), "now")
	f(age(59*time.Second+1), "59s")
	f(age(61*time.Minute), "1h")
	f(age(47*time.Hour), "47h")
	f(age(72*time.Hour), "3d")
	f(count(999_999_999), "999999999")
	f(count(123_456_789_012), "123G")
	f(rate(9.94), "9.9/s")
	f(rate(9.96), "10/s")
	f(rate(9_999.4), "9999/s")
	f(rate(9_999.6), "10k/s")
}

// TestLimits: what a table keeps has an end, whatever comes.
func TestLimits(t *testing.T) {
	tab := New(100, start)
	big := make([]byte, 100_000)
	for i := range 10_000 {
		tab.Add(fmt.Sprint("topic", i), big, start)
	}
	tab = New(100, start)
	tab.Add(strings.Repeat("x", 5000), big, start)
	tab.Add("x", big, start)
	if len(tab.rows) != 1 || tab.others != 1 || len(tab.rows["x"].value) != maxValue {
		t.Error(len(tab.rows), tab.others)
	}
}

func TestFrame(t *testing.T) {
	if got := string(AppendFrame([]byte("x"), []string{"a", "b"})); got != "x\x1b[Ha\x1b[K\r\nb\x1b[K\x1b[J" {
		t.Errorf("%q", got)
	}
}

// FuzzLines: topics and payloads do nothing to the terminal, and lines fit.
func FuzzLines(f *testing.F) {
	f.Add("a/\u202eb", []byte("\x1b[2J漢\xff"), uint8(50), uint8(5))
	f.Fuzz(func(t *testing.T, topic string, payload []byte, width, height uint8) {
		tab := New(2, start)
		tab.Add(topic, payload, at(1))
		tab.Add("second", payload, at(2))
		got := lines(t, tab, 3, View{Width: int(width), Height: int(height)})
		for _, r := range got {
			if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
				t.Errorf("%q has %U", got, r)
			}
		}
	})
}
