// Package fault is a TCP proxy between a client and a broker that does to the
// bytes what networks do, and more, where a Plan says so: it cuts after any
// byte, delays, delivers in crumbs, sends a packet twice, changes a byte, lets
// one direction fall silent, and refuses connections. It is for tests.
//
// A Plan is a function of the connection's number, the direction and the offset
// in its bytes, so that a run that failed can be had again from its seed. The
// proxy knows the length of control packets and nothing else of the protocol;
// what is not MQTT, such as TLS, passes as well, and has no packets to send
// twice.
//
// Start with Plan in plan.go, then Listen in proxy.go; flow.go is what happens
// to the bytes of one direction.
package fault
