//go:build linux

package bench

import (
	"reflect"
	"testing"
)

func TestSequence(t *testing.T) {
	for _, c := range []struct {
		what  string
		come  []uint64
		sent  uint64
		want  faults
		first int // how many come for the first time
	}{
		{"nothing sent", nil, 0, faults{}, 0},
		{"in order", []uint64{0, 1, 2}, 3, faults{}, 3},
		{"the last is lost", []uint64{0, 1}, 3, faults{Lost: 1}, 2},
		{"everything is lost", nil, 3, faults{Lost: 3}, 0},
		{"one in the middle is lost", []uint64{0, 2, 3}, 4, faults{Lost: 1}, 3},
		{"twice in a row", []uint64{0, 1, 1, 2}, 3, faults{Duplicated: 1}, 3},
		{"twice, late", []uint64{0, 1, 2, 0}, 3, faults{Duplicated: 1}, 3},
		{"two change places", []uint64{0, 2, 1, 3}, 4, faults{Reordered: 1}, 4},
		{"backwards", []uint64{2, 1, 0}, 3, faults{Reordered: 2}, 3},
		{"overtaken, then twice", []uint64{1, 0, 0}, 2, faults{Reordered: 1, Duplicated: 1}, 2},
		{"a far jump", []uint64{0, 1_000_000}, 1_000_001, faults{Lost: 999_999}, 2},
	} {
		t.Run(c.what, func(t *testing.T) {
			var s sequence
			var f faults
			first := 0
			for _, n := range c.come {
				if s.see(n, &f) {
					first++
				}
			}
			s.end(c.sent, &f)
			if !reflect.DeepEqual(f, c.want) || first != c.first {
				t.Errorf("got %+v and %d for the first time, want %+v and %d", f, first, c.want, c.first)
			}
			if f.any() != (c.want != faults{}) {
				t.Errorf("any is %t", f.any())
			}
		})
	}
}
