package load

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Percentiles are those that reports tell.
func Percentiles() [7]float64 { return [...]float64{50, 90, 95, 99, 99.9, 99.99, 100} }

// ProgressLine tells an interval in one line.
func ProgressLine(i Interval) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %5.1fs", i.Load, i.Phase, i.End.Seconds())
	per := func(n uint64) string {
		if i.Length <= 0 {
			return "0"
		}
		return number(float64(n) / i.Length.Seconds())
	}
	switch i.Phase {
	case PhaseConnect:
		fmt.Fprintf(&b, "  %d connections, %s/s", i.Connections, per(uint64(i.Corrected.Count)))
	default:
		fmt.Fprintf(&b, "  sent %s/s", per(i.Sent))
		if i.Acked > 0 {
			fmt.Fprintf(&b, "  acked %s/s", per(i.Acked))
		}
		if i.Received > 0 {
			fmt.Fprintf(&b, "  received %s/s", per(i.Received))
		}
	}
	if q := i.Corrected; q.Count > 0 {
		fmt.Fprintf(&b, "  p50 %s  p99 %s  max %s", lasted(q.At[0]), lasted(q.At[3]), lasted(q.At[6]))
	}
	if i.Duplicated > 0 {
		fmt.Fprintf(&b, "  duplicated %d", i.Duplicated)
	}
	if i.Reordered > 0 {
		fmt.Fprintf(&b, "  out of order %d", i.Reordered)
	}
	if i.Broken > 0 {
		fmt.Fprintf(&b, "  broken connections %d", i.Broken)
	}
	return b.String()
}

// Summary tells a result in some lines.
func Summary(r *Result) string {
	b := &strings.Builder{}
	fmt.Fprintf(b, "%s: %s on %s\n", r.Plan.Name, describe(&r.Plan), r.Broker)
	line := func(key, format string, args ...any) {
		fmt.Fprintf(b, "  %-13s %s\n", key, fmt.Sprintf(format, args...))
	}
	if r.Connections > 0 {
		line("connections", "%d in %s, %s/s; each p50 %s, p99 %s, max %s", r.Connections, short(r.Opening),
			number(float64(r.Connections)/max(r.Opening.Seconds(), 1e-9)),
			lasted(r.Opened.ValueAtPercentile(50)), lasted(r.Opened.ValueAtPercentile(99)), lasted(r.Opened.Max()))
	}
	if r.Measured > 0 {
		rates(r, line)
	}
	latencies(r, b)
	if r.Measured > 0 {
		promises(r, line)
	}
	if u := r.Usage; u != nil {
		usage(r, u, line)
	}
	generator(r, line)
	if err := r.Failed(); err != nil {
		line("failed", "%v", err)
	}
	return b.String()
}

// describe is the load in words.
func describe(p *Plan) string {
	var who string
	switch p.Load {
	case Connect, Subscribe, Idle:
		who = fmt.Sprintf("%s, %d clients", p.Load, p.Clients)
	case Publish:
		who = fmt.Sprintf("publish, %d publishers", p.Publishers)
	case Request:
		who = fmt.Sprintf("request, %d requesters, %d responders", p.Publishers, p.Subscribers)
	default:
		who = fmt.Sprintf("%s, %d -> %d", p.Load, p.Publishers, p.Subscribers)
	}
	if p.Messages() {
		who += fmt.Sprintf(", %d B, QoS %d", p.Size, p.QoS)
	}
	switch {
	case p.Open():
		who += fmt.Sprintf(", open loop at %s/s", number(p.Rate))
	case p.Messages():
		who += fmt.Sprintf(", window %d", p.Window)
	}
	return who
}

func rates(r *Result, line func(string, string, ...any)) {
	s := r.Measured.Seconds()
	switch {
	case r.Plan.Load == Idle:
		line("held", "for %s", short(r.Measured))
	case !r.Plan.Messages():
		line("done", "%d %s in %s: %s/s", r.Sent, r.Plan.unit(), short(r.Measured), number(float64(r.Sent)/s))
	default:
		line("sent", "%d in %s: %s/s", r.Sent, short(r.Measured), number(float64(r.Sent)/s))
		if r.Plan.QoS > 0 {
			line("acknowledged", "%d: %s/s", r.Acked, number(float64(r.Acked)/s))
		}
		if r.Plan.receivers() > 0 {
			line("received", "%d: %s/s, %s of payload", r.Received, number(float64(r.Received)/s), bytesOf(float64(r.Received)*float64(r.Plan.Size)/s)+"/s")
		}
	}
	if x := r.Return; x != nil {
		line("returned", "%d sessions got %d messages in %s: %s/s", x.Sessions, x.Received, short(x.Took), number(float64(x.Received)/max(x.Took.Seconds(), 1e-9)))
	}
}

