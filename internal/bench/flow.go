//go:build linux

package bench

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// flow is a run of a load with messages.
type flow struct {
	*loop
	load Load
	pubs []publisher
	subs []*conn

	// By the index of a connection: whose it is.
	pubOf []int32 // -1: not a publisher's
	subOf []int32

	seen      []sequence // of the messages of publisher p at subscriber s: seen[s*pubs+p]; one row when shared
	faults    faults
	delivered uint64
	open      int    // connections that have no CONNACK or SUBACK yet
	openOf    []bool // by the index of a connection
	stopped   bool   // nothing new is sent
	progress  int64  // when something last came

	// A paced run.
	from, due int64 // when the first message was due, when the next one is
	sentPaced uint64
	record    int64 // messages due from here on go into hist
	hist      *hdrhistogram.Histogram
}

// publisher sends from one connection.
type publisher struct {
	c    *conn
	tmpl template
	sent uint64
	free []uint16 // slots of the window that nothing uses
	slot []slot
	acks uint64 // still to come, when paced
}

// slot is a place in a publisher's window: a message under way.
type slot struct {
	seq  uint64
	left int32 // deliveries and acknowledgements to come
}

func newFlow(load Load) (*flow, error) {
	l, err := newLoop()
	if err != nil {
		return nil, err
	}
	rows := load.Subs
	if load.Shape == Shared {
		rows = 1
	}
	return &flow{
		loop: l, load: load,
		pubs: make([]publisher, load.Pubs),
		subs: make([]*conn, load.Subs),
		seen: make([]sequence, rows*load.Pubs),
		hist: hdrhistogram.New(1000, int64(time.Minute), 3),
	}, nil
}

// together bounds the connections that the broker has still to answer: less than any broker's backlog.
const together = 64

// connect opens all connections and has the subscribers subscribed.
func (f *flow) connect(addr netip.AddrPort, stall time.Duration) error {
	add := func(name string, pub, sub int32) (*conn, error) {
		c, err := f.loop.open(addr, f.load.Version, name)
		if err != nil {
			return nil, err
		}
		f.pubOf, f.subOf, f.openOf = append(f.pubOf, pub), append(f.subOf, sub), append(f.openOf, true)
		f.open++
		c.out = appendConnect(c.out, c.version, name, f.load.Durable)
		f.touch(c)
		return c, f.answered(together, stall)
	}
	var err error
	for s := range f.subs {
		if f.subs[s], err = add(fmt.Sprintf("sub%d", s), -1, int32(s)); err != nil {
			return err
		}
	}
	for p := range f.pubs {
		pub := &f.pubs[p]
		if pub.c, err = add(fmt.Sprintf("pub%d", p), int32(p), -1); err != nil {
			return err
		}
		pub.tmpl = newTemplate(f.load.Version, f.load.QoS, f.load.topic(p), f.load.Payload)
		pub.slot = make([]slot, f.load.Window)
		for i := range f.load.Window {
			pub.free = append(pub.free, uint16(f.load.Window-1-i))
		}
	}
	return f.answered(0, stall)
}

// answered takes turns until at most n connections wait for the broker's answer.
func (f *flow) answered(n int, stall time.Duration) error {
	f.progress = f.clock()
	for f.open > n {
		if err := f.turn(f, 100*time.Millisecond); err != nil {
			return err
		}
		if f.clock()-f.progress > int64(stall) {
			return fmt.Errorf("%d connections have had no answer for %v", f.open, stall)
		}
	}
	return f.flush()
}

// begin sends the first messages.
func (f *flow) begin() error {
	f.progress = f.clock()
	if f.load.Rate > 0 {
		f.from = f.clock()
		f.due = f.from
		return nil
	}
	for p := range f.pubs {
		f.fill(p)
	}
	return f.flush()
}

// run takes turns for d.
func (f *flow) run(d, stall time.Duration) error {
	for end := f.clock() + int64(d); ; {
		if err := f.step(); err != nil {
			return err
		}
		now := f.clock()
		if now >= end {
			return nil
		}
		if now-f.progress > int64(stall) {
			return fmt.Errorf("nothing has come for %v: messages are lost or stuck", stall)
		}
	}
}

// step is one turn; a paced one does not sleep, so that what is due leaves in time.
func (f *flow) step() error {
	if f.load.Rate == 0 {
		return f.turn(f, 100*time.Millisecond)
	}
	f.pace()
	if err := f.flush(); err != nil {
		return err
	}
	return f.turn(f, 0)
}

// drain stops the publishers and waits until everything under way has arrived; what has not counts as lost.
func (f *flow) drain(stall time.Duration) error {
	f.stopped = true
	f.progress = f.clock()
	for f.underway() > 0 && f.clock()-f.progress < int64(stall) {
		if err := f.turn(f, 10*time.Millisecond); err != nil {
			return err
		}
	}
	rows := len(f.seen) / len(f.pubs)
	for row := range rows {
		for p := range f.pubs {
			if f.load.Shape == All || rows == 1 || row == p%f.load.Subs {
				f.seen[row*len(f.pubs)+p].end(f.pubs[p].sent, &f.faults)
			}
		}
	}
	if f.faults.any() {
		return fmt.Errorf("%d messages lost, %d duplicated, %d out of order", f.faults.Lost, f.faults.Duplicated, f.faults.Reordered)
	}
	if n := f.underway(); n > 0 {
		return fmt.Errorf("%d acknowledgements have not come", n)
	}
	return nil
}

// underway is how many deliveries and acknowledgements are still to come.
func (f *flow) underway() (n uint64) {
	for p := range f.pubs {
		for i := range f.pubs[p].slot {
			n += uint64(f.pubs[p].slot[i].left)
		}
		n += f.pubs[p].acks
	}
	if f.load.Rate > 0 && f.sentPaced > f.delivered {
		n += f.sentPaced - f.delivered
	}
	return n
}

