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
// measured and saves a quarter of the resident memory. GOGC overrides it.
const gcPercent = 50

// tuneGC sets gcPercent unless the environment says otherwise. It returns what
// undoes it.
func tuneGC(env []string) (undo func()) {
	if slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "GOGC=") && v != "GOGC=" }) {
		return func() {}
	}
	old := debug.SetGCPercent(gcPercent)
	return func() { debug.SetGCPercent(old) }
}

// largeStart is a heap from which on it pays to tidy up after the start.
const largeStart = 64 << 20

// settleHeap gives back to the system what reading a large data directory took
// and left: without it the process stays at its peak until the next collection,
// which an idle broker does not come to for minutes.
func settleHeap() {
	var m runtime.MemStats
	if runtime.ReadMemStats(&m); m.HeapSys > largeStart {
		debug.FreeOSMemory()
	}
}
