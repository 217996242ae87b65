package route

import (
	"strings"
	"testing"

	"github.com/myelin-mqtt/myelin/topic"
)

// FuzzTable subscribes to the lines of filters, one session each, takes every third back, and compares what is found with topic.Match.
func FuzzTable(f *testing.F) {
	f.Add("a/b\na/+\n#\n+/#\na/b/c/+/#", "a/b")
	f.Add("$share/g/a/#\n$SYS/#\n+\n/+\n//", "$SYS/x")
	f.Add("a/b/c/d\na/b/+/d\na/b/+/d/e\na/+/c\n+/+/+/+\na/b", "a/b/c/d")
	f.Add("a/#\na/\na//#\na/+\na/+/\n/", "a/")
	f.Fuzz(func(t *testing.T, filters, name string) {
		if !topic.ValidName([]byte(name)) {
			return
		}
		table := NewTable[*sess]()
		all := map[*sess]topic.Filter{}
		n := 0
		for s := range strings.SplitSeq(filters, "\n") {
			tf, err := topic.ParseFilter(s)
			if err != nil {
				continue
			}
			to := &sess{n: n}
			table.Subscribe(tf, Sub[*sess]{To: to}, true)
			if all[to] = tf; n%3 == 2 {
				if !table.Unsubscribe(tf, to) {
					t.Fatalf("%v is not found", tf)
				}
				delete(all, to)
			}
			n++
		}
		e := NewCache(table, 1).Find([]byte(name))
		got := map[*sess]bool{}
		for _, s := range e.Subs {
			got[s.To] = true
		}
		for _, g := range e.Groups {
			for _, s := range g.Members() {
				got[s.To] = true
			}
		}
		for to, tf := range all {
			if topic.Match(tf.Filter, name) != got[to] {
				t.Fatalf("%v and %q: got %v", tf, name, got[to])
			}
			delete(got, to)
		}
		if len(got) > 0 {
			t.Fatalf("%q: too many", name)
		}
		for to, tf := range all {
			table.Unsubscribe(tf, to)
		}
		if !empty(table) || table.Stats() != (Stats{}) {
			t.Fatalf("left: %+v", table.Stats())
		}
	})
}
