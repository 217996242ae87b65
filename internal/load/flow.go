package load

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/myelin-mqtt/myelin/client"
)

// flow is a run of a load with messages.
type flow struct {
	*bench

	pubs    []*publisher
	subs    []*receiver
	conns   []Conn
	workers []*worker

	// Who gets what. Streams are publisher after publisher, topic after topic.
	seqs    []sequence
	last    []uint64 // Shared: of a stream at a member, one more than its last number
	stripes []sync.Mutex

	began   int64 // when the workers began
	events  int64 // that complete one message: its deliveries and its acknowledgement
	acks    bool  // acknowledgements are waited for; of QoS 0: that it was written
	ack     *recorder
	lag     *recorder
	flights sync.Pool
	stopped atomic.Bool
	stop    chan struct{} // closed with stopped
}

// parts is how many histograms share the recording.
func parts() int { return min(2*runtime.GOMAXPROCS(0), 8) }

func processors() float64 { return float64(runtime.GOMAXPROCS(0)) }

func (f *flow) run(ctx context.Context) error {
	f.prepare()
	before, err := f.read()
	if err != nil {
		return err
	}
	if f.Target.Meter != nil {
		f.res.Usage = &Usage{Peak: before.rss}
	}
	defer func() { f.closeAll(ctx, f.conns) }()
	if err := f.connect(ctx); err != nil {
		return err
	}
	if f.res.Usage != nil {
		open, err := f.read()
		if err != nil {
			return err
		}
		f.res.Usage.Each = (open.rss - before.rss) / int64(max(f.res.Connections, 1))
	}
	if f.plan.Load == Offline {
		defer f.forget(ctx)
	}
	err = f.measure(ctx)
	if err == nil && f.plan.Load == Offline {
		err = f.comeBack(ctx)
	}
	f.finish(ctx, err == nil)
	return err
}

// prepare makes what needs no connection.
func (f *flow) prepare() {
	p := &f.plan
	f.acks = p.QoS > 0 || p.Load == Publish
	f.events = int64(p.receivers())
	if f.acks {
		f.events++
	}
	f.seqs = make([]sequence, p.streams())
	switch p.Load {
	case FanOut:
		f.seqs = make([]sequence, p.sequences())
	case Shared:
		f.last = make([]uint64, p.sequences())
		f.stripes = make([]sync.Mutex, 64)
	case Publish:
		f.seqs = nil
	}
	f.ack = newRecorder(parts(), p.Open())
	f.lag = f.lagging()
	f.stop = make(chan struct{})
	f.flights.New = func() any {
		fl := new(flight)
		fl.fn = fl.acked
		return fl
	}
	receivers := p.Subscribers
	if p.Load == Request {
		receivers = p.Publishers
	}
	for i := range receivers {
		f.subs = append(f.subs, &receiver{f: f, index: i})
	}
	n := min(runtime.GOMAXPROCS(0), p.Publishers)
	for range n {
		f.workers = append(f.workers, &worker{f: f, wake: make(chan struct{}, 1)})
	}
	for i := range p.Publishers {
		w := f.workers[i%n]
		pub := &publisher{f: f, w: w, index: i, payload: make([]byte, p.Size), topics: f.topics(i)}
		w.pubs = append(w.pubs, pub)
		f.pubs = append(f.pubs, pub)
	}
}

// topics are where a publisher sends to, in turn.
func (f *flow) topics(pub int) []string {
	p := &f.plan
	all := make([]string, p.each())
	for t := range all {
		switch p.Load {
		case FanOut:
			all[t] = fmt.Sprintf("%s/all/%d", f.prefix, t)
		case Offline:
			all[t] = fmt.Sprintf("%s/to/%d", f.prefix, t)
		case FanIn, Request: // the receiver's (responder's) level comes first
			all[t] = fmt.Sprintf("%s/in/%d/%d/%d", f.prefix, pub%p.Subscribers, pub, t)
		default:
			all[t] = fmt.Sprintf("%s/%d/%d", f.prefix, pub, t)
		}
	}
	return all
}

// few is how many filters a subscriber names, rather than one with a wildcard.
const few = 16

