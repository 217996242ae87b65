//go:build linux

package bench

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// retaining is a run of a load with retained messages: one connection makes them, a pair sends live messages at a pace,
// and one that comes later subscribes to everything.
type retaining struct {
	*loop
	load   Load
	filler sender
	most   uint64 // the filler's messages so far
	seen   []bool // retained messages that the late subscriber has
	had    int
	open   int // connections that are not where they are to be
	latest int64
	late   bool // the late subscriber is there

	live             sender // paced, at QoS 0
	liveTmpl         template
	arrived          uint64
	hist             *hdrhistogram.Histogram
	from, due, paced int64
}

// Who a connection is.
const (
	whoFiller = iota
	whoLiveSub
	whoLivePub
	whoLate
)

// liveRate is how many live messages are sent in a second.
const liveRate = 1000

func newRetaining(load Load) (*retaining, error) {
	l, err := newLoop()
	if err != nil {
		return nil, err
	}
	// A large read of the retained messages would hold up the live ones in the generator, which is not what is measured.
	l.buf = l.buf[:4<<10]
	return &retaining{
		loop: l, load: load, seen: make([]bool, load.Total),
		liveTmpl: newTemplate(load.Version, 0, "live/0", stampSize),
	}, nil
}

// join opens a connection, and waits until it is where it is to be.
func (r *retaining) join(addr netip.AddrPort, who int, stall time.Duration) (*conn, error) {
	c, err := r.loop.open(addr, r.load.Version, [...]string{"filler", "livesub", "livepub", "late"}[who])
	if err != nil {
		return nil, err
	}
	c.who = who
	r.open++
	c.out = appendConnect(c.out, c.version, c.name, false)
	r.touch(c)
	return c, r.until(stall, func() bool { return r.open == 0 })
}

func (r *retaining) until(stall time.Duration, ok func() bool) error {
	r.latest = r.clock()
	for {
		if err := r.flush(); err != nil {
			return err
		}
		if ok() {
			return nil
		}
		if err := r.turn(r, 100*time.Millisecond); err != nil {
			return err
		}
		if r.clock()-r.latest > int64(stall) {
			return fmt.Errorf("nothing has come for %v: %d connections have had no answer, %d of %d messages are acknowledged", stall, r.open, r.filler.acked, r.filler.sent)
		}
	}
}

// fill publishes retained messages until n of them are acknowledged.
func (r *retaining) fill(n int, stall time.Duration) error {
	r.most = uint64(n)
	r.refill()
	return r.until(stall, func() bool { return r.filler.acked == r.most })
}

func (r *retaining) refill() {
	f := &r.filler
	for f.sent < r.most && f.sent-f.acked < uint64(r.load.Window) {
		t := newTemplate(r.load.Version, r.load.QoS, fmt.Sprintf("retained/%d/%d", f.sent%1000, f.sent), r.load.Payload)
		t.b[0] |= 1
		f.c.out = t.appendTo(f.c.out, uint16(f.sent%65535)+1, stamp{seq: f.sent})
		f.sent++
	}
	r.touch(f.c)
}

// pace sends what is due of the live messages, until ok, and returns their latencies.
func (r *retaining) pace(stall time.Duration, ok func() bool) (*hdrhistogram.Histogram, error) {
	r.hist = hdrhistogram.New(1000, int64(time.Minute), 3)
	r.from, r.paced = r.clock(), 0
	r.due, r.latest = r.from, r.from
	for !ok() {
		for now := r.clock(); r.due <= now; {
			r.live.c.out = r.liveTmpl.appendTo(r.live.c.out, 0, stamp{seq: r.live.sent, due: r.due})
			r.live.sent++
			r.touch(r.live.c)
			r.paced++
			r.due = r.from + r.paced*int64(time.Second)/liveRate
		}
		if err := r.flush(); err != nil {
			return nil, err
		}
		if err := r.turn(r, 0); err != nil {
			return nil, err
		}
		if r.clock()-r.latest > int64(stall) {
			return nil, fmt.Errorf("nothing has come for %v: %d of %d retained messages have arrived", stall, r.had, len(r.seen))
		}
	}
	return r.hist, nil
}

