package route

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/myelin-mqtt/myelin/topic"
)

func filter(t testing.TB, s string) topic.Filter {
	t.Helper()
	f, err := topic.ParseFilter(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// names returns the numbers of the sessions that get name.
func names(e *Entry[*sess]) map[int]bool {
	got := map[int]bool{}
	for _, s := range e.Subs {
		if !s.To.gone {
			got[s.To.n] = true
		}
	}
	return got
}

func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(Sub[*sess]{}); n != 16 {
		t.Errorf("Sub has %d bytes", n)
	}
	if n := unsafe.Sizeof(node[*sess]{}); n > 32 {
		t.Errorf("node has %d bytes", n)
	}
	if n := unsafe.Sizeof(list[*sess]{}); n > 24 {
		t.Errorf("list has %d bytes", n)
	}
	if n := unsafe.Sizeof(shard[*sess]{}); n != 64 {
		t.Errorf("shard has %d bytes", n)
	}
}

// TestFind has the examples of section 4.7 of the standard, and the shape of the tree around them: nodes with labels of several levels that are cut.
func TestFind(t *testing.T) {
	table, filters := NewTable[*sess](), []string{
		"sport/tennis/player1/#", "sport/#", "#", "sport/tennis/+", "sport/+", "+/+", "/+", "+", "/finance", "finance", "$SYS/#", "$SYS/monitor/+",
		"+/monitor/Clients", "+/tennis/#", "sport/+/player1", "sport/tennis/player1", "sport/tennis/+/score/#", "sport/tennis", "Sport/#", "+/#", "sport/tennis/#", "//", "/", "+/+/+", "$SYS",
	}
	for i, f := range filters {
		table.Subscribe(filter(t, f), Sub[*sess]{To: &sess{n: i}}, true)
	}
	cache := NewCache(table, 0)
	for _, name := range []string{
		"sport/tennis/player1", "sport/tennis/player1/ranking", "sport/tennis/player1/score/wimbledon", "sport", "sport/", "sports", "sport/tennis/player2", "/finance", "finance",
		"$SYS", "$SYS/", "$SYS/monitor/Clients", "x/monitor/Clients", "$x/monitor/Clients", "$SYS/monitor", "/", "//", "///", "SPORT", "sport/tennis", "sport/tennis/", "a",
	} {
		got := names(cache.Find([]byte(name)))
		for i, f := range filters {
			if want := topic.Match(f, name); got[i] != want {
				t.Errorf("%q with %q: got %v, want %v", f, name, got[i], want)
			}
		}
	}
}

// TestMerge checks the answer for one session with several matching subscriptions.
func TestMerge(t *testing.T) {
	table := NewTable[*sess]()
	a, b, c := &sess{n: 1}, &sess{n: 2}, &sess{n: 3}
	for _, s := range []struct {
		filter string
		Sub[*sess]
	}{
		{"a/b", Sub[*sess]{c, 1, 2, 0}},
		{"#", Sub[*sess]{c, 2, 1, 0}},
		{"a/+", Sub[*sess]{c, 3, 0, NoLocal}},
		{"a/b", Sub[*sess]{a, 7, 0, NoLocal}},
		{"a/+", Sub[*sess]{a, 8, 2, NoLocal | RetainAsPublished}},
		{"a/#", Sub[*sess]{a, 9, 1, Durable}},
		{"#", Sub[*sess]{a, 9, 0, 0}},
		{"+/b", Sub[*sess]{b, 0, 1, NoLocal}},
		{"+/#", Sub[*sess]{b, 5, 0, NoLocal}},
		{"$share/g/a/b", Sub[*sess]{a, 3, 1, 0}},
		{"$share/h/a/+", Sub[*sess]{b, 4, 1, 0}},
	} {
		table.Subscribe(filter(t, s.filter), s.Sub, true)
	}
	e := NewCache(table, 0).Find([]byte("a/b"))
	if len(e.Subs) != 3 || len(e.Groups) != 2 || e.Durable != 1 {
		t.Fatalf("got %d subs, %d groups, %d durable", len(e.Subs), len(e.Groups), e.Durable)
	}
	for _, s := range e.Subs {
		switch s.To {
		case a:
			if s.QoS != 2 || s.Opts != RetainAsPublished|Durable {
				t.Errorf("a: %+v", s)
			}
			if got := ids(s, e.More[a]); fmt.Sprint(got) != "[7 8 9 9]" {
				t.Errorf("a: identifiers %v", got)
			}
			if o := e.Own[a]; o.Sub.QoS != 1 || o.Sub.Opts&NoLocal != 0 || fmt.Sprint(ids(o.Sub, o.IDs)) != "[9 9]" {
				t.Errorf("a's own messages: %+v", o)
			}
		case c:
			if s.QoS != 2 || s.Opts != 0 || fmt.Sprint(ids(s, e.More[c])) != "[1 2 3]" {
				t.Errorf("c: %+v, more %v", s, e.More[c])
			}
			if o := e.Own[c]; o.Sub.QoS != 2 || fmt.Sprint(ids(o.Sub, o.IDs)) != "[1 2]" {
				t.Errorf("c's own messages: %+v", o)
			}
		case b:
			if s.QoS != 1 || s.Opts != NoLocal || s.ID != 5 || e.More[b] != nil {
				t.Errorf("b: %+v, more %v", s, e.More[b])
			}
			if _, mixed := e.Own[b]; mixed {
				t.Error("b has something of its own")
			}
		}
	}
}

// TestGroupAndPlain: a client that is both in a group and a plain subscriber gets both. [MQTT-4.8.2]
func TestGroupAndPlain(t *testing.T) {
	table, a := NewTable[*sess](), &sess{n: 1}
	shared := filter(t, "$share/g/x/+")
	table.Subscribe(filter(t, "x/+"), Sub[*sess]{To: a}, true)
	table.Subscribe(shared, Sub[*sess]{To: a, QoS: 1}, true)
	table.Subscribe(shared, Sub[*sess]{To: a, QoS: 2}, false)
	cache := NewCache(table, 0)
	e := cache.Find([]byte("x/y"))
	if len(e.Subs) != 1 || len(e.Groups) != 1 {
		t.Fatalf("got %d subs and %d groups", len(e.Subs), len(e.Groups))
	}
	g := e.Groups[0]
	if s, ok := g.Pick(RoundRobin, 0, nil); !ok || s.To != a || s.QoS != 2 || g.Len() != 1 {
		t.Fatalf("picked %+v %v of %d", s, ok, g.Len())
	}
	if g.Name() != "g" || g.Filter() != shared || table.Group(shared) != g {
		t.Fatalf("group %q %v", g.Name(), g.Filter())
	}
	table.Unsubscribe(shared, a) // the first one is enough, though it subscribed twice
	if table.Group(shared) != nil || len(cache.Find([]byte("x/y")).Groups) != 0 || g.Len() != 0 {
		t.Fatal("the group outlives its last member")
	}
	if s, ok := g.Pick(RoundRobin, 0, nil); ok {
		t.Fatalf("picked %+v from a group that has ended", s)
	}
	if st := table.Stats(); st != (Stats{Subscriptions: 1}) {
		t.Fatalf("stats %+v", st)
	}
}

// TestManyGroups drives one filter's groups through the index by name and the lazy cleaning.
func TestManyGroups(t *testing.T) {
	table, a, b := NewTable[*sess](), &sess{n: 1}, &sess{n: 2}
	cache := NewCache(table, 0)
	group := func(i int) topic.Filter { return topic.Filter{Share: fmt.Sprint("g", i), Filter: "x/#"} }
	for i := range 1000 {
		table.Subscribe(group(i), Sub[*sess]{To: a}, true)
		table.Subscribe(group(i), Sub[*sess]{To: b}, true)
	}
	if st := table.Stats(); st != (Stats{2000, 2000, 1000}) {
		t.Fatalf("stats %+v", st)
	}
	for i := range 1000 {
		if table.Group(group(i)).Filter() != group(i) {
			t.Fatalf("group %d is not found", i)
		}
		table.Unsubscribe(group(i), a)
		if i%3 > 0 {
			table.Unsubscribe(group(i), b)
		}
	}
	if st := table.Stats(); st != (Stats{334, 334, 334}) {
		t.Fatalf("stats %+v", st)
	}
	table.Subscribe(group(998), Sub[*sess]{To: a}, true) // may revive one that is still in the list
	table.Subscribe(group(1), Sub[*sess]{To: a}, true)
	living := 0
	e := cache.Find([]byte("x"))
	for _, g := range e.Groups {
		if g.Len() > 0 {
			living++
		}
	}
	if living != 336 || len(e.Groups) > 500 || table.Group(group(1)) == nil || table.Group(group(2)) != nil {
		t.Fatalf("%d groups are alive of %d", living, len(e.Groups))
	}
	for i := range 1000 {
		table.Unsubscribe(group(i), a)
		table.Unsubscribe(group(i), b)
	}
	if !empty(table) || table.Stats() != (Stats{}) {
		t.Fatalf("left: %+v", table.Stats())
	}
}

// TestForgetLongList ends the sessions of a long list in three ways and watches the counts and the memory.
func TestForgetLongList(t *testing.T) {
	for _, what := range []string{"#", "a/b", "$share/g/a/#"} {
		table, f := NewTable[*sess](), filter(t, what)
		gone := func(s *sess) bool { return s.gone }
		all := make([]*sess, 10_000)
		for i := range all {
			all[i] = &sess{n: i}
			table.Subscribe(f, Sub[*sess]{To: all[i]}, true)
		}
		length := func() int {
			n := 0
			for range table.All() {
				n++
			}
			return n
		}
		for i, s := range all[:5000] { // one after the other
			s.gone = true
			table.Forget(f, s, gone)
			if got, want := table.Stats().Subscriptions, len(all)-i-1; got != want {
				t.Fatalf("%s: %d subscriptions, want %d", what, got, want)
			}
			if n, living := length(), len(all)-i-1; i%100 == 0 && n*3 > living*4+3 {
				t.Fatalf("%s: %d of %d in the list are dead", what, n-living, n)
			}
		}
		for _, s := range all[5000:8000] { // all at once: the first cleaning hits them all
			s.gone = true
		}
		for _, s := range all[5000:8000] {
			table.Forget(f, s, gone)
		}
		if n := length(); n < 2000 || n > 2700 {
			t.Fatalf("%s: %d in the list, 2000 alive", what, n)
		}
		for _, s := range all[8000:] { // the rest unsubscribe
			if !table.Unsubscribe(f, s) {
				t.Fatalf("%s: session %d is not found", what, s.n)
			}
		}
		if !empty(table) || table.Stats() != (Stats{}) {
			t.Fatalf("%s: left: %+v, %d in lists", what, table.Stats(), length())
		}
	}
}

// TestDeepTopics: the longest names and filters with as many levels as they can have neither recurse nor take long nor much memory.
func TestDeepTopics(t *testing.T) {
	table := NewTable[*sess]()
	cache := NewCache(table, 0)
	deep := strings.Repeat("+/", topic.MaxLength/2-1) + "+"
	slashes := strings.Repeat("/", topic.MaxLength)
	for i, f := range []string{deep, deep[:len(deep)-1] + "#", slashes, slashes[1:] + "+", "+" + slashes[1:], strings.Repeat("a/", topic.MaxLength/2) + "#"} {
		table.Subscribe(filter(t, f), Sub[*sess]{To: &sess{n: i}}, true)
		table.Subscribe(filter(t, f[2*i:]), Sub[*sess]{To: &sess{n: 100 + i}}, true)
	}
	nodes := checkNodes(t, &table.wild.root, 0)
	for i := range table.trie {
		nodes += checkNodes(t, &table.trie[i].root, 0)
	}
	if nodes > 24 { // two for each filter
		t.Errorf("%d nodes for 12 filters", nodes)
	}
	for _, name := range []string{
		slashes,
		slashes[:topic.MaxLength/2-1],
		strings.Repeat("a/", topic.MaxLength/2-1) + "a",
		strings.Repeat("a/", topic.MaxLength/2),
		strings.Repeat("b/", topic.MaxLength/2-1) + "b",
		strings.Repeat("b/", topic.MaxLength/2-3) + "b",
		strings.Repeat("x", topic.MaxLength),
		"b/b",
	} {
		for range 2 {
			got := names(cache.Find([]byte(name)))
			for f, s := range table.All() {
				if topic.Match(f.Filter, name) != got[s.To.n] {
					t.Errorf("%.10s... with %d bytes: session %d: got %v", name, len(name), s.To.n, got[s.To.n])
				}
			}
		}
	}
}

// TestWalkIsBounded: filters that a walk could take in exponentially many ways are visited once each.
func TestWalkIsBounded(t *testing.T) {
	table := NewTable[*sess]()
	const levels = 12
	for i := range 1 << levels { // all combinations of a and +
		var b strings.Builder
		for l := range levels {
			b.WriteString([]string{"a/", "+/"}[i>>l&1])
		}
		table.Subscribe(filter(t, b.String()+"end"), Sub[*sess]{To: &sess{n: i}}, true)
	}
	cache := NewCache(table, 0)
	e := cache.Find([]byte(strings.Repeat("a/", levels) + "end"))
	if len(e.Subs) != 1<<levels {
		t.Fatalf("found %d", len(e.Subs))
	}
	if n := cap(cache.walker.steps); n > 4*levels {
		t.Errorf("%d waiting steps for %d levels", n, levels)
	}
	if e := cache.Find([]byte(strings.Repeat("a/", levels*100))); len(e.Subs) != 0 {
		t.Fatalf("found %d", len(e.Subs))
	}
}

// TestChurn: filters that come and go leave nothing behind.
func TestChurn(t *testing.T) {
	table, a := NewTable[*sess](), &sess{}
	stay := filter(t, "dev/stay/+/x/#")
	table.Subscribe(stay, Sub[*sess]{To: a}, true)
	for i := range 20_000 {
		for _, pattern := range []string{"dev/%d/#", "dev/%d/+/x", "dev/stay/%d/+", "dev/stay/+/%d/#", "%d", "+/%d", "dev/stay/+/x/%d/+"} {
			f := filter(t, fmt.Sprintf(pattern, i))
			table.Subscribe(f, Sub[*sess]{To: a}, true)
			if i%2 == 0 {
				table.Unsubscribe(f, a)
			}
			if i >= 101 && i%2 == 0 {
				table.Unsubscribe(filter(t, fmt.Sprintf(pattern, i-101)), a)
			}
		}
	}
	slots, nodes := 0, 0
	for _, shards := range []*[1 << shardBits]shard[*sess]{&table.exact, &table.trie} {
		for i := range shards {
			if s := shards[i].root.other.Load(); s != nil {
				for i := range s.width() {
					slots += len(s.row(i).hashes)
				}
			}
		}
	}
	for i := range table.trie {
		nodes += checkNodes(t, &table.trie[i].root, 0)
	}
	if slots > 64*4*minSlots || nodes > 7*52*2 {
		t.Errorf("%d slots and %d nodes for %d subscriptions", slots, nodes, table.Stats().Subscriptions)
	}
	for i := 19_000; i < 20_000; i++ {
		for _, pattern := range []string{"dev/%d/#", "dev/%d/+/x", "dev/stay/%d/+", "dev/stay/+/%d/#", "%d", "+/%d", "dev/stay/+/x/%d/+"} {
			table.Unsubscribe(filter(t, fmt.Sprintf(pattern, i)), a)
		}
	}
	if st := table.Stats(); st.Subscriptions != 1 || !table.Unsubscribe(stay, a) || !empty(table) {
		t.Errorf("left: %+v", st)
	}
}

// TestConcurrent: a subscription that is there throughout is never missed, and one that Unsubscribe has removed is not found any more, while filters around them
// split and merge the same nodes.
func TestConcurrent(t *testing.T) {
	table := NewTable[*sess]()
	stay := map[int]string{1: "a/b/c/d", 2: "a/b/+/d", 3: "a/#", 4: "#", 5: "+/b/c/d/#", 6: "a/+/+/d"}
	for n, f := range stay {
		table.Subscribe(filter(t, f), Sub[*sess]{To: &sess{n: n}}, true)
	}
	name := []byte("a/b/c/d")
	var stop atomic.Bool
	var readers, writers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			cache := NewCache(table, 4)
			for !stop.Load() {
				got := names(cache.Find(name))
				for n, f := range stay {
					if !got[n] {
						t.Errorf("missed %q", f)
						return
					}
				}
			}
		})
	}
	churn := []string{"a/b/c/d", "a/b/c/+", "a/b/#", "a/+/c/d", "+/+/c/d", "a/b/+/+", "a/b/+/#", "+/#", "a/b/c/d/#", "a/x/+", "+/b/+/d", "a/b/+/e", "a/+/x/#", "$share/g/a/b/+/d", "$share/g/#"}
	for w := range 2 {
		writers.Go(func() {
			cache := NewCache(table, 4)
			me := &sess{n: 100 + w}
			for i := range 4000 {
				f := topic.Filter{Filter: churn[(i*7+w)%len(churn)]}
				f, _ = topic.ParseFilter(f.Filter)
				table.Subscribe(f, Sub[*sess]{To: me}, false)
				if e := cache.Find(name); !f.Shared() && topic.Match(f.Filter, string(name)) && !names(e)[me.n] {
					t.Errorf("%v is not found after Subscribe", f)
				}
				table.Unsubscribe(f, me)
				e := cache.Find(name)
				if names(e)[me.n] {
					t.Errorf("%v is found after Unsubscribe", f)
				}
				for _, g := range e.Groups {
					for _, s := range g.Members() {
						if s.To == me {
							t.Errorf("%v has a member after Unsubscribe", f)
						}
					}
				}
			}
		})
	}
	writers.Wait()
	stop.Store(true)
	readers.Wait()
	if st := table.Stats(); st != (Stats{Subscriptions: len(stay)}) {
		t.Errorf("stats %+v", st)
	}
}

