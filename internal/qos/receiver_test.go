package qos

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// colliding are identifiers that fall into the same place of a small set.
func colliding(n int) (ids []uint16) {
	r := Receiver{set: make([]uint32, 64)}
	for id := uint16(1); len(ids) < n; id++ {
		if r.hash(id) == 63 { // the last place: the others go on at the front
			ids = append(ids, id)
		}
	}
	return ids
}

// TestReceiverModel: whatever is done to it, a Receiver does what a map does.
func TestReceiverModel(t *testing.T) {
	bad := colliding(20)
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.SampledFrom([]int{0, 1, 3, 20}).Draw(t, "max")
		r := Receiver{Max: uint16(limit)}
		held := map[uint16]bool{} // the value: in flight on this connection
		qos1 := 0
		used := func() int {
			n := qos1
			for _, current := range held {
				if current {
					n++
				}
			}
			return n
		}
		full := func() bool { return limit != 0 && used() >= limit }
		id := func() uint16 {
			if rapid.Bool().Draw(t, "collides") {
				return rapid.SampledFrom(bad).Draw(t, "id")
			}
			return rapid.Uint16Range(1, 65535).Draw(t, "id")
		}
		for range rapid.IntRange(0, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 12).Draw(t, "do") {
			case 0, 1, 2, 3:
				id := id()
				current, wantDup := held[id]
				wantOK := current || !full()
				if dup, ok := r.Publish(id); dup != wantDup || ok != wantOK {
					t.Fatalf("Publish %d: %v %v, want %v %v", id, dup, ok, wantDup, wantOK)
				}
				if wantOK {
					held[id] = true
				}
			case 4, 5, 6, 7:
				id := id()
				_, want := held[id]
				if got := r.Release(id); got != want {
					t.Fatalf("Release %d: %v, want %v", id, got, want)
				}
				delete(held, id)
			case 8:
				want := !full()
				if got := r.Begin(); got != want {
					t.Fatalf("Begin: %v, want %v", got, want)
				}
				if want {
					qos1++
				}
			case 9:
				if qos1 > 0 {
					r.End()
					qos1--
				}
			case 10:
				r.Resume()
				qos1 = 0
				for id := range held {
					held[id] = false
				}
			case 11, 12:
				id := id()
				r.Restore(id)
				if _, ok := held[id]; !ok {
					held[id] = false
				}
			}
			if r.Len() != len(held) || r.used != used() {
				t.Fatalf("Len %d, in flight %d, want %d and %d", r.Len(), r.used, len(held), used())
			}
			n := 0
			r.IDs(func(id uint16) bool {
				if _, ok := held[id]; !ok || !r.Held(id) {
					t.Fatalf("IDs yields %d, held %v, which is not there", id, r.Held(id))
				}
				n++
				return true
			})
			if n != len(held) {
				t.Fatalf("IDs yields %d, want %d", n, len(held))
			}
		}
	})
}

func TestReceiverHoldsEveryIdentifier(t *testing.T) {
	var r Receiver
	for id := 1; id <= 65535; id++ {
		if dup, ok := r.Publish(uint16(id)); dup || !ok {
			t.Fatalf("Publish %d: %v %v", id, dup, ok)
		}
	}
	for id := 65535; id >= 1; id-- {
		if dup, ok := r.Publish(uint16(id)); !dup || !ok {
			t.Fatalf("second Publish %d: %v %v", id, dup, ok)
		}
	}
	if r.Len() != 65535 {
		t.Fatalf("Len %d", r.Len())
	}
	for id := 1; id <= 65535; id++ {
		if !r.Release(uint16(id)) || r.Held(uint16(id)) {
			t.Fatalf("Release %d did nothing", id)
		}
	}
	if r.Len() != 0 || r.set != nil {
		t.Errorf("empty, and Len is %d and there is memory for %d", r.Len(), len(r.set))
	}
}

// TestReceiverMaximum: what is in flight on this connection counts, and
// nothing else. [MQTT-3.3.4-7]
func TestReceiverMaximum(t *testing.T) {
	f := func(what string, got, want bool) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	publish := func(r *Receiver, id uint16) bool { _, ok := r.Publish(id); return ok }
	r := Receiver{Max: 2}
	f("first", publish(&r, 7), true)
	f("QoS 1", r.Begin(), true)
	f("third", publish(&r, 8), false)
	f("the refused one is held", r.Held(8), false)
	f("the first again, which is in flight", publish(&r, 7), true)
	r.End()
	f("after the PUBACK", publish(&r, 8), true)
	r.Resume()
	f("on a new connection", r.Begin(), true)
	f("one that is held", publish(&r, 7), true)
	f("too many, one that is held", publish(&r, 8), false)
	f("the PUBREL of one that was not sent again", r.Release(8), true)
	f("does not make room", r.Begin(), false)
	f("the PUBREL of one that was", r.Release(7), true)
	f("makes room", r.Begin(), true)
	r.End()
	r.End()
	r.End()
	f("one End too many is ignored", r.used == 0, true)
}

func TestReceiverIDsStops(t *testing.T) {
	var r Receiver
	for id := range uint16(10) {
		r.Restore(id + 1)
	}
	n := 0
	r.IDs(func(uint16) bool { n++; return n < 3 })
	if n != 3 {
		t.Errorf("yielded %d after it was told to stop at 3", n)
	}
	ids := slices.Sorted(r.IDs)
	if len(ids) != 10 || ids[0] != 1 || ids[9] != 10 {
		t.Errorf("IDs: %d", ids)
	}
}

func TestReceiverDoesNotAllocate(t *testing.T) {
	var r Receiver
	id := uint16(0)
	cycle := func() {
		if id++; id == 0 {
			id = 1
		}
		r.Publish(id)
		r.Release(id)
		r.Begin()
		r.End()
	}
	cycle()
	if n := testing.AllocsPerRun(100, cycle); n != 0 {
		t.Errorf("%v allocations a message, want none", n)
	}
}

func BenchmarkReceiver(b *testing.B) {
	r := Receiver{Max: 100}
	for id := range uint16(20) {
		r.Publish(id + 60000)
	}
	id := uint16(0)
	b.ReportAllocs()
	for b.Loop() {
		if id++; id >= 60000 {
			id = 1
		}
		r.Publish(id)
		r.Release(id)
	}
}
