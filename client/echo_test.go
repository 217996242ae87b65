package client_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
)

// echo is a server without a network: the connection of one client, which
// answers each packet at once. It costs next to nothing and allocates nothing
// for a message, so that what is measured is the client.
type echo struct {
	version packet.Version

	mu     sync.Mutex
	cond   sync.Cond
	buf    []byte // for the client to read
	spare  []byte
	got    int // PUBLISH packets
	acks   int // PUBACK and PUBCOMP
	closed bool
}

// echoFull is how many bytes may wait for the client.
const echoFull = 64 << 10

// connectEcho is a client of an echo.
func connectEcho(t testing.TB, o client.Options) (*client.Client, *echo) {
	f := &echo{version: o.Version}
	if f.version == 0 {
		f.version = packet.V5
	}
	f.cond.L = &f.mu
	o.Dial = func(context.Context, string, string) (net.Conn, error) { return f, nil }
	return connect(t, "tcp://echo", o), f
}

func (f *echo) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0, net.ErrClosed
	}
	for rest := b; len(rest) > 0; {
		n, hdr, err := packet.Frame(rest, 0)
		if err != nil {
			return 0, err
		}
		if n == 0 {
			return 0, io.ErrShortWrite // a client writes whole packets
		}
		f.take(rest[:n], hdr)
		rest = rest[n:]
	}
	f.cond.Broadcast()
	return len(b), nil
}

// take answers a packet.
func (f *echo) take(b []byte, hdr int) {
	ack := func(t packet.Type, at int) {
		f.buf = packet.AppendAck(f.buf, t, f.version, uint16(b[at])<<8|uint16(b[at+1]), packet.Success)
	}
	switch t := packet.FrameType(b); t {
	case packet.CONNECT:
		f.buf = (&packet.Connack{}).Append(f.buf, f.version)
	case packet.PUBLISH:
		f.got++
		if q := b[0] >> 1 & 3; q > 0 {
			at := hdr + 2 + int(b[hdr])<<8 + int(b[hdr+1])
			ack(packet.PUBACK+packet.Type(q-1), at)
		}
	case packet.PUBREC:
		ack(packet.PUBREL, hdr)
	case packet.PUBREL:
		ack(packet.PUBCOMP, hdr)
	case packet.PUBACK, packet.PUBCOMP:
		f.acks++
	case packet.SUBSCRIBE:
		var p packet.Subscribe
		if err := p.Parse(b, hdr, f.version); err == nil {
			f.buf = (&packet.Suback{ID: p.ID, Codes: make([]packet.Reason, len(p.Filters))}).Append(f.buf, f.version)
		}
	case packet.PINGREQ:
		f.buf = (&packet.Pingresp{}).Append(f.buf, f.version)
	}
}

// send gives b to the client, as soon as it has read what is there.
func (f *echo) send(b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.buf) > echoFull && !f.closed {
		f.cond.Wait()
	}
	f.buf = append(f.buf, b...)
	f.cond.Broadcast()
}

// until waits until ok, which reads the counts.
func (f *echo) until(ok func() bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !ok() && !f.closed {
		f.cond.Wait()
	}
}

func (f *echo) Read(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.buf) == 0 {
		if f.closed {
			return 0, io.EOF
		}
		f.cond.Wait()
	}
	n := copy(b, f.buf)
	f.spare, f.buf = f.buf, append(f.spare[:0], f.buf[n:]...)
	f.cond.Broadcast()
	return n, nil
}

func (f *echo) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.cond.Broadcast()
	return nil
}

func (f *echo) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (f *echo) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (f *echo) SetDeadline(time.Time) error      { return nil }
func (f *echo) SetReadDeadline(time.Time) error  { return nil }
func (f *echo) SetWriteDeadline(time.Time) error { return nil }