// TestForgetConcurrent: while sessions come to a long list and end, nobody misses those who stay, and nobody finds one after the lists are empty.
func TestForgetConcurrent(t *testing.T) {
	table := NewTable[*ender]()
	gone := func(e *ender) bool { return e.gone.Load() }
	plain, shared := topic.Filter{Filter: "x/#"}, topic.Filter{Share: "g", Filter: "x/#"}
	stay := make([]*ender, 100)
	for i := range stay {
		stay[i] = new(ender)
		table.Subscribe(plain, Sub[*ender]{To: stay[i]}, true)
	}
	var stop atomic.Bool
	var readers, writers sync.WaitGroup
	readers.Go(func() {
		cache := NewCache(table, 4)
		for i := uint64(0); !stop.Load(); i++ {
			living := map[*ender]bool{}
			e := cache.Find([]byte("x/y"))
			for _, s := range e.Subs {
				living[s.To] = true
			}
			for _, s := range stay {
				if !living[s] {
					t.Error("missed one who stays")
					return
				}
			}
			for _, g := range e.Groups {
				g.Pick(Strategy(i%4), i, func(e *ender) int {
					if e.gone.Load() {
						return Never
					}
					return 0
				})
			}
		}
	})
	for range 2 {
		writers.Go(func() {
			for range 20 {
				var batch []*ender
				for range 60 {
					e := new(ender)
					batch = append(batch, e)
					table.Subscribe(plain, Sub[*ender]{To: e}, true)
					table.Subscribe(shared, Sub[*ender]{To: e}, true)
				}
				for _, e := range batch {
					e.gone.Store(true)
					table.Forget(plain, e, gone)
					table.Forget(shared, e, gone)
				}
			}
		})
	}
	writers.Wait()
	stop.Store(true)
	readers.Wait()
	for _, e := range stay {
		if !table.Unsubscribe(plain, e) {
			t.Error("one who stays is not there")
		}
	}
	left := 0
	for _, s := range table.All() {
		if !s.To.gone.Load() {
			t.Error("a living one is left")
		}
		left++
	}
	if left > 0 {
		t.Errorf("%d ended sessions are left", left)
	}
}

// ender is a session whose end others may see at any time.
type ender struct{ gone atomic.Bool }
