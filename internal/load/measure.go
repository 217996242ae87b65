package load

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// measure sends for as long as the plan says, and waits for what is under way.
func (f *flow) measure(ctx context.Context) error {
	f.began = f.clock()
	begin := f.began
	from := begin + int64(f.plan.WarmUp)
	f.from.Store(from)
	if f.plan.Duration > 0 {
		f.to.Store(from + int64(f.plan.Duration))
	}
	// Without a warm-up it begins here; else watch reads it again.
	first, err := f.readFlow()
	if err != nil {
		return err
	}
	var last reading
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	var wg sync.WaitGroup
	for i, w := range f.workers {
		w.pace = pace{rate: f.plan.Rate, first: begin}.part(i, len(w.pubs), len(f.pubs))
		wg.Go(func() { w.run(ctx) })
	}
	go func() {
		wg.Wait()
		close(done)
	}()
	err = f.watch(ctx, done, &first, &last)
	f.halt()
	if err != nil {
		cancel()
	}
	late := time.AfterFunc(2*overtime, cancel)
	<-done
	late.Stop()
	if err == nil {
		err = f.drain(context.WithoutCancel(ctx))
	}
	if f.plan.Duration == 0 && err == nil { // the last message to come ends it
		last, err = f.readFlow()
		last.at = max(f.progressed(), first.at+1)
	}
	if err != nil && f.clock() > f.from.Load() { // what there is of it
		var gone error
		if last, gone = f.readFlow(); gone != nil {
			last.cpu, last.rss = first.cpu, first.rss
		}
	}
	if last.at > first.at {
		f.account(first, last)
	}
	if f.plan.Open() && last.at > first.at {
		p := pace{rate: f.plan.Rate, first: begin}
		f.res.Intended = p.count(last.at) - p.count(first.at)
		if f.plan.Count > 0 {
			f.res.Intended = min(f.res.Intended, f.plan.Count)
		}
	}
	return err
}

// watch tells the intervals until the time is over or the workers are done, and
// reads first and last where the measuring begins and ends.
func (f *flow) watch(ctx context.Context, done <-chan struct{}, first, last *reading) (err error) {
	phase, from, to := PhaseWarmUp, f.from.Load(), f.to.Load()
	if f.plan.WarmUp == 0 {
		phase = PhaseMeasure
	}
	before := f.sums()
	before.at = f.clock()
	next := before.at + int64(time.Second)
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		now := f.clock()
		over := to > 0 && now >= to
		begins := phase == PhaseWarmUp && now >= from
		if now >= next || over || begins && now > before.at {
			before = f.interval(phase, before)
			next = max(next, now-int64(time.Second)) + int64(time.Second)
			if err := f.writeOff(); err != nil {
				return err
			}
		}
		if begins {
			phase = PhaseMeasure
			if *first, err = f.readFlow(); err != nil {
				return err
			}
		}
		if over {
			*last, err = f.readFlow()
			return err
		}
		wake := next
		if phase == PhaseWarmUp {
			wake = min(wake, from)
		}
		if to > 0 {
			wake = min(wake, to)
		}
		t.Reset(time.Duration(max(wake-f.clock(), 0)))
		select {
		case <-t.C:
		case <-done:
			f.interval(phase, before)
			if err := f.early(ctx); err != nil {
				return err
			}
			*last, err = f.readFlow()
			return err
		case <-ctx.Done():
			f.interval(phase, before)
			return context.Cause(ctx)
		}
	}
}

// early says why the workers ended before their time, nil: their count is reached.
func (f *flow) early(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if f.plan.Count > 0 && f.taken.Load() >= f.plan.Count {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Errorf("no publisher is left: %w", f.first)
}

// sums counts over all clients.
func (f *flow) sums() (r reading) {
	for _, p := range f.pubs {
		r.sent += p.sent.Load()
		r.acked += p.acked.Load()
	}
	for _, s := range f.subs {
		r.received += s.got.Load()
	}
	return r
}

func (f *flow) readFlow() (reading, error) {
	r, err := f.read()
	s := f.sums()
	r.sent, r.acked, r.received = s.sent, s.acked, s.received
	return r, err
}

// interval tells what happened since before.
func (f *flow) interval(phase string, before reading) reading {
	s := f.sums()
	s.at = f.clock()
	i := Interval{
		Phase: phase, End: time.Duration(s.at), Length: time.Duration(s.at - before.at),
		Sent: s.sent - before.sent, Acked: s.acked - before.acked, Received: s.received - before.received,
	}
	i.Corrected, i.Raw = f.main.collect()
	if corrected, raw := f.ack.collect(); f.plan.receivers() == 0 {
		i.Corrected, i.Raw = corrected, raw
	}
	for _, r := range f.subs {
		i.Duplicated += r.duplicated.Load()
		i.Reordered += r.reordered.Load()
	}
	f.tell(i)
	return s
}

// halt has nothing new sent.
func (f *flow) halt() {
	if !f.stopped.Swap(true) {
		close(f.stop)
	}
}

// writeOff gives a closed loop the window back that messages hold which never
// came, where nothing of a publisher came for the grace. It is an error if nothing
// at all came for twice that.
func (f *flow) writeOff() error {
	if f.plan.Open() {
		return nil
	}
	now, grace := f.clock(), int64(f.grace())
	if now-max(f.progressed(), f.began) > 2*grace && f.plan.QoS > 0 {
		return fmt.Errorf("nothing came back for %v", time.Duration(2*grace))
	}
	for _, p := range f.pubs {
		out := int64(p.sent.Load())*f.events - p.done.Load()
		if out > 0 && now-max(p.at.Load(), p.off, f.began) > grace {
			p.off = now
			p.complete(out)
		}
	}
	return nil
}

// grace is how long what is under way may take without any of it coming. What is
// lost at QoS 0 never comes.
func (f *flow) grace() time.Duration {
	if f.plan.QoS == 0 {
		return min(f.plan.Grace, time.Second)
	}
	return f.plan.Grace
}

// drain waits for what is under way, as long as something of it comes.
func (f *flow) drain(ctx context.Context) error {
	before := f.sums()
	before.at = f.clock()
	begin := before
	for f.underway() > 0 && f.clock()-max(f.progressed(), begin.at) < int64(f.grace()) {
		if !wait(ctx, time.Millisecond) {
			break
		}
		if f.clock()-before.at > int64(time.Second) {
			before = f.interval(PhaseDrain, before)
		}
	}
	if s := f.sums(); s.received != before.received || s.acked != before.acked {
		f.interval(PhaseDrain, before)
	}
	return nil
}

// underway is how many deliveries and acknowledgements are still to come.
func (f *flow) underway() (n int64) {
	for _, p := range f.pubs {
		n += max(int64(p.sent.Load())*f.events-p.done.Load(), 0)
	}
	return n
}

// progressed is when something last came.
func (f *flow) progressed() (at int64) {
	for _, p := range f.pubs {
		at = max(at, p.at.Load())
	}
	return at
}
