package route

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/myelin-mqtt/myelin/topic"
)

// collectAll runs a cursor to its end.
func collectAll[M any](r *Retained[M], filter string, limit int) []string {
	var got []string
	c := r.Cursor(filter)
	for c.Next(limit, func(name string, _ M) bool {
		got = append(got, name)
		return true
	}) {
	}
	return got
}

func TestRetained(t *testing.T) {
	var r Retained[int]
	if _, ok := r.Get("a"); ok || r.Len() != 0 {
		t.Fatal("an empty index holds something")
	}
	if _, had := r.Delete("a"); had {
		t.Fatal("an empty index had something to delete")
	}
	if got := collectAll(&r, "#", 1); got != nil {
		t.Fatalf("an empty index yields %q", got)
	}
	for i, n := range []string{"a", "a/b", "a!", "a/b/c", "/", "/b", "a/", "$SYS/up", "$SYS", "b!/c", "b/c", "c/z", "d/b", "d/b!/x", "d/b/x"} {
		if _, had := r.Set(n, i); had {
			t.Fatalf("%q is there already", n)
		}
	}
	if old, had := r.Set("a/b", 100); !had || old != 1 {
		t.Fatalf("replace: got %d %v", old, had)
	}
	if m, ok := r.Get("a/b"); !ok || m != 100 {
		t.Fatalf("get: got %d %v", m, ok)
	}
	for _, c := range []struct{ filter, want string }{
		{"a", "a"},
		{"nothing", ""},
		{"#", "/ /b a a! a/ a/b a/b/c b!/c b/c c/z d/b d/b!/x d/b/x"},
		{"a/#", "a a/ a/b a/b/c"},
		{"+", "a a!"},
		{"+/+", "/ /b a/ a/b b!/c b/c c/z d/b"},
		{"+/c", "b!/c b/c"},
		{"+/b/#", "/b a/b a/b/c d/b d/b/x"},
		{"/+", "/ /b"},
		{"/#", "/ /b"}, // not "": it is not a name
		{"$SYS/#", "$SYS $SYS/up"},
		{"$SYS/+", "$SYS/up"},
		{"+/up", ""},
		{"b/#", "b/c"},
		{"z/+", ""},
		{"a/+/c", "a/b/c"},
		{"+/b/x", "d/b/x"},
		{"+/z", "c/z"},
		{"+/+/+/+", ""},
	} {
		for _, limit := range []int{-1, 1, 2, 3, 1000} {
			if got := strings.Join(collectAll(&r, c.filter, limit), " "); got != c.want {
				t.Errorf("%q in steps of %d: got %q, want %q", c.filter, limit, got, c.want)
			}
		}
	}
	if old, had := r.Delete("a/b"); !had || old != 100 || r.Len() != 14 {
		t.Fatalf("delete: got %d %v", old, had)
	}
}

// TestCursorStops checks that a yield that answers false loses nothing, and that yield may change the index.
func TestCursorStops(t *testing.T) {
	var r Retained[int]
	var want []string
	for i := range 1000 {
		n := fmt.Sprintf("a/%03d", i)
		r.Set(n, i)
		want = append(want, n)
	}
	var got []string
	c := r.Cursor("a/+")
	for n := 0; c.Next(7, func(name string, m int) bool {
		got = append(got, name)
		r.Set(name, m+1)
		r.Set("b/"+name, m)
		n++
		return n%5 != 0
	}); {
	}
	if !slices.Equal(got, want) {
		t.Fatalf("got %d names, want %d: %q", len(got), len(want), got)
	}
	if c.Next(7, func(string, int) bool { t.Fatal("yield after the end"); return false }) {
		t.Fatal("more after the end")
	}
}

// TestCursorLooks checks that a cursor jumps over what it cannot want, and that one step is bounded however little it finds.
func TestCursorLooks(t *testing.T) {
	var r Retained[int]
	for i := range 100 {
		for j := range 100 {
			r.Set(fmt.Sprintf("d/%d/%d/x", i, j), 0)
		}
		r.Set(fmt.Sprintf("d/%d/z", i), 0)
	}
	for _, c := range []struct {
		filter string
		looks  int // at most
		found  int
	}{{"d/+/z", 302, 100}, {"d/5/#", 103, 101}, {"d/5/7/+", 5, 1}, {"e/#", 2, 0}, {"+", 3, 0}, {"+/7/z", 4, 1}, {"d/7/+/y", 302, 0}} {
		looks, found := 1, 0
		for cur := r.Cursor(c.filter); cur.Next(1, func(string, int) bool { found++; return true }); {
			looks++
		}
		if looks > c.looks || found != c.found {
			t.Errorf("%q: %d looks, found %d; want at most %d and %d", c.filter, looks, found, c.looks, c.found)
		}
	}
}

func TestRetainedAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r Retained[int]
		m := map[string]int{}
		type walk struct {
			c      *Cursor[int]
			filter string
			stayed map[string]bool // matched and was there since the walk began
			seen   map[string]bool
		}
		var walks []*walk
		gone := func(name string) {
			for _, w := range walks {
				delete(w.stayed, name)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				for range 5 {
					n, v := genName.Draw(t, "name"), rapid.Int().Draw(t, "value")
					old, had := r.Set(n, v)
					if want, ok := m[n]; had != ok || old != want {
						t.Fatalf("set %q: had %d %v, want %d %v", n, old, had, want, ok)
					}
					m[n] = v
				}
			},
			"delete": func(t *rapid.T) {
				n := genName.Draw(t, "name")
				if len(m) > 0 && rapid.Bool().Draw(t, "existing") {
					n = rapid.SampledFrom(slices.Sorted(maps.Keys(m))).Draw(t, "which")
				}
				old, had := r.Delete(n)
				if want, ok := m[n]; had != ok || old != want {
					t.Fatalf("delete %q: had %d %v, want %d %v", n, old, had, want, ok)
				}
				delete(m, n)
				gone(n)
			},
			"walk": func(t *rapid.T) {
				w := &walk{filter: genFilter.Draw(t, "filter").Filter, stayed: map[string]bool{}, seen: map[string]bool{}}
				w.c = r.Cursor(w.filter)
				for n := range m {
					if topic.Match(w.filter, n) {
						w.stayed[n] = true
					}
				}
				walks = append(walks, w)
			},
			"step": func(t *rapid.T) {
				if len(walks) == 0 {
					return
				}
				i := rapid.IntRange(0, len(walks)-1).Draw(t, "walk")
				w := walks[i]
				stop := rapid.IntRange(1, 8).Draw(t, "stop")
				more := w.c.Next(rapid.IntRange(1, 5).Draw(t, "limit"), func(n string, v int) bool {
					if w.seen[n] || !topic.Match(w.filter, n) || m[n] != v {
						t.Fatalf("%q yields %q %d: seen %v, current %d", w.filter, n, v, w.seen[n], m[n])
					}
					w.seen[n] = true
					delete(w.stayed, n)
					stop--
					return stop > 0
				})
				if !more {
					if len(w.stayed) > 0 {
						t.Fatalf("%q missed %v", w.filter, w.stayed)
					}
					walks = slices.Delete(walks, i, i+1)
				}
			},
			"": func(t *rapid.T) {
				if r.Len() != len(m) {
					t.Fatalf("len %d, want %d", r.Len(), len(m))
				}
			},
		})
	})
}

// TestSortedChunks drives the row of chunks through cuts, merges and orders that a small model never reaches.
func TestSortedChunks(t *testing.T) {
	const n = 20_000
	name := func(i int) string { return fmt.Sprintf("k/%06d", i) }
	orders := map[string]func(i int) int{
		"ascending":  func(i int) int { return i },
		"descending": func(i int) int { return n - 1 - i },
		"scattered":  func(i int) int { return i * 7919 % n },
		// each second one into the gap that the one before has left, from above
		"into the gap": func(i int) int { return i%2*(n-1) + (1-i%2*2)*(i/2) },
	}
	for what, order := range orders {
		var r Retained[int]
		for i := range n {
			r.Set(name(order(i)), i)
		}
		if got := collectAll(&r, "k/+", 100); len(got) != n || !slices.IsSorted(got) {
			t.Fatalf("%s: got %d names, want %d", what, len(got), n)
		}
		if c := len(r.order.chunks); c > n/maxChunk*5/2 {
			t.Errorf("%s: %d chunks for %d names", what, c, n)
		}
		for i := range n - 10 {
			r.Delete(name(i * 7919 % n))
		}
		if c := len(r.order.chunks); c > 10 || len(r.names) != 10 || r.peak > shrinkFrom {
			t.Errorf("%s: %d chunks and a peak of %d for 10 names", what, c, r.peak)
		}
		if got := collectAll(&r, "#", 3); len(got) != 10 || !slices.IsSorted(got) {
			t.Fatalf("%s: got %q", what, got)
		}
	}
}

