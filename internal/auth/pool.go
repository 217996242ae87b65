package auth

import (
	"sync"
)

// pool runs what costs much processor time or memory: a bounded number at a
// time, a bounded number waiting.
type pool struct {
	jobs chan func()
	wg   sync.WaitGroup

	mu     sync.RWMutex // held for reading by who sends, for writing at the end
	closed bool
}

// newPool starts workers goroutines. They end with close.
func newPool(workers, queue int) *pool {
	p := &pool{jobs: make(chan func(), queue)}
	for range workers {
		p.wg.Go(func() {
			for job := range p.jobs {
				job()
			}
		})
	}
	return p
}

// try queues a job; false: there is no room, or the pool is closed. It does not
// wait.
func (p *pool) try(job func()) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return false
	}
	select {
	case p.jobs <- job:
		return true
	default:
		return false
	}
}

// close takes no more jobs, and waits for those that were taken.
func (p *pool) close() {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.jobs)
	}
	p.mu.Unlock()
	p.wg.Wait()
}
