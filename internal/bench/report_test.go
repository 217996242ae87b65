//go:build linux

package bench

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestNumber(t *testing.T) {
	for _, c := range []struct {
		v      float64
		digits int
		want   string
	}{
		{0.374, 2, "0.37"}, {12, 0, "12"}, {999, 0, "999"}, {1000, 0, "1,000"}, {1234567.8, 1, "1,234,567.8"}, {-1500, 0, "-1,500"}, {-100, 0, "-100"},
	} {
		if got := number(c.v, c.digits); got != c.want {
			t.Errorf("%v: got %s, want %s", c.v, got, c.want)
		}
	}
}

func TestGather(t *testing.T) {
	rs := []Result{
		{Load: "a", Broker: "x", PerMillion: 3}, {Load: "a", Broker: "x", PerMillion: 1}, {Load: "a", Broker: "x", PerMillion: 10},
		{Load: "a", Broker: "y", PerMillion: 100}, {Load: "b", Broker: "x", PerMillion: 100},
		{Load: "b", Broker: "y", PerMillion: 1}, {Load: "b", Broker: "y", Error: "stuck"},
		{Load: "c", Broker: "x", PerMillion: 2}, {Load: "c", Broker: "x", PerMillion: 4},
	}
	of := func(r Result) float64 { return r.PerMillion }
	for _, c := range []struct {
		load, broker string
		rate         int
		low          bool
		want         cell
	}{
		{"a", "x", 0, true, cell{best: 1, median: 3, ok: true}},
		{"a", "x", 0, false, cell{best: 10, median: 3, ok: true}},
		{"b", "y", 0, true, cell{failed: "stuck"}},
		{"c", "x", 0, true, cell{best: 2, median: 3, ok: true}},
		{"a", "x", 10, true, cell{best: 3, median: 3, ok: true}},
		{"d", "x", 0, true, cell{}},
	} {
		if got := gather(rs, Load{Name: c.load, Rate: c.rate}, c.broker, c.low, of); got != c.want {
			t.Errorf("%s on %s: got %+v, want %+v", c.load, c.broker, got, c.want)
		}
	}
}

func TestMarkdown(t *testing.T) {
	loads := []Load{
		{Name: "p", Title: "pairs", Goal: 0.5}, {Name: "q", Title: "others", Goal: 2},
		{Name: "h", Title: "held", Conns: 1, Filters: 1, Goal: 1200},
	}
	brokers := []Broker{{Name: "myelin"}, {Name: "other"}}
	rs := []Result{
		{Load: "p", Broker: "myelin", PerMillion: 0.4, Rate: 2_000_000}, {Load: "p", Broker: "myelin", PerMillion: 0.6, Rate: 1_000_000},
		{Load: "p", Broker: "other", PerMillion: 4, Rate: 200_000},
		{Load: "q", Broker: "myelin", PerMillion: 3, Rate: 1000}, {Load: "q", Broker: "other", Error: "1 messages lost"},
		{Load: "h", Broker: "myelin", Each: 779}, {Load: "h", Broker: "other", Each: 1558},
	}
	var b strings.Builder
	if err := Markdown(&b, Env{Rounds: 2, Seconds: 2, Command: "make bench", Brokers: map[string]string{"other": "2.0"}}, loads, brokers, rs); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"`make bench`", "other is `2.0`", "2 rounds of 2 s",
		"| load | myelin | other | other / myelin | goal for myelin |\n| --- | --- | --- | --- | --- |\n",
		"| pairs | 0.40 (0.50) | 4.00 | 10.00 | at most 0.50, reached |\n",
		"| others | 3.00 | failed | - | at most 2, **missed** |\n",
		"| pairs | 2,000,000 (1,500,000) | 200,000 | 0.10 |\n",
		"| held | 779 | 1,558 | 2.00 | at most 1,200, reached |\n",
		"- q, other, round 1: 1 messages lost\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "Latency") {
		t.Error("there is a table of latency without a paced load")
	}
	if err := Markdown(&b, Env{}, nil, brokers, nil); err == nil {
		t.Error("tables of nothing")
	}
}

func TestReplace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "b.md")
	for _, c := range []struct{ before, want string }{
		{"head\n" + Begin + "\nold\n" + End + "\ntail\n", "head\n" + Begin + "\nnew\n" + End + "\ntail\n"},
		{"head\n", ""},
		{End + Begin, ""},
	} {
		if err := os.WriteFile(file, []byte(c.before), 0o600); err != nil {
			t.Fatal(err)
		}
		err := Replace(file, "new\n")
		after, errRead := os.ReadFile(file)
		if errRead != nil {
			t.Fatal(errRead)
		}
		if c.want == "" {
			if err == nil || string(after) != c.before {
				t.Errorf("%q: error %v, now %q; want an error and nothing changed", c.before, err, after)
			}
		} else if err != nil || string(after) != c.want {
			t.Errorf("%q: error %v, now %q", c.before, err, after)
		}
	}
}

func TestJSON(t *testing.T) {
	var b strings.Builder
	if err := WriteJSON(&b, Env{Machine: "m"}, []Result{{Load: "p", Broker: "x", PerMillion: 1.5}}); err != nil {
		t.Fatal(err)
	}
	var back struct {
		Env     Env
		Results []Result
	}
	if err := json.Unmarshal([]byte(b.String()), &back); err != nil || back.Env.Machine != "m" || back.Results[0].PerMillion != 1.5 {
		t.Errorf("got %+v, %v from %s", back, err, b.String())
	}
}

