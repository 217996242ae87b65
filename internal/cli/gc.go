package cli

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"
	"time"
)

// gcPercent collects garbage when the heap has grown by half, where Go's own
// default is twice: a broker's memory is live sessions and subscriptions, its
// message path leaves little garbage, and so this costs no CPU that can be
// measured and saves a quarter of the resident memory. While a data directory is
// read nearly all that is allocated stays, and startPercent keeps the peak near
// to what is needed after that. GOGC overrides both.
const (
	gcPercent    = 50
	startPercent = 25
)

// largeStart is a heap from which on it pays to tidy up after the start.
const largeStart = 64 << 20

// tuneGC sets startPercent unless the environment says otherwise. ready sets
// gcPercent when the start is over, and gives back to the system what reading a
// large data directory took and left: without it the process stays at its peak
// until the next collection, which an idle broker does not come to for minutes.
// undo undoes it all.
func tuneGC(env []string) (ready, undo func()) {
	ready, undo = settleHeap, func() {}
	if !fixedGC(env) {
		old := debug.SetGCPercent(startPercent)
		undo = func() { debug.SetGCPercent(old) }
		ready = func() {
			debug.SetGCPercent(gcPercent)
			settleHeap()
		}
	}
	return ready, undo
}

// fixedGC reports whether the environment says how much the heap may grow.
func fixedGC(env []string) bool {
	return slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "GOGC=") && v != "GOGC=" })
}

func settleHeap() {
	var m runtime.MemStats
	if runtime.ReadMemStats(&m); m.HeapSys > largeStart {
		debug.FreeOSMemory()
	}
}

// tidyEvery is how often keepTidy looks, and tidySlack the least that it gives
// back: a collection of a small heap is not worth its CPU.
const (
	tidyEvery = 2 * time.Second
	tidySlack = 32 << 20
)

// keepTidy gives memory back to the system when a surge is over, until the
// function that it returns is called, which waits for it. The collector alone
// keeps what it once had for as long as nothing is allocated, so that a broker
// to which a million clients have just come would stay at twice its need. Who
// sets GOGC chooses that slack, and keeps it.
func keepTidy(env []string) (stop func()) {
	if fixedGC(env) {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(tidyEvery)
		defer t.Stop()
		h := heapWatch{samples: heapSamples()}
		for {
			select {
			case <-quit:
				return
			case <-t.C:
				if h.surplus(h.read()) {
					debug.FreeOSMemory()
					debug.FreeOSMemory() // what pools held outlives one collection
					h.left = h.read().slack()
				}
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// heapState is what the runtime says of the heap, in bytes.
type heapState struct {
	live    uint64 // what the last collection found in use
	held    uint64 // what the heap has of the system, and has not given back
	alloced uint64 // all that was ever allocated
}

// slack is what the heap holds beyond what is in use.
func (s heapState) slack() uint64 { return s.held - min(s.live, s.held) }

// heapWatch decides when memory is given back.
type heapWatch struct {
	samples []metrics.Sample
	alloced uint64 // as it was at the last look
	left    uint64 // the slack that the last giving back could not get rid of
}

// surplus reports whether it is worth it to collect now: the slack is a
// sixteenth of what is in use, or grew by that since the last time, and hardly anything
// is being allocated, so that it will not be used again at once.
func (h *heapWatch) surplus(s heapState) bool {
	grown := s.alloced - min(h.alloced, s.alloced)
	h.alloced = s.alloced
	h.left = min(h.left, s.slack())
	return s.slack()-h.left > max(tidySlack, s.live/16) && grown < s.slack()/16
}

func heapSamples() []metrics.Sample {
	return []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
	}
}

func (h *heapWatch) read() heapState {
	metrics.Read(h.samples)
	v := func(i int) uint64 { return h.samples[i].Value.Uint64() }
	return heapState{live: v(0), alloced: v(1), held: v(2) + v(3) + v(4)}
}
