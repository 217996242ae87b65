package client

import (
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// Message is an application message, to publish or as it came.
type Message = packet.Message

// Received is a message that came for a subscription. It belongs to the handler
// that gets it, and may be kept.
type Received struct {
	Message
	// Dup is set where the server sends the message again, so that the handler
	// may have seen it. A duplicate at QoS 2 is never handed out.
	Dup bool
	// PacketID is its packet identifier, 0 at QoS 0.
	PacketID uint16
	// SubscriptionIDs are those that the server found it by. 5.0 only.
	SubscriptionIDs []uint32
	// At is when the read that brought it returned, with a monotonic reading.
	At time.Time

	c      *Client
	conn   uint64    // the connection that it came on
	serial uint64    // tells it from others with the same identifier
	place  uint32    // its place among what is to be acknowledged
	oneID  [1]uint32 // room for SubscriptionIDs
}

// Receipt is the server's word on a message.
type Receipt struct {
	// Code is the reason code of the PUBACK, or of the PUBREC or PUBCOMP: such
	// as 0x10, nobody subscribes. packet.Success at QoS 0, which nobody
	// acknowledges, and below 5.0.
	Code packet.Reason
	// Reason is the Reason String of it, which may be empty.
	Reason string
	// PacketID is the packet identifier that the message had, 0 at QoS 0.
	PacketID uint16
}

// Subscription is a topic filter and what is asked with it.
type Subscription struct {
	// Filter may begin with $share/NAME/.
	Filter string
	// QoS is the highest quality of service to receive messages with.
	QoS packet.QoS
	// NoLocal keeps away what this client publishes. 5.0 only.
	NoLocal bool
	// RetainAsPublished leaves RETAIN as the publisher set it. 5.0 only.
	RetainAsPublished bool
	// RetainHandling says when retained messages are sent: 0 now, 1 now if the
	// subscription is new, 2 never. 5.0 only.
	RetainHandling byte
}

// Filter is a Subscription without further wishes.
func Filter(filter string, qos packet.QoS) Subscription {
	return Subscription{Filter: filter, QoS: qos}
}

// Handler is called with each message of a subscription, one after the other,
// in the order in which they came. Unless Options.ManualAck is set, its return
// acknowledges the message. It may publish, and it may take its time: what
// comes meanwhile waits, up to Options.Inbox, and after that the server does.
type Handler func(*Received)
