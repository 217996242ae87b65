package config

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadSections(t *testing.T) {
	name := filepath.Join(t.TempDir(), "client.yaml")
	f := func(text string, want []Entry, faults ...string) {
		t.Helper()
		write(t, name, text)
		got, bad := ReadSections(name)
		for i := range got {
			got[i].Where = strings.TrimPrefix(got[i].Where, name+":")
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q (-want +got):\n%s", text, d)
		}
		var said []string
		for _, b := range bad {
			said = append(said, strings.TrimPrefix(b.String(), name+":"))
			if b.Hint == "" {
				t.Errorf("%q: no hint with %s", text, b)
			}
		}
		if d := cmp.Diff(faults, said); d != "" {
			t.Errorf("%q: faults (-want +got):\n%s", text, d)
		}
	}
	f("", nil)
	f("# nothing\n", nil)
	f("~\n", nil)
	f("all:\n", []Entry{{Where: "1", Section: "all"}})
	f("all:\n  a: 1\n  b: [x, 2.50, yes]\nsub:\n  c: 'x y'\n", []Entry{
		{Where: "1", Section: "all"}, {Where: "2", Section: "all", Key: "a", Values: []string{"1"}},
		{Where: "3", Section: "all", Key: "b", Values: []string{"x", "2.50", "yes"}, List: true},
		{Where: "4", Section: "sub"}, {Where: "5", Section: "sub", Key: "c", Values: []string{"x y"}},
	})
	f("all:\n  a:\n  b: {c: 1}\n  d: [1, [2]]\n", []Entry{{Where: "1", Section: "all"}},
		"2: a: wants a value, got nothing", "3: b: wants a value, got a section", "4: d: wants a value, got a list")
	f("all: x\n", []Entry{{Where: "1", Section: "all"}}, `1: section all wants keys with values, got the text "x"`)
	f("- a\n", nil, "1: the file wants keys with values, got a list")
	f("all:\n  a: 1\n  a: 2\n", []Entry{{Where: "1", Section: "all"}, {Where: "2", Section: "all", Key: "a", Values: []string{"1"}}, {Where: "3", Section: "all", Key: "a", Values: []string{"2"}}},
		`3: "a" is there twice`)
	f("all:\n  a: &x 1\n  b: *x\n", []Entry{{Where: "1", Section: "all"}, {Where: "2", Section: "all", Key: "a", Values: []string{"1"}}},
		"3: b: wants a value, got an alias, *x")

	write(t, name, "all: [\n")
	if _, bad := ReadSections(name); len(bad) != 1 || !strings.Contains(bad[0].What, "not valid YAML") {
		t.Error(bad)
	}
	if _, bad := ReadSections(name + ".gone"); len(bad) != 1 || !strings.Contains(bad[0].What, "cannot read the file") {
		t.Error(bad)
	}
}
