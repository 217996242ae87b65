package storetest

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"

	"github.com/myelin-mqtt/myelin/internal/route"
	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
)

// Engine is an engine whose every completion comes late. See Async.
type Engine struct {
	inner store.Engine

	mu     sync.Mutex // guards what follows
	wake   sync.Cond
	rng    *rand.Rand
	jobs   []func() // completions and answers that are still to come
	busy   int      // jobs under way
	paused bool
	closed bool
	over   chan struct{} // closed when run has returned
}

// Async wraps an engine. What a call does is done at once, but its completion,
// the answer to Claim and each Ready come later, from another goroutine, in
// random order. seed makes the choice; the goroutines of the caller make the
// rest. Close lets all of them come, and waits for the goroutine.
func Async(inner store.Engine, seed uint64) *Engine {
	e := &Engine{inner: inner, rng: rand.New(rand.NewPCG(seed, 1)), over: make(chan struct{})}
	e.wake.L = &e.mu
	go e.run()
	return e
}

// Pause keeps back what comes late until Continue or Close; Step lets one come.
func (e *Engine) Pause() { e.set(func() { e.paused = true }) }

// Continue ends a pause.
func (e *Engine) Continue() { e.set(func() { e.paused = false }) }

// Step lets one of the late completions come, from the caller's goroutine, and
// reports whether there was one.
func (e *Engine) Step() bool {
	e.mu.Lock()
	job := e.pick()
	if job != nil {
		e.busy++
	}
	e.mu.Unlock()
	if job == nil {
		return false
	}
	job()
	e.set(func() { e.busy-- })
	return true
}

// Idle reports whether nothing is still to come.
func (e *Engine) Idle() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.jobs) == 0 && e.busy == 0
}

func (e *Engine) set(f func()) {
	e.mu.Lock()
	f()
	e.mu.Unlock()
	e.wake.Broadcast()
}

func (e *Engine) run() {
	defer close(e.over)
	for {
		e.mu.Lock()
		for !e.closed && (e.paused || len(e.jobs) == 0) {
			e.wake.Wait()
		}
		closed := e.closed
		e.mu.Unlock()
		for range 3 { // so that there is a choice
			runtime.Gosched()
		}
		if !e.Step() && closed {
			return
		}
	}
}

// pick takes a job out; the caller holds mu.
func (e *Engine) pick() (job func()) {
	n := len(e.jobs)
	if n == 0 {
		return nil
	}
	i := e.rng.IntN(n)
	job, e.jobs[i] = e.jobs[i], e.jobs[n-1]
	e.jobs[n-1] = nil
	e.jobs = e.jobs[:n-1]
	return job
}

func (e *Engine) later(job func()) { e.set(func() { e.jobs = append(e.jobs, job) }) }

// late completes a call of the inner engine late, however that completes it.
type late struct {
	e *Engine
	c store.Completer
}

func (l late) Done(tok uint64, err error) { l.e.later(func() { l.c.Done(tok, err) }) }

// Publish implements store.Engine.
func (e *Engine) Publish(m *packet.Publish, to []store.Target, in store.Inbound, c store.Completer, tok uint64) (done bool, err error) {
	own := make([]store.Target, len(to))
	for i, t := range to {
		t.To = t.To.(*handle).inner
		own[i] = t
	}
	if h, ok := in.From.(*handle); ok {
		in.From = h.inner
	}
	if h, ok := in.Fired.(*handle); ok {
		in.Fired = h.inner
	}
	l := late{e, c}
	if done, err := e.inner.Publish(m, own, in, l, tok); done {
		l.Done(tok, err)
	}
	return false, nil
}

// Claim implements store.Engine.
func (e *Engine) Claim(r store.ClaimReq, s store.Sink) { e.inner.Claim(r, lateSink{e, s}) }

// lateSink hands the answers of the inner engine on, late.
type lateSink struct {
	e *Engine
	s store.Sink
}

func (l lateSink) Claimed(s store.Session, st *store.State, err error) {
	if s != nil {
		s = &handle{l.e, s}
	}
	l.e.later(func() { l.s.Claimed(s, st, err) })
}

