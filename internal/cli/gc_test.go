package cli

import (
	"runtime/debug"
	"testing"
)

func TestTuneGC(t *testing.T) {
	now := func() int {
		p := debug.SetGCPercent(100)
		debug.SetGCPercent(p)
		return p
	}
	before := now()
	for _, x := range []struct {
		env         []string
		start, then int
	}{
		{nil, startPercent, gcPercent},
		{[]string{"GOGC="}, startPercent, gcPercent},
		{[]string{"GOGC=400"}, before, before},
	} {
		ready, undo := tuneGC(x.env)
		if got := now(); got != x.start {
			t.Errorf("%v: %d at the start, want %d", x.env, got, x.start)
		}
		if ready(); now() != x.then {
			t.Errorf("%v: %d after the start, want %d", x.env, now(), x.then)
		}
		if undo(); now() != before {
			t.Errorf("%v: %d in the end, want %d", x.env, now(), before)
		}
	}
}
