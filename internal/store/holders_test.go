package store

import (
	"math/bits"
	"testing"

	"pgregory.net/rapid"
)

// TestHolders: Most is of the highest class that there is.
func TestHolders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h Holders[int]
		weights := make([]uint64, 8)
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			q := rapid.IntRange(0, 7).Draw(t, "queue")
			w := rapid.Uint64Range(0, 1<<rapid.IntRange(0, 40).Draw(t, "bits")).Draw(t, "weight")
			h.Moved(q, weights[q], w)
			weights[q] = w
			most := 0
			for _, w := range weights {
				most = max(most, bits.Len64(w))
			}
			got, ok := h.Most()
			switch {
			case most < holdersFrom:
				if ok {
					t.Fatalf("%d is the greatest of %v", got, weights)
				}
			case !ok || bits.Len64(weights[got]) != most:
				t.Fatalf("%d, %v is the greatest of %v", got, ok, weights)
			}
		}
	})
}
