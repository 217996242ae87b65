package qos

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/myelin-mqtt/myelin/packet"
)

// pkt is one packet between the two ends.
type pkt struct {
	typ    packet.Type
	id     uint16
	qos    packet.QoS
	dup    bool
	failed bool
	msg    *packet.Publish
}

// ends are a Sender and a Receiver, and the wire between them.
type ends struct {
	t       *rapid.T
	s       Sender
	r       Receiver
	forth   []pkt
	back    []pkt
	toAck   []pkt // at the receiver: PUBLISH packets whose acknowledgement has not left
	stored  bool  // QoS 2 waits for a store, at the sender
	waiting []uint16

	made     [3][]string     // by QoS, in the order of sending
	arrived  [3][]string     // by QoS, in the order of delivery
	wired    map[string]bool // was on the wire before
	refused  map[string]bool
	inFlight int // of this connection, by what the sender knows
}

func (e *ends) put(id uint16, x *Slot) {
	name, dup := string(x.Msg.Topic()), x.Flags&Resend != 0
	if dup != e.wired[name] { // [MQTT-4.3.2-2], [MQTT-4.3.3-2], [MQTT-3.3.1-1]
		e.t.Fatalf("%s is sent with DUP %v, and was sent before: %v", name, dup, e.wired[name])
	}
	e.wired[name] = true
	if e.inFlight++; e.inFlight > int(e.s.Max) { // [MQTT-4.9.0-2]
		e.t.Fatalf("%d in flight, the Receive Maximum is %d", e.inFlight, e.s.Max)
	}
	e.forth = append(e.forth, pkt{typ: packet.PUBLISH, id: id, qos: x.QoS, dup: dup, msg: x.Msg})
}

func (e *ends) pump() {
	for {
		id, x, ok := e.s.Next()
		switch {
		case !ok:
			return
		case x.State == Held: // from the queue
			e.waiting = append(e.waiting, id)
		default:
			e.put(id, &x)
		}
	}
}

func (e *ends) send(q packet.QoS) {
	name := fmt.Sprint(len(e.made[1])+len(e.made[2]), "/", q)
	m, err := packet.NewPublish(&packet.Message{Topic: name}, 0)
	if err != nil {
		e.t.Fatal(err)
	}
	e.made[q] = append(e.made[q], name)
	if q == 2 && rapid.IntRange(0, 7).Draw(e.t, "refuse") == 0 {
		e.refused[name] = true
	}
	x := Slot{Msg: m, QoS: q}
	if e.stored && q == 2 {
		x.State = Held
	}
	switch id := e.s.Send(x); {
	case id == 0:
	case x.State == Held:
		e.waiting = append(e.waiting, id)
	default:
		e.put(id, &x)
	}
}

// receive takes a packet at the receiver.
func (e *ends) receive(p pkt) {
	if p.typ == packet.PUBREL {
		e.r.Release(p.id)
		e.back = append(e.back, pkt{typ: packet.PUBCOMP, id: p.id})
		return
	}
	name := string(p.msg.Topic())
	var dup, ok bool
	if p.qos == 1 {
		ok = e.r.Begin()
	} else {
		dup, ok = e.r.Publish(p.id)
	}
	if !ok {
		e.t.Fatalf("%s exceeds the Receive Maximum", name)
	}
	if !dup && !e.refused[name] {
		e.arrived[p.qos] = append(e.arrived[p.qos], name)
	}
	e.toAck = append(e.toAck, p)
}

// acknowledge lets the oldest acknowledgement leave the receiver.
func (e *ends) acknowledge() {
	if len(e.toAck) == 0 {
		return
	}
	p := e.toAck[0]
	e.toAck = e.toAck[1:]
	a := pkt{typ: packet.PUBREC, id: p.id, failed: e.refused[string(p.msg.Topic())]}
	switch {
	case p.qos == 1:
		e.r.End()
		a.typ = packet.PUBACK
	case a.failed:
		e.r.Release(p.id)
	}
	e.back = append(e.back, a)
}

// answer takes a packet at the sender.
func (e *ends) answer(p pkt) {
	if p.typ != packet.PUBREC {
		if x, ok := e.s.Ack(p.typ, p.id); ok && x.Flags&counted != 0 {
			e.inFlight--
		}
		e.pump()
		return
	}
	x, r := e.s.Record(p.id, p.failed)
	switch r {
	case Ended:
		if x.Flags&counted != 0 {
			e.inFlight--
		}
		e.pump()
	case Release:
		if e.stored {
			e.s.Hold(p.id, Recorded)
			e.waiting = append(e.waiting, p.id)
			return
		}
		fallthrough
	case Repeat:
		e.forth = append(e.forth, pkt{typ: packet.PUBREL, id: p.id})
	case Unknown:
		if !p.failed {
			e.t.Fatalf("PUBREC of %d, which nobody sent", p.id)
		}
	}
}

