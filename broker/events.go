package broker

import (
	"crypto/tls"

	"github.com/myelin-mqtt/myelin/internal/transport"
	"github.com/myelin-mqtt/myelin/packet"
)

// Client describes a client to events, authenticators and authorizers. It is
// shared and must not be changed.
type Client struct {
	// ID is the client identifier, assigned by the broker where the client
	// gave none.
	ID string
	// Username as it was authenticated.
	Username string
	// FromCertificate: Username is what the client's certificate says, see
	// Listener.Identify.
	FromCertificate bool
	// Address of the peer, Listener the URL that it came to.
	Address, Listener string
	// Version of the protocol.
	Version packet.Version

	io    *transport.Conn
	asked func() // tells the connection that an Authorizer has its answer
}

// TLS is the state of the client's connection, with its certificate; nil: it has
// no TLS.
func (c *Client) TLS() *tls.ConnectionState {
	if c.io == nil {
		return nil
	}
	return c.io.TLS()
}

// Events are told what happens. Every field is optional. A function is called
// on the path of the event, from any goroutine: it must return at once, and
// must not call the broker.
type Events struct {
	// Connected is called after a successful CONNACK; resumed tells whether a
	// session was present.
	Connected func(c *Client, resumed bool)
	// Disconnected is called when the connection is over: the reason code of
	// the DISCONNECT, whichever side sent it, and the error behind it.
	Disconnected func(c *Client, code packet.Reason, err error)
	// Refused is called for a connection that got no successful CONNACK.
	Refused func(address string, code packet.Reason, err error)
	// SessionEnded is called when a session and all that waited in it is gone.
	SessionEnded func(clientID string)
	// Subscribed and Unsubscribed are called for each filter that was granted
	// or removed.
	Subscribed   func(c *Client, filter string, qos packet.QoS)
	Unsubscribed func(c *Client, filter string)
	// Dropped is called for each message that a session or the broker lost,
	// with the class; see DropReason. clientID is "" where no session is meant.
	Dropped func(clientID string, topic string, why DropReason)
}

// DropReason is the class of a dropped message.
type DropReason uint8

// The classes of dropped messages.
const (
	// DropQueueFull: the session's queue was at its limit.
	DropQueueFull DropReason = iota
	// DropSlow: a QoS 0 message for a connection whose out-queue is full.
	DropSlow
	// DropExpired: the message expiry interval passed before delivery began.
	DropExpired
	// DropTooLarge: larger than the client's Maximum Packet Size [MQTT-3.1.2-25].
	DropTooLarge
	// DropDenied: the publisher or the subscriber may not.
	DropDenied
	// DropRetainFull: not retained, the limit of retained messages is reached.
	DropRetainFull
	// DropNoMember: nobody of a shared subscription can take it.
	DropNoMember
	// DropSessionEnded: it waited in a session that ended.
	DropSessionEnded
	// DropRefused: the publisher was refused, for a queue is full or the store
	// failed, and told so.
	DropRefused
	// DropUnreadable: the disk does not give it back.
	DropUnreadable
	// DropSubscriber: an in-process subscriber is too slow.
	DropSubscriber
	// DropDiskFull: a QoS 0 message that was not retained, or not queued, since
	// the disk is full.
	DropDiskFull
	dropReasons
)

var dropNames = [dropReasons]string{"queue full", "slow consumer", "expired", "too large", "denied", "retained full",
	"no member", "session ended", "refused", "unreadable", "slow subscriber", "disk full"}

// code is the reason code that the standard has for the class, or the nearest.
func (d DropReason) code() packet.Reason {
	switch d {
	case DropQueueFull, DropSlow, DropRetainFull, DropRefused, DropSubscriber, DropDiskFull:
		return packet.QuotaExceeded
	case DropTooLarge:
		return packet.PacketTooLarge
	case DropDenied:
		return packet.NotAuthorized
	case DropNoMember:
		return packet.NoMatchingSubscribers
	}
	return packet.UnspecifiedError
}

// String names the class as logs and counters do.
func (d DropReason) String() string {
	if d < dropReasons {
		return dropNames[d]
	}
	return "unknown"
}
