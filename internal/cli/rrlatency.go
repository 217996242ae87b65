package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/myelin-mqtt/myelin/client"
)

// measure sends requests one after the other and tells how long the answers
// took: from before the request was given to the client until the read that
// brought the answer returned. The first request, for which the way is made, is
// not counted.
func (x *rr) measure(ctx context.Context, f *clientFlags, a *asker, m *client.Message) error {
	if err := a.ask(ctx, m, func(*client.Received) error { return nil }); err != nil {
		return err
	}
	count := x.count
	if count == 0 {
		count = 100
	}
	l := newLatencies()
	begin := time.Now()
	var end error
	for i := range count {
		if err := pause(ctx, time.Until(begin.Add(time.Duration(i)*x.interval))); err != nil {
			end = err
			break
		}
		start := time.Now()
		err := a.ask(ctx, m, func(r *client.Received) error {
			l.add(r.At.Sub(start))
			return nil
		})
		if errors.Is(err, errTimeUp) {
			l.lost++
			continue
		}
		if err != nil {
			end = err
			break
		}
	}
	if err := l.print(f, x.print.json); err != nil {
		return err
	}
	if end == nil && l.lost > 0 {
		end = &hinted{err: fmt.Errorf("%d of %d requests had no answer within %s", l.lost, count, x.wait), hint: "give it longer with -W", code: exitTimeout}
	}
	return end
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return errInterrupted()
	}
}

// latencies gathers round trips: their percentiles to three digits, of up to a
// minute, all else exactly.
type latencies struct {
	h             *hdrhistogram.Histogram
	min, max, sum time.Duration
	lost          int
}

func newLatencies() *latencies {
	return &latencies{h: hdrhistogram.New(1_000, int64(time.Minute), 3)}
}

func (l *latencies) add(d time.Duration) {
	d = max(d, 0)
	if l.h.TotalCount() == 0 {
		l.min, l.max = d, d
	}
	l.min, l.max, l.sum = min(l.min, d), max(l.max, d), l.sum+d
	_ = l.h.RecordValue(int64(min(d, time.Minute))) // it is in range
}

// figure is one line of the result.
type figure struct {
	name, key string
	took      time.Duration
}

func (f figure) ms() float64 { return float64(f.took) / float64(time.Millisecond) }

func (l *latencies) figures() []figure {
	n := l.h.TotalCount()
	if n == 0 {
		return nil
	}
	// The histogram tells the upper end of a range.
	q := func(p float64) time.Duration { return min(time.Duration(l.h.ValueAtQuantile(p)), l.max) }
	return []figure{
		{"min", "min_ms", l.min},
		{"mean", "mean_ms", l.sum / time.Duration(n)},
		{"p50", "p50_ms", q(50)},
		{"p90", "p90_ms", q(90)},
		{"p99", "p99_ms", q(99)},
		{"p99.9", "p99_9_ms", q(99.9)},
		{"max", "max_ms", l.max},
	}
}

func (l *latencies) print(f *clientFlags, asJSON bool) error {
	text, err := l.text(asJSON)
	if err != nil {
		return err
	}
	_, err = f.out.Write(text)
	return err
}

// text is a table for people, or a JSON object on a line. Times are left out
// where there are none.
func (l *latencies) text(asJSON bool) ([]byte, error) {
	n := l.h.TotalCount()
	if asJSON {
		object := map[string]any{"count": n, "lost": l.lost}
		for _, x := range l.figures() {
			object[x.key] = json.Number(fmt.Sprintf("%.3f", x.ms()))
		}
		b, err := json.Marshal(object)
		return append(b, '\n'), err
	}
	b := fmt.Appendf(nil, "%d round trips, %d without an answer\n", n, l.lost)
	for _, x := range l.figures() {
		b = fmt.Appendf(b, "%-5s %10.3f ms\n", x.name, x.ms())
	}
	return b, nil
}
