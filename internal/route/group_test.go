package route

import (
	"testing"

	"github.com/myelin-mqtt/myelin/topic"
)

// groupOf returns a group of n members.
func groupOf(n int) (*Table[*sess], *Group[*sess], []*sess) {
	table, f := NewTable[*sess](), topic.Filter{Share: "g", Filter: "x/+"}
	all := make([]*sess, n)
	for i := range all {
		all[i] = &sess{n: i}
		table.Subscribe(f, Sub[*sess]{To: all[i], QoS: 1}, true)
	}
	return table, table.Group(f), all
}

// picks counts who is picked for keys 0 to n-1.
func picks(g *Group[*sess], st Strategy, n int, rank func(*sess) int) map[int]int {
	got := map[int]int{}
	for k := range n {
		s, ok := g.Pick(st, uint64(k), rank)
		if !ok {
			got[-1]++
			continue
		}
		got[s.To.n]++
	}
	return got
}

func TestPickRoundRobin(t *testing.T) {
	_, g, _ := groupOf(4)
	for n, c := range picks(g, RoundRobin, 400, nil) {
		if c != 100 {
			t.Errorf("member %d: %d of 400", n, c)
		}
	}
}

func TestPickRandom(t *testing.T) {
	_, g, _ := groupOf(4)
	for n, c := range picks(g, Random, 400, nil) {
		if c != 100 { // the keys are 0 to 399
			t.Errorf("member %d: %d of 400", n, c)
		}
	}
}

// TestPickOnline: in every strategy those online come first, then those offline, and those that have ended never.
func TestPickOnline(t *testing.T) {
	_, g, _ := groupOf(100)
	state := map[int]int{}
	rank := func(s *sess) int { return state[s.n] }
	for _, st := range []Strategy{RoundRobin, Random, Sticky, LeastInflight} {
		for i := range 100 {
			state[i] = []int{Offline, Never, Offline}[i%3]
		}
		state[42], state[43] = 5, 5
		if got := picks(g, st, 1000, rank); got[42]+got[43] != 1000 || got[42] == 0 || got[43] == 0 {
			t.Errorf("strategy %d: online are 42 and 43, got %v", st, got)
		}
		state[42], state[43] = Never, Never
		got := picks(g, st, 1000, rank)
		for n, c := range got {
			if state[n] != Offline || c == 0 {
				t.Errorf("strategy %d: nobody is online, picked %d", st, n)
			}
		}
		if len(got) < 30 && st != LeastInflight {
			t.Errorf("strategy %d: %d members share the messages of a group that is offline", st, len(got))
		}
		for i := range 100 {
			state[i] = Never
		}
		if got := picks(g, st, 10, rank); got[-1] != 10 {
			t.Errorf("strategy %d: all have ended, got %v", st, got)
		}
	}
}

// TestPickSticky: a key keeps its member while others come and go, and comes back to it after an absence.
func TestPickSticky(t *testing.T) {
	const keys = 10_000
	table, g, all := groupOf(10)
	where := func(rank func(*sess) int) []int {
		at := make([]int, keys)
		for k := range at {
			s, _ := g.Pick(Sticky, uint64(k), rank)
			at[k] = s.To.n
		}
		return at
	}
	before := where(nil)
	count := map[int]int{}
	for _, n := range before {
		count[n]++
	}
	for n := range all {
		if count[n] < keys/20 || count[n] > keys/5 {
			t.Errorf("member %d has %d of %d keys", n, count[n], keys)
		}
	}
	away := where(func(s *sess) int {
		if s.n == 3 {
			return Offline
		}
		return 0
	})
	for k := range before {
		if before[k] != 3 && away[k] != before[k] || away[k] == 3 {
			t.Fatalf("key %d went from %d to %d while 3 was away", k, before[k], away[k])
		}
	}
	table.Unsubscribe(g.Filter(), all[3])
	moved := 0
	for k, n := range where(nil) {
		if n != before[k] {
			moved++
		}
	}
	if most := keys * 3 / 10; moved > most { // its own keys, and those of the last place
		t.Errorf("%d of %d keys moved when one of 10 members left", moved, keys)
	}
	gone := where(nil)
	table.Subscribe(g.Filter(), Sub[*sess]{To: &sess{n: 10}}, true)
	for k, n := range where(nil) {
		if n != gone[k] && n != 10 {
			t.Fatalf("key %d went from %d to %d when 10 came", k, gone[k], n)
		}
	}
}

func TestPickLeastInflight(t *testing.T) {
	_, g, all := groupOf(5)
	busy := map[*sess]int{}
	rank := func(s *sess) int { return busy[s] }
	for i, s := range all {
		busy[s] = i + 10
	}
	for range 10 {
		s, _ := g.Pick(LeastInflight, 0, rank)
		busy[s.To]++
	}
	for _, s := range all[:4] { // 10+11+12+13+10 messages make 14 each
		if busy[s] != 14 {
			t.Errorf("member %d has %d", s.n, busy[s])
		}
	}
	_, g, all = groupOf(3 * leastWindow) // large groups look at a part of the members
	asked := 0
	for range all {
		g.Pick(LeastInflight, 0, func(*sess) int { asked++; return 0 })
	}
	if asked > len(all)*leastWindow {
		t.Errorf("asked %d times for %d messages", asked, len(all))
	}
}

// TestGroupComesBack: a group that has ended is found again by its filter once it has members.
func TestGroupComesBack(t *testing.T) {
	table, g, all := groupOf(2)
	gone := func(s *sess) bool { return s.gone }
	for _, s := range all {
		s.gone = true
		table.Forget(g.Filter(), s, gone)
	}
	if g.Len() != 0 || table.Group(g.Filter()) != nil {
		t.Fatalf("it has %d members", g.Len())
	}
	table.Subscribe(g.Filter(), Sub[*sess]{To: &sess{n: 7}}, true)
	now := table.Group(g.Filter())
	if now == nil || now.Len() != 1 || now.Filter() != g.Filter() || now.Name() != "g" {
		t.Fatalf("got %+v", now)
	}
}

func BenchmarkPickLarge(b *testing.B) {
	_, g, _ := groupOf(1000)
	for name, st := range map[string]Strategy{"Sticky": Sticky, "LeastInflight": LeastInflight} {
		b.Run(name, func(b *testing.B) {
			for i := uint64(0); b.Loop(); i++ {
				g.Pick(st, i, func(s *sess) int { return s.n })
			}
		})
	}
}
