package cli

import (
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
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
	fixed := slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "GOGC=") && v != "GOGC=" })
	ready, undo = settleHeap, func() {}
	if !fixed {
		old := debug.SetGCPercent(startPercent)
		undo = func() { debug.SetGCPercent(old) }
		ready = func() {
			debug.SetGCPercent(gcPercent)
			settleHeap()
		}
	}
	return ready, undo
}

func settleHeap() {
	var m runtime.MemStats
	if runtime.ReadMemStats(&m); m.HeapSys > largeStart {
		debug.FreeOSMemory()
	}
}
