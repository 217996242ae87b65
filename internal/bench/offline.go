//go:build linux

package bench

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// offline is a run of a load whose sessions outlive their connections: they are made, publishers send to them while
// they are away, and they come back for what waits.
type offline struct {
	*loop
	load   Load
	pubs   []sender
	tmpl   []template // by the session that a message is for; one for all sessions with the shape All
	stride uint64     // of a publisher's messages, every how many are for the same session

	open    int  // connections that are not where they are to be
	back    bool // the sessions come for their messages
	stopped bool // nothing new is sent
	latest  int64

	present int        // sessions that the broker still had
	seen    []sequence // of the messages of publisher p at session s: seen[s*pubs+p]
	faults  faults
	missing uint64 // acknowledged messages for the sessions that are back, and that have not come
	arrived uint64
	acked   uint64
	// acknowledged, if set, is told of each acknowledgement.
	acknowledged func()
}

// sender is a publisher with a window of messages that are acknowledged in their order [MQTT-4.6.0-2].
type sender struct {
	c           *conn
	sent, acked uint64
}

func newOffline(load Load) (*offline, error) {
	l, err := newLoop()
	if err != nil {
		return nil, err
	}
	o := &offline{loop: l, load: load, pubs: make([]sender, load.Pubs), stride: uint64(load.Subs)}
	if load.Shape == All {
		o.stride = 1
	}
	for s := range o.stride {
		if len(o.pubs) == 0 {
			break
		}
		o.tmpl = append(o.tmpl, newTemplate(load.Version, load.QoS, o.topic(int(s)), load.Payload))
	}
	return o, nil
}

// topic is what session s subscribes to.
func (o *offline) topic(s int) string {
	if o.load.Shape == All {
		return "bench/offline"
	}
	return fmt.Sprintf("bench/offline/%07d", s)
}

// first is the number of publisher p's first message for session s; every stride-th is for it, too.
func (o *offline) first(p, s int) uint64 {
	return (uint64(s) + o.stride - o.offset(p)) % o.stride
}

// offset is the session that publisher p begins with: they are spread over all.
func (o *offline) offset(p int) uint64 {
	return uint64(p) * o.stride / uint64(max(len(o.pubs), 1)) % o.stride
}

// acknowledgedFor counts the acknowledged messages of publisher p for session s.
func (o *offline) acknowledgedFor(p, s int) uint64 {
	first := o.first(p, s)
	if n := o.pubs[p].acked; n > first {
		return (n-first-1)/o.stride + 1
	}
	return 0
}

// settle has every session made, with its subscription, and its connection ended.
func (o *offline) settle(addr netip.AddrPort, stall time.Duration) error {
	for s := range o.load.Subs {
		if err := o.join(addr, fmt.Sprintf("offline%07d", s), s); err != nil {
			return err
		}
		if err := o.until(stall, func() bool { return o.open < together }); err != nil {
			return err
		}
	}
	return o.until(stall, func() bool { return o.open == 0 })
}

// join opens a connection for session who, or for publisher -1-who.
func (o *offline) join(addr netip.AddrPort, name string, who int) error {
	c, err := o.loop.open(addr, o.load.Version, name)
	if err != nil {
		return err
	}
	c.who = who
	if who < 0 {
		o.pubs[-1-who].c = c
	}
	o.open++
	c.out = appendConnect(c.out, c.version, name, who >= 0)
	o.touch(c)
	return nil
}

// publishers connects them.
func (o *offline) publishers(addr netip.AddrPort, stall time.Duration) error {
	for p := range o.pubs {
		if err := o.join(addr, fmt.Sprintf("pub%d", p), -1-p); err != nil {
			return err
		}
	}
	return o.until(stall, func() bool { return o.open == 0 })
}

// until takes turns until ok; something has to come all the time.
func (o *offline) until(stall time.Duration, ok func() bool) error {
	o.latest = o.clock()
	for {
		if err := o.flush(); err != nil {
			return err
		}
		if ok() {
			return nil
		}
		if err := o.turn(o, 100*time.Millisecond); err != nil {
			return err
		}
		if o.clock()-o.latest > int64(stall) {
			return fmt.Errorf("nothing has come for %v: %d connections have had no answer, %d messages no acknowledgement, %d acknowledged ones are missing",
				stall, o.open, o.underway(), o.missing)
		}
	}
}

func (o *offline) underway() (n uint64) {
	for p := range o.pubs {
		n += o.pubs[p].sent - o.pubs[p].acked
	}
	return n
}

// send fills all windows.
func (o *offline) send() {
	for p := range o.pubs {
		o.fill(p)
	}
}

// fill sends until the publisher's window is full, or it has sent its part of the whole.
func (o *offline) fill(p int) {
	pub := &o.pubs[p]
	most := ^uint64(0)
	if o.load.Total > 0 {
		most = uint64(o.load.Total / len(o.pubs))
	}
	for !o.stopped && pub.sent < most && pub.sent-pub.acked < uint64(o.load.Window) {
		t := &o.tmpl[(o.offset(p)+pub.sent)%o.stride]
		pub.c.out = t.appendTo(pub.c.out, uint16(pub.sent%65535)+1, stamp{pub: uint32(p), seq: pub.sent, due: o.now})
		pub.sent++
		o.touch(pub.c)
	}
}

