package main

import (
	"fmt"

	"github.com/myelin-mqtt/myelin/packet"
)

// outbox is a client's sending half of QoS 1 and 2, which outlives its connections: what is under way, in the order in
// which it was sent first. Its owner locks.
type outbox struct {
	list []entry
	next uint16
	// highest is the last identifier before 1 comes again. A low one makes each of them come again soon: a broker that
	// takes a finished one for one still in use drops messages. It must be above the number of messages under way.
	highest uint16
}

// entry is a message under way.
type entry struct {
	id       uint16
	stream   int
	seq      uint64
	qos      packet.QoS
	size     int
	received bool // PUBREC has come: PUBREL is to be sent, PUBLISH never again
}

// add puts a message at the end and gives it a free identifier.
func (o *outbox) add(stream int, seq uint64, qos packet.QoS, size int) entry {
	for {
		if o.next++; o.next > o.highest {
			o.next = 1
		}
		if o.find(o.next) < 0 {
			break
		}
	}
	o.list = append(o.list, entry{id: o.next, stream: stream, seq: seq, qos: qos, size: size})
	return o.list[len(o.list)-1]
}

func (o *outbox) find(id uint16) int {
	for i := range o.list {
		if o.list[i].id == id {
			return i
		}
	}
	return -1
}

// answer takes a PUBACK, PUBREC or PUBCOMP. acked says that this is the one that tells that the broker has the message;
// reply says that PUBREL is to be sent. An answer that belongs to nothing is an error.
func (o *outbox) answer(kind packet.Type, id uint16, code packet.Reason) (e entry, acked, reply bool, err error) {
	i := o.find(id)
	if i < 0 {
		return e, false, false, fmt.Errorf("%v for identifier %d, which is not in use", kind, id)
	}
	e = o.list[i]
	// That PUBREL is not known is no fault after a restart: the PUBCOMP was lost.
	if code.Failed() && !(kind == packet.PUBCOMP && code == packet.PacketIdentifierNotFound) {
		o.remove(i)
		return e, false, false, fmt.Errorf("%v says %v", kind, code)
	}
	switch {
	case kind == packet.PUBACK && e.qos == packet.AtLeastOnce:
		o.remove(i)
		return e, true, false, nil
	case kind == packet.PUBREC && e.qos == packet.ExactlyOnce:
		o.list[i].received = true
		return e, !e.received, true, nil
	case kind == packet.PUBCOMP && e.received:
		o.remove(i)
		return e, false, false, nil
	}
	return e, false, false, fmt.Errorf("%v for identifier %d does not fit its message of QoS %d", kind, id, e.qos)
}

func (o *outbox) remove(i int) { o.list = append(o.list[:i], o.list[i+1:]...) }

// forget drops what only a session that is gone could finish: messages whose PUBREL is to be sent.
func (o *outbox) forget() {
	kept := o.list[:0]
	for _, e := range o.list {
		if !e.received {
			kept = append(kept, e)
		}
	}
	o.list = kept
}

// inbox is a client's receiving half of QoS 2, which outlives its connections: the identifiers whose PUBREL has not
// come, and what each stands for.
type inbox map[uint16]ref

// ref names a message.
type ref struct {
	stream int
	seq    uint64
}

// take notes a PUBLISH of QoS 2 and says whether the application is to see it. An identifier that stood for another
// message, whose PUBREL has not come, is an error. [MQTT-4.3.3-10]
func (n inbox) take(id uint16, r ref) (fresh bool, err error) {
	old, known := n[id]
	if known && old != r {
		return false, fmt.Errorf("identifier %d stands for message %d of stream %d, and came with message %d of stream %d",
			id, old.seq, old.stream, r.seq, r.stream)
	}
	n[id] = r
	return !known, nil
}

// release notes a PUBREL. One that is not known is answered all the same.
func (n inbox) release(id uint16) { delete(n, id) }
