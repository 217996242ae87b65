package qos

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/myelin-mqtt/myelin/packet"
)

// model is a Sender as one would write it to be read: lists and no cleverness.
type model struct {
	window, queue []*item // the live ones in the order of their identifiers; those that wait
	next          uint16  // the identifier to be given next
	max, maxBytes int
}

type item struct {
	id     uint16
	slot   Slot // Msg and QoS, as it was sent
	size   int
	state  State
	here   bool // sent, or reserved to be sent, on this connection: counts against the Receive Maximum
	given  bool // sent on this connection
	before bool // sent on an earlier connection
	old    bool // in the window since an earlier connection
}

func (m *model) find(id uint16) *item {
	for _, x := range m.window {
		if x.id == id {
			return x
		}
	}
	return nil
}

func (m *model) bytes() (window, queue int) {
	for _, x := range m.window {
		if x.state == Sent || x.state == Held {
			window += x.size
		}
	}
	for _, x := range m.queue {
		queue += x.size
	}
	return window, queue
}

func (m *model) inFlight() (n int) {
	for _, x := range m.window {
		if x.here {
			n++
		}
	}
	return n
}

// waiting is the first of the window that is to be sent.
func (m *model) waiting() *item {
	for _, x := range m.window {
		if (x.state == Sent || x.state == Held) && !x.given {
			return x
		}
	}
	return nil
}

func (m *model) span() int {
	if len(m.window) == 0 {
		return 0
	}
	n := int(m.next) - int(m.window[0].id)
	if n <= 0 {
		n += 65535
	}
	return n
}

func (m *model) room() int {
	if w := m.waiting(); w != nil && w.old {
		return 0
	}
	if b, _ := m.bytes(); m.maxBytes > 0 && len(m.window) > 0 && b >= m.maxBytes {
		return 0
	}
	return max(0, min(m.max-m.inFlight(), 65535-m.span()))
}

func (m *model) take(x *item) uint16 {
	x.id, x.here = m.next, true
	if m.next++; m.next == 0 {
		m.next = 1
	}
	if x.state != Held {
		x.state, x.given = Sent, true
	}
	m.window = append(m.window, x)
	return x.id
}

func (m *model) send(x *item) uint16 {
	if len(m.queue) > 0 || m.room() == 0 {
		m.queue = append(m.queue, x)
		return 0
	}
	return m.take(x)
}

func (m *model) pull() *item {
	if w := m.waiting(); w != nil {
		if w.state == Held || !w.here && m.inFlight() >= m.max {
			return nil
		}
		w.here, w.given = true, true
		return w
	}
	if len(m.queue) == 0 || m.room() == 0 {
		return nil
	}
	x := m.queue[0]
	m.queue = m.queue[1:]
	m.take(x)
	return x
}

func (m *model) drop(x *item) {
	m.window = slices.DeleteFunc(m.window, func(y *item) bool { return x == y })
}

func (m *model) resume(n int) (release []uint16) {
	m.max = max(n, 1)
	for _, x := range m.window {
		x.before = x.before || x.given
		x.here, x.given, x.old = false, false, true
		if x.state == Released {
			release = append(release, x.id)
		}
	}
	return release
}

// pair is a Sender and its model, driven together.
type pair struct {
	t *rapid.T
	s Sender
	m model
	n int
}

func newPair(t *rapid.T) *pair {
	p := &pair{t: t}
	first := rapid.SampledFrom([]uint16{0, 1, 2, 65520, 65534, 65535}).Draw(t, "first")
	startAt(&p.s, first)
	p.m.next = max(first, 1)
	p.m.max = rapid.SampledFrom([]int{1, 2, 3, 10, 100, 65535}).Draw(t, "max")
	p.s.Max = uint16(p.m.max)
	if rapid.Bool().Draw(t, "bytes") {
		p.m.maxBytes = rapid.IntRange(1, 200).Draw(t, "max bytes")
		p.s.MaxBytes = int32(p.m.maxBytes)
	}
	return p
}

