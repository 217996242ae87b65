package topic

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// bySplit is a matcher that shares nothing with Match.
func bySplit(filter, name string) bool {
	if strings.HasPrefix(name, "$") && (strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#")) {
		return false
	}
	f, n := strings.Split(filter, "/"), strings.Split(name, "/")
	for i, want := range f {
		if want == "#" {
			return true
		}
		if i >= len(n) || want != "+" && want != n[i] {
			return false
		}
		if i == len(n)-1 && len(f) == len(n)+1 && f[i+1] == "#" {
			return true
		}
	}
	return len(f) == len(n)
}

// byRegexp is another one.
func byRegexp(t interface{ Fatal(...any) }, filter, name string) bool {
	var b strings.Builder
	b.WriteString("(?s)^")
	for i, level := range strings.Split(filter, "/") {
		if i > 0 && level != "#" {
			b.WriteString("/")
		}
		switch {
		case level == "#" && i > 0:
			b.WriteString("(/.*)?")
		case level == "#":
			b.WriteString("[^$].*")
		case level == "+" && i == 0:
			b.WriteString("([^$/][^/]*)?")
		case level == "+":
			b.WriteString("[^/]*")
		default:
			b.WriteString(regexp.QuoteMeta(level))
		}
	}
	re, err := regexp.Compile(b.String() + "$")
	if err != nil {
		t.Fatal(err)
	}
	return re.MatchString(name)
}

func TestCheckName(t *testing.T) {
	for _, c := range []struct {
		name string
		want error
	}{
		{"a", nil},
		{"/", nil},
		{"//", nil},
		{"/finance", nil},
		{"Accounts payable", nil},
		{"$SYS/monitor/Clients", nil},
		{"$share/g/a", nil}, // special in a filter only
		{"\ufeff/\u00e4/\U0001f600", nil},
		{"a\x01b\x7f", nil}, // control characters are allowed, if not recommended
		{strings.Repeat("/", MaxLength), nil},
		{"", ErrEmpty},
		{strings.Repeat("/", MaxLength+1), ErrTooLong},
		{"sport/+", ErrWildcard},
		{"#", ErrWildcard},
		{"a+b", ErrWildcard},
		{"a#b", ErrWildcard},
		{"a\x00b", ErrNull},
		{"\x00", ErrNull},
		{"a\xff", ErrUTF8},
		{"\xc0\x80", ErrUTF8},         // overlong U+0000
		{"\xed\xa0\x80", ErrUTF8},     // surrogate
		{"\xf4\x90\x80\x80", ErrUTF8}, // above U+10FFFF
		{"a\xe2\x82", ErrUTF8},        // cut short
	} {
		if err := CheckName(c.name); !errors.Is(err, c.want) {
			t.Errorf("%.20q: got %v, want %v", c.name, err, c.want)
		}
		if got := ValidName([]byte(c.name)); got != (c.want == nil) {
			t.Errorf("%.20q: valid %v", c.name, got)
		}
	}
}

