package load

import (
	"context"
	"sync/atomic"

	"github.com/myelin-mqtt/myelin/client"
)

// receiver is who gets messages on one connection. Its handler is called by one
// goroutine at a time.
type receiver struct {
	f     *flow
	index int

	got        atomic.Uint64
	duplicated atomic.Uint64
	reordered  atomic.Uint64
	strays     atomic.Uint64
}

// handle takes a message: its place in its stream, its latency, and the room that
// it leaves in its publisher's window.
func (r *receiver) handle(m *client.Received) {
	f := r.f
	s, ok := readStamp(m.Payload)
	if !ok || s.run != f.nonce || len(m.Payload) != f.plan.Size || m.QoS != f.plan.QoS || !r.mine(s.stream) {
		r.strays.Add(1)
		return
	}
	at := int64(m.At.Sub(f.epoch))
	v, skipped := r.place(s)
	switch v {
	case again:
		r.duplicated.Add(1)
		return
	case late:
		r.reordered.Add(1)
	}
	r.got.Add(1)
	p := f.pubs[int(s.stream)/f.plan.each()]
	p.at.Store(at)
	if f.plan.Load == Offline {
		return // it waited for its receiver
	}
	if f.measured(s.due) {
		f.main.add(r.index, at-s.due, at-s.due-s.waited)
	}
	events := int64(1)
	if f.plan.QoS == 0 && f.plan.Load != Shared { // what was jumped over is lost, and holds no window
		events += int64(skipped)
		if v == late {
			events = 0
		}
	}
	if events > 0 {
		p.complete(events)
	}
}

// mine tells whether the receiver is to get the stream.
func (r *receiver) mine(stream uint32) bool {
	p := &r.f.plan
	if int(stream) >= p.streams() {
		return false
	}
	pub, t := int(stream)/p.each(), int(stream)%p.each()
	switch p.Load {
	case P2P, Request:
		return pub == r.index
	case FanIn:
		return pub%p.Subscribers == r.index
	case Offline:
		return t == r.index
	}
	return true
}

// place looks what a message is in its stream.
func (r *receiver) place(s stamp) (verdict, uint64) {
	f := r.f
	switch f.plan.Load {
	case FanOut:
		return f.seqs[r.index*f.plan.streams()+int(s.stream)].see(s.seq)
	case Shared:
		// The members get parts of each stream, and only each part has an order.
		mu := &f.stripes[int(s.stream)%len(f.stripes)]
		mu.Lock()
		v, skipped := f.seqs[s.stream].see(s.seq)
		mu.Unlock()
		if v == again {
			return again, 0
		}
		last := &f.last[r.index*f.plan.streams()+int(s.stream)]
		if s.seq < *last {
			return late, skipped
		}
		*last = s.seq + 1
		return inOrder, skipped
	}
	return f.seqs[s.stream].see(s.seq)
}

// responder answers requests with their payload.
func (f *flow) responder(ctx context.Context, c Conn) client.Handler {
	return func(m *client.Received) {
		answer := client.Message{Topic: m.ResponseTopic, Payload: m.Payload, QoS: f.plan.QoS, Correlation: m.Correlation}
		if answer.Topic == "" { // below 5.0
			answer.Topic = client.ResponseTopicV3(m.Topic)
		}
		if err := c.PublishAsync(ctx, &answer, nil); err != nil && !f.closing.Load() {
			f.note(err)
		}
	}
}