// packet is the handler of everything that the broker sends.
func (r *retaining) packet(c *conn, b []byte, hdr int) error {
	first := b[0] & 0xf0
	if first != publish || b[0]&1 != 0 || !r.late {
		r.latest = r.now // live messages go on whatever the retained ones do
	}
	if first == publish {
		return r.arrive(c, b, hdr)
	}
	if err := refusal(b, hdr, c.version); err != nil {
		return err
	}
	switch {
	case first == connack && (c.who == whoLiveSub || c.who == whoLate):
		c.out = appendSubscribe(c.out, c.version, 1, 0, [...]string{whoLiveSub: "live/0", whoLate: "#"}[c.who])
		r.touch(c)
	case first == connack || first == suback:
		r.open--
	case first == puback && c.who == whoFiller:
		f := &r.filler
		if want := uint16(f.acked%65535) + 1; f.acked == f.sent || id(b, hdr) != want {
			return fmt.Errorf("an acknowledgement of %d, when %d was the next", id(b, hdr), want)
		}
		f.acked++
		r.refill()
	default:
		return fmt.Errorf("unexpected packet %#x", b[0])
	}
	return nil
}

// arrive takes a retained or a live message.
func (r *retaining) arrive(c *conn, b []byte, hdr int) error {
	_, _, payload, err := readPublish(b, hdr, c.version)
	if err != nil {
		return err
	}
	m, err := readStamp(payload)
	switch {
	case err != nil:
		return err
	case c.who == whoLiveSub:
		if m.seq != r.arrived {
			return fmt.Errorf("live message %d when %d was the next", m.seq, r.arrived)
		}
		r.arrived++
		_ = r.hist.RecordValue(max(r.now-m.due, 1))
	case c.who == whoLate && b[0]&1 != 0:
		if m.seq >= uint64(len(r.seen)) {
			return fmt.Errorf("a retained message that nobody sent: %+v", m)
		}
		if r.seen[m.seq] {
			return fmt.Errorf("retained message %d came twice", m.seq)
		}
		r.seen[m.seq] = true
		r.had++
	case c.who != whoLate:
		return errors.New("a message to a publisher")
	}
	return nil
}

// tryRetained makes retained messages, restarts the broker, and has somebody subscribe to all of them beside live
// messages.
func tryRetained(x *trial) error {
	r, err := newRetaining(x.load)
	if err != nil {
		return err
	}
	defer r.close()
	if r.filler.c, err = r.join(x.p.addr, whoFiller, x.t.Stall); err != nil {
		return err
	}
	// What the program needs once is not counted.
	first := x.load.Total / 100
	if err := r.fill(first, x.t.Stall); err != nil {
		return err
	}
	some, err := x.p.rss()
	if err != nil {
		return err
	}
	from := r.clock()
	if err := r.fill(x.load.Total, x.t.Stall); err != nil {
		return err
	}
	n := float64(x.load.Total - first)
	x.got["made"] = n / time.Duration(r.clock()-from).Seconds()
	for end := r.clock() + int64(x.t.Settle); r.clock() < end; {
		if err := r.turn(r, x.t.Settle); err != nil {
			return err
		}
	}
	all, err := x.p.rss()
	if err != nil {
		return err
	}
	x.got["bytes"] = float64(all-some)/n - float64(x.load.Payload)
	x.p.kill()
	r.abandon()
	took, err := x.p.again(x.ctx, x.t.Limit)
	if err != nil {
		return err
	}
	x.got["restart"] = took.Seconds()
	return x.late(r)
}

// late measures what it costs live messages that somebody is sent all retained ones.
func (x *trial) late(r *retaining) (err error) {
	for _, who := range []int{whoLiveSub, whoLivePub} {
		c, err := r.join(x.p.addr, who, x.t.Stall)
		if err != nil {
			return err
		}
		r.live.c = c // at the end the publisher's
	}
	if _, err = r.pace(x.t.Stall, func() bool { return r.clock()-r.from > int64(x.t.Warm) }); err != nil {
		return err
	}
	alone, err := r.pace(x.t.Stall, func() bool { return r.clock()-r.from > int64(x.t.Measure) })
	if err != nil {
		return err
	}
	c, err := r.loop.open(x.p.addr, r.load.Version, "late")
	if err != nil {
		return err
	}
	c.who, r.late = whoLate, true
	r.open++
	c.out = appendConnect(c.out, c.version, c.name, false)
	r.touch(c)
	beside, err := r.pace(x.t.Stall, func() bool { return r.had == len(r.seen) })
	if err != nil {
		return err
	}
	x.got["delivered"] = float64(r.had) / time.Duration(r.clock()-r.from).Seconds()
	x.got["alone"] = float64(alone.ValueAtQuantile(50)) / 1e3
	x.got["beside"] = float64(beside.ValueAtQuantile(50)) / 1e3
	x.got["ratio"] = x.got["beside"] / x.got["alone"]
	return x.atPeak()
}
