package acl

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/myelin-mqtt/myelin/topic"
)

func pat(t testing.TB, s string) *pattern {
	t.Helper()
	p, err := newPattern(s, false)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return &p
}

func TestCoversAndMeets(t *testing.T) {
	for _, x := range []struct {
		rule, filter  string
		covers, meets bool
	}{
		{"#", "#", true, true}, {"#", "a/b", true, true}, {"#", "+/+", true, true}, {"#", "$SYS/a", false, false}, {"+/a", "$SYS/a", false, false},
		{"a/#", "a", true, true}, {"a/#", "a/#", true, true}, {"a/#", "a/+/b", true, true}, {"a/#", "#", false, true}, {"a/#", "+", false, true},
		{"a", "a/#", false, true}, {"a/+", "a/#", false, true}, {"a/+/#", "a/#", false, true}, {"a/+", "a/+", true, true}, {"a/+", "a/b", true, true},
		{"a/b", "a/+", false, true}, {"+/#", "#", true, true}, {"+/+/#", "#", false, true}, {"+", "#", false, true}, {"a/+/c", "a/b/+", false, true},
		{"$SYS/#", "#", false, false}, {"$SYS/#", "+/a", false, false}, {"$SYS/#", "$SYS/a", true, true}, {"a/b", "a", false, false}, {"a", "a/b", false, false},
		{"a//b", "a/+/b", false, true}, {"a/+/b", "a//b", true, true}, {"/+", "/", true, true},
	} {
		p := pat(t, x.rule)
		if got := p.covers(x.filter, &who{}); got != x.covers {
			t.Errorf("%s covers %s: %v", x.rule, x.filter, got)
		}
		if got := p.meets(x.filter, &who{}); got != x.meets {
			t.Errorf("%s meets %s: %v", x.rule, x.filter, got)
		}
	}
}

// names are all topic names of up to five levels of few words: deeper than the
// filters of the test by two, so that what two filters differ in shows.
func names() (all []string) {
	words := []string{"", "a", "b", "$s"}
	row := append([]string(nil), words...)
	for range 5 {
		var next []string
		for _, n := range row {
			if n != "" {
				all = append(all, n)
			}
			for _, w := range words {
				next = append(next, n+"/"+w)
			}
		}
		row = next
	}
	return all
}

// TestPatternsAgainstAllNames: covers is a subset of names, meets a name in common.
func TestPatternsAgainstAllNames(t *testing.T) {
	all := names()
	filters := rapid.Custom(func(t *rapid.T) string {
		levels := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "+", "+", "", "$s"}), 1, 3).Draw(t, "levels")
		f := strings.Join(levels, "/")
		if rapid.Bool().Draw(t, "multi") {
			if levels[len(levels)-1] == "+" && len(levels) == 1 && rapid.Bool().Draw(t, "alone") {
				return "#"
			}
			f += "/#"
			if f == "/#" { // its parent is the empty name, which nobody can publish to: it is taken for one, which errs to deny
				f = "a/#"
			}
		}
		if f == "" {
			return "a"
		}
		return f
	})
	rapid.Check(t, func(t *rapid.T) {
		r, f := filters.Draw(t, "rule"), filters.Draw(t, "filter")
		p, err := newPattern(r, false)
		if err != nil {
			t.Fatal(err)
		}
		covers, meets := true, false
		for _, n := range all {
			if !topic.Match(f, n) {
				continue
			}
			if topic.Match(r, n) {
				meets = true
			} else {
				covers = false
			}
		}
		if got := p.covers(f, &who{}); got != covers {
			t.Fatalf("%q covers %q: %v", r, f, got)
		}
		if got := p.meets(f, &who{}); got != meets {
			t.Fatalf("%q meets %q: %v", r, f, got)
		}
	})
}

// TestPlaceholdersDoNotWiden: a name that is no plain word stands for nothing.
func TestPlaceholdersDoNotWiden(t *testing.T) {
	for _, x := range []struct {
		pattern, client, user, filter string
		want                          bool
	}{
		{"c/%c/#", "one", "", "c/one/x", true}, {"c/%c/#", "one", "", "c/two/x", false}, {"c/d-%c-%u", "1", "u", "c/d-1-u", true},
		{"c/%c", "+", "", "c/+", false}, {"c/%c", "+", "", "c/x", false}, {"c/%c", "#", "", "c/#", false}, {"c/%c", "a/b", "", "c/a/b", false},
		{"c/%c", "", "", "c/", false}, {"c/%u", "x", "", "c/", false}, {"c/%c", "a\x00", "", "c/a\x00", false}, {"%u/#", "", "$SYS", "$SYS/x", false},
		{"x%u/#", "", "$SYS", "x$SYS/x", true}, {"c/%c", "%u", "a", "c/a", false}, {"c/%c", "%u", "a", "c/%u", true}, {"c/100%", "", "", "c/100%", true}, {"c/%%c", "x", "", "c/%x", true},
	} {
		p, w := pat(t, x.pattern), &who{x.client, x.user}
		if got := p.fits(w) && p.covers(x.filter, w); got != x.want {
			t.Errorf("%q for client %q, user %q: covers %q: %v", x.pattern, x.client, x.user, x.filter, got)
		}
	}
}