// filters are what a subscriber, or responder, subscribes to.
func (f *flow) filters(sub int) []string {
	p := &f.plan
	switch p.Load {
	case P2P:
		if p.Topics <= few {
			return f.pubs[sub].topics
		}
		return []string{fmt.Sprintf("%s/%d/+", f.prefix, sub)}
	case FanOut:
		if p.Topics <= few {
			return f.pubs[0].topics
		}
		return []string{f.prefix + "/all/+"}
	case FanIn, Request:
		return []string{fmt.Sprintf("%s/in/%d/+/+", f.prefix, sub)}
	case Shared:
		return []string{fmt.Sprintf("$share/bench/%s/+/+", f.prefix)}
	}
	return []string{fmt.Sprintf("%s/to/%d", f.prefix, sub)} // Offline
}

// connect opens all connections, receivers first, and has them subscribe.
func (f *flow) connect(ctx context.Context) error {
	run, subs := ctx, f.plan.Subscribers
	conns, err := f.connectAll(ctx, subs+f.plan.Publishers, func(i int) role {
		if i < subs {
			return f.subscriber(i)
		}
		r := f.role("p", i-subs)
		r.inflight = f.plan.Window
		if f.plan.Open() {
			r.inflight = 0
		}
		return r
	}, func(ctx context.Context, i int, c Conn) error {
		if i < subs {
			h := f.responder(run, c)
			if f.plan.Load != Request {
				h = f.subs[i].handle
			}
			return subscribe(ctx, c, h, f.plan.QoS, f.filters(i)...)
		}
		f.pubs[i-subs].c = c
		if f.plan.Load != Request {
			return nil
		}
		var replies []string
		for _, t := range f.pubs[i-subs].topics {
			replies = append(replies, client.ResponseTopicV3(t))
		}
		if len(replies) > few {
			replies = []string{fmt.Sprintf("%s/in/%d/%d/+/response", f.prefix, (i-subs)%f.plan.Subscribers, i-subs)}
		}
		return subscribe(ctx, c, f.subs[i-subs].handle, f.plan.QoS, replies...)
	})
	f.conns = conns
	if err != nil || f.plan.Load != Offline {
		return err
	}
	// The sessions go away.
	f.closing.Store(true)
	err = parallel(ctx, subs, 0, func(ctx context.Context, i int) error {
		defer conns[i].Close() //nolint:errcheck // it is disconnected
		f.open.Add(-1)
		return conns[i].Disconnect(ctx)
	})
	f.closing.Store(false)
	f.conns = conns[subs:]
	return err
}

func (f *flow) role(letter string, i int) role {
	return role{id: fmt.Sprintf("bench-%08x-%s%d", f.nonce, letter, i), clean: true, inline: true, lost: f.lost}
}

// subscriber is the role of subscriber or responder i.
func (f *flow) subscriber(i int) role {
	r := f.role("s", i)
	r.durable = f.plan.Load == Offline
	r.inline = f.plan.Load != Request // a responder may have to wait for its own client
	return r
}

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

// finish closes all and counts what went wrong; whole tells that the run came to
// its end, so that what has not come is lost. Nothing of a client runs after it.
func (f *flow) finish(ctx context.Context, whole bool) {
	faults := &f.res.Faults
	var unpromised uint64
	for _, p := range f.pubs {
		refused, failed := p.refused.Load(), p.failed.Load()
		faults.Refused += refused
		faults.Failed += failed + p.unsent
		unpromised += refused + failed
		if f.plan.QoS > 0 && whole {
			faults.Unacked += p.sent.Load() - min(p.acked.Load()+refused+failed, p.sent.Load())
		}
	}
	ended, cancel := context.WithCancel(ctx)
	defer cancel()
	if faults.Unacked > 0 { // a DISCONNECT would wait for them
		cancel()
	}
	f.closeAll(ended, f.conns)
	f.conns = nil
	for _, s := range f.subs {
		faults.Duplicated += s.duplicated.Load()
		faults.Reordered += s.reordered.Load()
		faults.Strays += s.strays.Load()
	}
	f.res.Whole = whole
	if whole {
		each, streams := f.plan.each(), f.plan.streams()
		for i := range f.seqs {
			stream := i % streams
			faults.Lost += f.seqs[i].lost(f.pubs[stream/each].sentTo(stream % each))
		}
		// What was refused or given up was not promised.
		faults.Lost -= min(unpromised*uint64(max(f.plan.receivers(), 1)), faults.Lost)
	}
	f.ack.collect()
	f.res.Ack = f.ack.total
	f.res.Lag = f.lag.all()
}