// TestSortedEdges: a name that belongs between two chunks, and chunks that are emptied from the front.
func TestSortedEdges(t *testing.T) {
	for third := range 3 {
		sortedEdges(t, third)
	}
}

func sortedEdges(t *testing.T, third int) {
	var s sorted[int]
	name := func(i int) string { return fmt.Sprintf("%06d", i) }
	there := map[string]bool{}
	add := func(i int) { s.insert(&item[int]{name: name(i)}); there[name(i)] = true }
	check := func() {
		t.Helper()
		var got []string
		for it, p := s.at(s.seek("")); it != nil; it, p = s.at(pos{p.chunk, p.item + 1}) {
			got = append(got, it.name)
		}
		if want := slices.Sorted(maps.Keys(there)); !slices.Equal(got, want) {
			t.Fatalf("got %d names, want %d", len(got), len(want))
		}
		for n := range there {
			if it, _ := s.at(s.seek(n)); it == nil || it.name != n {
				t.Fatalf("%q is not found", n)
			}
		}
	}
	for i := range 3*maxChunk + 1 {
		add(i * 10)
	}
	check()
	if len(s.chunks) != 4 {
		t.Fatalf("%d chunks", len(s.chunks))
	}
	for c := range 3 { // the gaps before the chunks, from both sides
		at := (maxChunk*(c+1) - c - 2) * 10
		for _, i := range []int{1, 9, 2, 8, 3, 7, 4, 6, 5, 11, 19, 12, 18, 13, 17} {
			add(at + i)
			check()
		}
	}
	var order []string // each third name from the end, then the rest from the front
	for i, n := range slices.Sorted(maps.Keys(there)) {
		if i%3 == third {
			order = slices.Insert(order, 0, n)
		} else {
			order = append(order, n)
		}
	}
	for _, n := range order {
		s.remove(n)
		s.remove(n) // it is gone: nothing happens
		if delete(there, n); len(there)%10 == 0 {
			check()
		}
		if len(s.chunks) > 0 && s.chunks[0].first != "" {
			t.Fatalf("the first chunk begins at %q", s.chunks[0].first)
		}
	}
	if len(s.chunks) != 0 {
		t.Fatalf("%d chunks are left", len(s.chunks))
	}
}

// TestCursorConcurrent walks while others write: names that are there throughout are yielded once, always.
func TestCursorConcurrent(t *testing.T) {
	var r Retained[int]
	var want []string
	for i := range 500 {
		n := fmt.Sprintf("a/%d/stay", i)
		r.Set(n, 0)
		want = append(want, n)
	}
	slices.Sort(want)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				n := fmt.Sprintf("a/%d/go%d", i*31%500, w)
				r.Set(n, i)
				r.Set(fmt.Sprintf("a/%d/stay", i%500), i)
				r.Delete(n)
			}
		})
	}
	for range 50 {
		var got []string
		for c := r.Cursor("a/#"); c.Next(16, func(n string, _ int) bool {
			if strings.HasSuffix(n, "stay") {
				got = append(got, n)
			}
			return true
		}); {
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %d names, want %d", len(got), len(want))
			break
		}
	}
	close(stop)
	wg.Wait()
}

func FuzzCursor(f *testing.F) {
	f.Add("+/b", "a/b\na/c\n$x/b\na!/b\n/b")
	f.Add("a/+/#", "a\na/\na/b/c\nab/c")
	f.Add("+/+/x", "a/b/x\na/b/y\na/b!/x\nb/b/x/y")
	f.Fuzz(func(t *testing.T, filter, names string) {
		pf, err := topic.ParseFilter(filter)
		if err != nil {
			return
		}
		var r Retained[int]
		want := map[string]bool{}
		for n := range strings.SplitSeq(names, "\n") {
			if !topic.ValidName([]byte(n)) {
				continue
			}
			r.Set(n, 0)
			if topic.Match(pf.Filter, n) {
				want[n] = true
			}
		}
		if got, w := collectAll(&r, pf.Filter, 2), slices.Sorted(maps.Keys(want)); !slices.Equal(got, w) {
			t.Fatalf("%q in %q: got %q, want %q", pf.Filter, names, got, w)
		}
	})
}
