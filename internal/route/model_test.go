package route

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"testing"

	"pgregory.net/rapid"

	"github.com/myelin-mqtt/myelin/topic"
)

// sess stands for a session.
type sess struct {
	n    int
	gone bool
}

// model is a table without any cleverness.
type model struct {
	plain  map[string]map[*sess]Sub[*sess]
	shared map[topic.Filter]map[*sess]Sub[*sess]
}

func (m *model) put(f topic.Filter, s Sub[*sess]) {
	if f.Shared() {
		if m.shared[f] == nil {
			m.shared[f] = map[*sess]Sub[*sess]{}
		}
		m.shared[f][s.To] = s
		return
	}
	if m.plain[f.Filter] == nil {
		m.plain[f.Filter] = map[*sess]Sub[*sess]{}
	}
	m.plain[f.Filter][s.To] = s
}

func (m *model) has(f topic.Filter, to *sess) bool {
	_, had := m.plain[f.Filter][to]
	if f.Shared() {
		_, had = m.shared[f][to]
	}
	return had
}

func (m *model) drop(f topic.Filter, to *sess) {
	if !f.Shared() {
		delete(m.plain[f.Filter], to)
	} else if delete(m.shared[f], to); len(m.shared[f]) == 0 {
		delete(m.shared, f)
	}
}

// want is what the model says of one session.
type want struct {
	qos, opts uint8
	ids       []uint32 // sorted
	own       bool     // it gets its own messages
	ownQoS    uint8
	ownIDs    []uint32
}

func (m *model) match(name string) (subs map[*sess]want, groups map[topic.Filter]bool) {
	subs, groups = map[*sess]want{}, map[topic.Filter]bool{}
	for f, l := range m.plain {
		if !topic.Match(f, name) {
			continue
		}
		for to, s := range l {
			w, had := subs[to]
			if !had {
				w.opts = NoLocal
			}
			w.qos = max(w.qos, s.QoS)
			w.opts = w.opts&s.Opts&NoLocal | (w.opts|s.Opts)&^NoLocal
			if s.ID != 0 {
				w.ids = append(w.ids, s.ID)
			}
			if s.Opts&NoLocal == 0 {
				w.own, w.ownQoS = true, max(w.ownQoS, s.QoS)
				if s.ID != 0 {
					w.ownIDs = append(w.ownIDs, s.ID)
				}
			}
			subs[to] = w
		}
	}
	for f := range m.shared {
		if topic.Match(f.Filter, name) {
			groups[f] = true
		}
	}
	return subs, groups
}

// ids returns all identifiers of s, sorted.
func ids(s Sub[*sess], more []uint32) []uint32 {
	all := slices.Clone(more)
	if len(all) == 0 && s.ID != 0 {
		all = []uint32{s.ID}
	}
	slices.Sort(all)
	return all
}

// check compares an entry with the model. Sessions that have ended may be in the entry though the model forgot them.
func (m *model) check(t interface{ Fatalf(string, ...any) }, e *Entry[*sess], name string) {
	subs, groups := m.match(name)
	durable := 0
	for _, s := range e.Subs {
		if s.QoS > 0 && s.Opts&Durable != 0 {
			durable++
		}
		if s.To.gone {
			continue
		}
		w, ok := subs[s.To]
		if !ok {
			t.Fatalf("%q: session %d is there or there twice and should not be", name, s.To.n)
		}
		delete(subs, s.To)
		slices.Sort(w.ids)
		slices.Sort(w.ownIDs)
		if got := ids(s, e.More[s.To]); s.QoS != w.qos || s.Opts != w.opts || !slices.Equal(got, w.ids) {
			t.Fatalf("%q: session %d: got qos %d opts %b ids %v, want %d %b %v", name, s.To.n, s.QoS, s.Opts, got, w.qos, w.opts, w.ids)
		}
		own, mixed := e.Own[s.To]
		if !mixed {
			own = Own[*sess]{Sub: s, IDs: e.More[s.To]}
		}
		if gets := own.Sub.Opts&NoLocal == 0; gets != w.own || gets && (own.Sub.QoS != w.ownQoS || !slices.Equal(ids(own.Sub, own.IDs), w.ownIDs)) {
			t.Fatalf("%q: session %d: own messages: got %+v, want %+v", name, s.To.n, own, w)
		}
	}
	for to := range subs {
		if !to.gone {
			t.Fatalf("%q: session %d is missing", name, to.n)
		}
	}
	if e.Durable != durable {
		t.Fatalf("%q: durable %d, want %d", name, e.Durable, durable)
	}
	for _, g := range e.Groups {
		if g.Len() == 0 {
			continue
		}
		if !groups[g.Filter()] {
			t.Fatalf("%q: group %v is there or there twice and should not be", name, g.Filter())
		}
		delete(groups, g.Filter())
	}
	if len(groups) > 0 {
		t.Fatalf("%q: groups %v are missing", name, groups)
	}
}

