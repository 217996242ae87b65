package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// patience is how long a broker that runs may take for anything.
const patience = 30 * time.Second

// link is one connection. Writes never block the caller: a goroutine of its own carries them.
type link struct {
	conn net.Conn
	v    packet.Version

	mu     sync.Mutex
	more   *sync.Cond
	out    []byte
	closed bool

	buf        []byte // what was read; from start to end it is not handled
	start, end int
	writing    sync.WaitGroup
	unwatch    func() bool // ends the watch over the context
}

// open connects and waits for the CONNACK, which it gives even if it refuses.
func open(ctx context.Context, addr string, c *packet.Connect) (*link, *packet.Connack, error) {
	d := net.Dialer{Timeout: patience}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	l := newLink(ctx, conn, c.Version)
	l.send(c)
	var ack *packet.Connack
	err = l.read(time.Now().Add(patience), func(p packet.Packet) (bool, error) {
		var ok bool
		if ack, ok = p.(*packet.Connack); !ok {
			return false, fmt.Errorf("CONNECT was answered with %v", p)
		}
		return false, nil
	})
	if err != nil {
		l.close()
		return nil, nil, err
	}
	if ack.Code.Failed() {
		l.close()
		return nil, ack, fmt.Errorf("CONNECT was refused: %v", ack.Code)
	}
	return l, ack, nil
}

// newLink starts the writer of a connection, which ends with the context.
func newLink(ctx context.Context, conn net.Conn, v packet.Version) *link {
	l := &link{conn: conn, v: v, buf: make([]byte, 64<<10)}
	l.more = sync.NewCond(&l.mu)
	l.unwatch = context.AfterFunc(ctx, func() { conn.Close() })
	l.writing.Go(l.write)
	return l
}

// send queues packets.
func (l *link) send(packets ...packet.Packet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range packets {
		l.out = p.Append(l.out, l.v)
	}
	l.more.Signal()
}

// sendWith queues what the function appends.
func (l *link) sendWith(appendTo func(dst []byte) []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out = appendTo(l.out)
	l.more.Signal()
}

// sendAck queues an acknowledgement.
func (l *link) sendAck(kind packet.Type, id uint16) {
	l.sendWith(func(dst []byte) []byte { return packet.AppendAck(dst, kind, l.v, id, packet.Success) })
}

// publish queues a PUBLISH.
func (l *link) publish(m *packet.Message, o packet.PublishOpts) {
	p, err := packet.NewPublish(m, 0)
	if err != nil {
		panic(err) // the topics and sizes are our own
	}
	l.sendWith(func(dst []byte) []byte { return packet.AppendPublish(dst, p, l.v, o) })
}

func (l *link) write() {
	var spare []byte
	for {
		l.mu.Lock()
		for len(l.out) == 0 && !l.closed {
			l.more.Wait()
		}
		if len(l.out) == 0 {
			l.mu.Unlock()
			return
		}
		out := l.out
		l.out = spare[:0]
		l.mu.Unlock()
		if _, err := l.conn.Write(out); err != nil {
			return // the reader sees it, too
		}
		spare = out
	}
}

// read hands one packet after the other to handle, until that returns false or an error, the deadline passes (zero:
// none), or the connection ends, which is an error. A *packet.Publish is good until handle returns.
func (l *link) read(deadline time.Time, handle func(packet.Packet) (more bool, err error)) error {
	if err := l.conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	for {
		for l.start < l.end {
			p, n, err := packet.Parse(l.buf[l.start:l.end], 0, l.v)
			if err != nil {
				return fmt.Errorf("the broker sent what is no packet: %w", err)
			}
			if n == 0 {
				break
			}
			l.start += n
			if more, err := handle(p); err != nil || !more {
				return err
			}
		}
		l.end = copy(l.buf, l.buf[l.start:l.end])
		l.start = 0
		if l.end == len(l.buf) {
			l.buf = append(l.buf, make([]byte, len(l.buf))...)
		}
		n, err := l.conn.Read(l.buf[l.end:])
		l.end += n
		if n == 0 && err != nil {
			return err
		}
	}
}

// leave says goodbye with a DISCONNECT and closes; what was queued before it is written.
func (l *link) leave() {
	l.send(&packet.Disconnect{})
	l.mu.Lock()
	l.closed = true
	l.more.Signal()
	l.mu.Unlock()
	l.conn.SetWriteDeadline(time.Now().Add(patience))
	l.writing.Wait()
	l.unwatch()
	l.conn.Close()
}

// close cuts the connection.
func (l *link) close() {
	l.unwatch()
	l.conn.Close()
	l.mu.Lock()
	l.closed = true
	l.out = nil
	l.more.Signal()
	l.mu.Unlock()
	l.writing.Wait()
}

// errLeft ends a read that the client itself wants to end.
var errLeft = errors.New("left")
