package route

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/myelin-mqtt/myelin/topic"
)

// heap returns the bytes that live.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// fillings are what the memory is measured of. most is the limit in bytes for each, the text of filters and names included.
var fillings = []struct {
	what string
	most int64
	fill func(n int) any
}{
	{"wildcard", 300, subscribed(func(i int) string { return fmt.Sprintf("a/%d/b/%d/+", i%1000, i/1000) })},
	{"pairs", 300, subscribed(func(i int) string { return fmt.Sprintf("dev/%d/%s/#", i/2, []string{"cmd", "cfg"}[i%2]) })},
	{"exact", 300, subscribed(func(i int) string { return fmt.Sprintf("a/%d/b/%d", i%1000, i/1000) })},
	{"one-filter", 40, subscribed(func(int) string { return "#" })},
	{"retained", 300, func(n int) any {
		var r Retained[*sess]
		for i := range n {
			r.Set(fmt.Sprintf("a/%d/b/%d", i%1000, i/1000), nil)
		}
		return &r
	}},
}

// subscribed returns a function that makes a table of n subscriptions.
func subscribed(filter func(i int) string) func(n int) any {
	return func(n int) any {
		table, to := NewTable[*sess](), &sess{}
		for i := range n {
			table.Subscribe(topic.Filter{Filter: filter(i)}, Sub[*sess]{To: to}, true)
		}
		return table
	}
}

func TestMemory(t *testing.T) {
	const n = 100_000
	for _, f := range fillings {
		before := heap()
		x := f.fill(n)
		if each := (heap() - before) / n; each > f.most {
			t.Errorf("%s: %d bytes each, want at most %d", f.what, each, f.most)
		}
		runtime.KeepAlive(x)
	}
}

func BenchmarkMemory(b *testing.B) {
	const n = 1_000_000
	for _, f := range fillings {
		b.Run(f.what, func(b *testing.B) {
			for b.Loop() {
				before := heap()
				x := f.fill(n)
				b.ReportMetric(float64(heap()-before)/n, "B/each")
				runtime.KeepAlive(x)
			}
		})
	}
}

func TestFindAllocatesNothing(t *testing.T) {
	table := NewTable[*sess]()
	for i := range 10 {
		for _, f := range []string{"a/b", "a/+", "#"} {
			table.Subscribe(topic.Filter{Filter: f}, Sub[*sess]{To: &sess{n: i}, ID: 1}, true)
		}
	}
	for i := range 20 {
		table.Subscribe(topic.Filter{Filter: "x/+"}, Sub[*sess]{To: &sess{n: i}}, true)
	}
	cache := NewCache(table, 0)
	for _, name := range []string{"a/b", "x/y", "x/y/z"} {
		b := []byte(name)
		cache.Find(b)
		if e := cache.Find(b); !e.Cached() || cache.Find(b) != e {
			t.Errorf("%s: not remembered at second sight", name)
		}
		if n := testing.AllocsPerRun(100, func() { cache.Find(b) }); n != 0 {
			t.Errorf("%s: %v allocations for a hit", name, n)
		}
	}
	small := NewCache(table, 1)
	x1, x2 := []byte("x/1"), []byte("x/2")
	if n := testing.AllocsPerRun(100, func() { small.Find(x1); small.Find(x2) }); n != 0 {
		t.Errorf("%v allocations for two misses", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	tables := map[string]func() (*Table[*sess], func(i int) []byte){
		"exact": func() (*Table[*sess], func(int) []byte) {
			t := NewTable[*sess]()
			for i := range 100 {
				t.Subscribe(topic.Filter{Filter: fmt.Sprintf("bench/topic/%d", i)}, Sub[*sess]{To: &sess{n: i}}, true)
			}
			return t, fixed("bench/topic/50")
		},
		"plus": func() (*Table[*sess], func(int) []byte) {
			t := NewTable[*sess]()
			for i := range 1000 {
				t.Subscribe(topic.Filter{Filter: "f/+"}, Sub[*sess]{To: &sess{n: i}}, true)
			}
			return t, fixed("f/1")
		},
		"overlap": func() (*Table[*sess], func(int) []byte) {
			t := NewTable[*sess]()
			for i := range 10 {
				s := &sess{n: i}
				for j, f := range []string{"a/b/c", "a/+/c", "a/#"} {
					t.Subscribe(topic.Filter{Filter: f}, Sub[*sess]{To: s, ID: uint32(j + 1), QoS: uint8(j)}, true)
				}
			}
			return t, fixed("a/b/c")
		},
		"1M": func() (*Table[*sess], func(int) []byte) {
			t := NewTable[*sess]()
			for i := range 1_000_000 {
				t.Subscribe(topic.Filter{Filter: fmt.Sprintf("a/%d/b/%d/+", i%1000, i/1000)}, Sub[*sess]{To: &sess{n: i}}, true)
			}
			return t, func(i int) []byte {
				i = i * 7919 % 1_000_000
				return fmt.Appendf(nil, "a/%d/b/%d/x", i%1000, i/1000)
			}
		},
	}
	for _, what := range []string{"exact", "plus", "overlap", "1M"} {
		b.Run(what, func(b *testing.B) {
			table, name := tables[what]()
			names := make([][]byte, 4096)
			for i := range names {
				names[i] = name(i * 97)
			}
			b.Run("cached", func(b *testing.B) {
				c := NewCache(table, 1<<16)
				for range 2 {
					for _, n := range names {
						c.Find(n)
					}
				}
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					c.Find(names[i&4095])
				}
			})
			b.Run("uncached", func(b *testing.B) {
				c := NewCache(table, 1)
				h := make([]uint64, len(names))
				text := make([]string, len(names))
				for i, n := range names {
					text[i] = string(n)
					h[i] = maphash.String(table.seed, text[i])
				}
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					c.walker.walk(table, text[i&4095], h[i&4095])
					c.merger.merge(c.walker.lists)
				}
			})
			if what == "1M" {
				b.Run("all", func(b *testing.B) { // every lookup misses, nothing is in the processor's cache
					c := NewCache(table, 0)
					all := make([][]byte, 1<<18)
					for i := range all {
						all[i] = name(rand.IntN(1_000_000))
					}
					for i := 0; b.Loop(); i++ {
						c.Find(all[i&(1<<18-1)])
					}
				})
			}
		})
	}
}

