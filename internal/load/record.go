package load

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Histograms go from a microsecond to an hour, in nanoseconds, with 3 digits.
const (
	shortest = int64(time.Microsecond)
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

// recorder takes latencies from many goroutines, and gives them out interval by
// interval. It has a few histograms and not one for each client, for each is
// some 150 KB.
type recorder struct {
	parts []part
	open  bool // corrected and raw differ
	total Times
}

type part struct {
	mu  sync.Mutex
	now Times // since the last collect
	_   [32]byte
}

func newRecorder(parts int, open bool) *recorder {
	r := &recorder{parts: make([]part, parts), open: open, total: newTimes()}
	for i := range r.parts {
		r.parts[i].now = newTimes()
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

// collect gives what came since the last time, and adds it to the total.
func (r *recorder) collect() Times {
	t := newTimes()
	for i := range r.parts {
		p := &r.parts[i]
		p.mu.Lock()
		if p.now.Corrected.TotalCount() > 0 {
			t.Merge(p.now)
			p.now.Corrected.Reset()
			p.now.Raw.Reset()
		}
		p.mu.Unlock()
	}
	if !r.open {
		t.Raw = t.Corrected
	}
	r.total.Merge(t)
	return t
}
