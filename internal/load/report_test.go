package load

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// spread is a histogram of 1000 values from one step to 1000.
func spread(step time.Duration) *hdrhistogram.Histogram {
	h := newHistogram()
	for i := range 1000 {
		_ = h.RecordValue(int64(step) * int64(i+1))
	}
	return h
}

// sample is a result with all that there can be.
func sample(t *testing.T, words string) *Result {
	p := plan(t, words)
	r := &Result{
		Plan: p, Broker: "tcp://a:1883", Connections: 200, Opening: 50 * time.Millisecond, Opened: spread(time.Microsecond),
		Whole: true, Measured: 10 * time.Second, Sent: 100_000, Acked: 99_990, Received: 99_980, Busy: 0.42,
		Latency: Times{spread(2 * time.Microsecond), spread(time.Microsecond)}, Ack: Times{spread(4 * time.Microsecond), spread(3 * time.Microsecond)},
	}
	if p.Open() {
		r.Intended, r.Lag = 100_000, spread(10*time.Nanosecond)
	}
	return r
}

func TestSummary(t *testing.T) {
	f := func(r *Result, want string) {
		t.Helper()
		if got := Summary(r); got != strings.TrimPrefix(want, "\n") {
			t.Errorf("%s", got)
		}
	}
	f(sample(t, "load=p2p qos=1 size=64"), `
p2p: p2p, 100 -> 100, 64 B, QoS 1, window 20 on tcp://a:1883
  connections   200 in 50.0 ms, 4,000/s; each p50 500 µs, p99 990 µs, max 1.00 ms
  sent          100000 in 10.0 s: 10,000/s
  acknowledged  99990: 9,999/s
  received      99980: 9,998/s, 639.9 KB/s of payload
  latency                                p50      p90      p95      p99    p99.9   p99.99      max
    delivery                         1.00 ms  1.80 ms  1.90 ms  1.98 ms  2.00 ms  2.00 ms  2.00 ms
    acknowledgement                  2.00 ms  3.60 ms  3.80 ms  3.96 ms  4.00 ms  4.00 ms  4.00 ms
  lost          0
  duplicated    0
  out of order  0
  generator     busy 42 %
`)
	r := sample(t, "load=fan-out subscribers=10 rate=10000")
	r.Sent, r.Busy = 90_000, 0.95
	r.Faults = Faulty{Lost: 1, Duplicated: 2, Reordered: 3, Strays: 4}
	r.Usage = &Usage{CPU: 2 * time.Second, Message: 20 * time.Microsecond, RSS: 5e6, Peak: 6e6, Each: 4000}
	f(r, `
fan-out: fan-out, 1 -> 10, 256 B, QoS 0, open loop at 10,000/s on tcp://a:1883
  connections   200 in 50.0 ms, 4,000/s; each p50 500 µs, p99 990 µs, max 1.00 ms
  sent          90000 in 10.0 s: 9,000/s
  received      99980: 9,998/s, 2.6 MB/s of payload
  latency                                p50      p90      p95      p99    p99.9   p99.99      max
    delivery, from when due          1.00 ms  1.80 ms  1.90 ms  1.98 ms  2.00 ms  2.00 ms  2.00 ms
    delivery, from when sent          500 µs   900 µs   950 µs   990 µs   999 µs  1.00 ms  1.00 ms
    acknowledgement, from when due   2.00 ms  3.60 ms  3.80 ms  3.96 ms  4.00 ms  4.00 ms  4.00 ms
    acknowledgement, from when sent  1.50 ms  2.70 ms  2.85 ms  2.97 ms  3.00 ms  3.00 ms  3.00 ms
    generator's lag                  5.05 µs  9.02 µs  9.54 µs  9.92 µs  10.0 µs  10.0 µs  10.0 µs
  lost          1
  duplicated    2
  out of order  3
  strays        4
  broker        20 % of a core, 20.00 µs for each message; resident 5.0 MB, at most 6.0 MB, 4.0 KB for each connection
  generator     busy 95 %: it may be what was measured
  too slow      the generator did not keep the rate: of 100000 messages that were due 10000 were not sent
`)
	r = sample(t, "load=offline subscribers=10 qos=2")
	r.Faults = Faulty{Lost: 5, Refused: 1, First: errors.New("PUBACK: Quota exceeded")}
	r.Return = &Return{Sessions: 10, Received: 9995, Took: time.Second}
	f(r, `
offline: offline, 1 -> 10, 256 B, QoS 2, window 20 on tcp://a:1883
  connections   200 in 50.0 ms, 4,000/s; each p50 500 µs, p99 990 µs, max 1.00 ms
  sent          100000 in 10.0 s: 10,000/s
  acknowledged  99990: 9,999/s
  returned      10 sessions got 9995 messages in 1.00 s: 9,995/s
  latency                                p50      p90      p95      p99    p99.9   p99.99      max
    acknowledgement                  1.00 ms  1.80 ms  1.90 ms  1.98 ms  2.00 ms  2.00 ms  2.00 ms
  lost          5
  duplicated    0
  out of order  0
  refused       1
  generator     busy 42 %
  failed        5 messages of QoS 2 were lost
`)
	r = sample(t, "load=connect name=storm rate=100")
	r.Connections = 0
	r.Lag = spread(10 * time.Microsecond)
	f(r, `
storm: connect, 100 clients, open loop at 100/s on tcp://a:1883
  done          100000 connects in 10.0 s: 10,000/s
  latency                                p50      p90      p95      p99    p99.9   p99.99      max
    connect, from when due           1.00 ms  1.80 ms  1.90 ms  1.98 ms  2.00 ms  2.00 ms  2.00 ms
    connect, from when sent           500 µs   900 µs   950 µs   990 µs   999 µs  1.00 ms  1.00 ms
    generator's lag                  5.00 ms  9.00 ms  9.50 ms  9.90 ms  9.99 ms  10.0 ms  10.0 ms
  generator     busy 42 %
  too slow      the generator did not keep the rate: one in a hundred left 9.9ms or more after it was due
`)
	r = sample(t, "load=idle")
	r.Err, r.Measured = errors.New("connect: connection refused"), 0
	f(r, `
idle: idle, 1000 clients on tcp://a:1883
  connections   200 in 50.0 ms, 4,000/s; each p50 500 µs, p99 990 µs, max 1.00 ms
  failed        connect: connection refused
`)
}