func TestParseProc(t *testing.T) {
	// A name with spaces and brackets must not shift the fields.
	stat := "77 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15 16 17 18 19\n"
	if d, err := parseStat([]byte(stat)); err != nil || d != 3*time.Second {
		t.Errorf("got %v, %v; want 3s", d, err)
	}
	for _, bad := range []string{"", "1 (x)", "1 (x) S 1 2", "1 (x) S 1 2 3 4 5 6 7 8 9 10 a 50 1", "1 (x) S 1 2 3 4 5 6 7 8 9 10 1 b 1"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if n, err := parseStatus([]byte("Name:\tx\nVmRSS:\t    1234 kB\nThreads: 1\n"), "VmRSS"); err != nil || n != 1234<<10 {
		t.Errorf("got %d, %v", n, err)
	}
	for _, bad := range []string{"", "VmRSS: x kB\n"} {
		if _, err := parseStatus([]byte(bad), "VmRSS"); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestParseIO(t *testing.T) {
	if n, err := parseIO([]byte("rchar: 1\nwchar: 4321\nsyscr: 2\n")); err != nil || n != 4321 {
		t.Errorf("got %d, %v", n, err)
	}
	for _, bad := range []string{"", "rchar: 1\n", "wchar: x\n"} {
		if _, err := parseIO([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestLaunchTellsWhatTheBrokerSaid(t *testing.T) {
	b := Broker{Name: "sorry", Command: func(Setup) ([]string, error) {
		return []string{"sh", "-c", "echo no such luck; exit 3"}, nil
	}}
	_, err := launch(context.Background(), b, false, -1, t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "no such luck") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	b := Broker{Name: "deaf", Command: func(Setup) ([]string, error) { return []string{"sleep", "60"}, nil }}
	time.AfterFunc(50*time.Millisecond, cancel)
	from := time.Now()
	if rs := Run(ctx, Plan{Loads: Loads(), Brokers: []Broker{b}, Rounds: 1, Core: -1, Timing: Timing{Limit: time.Minute}}); len(rs) != 0 {
		t.Errorf("got %v", rs)
	}
	if d := time.Since(from); d > 5*time.Second {
		t.Errorf("it took %v to end", d)
	}
}

func TestRunHasALimit(t *testing.T) {
	// It listens but never answers.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	mute := l.Addr().(*net.TCPAddr).AddrPort()
	p := &process{addr: mute}
	from := time.Now()
	_, err = flowing(small(Pairs, 0), p, Timing{Stall: 100 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "no answer") || time.Since(from) > 5*time.Second {
		t.Errorf("got %v after %v", err, time.Since(from))
	}

	f := startFake(t, 0)
	f.mu.Lock()
	f.spoil = func(int, []byte) [][]byte { return nil }
	f.mu.Unlock()
	p = &process{addr: f.addr}
	p.run.Store(&running{cmd: &exec.Cmd{Process: self(t)}})
	_, err = flowing(small(Pairs, 0), p, Timing{Measure: 10 * time.Millisecond, Stall: 5 * time.Second})
	if err == nil || !strings.Contains(err.Error(), "nothing arrived") {
		t.Errorf("got %v", err)
	}

	deaf := Broker{Name: "deaf", Command: func(Setup) ([]string, error) { return []string{"sleep", "60"}, nil }}
	rs := Run(context.Background(), Plan{Loads: Loads()[:1], Brokers: []Broker{deaf}, Rounds: 1, Core: -1, Timing: Timing{Limit: 100 * time.Millisecond}})
	if len(rs) != 1 || rs[0].Error == "" {
		t.Errorf("got %+v, want one failed run", rs)
	}
}

func self(t *testing.T) *os.Process {
	p, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRunOfEachKind(t *testing.T) {
	f := startFake(t, 1)
	p := &process{addr: f.addr}
	p.run.Store(&running{cmd: &exec.Cmd{Process: self(t)}})
	r, err := flowing(small(Pairs, 1), p, Timing{Measure: 50 * time.Millisecond, Stall: 5 * time.Second})
	if err != nil || r.Deliveries == 0 || r.Rate == 0 || r.RSS == 0 || r.Seconds < 0.05 {
		t.Errorf("got %+v, %v", r, err)
	}
	r, err = holding(Load{Version: v311, Conns: 200, Filters: 1, Filter: "bench/%d/%d"}, p, Timing{Settle: time.Millisecond, Stall: 5 * time.Second})
	if err != nil || r.RSS == 0 || r.PerSec == 0 {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestLoadsAreSound(t *testing.T) {
	seen := map[string]bool{}
	for _, l := range Loads() {
		if seen[l.Name] {
			t.Errorf("%s is there twice", l.Name)
		}
		seen[l.Name] = true
		switch {
		case l.Conns > 0:
			if l.Filters == 0 || strings.Count(l.Filter, "%") != 2 {
				t.Errorf("%s: %d filters like %q", l.Name, l.Filters, l.Filter)
			}
		case l.Trial != nil:
			keys := map[string]bool{}
			for _, f := range l.Figures {
				if keys[f.Key] || f.Rule == NoGoal && f.Goal != 0 {
					t.Errorf("%s: %+v", l.Name, f)
				}
				keys[f.Key] = true
			}
			if len(keys) == 0 || l.Payload < stampSize || l.Pubs > 0 && (l.Window == 0 || l.Total%l.Pubs != 0) {
				t.Errorf("%s: %+v", l.Name, l)
			}
		case (l.Window > 0) == (l.Rate > 0) || l.Payload < stampSize || l.Pubs == 0 || l.Subs == 0:
			t.Errorf("%s: %+v", l.Name, l)
		case l.Rate > 0 && l.Shape != Pairs, l.Shape == Shared && l.Window != 1:
			t.Errorf("%s cannot be checked: %+v", l.Name, l)
		}
	}
}