func (p *pair) send() {
	q := packet.QoS(rapid.IntRange(1, 2).Draw(p.t, "qos"))
	p.n++
	msg, err := packet.NewPublish(&packet.Message{Topic: fmt.Sprint(p.n), Payload: make([]byte, rapid.IntRange(0, 40).Draw(p.t, "size"))}, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	x := Slot{Msg: msg, QoS: q, LSN: uint64(p.n), Flags: Shared}
	if rapid.IntRange(0, 4).Draw(p.t, "held") == 0 {
		x.State = Held
	}
	it := &item{slot: x, state: x.State, size: len(msg.Topic()) + len(msg.Payload())}
	got, want := p.s.Send(x), p.m.send(it)
	if got != want {
		p.t.Fatalf("Send: identifier %d, want %d", got, want)
	}
	if got != 0 && x.State != Held && rapid.IntRange(0, 5).Draw(p.t, "hold") == 0 {
		p.s.Hold(got, Held)
		it.state, it.given = Held, false
	}
}

func (p *pair) next() {
	id, x, ok := p.s.Next()
	want := p.m.pull()
	switch {
	case ok != (want != nil):
		p.t.Fatalf("Next: %v, the model has %+v", ok, want)
	case !ok:
	case id != want.id || x.LSN != want.slot.LSN || x.State != want.state || x.Msg != want.slot.Msg:
		p.t.Fatalf("Next: %d %+v, want %+v", id, x, want)
	case x.Flags&Resend != 0 != want.before:
		p.t.Fatalf("Next: %d: resend %v, want %v", id, x.Flags&Resend != 0, want.before)
	}
}

// id draws an identifier, mostly one in flight.
func (p *pair) id() uint16 {
	if len(p.m.window) == 0 || rapid.IntRange(0, 9).Draw(p.t, "any") == 0 {
		return rapid.Uint16().Draw(p.t, "id")
	}
	return rapid.SampledFrom(p.m.window).Draw(p.t, "in flight").id
}

func (p *pair) ack() {
	id := p.id()
	typ := rapid.SampledFrom([]packet.Type{packet.PUBACK, packet.PUBCOMP, packet.PUBACK, packet.PUBCOMP, packet.PUBREC}).Draw(p.t, "type")
	it := p.m.find(id)
	want := it != nil && (typ == packet.PUBACK && it.slot.QoS == 1 && it.state == Sent || typ == packet.PUBCOMP && it.state == Released)
	x, ok := p.s.Ack(typ, id)
	if ok != want || ok && x.LSN != it.slot.LSN {
		p.t.Fatalf("Ack %v %d: %v %+v, want %v %+v", typ, id, ok, x, want, it)
	}
	if ok {
		p.m.drop(it)
	}
}

func (p *pair) record() {
	id, failed := p.id(), rapid.IntRange(0, 4).Draw(p.t, "failed") == 0
	it := p.m.find(id)
	want := Unknown
	switch {
	case it == nil || it.slot.QoS != 2 || it.state == Held:
	case failed:
		want = Ended
	case it.state == Sent:
		want = Release
	case it.state == Recorded:
		want = Wait
	case it.state == Released:
		want = Repeat
	}
	x, r := p.s.Record(id, failed)
	if r != want || r != Unknown && x.LSN != it.slot.LSN {
		p.t.Fatalf("Record %d: %d %+v, want %d %+v", id, r, x, want, it)
	}
	switch r {
	case Ended:
		p.m.drop(it)
	case Release:
		if x.Msg == nil {
			p.t.Fatalf("Record %d: no message", id)
		}
		it.state = Released
		if rapid.Bool().Draw(p.t, "wait for the store") {
			p.s.Hold(id, Recorded)
			it.state = Recorded
		}
	}
}

// commit is the store's answer, in any order.
func (p *pair) commit() {
	var held []*item
	for _, x := range p.m.window {
		if x.state == Held || x.state == Recorded {
			held = append(held, x)
		}
	}
	if len(held) == 0 {
		return
	}
	it := rapid.SampledFrom(held).Draw(p.t, "commit")
	it.state = map[State]State{Held: Sent, Recorded: Released}[it.state]
	if x, ok := p.s.Hold(it.id, it.state); !ok || x.LSN != it.slot.LSN || x.State != it.state {
		p.t.Fatalf("Hold %d: %v %+v, want %+v", it.id, ok, x, it)
	}
}

func (p *pair) drop() {
	id := p.id()
	it := p.m.find(id)
	if _, ok := p.s.Drop(id); ok != (it != nil) {
		p.t.Fatalf("Drop %d: %v, want %v", id, ok, it != nil)
	}
	if it != nil {
		p.m.drop(it)
	}
}

func (p *pair) dropOldest() {
	x, ok := p.s.DropOldest()
	if ok != (len(p.m.queue) > 0) || ok && x.LSN != p.m.queue[0].slot.LSN {
		p.t.Fatalf("DropOldest: %v %+v, the model has %d", ok, x, len(p.m.queue))
	}
	if ok {
		p.m.queue = p.m.queue[1:]
	}
}

func (p *pair) resume() {
	n := rapid.SampledFrom([]int{0, 1, 2, 5, 100, 65535}).Draw(p.t, "receive maximum")
	var got []uint16
	p.s.Resume(uint16(n), func(id uint16) { got = append(got, id) })
	if want := p.m.resume(n); !slices.Equal(got, want) {
		p.t.Fatalf("Resume releases %d, want %d", got, want)
	}
}

func (p *pair) check() {
	s, m := &p.s, &p.m
	wb, qb := m.bytes()
	f := func(what string, got, want int) {
		if got != want {
			p.t.Fatalf("%s: %d, want %d", what, got, want)
		}
	}
	f("Live", s.Live(), len(m.window))
	f("Queued", s.Queued(), len(m.queue))
	f("Bytes", s.Bytes, wb)
	f("QueueBytes", s.QueueBytes, qb)
	f("in flight", int(s.out), m.inFlight())
	f("Room", s.Room(), m.room())
	if s.Pending() != (m.waiting() != nil) {
		p.t.Fatalf("Pending: %v, the model has %+v", s.Pending(), m.waiting())
	}
	if m.inFlight() > m.max {
		p.t.Fatalf("%d in flight, the Receive Maximum is %d", m.inFlight(), m.max)
	}
	all := slices.Concat(m.window, m.queue)
	i := 0
	s.Unacked(func(id uint16, x *Slot) bool {
		if i == len(all) || id != all[i].id || x.LSN != all[i].slot.LSN || x.State != all[i].state {
			p.t.Fatalf("Unacked yields %d %+v in place %d of %d", id, x, i, len(all))
		}
		i++
		return true
	})
	f("Unacked", i, len(all))
	if len(m.window) == 0 && len(s.win.b) > ringKeep || len(m.queue) == 0 && len(s.queue.b) > ringKeep {
		p.t.Fatalf("empty, and holds memory for %d and %d", len(s.win.b), len(s.queue.b))
	}
}

// TestSenderModel: whatever is done to it, a Sender does what the model does.
func TestSenderModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPair(t)
		ops := []func(){p.send, p.send, p.send, p.next, p.next, p.ack, p.ack, p.record, p.record, p.commit, p.commit, p.drop, p.dropOldest, p.resume}
		weights := rapid.SampledFrom([]int{len(ops), len(ops) - 1}).Draw(t, "operations")
		for range rapid.IntRange(0, 200).Draw(t, "steps") {
			ops[rapid.IntRange(0, weights-1).Draw(t, "do")]()
			p.check()
		}
	})
}