func TestProgressLine(t *testing.T) {
	i := Interval{Load: "p2p", Phase: PhaseMeasure, End: 3 * time.Second, Length: time.Second, Sent: 1000}
	want := "p2p measure   3.0s  sent 1,000/s"
	if got := ProgressLine(i); got != want {
		t.Error(got)
	}
	i.Acked, i.Received, i.Duplicated, i.Reordered, i.Broken = 999, 998, 1, 2, 3
	i.Corrected = quantiles(spread(time.Microsecond))
	want = "p2p measure   3.0s  sent 1,000/s  acked 999/s  received 998/s  p50 500 µs  p99 990 µs  max 1.00 ms  duplicated 1  out of order 2  broken connections 3"
	if got := ProgressLine(i); got != want {
		t.Error(got)
	}
	i = Interval{Load: "idle", Phase: PhaseConnect, End: time.Second, Length: time.Second / 2, Connections: 70, Corrected: quantiles(spread(time.Microsecond))}
	if got := ProgressLine(i); !strings.HasPrefix(got, "idle connect   1.0s  70 connections, 2,000/s  p50") {
		t.Error(got)
	}
}

func TestWriteJSON(t *testing.T) {
	r := sample(t, "load=p2p rate=10000 qos=1")
	r.Faults.Lost = 3
	r.Return, r.Usage = &Return{Sessions: 1, Received: 2, Took: time.Second}, &Usage{CPU: time.Second, Message: 1500}
	var b bytes.Buffer
	if err := WriteJSON(&b, []*Result{r, sample(t, "load=idle")}, []Ratio{{Load: "p2p", What: "rate", Rounds: []float64{1, 2}, Median: 1.5, Least: 1, Most: 2}}); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Results []map[string]any
		Ratios  []map[string]any
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	at := func(path string) any {
		var x any = got.Results[0]
		for _, k := range strings.Split(path, ".") {
			x = x.(map[string]any)[k]
		}
		return x
	}
	for path, want := range map[string]any{
		"name": "p2p", "broker": "tcp://a:1883", "round": 1.0, "plan.load": "p2p", "plan.rate": 10000.0, "plan.duration_seconds": 10.0,
		"measured_seconds": 10.0, "sent": 100000.0, "per_second": 9998.0, "lost": 3.0, "error": "3 messages of QoS 1 were lost",
		"latency_us.count": 1000.0, "generator_busy": 0.42, "return.per_second": 2.0, "broker_use.cpu_us_per_message": 1.5,
	} {
		if at(path) != want {
			t.Errorf("%s is %v, want %v", path, at(path), want)
		}
	}
	// Corrected and uncorrected are not mixed up.
	if c, u := at("latency_us.p50").(float64), at("latency_uncorrected_us.p50").(float64); c < 999 || c > 1001 || u < 499 || u > 501 {
		t.Error(c, u)
	}
	if got.Results[1]["lost"] != 0.0 || got.Results[1]["acknowledgement_us"] != nil || got.Ratios[0]["median"] != 1.5 {
		t.Errorf("%v", got)
	}
}

