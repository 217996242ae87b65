package load

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/myelin-mqtt/myelin/client"
)

// worker is a goroutine that sends for many publishers.
type worker struct {
	f    *flow
	pubs []*publisher
	pace pace

	wake chan struct{} // ready is not empty
	mu   sync.Mutex
	// ready are publishers with room in their windows.
	ready []*publisher
}

// publisher sends from one connection. Its worker alone sends; what comes back
// is noted by the clients' goroutines.
type publisher struct {
	f     *flow
	w     *worker
	index int

	// The worker's.
	c       Conn
	m       client.Message
	payload []byte
	topics  []string
	k       uint64 // messages so far
	dead    bool
	unsent  uint64 // that the client did not take

	off int64 // when writeOff last gave the window back

	queued  atomic.Bool // in the worker's ready
	sent    atomic.Uint64
	done    atomic.Int64 // events
	acked   atomic.Uint64
	refused atomic.Uint64
	failed  atomic.Uint64
	at      atomic.Int64 // when an event last came
}

// run sends until the flow stops or its count is reached.
func (w *worker) run(ctx context.Context) {
	if w.f.plan.Open() {
		w.paced(ctx)
	} else {
		w.windowed(ctx)
	}
}

// windowed sends as windows have room.
func (w *worker) windowed(ctx context.Context) {
	for _, p := range w.pubs {
		p.offer()
	}
	var batch []*publisher
	for {
		select {
		case <-w.wake:
		case <-w.f.stop:
			return
		case <-ctx.Done():
			return
		}
		w.mu.Lock()
		batch, w.ready = w.ready, batch[:0]
		w.mu.Unlock()
		for _, p := range batch {
			p.queued.Store(false) // before its room is looked at
			if !p.fill(ctx) {
				return
			}
		}
		if w.allDead() {
			return
		}
	}
}

func (w *worker) allDead() bool {
	for _, p := range w.pubs {
		if !p.dead {
			return false
		}
	}
	return true
}

// limit is how many events may be outstanding of a publisher that still has room.
func (f *flow) limit() int64 { return int64(f.plan.Window-1) * f.events }

// offer has the worker look at the publisher.
func (p *publisher) offer() {
	if !p.queued.CompareAndSwap(false, true) {
		return
	}
	w := p.w
	w.mu.Lock()
	w.ready = append(w.ready, p)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// complete notes events, each a delivery or an acknowledgement.
func (p *publisher) complete(events int64) {
	done := p.done.Add(events)
	if p.f.plan.Open() || p.f.stopped.Load() || p.queued.Load() {
		return
	}
	if int64(p.sent.Load())*p.f.events-done <= p.f.limit() {
		p.offer()
	}
}

// fill sends what the window has room for; false: nothing more is to be sent.
func (p *publisher) fill(ctx context.Context) bool {
	out := max(int64(p.sent.Load())*p.f.events-p.done.Load(), 0)
	for room := int64(p.f.plan.Window) - (out+p.f.events-1)/p.f.events; room > 0 && !p.dead; room-- {
		now := p.f.clock()
		if p.f.stopped.Load() || !p.f.admit(now) {
			return false
		}
		p.send(ctx, now, now)
	}
	return true
}

// Waits of an open loop. Timers are good for the long ones; a worker that is late
// sends on for no longer than overtime when the time is over.
const (
	precise  = 2 * time.Millisecond
	overtime = 100 * time.Millisecond
)

// paced sends what is due, when it is due.
func (w *worker) paced(ctx context.Context) {
	f := w.f
	for i := uint64(0); ; i++ {
		due := w.pace.due(i)
		to := f.to.Load()
		if to > 0 && due >= to { // all is sent, and the time is not over
			select {
			case <-f.stop:
			case <-ctx.Done():
			}
			return
		}
		now := f.clock()
		for now < due {
			if !w.until(ctx, due) {
				return
			}
			now = f.clock()
		}
		if f.stopped.Load() && now > to+int64(overtime) || ctx.Err() != nil || !f.admit(due) {
			return
		}
		if p := w.pubs[i%uint64(len(w.pubs))]; !p.dead {
			p.send(ctx, due, now)
		} else if w.allDead() {
			return
		}
	}
}

// until waits for a while at most; false: ctx has ended.
func (w *worker) until(ctx context.Context, due int64) bool {
	d := time.Duration(due - w.f.clock())
	switch {
	case d > precise:
		return wait(ctx, d-precise)
	case d > 0:
		w.f.pause(d)
	}
	return true
}

// send gives one message to the client.
func (p *publisher) send(ctx context.Context, due, now int64) {
	f := p.f
	t := int(p.k % uint64(len(p.topics)))
	stream := uint32(p.index*len(p.topics) + t)
	stamp{run: f.nonce, stream: stream, seq: p.k / uint64(len(p.topics)), due: due, waited: now - due}.put(p.payload)
	p.m.Topic, p.m.Payload, p.m.QoS = p.topics[t], p.payload, f.plan.QoS
	if f.plan.Load == Request {
		p.m.ResponseTopic = client.ResponseTopicV3(p.topics[t])
		p.m.Correlation = binary.BigEndian.AppendUint64(p.m.Correlation[:0], p.k)
	}
	var done func(client.Receipt, error)
	var fl *flight
	if f.acks {
		fl = f.flights.Get().(*flight)
		fl.p, fl.due, fl.sent = p, due, now
		done = fl.fn
	}
	p.sent.Add(1) // before anything of it can come back
	if err := p.c.PublishAsync(ctx, &p.m, done); err != nil {
		p.sent.Add(^uint64(0))
		if ctx.Err() != nil {
			return
		}
		p.dead = true // it has no connection any more
		p.unsent++
		f.note(err)
		return
	}
	p.k++
	if f.lag != nil && f.measured(due) {
		f.lag.add(p.index, now-due, 0)
	}
}

// sentTo is how many messages were sent to topic t.
func (p *publisher) sentTo(t int) uint64 {
	n := uint64(len(p.topics))
	return (p.k + n - 1 - uint64(t)) / n
}

// flight is a message that waits for its acknowledgement.
type flight struct {
	p         *publisher
	due, sent int64
	fn        func(client.Receipt, error)
}

// acked takes the acknowledgement, on a goroutine of the client.
func (fl *flight) acked(_ client.Receipt, err error) {
	p, f := fl.p, fl.p.f
	due, sent := fl.due, fl.sent
	f.flights.Put(fl)
	if err == nil {
		at := f.clock()
		p.acked.Add(1)
		p.at.Store(at)
		if f.measured(due) {
			f.ack.add(p.index, at-due, at-sent)
		}
		p.complete(1)
		return
	}
	if f.closing.Load() {
		return
	}
	f.note(err)
	if _, ok := errors.AsType[*client.ReasonError](err); ok {
		p.refused.Add(1)
	} else {
		p.failed.Add(1)
	}
	p.complete(f.events) // it will not be delivered
}
