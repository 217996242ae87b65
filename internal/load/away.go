package load

import (
	"context"
	"sync"
	"time"
)

// comeBack has the sessions that were away connect again for what waits for them,
// and ends them when they have it.
func (f *flow) comeBack(ctx context.Context) error {
	began := f.clock()
	n := f.plan.Subscribers
	conns := make([]Conn, n)
	var mu sync.Mutex
	before := f.sums()
	before.at = began
	err := parallel(ctx, n, f.plan.Ramp, func(ctx context.Context, i int) error {
		r := f.subscriber(i)
		r.clean, r.handler = false, f.subs[i].handle
		c, err := f.Target.connect(ctx, r)
		if err != nil {
			return err
		}
		mu.Lock()
		conns[i] = c
		mu.Unlock()
		f.open.Add(1)
		return nil
	})
	wanted := before.acked
	for err == nil && f.sums().received < wanted && f.clock()-max(f.progressed(), began) < int64(f.plan.Grace) {
		if !wait(ctx, 2*time.Millisecond) {
			err = context.Cause(ctx)
			break
		}
		if f.clock()-before.at > int64(time.Second) {
			before = f.interval(PhaseReturn, before)
		}
	}
	f.interval(PhaseReturn, before)
	f.res.Return = &Return{Sessions: n, Received: f.sums().received, Took: time.Duration(max(f.progressed()-began, 0))}
	f.closeAll(ctx, conns)
	return err
}

// forget ends the sessions on the broker, as far as it can be reached.
func (f *flow) forget(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_ = parallel(ctx, f.plan.Subscribers, 0, func(ctx context.Context, i int) error {
		c, err := f.Target.connect(ctx, role{id: f.subscriber(i).id, clean: true, inline: true})
		if err != nil {
			return err
		}
		_ = c.Disconnect(ctx) // Close comes in any case
		return c.Close()
	})
}