var (
	// few levels, so that filters and names meet often
	genLevel = rapid.SampledFrom([]string{"a", "b", "", "a!", "$s", "a", "b", "a"})
	genName  = rapid.Custom(func(t *rapid.T) string {
		s := join(rapid.SliceOfN(genLevel, 1, 4).Draw(t, "levels"))
		if s == "" {
			return "/"
		}
		return s
	})
	genFilter = rapid.Custom(func(t *rapid.T) topic.Filter {
		levels := rapid.SliceOfN(rapid.OneOf(genLevel, genLevel, rapid.Just("+")), 1, 4).Draw(t, "levels")
		if rapid.IntRange(0, 3).Draw(t, "hash") == 0 {
			levels[len(levels)-1] = "#"
		}
		s := join(levels)
		if s == "" {
			s = "/"
		}
		if rapid.IntRange(0, 4).Draw(t, "shared") == 0 {
			s = fmt.Sprintf("$share/g%d/%s", rapid.IntRange(0, 2).Draw(t, "group"), s)
		}
		f, err := topic.ParseFilter(s)
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		return f
	})
)

func join(levels []string) string {
	s := levels[0]
	for _, l := range levels[1:] {
		s += "/" + l
	}
	return s
}

func TestTableAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := NewTable[*sess]()
		cache := NewCache(table, 16)
		m := &model{plain: map[string]map[*sess]Sub[*sess]{}, shared: map[topic.Filter]map[*sess]Sub[*sess]{}}
		all := make([]*sess, 4)
		for i := range all {
			all[i] = &sess{n: i}
		}
		gone := func(s *sess) bool { return s.gone }
		pick := rapid.Custom(func(t *rapid.T) int { return rapid.IntRange(0, len(all)-1).Draw(t, "i") })
		t.Repeat(map[string]func(*rapid.T){
			"subscribe": func(t *rapid.T) {
				for range 5 {
					f, to := genFilter.Draw(t, "filter"), all[pick.Draw(t, "session")]
					s := Sub[*sess]{To: to, ID: uint32(rapid.IntRange(0, 3).Draw(t, "id")), QoS: uint8(rapid.IntRange(0, 2).Draw(t, "qos")), Opts: uint8(rapid.IntRange(0, 7).Draw(t, "opts"))}
					table.Subscribe(f, s, !m.has(f, to) && rapid.Bool().Draw(t, "fresh"))
					m.put(f, s)
				}
			},
			"unsubscribe": func(t *rapid.T) {
				f, to := genFilter.Draw(t, "filter"), all[pick.Draw(t, "session")]
				if had := table.Unsubscribe(f, to); had != m.has(f, to) {
					t.Fatalf("unsubscribe %v: %v", f, had)
				}
				m.drop(f, to)
			},
			"unsubscribe one that is there": func(t *rapid.T) {
				fs := m.filters()
				if len(fs) == 0 {
					return
				}
				f := rapid.SampledFrom(fs).Draw(t, "filter")
				for _, to := range all {
					if m.has(f, to) {
						if !table.Unsubscribe(f, to) {
							t.Fatalf("%v: not found", f)
						}
						m.drop(f, to)
						return
					}
				}
			},
			"end": func(t *rapid.T) {
				i := pick.Draw(t, "session")
				to := all[i]
				to.gone = true
				all[i] = &sess{n: to.n + 100}
				for _, f := range m.filters() {
					if m.has(f, to) {
						table.Forget(f, to, gone)
						m.drop(f, to)
					}
				}
			},
			"find": func(t *rapid.T) {
				for range 10 {
					name := genName.Draw(t, "name")
					m.check(t, cache.Find([]byte(name)), name)
				}
			},
			"sweep": func(t *rapid.T) { cache.Sweep(4) },
			"": func(t *rapid.T) {
				m.checkAll(t, table)
			},
		})
		for _, f := range m.filters() {
			for _, to := range all {
				table.Unsubscribe(f, to)
			}
		}
		if !empty(table) {
			t.Fatalf("nodes are left in an empty table")
		}
	})
}