// fill sends until the publisher's window is full.
func (f *flow) fill(p int) {
	pub := &f.pubs[p]
	if f.stopped || len(pub.free) == 0 {
		return
	}
	left := int32(f.load.targets())
	if f.load.QoS > 0 {
		left++
	}
	for len(pub.free) > 0 {
		i := pub.free[len(pub.free)-1]
		pub.free = pub.free[:len(pub.free)-1]
		pub.slot[i] = slot{seq: pub.sent, left: left}
		pub.c.out = pub.tmpl.appendTo(pub.c.out, i+1, stamp{pub: uint32(p), slot: i, seq: pub.sent, due: f.now})
		pub.sent++
	}
	f.touch(pub.c)
}

// pace sends everything that is due by now, in turn from all publishers.
func (f *flow) pace() {
	for now := f.clock(); f.due <= now && !f.stopped; {
		p := int(f.sentPaced) % len(f.pubs)
		pub := &f.pubs[p]
		id := uint16(pub.sent%65535) + 1
		pub.c.out = pub.tmpl.appendTo(pub.c.out, id, stamp{pub: uint32(p), seq: pub.sent, due: f.due})
		pub.sent++
		if f.load.QoS > 0 {
			pub.acks++
		}
		f.touch(pub.c)
		f.sentPaced++
		f.due = f.from + int64(f.sentPaced)*int64(time.Second)/int64(f.load.Rate)
	}
}

// packet is the handler of everything that the broker sends.
func (f *flow) packet(c *conn, b []byte, hdr int) error {
	f.progress = f.now
	first := b[0] & 0xf0
	if first == publish {
		return f.arrived(c, b, hdr)
	}
	if err := refusal(b, hdr, c.version); err != nil {
		return err
	}
	switch first {
	case connack:
		if s := f.subOf[c.index]; s >= 0 {
			c.out = appendSubscribe(c.out, c.version, 1, f.load.QoS, f.load.filter(int(s)))
			f.touch(c)
			return nil
		}
		return f.answer(c)
	case suback:
		return f.answer(c)
	case puback, pubcomp:
		return f.acked(c, id(b, hdr))
	case pubrec:
		c.out = appendAck(c.out, pubrel|2, id(b, hdr))
		f.touch(c)
	case pubrel:
		c.out = appendAck(c.out, pubcomp, id(b, hdr))
		f.touch(c)
	case disconnect:
		if hdr < len(b) {
			return fmt.Errorf("the broker sent DISCONNECT %#x", b[hdr])
		}
		return errors.New("the broker sent DISCONNECT")
	default:
		return fmt.Errorf("unexpected packet %#x", b[0])
	}
	return nil
}

func id(b []byte, hdr int) uint16 { return uint16(b[hdr])<<8 | uint16(b[hdr+1]) }

func (f *flow) answer(c *conn) error {
	if !f.openOf[c.index] {
		return errors.New("a second answer to one request")
	}
	f.openOf[c.index] = false
	f.open--
	return nil
}

// arrived takes a message: checks its place, answers it, and frees its publisher's window.
func (f *flow) arrived(c *conn, b []byte, hdr int) error {
	qos, pid, payload, err := readPublish(b, hdr, c.version)
	if err != nil {
		return err
	}
	s, err := readStamp(payload)
	if err != nil {
		return err
	}
	sub := f.subOf[c.index]
	if sub < 0 || int(s.pub) >= len(f.pubs) || len(payload) != max(f.load.Payload, stampSize) || qos != f.load.QoS {
		return fmt.Errorf("a message that nobody sent to it: %+v of %d bytes at QoS %d", s, len(payload), qos)
	}
	switch qos {
	case 1:
		c.out = appendAck(c.out, puback, pid)
		f.touch(c)
	case 2:
		c.out = appendAck(c.out, pubrec, pid)
		f.touch(c)
	}
	row := int(sub)
	if f.load.Shape == Shared {
		row = 0
	}
	if !f.seen[row*len(f.pubs)+int(s.pub)].see(s.seq, &f.faults) {
		return nil
	}
	f.delivered++
	if f.load.Rate > 0 {
		if s.due >= f.record && f.record > 0 {
			_ = f.hist.RecordValue(max(f.now-s.due, 1)) // beyond the histogram's range is a failed run anyway
		}
		return nil
	}
	f.done(int(s.pub), s.slot, s.seq)
	return nil
}

// acked takes the end of a publisher's handshake.
func (f *flow) acked(c *conn, id uint16) error {
	p := f.pubOf[c.index]
	if p < 0 {
		return fmt.Errorf("an acknowledgement of %d to a subscriber", id)
	}
	pub := &f.pubs[p]
	if f.load.Rate > 0 {
		if pub.acks == 0 {
			return fmt.Errorf("an acknowledgement too many: %d", id)
		}
		pub.acks--
		return nil
	}
	if id == 0 || int(id) > len(pub.slot) {
		return fmt.Errorf("an acknowledgement of %d, which was not sent", id)
	}
	f.done(int(p), id-1, pub.slot[id-1].seq)
	return nil
}

// done notes one delivery or acknowledgement of a message, and sends the next in its place after the last of them.
func (f *flow) done(p int, i uint16, seq uint64) {
	pub := &f.pubs[p]
	if int(i) >= len(pub.slot) || pub.slot[i].seq != seq || pub.slot[i].left == 0 {
		return // a late copy; the sequence has counted it
	}
	pub.slot[i].left--
	if pub.slot[i].left == 0 {
		pub.free = append(pub.free, i)
		f.fill(p)
	}
}
