// Package session is one client's state in the broker, in two halves. In is
// the receiving half: what an inbound PUBLISH or PUBREL does, topic aliases,
// and the order of acknowledgements; only the loop that owns the connection
// touches it. Out is the sending half: the window, the bounded queue and what
// an acknowledgement does to them; any loop may use it, under its owner's
// lock, and it outlives the connection.
//
// There is no clock, no lock, no goroutine and no I/O here: one method a
// packet kind takes values and returns a small value, and the broker does what
// it says. Start with In.Publish and Out.Deliver.
package session
