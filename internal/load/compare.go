package load

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Ratio is a quantity of the first broker to that of the second, in each round.
type Ratio struct {
	Load, What string
	Rounds     []float64
	// Median, Least and Most are over the rounds.
	Median, Least, Most float64
	// A and B are the medians of both brokers' values.
	A, B float64

	write func(float64) string
}

// Compare makes the ratios of what two brokers gave for the same loads in the same
// rounds. Rounds that failed are left out.
func Compare(all []*Result, a, b string) (out []Ratio) {
	type quantity struct {
		what  string
		of    func(*Result) (float64, bool)
		write func(float64) string
	}
	at := func(p float64) func(*Result) (float64, bool) {
		return func(r *Result) (float64, bool) {
			return float64(r.Latency.Corrected.ValueAtPercentile(p)), r.Latency.Count() > 0 && r.Plan.Load != Idle
		}
	}
	ns := func(v float64) string { return lasted(int64(v)) }
	quantities := []quantity{
		{"rate", func(r *Result) (float64, bool) { return r.Rate(), r.Rate() > 0 && r.Plan.Load != Idle }, number},
		{"connects a second", func(r *Result) (float64, bool) {
			return float64(r.Connections) / max(r.Opening.Seconds(), 1e-9), r.Connections > 0
		}, number},
		{"p50", at(50), ns}, {"p99", at(99), ns}, {"p99.9", at(99.9), ns},
		{"returned a second", func(r *Result) (float64, bool) {
			if r.Return == nil || r.Return.Took <= 0 {
				return 0, false
			}
			return float64(r.Return.Received) / r.Return.Took.Seconds(), true
		}, number},
		{"CPU a message", func(r *Result) (float64, bool) {
			if r.Usage == nil {
				return 0, false
			}
			return float64(r.Usage.Message), r.Usage.Message > 0
		}, ns},
		{"resident", func(r *Result) (float64, bool) {
			if r.Usage == nil {
				return 0, false
			}
			return float64(r.Usage.RSS), r.Usage.RSS > 0
		}, bytesOf},
	}
	var loads []string
	for _, r := range all {
		if !slices.Contains(loads, r.Plan.Name) {
			loads = append(loads, r.Plan.Name)
		}
	}
	for _, l := range loads {
		for _, q := range quantities {
			x := Ratio{Load: l, What: q.what, write: q.write}
			var as, bs []float64
			for _, ra := range all {
				rb := partner(all, ra, b)
				if ra.Plan.Name != l || ra.Broker != a || ra.Failed() != nil || rb == nil || rb.Failed() != nil {
					continue
				}
				va, okA := q.of(ra)
				vb, okB := q.of(rb)
				if okA && okB && vb > 0 {
					x.Rounds, as, bs = append(x.Rounds, va/vb), append(as, va), append(bs, vb)
				}
			}
			if len(x.Rounds) > 0 {
				x.Median, x.Least, x.Most = median(x.Rounds), slices.Min(x.Rounds), slices.Max(x.Rounds)
				x.A, x.B = median(as), median(bs)
				out = append(out, x)
			}
		}
	}
	return out
}

// partner is the result of the other broker for the same load in the same round.
func partner(all []*Result, r *Result, broker string) *Result {
	for _, o := range all {
		if o.Broker == broker && o.Plan.Name == r.Plan.Name && o.Round == r.Round {
			return o
		}
	}
	return nil
}

func median(vs []float64) float64 {
	s := slices.Sorted(slices.Values(vs))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// Table tells ratios, with their spread.
func Table(ratios []Ratio, a, b string) string {
	w := &strings.Builder{}
	fmt.Fprintf(w, "A %s, B %s; medians of the rounds\n", a, b)
	fmt.Fprintf(w, "  %-14s %-18s %12s %12s %8s  %s\n", "load", "", "A", "B", "A / B", "least to most")
	for _, x := range ratios {
		fmt.Fprintf(w, "  %-14s %-18s %12s %12s %8.2f  %.2f to %.2f in %d\n", x.Load, x.What, x.write(x.A), x.write(x.B), x.Median, x.Least, x.Most, len(x.Rounds))
	}
	return w.String()
}

// Between is how long to wait between two runs, so that what one leaves behind
// does not fall into the next.
const Between = 500 * time.Millisecond
