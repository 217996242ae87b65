package load

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestSequence: what a sequence says of numbers is what a set of them says.
func TestSequence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sent := uint64(rapid.IntRange(0, 60).Draw(t, "sent"))
		var s sequence
		seen := map[uint64]bool{}
		top := uint64(0)
		for _, n := range rapid.SliceOfN(rapid.Uint64Range(0, 59), 0, 120).Draw(t, "numbers") {
			if n >= sent {
				continue
			}
			want := inOrder
			switch {
			case seen[n]:
				want = again
			case n < top:
				want = late
			}
			v, skipped := s.see(n)
			if v != want || v == inOrder && skipped != n-top || v != inOrder && skipped != 0 {
				t.Fatalf("%d: %d, skipped %d, want %d", n, v, skipped, want)
			}
			seen[n] = true
			top = max(top, n+1)
		}
		if got, want := s.lost(sent), sent-uint64(len(seen)); got != want {
			t.Fatalf("lost %d, want %d; %+v", got, want, s)
		}
		if !slices.IsSortedFunc(s.gaps, func(a, b span) int { return int(int64(a.from) - int64(b.from)) }) {
			t.Fatalf("%+v", s.gaps)
		}
	})
}

// TestSequenceBound: holes without end take no memory without end, and all of
// them count as lost.
func TestSequenceBound(t *testing.T) {
	var s sequence
	n := uint64(4 * maxGaps)
	for i := uint64(0); i < n; i += 2 {
		s.see(i + 1)
	}
	if len(s.gaps) > maxGaps || s.lost(n) != n/2 {
		t.Errorf("%d gaps, %d lost of %d", len(s.gaps), s.lost(n), n)
	}
	s.see(math.MaxUint32)
	if got := s.lost(math.MaxUint32 + 1); got != math.MaxUint32+1-n/2-1 {
		t.Error(got)
	}
	// A wide hole that is filled every other number splits again and again.
	s = sequence{}
	s.see(n)
	for i := uint64(1); i < n; i += 2 {
		s.see(i)
	}
	if len(s.gaps) > maxGaps || s.lost(n+1) != n/2 {
		t.Errorf("%d gaps, %d lost", len(s.gaps), s.lost(n+1))
	}
}

// TestPace: due ascends, keeps the rate, and count is its inverse.
func TestPace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := pace{rate: rapid.Float64Range(1e-3, 1e9).Draw(t, "rate"), first: rapid.Int64Range(0, 1e12).Draw(t, "first")}
		i := rapid.Uint64Range(0, 1e9).Draw(t, "i")
		if float64(i)/p.rate > 1e8 {
			t.Skip("centuries")
		}
		if p.due(i+1) < p.due(i) {
			t.Fatal("descends")
		}
		if got, want := float64(p.due(i)-p.first), float64(i)*1e9/p.rate; math.Abs(got-want) > 1+want*1e-12 {
			t.Fatalf("due after %f, want %f", got, want)
		}
		now := p.due(i) + rapid.Int64Range(0, 1e9).Draw(t, "later")
		n := p.count(now)
		if p.due(n-1) > now || p.due(n) <= now {
			t.Fatalf("%d by %d: the last due at %d, the next at %d", n, now, p.due(n-1), p.due(n))
		}
		if p.first > 0 && p.count(p.first-1) != 0 {
			t.Fatal("due before the first")
		}
	})
}

// TestPaceParts: workers together send what one would have sent.
func TestPaceParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := pace{rate: rapid.Float64Range(1, 1e6).Draw(t, "rate"), first: 1000}
		pubs := rapid.IntRange(1, 50).Draw(t, "publishers")
		workers := rapid.IntRange(1, min(pubs, 8)).Draw(t, "workers")
		const seconds = 3
		to := p.first + seconds*1e9
		total := 0.0
		for w := range workers {
			owns := (pubs - w + workers - 1) / workers
			total += float64(p.part(w, owns, pubs).count(to))
		}
		if want := p.rate * seconds; math.Abs(total-want) > float64(2*workers) {
			t.Fatalf("%f of %f in %d s", total, want, seconds)
		}
	})
}

func TestStamp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := stamp{
			run: rapid.Uint32().Draw(t, "run"), stream: rapid.Uint32().Draw(t, "stream"),
			seq: rapid.Uint64Range(0, max48).Draw(t, "seq"), due: rapid.Int64().Draw(t, "due"), waited: rapid.Int64Range(0, max48).Draw(t, "waited"),
		}
		b := make([]byte, rapid.IntRange(HeaderSize, 2*HeaderSize).Draw(t, "size"))
		want.put(b)
		if got, ok := readStamp(b); !ok || got != want {
			t.Fatalf("%+v, want %+v", got, want)
		}
		if _, ok := readStamp(b[:HeaderSize-1]); ok {
			t.Fatal("read of too few bytes")
		}
	})
	b := make([]byte, HeaderSize)
	for waited, want := range map[int64]int64{-5: 0, math.MaxInt64: max48} {
		stamp{waited: waited}.put(b)
		if got, _ := readStamp(b); got.waited != want {
			t.Error(got.waited)
		}
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.5: "0.50", 7: "7", 12.34: "12.3", 999.99: "1,000", 1000: "1,000", 1234567.8: "1,234,568"} {
		if got := number(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
	for ns, want := range map[int64]string{0: "0 ns", 999: "999 ns", 1000: "1.00 µs", 9994: "9.99 µs", 9996: "10.0 µs", 99949: "99.9 µs", 99951: "100 µs", 999499: "999 µs", 999999: "1.00 ms", 61e9: "61.0 s"} {
		if got := lasted(ns); got != want {
			t.Errorf("%d: %s, want %s", ns, got, want)
		}
	}
	if got := fmt.Sprint(bytesOf(0), bytesOf(1234), bytesOf(5e6), bytesOf(7e9)); got != "0 B1.2 KB5.0 MB7.0 GB" {
		t.Error(got)
	}
}