func TestParseFilter(t *testing.T) {
	long := strings.Repeat("+/", MaxLength/2) + "#"
	for _, c := range []struct {
		filter string
		want   Filter
		err    error
	}{
		{"a/b", Filter{"", "a/b"}, nil},
		{"+", Filter{"", "+"}, nil},
		{"#", Filter{"", "#"}, nil},
		{"/", Filter{"", "/"}, nil},
		{"/+", Filter{"", "/+"}, nil},
		{"+/+", Filter{"", "+/+"}, nil},
		{"+/tennis/#", Filter{"", "+/tennis/#"}, nil},
		{"sport/+/player1", Filter{"", "sport/+/player1"}, nil},
		{"sport/tennis/#", Filter{"", "sport/tennis/#"}, nil},
		{"$SYS/#", Filter{"", "$SYS/#"}, nil},
		{"$share", Filter{"", "$share"}, nil},
		{"$shared/a/b", Filter{"", "$shared/a/b"}, nil},
		{"$SHARE/a/b", Filter{"", "$SHARE/a/b"}, nil},
		{"a/$share/b/c", Filter{"", "a/$share/b/c"}, nil},
		{long, Filter{"", long}, nil},
		{"$share/consumer1/sport/tennis/+", Filter{"consumer1", "sport/tennis/+"}, nil},
		{"$share/consumer1//finance", Filter{"consumer1", "/finance"}, nil},
		{"$share/g//", Filter{"g", "/"}, nil},
		{"$share/g/#", Filter{"g", "#"}, nil},
		{"$share/g/$share/h/x", Filter{"g", "$share/h/x"}, nil},
		{"$share/\u00e4 b/x", Filter{"\u00e4 b", "x"}, nil},
		{"", Filter{}, ErrEmpty},
		{strings.Repeat("a", MaxLength+1), Filter{}, ErrTooLong},
		{"a\x00", Filter{}, ErrNull},
		{"a\xff", Filter{}, ErrUTF8},
		{"sport/tennis#", Filter{}, ErrMultiLevel},
		{"sport/tennis/#/ranking", Filter{}, ErrMultiLevel},
		{"#/", Filter{}, ErrMultiLevel},
		{"##", Filter{}, ErrMultiLevel},
		{"#a", Filter{}, ErrMultiLevel},
		{"+#", Filter{}, ErrMultiLevel},
		{"sport+", Filter{}, ErrSingleLevel},
		{"+a/b", Filter{}, ErrSingleLevel},
		{"a/++/b", Filter{}, ErrSingleLevel},
		{"$share/", Filter{}, ErrShareName},
		{"$share//a", Filter{}, ErrShareName},
		{"$share/+/a", Filter{}, ErrShareName},
		{"$share/g+/a", Filter{}, ErrShareName},
		{"$share/#/a", Filter{}, ErrShareName},
		{"$share/#", Filter{}, ErrShareName},
		{"$share/g", Filter{}, ErrShareFilter},
		{"$share/g/", Filter{}, ErrShareFilter},
		{"$share/g/a#", Filter{}, ErrMultiLevel},
		{"$share/g/a+", Filter{}, ErrSingleLevel},
	} {
		got, err := ParseFilter(c.filter)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%.30q: got %.30q %v, want %.30q %v", c.filter, got, err, c.want, c.err)
		}
		if err != nil {
			continue
		}
		if got.String() != c.filter {
			t.Errorf("%.30q: String gives %.30q", c.filter, got.String())
		}
		if w := strings.ContainsAny(got.Filter, "+#"); got.Wildcard() != w || got.Shared() != (got.Share != "") {
			t.Errorf("%.30q: wildcard %v shared %v", c.filter, got.Wildcard(), got.Shared())
		}
	}
}

// TestMatch has the examples of section 4.7 and the cases around them.
func TestMatch(t *testing.T) {
	for _, c := range []struct {
		filter, name string
		want         bool
	}{
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/tennis/player1/#", "sport/tennis/player2", false},
		{"sport/tennis/player1/#", "sport/tennis/player10", false},
		{"sport/#", "sport", true},
		{"sport/#", "sport/", true},
		{"sport/#", "sports", false},
		{"#", "a", true},
		{"#", "/", true},
		{"#", "a/b/c", true},
		{"sport/tennis/+", "sport/tennis/player1", true},
		{"sport/tennis/+", "sport/tennis/player2", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+", "/finance", false},
		{"+", "finance", true},
		{"/finance", "finance", false},
		{"finance", "/finance", false},
		{"ACCOUNTS", "Accounts", false},
		{"Accounts payable", "Accounts payable", true},
		{"#", "$SYS/monitor/Clients", false},
		{"+/monitor/Clients", "$SYS/monitor/Clients", false},
		{"+/#", "$SYS", false},
		{"$SYS/#", "$SYS/monitor/Clients", true},
		{"$SYS/#", "$SYS", true},
		{"$SYS/monitor/+", "$SYS/monitor/Clients", true},
		{"a/#", "a/$SYS", true},
		{"+/a", "/a", true},
		{"a/+/b", "a//b", true},
		{"a//b", "a//b", true},
		{"a/b", "a//b", false},
		{"a", "a/", false},
		{"a/", "a", false},
		{"+/+/#", "a", false},
		{"+/+/#", "a/b", true},
		{"a/+/#", "a", false},
		{"a/+/#", "a/", true},
		{"\u00e9", "e\u0301", false}, // nothing is normalised
		{"", "a", false},
		{"a", "", false},
	} {
		if got := Match(c.filter, c.name); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.filter, c.name, got)
		}
		if c.filter == "" || c.name == "" {
			continue
		}
		if got := bySplit(c.filter, c.name); got != c.want {
			t.Errorf("bySplit(%q, %q) = %v", c.filter, c.name, got)
		}
		if got := byRegexp(t, c.filter, c.name); got != c.want {
			t.Errorf("byRegexp(%q, %q) = %v", c.filter, c.name, got)
		}
	}
}

var (
	levels    = []string{"", "a", "b", "ab", "$", "$x", "a.b", "\u00e9"}
	genName   = genText(levels, "", false)
	genFilter = genText(append(slices.Clone(levels), "+", "+"), "#", true)
)