func TestWriteCSV(t *testing.T) {
	r := sample(t, "load=p2p")
	r.Intervals = []Interval{
		{Load: "p2p", Broker: "a,b", Round: 1, Phase: PhaseWarmUp, End: time.Second, Length: time.Second, CPU: -1, RSS: -1},
		{Load: "p2p", Broker: "a,b", Round: 1, Phase: PhaseMeasure, End: 2 * time.Second, Length: time.Second, Sent: 7, CPU: time.Second, RSS: 4096, Corrected: quantiles(spread(2000)), Raw: quantiles(spread(1000))},
	}
	var b bytes.Buffer
	if err := WriteCSV(&b, []*Result{r}); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(rows) != 3 {
		t.Fatal(rows, err)
	}
	want := []map[string]string{
		{"load": "p2p", "broker": "a,b", "round": "2", "phase": "warm-up", "sent": "0", "p50_us": "", "broker_rss_bytes": ""},
		{"phase": "measure", "end_seconds": "2.000000", "sent": "7", "p50_us": "1000.4", "p50_uncorrected_us": "500.2", "broker_cpu_seconds": "1.000000", "broker_rss_bytes": "4096"},
	}
	for n, m := range want {
		for i, name := range rows[0] {
			if v, ok := m[name]; ok && rows[n+1][i] != v {
				t.Errorf("row %d: %s is %q, want %q", n, name, rows[n+1][i], v)
			}
			delete(m, name)
		}
		if len(m) > 0 {
			t.Errorf("no columns %v", m)
		}
	}
	if WriteCSV(broken{}, []*Result{r}) == nil || WriteJSON(broken{}, nil, nil) == nil || (&Series{Latency: r.Latency}).WriteHgrm(broken{}) == nil {
		t.Error("a write that fails is no error")
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestMerge: the percentiles of two rounds are those of all their values.
func TestMerge(t *testing.T) {
	a, b := sample(t, "load=p2p"), sample(t, "load=p2p")
	b.Latency.Corrected = spread(200 * time.Microsecond)
	c := sample(t, "load=p2p")
	c.Broker = "other"
	s := Merge([]*Result{a, c, b})
	if len(s) != 2 || s[0].Latency.Count() != 2000 || s[1].Broker != "other" || s[1].Latency.Count() != 1000 {
		t.Fatalf("%+v", s)
	}
	if got := time.Duration(s[0].Latency.Corrected.ValueAtPercentile(50)); got > 2100*time.Microsecond {
		t.Error("the median of both is", got)
	}
	var out bytes.Buffer
	if err := s[0].WriteHgrm(&out); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if !strings.HasPrefix(text, "#[load \"p2p\" on \"tcp://a:1883\", latency in microseconds]\n") || !strings.Contains(text, "Percentile") || !strings.Contains(text, "#[Max     =   200") {
		t.Error(text)
	}
}

func TestCompare(t *testing.T) {
	var all []*Result
	for round, rates := range [][2]uint64{{20, 10}, {30, 10}, {10, 10}, {10, 0}} {
		for i, n := range rates {
			r := sample(t, "load=p2p")
			r.Broker, r.Round, r.Received = []string{"a", "b"}[i], round, n*1000
			if i == 0 {
				r.Latency.Corrected = spread(time.Microsecond)
			}
			all = append(all, r)
		}
	}
	got := map[string]Ratio{}
	ratios := Compare(all, "a", "b")
	for _, x := range ratios {
		got[x.What] = x
	}
	// The last round failed on b: nothing was measured.
	if x := got["rate"]; x.Median != 2 || x.Least != 1 || x.Most != 3 || len(x.Rounds) != 3 || x.A != 2000 || x.B != 1000 {
		t.Errorf("%+v", x)
	}
	if x := got["p50"]; x.Median < 0.49 || x.Median > 0.51 {
		t.Errorf("%+v", x)
	}
	if _, ok := got["CPU a message"]; ok {
		t.Error("a ratio of what was not measured")
	}
	want := "A a, B b; medians of the rounds\n" +
		"  load                                         A            B    A / B  least to most\n" +
		"  p2p            rate                      2,000        1,000     2.00  1.00 to 3.00 in 3\n"
	if text := Table(ratios, "a", "b"); !strings.HasPrefix(text, want) {
		t.Error(text)
	}
	if Compare(all, "a", "") != nil {
		t.Error("ratios to nothing")
	}
}
