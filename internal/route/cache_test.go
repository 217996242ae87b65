package route

import (
	"fmt"
	"strings"
	"testing"

	"github.com/myelin-mqtt/myelin/topic"
)

func TestCache(t *testing.T) {
	table, a, b := NewTable[*sess](), &sess{n: 1}, &sess{n: 2}
	cache := NewCache(table, 100)
	if n := len(cache.entries); n != 128 {
		t.Errorf("%d slots for 100", n)
	}
	table.Subscribe(topic.Filter{Filter: "x/+"}, Sub[*sess]{To: a}, true)
	table.Subscribe(topic.Filter{Filter: "x/#"}, Sub[*sess]{To: a}, true)
	name := []byte("x/y")
	if cache.Find(name).Cached() {
		t.Error("remembered at first sight")
	}
	e := cache.Find(name)
	if !e.Cached() || cache.Find([]byte("x/y")) != e {
		t.Error("not remembered at second sight")
	}
	table.Subscribe(topic.Filter{Filter: "y/#"}, Sub[*sess]{To: b}, true)
	if cache.Find(name) != e {
		t.Error("a change elsewhere made another entry")
	}
	table.Subscribe(topic.Filter{Filter: "x/#"}, Sub[*sess]{To: b}, true)
	n := cache.Find(name)
	if n == e || !n.Cached() || len(n.Subs) != 2 || len(e.Subs) != 1 {
		t.Errorf("a change here: the same entry %v with %d subscribers", n == e, len(n.Subs))
	}
	copy(name, "x/z") // the caller's bytes belong to the caller
	if got := cache.Find([]byte("x/y")); got != n {
		t.Error("the entry's name has changed")
	}
	cache.Sweep(1 << 20)
	if cache.Find([]byte("x/y")) != n {
		t.Error("Sweep dropped an entry that stands")
	}
	table.Unsubscribe(topic.Filter{Filter: "y/#"}, b)
	cache.Sweep(127)
	cache.Sweep(1)
	if cache.weight != 0 {
		t.Errorf("Sweep left a weight of %d", cache.weight)
	}
	if e := cache.Find(nil); len(e.Subs)+len(e.Groups) != 0 || e.Cached() {
		t.Error("the empty name has subscribers")
	}
}

// TestCacheIsBounded: neither long names nor many overlapping subscribers make a cache large.
func TestCacheIsBounded(t *testing.T) {
	table := NewTable[*sess]()
	for i := range 3000 {
		to := &sess{n: i}
		for _, f := range []string{"#", "x/#"} {
			table.Subscribe(topic.Filter{Filter: f}, Sub[*sess]{To: to}, true)
		}
	}
	cache := NewCache(table, 0)
	for i := range 500 {
		name := fmt.Appendf(nil, "x/%d", i)
		for range 2 {
			if e := cache.Find(name); len(e.Subs) != 3000 {
				t.Fatalf("%s: %d subscribers", name, len(e.Subs))
			}
		}
	}
	held, entries := 0, 0
	for _, e := range cache.entries {
		if e != nil {
			held += e.weight
			entries++
		}
	}
	if held != cache.weight || held > maxCachedSubs || entries < maxCachedSubs/3000-1 {
		t.Fatalf("%d subscribers held in %d entries, %d counted", held, entries, cache.weight)
	}
	long := []byte(strings.Repeat("x", maxCachedName+1))
	for range 3 {
		if e := cache.Find(long); e.Cached() || len(e.Subs) != 3000 {
			t.Fatalf("a long name: cached %v, %d subscribers", e.Cached(), len(e.Subs))
		}
	}
}

// TestCacheSharesSlots: names that fall into the same slot do not answer for each other.
func TestCacheSharesSlots(t *testing.T) {
	table := NewTable[*sess]()
	cache := NewCache(table, 1)
	for i := range 10 {
		table.Subscribe(topic.Filter{Filter: fmt.Sprintf("%d/#", i)}, Sub[*sess]{To: &sess{n: i}}, true)
	}
	for i := range 1000 {
		n := i * i / 3 % 10
		if got := names(cache.Find(fmt.Appendf(nil, "%d/x", n))); len(got) != 1 || !got[n] {
			t.Fatalf("%d: got %v", n, got)
		}
	}
}
