package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/myelin-mqtt/myelin/client"
)

// Runner runs loads on one broker.
type Runner struct {
	Target Target
	// Round goes into the results.
	Round int
	// Progress is told of each interval when it is over. It may be nil, and must
	// return soon.
	Progress func(Interval)

	pause func(time.Duration) // in place of the function of that name
}

// Run runs one load. The result is there also where it fails; ctx ends it early.
func (r *Runner) Run(ctx context.Context, p Plan) *Result {
	b := &bench{
		Runner: r, plan: p, epoch: time.Now(), nonce: rand.Uint32(),
		res: &Result{Plan: p, Broker: r.Target.Name, Round: r.Round, Opened: newHistogram(), Latency: newTimes(), Ack: newTimes(), Busy: -1},
	}
	b.prefix = fmt.Sprintf("%s/%08x", p.Topic, b.nonce)
	b.from.Store(-1)
	if r.pause == nil {
		r.pause = pause
	}
	b.main = newRecorder(parts(), p.Open())
	var err error
	switch {
	case p.Messages():
		err = (&flow{bench: b}).run(ctx)
	case p.Load == Idle:
		err = b.idle(ctx)
	default:
		err = (&ops{bench: b}).run(ctx)
	}
	b.res.Err = err
	if p.Messages() && p.receivers() == 0 { // the acknowledgement is all there is to measure
		b.res.Latency = b.res.Ack
	} else {
		b.main.collect()
		b.res.Latency = b.main.total
	}
	b.mu.Lock()
	b.res.Faults.First = b.first
	b.mu.Unlock()
	b.res.Faults.Broken = b.broken.Load()
	return b.res
}

// bench is what every run has.
type bench struct {
	*Runner
	plan   Plan
	res    *Result
	epoch  time.Time
	nonce  uint32
	prefix string    // of topics and of client identifiers
	main   *recorder // of Result.Latency

	// from and to bound what is measured, on the run's clock; to 0: no end, from
	// negative: not yet known.
	from, to atomic.Int64

	closing atomic.Bool // connections that end do not count any more
	broken  atomic.Uint64
	open    atomic.Int64 // connections
	taken   atomic.Uint64

	mu    sync.Mutex
	first error
}

// clock is the run's: nanoseconds since its epoch.
func (b *bench) clock() int64 { return int64(time.Since(b.epoch)) }

// measured tells whether what was due then counts.
func (b *bench) measured(due int64) bool {
	from, to := b.from.Load(), b.to.Load()
	return from >= 0 && due >= from && (to == 0 || due < to)
}

// admit tells whether one more may be sent, which is due then.
func (b *bench) admit(due int64) bool {
	if b.plan.Count == 0 || due < b.from.Load() {
		return true
	}
	return b.taken.Add(1) <= b.plan.Count
}

// note keeps the first error.
func (b *bench) note(err error) {
	b.mu.Lock()
	if b.first == nil {
		b.first = err
	}
	b.mu.Unlock()
}

// lost is told of connections that break.
func (b *bench) lost(err error) {
	if b.closing.Load() {
		return
	}
	b.broken.Add(1)
	b.note(err)
}

// together bounds the connections that are opened or closed at a time, below
// any broker's backlog.
const together = 64

