package broker

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// Subscriptions are found, with an index or without, as a map would find them.
func TestFilters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s session
		want := map[string]uint32{}
		for i := range rapid.IntRange(0, 400).Draw(t, "steps") {
			name := fmt.Sprint(rapid.IntRange(0, 120).Draw(t, "filter"))
			at := s.find(name)
			if _, ok := want[name]; ok != (at >= 0) {
				t.Fatalf("find %s: %d, want %v", name, at, ok)
			}
			switch {
			case at < 0:
				s.add(newSubscription(name, uint32(i), 0))
				want[name] = uint32(i)
			case rapid.Bool().Draw(t, "remove"):
				s.remove(at)
				delete(want, name)
			}
		}
		if len(s.subs()) != len(want) {
			t.Fatalf("%d subscriptions, want %d", len(s.subs()), len(want))
		}
		for name, id := range want {
			if at := s.find(name); at < 0 || s.subs()[at].filter() != name || s.subs()[at].id != id {
				t.Fatalf("%s is at %d", name, at)
			}
		}
	})
}
