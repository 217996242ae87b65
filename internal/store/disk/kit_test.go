package disk

import (
	"runtime"

	"github.com/myelin-mqtt/myelin/internal/store"
)

// next is Next that waits for the reader. left: something waits still.
func next(s store.Session, buf []store.Delivery, now uint32) (n int, left bool) {
	q := s.(*queue)
	for {
		q.e.mu.Lock()
		if q.sink() == nil && !q.ended {
			q.win().sink = new(claimer)
		}
		q.e.mu.Unlock()
		n, _ = q.Next(buf, now)
		q.e.mu.Lock()
		waiting, reading := q.n(), q.w != nil && q.w.reading > 0
		q.e.mu.Unlock()
		if n > 0 || waiting == 0 {
			return n, waiting > 0
		}
		for reading {
			runtime.Gosched()
			q.e.mu.Lock()
			reading = q.w != nil && q.w.reading > 0
			q.e.mu.Unlock()
		}
	}
}