func (l lateSink) Ready() { l.e.later(l.s.Ready) }

// Retained implements store.Engine.
func (e *Engine) Retained(filter string) *route.Cursor[*packet.Publish] {
	return e.inner.Retained(filter)
}

// Current implements store.Engine.
func (e *Engine) Current(name string) *packet.Publish { return e.inner.Current(name) }

// Forget implements store.Engine.
func (e *Engine) Forget(m *packet.Publish) { e.inner.Forget(m) }

// Recover implements store.Engine.
func (e *Engine) Recover(yield func(*store.Stored) bool) error {
	return e.inner.Recover(func(st *store.Stored) bool {
		st.Session = &handle{e, st.Session}
		return yield(st)
	})
}

// Stats implements store.Engine.
func (e *Engine) Stats() store.Stats { return e.inner.Stats() }

// Close implements store.Engine.
func (e *Engine) Close(ctx context.Context) error {
	e.set(func() { e.closed = true })
	select {
	case <-e.over:
	case <-ctx.Done():
	}
	return e.inner.Close(ctx)
}

// handle is a session whose completions come late.
type handle struct {
	e     *Engine
	inner store.Session
}

func (h *handle) call(c store.Completer, tok uint64, f func(c store.Completer) (done bool)) (done bool) {
	l := late{h.e, c}
	if f(l) {
		l.Done(tok, nil)
	}
	return false
}

// Subscribe implements store.Session.
func (h *handle) Subscribe(subs []store.Sub, c store.Completer, tok uint64) (done bool) {
	return h.call(c, tok, func(c store.Completer) bool { return h.inner.Subscribe(subs, c, tok) })
}

// Unsubscribe implements store.Session.
func (h *handle) Unsubscribe(filters []string, c store.Completer, tok uint64) (done bool) {
	return h.call(c, tok, func(c store.Completer) bool { return h.inner.Unsubscribe(filters, c, tok) })
}

// Settle implements store.Session.
func (h *handle) Settle(sub store.Sub) { h.inner.Settle(sub) }

// Sent2 implements store.Session.
func (h *handle) Sent2(lsn uint64, id uint16, c store.Completer, tok uint64) (done bool) {
	return h.call(c, tok, func(c store.Completer) bool { return h.inner.Sent2(lsn, id, c, tok) })
}

// Received2 implements store.Session.
func (h *handle) Received2(id uint16, c store.Completer, tok uint64) (done bool) {
	return h.call(c, tok, func(c store.Completer) bool { return h.inner.Received2(id, c, tok) })
}

// Release2 implements store.Session.
func (h *handle) Release2(id uint16, c store.Completer, tok uint64) (done bool) {
	return h.call(c, tok, func(c store.Completer) bool { return h.inner.Release2(id, c, tok) })
}

// Next implements store.Session.
func (h *handle) Next(buf []store.Delivery, now uint32) (n int, more bool) {
	return h.inner.Next(buf, now)
}

// Retained implements store.Session.
func (h *handle) Retained(name string, t store.Target) bool { return h.inner.Retained(name, t) }

// Ack implements store.Session.
func (h *handle) Ack(lsn ...uint64) { h.inner.Ack(lsn...) }

// Detach implements store.Session.
func (h *handle) Detach(expiry uint32, armed bool, c store.Completer, tok uint64) (done bool) {
	if c == nil {
		return h.inner.Detach(expiry, armed, nil, 0)
	}
	return h.call(c, tok, func(c store.Completer) bool { return h.inner.Detach(expiry, armed, c, tok) })
}

// Shared implements store.Session.
func (h *handle) Shared() []store.Delivery { return h.inner.Shared() }

// End implements store.Session.
func (h *handle) End(c store.Completer, tok uint64) (shared []store.Delivery, done bool) {
	if c == nil {
		return h.inner.End(nil, 0)
	}
	done = h.call(c, tok, func(c store.Completer) (done bool) {
		shared, done = h.inner.End(c, tok)
		return done
	})
	return shared, done
}

// Queued implements store.Session.
func (h *handle) Queued() (messages, bytes int) { return h.inner.Queued() }
