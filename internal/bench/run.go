//go:build linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Result is what one run of one load on one broker gave. What a load does not measure is zero.
type Result struct {
	Load    string  `json:"load"`
	Broker  string  `json:"broker"`
	Round   int     `json:"round"`
	Error   string  `json:"error,omitempty"` // why the run does not count
	Faults  faults  `json:"faults"`
	RSS     int64   `json:"rss_bytes"`
	Seconds float64 `json:"seconds"`

	// Of a load with messages.
	Deliveries uint64   `json:"deliveries,omitempty"`
	Rate       float64  `json:"deliveries_per_second,omitempty"`
	CPU        float64  `json:"broker_cpu_seconds,omitempty"`
	PerMillion float64  `json:"cpu_seconds_per_million,omitempty"`
	Latency    *Latency `json:"latency_microseconds,omitempty"` // of a paced one

	// Of a load that holds.
	Each    float64 `json:"bytes_each,omitempty"`      // resident, per connection or subscription
	PerSec  float64 `json:"made_per_second,omitempty"` // connections or subscriptions
	CPUEach float64 `json:"cpu_microseconds_each,omitempty"`

	// Of a trial, by the keys of its load's figures.
	Figures map[string]float64 `json:"figures,omitempty"`
}

// Latency is in microseconds, from the time at which a message was due to be sent.
type Latency struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99_9"`
	Max  float64 `json:"max"`
}

// Plan says what to run.
type Plan struct {
	Loads   []Load
	Brokers []Broker
	Rounds  int
	Timing  Timing
	Core    int          // of the brokers; negative: any
	Dir     string       // where the brokers' directories are made
	Report  func(Result) // called after each run
}

// Run runs every load on every broker, as often as there are rounds, with the brokers of a round one after the other.
// A load that is Heavy runs once, and like one that is Alone on the first of the brokers only.
// It returns what it has when ctx ends.
func Run(ctx context.Context, p Plan) []Result {
	var all []Result
	for _, l := range p.Loads {
		rounds, brokers := p.Rounds, p.Brokers
		if l.Heavy {
			rounds = 1
		}
		if l.Heavy || l.Alone {
			brokers = brokers[:1]
		}
		for round := range rounds {
			for _, b := range brokers {
				if ctx.Err() != nil {
					return all
				}
				r, err := once(ctx, l, b, p)
				if ctx.Err() != nil {
					return all
				}
				r.Load, r.Broker, r.Round = l.Name, b.Name, round
				if err != nil {
					r.Error = err.Error()
				}
				all = append(all, r)
				if p.Report != nil {
					p.Report(r)
				}
			}
		}
	}
	return all
}

// once runs one load on a new process of one broker.
func once(ctx context.Context, l Load, b Broker, plan Plan) (r Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, plan.Timing.Limit)
	defer cancel()
	p, err := launch(ctx, b, l.Durable, plan.Core, plan.Dir)
	if err != nil {
		return r, err
	}
	// The generator sees its connections end then, wherever it is.
	stopped := context.AfterFunc(ctx, func() { _ = p.run.Load().cmd.Process.Kill() })
	defer func() {
		if err == nil {
			err = p.alive()
		}
		if ctx.Err() != nil {
			err = fmt.Errorf("stopped after %v: %w", plan.Timing.Limit, err)
		}
		if err != nil {
			err = fmt.Errorf("%w%s", err, p.said())
		}
		stopped()
		p.stop()
	}()
	switch {
	case l.Trial != nil:
		return trying(ctx, l, p, plan.Timing)
	case l.Conns > 0:
		return holding(l, p, plan.Timing)
	}
	return flowing(l, p, plan.Timing)
}

// flowing measures a load with messages.
func flowing(l Load, p *process, t Timing) (r Result, err error) {
	f, err := newFlow(l)
	if err != nil {
		return r, err
	}
	defer f.close()
	if err := f.connect(p.addr, t.Stall); err != nil {
		return r, err
	}
	if err := f.begin(); err != nil {
		return r, err
	}
	if err := f.run(t.Warm, t.Stall); err != nil {
		return r, err
	}
	before, err := p.cpu()
	if err != nil {
		return r, err
	}
	from, delivered := f.clock(), f.delivered
	f.record = max(from, 1)
	if err := f.run(t.Measure, t.Stall); err != nil {
		return r, err
	}
	after, errCPU := p.cpu()
	r.Seconds = time.Duration(f.clock() - from).Seconds()
	r.Deliveries = f.delivered - delivered
	rss, errRSS := p.rss()
	if err := errors.Join(errCPU, errRSS); err != nil {
		return r, err
	}
	r.RSS = rss
	r.CPU = (after - before).Seconds()
	r.Rate = float64(r.Deliveries) / r.Seconds
	if r.Deliveries == 0 {
		return r, fmt.Errorf("nothing arrived in the %v that were measured", t.Measure)
	}
	r.PerMillion = r.CPU / float64(r.Deliveries) * 1e6
	if l.Rate > 0 {
		r.Latency = f.latency()
	}
	err = f.drain(t.Stall)
	r.Faults = f.faults
	return r, err
}

func (f *flow) latency() *Latency {
	us := func(q float64) float64 { return float64(f.hist.ValueAtQuantile(q)) / 1000 }
	return &Latency{P50: us(50), P90: us(90), P99: us(99), P999: us(99.9), Max: float64(f.hist.Max()) / 1000}
}

// holding measures a load of connections and subscriptions.
func holding(l Load, p *process, t Timing) (r Result, err error) {
	h, err := newHold(l)
	if err != nil {
		return r, err
	}
	defer h.close()
	// What the program needs once, for the code that it runs for the first time, is not counted.
	first := max(l.Conns/100, 1)
	if err := h.grow(p.addr, first, t.Stall); err != nil {
		return r, err
	}
	some, errRSS := p.rss()
	before, errCPU := p.cpu()
	if err := errors.Join(errRSS, errCPU); err != nil {
		return r, err
	}
	from := h.clock()
	if err := h.grow(p.addr, l.Conns, t.Stall); err != nil {
		return r, err
	}
	r.Seconds = time.Duration(h.clock() - from).Seconds()
	after, err := p.cpu()
	if err != nil {
		return r, err
	}
	// Whatever the broker still does with them may come to its end; the generator has nothing to do meanwhile.
	for end := h.clock() + int64(t.Settle); h.clock() < end; {
		if err := h.turn(h, t.Settle); err != nil {
			return r, err
		}
	}
	full, err := p.rss()
	if err != nil {
		return r, err
	}
	n := float64((l.Conns - first) * l.Filters)
	r.RSS = full
	r.Each = float64(full-some) / n
	r.PerSec = n / r.Seconds
	r.CPU = (after - before).Seconds()
	r.CPUEach = r.CPU / n * 1e6
	return r, nil
}
