package store

import (
	"math/bits"
	"sync"
)

// Holders knows which queues hold most, about: by classes of which each is
// twice the one before. An engine whose queues are full together takes from
// those, so that one that is forgotten does not cost the others their messages.
// The zero value is ready.
type Holders[Q comparable] struct {
	mu      sync.Mutex
	classes [64]map[Q]struct{}
}

// Weight is what a queue of n messages of so many bytes holds.
func Weight(n, bytes int) uint64 { return uint64(bytes) + 64*uint64(n) }

// holdersFrom is the lowest class that is kept: queues of less than 1 KiB are
// not worth it.
const holdersFrom = 11

// Moved tells that the weight of q has changed.
func (h *Holders[Q]) Moved(q Q, before, after uint64) {
	from, to := bits.Len64(before), bits.Len64(after)
	if from == to || from < holdersFrom && to < holdersFrom {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if from >= holdersFrom {
		delete(h.classes[from-1], q)
	}
	if to >= holdersFrom {
		if h.classes[to-1] == nil {
			h.classes[to-1] = map[Q]struct{}{}
		}
		h.classes[to-1][q] = struct{}{}
	}
}

// Most is a queue of the highest class; false: none holds 1 KiB.
func (h *Holders[Q]) Most() (q Q, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := len(h.classes) - 1; i >= holdersFrom-1; i-- {
		for q := range h.classes[i] {
			return q, true
		}
	}
	return q, false
}
