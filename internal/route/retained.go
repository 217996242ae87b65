package route

import "sync"

// Retained maps topic names to their retained messages. The zero value is empty and ready. All methods may be called by any goroutine.
type Retained[M any] struct {
	mu    sync.RWMutex
	names map[string]*item[M] // for exact names
	order sorted[M]           // for filters
	peak  int                 // the length that names had at most since it was made
}

// item is one name's message.
type item[M any] struct {
	name string
	m    M
}

// shrinkFrom is the peak below which a map that has become too large is left alone.
const shrinkFrom = 1024

// Set stores m for name and returns what it replaces. The index keeps name.
func (r *Retained[M]) Set(name string, m M) (old M, had bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if it := r.names[name]; it != nil {
		old, it.m = it.m, m
		return old, true
	}
	if r.names == nil {
		r.names = make(map[string]*item[M])
	}
	it := &item[M]{name: name, m: m}
	r.names[name] = it
	r.peak = max(r.peak, len(r.names))
	r.order.insert(it)
	return old, false
}

// Delete removes the message of name and returns it.
func (r *Retained[M]) Delete(name string) (old M, had bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	it := r.names[name]
	if it == nil {
		return old, false
	}
	delete(r.names, name)
	r.order.remove(name)
	if r.peak > shrinkFrom && len(r.names)*8 < r.peak { // a map never gives memory back
		small := make(map[string]*item[M], len(r.names))
		for k, v := range r.names {
			small[k] = v
		}
		r.names, r.peak = small, len(small)
	}
	return it.m, true
}

// Get returns the message of name.
func (r *Retained[M]) Get(name string) (m M, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if it := r.names[name]; it != nil {
		return it.m, true
	}
	return m, false
}

// Len returns the number of messages.
func (r *Retained[M]) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.names)
}
