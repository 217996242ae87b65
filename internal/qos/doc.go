// Package qos holds the two halves of the QoS 1 and QoS 2 handshakes, for the
// broker and the client alike: the Sender, which gives packet identifiers,
// keeps what is not acknowledged in the order of sending and obeys the peer's
// Receive Maximum, and the Receiver, which recognises a QoS 2 duplicate and
// enforces the own Receive Maximum.
//
// It holds no clock, no lock, no goroutine and no I/O: a caller holds its own
// lock around a Sender, and a Receiver belongs to whoever reads the
// connection. Start with Sender.Send and Sender.Next in sender.go.
package qos
