package load

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Histograms go to an hour, in nanoseconds, with 3 digits, or to 64 ns where that
// is more.
const (
	shortest = 100
	longest  = int64(time.Hour)
)

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(shortest, longest, 3) }

// Times are latencies of the same messages twice: Corrected from when each was
// due, Raw from when it was given to the client. In a closed loop a message is due
// when it is given.
type Times struct {
	Corrected, Raw *hdrhistogram.Histogram
}

func newTimes() Times { return Times{Corrected: newHistogram(), Raw: newHistogram()} }

// Merge adds the values of others.
func (t Times) Merge(o Times) {
	t.Corrected.Merge(o.Corrected)
	t.Raw.Merge(o.Raw)
}

// Count is how many there are.
func (t Times) Count() int64 { return t.Corrected.TotalCount() }

// Quantiles are the values at Percentiles of some latencies, in nanoseconds.
type Quantiles struct {
	Count int64
	At    [7]int64
}

func quantiles(h *hdrhistogram.Histogram) (q Quantiles) {
	if q.Count = h.TotalCount(); q.Count > 0 {
		for i, p := range Percentiles() {
			q.At[i] = h.ValueAtPercentile(p)
		}
	}
	return q
}

// recorder takes latencies from many goroutines, and gives them out interval by
// interval. It has a few histograms and not one for each client, for each is
// some 200 KB.
type recorder struct {
	parts []part
	open  bool // corrected and raw differ
	last  Times
	total Times
}

type part struct {
	mu  sync.Mutex
	now Times // since the last collect
	_   [32]byte
}

func newRecorder(parts int, open bool) *recorder {
	r := &recorder{parts: make([]part, parts), open: open, last: newTimes(), total: newTimes()}
	for i := range r.parts {
		r.parts[i].now.Corrected = newHistogram()
		if open {
			r.parts[i].now.Raw = newHistogram()
		}
	}
	return r
}

// add records, in the part of the caller's choice. Values beyond an hour count as an hour.
func (r *recorder) add(at int, corrected, raw int64) {
	p := &r.parts[at%len(r.parts)]
	corrected, raw = min(max(corrected, 1), longest), min(max(raw, 1), longest)
	p.mu.Lock()
	_ = p.now.Corrected.RecordValue(corrected) // it is within the range
	if r.open {
		_ = p.now.Raw.RecordValue(raw)
	}
	p.mu.Unlock()
}

// collect tells of what came since the last time, and adds it to the total.
func (r *recorder) collect() (corrected, raw Quantiles) {
	r.last.Corrected.Reset()
	r.last.Raw.Reset()
	for i := range r.parts {
		p := &r.parts[i]
		p.mu.Lock()
		if p.now.Corrected.TotalCount() > 0 {
			r.last.Corrected.Merge(p.now.Corrected)
			p.now.Corrected.Reset()
			if r.open {
				r.last.Raw.Merge(p.now.Raw)
				p.now.Raw.Reset()
			}
		}
		p.mu.Unlock()
	}
	corrected = quantiles(r.last.Corrected)
	raw = corrected
	r.total.Corrected.Merge(r.last.Corrected)
	if r.open {
		raw = quantiles(r.last.Raw)
		r.total.Raw.Merge(r.last.Raw)
	} else {
		r.total.Raw = r.total.Corrected
	}
	return corrected, raw
}
