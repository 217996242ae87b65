//go:build linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Figure is one of the quantities that a trial gives.
type Figure struct {
	Key   string // in Result.Figures
	Title string // with its unit
	Rule  Rule
	Goal  float64
}

// Rule tells what a figure's goal is.
type Rule uint8

const (
	// NoGoal: the figure is for information.
	NoGoal Rule = iota
	// AtMost and AtLeast bound the figure.
	AtMost
	AtLeast
)

// trial is a run of a load with sessions that are away, or with retained messages.
type trial struct {
	ctx  context.Context
	load Load
	p    *process
	t    Timing
	got  map[string]float64
}

// trying runs a load that is a trial.
func trying(ctx context.Context, l Load, p *process, t Timing) (r Result, err error) {
	x := &trial{ctx: ctx, load: l, p: p, t: t, got: map[string]float64{}}
	from := time.Now()
	err = l.Trial(x)
	r.Seconds = time.Since(from).Seconds()
	r.Figures = x.got
	if rss, errRSS := p.rss(); errRSS == nil {
		r.RSS = rss
	} else if err == nil {
		err = errRSS
	}
	return r, err
}

// begin makes the load's sessions, and connects its publishers.
func (x *trial) begin() (*offline, error) {
	o, err := newOffline(x.load)
	if err != nil {
		return nil, err
	}
	from := o.clock()
	if err = o.settle(x.p.addr, x.t.Stall); err == nil {
		x.got["made"] = float64(x.load.Subs) / time.Duration(o.clock()-from).Seconds()
		err = o.publishers(x.p.addr, x.t.Stall)
	}
	if err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

// restart kills the broker, whatever it is doing, and has it start again.
func (x *trial) restart(o *offline) error {
	x.p.kill()
	o.abandon()
	took, err := x.p.again(x.ctx, x.t.Limit)
	if err != nil {
		return err
	}
	x.got["restart"] = took.Seconds()
	return nil
}

// resident waits until the broker has come to rest, and keeps what it has resident then.
func (x *trial) resident(o *offline, key string) error {
	for end := o.clock() + int64(x.t.Settle); o.clock() < end; {
		if err := o.turn(o, x.t.Settle); err != nil {
			return err
		}
	}
	n, err := x.p.rss()
	x.got[key] = float64(n) / 1e6
	return err
}

// returned has the first n sessions come back for their messages, and counts.
func (x *trial) returned(o *offline, n int) error {
	from := o.clock()
	if err := o.drain(x.p.addr, n, x.t.Stall); err != nil {
		return err
	}
	x.got["drained"] = float64(o.arrived) / time.Duration(o.clock()-from).Seconds()
	if err := o.linger(200 * time.Millisecond); err != nil {
		return err
	}
	x.got["lost"] = float64(o.faults.Lost)
	return nil
}

// tryStore publishes for a time to sessions that are away, kills the broker in the middle of it, and has all sessions
// come back.
func tryStore(x *trial) error {
	o, err := x.begin()
	if err != nil {
		return err
	}
	defer o.close()
	o.send()
	if err := o.run(x.t.Warm, x.t.Stall); err != nil {
		return err
	}
	before, err := x.p.cpu()
	if err != nil {
		return err
	}
	from, acked := o.clock(), o.acked
	if err := o.run(x.t.Measure, x.t.Stall); err != nil {
		return err
	}
	after, err := x.p.cpu()
	if err != nil {
		return err
	}
	n := float64(o.acked - acked)
	x.got["rate"] = n / time.Duration(o.clock()-from).Seconds()
	x.got["cpu"] = (after - before).Seconds() / n * 1e6
	if err := x.restart(o); err != nil {
		return err
	}
	return x.returned(o, x.load.Subs)
}

// tryQueued publishes until enough waits, kills the broker, and has a few sessions come back.
func tryQueued(x *trial) error {
	o, err := x.begin()
	if err != nil {
		return err
	}
	defer o.close()
	from := o.clock()
	o.send()
	if err := o.until(x.t.Stall, func() bool { return o.acked == uint64(x.load.Total) }); err != nil {
		return err
	}
	x.got["rate"] = float64(o.acked) / time.Duration(o.clock()-from).Seconds()
	if err := x.resident(o, "rss"); err != nil {
		return err
	}
	if err := x.restart(o); err != nil {
		return err
	}
	if err := x.resident(o, "rss-after"); err != nil {
		return err
	}
	if err := x.returned(o, 10); err != nil {
		return err
	}
	return x.atPeak()
}

func (x *trial) atPeak() error {
	n, err := x.p.peak()
	x.got["peak"] = float64(n) / 1e6
	return err
}

// tryMany makes sessions, kills the broker, and sees whether a few of them are still there.
func tryMany(x *trial) error {
	o, err := x.begin()
	if err != nil {
		return err
	}
	defer o.close()
	if err := x.resident(o, "rss"); err != nil {
		return err
	}
	if err := x.restart(o); err != nil {
		return err
	}
	if err := x.resident(o, "rss-after"); err != nil {
		return err
	}
	if err := x.atPeak(); err != nil {
		return err
	}
	const some = 100
	if err := o.drain(x.p.addr, some, x.t.Stall); err != nil {
		return err
	}
	if o.present != some {
		return fmt.Errorf("of %d sessions that came back %d were there", some, o.present)
	}
	return nil
}

// tryAlone has one message under way at a time, and syncs a file of its own between two of them: the same bytes,
// appended, on the same disk.
func tryAlone(x *trial) error {
	o, err := x.begin()
	if err != nil {
		return err
	}
	defer o.close()
	f, err := os.Create(filepath.Join(x.p.setup.Dir, "bare"))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	var acks, syncs []float64
	sent := int64(0)
	o.acknowledged = func() { acks = append(acks, float64(o.now-sent)/1e3) }
	for end := o.clock() + int64(x.t.Warm+x.t.Measure); o.clock() < end; {
		had := len(acks)
		o.now = o.clock()
		sent = o.now
		o.fill(0)
		b := slices.Clone(o.pubs[0].c.out)
		if err := o.flush(); err != nil {
			return err
		}
		for late := sent + int64(x.t.Stall); len(acks) == had; {
			if err := o.turn(o, 0); err != nil {
				return err
			}
			if o.clock() > late {
				return fmt.Errorf("no acknowledgement for %v", x.t.Stall)
			}
		}
		from := o.clock()
		if _, err := f.Write(b); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		syncs = append(syncs, float64(o.clock()-from)/1e3)
	}
	if len(acks) < 10 {
		return errors.New("too few messages for a median")
	}
	slices.Sort(acks)
	slices.Sort(syncs)
	x.got["ack"], x.got["sync"] = median(acks), median(syncs)
	x.got["ratio"] = median(acks) / median(syncs)
	return nil
}

// tryWide publishes a few messages, one after the other, to all sessions, and looks how much the broker writes for
// them: next to nothing goes to sockets.
func tryWide(x *trial) error {
	o, err := x.begin()
	if err != nil {
		return err
	}
	defer o.close()
	var acks []float64
	sent := int64(0)
	o.acknowledged = func() { acks = append(acks, float64(o.now-sent)/1e6) }
	before, err := x.p.wrote()
	if err != nil {
		return err
	}
	const messages = 20
	for range messages {
		had := len(acks)
		o.now = o.clock()
		sent = o.now
		o.fill(0)
		if err := o.until(x.t.Stall, func() bool { return len(acks) > had }); err != nil {
			return err
		}
	}
	after, err := x.p.wrote()
	if err != nil {
		return err
	}
	slices.Sort(acks)
	x.got["ack"], x.got["slowest"] = median(acks), acks[len(acks)-1]
	x.got["payloads"] = float64(after-before) / messages / float64(x.load.Payload)
	o.acknowledged = nil
	return x.returned(o, 100)
}