// commit is an answer of the store; online: there is a connection.
func (e *ends) commit(i int, online bool) {
	id := e.waiting[i]
	e.waiting = slices.Delete(e.waiting, i, i+1)
	if p := e.s.slot(id); p.State == Held {
		e.s.Hold(id, Sent)
		if online {
			e.pump()
		}
		return
	}
	e.s.Hold(id, Released)
	if online {
		e.forth = append(e.forth, pkt{typ: packet.PUBREL, id: id})
	}
}

// cut loses all that is on its way, and connects again.
func (e *ends) cut() {
	e.forth, e.back, e.toAck, e.inFlight = nil, nil, nil, 0
	for len(e.waiting) > 0 && rapid.Bool().Draw(e.t, "commit while away") {
		e.commit(rapid.IntRange(0, len(e.waiting)-1).Draw(e.t, "which"), false)
	}
	n := rapid.SampledFrom([]uint16{1, 2, 3, 20}).Draw(e.t, "receive maximum")
	e.r.Max = n
	e.r.Resume()
	e.s.Resume(n, func(id uint16) { e.forth = append(e.forth, pkt{typ: packet.PUBREL, id: id}) })
	e.pump()
}

// step moves one packet, acknowledgement or answer of the store on, and
// reports false where there is none.
func (e *ends) step(which int) bool {
	for i := range 4 {
		switch (which + i) % 4 {
		case 0:
			if len(e.forth) > 0 {
				p := e.forth[0]
				e.forth = e.forth[1:]
				e.receive(p)
				return true
			}
		case 1:
			if len(e.back) > 0 {
				p := e.back[0]
				e.back = e.back[1:]
				e.answer(p)
				return true
			}
		case 2:
			if len(e.toAck) > 0 {
				e.acknowledge()
				return true
			}
		case 3:
			if n := len(e.waiting); n > 0 {
				e.commit(rapid.IntRange(0, n-1).Draw(e.t, "which"), true)
				return true
			}
		}
	}
	return false
}

// TestEnds joins a Sender and a Receiver by a wire that breaks anywhere: QoS 1
// arrives at least once, QoS 2 exactly once, both in the order of sending.
// [MQTT-4.3.3-10], [MQTT-4.4.0-1], [MQTT-4.6.0-1], [MQTT-4.6.0-6]
func TestEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom([]uint16{1, 2, 5, 20}).Draw(t, "max")
		e := &ends{t: t, wired: map[string]bool{}, refused: map[string]bool{}, stored: rapid.Bool().Draw(t, "stored")}
		e.s.Max, e.r.Max = n, n
		startAt(&e.s, rapid.SampledFrom([]uint16{1, 65530, 65535}).Draw(t, "first"))
		for range rapid.IntRange(0, 300).Draw(t, "steps") {
			switch do := rapid.IntRange(0, 15).Draw(t, "do"); do {
			case 0, 1, 2:
				e.send(1)
			case 3, 4, 5:
				e.send(2)
			case 6:
				e.cut()
			default:
				e.step(do)
			}
		}
		for e.step(0) {
		}
		if e.s.Live() != 0 || e.s.Queued() != 0 || e.r.Len() != 0 || e.s.Bytes != 0 || e.s.QueueBytes != 0 {
			t.Fatalf("quiet, and %d are in flight, %d wait, %d identifiers are held", e.s.Live(), e.s.Queued(), e.r.Len())
		}
		once := slices.DeleteFunc(slices.Clone(e.made[2]), func(name string) bool { return e.refused[name] })
		if !slices.Equal(e.arrived[2], once) {
			t.Fatalf("QoS 2: arrived %q, want %q", e.arrived[2], once)
		}
		var first []string
		seen := map[string]bool{}
		for _, name := range e.arrived[1] {
			if !seen[name] {
				first = append(first, name)
			}
			seen[name] = true
		}
		if !slices.Equal(first, e.made[1]) {
			t.Fatalf("QoS 1: arrived first %q, want %q", first, e.made[1])
		}
	})
}
