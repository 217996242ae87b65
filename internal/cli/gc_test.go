package cli

import (
	"runtime"
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

func TestHeapWatch(t *testing.T) {
	const mb = 1 << 20
	type look struct {
		live, held, alloced uint64
		want                bool
	}
	for name, looks := range map[string][]look{
		"a small heap":         {{10 * mb, 40 * mb, 0, false}},
		"a quiet large one":    {{300 * mb, 500 * mb, 0, true}},
		"little slack":         {{300 * mb, 330 * mb, 0, false}},
		"in the surge":         {{300 * mb, 500 * mb, 400 * mb, false}, {300 * mb, 500 * mb, 430 * mb, false}, {300 * mb, 500 * mb, 431 * mb, true}},
		"live above the held":  {{300 * mb, 200 * mb, 0, false}},
		"what cannot be freed": {{300 * mb, 500 * mb, 0, true}, {300 * mb, 480 * mb, 0, false}, {300 * mb, 490 * mb, 0, false}, {300 * mb, 600 * mb, 0, true}},
	} {
		var h heapWatch
		for i, x := range looks {
			s := heapState{live: x.live, held: x.held, alloced: x.alloced}
			if got := h.surplus(s); got != x.want {
				t.Errorf("%s, look %d: %t, want %t", name, i, got, x.want)
			} else if got && i == 0 {
				h.left = looks[min(1, len(looks)-1)].held - s.live
			}
		}
	}
}

func TestHeapWatchReads(t *testing.T) {
	h := heapWatch{samples: heapSamples()}
	big := make([]byte, 64<<20)
	big[0] = 1
	runtime.GC()
	s := h.read()
	if s.live < 64<<20 || s.held < s.live || s.alloced < s.live {
		t.Errorf("with 64 MB in use: %+v", s)
	}
	runtime.KeepAlive(big)
}

func TestKeepTidyStops(t *testing.T) {
	keepTidy(nil)()
	keepTidy([]string{"GOGC=400"})()
}
