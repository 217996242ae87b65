package load

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

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
	defer func() {
		f.closeAll(ctx, f.conns)
		if f.plan.Load == Offline {
			f.forget(ctx)
		}
	}()
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
	if err == nil {
		f.conns = conns[subs:]
	}
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
