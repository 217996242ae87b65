package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/myelin-mqtt/myelin/client"
)

// ops is a run of a load whose clients do one thing after the other, each waiting
// for its end: connecting, or subscribing.
type ops struct {
	*bench
	conns []Conn // Subscribe

	next   atomic.Uint64 // operation to take
	done   atomic.Uint64
	failed atomic.Uint64
	lag    *recorder
	pace   pace
}

// hopeless is how many operations may fail before one succeeds.
const hopeless = 10

func (o *ops) run(ctx context.Context) error {
	before, err := o.read()
	if err != nil {
		return err
	}
	if o.Target.Meter != nil {
		o.res.Usage = &Usage{Peak: before.rss}
	}
	do := o.reconnect
	if o.plan.Load == Subscribe {
		do = o.resubscribe
		o.conns, err = o.connectAll(ctx, o.plan.Clients, func(i int) role {
			return role{id: o.id(i), clean: true, inline: true, lost: o.bench.lost}
		}, func(context.Context, int, Conn) error { return nil })
		defer func() { o.closeAll(ctx, o.conns) }()
		if err != nil {
			return err
		}
	}
	err = o.measure(ctx, do)
	o.res.Faults.Failed = o.failed.Load()
	o.res.Lag = o.lag.all()
	return err
}

func (o *ops) id(i int) string { return fmt.Sprintf("bench-%08x-c%d", o.nonce, i) }

// measure has the clients work for as long as the plan says.
func (o *ops) measure(ctx context.Context, do func(context.Context, int, uint64) (time.Duration, error)) error {
	o.lag = o.lagging()
	begin := o.clock()
	from := begin + int64(o.plan.WarmUp)
	o.from.Store(from)
	if o.plan.Duration > 0 {
		o.to.Store(from + int64(o.plan.Duration))
	}
	o.pace = pace{rate: o.plan.Rate, first: begin}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for i := range o.plan.Clients {
		wg.Go(func() {
			if err := o.client(ctx, i, do); err != nil {
				cancel(err)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	var last uint64
	phase := PhaseWarmUp
	tell := func(end, length time.Duration) Interval {
		n := o.done.Load()
		i := Interval{Phase: phase, End: end, Length: length, Sent: n - last}
		i.Corrected, i.Raw = o.main.collect()
		last = n
		return i
	}
	stop := o.every(tell)
	until := func(at int64) {
		select {
		case <-done:
		case <-time.After(time.Duration(max(at-o.clock(), 0))):
		}
	}
	until(from)
	stop()
	phase = PhaseMeasure
	first, err := o.read()
	first.sent = o.done.Load()
	stop = o.every(tell)
	if to := o.to.Load(); to > 0 {
		until(to)
	} else {
		<-done
	}
	end, errEnd := o.read()
	end.sent = o.done.Load()
	<-done // what was begun comes to its end
	stop()
	switch {
	case err != nil:
		return err
	case errEnd != nil:
		return errEnd
	}
	o.account(first, end)
	if o.plan.Open() {
		o.res.Intended = o.pace.count(end.at) - o.pace.count(first.at)
		if o.plan.Count > 0 {
			o.res.Intended = min(o.res.Intended, o.plan.Count)
		}
	}
	return context.Cause(ctx)
}

// client does one operation after the other. An error ends the run.
func (o *ops) client(ctx context.Context, i int, do func(context.Context, int, uint64) (time.Duration, error)) error {
	for turn := uint64(0); ; turn++ {
		due := o.clock()
		if o.plan.Open() {
			due = o.pace.due(o.next.Add(1) - 1)
			if to := o.to.Load(); to > 0 && due >= to {
				return nil
			}
			if !wait(ctx, time.Duration(due-o.clock())) {
				return nil
			}
		}
		if to := o.to.Load(); ctx.Err() != nil || to > 0 && o.clock() >= to || !o.admit(due) {
			return nil
		}
		at := o.clock()
		took, err := do(ctx, i, turn)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			o.note(err)
			if o.failed.Add(1) >= hopeless && o.done.Load() == 0 {
				return err
			}
			if !wait(ctx, 10*time.Millisecond) { // no storm on a broker that refuses
				return nil
			}
			continue
		}
		o.done.Add(1)
		if o.measured(due) {
			o.main.add(i, at-due+int64(took), int64(took))
			if o.lag != nil {
				o.lag.add(i, at-due, 0)
			}
		}
	}
}

// reconnect connects, which is measured, and disconnects.
func (o *ops) reconnect(ctx context.Context, i int, _ uint64) (time.Duration, error) {
	at := time.Now()
	c, err := o.Target.connect(ctx, role{id: o.id(i), clean: true, inline: true})
	if err != nil {
		return 0, err
	}
	took := time.Since(at)
	o.open.Add(1)
	defer o.open.Add(-1)
	end, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_ = c.Disconnect(end) // Close comes in any case
	return took, c.Close()
}

// resubscribe subscribes, which is measured, and unsubscribes.
func (o *ops) resubscribe(ctx context.Context, i int, turn uint64) (time.Duration, error) {
	filter := fmt.Sprintf("%s/%d/%d", o.prefix, i, turn%uint64(max(o.plan.Topics, 1)))
	at := time.Now()
	if err := subscribe(ctx, o.conns[i], func(*client.Received) {}, o.plan.QoS, filter); err != nil {
		return 0, err
	}
	took := time.Since(at)
	if err := o.conns[i].Unsubscribe(ctx, filter); err != nil {
		return 0, fmt.Errorf("unsubscribe: %w", err)
	}
	return took, nil
}