func (m *model) filters() []topic.Filter {
	var fs []topic.Filter
	for f, l := range m.plain {
		if len(l) > 0 {
			fs = append(fs, topic.Filter{Filter: f})
		}
	}
	fs = slices.AppendSeq(fs, maps.Keys(m.shared))
	sort.Slice(fs, func(i, j int) bool { return fs[i].String() < fs[j].String() })
	return fs
}

// pair is one subscription.
type pair struct {
	f  topic.Filter
	to *sess
}

// pairs returns all subscriptions of the model.
func (m *model) pairs() map[pair]bool {
	all := map[pair]bool{}
	for f, l := range m.plain {
		for to := range l {
			all[pair{topic.Filter{Filter: f}, to}] = true
		}
	}
	for f, l := range m.shared {
		for to := range l {
			all[pair{f, to}] = true
		}
	}
	return all
}

// checkAll compares the iteration and the counts with the model, and the trie with its rules.
func (m *model) checkAll(t *rapid.T, table *Table[*sess]) {
	left, st := m.pairs(), Stats{Groups: len(m.shared)}
	for p := range left {
		st.Subscriptions++
		if p.f.Shared() {
			st.Shared++
		}
	}
	for f, s := range table.All() {
		if !left[pair{f, s.To}] {
			t.Fatalf("iteration: %v session %d is there or there twice and should not be", f, s.To.n)
		}
		delete(left, pair{f, s.To})
	}
	if len(left) > 0 {
		t.Fatalf("iteration: missing %v", left)
	}
	if s := table.Stats(); s != st {
		t.Fatalf("stats: got %+v, want %+v", s, st)
	}
	for i := range table.trie {
		checkNodes(t, &table.trie[i].root, 0)
	}
	checkNodes(t, &table.wild.root, 0)
}

// checkNodes checks what must hold of the nodes below k: labels follow each other, and no node is there without use.
func checkNodes(t interface{ Fatalf(string, ...any) }, k *kids[*sess], from int) (nodes int) {
	f := frame[*sess]{k: k, s: k.other.Load()}
	for n, more := f.child(); more; n, more = f.child() {
		if n == nil {
			continue
		}
		nodes++
		if int(n.from) != from {
			t.Fatalf("node %q: label begins at %d, want %d", n.key(), n.from, from)
		}
		size, _ := n.kids.Load().size()
		if n.subs.Load() == nil && size < 2 {
			t.Fatalf("node %q has no subscribers and %d children", n.key(), size)
		}
		if size == 0 && n.kids.Load() != nil {
			t.Fatalf("node %q keeps an empty table", n.key())
		}
		if size > 0 {
			nodes += checkNodes(t, n.kids.Load(), int(n.size)+1)
		}
	}
	return nodes
}

// empty reports whether nothing is left of what a table has held.
func empty(table *Table[*sess]) bool {
	for i := range table.exact {
		if table.exact[i].root.other.Load() != nil || table.trie[i].root.other.Load() != nil {
			return false
		}
	}
	return table.wild.root.plus.Load() == nil && table.wild.root.hash.Load() == nil
}
