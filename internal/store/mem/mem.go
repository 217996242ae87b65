// Package mem is the store in memory: everything is done at once, nothing
// survives the process. It keeps the queues of durable sessions, bounded by
// session.Limits, and the retained messages. Start with Engine.Publish.
package mem

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/myelin-mqtt/myelin/internal/route"
	"github.com/myelin-mqtt/myelin/internal/session"
	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
)

// Options configure an Engine.
type Options struct {
	// Limits bound the queue of each session.
	Limits session.Limits
	// MaxRetained and MaxRetainedBytes bound the retained messages, 0: no
	// limit. A retained message above them is delivered and not retained, and
	// the one that it should have replaced is gone: OnDrop is told.
	MaxRetained      int
	MaxRetainedBytes int64
	// NoRetain retains nothing.
	NoRetain bool
	// OnDrop is told of every message that a limit, its expiry or the end of its
	// session cost; clientID is "" for a retained one. It must not block, and
	// not call the engine. nil: nobody is told.
	OnDrop func(clientID string, m *packet.Publish, why Reason)
}

// Reason says why a message was dropped.
type Reason = store.Reason

// The reasons of OnDrop.
const (
	QueueFull    = store.QueueFull
	Expired      = store.Expired
	RetainedFull = store.RetainedFull
	SessionEnded = store.SessionEnded
)

// Engine is the store in memory.
type Engine struct {
	o        Options
	rmu      sync.Mutex // guards the writes of retained
	retained *route.Retained[*packet.Publish]
	lsn      atomic.Uint64

	mu       sync.Mutex // guards sessions
	sessions map[string]*queue

	queued, queuedBytes, retainedBytes atomic.Int64
	dropped, expired                   atomic.Uint64
	holders                            store.Holders[*queue]
}

// Open makes an empty store.
func Open(o Options) *Engine {
	if o.OnDrop == nil {
		o.OnDrop = func(string, *packet.Publish, Reason) {}
	}
	return &Engine{o: o, retained: new(route.Retained[*packet.Publish]), sessions: map[string]*queue{}}
}

// Publish implements store.Engine.
func (e *Engine) Publish(m *packet.Publish, to []store.Target, in store.Inbound, _ store.Completer, _ uint64) (done bool, err error) {
	if e.o.Limits.Policy == session.Refuse {
		for i := range to {
			if err := to[i].To.(*queue).refuses(m); err != nil {
				return true, err
			}
		}
	}
	if m.Retain() && !in.Again && !e.o.NoRetain {
		e.retain(m)
	}
	if len(to) == 0 {
		return true, nil
	}
	lsn := e.lsn.Add(1)
	for i := range to {
		to[i].To.(*queue).put(m, &to[i], lsn)
	}
	return true, nil
}

// retain sets or clears a retained message [MQTT-3.3.1-5], [MQTT-3.3.1-6],
// [MQTT-3.3.1-7].
func (e *Engine) retain(m *packet.Publish) {
	name := string(m.Topic())
	e.rmu.Lock()
	defer e.rmu.Unlock()
	if len(m.Payload()) == 0 {
		if old, had := e.retained.Delete(name); had {
			e.retainedBytes.Add(-size(old))
		}
		return
	}
	grows := size(m)
	old, had := e.retained.Get(name)
	if had {
		grows -= size(old)
	}
	if e.o.MaxRetained > 0 && !had && e.retained.Len() >= e.o.MaxRetained ||
		e.o.MaxRetainedBytes > 0 && grows > 0 && e.retainedBytes.Load()+grows > e.o.MaxRetainedBytes {
		if had { // what it should have replaced is no longer true
			e.retained.Delete(name)
			e.retainedBytes.Add(-size(old))
		}
		e.o.OnDrop("", m, RetainedFull)
		return
	}
	e.retained.Set(name, m)
	e.retainedBytes.Add(grows)
}

func size(m *packet.Publish) int64 { return int64(len(m.Topic()) + len(m.Payload())) }

// Retained implements store.Engine.
func (e *Engine) Retained(filter string) *route.Cursor[*packet.Publish] {
	if filter == "" {
		return e.retained.All()
	}
	return e.retained.Cursor(filter)
}

// Current implements store.Engine.
func (e *Engine) Current(name string) *packet.Publish {
	m, _ := e.retained.Get(name)
	return m
}

// Forget implements store.Engine.
func (e *Engine) Forget(m *packet.Publish) {
	name := string(m.Topic())
	e.rmu.Lock()
	now, had := e.retained.Get(name)
	if had = had && now == m; had {
		e.retained.Delete(name)
	}
	e.rmu.Unlock()
	if had {
		e.retainedBytes.Add(-size(m))
		e.expired.Add(1)
		e.o.OnDrop("", m, Expired)
	}
}

// Claim implements store.Engine.
func (e *Engine) Claim(r store.ClaimReq, s store.Sink) {
	var discarded *queue
	e.mu.Lock()
	q := e.sessions[r.ClientID]
	if r.Clean {
		delete(e.sessions, r.ClientID)
		discarded, q = q, nil
	}
	resumed := q != nil
	if q == nil && r.Expiry > 0 {
		q = &queue{e: e, id: r.ClientID}
		e.sessions[r.ClientID] = q
	}
	e.mu.Unlock()
	if discarded != nil {
		discarded.End(nil, 0)
	}
	switch {
	case q == nil:
		s.Claimed(nil, nil, nil)
	case resumed:
		n, _ := q.Queued()
		q.attach(s)
		s.Claimed(q, &store.State{Queued: n}, nil)
	default:
		q.attach(s)
		s.Claimed(q, nil, nil)
	}
}

// Stats implements store.Engine.
func (e *Engine) Stats() store.Stats {
	e.mu.Lock()
	n := len(e.sessions)
	e.mu.Unlock()
	return store.Stats{
		Sessions: n, Queued: int(e.queued.Load()), QueuedBytes: e.queuedBytes.Load(),
		Retained: e.retained.Len(), RetainedBytes: e.retainedBytes.Load(),
		Dropped: e.dropped.Load(), Expired: e.expired.Load(), Free: -1,
	}
}

// Recover implements store.Engine: nothing is stored.
func (e *Engine) Recover(func(*store.Stored) bool) error { return nil }

// Close implements store.Engine.
func (e *Engine) Close(context.Context) error { return nil }