// genText draws levels joined by separators, now and then with last at the end.
func genText(levels []string, last string, wild bool) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		l := rapid.SliceOfN(rapid.SampledFrom(levels), 1, 5).Draw(t, "levels")
		if wild && rapid.IntRange(0, 2).Draw(t, "end") == 0 {
			l[len(l)-1] = last
		}
		if s := strings.Join(l, "/"); s != "" {
			return s
		}
		return "/"
	})
}

func TestMatchAgainstOthers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		filter, name := genFilter.Draw(t, "filter"), genName.Draw(t, "name")
		if _, err := ParseFilter(filter); err != nil {
			t.Fatalf("%q: %v", filter, err)
		}
		got := Match(filter, name)
		if s, r := bySplit(filter, name), byRegexp(t, filter, name); got != s || got != r {
			t.Fatalf("Match(%q, %q) = %v, by split %v, by regexp %v", filter, name, got, s, r)
		}
	})
}

func TestLevels(t *testing.T) {
	for _, s := range []string{"a", "", "/", "a/b", "a//b/", "///"} {
		want := strings.Split(s, "/")
		if got := slices.Collect(Levels(s)); !slices.Equal(got, want) || Depth(s) != len(want) {
			t.Errorf("%q: got %q and depth %d, want %q", s, got, Depth(s), want)
		}
		for range Levels(s) {
			break
		}
	}
}

func TestNoAllocations(t *testing.T) {
	name, filter := "building/4/floor/2/room/17", "building/+/floor/+/room/#"
	b := []byte(name)
	if n := testing.AllocsPerRun(100, func() {
		if !Match(filter, name) || !ValidName(b) || CheckName(name) != nil {
			t.Fatal("no match")
		}
		if f, err := ParseFilter(filter); err != nil || !f.Wildcard() {
			t.Fatal(err)
		}
		for range Levels(name) {
			continue
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzMatch(f *testing.F) {
	for _, s := range [][2]string{
		{"sport/#", "sport"}, {"+/+", "/finance"}, {"#", "$SYS"}, {"$SYS/+", "$SYS/a"}, {"a/+/c/#", "a//c"}, {"a//b", "a/b"}, {"+/+/+/+/#", "////"},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, filter, name string) {
		pf, err := ParseFilter(filter)
		if err != nil || CheckName(name) != nil || len(filter)+len(name) > 300 {
			Match(filter, name) // whatever it says, it must not panic
			return
		}
		got := Match(pf.Filter, name)
		if s, r := bySplit(pf.Filter, name), byRegexp(t, pf.Filter, name); got != s || got != r {
			t.Fatalf("Match(%q, %q) = %v, by split %v, by regexp %v", pf.Filter, name, got, s, r)
		}
		var tree Tree[int]
		tree.Set(pf.Filter, 1)
		n := 0
		for range tree.Matching(name) {
			n++
		}
		if n != map[bool]int{true: 1}[got] {
			t.Fatalf("a tree with %q yields %d for %q", pf.Filter, n, name)
		}
	})
}

var validFilter = regexp.MustCompile(`^(\$share/[^/+#\x00]+/)?((\+|[^/+#\x00]*)/)*(#|\+|[^/+#\x00]*)$`)

func FuzzParseFilter(f *testing.F) {
	for _, s := range []string{"a", "+/#", "$share/g/a/+", "$share/g", "$share//a", "a#", "a/#/b", "+a", "\xff", "\x00", "$share/g//", "$share/$share/a", "$share"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		pf, err := ParseFilter(s)
		// The expression sees $share/ as a first level, too, if the rest is no share; rule that out by hand.
		want := len(s) > 0 && len(s) <= MaxLength && strings.ToValidUTF8(s, "") == s && validFilter.MatchString(s)
		if rest, shared := strings.CutPrefix(s, "$share/"); shared && want {
			name, filter, more := strings.Cut(rest, "/")
			want = name != "" && more && filter != "" && !strings.ContainsAny(name, "+#")
		}
		if (err == nil) != want {
			t.Fatalf("%q: got %+v %v, want valid %v", s, pf, err, want)
		}
		if err != nil {
			return
		}
		if pf.String() != s {
			t.Fatalf("%q becomes %q", s, pf.String())
		}
		if again, err := ParseFilter(pf.String()); err != nil || again != pf {
			t.Fatalf("%q: %+v, then %+v %v", s, pf, again, err)
		}
	})
}

func BenchmarkMatchOne(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Match("building/+/floor/+/room/#", "building/4/floor/2/room/17")
	}
}

func BenchmarkValidName(b *testing.B) {
	name := []byte("building/4/floor/2/room/17")
	for b.Loop() {
		ValidName(name)
	}
}