// latencies writes a table, with a row for each histogram.
func latencies(r *Result, b *strings.Builder) {
	type row struct {
		name string
		h    *hdrhistogram.Histogram
	}
	var rows []row
	add := func(name string, t Times) {
		if t.Corrected == nil || t.Count() == 0 {
			return
		}
		if r.Plan.Open() {
			rows = append(rows, row{name + ", from when due", t.Corrected}, row{name + ", from when sent", t.Raw})
			return
		}
		rows = append(rows, row{name, t.Corrected})
	}
	if r.Plan.Load != Idle {
		add(latencyName(&r.Plan), r.Latency)
	}
	if r.Plan.receivers() > 0 && r.Plan.Messages() {
		add("acknowledgement", r.Ack)
	}
	if r.Lag != nil && r.Lag.TotalCount() > 0 {
		rows = append(rows, row{"generator's lag", r.Lag})
	}
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, "  %-33s", "latency")
	for _, p := range Percentiles() {
		fmt.Fprintf(b, "%9s", percentileName(p))
	}
	b.WriteString("\n")
	for _, x := range rows {
		fmt.Fprintf(b, "    %-31s", x.name)
		for _, p := range Percentiles() {
			fmt.Fprintf(b, "%9s", lasted(x.h.ValueAtPercentile(p)))
		}
		b.WriteString("\n")
	}
}

// latencyName is what Result.Latency is of.
func latencyName(p *Plan) string {
	switch {
	case p.Load == Connect:
		return "connect"
	case p.Load == Subscribe:
		return "subscribe"
	case p.Load == Request:
		return "response"
	case p.receivers() > 0:
		return "delivery"
	case p.QoS == 0:
		return "written"
	}
	return "acknowledgement"
}

func percentileName(p float64) string {
	if p == 100 {
		return "max"
	}
	return fmt.Sprintf("p%g", p)
}

func promises(r *Result, line func(string, string, ...any)) {
	f := r.Faults
	if r.Plan.Messages() && r.Plan.Load != Publish {
		if r.Whole {
			line("lost", "%d", f.Lost)
		} else {
			line("lost", "unknown: the run ended before its time")
		}
		line("duplicated", "%d", f.Duplicated)
		line("out of order", "%d", f.Reordered)
	}
	for _, x := range []struct {
		name string
		n    uint64
	}{{"unacked", f.Unacked}, {"refused", f.Refused}, {"gave up", f.Failed}, {"strays", f.Strays}, {"broken", f.Broken}} {
		if x.n > 0 {
			line(x.name, "%d", x.n)
		}
	}
	if f.First != nil && r.Failed() == nil {
		line("first fault", "%v", f.First)
	}
}

func usage(r *Result, u *Usage, line func(string, string, ...any)) {
	s := fmt.Sprintf("%.0f %% of a core", 100*u.CPU.Seconds()/max(r.Measured.Seconds(), 1e-9))
	if u.Message > 0 {
		one := "message"
		if !r.Plan.Messages() {
			one = strings.TrimSuffix(r.Plan.unit(), "s")
		}
		s += fmt.Sprintf(", %.2f µs for each %s", float64(u.Message)/1e3, one)
	}
	s += fmt.Sprintf("; resident %s, at most %s", bytesOf(float64(u.RSS)), bytesOf(float64(u.Peak)))
	if u.Each > 0 {
		s += fmt.Sprintf(", %s for each connection", bytesOf(float64(u.Each)))
	}
	line("broker", "%s", s)
}

func generator(r *Result, line func(string, string, ...any)) {
	if r.Busy >= 0 && r.Plan.Load != Idle {
		s := fmt.Sprintf("busy %.0f %%", 100*r.Busy)
		if r.Busy > 0.9 {
			s += ": it may be what was measured"
		}
		line("generator", "%s", s)
	}
	if why := r.Behind(); why != "" {
		line("too slow", "the generator did not keep the rate: %s", why)
	}
}

// number writes a count or a rate: no more than three digits tell something, but
// who compares wants to see more.
func number(v float64) string {
	switch {
	case v >= 999.95 || v == math.Trunc(v):
		s := fmt.Sprintf("%.0f", v)
		for i := len(s) - 3; i > 0; i -= 3 {
			s = s[:i] + "," + s[i:]
		}
		return s
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// lasted writes nanoseconds with three digits.
func lasted(ns int64) string {
	v := float64(ns)
	for _, u := range []struct {
		name string
		size float64
	}{{"s", 1e9}, {"ms", 1e6}, {"µs", 1e3}} {
		if v >= u.size*0.9995 {
			v /= u.size
			digits := 2
			switch {
			case v >= 99.95:
				digits = 0
			case v >= 9.995:
				digits = 1
			}
			return fmt.Sprintf("%.*f %s", digits, v, u.name)
		}
	}
	return fmt.Sprintf("%d ns", ns)
}

func short(d time.Duration) string { return lasted(int64(d)) }

func bytesOf(v float64) string {
	for _, u := range []struct {
		name string
		size float64
	}{{"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}} {
		if v >= u.size {
			return fmt.Sprintf("%.1f %s", v/u.size, u.name)
		}
	}
	return fmt.Sprintf("%.0f B", v)
}
