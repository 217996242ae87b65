package load

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// read makes the plans of a scenario.
func read(text string) ([]Plan, Faults) { return Plans("bench.yaml", []byte(text), nil) }

func TestScenario(t *testing.T) {
	plans, faults := read(`
# what all have
size: 64
qos: 1
warm-up: 500ms
loads:
  - load: p2p
    clients: 3
    rate: 1000.5
  - load: p2p
    qos: 2
    duration: 90
  - name: many
    load: fan-out
    subscribers: 1000
    count: 10000
`)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	var got []string
	for _, p := range plans {
		got = append(got, fmt.Sprintf("%s %s %d->%d %d B q%d %g/s w%d %v %v n%d", p.Name, p.Load, p.Publishers, p.Subscribers, p.Size, p.QoS, p.Rate, p.Window, p.Duration, p.WarmUp, p.Count))
	}
	want := []string{
		"p2p p2p 3->3 64 B q1 1000.5/s w20 10s 500ms n0",
		"p2p-2 p2p 100->100 64 B q2 0/s w20 1m30s 500ms n0",
		"many fan-out 1->1000 64 B q1 0/s w20 0s 500ms n10000",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if plans, faults := read("load: idle\nclients: 5"); len(faults) > 0 || len(plans) != 1 || plans[0].Clients != 5 || plans[0].Topics != 0 {
		t.Errorf("%+v, %v", plans, faults)
	}
}

// TestScenarioFaults: each fault is told with its line, all of them at once.
func TestScenarioFaults(t *testing.T) {
	f := func(text string, want ...string) {
		t.Helper()
		_, faults := read(text)
		var got []string
		for _, x := range faults {
			got = append(got, x.Where+": "+x.What)
			if x.Hint == "" {
				t.Errorf("%q: no hint for %q", text, x.What)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q gives\n%s\nwant\n%s", text, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	f("", "bench.yaml: the scenario is empty")
	f("# nothing\n", "bench.yaml: the scenario is empty")
	f("load: [", "bench.yaml:1: not valid YAML: did not find expected node content")
	f("- load: p2p", "bench.yaml:1: the scenario wants keys with values")
	f("p2p", "bench.yaml:1: the scenario wants keys with values")
	f("load: p2p\n---\nload: p2p\n", "bench.yaml:2: a second document")
	f("load: p2q", `bench.yaml:1: load: there is no load "p2q"`)
	f("load: p2p\nlaod: p2p\nload: fan-in\n", `bench.yaml:2: unknown key "laod" of the scenario`, `bench.yaml:3: "load" is there twice`)
	f("warm_up: 3s", `bench.yaml:1: unknown key "warm_up" of the scenario`)
	f("clients:\n", "bench.yaml:1: clients: wants one value")
	f("clients: {a: b}\n", "bench.yaml:1: clients: wants one value")
	f("? [a, b]\n: c\n", `bench.yaml:1: unknown key "" of the scenario`)
	f("loads: 3", "bench.yaml:1: loads: wants a list of loads")
	f("loads: []", "bench.yaml:1: loads: wants a list of loads")
	f("loads:\n- p2p\n- load: p2p\n  loads: 3\n", "bench.yaml:2: a load wants keys with values", `bench.yaml:4: unknown key "loads" of a load`)
	f("clients: many\nqos: 3\nsize: 1e3\nrate: -1\nrate2: 3\nduration: soon\nwarm-up: -1s\ncount: 1.5\nwindow: 0\nloads:\n- load: p2p\n- load: fan-in\n",
		`bench.yaml:1: clients: "many" is no number`,
		`bench.yaml:2: qos: "3" is no quality of service`,
		`bench.yaml:3: size: "1e3" is no number`,
		`bench.yaml:4: rate: "-1" is no rate`,
		`bench.yaml:5: unknown key "rate2" of the scenario`,
		`bench.yaml:6: duration: "soon" is no duration`,
		`bench.yaml:7: warm-up: -1s is out of range`,
		`bench.yaml:8: count: "1.5" is no count`,
		`bench.yaml:9: window: 0 is out of range`)
	f("rate: 1e-9", "bench.yaml:1: rate: 1e-9 messages a second is out of range")
	f("clients: 1000000000", "bench.yaml:1: clients: 1000000000 is out of range")
	// What does not go together is told at the line of what gives it.
	f("load: p2p\nsize: 10\npublishers: 3\nsubscribers: 4\n",
		"bench.yaml:2: a payload of 10 bytes is too small for what each message carries",
		"bench.yaml:3: p2p wants as many publishers as subscribers, not 3 and 4")
	f("load: offline\nqos: 0\n", "bench.yaml:2: offline sessions keep messages of QoS 1 and 2")
	f("load: fan-in\nclients: 2\nsubscribers: 3\n", "bench.yaml:3: 2 publishers cannot reach 3 subscribers")
	f("duration: 0s\n", "bench.yaml:1: neither a duration nor a count")
	f("load: idle\nduration: 0s\ncount: 7\n", "bench.yaml:2: idle connections have nothing to count")
	f("topic: a/+\n", `bench.yaml:1: "a/+" cannot begin a topic`)
	f("topic: ''\n", `bench.yaml:1: "" cannot begin a topic`)
	f("load: fan-out\nclients: 100000\npublishers: 10000\n", "bench.yaml:1: too many pairs of publisher, topic and subscriber to follow each")
	f("load: p2p\n"+strings.Repeat("#", MaxScenario), "bench.yaml: the scenario is longer than 1 MiB")
	f("loads:\n"+strings.Repeat("- load: p2p\n", maxLoads+1), "bench.yaml:2: more than 1000 loads")
}

// FuzzScenario: no input makes more of itself than faults.
func FuzzScenario(f *testing.F) {
	f.Add("load: p2p\nclients: 3\nloads:\n- {load: idle}\n")
	f.Add("a: &a [*a]\n")
	f.Add("? {}\n: 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		plans, faults := read(text)
		for _, p := range plans {
			if len(faults) == 0 && (p.Duration < 0 || p.sequences() > maxPairs || p.Messages() && p.Size < HeaderSize) {
				t.Errorf("%+v", p)
			}
		}
		_ = faults.Error()
	})
}

// TestSides: whoever is not named is there in a sensible number.
func TestSides(t *testing.T) {
	for words, want := range map[string][2]int{
		"load=p2p": {100, 100}, "load=p2p publishers=3": {3, 3}, "load=p2p subscribers=4": {4, 4}, "load=p2p clients=5": {5, 5},
		"load=fan-out": {1, 100}, "load=fan-out clients=7": {1, 7}, "load=fan-out publishers=2 subscribers=9": {2, 9},
		"load=fan-in": {100, 1}, "load=fan-in clients=7 subscribers=2": {7, 2},
		"load=shared": {10, 10}, "load=publish": {100, 0}, "load=publish publishers=3 subscribers=3": {3, 0},
		"load=request": {100, 1}, "load=offline": {1, 100}, "load=idle": {0, 0}, "load=connect publishers=3": {0, 0},
	} {
		if p := plan(t, words); p.Publishers != want[0] || p.Subscribers != want[1] {
			t.Errorf("%s: %d -> %d, want %v", words, p.Publishers, p.Subscribers, want)
		}
	}
	if p := plan(t, "load=offline subscribers=7"); p.Count != 7000 || p.Duration != 0 || p.QoS != 1 || p.WarmUp != 0 {
		t.Errorf("%+v", p)
	}
	if p := plan(t, "load=p2p count=7"); p.Duration != 0 {
		t.Errorf("%+v", p)
	}
	if p := plan(t, "load=idle count=7"); p.Duration != 10*time.Second {
		t.Errorf("%+v", p)
	}
}
