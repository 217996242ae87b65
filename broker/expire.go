package broker

import (
	"container/heap"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
)

// expirer ends sessions whose time is over, and publishes wills whose delay
// is. It sleeps until the earliest is due.
type expirer struct {
	mu   sync.Mutex // guards what follows
	due  deadlines
	live int           // entries that are not void
	wake chan struct{} // has room for one
	// owner owns a session while the expirer works on it; it is no connection.
	owner conn
}

// deadline is one entry; it is void where the session's timer moved on.
type deadline struct {
	at    int64 // Unix nanoseconds
	s     *session
	timer uint32
}

type deadlines []deadline

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].at < d[j].at }
func (d deadlines) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *deadlines) Push(x any)        { *d = append(*d, x.(deadline)) }
func (d *deadlines) Pop() any {
	old := *d
	n := len(old) - 1
	x := old[n]
	old[n] = deadline{}
	*d = old[:n]
	return x
}

// clock is the time in Unix nanoseconds.
func (b *Broker) clock() int64 {
	if at := b.stopped.Load(); at != 0 {
		return at
	}
	return time.Now().UnixNano()
}

func (e *expirer) init() { e.wake = make(chan struct{}, 1) }

// arm enters the session's earlier deadline. The caller owns the session.
func (b *Broker) arm(s *session) {
	if s.due == nil {
		return
	}
	at := s.due.end
	if w := s.due.will; w != 0 && (at == 0 || w < at) {
		at = w
	}
	if at == 0 {
		return
	}
	e := &b.expirer
	e.mu.Lock()
	e.void(s)
	s.timer |= armed
	e.live++
	heap.Push(&e.due, deadline{at, s, s.timer})
	first := e.due[0].s == s
	e.mu.Unlock()
	if first {
		select {
		case e.wake <- struct{}{}:
		default:
		}
	}
}

// armed is the bit of session.timer that says that there is an entry.
const armed = 1

// void ends the session's entry. The caller holds mu.
func (e *expirer) void(s *session) {
	if s.timer&armed != 0 {
		e.live--
	}
	s.timer = (s.timer | armed) + 1
}

// cancel voids the session's entries. The caller owns the session.
func (e *expirer) cancel(s *session) {
	e.mu.Lock()
	e.void(s)
	if len(e.due) > 2*e.live+1024 { // else clients that come and go pile them up
		e.due = slices.DeleteFunc(e.due, func(d deadline) bool { return d.s.timer != d.timer })
		heap.Init(&e.due)
	}
	e.mu.Unlock()
}

// next takes what is due, or tells how long to wait.
func (e *expirer) next(now int64) (s *session, wait time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.due) > 0 {
		d := e.due[0]
		if d.s.timer == d.timer && d.at > now {
			return nil, time.Duration(d.at - now)
		}
		heap.Pop(&e.due)
		if d.s.timer == d.timer {
			e.void(d.s)
			return d.s, 0
		}
	}
	return nil, time.Hour
}

func (e *expirer) run(ctx context.Context, b *Broker) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		s, wait := e.next(b.clock())
		if s != nil {
			b.expire(s)
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-e.wake:
		case <-timer.C:
		}
	}
}

// expire does what is due for a session that nobody owns: its will, its end.
func (b *Broker) expire(s *session) {
	if !b.registry.try(s, &b.expirer.owner) {
		return // its client is back
	}
	if s.due == nil { // its client came and went meanwhile
		b.registry.release(s, false, newSession)
		return
	}
	t := b.borrow()
	now := t.nano
	d := *s.due
	if d.will != 0 && now >= d.will {
		b.fireWill(t, s)
	}
	ended := d.end != 0 && now >= d.end
	if ended { // [MQTT-4.1.0-2]
		b.stats.sessionsExpired.Add(1)
		b.end(t, s)
	} else {
		b.arm(s)
	}
	b.registry.release(s, ended, newSession)
	b.give(t)
}

// fireWill publishes the session's will, if it still has one.
// [MQTT-3.1.2-8], [MQTT-3.1.2-10]
func (b *Broker) fireWill(t *turn, s *session) {
	w := s.will
	if w == nil {
		return
	}
	s.will = nil
	if s.due != nil {
		s.due.will = 0
	}
	m := *w.Msg
	m.At = t.now // its expiry counts from now
	t.n.pubIn[m.QoS()]++
	t.n.pubBytesIn += uint64(len(m.Payload()))
	_, _, err := t.route(t.find(m.Topic()), &m, &m, nil, store.Inbound{Fired: s.store}, nobody{}, 0)
	if err != nil {
		b.dropped(b.blamed(nil, err), &m, DropRefused)
	}
}

// routeFor routes a message for a program.
func (t *turn) routeFor(p *packet.Publish, c store.Completer) (done, matched bool, err error) {
	return t.route(t.find(p.Topic()), p, p, nil, store.Inbound{}, c, 0)
}

// expireRetained looks at all retained messages once, a few at a time.
func (b *Broker) expireRetained(ctx context.Context) {
	c := b.store.Retained("")
	for more := true; more && ctx.Err() == nil; {
		now := uint32(b.clock() / 1e9)
		var gone []*packet.Publish
		more = c.Next(1024, func(_ string, m *packet.Publish) bool {
			if _, expired := m.Left(now); expired {
				gone = append(gone, m)
			}
			return true
		})
		for _, m := range gone {
			b.store.Forget(m)
		}
	}
}

// sweepRetained removes retained messages whose expiry interval has passed.
func (b *Broker) sweepRetained(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		b.expireRetained(ctx)
	}
}
