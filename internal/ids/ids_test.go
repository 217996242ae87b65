package ids

import (
	"fmt"
	"hash/maphash"
	"runtime"
	"testing"

	"pgregory.net/rapid"
)

type thing struct {
	id string
	n  int
}

func (x *thing) ClientID() string { return x.id }

// A set is what a map would be, small or in parts, growing or shrinking.
func TestSetModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New[*thing](maphash.MakeSeed())
		model := map[string]*thing{}
		if rapid.Bool().Draw(t, "reserve") {
			s.Reserve(rapid.SampledFrom([]int{0, 10, 30000}).Draw(t, "reserved"))
		}
		names := rapid.SampledFrom([]int{3, 40, 1000, 20000}).Draw(t, "names")
		put := func(i int) {
			x := &thing{id: fmt.Sprint("c", i%names), n: i}
			s.Put(x)
			model[x.id] = x
		}
		for i := range rapid.IntRange(0, names).Draw(t, "first") {
			put(i)
		}
		for range rapid.IntRange(0, 50).Draw(t, "steps") {
			at, run := rapid.IntRange(0, names).Draw(t, "at"), rapid.IntRange(1, max(1, names/4)).Draw(t, "run")
			remove := rapid.Bool().Draw(t, "remove")
			for i := at; i < at+run; i++ {
				if remove {
					id := fmt.Sprint("c", i%names)
					s.Delete(id)
					delete(model, id)
				} else {
					put(i)
				}
			}
		}
		if s.Len() != len(model) {
			t.Fatalf("%d things, want %d", s.Len(), len(model))
		}
		for i := range names {
			id := fmt.Sprint("c", i)
			if got := s.Get(id); got != model[id] {
				t.Fatalf("%s: %v, want %v", id, got, model[id])
			}
		}
		n := 0
		for x := range s.All() {
			if n++; model[x.id] != x {
				t.Fatalf("%v is yielded, and not there", x)
			}
		}
		if n != len(model) {
			t.Fatalf("%d are yielded, want %d", n, len(model))
		}
	})
}

func TestAllStops(t *testing.T) {
	s := New[*thing](maphash.MakeSeed())
	for i := range 100 {
		s.Put(&thing{id: fmt.Sprint(i)})
	}
	n := 0
	for range s.All() {
		if n++; n == 10 {
			break
		}
	}
	if n != 10 {
		t.Errorf("%d were yielded", n)
	}
}

// A set takes a dozen bytes for each thing, and gives memory back.
func TestSetMemory(t *testing.T) {
	const n = 200000
	things := make([]thing, n)
	for i := range things {
		things[i].id = fmt.Sprintf("device-%07d", i)
	}
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	before := heap()
	s := New[*thing](maphash.MakeSeed())
	for i := range things {
		s.Put(&things[i])
	}
	if got := (heap() - before) / n; got > 15 {
		t.Errorf("%.1f bytes a thing, want at most 15", got)
	} else {
		t.Logf("%.1f bytes a thing", got)
	}
	for i := range things {
		s.Delete(things[i].id)
	}
	if got := heap() - before; got > 100<<10 {
		t.Errorf("%.0f bytes are left", got)
	}
	runtime.KeepAlive(things)
	runtime.KeepAlive(s)
}

func BenchmarkPut(b *testing.B) {
	things := make([]thing, 1<<20)
	for i := range things {
		things[i].id = fmt.Sprintf("device-%07d", i)
	}
	b.ResetTimer()
	for b.Loop() {
		s := New[*thing](maphash.MakeSeed())
		s.Reserve(len(things))
		for i := range things {
			s.Put(&things[i])
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(things)), "ns/thing")
}
