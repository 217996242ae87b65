package cli

import (
	"slices"
	"testing"
)

func TestWrap(t *testing.T) {
	for _, x := range []struct {
		in   string
		want []string
	}{
		{"", []string{""}},
		{"one two", []string{"one two"}},
		{"one two three", []string{"one two", "three"}},
		{"seventeen-letters", []string{"seventee", "n-letter", "s"}},
		{"a seventeen-letters b", []string{"a", "seventee", "n-letter", "s b"}},
		{"8 é é é", []string{"8 é é é"}},
	} {
		if got := wrap(x.in, 8); !slices.Equal(got, x.want) {
			t.Errorf("wrap(%q): got %q, want %q", x.in, got, x.want)
		}
	}
}

func TestVisible(t *testing.T) {
	if got, want := visible("a\x1b[31m\x00\u009b\xffé"), "a?[31m???é"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
