package topic

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// collect returns the keys of an iterator, sorted and checked against their values.
func collect(t interface{ Fatalf(string, ...any) }, seq iter.Seq2[string, int], want map[string]int) []string {
	var keys []string
	for k, v := range seq {
		if w, ok := want[k]; !ok || w != v {
			t.Fatalf("%q: got %d, want %d %v", k, v, w, ok)
		}
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func TestTreeAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var filters, names Tree[int]
		mf, mn := map[string]int{}, map[string]int{}
		change := func(tree *Tree[int], m map[string]int, gen *rapid.Generator[string]) func(*rapid.T) {
			return func(t *rapid.T) {
				k, v := gen.Draw(t, "key"), rapid.Int().Draw(t, "value")
				want, ok := m[k]
				if got, had := tree.Get(k); got != want || had != ok {
					t.Fatalf("get %q: %d %v, want %d %v", k, got, had, want, ok)
				}
				if rapid.Bool().Draw(t, "set") {
					if old, had := tree.Set(k, v); old != want || had != ok {
						t.Fatalf("set %q: %d %v, want %d %v", k, old, had, want, ok)
					}
					m[k] = v
				} else {
					if old, had := tree.Delete(k); old != want || had != ok {
						t.Fatalf("delete %q: %d %v, want %d %v", k, old, had, want, ok)
					}
					delete(m, k)
				}
				if tree.Len() != len(m) {
					t.Fatalf("len %d, want %d", tree.Len(), len(m))
				}
				if got := collect(t, tree.All(), m); !slices.Equal(got, slices.Sorted(maps.Keys(m))) {
					t.Fatalf("all: got %q, want %v", got, m)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"filter": change(&filters, mf, genFilter),
			"name":   change(&names, mn, genName),
			"matching": func(t *rapid.T) {
				name := genName.Draw(t, "name")
				var want []string
				for f := range mf {
					if Match(f, name) {
						want = append(want, f)
					}
				}
				slices.Sort(want)
				if got := collect(t, filters.Matching(name), mf); !slices.Equal(got, want) {
					t.Fatalf("%q: got %q, want %q", name, got, want)
				}
			},
			"within": func(t *rapid.T) {
				filter := genFilter.Draw(t, "filter")
				var want []string
				for n := range mn {
					if Match(filter, n) {
						want = append(want, n)
					}
				}
				slices.Sort(want)
				if got := collect(t, names.Within(filter), mn); !slices.Equal(got, want) {
					t.Fatalf("%q: got %q, want %q", filter, got, want)
				}
			},
		})
		for k := range mf {
			filters.Delete(k)
		}
		if len(filters.root.kids) != 0 || filters.Len() != 0 {
			t.Fatalf("branches are left in an empty tree")
		}
	})
}

func TestTreeStops(t *testing.T) {
	var tree Tree[int]
	for i, k := range []string{"a/b", "a/c", "a", "b", "#", "+/b", "a/#"} {
		tree.Set(k, i)
	}
	for what, seq := range map[string]iter.Seq2[string, int]{"all": tree.All(), "matching": tree.Matching("a/b"), "within": tree.Within("a/+")} {
		n := 0
		for range seq {
			if n++; n == 1 {
				break
			}
		}
		if n != 1 {
			t.Errorf("%s: %d steps", what, n)
		}
	}
}

// TestTreeDeep: no key is too deep, and filters that a walk could take in exponentially many ways are visited once each.
func TestTreeDeep(t *testing.T) {
	var tree Tree[int]
	deep := strings.Repeat("a/", MaxLength/2) + "a"
	tree.Set(strings.Repeat("+/", MaxLength/2)+"#", 1)
	tree.Set(deep, 2)
	for i := range 1 << 10 {
		var b strings.Builder
		for l := range 10 {
			b.WriteString([]string{"a/", "+/"}[i>>l&1])
		}
		tree.Set(b.String()+"end", i)
	}
	n := 0
	for range tree.Matching(deep) {
		n++
	}
	if n != 2 {
		t.Errorf("%d filters match, want 2", n)
	}
	n = 0
	for range tree.Within("#") {
		n++
	}
	if n != tree.Len() {
		t.Errorf("%d keys within #, want %d", n, tree.Len())
	}
	if _, had := tree.Delete(deep); !had {
		t.Error("the deep key was not there")
	}
}