// parallel calls do with 0 … n-1, not many at a time, each not before its part of
// the ramp, and returns the first error.
func parallel(ctx context.Context, n int, ramp time.Duration, do func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	for range min(together, n) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				due := begin.Add(time.Duration(float64(ramp) * float64(i) / float64(n)))
				if !wait(ctx, time.Until(due)) {
					return
				}
				if err := do(ctx, i); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// wait waits, and tells whether ctx has not ended.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// connectAll opens the connections 0 … n-1, over the plan's ramp; each sets up
// what it is for. It tells progress, and how long each took.
func (b *bench) connectAll(ctx context.Context, n int, role func(i int) role, ready func(ctx context.Context, i int, c Conn) error) ([]Conn, error) {
	conns := make([]Conn, n)
	took := newRecorder(parts(), false)
	began := time.Now()
	stop := b.every(func(end time.Duration, length time.Duration) Interval {
		i := Interval{Phase: PhaseConnect, End: end, Length: length}
		i.Corrected, i.Raw = took.collect()
		return i
	})
	err := parallel(ctx, n, b.plan.Ramp, func(ctx context.Context, i int) error {
		at := time.Now()
		c, err := b.Target.connect(ctx, role(i))
		if err != nil {
			return err
		}
		took.add(i, int64(time.Since(at)), 0)
		conns[i] = c
		b.open.Add(1)
		return ready(ctx, i, c)
	})
	stop()
	took.collect()
	b.res.Opened.Merge(took.total.Corrected)
	b.res.Opening += time.Since(began)
	b.res.Connections += int(took.total.Count())
	return conns, err
}

// closeAll ends connections: with a DISCONNECT, or at once where something is
// still under way or ctx has ended.
func (b *bench) closeAll(ctx context.Context, conns []Conn) {
	b.closing.Store(true)
	_ = parallel(context.WithoutCancel(ctx), len(conns), 0, func(all context.Context, i int) error {
		if conns[i] == nil {
			return nil
		}
		b.open.Add(-1)
		if ctx.Err() == nil {
			ctx, cancel := context.WithTimeout(all, 2*time.Second)
			defer cancel()
			_ = conns[i].Disconnect(ctx) // Close comes in any case
		}
		_ = conns[i].Close() // what it ends with is known
		return nil
	})
}

// every has an interval told each second until stop is called, which tells the
// last one.
func (b *bench) every(get func(end, length time.Duration) Interval) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(time.Second)
		defer t.Stop()
		last := b.clock()
		for over := false; !over; {
			select {
			case <-t.C:
			case <-quit:
				over = true
			}
			now := b.clock()
			b.tell(get(time.Duration(now), time.Duration(now-last)))
			last = now
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// tell keeps an interval and hands it to who wants to see it.
func (b *bench) tell(i Interval) {
	i.Load, i.Broker, i.Round = b.plan.Name, b.Target.Name, b.Round
	i.Broken, i.Connections = b.broken.Load(), int(b.open.Load())
	i.CPU, i.RSS = -1, -1
	if b.Target.Meter != nil {
		if cpu, rss, err := b.Target.Meter(); err == nil {
			i.CPU, i.RSS = cpu, rss
		}
	}
	if n := len(b.res.Intervals); n > 0 && i.CPU >= 0 && b.res.Usage != nil {
		b.res.Usage.Peak = max(b.res.Usage.Peak, i.RSS)
	}
	b.res.Intervals = append(b.res.Intervals, i)
	if b.Progress != nil {
		b.Progress(i)
	}
}

// reading is a look at what the broker and this program have used.
type reading struct {
	at       int64
	cpu, own time.Duration
	rss      int64
	sent     uint64
	acked    uint64
	received uint64
}

// read looks at the broker's use; a meter that fails ends the run.
func (b *bench) read() (r reading, err error) {
	r.at, r.own = b.clock(), ownCPU()
	if b.Target.Meter != nil {
		if r.cpu, r.rss, err = b.Target.Meter(); err != nil {
			return r, fmt.Errorf("read what the broker uses: %w", err)
		}
	}
	return r, nil
}

// account fills in what was measured between two readings.
func (b *bench) account(from, to reading) {
	r := b.res
	r.Measured = time.Duration(to.at - from.at)
	r.Sent, r.Acked, r.Received = to.sent-from.sent, to.acked-from.acked, to.received-from.received
	if to.own > 0 && r.Measured > 0 {
		r.Busy = min(float64(to.own-from.own)/float64(r.Measured)/processors(), 1)
	}
	if r.Usage != nil {
		r.Usage.CPU, r.Usage.RSS = to.cpu-from.cpu, to.rss
		r.Usage.Peak = max(r.Usage.Peak, to.rss)
		if n := r.counted(); n > 0 {
			r.Usage.Message = r.Usage.CPU / time.Duration(n)
		}
	}
}

// idle holds connections.
func (b *bench) idle(ctx context.Context) error {
	before, err := b.read()
	if err != nil {
		return err
	}
	if b.Target.Meter != nil {
		b.res.Usage = &Usage{Peak: before.rss}
	}
	conns, err := b.connectAll(ctx, b.plan.Clients, func(i int) role {
		return role{id: fmt.Sprintf("bench-%08x-i%d", b.nonce, i), clean: true, inline: true, lost: b.lost}
	}, func(ctx context.Context, i int, c Conn) error {
		for k := 0; k < b.plan.Topics; k += 100 { // so that no packet is too long
			var filters []string
			for t := k; t < min(k+100, b.plan.Topics); t++ {
				filters = append(filters, fmt.Sprintf("%s/idle/%d/%d", b.prefix, i, t))
			}
			if err := subscribe(ctx, c, func(*client.Received) {}, b.plan.QoS, filters...); err != nil {
				return err
			}
		}
		return nil
	})
	defer func() { b.closeAll(ctx, conns) }()
	if err != nil {
		return err
	}
	from, err := b.read()
	if err != nil {
		return err
	}
	stop := b.every(func(end, length time.Duration) Interval {
		return Interval{Phase: PhaseMeasure, End: end, Length: length}
	})
	ended := !wait(ctx, b.plan.Duration)
	stop()
	to, err := b.read()
	if err != nil {
		return err
	}
	b.main.total.Merge(Times{b.res.Opened, b.res.Opened})
	b.account(from, to)
	if b.res.Usage != nil {
		b.res.Usage.Each = (to.rss - before.rss) / int64(b.plan.Clients)
	}
	if ended {
		return context.Cause(ctx)
	}
	return nil
}

// lagging makes the recorder for the generator's lag.
func (b *bench) lagging() *recorder {
	if !b.plan.Open() {
		return nil
	}
	return newRecorder(parts(), false)
}

// all is everything that a recorder has, nil of none.
func (r *recorder) all() *hdrhistogram.Histogram {
	if r == nil {
		return nil
	}
	r.collect()
	return r.total.Corrected
}