func fixed(s string) func(int) []byte { return func(int) []byte { return []byte(s) } }

func BenchmarkSubscribe(b *testing.B) {
	for _, kind := range []string{"wildcard", "one-level", "exact", "one-filter"} {
		for _, n := range []int{1_000, 100_000, 1_000_000} {
			b.Run(fmt.Sprintf("%s/%dk", kind, n/1000), func(b *testing.B) {
				fs := make([]topic.Filter, n)
				for i := range fs {
					switch kind {
					case "wildcard":
						fs[i].Filter = fmt.Sprintf("a/%d/b/%d/+", i%1000, i/1000)
					case "one-level": // all are children of one node
						fs[i].Filter = fmt.Sprintf("dev/%d/#", i)
					case "exact":
						fs[i].Filter = fmt.Sprintf("a/%d/b/%d/x", i%1000, i/1000)
					case "one-filter":
						fs[i].Filter = "alarm/#"
					}
				}
				s := Sub[*sess]{To: &sess{}}
				var longest time.Duration
				for b.Loop() {
					table := NewTable[*sess]()
					for _, f := range fs {
						start := time.Now()
						table.Subscribe(f, s, true)
						longest = max(longest, time.Since(start))
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/sub")
				b.ReportMetric(float64(longest.Microseconds()), "longest-us")
			})
		}
	}
}

func BenchmarkMassDisconnect(b *testing.B) {
	for _, n := range []int{1_000, 16_000, 64_000, 256_000} {
		b.Run(fmt.Sprintf("%dk", n/1000), func(b *testing.B) {
			f := topic.Filter{Filter: "alarm/#"}
			gone := func(s *sess) bool { return s.gone }
			var took time.Duration
			for b.Loop() {
				table := NewTable[*sess]()
				all := make([]*sess, n)
				for i := range all {
					all[i] = &sess{n: i}
					table.Subscribe(f, Sub[*sess]{To: all[i]}, true)
				}
				start := time.Now()
				for _, s := range all {
					s.gone = true
					table.Forget(f, s, gone)
				}
				took += time.Since(start)
			}
			b.ReportMetric(float64(took.Nanoseconds())/float64(b.N)/float64(n), "ns/client")
		})
	}
}

func BenchmarkRetained(b *testing.B) {
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		var r Retained[*sess]
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf("a/%d/b/%d", i%1000, i/1000)
		}
		b.Run(fmt.Sprintf("set/%dk", n/1000), func(b *testing.B) {
			for b.Loop() {
				r = Retained[*sess]{}
				for _, s := range names {
					r.Set(s, nil)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/name")
		})
		b.Run(fmt.Sprintf("cursor/%dk", n/1000), func(b *testing.B) {
			found := 0
			for b.Loop() {
				for c := r.Cursor("a/+/b/#"); c.Next(256, func(string, *sess) bool { found++; return true }); {
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(found), "ns/name")
		})
	}
}

func BenchmarkPick(b *testing.B) {
	for st, what := range []string{"RoundRobin", "Random", "Sticky", "LeastInflight"} {
		b.Run(what, func(b *testing.B) {
			table, f := NewTable[*sess](), topic.Filter{Share: "g", Filter: "x"}
			for i := range 10 {
				table.Subscribe(f, Sub[*sess]{To: &sess{n: i}}, true)
			}
			g := table.Group(f)
			rank := func(s *sess) int { return s.n }
			b.ReportAllocs()
			for i := uint64(0); b.Loop(); i++ {
				g.Pick(Strategy(st), i, rank)
			}
		})
	}
}