// run takes turns for d.
func (o *offline) run(d, stall time.Duration) error {
	end := o.clock() + int64(d)
	return o.until(stall, func() bool { return o.clock() >= end })
}

// drain has the first n sessions come back, and waits until they have all that was acknowledged; what has not come when
// the broker sends nothing more is lost, and counted.
func (o *offline) drain(addr netip.AddrPort, n int, stall time.Duration) error {
	o.back, o.stopped = true, true
	o.seen = make([]sequence, n*len(o.pubs))
	for s := range n {
		for p := range o.pubs {
			o.missing += o.acknowledgedFor(p, s)
		}
	}
	for s := range n {
		if err := o.join(addr, fmt.Sprintf("offline%07d", s), s); err != nil {
			return err
		}
		if err := o.until(stall, func() bool { return o.open < together }); err != nil {
			return err
		}
	}
	if err := o.until(stall, func() bool { return o.open == 0 }); err != nil {
		return err
	}
	// A broker that has none of the sessions has none of their messages.
	o.latest = o.clock()
	for o.missing > 0 && o.present > 0 && o.clock()-o.latest < int64(stall) {
		if err := o.turn(o, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// linger waits whether more comes than there should, and ends the account.
func (o *offline) linger(d time.Duration) error {
	for end := o.clock() + int64(d); o.clock() < end; {
		if err := o.turn(o, d); err != nil {
			return err
		}
	}
	for s := range len(o.seen) / max(len(o.pubs), 1) {
		for p := range o.pubs {
			o.seen[s*len(o.pubs)+p].end(o.acknowledgedFor(p, s), &o.faults)
		}
	}
	if f := o.faults; f.Duplicated+f.Reordered > 0 {
		return fmt.Errorf("%d messages duplicated, %d out of order", f.Duplicated, f.Reordered)
	}
	return nil
}

// packet is the handler of everything that the broker sends.
func (o *offline) packet(c *conn, b []byte, hdr int) error {
	o.latest = o.now
	first := b[0] & 0xf0
	if first == publish {
		return o.arrive(c, b, hdr)
	}
	if err := refusal(b, hdr, c.version); err != nil {
		return err
	}
	switch first {
	case connack:
		switch {
		case c.who < 0:
			o.open--
		case !o.back:
			c.out = appendSubscribe(c.out, c.version, 1, o.load.QoS, o.topic(c.who))
			o.touch(c)
		default:
			o.open--
			o.present += int(b[hdr] & 1)
		}
	case suback:
		c.out = append(c.out, disconnect, 0)
		c.leaving = true
		o.touch(c)
	case puback:
		return o.ack(c, id(b, hdr))
	case disconnect:
		return errors.New("the broker sent DISCONNECT")
	default:
		return fmt.Errorf("unexpected packet %#x", b[0])
	}
	return nil
}

// left is told that the broker has closed the connection of a session.
func (o *offline) left(*conn) {
	o.latest = o.clock()
	o.open--
}

// ack takes an acknowledgement, and sends the next message in its place.
func (o *offline) ack(c *conn, id uint16) error {
	if c.who >= 0 {
		return fmt.Errorf("an acknowledgement of %d to a subscriber", id)
	}
	p := -1 - c.who
	pub := &o.pubs[p]
	if want := uint16(pub.acked%65535) + 1; pub.acked == pub.sent || id != want {
		return fmt.Errorf("an acknowledgement of %d, when %d was the next", id, want)
	}
	pub.acked++
	o.acked++
	if o.acknowledged != nil {
		o.acknowledged()
		return nil
	}
	o.fill(p)
	return nil
}

// arrive takes a message of a session that is back.
func (o *offline) arrive(c *conn, b []byte, hdr int) error {
	qos, pid, payload, err := readPublish(b, hdr, c.version)
	if err != nil {
		return err
	}
	m, err := readStamp(payload)
	if err != nil {
		return err
	}
	p := int(m.pub)
	if !o.back || c.who < 0 || p >= len(o.pubs) || len(payload) != max(o.load.Payload, stampSize) || qos != o.load.QoS ||
		m.seq >= o.pubs[p].sent || m.seq%o.stride != o.first(p, c.who) {
		return fmt.Errorf("a message that nobody sent to it: %+v of %d bytes at QoS %d", m, len(payload), qos)
	}
	c.out = appendAck(c.out, puback, pid)
	o.touch(c)
	k := m.seq / o.stride
	if o.seen[c.who*len(o.pubs)+p].see(k, &o.faults) {
		o.arrived++
		if k < o.acknowledgedFor(p, c.who) {
			o.missing--
		}
	}
	return nil
}
