package check

import (
	"fmt"
	"sync"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// event is a packet of a check.
type event struct {
	at   time.Duration // since the check began
	conn int
	sent bool
	v    packet.Version
	b    []byte // nil: it was too long to be kept
	text string // in place of a packet
}

const (
	// mostEvents is how many packets of a check are kept for its trace.
	mostEvents = 60
	// longEvent is the longest packet that is kept whole, in bytes.
	longEvent = 4 << 10
)

// trace keeps the last packets of a check.
type trace struct {
	mu     sync.Mutex // guards what follows: two connections may be at work
	events []event
}

// note keeps a packet. b must not change any more.
func (t *trial) note(c *conn, sent bool, at time.Time, b []byte) {
	e := event{at: at.Sub(t.began), conn: c.number, sent: sent, v: c.v, b: b}
	if len(b) > longEvent {
		e.b, e.text = nil, fmt.Sprintf("%v, %d bytes", packet.FrameType(b), len(b))
	}
	t.trace.add(e)
}

// noteEnd keeps the end of a connection.
func (t *trial) noteEnd(c *conn, ours bool) {
	t.trace.add(event{at: time.Since(t.began), conn: c.number, sent: ours, text: "connection closed"})
}

func (t *trace) add(e event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.events) == mostEvents {
		t.events = append(t.events[:0], t.events[1:]...)
	}
	t.events = append(t.events, e)
}

// Packet is a packet of a check, or the end of a connection.
type Packet struct {
	// At is when, since the check began.
	At time.Duration
	// Conn numbers the connections of the check, from 1.
	Conn int
	// Sent: it went to the server. Else it came from there.
	Sent bool
	// Text is what it says. It has no password.
	Text string
}

// String is such as `     1.20 ms  2 <- PUBACK m1 Success (0x00)`.
func (p Packet) String() string {
	arrow := "<-"
	if p.Sent {
		arrow = "->"
	}
	return fmt.Sprintf("%9.2f ms  %d %s %s", p.At.Seconds()*1e3, p.Conn, arrow, p.Text)
}

// story is the trace for people.
func (t *trace) story() (all []Packet) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.events {
		all = append(all, Packet{At: e.at, Conn: e.conn, Sent: e.sent, Text: e.describe()})
	}
	return all
}

func (e event) describe() string {
	if e.b == nil {
		return e.text
	}
	p, _, err := packet.Parse(e.b, 0, e.v)
	switch {
	case err != nil:
		return fmt.Sprintf("%d bytes that are no right packet, %x: %v", len(e.b), e.b[:min(len(e.b), 40)], err)
	case p == nil:
		return fmt.Sprintf("%d bytes, less than a packet", len(e.b))
	}
	return p.String()
}
