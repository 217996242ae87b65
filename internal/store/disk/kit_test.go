package disk

import (
	"runtime"

	"github.com/myelin-mqtt/myelin/internal/store"
)

// next is Next that waits for the reader.
func next(s store.Session, buf []store.Delivery, now uint32) (n int, more bool) {
	q := s.(*queue)
	for {
		q.e.mu.Lock()
		if q.sink == nil && !q.ended {
			q.sink = new(claimer)
		}
		q.e.mu.Unlock()
		n, more = q.Next(buf, now)
		q.e.mu.Lock()
		left, reading := q.n(), q.w != nil && q.w.reading > 0
		q.e.mu.Unlock()
		if n > 0 || left == 0 {
			return n, left > 0
		}
		for reading {
			runtime.Gosched()
			q.e.mu.Lock()
			reading = q.w != nil && q.w.reading > 0
			q.e.mu.Unlock()
		}
	}
}
