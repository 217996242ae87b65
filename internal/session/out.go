package session

import (
	"github.com/myelin-mqtt/myelin/internal/qos"
	"github.com/myelin-mqtt/myelin/packet"
)

// Policy is what happens to a message for a session whose queue is full.
type Policy uint8

// The policies of a full queue.
const (
	// DropOldest makes room by dropping the message that waits longest.
	DropOldest Policy = iota
	// DropNew drops the message that came.
	DropNew
	// Refuse refuses the publisher with reason code 0x97. A session that is
	// connected and merely slow never refuses: there it is DropNew.
	Refuse
)

// Limits bound what waits for one session, and for all stored ones together.
type Limits struct {
	Messages int // 0: no limit
	Bytes    int // topics and payloads, 0: no limit
	Policy   Policy
	// TotalMessages and TotalBytes are those of all stored sessions; 0: no limit.
	TotalMessages, TotalBytes int64
}

// Full reports whether a message of size bytes finds no room beside n others
// of size have.
func (l *Limits) Full(n, have, size int) bool {
	return l.Messages > 0 && n >= l.Messages || l.Bytes > 0 && n > 0 && have+size > l.Bytes
}

// Over reports whether all sessions together have no room for a message of size
// bytes beside n others of size have.
func (l *Limits) Over(n, have int64, size int) bool {
	return l.TotalMessages > 0 && n >= l.TotalMessages || l.TotalBytes > 0 && n > 0 && have+int64(size) > l.TotalBytes
}

// Totals reports whether there is a limit for all sessions together.
func (l *Limits) Totals() bool { return l.TotalMessages > 0 || l.TotalBytes > 0 }

// Out is the sending half of a session.
type Out struct {
	Send qos.Sender
}

// Idle reports whether nothing is in flight, and nothing waits.
func (o *Out) Idle() bool { return o.Send.Live() == 0 && o.Send.Queued() == 0 }

// Delivery is what Deliver did.
type Delivery struct {
	// ID is the packet identifier to send the message with; 0: it waits, or was dropped.
	ID uint16
	// Dropped is a message that the queue's limit cost, nil: none.
	Dropped *packet.Publish
	// Drops counts them: more than one where a large message displaces small ones.
	Drops int
}

// Deliver sends a message of QoS 1 or 2, or queues it within l.
func (o *Out) Deliver(x qos.Slot, l *Limits) Delivery {
	s := &o.Send
	if s.Queued() == 0 && s.Room() > 0 {
		return Delivery{ID: s.Send(x)}
	}
	var d Delivery
	if size := len(x.Msg.Payload()) + len(x.Msg.Topic()); l.Full(s.Queued(), s.QueueBytes, size) {
		if l.Policy != DropOldest {
			return Delivery{Dropped: x.Msg, Drops: 1}
		}
		for s.Queued() > 0 && l.Full(s.Queued(), s.QueueBytes, size) {
			old, _ := s.DropOldest()
			d.Dropped = old.Msg
			d.Drops++
		}
	}
	d.ID = s.Send(x)
	return d
}

// Reply is what an acknowledgement from the subscriber calls for.
type Reply struct {
	// Send is PUBREL or 0, with Code.
	Send packet.Type
	Code packet.Reason
	// Done: the handshake of Slot is over, and its place is free.
	Done bool
	// Recorded: a PUBREC of Slot came for the first time.
	Recorded bool
	Slot     qos.Slot
}

// Acked takes a PUBACK, PUBREC or PUBCOMP of the subscriber. An unknown
// identifier is answered where the standard has an answer (PUBREC with PUBREL
// 0x92), and else ignored.
func (o *Out) Acked(t packet.Type, id uint16, code packet.Reason) Reply {
	if t != packet.PUBREC {
		x, ok := o.Send.Ack(t, id)
		return Reply{Done: ok, Slot: x}
	}
	x, r := o.Send.Record(id, code.Failed())
	switch r {
	case qos.Release:
		return Reply{Send: packet.PUBREL, Recorded: true, Slot: x} // [MQTT-4.3.3-4]
	case qos.Repeat:
		return Reply{Send: packet.PUBREL, Slot: x}
	case qos.Wait:
		return Reply{Slot: x}
	case qos.Ended: // [MQTT-4.4.0-2]
		return Reply{Done: true, Slot: x}
	}
	if code.Failed() {
		return Reply{} // its flow is over, here and there
	}
	return Reply{Send: packet.PUBREL, Code: packet.PacketIdentifierNotFound}
}
