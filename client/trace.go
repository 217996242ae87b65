package client

import (
	"time"

	"github.com/myelin-mqtt/myelin/internal/dial"
	"github.com/myelin-mqtt/myelin/packet"
)

// Trace is told what happens on the wire. Each function is optional, is called
// in the order of events on one connection, from the goroutine that it happens
// on, and must neither block nor call the client.
type Trace struct {
	// Packet is told of each control packet.
	Packet func(PacketEvent)
	// Phase is told of each step of making a connection when it is over.
	Phase func(PhaseEvent)
}

// PacketEvent is a packet that leaves or has arrived.
type PacketEvent struct {
	// Sent: it leaves. Else it has arrived.
	Sent bool
	// At is when the write that takes it began, or the read that brought its
	// last byte returned. It has a monotonic reading.
	At time.Time
	// Bytes are the packet, valid until the function returns. packet.Parse
	// reads them.
	Bytes []byte
	// Version is the protocol of the connection.
	Version packet.Version
}

// PhaseEvent is a step of making a connection: name resolution, TCP, TLS or
// WebSocket.
type PhaseEvent = dial.Event

// The phases of a connection.
const (
	PhaseDNS       = dial.DNS
	PhaseTCP       = dial.TCP
	PhaseTLS       = dial.TLS
	PhaseWebSocket = dial.WebSocket
)
