package broker

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
)

// expirer ends sessions whose time is over, and publishes wills whose delay
// is. It sleeps until the earliest is due. It knows of what is due within the
// horizon; what is due later it finds in time, by looking at all sessions, so
// that one which has a week costs it no memory.
type expirer struct {
	mu    sync.Mutex // guards what follows
	due   deadlines
	of    map[*session]*deadline
	most  int           // entries that of had
	swept int64         // up to here in Unix nanoseconds all that is due is in due
	wake  chan struct{} // has room for one
	// owner owns a session while the expirer works on it; it is no connection.
	owner conn
}

// horizon is how far ahead the expirer looks, and sweep how often.
const (
	horizon = int64(time.Hour)
	sweep   = horizon / 2

	keptDeadlines = 1024 // an empty heap has no more room than this
)

// deadline is when a session is due.
type deadline struct {
	at    int64 // Unix nanoseconds
	s     *session
	place int // in the heap
}

// deadlines is a heap.
type deadlines []*deadline

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].at < d[j].at }
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i, j
}

func (d *deadlines) Push(x any) {
	e := x.(*deadline)
	e.place = len(*d)
	*d = append(*d, e)
}

func (d *deadlines) Pop() any {
	old := *d
	n := len(old) - 1
	x := old[n]
	old[n] = nil
	if *d = old[:n]; n == 0 && cap(old) > keptDeadlines {
		*d = nil
	}
	return x
}

// clock is the time in Unix nanoseconds.
func (b *Broker) clock() int64 {
	if at := b.stopped.Load(); at != 0 {
		return at
	}
	return time.Now().UnixNano()
}

func (e *expirer) init() {
	e.wake = make(chan struct{}, 1)
	e.of = map[*session]*deadline{}
}

// dues are when a session that nobody owns has its will published, and when it
// ends: Unix nanoseconds, 0: never.
func (s *session) dues() (will, end int64) {
	if s.active != nil && s.will != nil {
		will = s.willAt
	}
	if s.gone != 0 && s.expiry != neverExpires {
		end = (int64(s.gone) + int64(s.expiry)) * 1e9
	}
	return will, end
}

// arm enters the session's earlier deadline, if it is not far away. The caller
// owns the session.
func (b *Broker) arm(s *session) {
	at, end := s.dues()
	if end != 0 && (at == 0 || end < at) {
		at = end
	}
	if at == 0 {
		return
	}
	e := &b.expirer
	e.mu.Lock()
	if at > max(e.swept, b.clock()+sweep) {
		e.mu.Unlock()
		return
	}
	if d := e.of[s]; d != nil {
		d.at = at
		heap.Fix(&e.due, d.place)
	} else {
		d = &deadline{at: at, s: s}
		e.of[s] = d
		e.most = max(e.most, len(e.of))
		heap.Push(&e.due, d)
	}
	first := e.due[0].s == s
	e.mu.Unlock()
	if first {
		select {
		case e.wake <- struct{}{}:
		default:
		}
	}
}

// cancel takes the session's deadline out. The caller owns the session.
func (e *expirer) cancel(s *session) {
	e.mu.Lock()
	if d := e.of[s]; d != nil {
		heap.Remove(&e.due, d.place)
		e.forget(s)
	}
	e.mu.Unlock()
}

// forget removes the entry of a session. The caller holds mu.
func (e *expirer) forget(s *session) {
	if delete(e.of, s); len(e.of) == 0 && e.most > keptDeadlines { // a map never gives memory back
		e.of, e.most = map[*session]*deadline{}, 0
	}
}

// next takes what is due, or tells how long to wait.
func (e *expirer) next(now int64) (s *session, wait time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.due) == 0 {
		return nil, time.Duration(sweep)
	}
	d := e.due[0]
	if d.at > now {
		return nil, time.Duration(min(d.at-now, sweep))
	}
	heap.Pop(&e.due)
	e.forget(d.s)
	return d.s, 0
}

// look enters the sessions that are due within the horizon, if it is time for
// that.
func (b *Broker) look() {
	e := &b.expirer
	now := b.clock()
	e.mu.Lock()
	if now < e.swept-horizon+sweep {
		e.mu.Unlock()
		return
	}
	e.swept = now + horizon
	e.mu.Unlock()
	b.registry.resting(b.arm)
}

func (e *expirer) run(ctx context.Context, b *Broker) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		b.look()
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
	t := b.borrow()
	now := t.nano
	will, end := s.dues()
	if will != 0 && now >= will {
		b.fireWill(t, s)
		s.settle()
	}
	ended := end != 0 && now >= end
	if ended { // [MQTT-4.1.0-2]
		b.stats.sessionsExpired.Add(1)
		b.end(t, s, nil)
	} else { // its client came and went meanwhile, or more is due later
		b.arm(s)
	}
	b.registry.release(s, ended, newSession)
	b.give(t)
}

// fireWill publishes the session's will, if it still has one.
// [MQTT-3.1.2-8], [MQTT-3.1.2-10]
func (b *Broker) fireWill(t *turn, s *session) {
	w := s.lastWill()
	if w == nil {
		return
	}
	s.setWill(nil)
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
