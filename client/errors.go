package client

import (
	"errors"
	"fmt"

	"github.com/myelin-mqtt/myelin/packet"
)

// Errors that tell what a client is, or was, doing. All others wrap what failed.
var (
	// ErrClosed: Close or Disconnect was called, or the client gave up.
	ErrClosed = errors.New("client is closed")
	// ErrNotConnected: there is no connection, and the message or request is not one that waits for the next.
	ErrNotConnected = errors.New("not connected")
	// ErrQueueFull: Options.QueueMessages or QueueBytes is reached, and Options.QueueFull is Refuse.
	ErrQueueFull = errors.New("queue is full")
	// ErrDropped: newer messages took the place of this one, as Options.QueueFull says.
	ErrDropped = errors.New("dropped from a full queue")
	// ErrExpired: the message's expiry interval passed before it could be sent.
	ErrExpired = errors.New("message expired before it was sent")
	// ErrTooLong: the packet is longer than the server takes.
	ErrTooLong = errors.New("packet is longer than the server allows")
	// ErrKeepAlive: the server did not answer a PINGREQ in time.
	ErrKeepAlive = errors.New("no answer to PINGREQ")
	// ErrUnsupported: the server said in its CONNACK that it has no such thing.
	ErrUnsupported = errors.New("not supported by the server")
	// ErrSessionLost: the server has forgotten the session in which the request was made.
	ErrSessionLost = errors.New("session was lost")
)

// ReasonError is a refusal: a packet of the server with a failing reason code.
type ReasonError struct {
	// Packet is the type of the packet that brought it.
	Packet packet.Type
	// Code is the reason code; return codes of 3.1.1 are given as theirs of 5.0.
	Code packet.Reason
	// Reason is its Reason String, which may be empty.
	Reason string
	// Server is its Server Reference: where to go instead. It may be empty.
	Server string
}

// Error is such as `CONNACK: Not authorized (0x87): no such user`.
func (e *ReasonError) Error() string {
	s := fmt.Sprintf("%s: %s", e.Packet, e.Code)
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if e.Server != "" {
		s += " (use " + e.Server + ")"
	}
	return s
}

// SubscribeError says which filters of a SUBSCRIBE or UNSUBSCRIBE were refused.
type SubscribeError struct {
	Packet  packet.Type
	Filters []string        // those that were asked
	Codes   []packet.Reason // one for each
	Reason  string
}

// Error names the first filter that was refused.
func (e *SubscribeError) Error() string {
	for i, c := range e.Codes {
		if c.Failed() && i < len(e.Filters) {
			s := fmt.Sprintf("%s: %q: %s", e.Packet, e.Filters[i], c)
			if e.Reason != "" {
				s += ": " + e.Reason
			}
			return s
		}
	}
	return fmt.Sprintf("%s: refused", e.Packet)
}
