package client

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// poke wakes the writer.
func (c *Client) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// grow is c.out, to append a packet to: the writer is told of the first one. mu
// is held.
func (c *Client) grow() []byte {
	if len(c.out) == 0 {
		c.poke()
	}
	return c.out
}

// record has r kept before what is appended to c.out from now on leaves; mu is
// held, and there is a Store.
func (c *Client) record(r Record) {
	if len(c.records) == 0 {
		c.recorded++
		c.poke()
	}
	c.records = append(c.records, r)
}

// write keeps and sends until the client ends.
func (c *Client) write() {
	t := time.NewTimer(math.MaxInt64)
	defer t.Stop()
	var spare batch
	for {
		slim := false
		select {
		case <-c.wake:
		case <-t.C:
			slim = true
			spare = batch{}
			c.slim()
		case <-c.ctx.Done():
			return
		}
		for c.turn(&spare) {
		}
		next := c.alive()
		if !slim {
			next = min(next, slimAfter)
		}
		t.Reset(next)
	}
}

// batch is what the writer takes at once.
type batch struct {
	out     []byte
	written []func(Receipt, error)
}

// spareBytes is how large a buffer a client keeps that sends little.
const spareBytes = 4 << 10

// slimAfter is for how long a client sends nothing before it gives memory back.
const slimAfter = 10 * time.Second

// slim gives back the memory that was only kept to be used again.
func (c *Client) slim() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.out) == 0 {
		c.out, c.written = nil, nil
	}
	if len(c.inbox) == 0 {
		c.inbox = nil
	}
	if len(c.finished) == 0 {
		c.finished = nil
	}
	c.told, c.spare = nil, nil
	c.pending.slim()
	c.waiting0.slim()
	c.toAck.slim()
}

// turn keeps and sends what there is, and reports whether there was something.
func (c *Client) turn(b *batch) bool {
	c.mu.Lock()
	if c.blocked > 1 { // so many publish, and each waits: what they have ready goes along
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
	l := c.link
	if l != nil {
		c.pump()
	}
	b.out, c.out, c.answers = c.out, b.out[:0], 0
	b.written, c.written = c.written, b.written[:0]
	n, rest, leaving := c.recorded, len(c.records), c.leaving
	c.unlock()
	if len(b.out)+rest == 0 {
		return false
	}
	if err := c.keep(n); err != nil {
		c.wrote(b, err)
		return false
	}
	var err error
	if l != nil && len(b.out) > 0 {
		c.traceOut(b.out, l.version)
		if err = c.writeOut(l, b.out); err != nil {
			l.fail(fmt.Errorf("write: %w", err))
		}
		l.sentAt = c.since()
		if leaving && err == nil {
			l.leave()
		}
	}
	c.wrote(b, err)
	if cap(b.out) > spareBytes && len(b.out) < cap(b.out)/4 {
		b.out, b.written = nil, nil
	}
	return true
}

// writeStep is how much is written at once: a connection that is not TCP itself
// has to take so much in the time that a server may be silent.
const writeStep = 1 << 20

// writeOut writes b. A server that takes nothing is given up as one that is
// silent: a PINGREQ could not leave.
func (c *Client) writeOut(l *link, b []byte) error {
	patience := int64(l.keepAlive + c.o.AckTimeout)
	for len(b) > 0 {
		if now := c.since(); l.keepAlive > 0 && l.writeBy < now+patience {
			l.writeBy = now + patience + patience/4 // not at each write
			if err := l.SetWriteDeadline(c.born.Add(time.Duration(l.writeBy))); err != nil {
				return err
			}
		}
		n, err := l.Write(b[:min(len(b), writeStep)])
		if err != nil && (n == 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return err
		}
		b = b[n:]
	}
	return nil
}

// wrote tells those who wait for the write, and those who wait for room.
func (c *Client) wrote(b *batch, err error) {
	c.mu.Lock()
	c.stats.BytesOut += uint64(len(b.out))
	if err != nil {
		c.stats.Dropped += uint64(len(b.written))
		err = fmt.Errorf("publish at QoS 0: %w", err)
	}
	c.changed.tell()
	c.mu.Unlock()
	for _, done := range b.written {
		done(Receipt{}, err)
	}
	clear(b.written)
}

// leave closes the sending half, so that a DISCONNECT that was written arrives
// whatever the server has still sent.
func (l *link) leave() {
	if w, ok := l.Conn.(interface{ CloseWrite() error }); ok && w.CloseWrite() == nil {
		return
	}
	l.Close()
}

// keep returns when the batch of records n, and all before it, are kept. Whoever
// comes while nobody commits does it for all: a message need not wait for a
// writer that waits for the network.
func (c *Client) keep(n uint64) error {
	for {
		c.mu.Lock()
		switch {
		case c.kept >= n:
			c.mu.Unlock()
			return nil
		case c.storeErr != nil:
			defer c.mu.Unlock()
			return c.storeErr
		case c.keeping:
			changed := c.changed.wait()
			c.mu.Unlock()
			<-changed
			continue
		}
		records, upTo := c.records, c.recorded
		c.records, c.keeping = c.spare[:0], true
		c.mu.Unlock()
		err := c.o.Store.Commit(records)
		c.mu.Lock()
		clear(records)
		c.spare, c.keeping = records, false
		if cap(records) > 1024 {
			c.spare = nil
		}
		if err == nil {
			c.kept = upTo
		} else {
			c.storeErr = fmt.Errorf("keep the session: %w", err)
		}
		err = c.storeErr
		c.changed.tell()
		c.mu.Unlock()
		if err != nil {
			c.end(err)
			return err
		}
	}
}

// alive sends a PINGREQ where nothing else shows that this end is there, or that
// the other is, and tells when to look again.
func (c *Client) alive() time.Duration {
	c.mu.Lock()
	l := c.link
	leaving := c.leaving
	c.mu.Unlock()
	if l == nil || l.keepAlive == 0 || leaving {
		return math.MaxInt64
	}
	// A tenth earlier than at the end, but at most 5 s. [MQTT-3.1.2-20]
	every := int64(l.keepAlive - min(l.keepAlive/10, 5*time.Second))
	now, heard := c.since(), c.heard.Load()
	if l.pingAt != 0 && heard >= l.pingAt || c.paused.Load() {
		l.pingAt = 0
	}
	if l.pingAt != 0 && now-l.pingAt >= int64(c.o.AckTimeout) {
		l.fail(ErrKeepAlive)
		return math.MaxInt64
	}
	quiet := now-l.sentAt >= every
	if quiet || l.pingAt == 0 && now-heard >= every && !c.paused.Load() {
		b := (&packet.Pingreq{}).Append(nil, l.version)
		c.traceOut(b, l.version)
		if err := c.writeOut(l, b); err != nil {
			l.fail(fmt.Errorf("write: %w", err))
			return math.MaxInt64
		}
		l.sentAt = c.since()
		if l.pingAt == 0 {
			l.pingAt = l.sentAt
		}
		c.mu.Lock()
		c.stats.PacketsOut++
		c.stats.BytesOut += uint64(len(b))
		c.mu.Unlock()
		now = l.sentAt
	}
	next := l.sentAt + every
	if l.pingAt != 0 {
		next = min(next, l.pingAt+int64(c.o.AckTimeout))
	} else if !c.paused.Load() {
		next = min(next, heard+every)
	}
	return max(time.Duration(next-now), time.Millisecond)
}

// traceOut tells of the packets of b.
func (c *Client) traceOut(b []byte, v packet.Version) {
	if c.o.Trace.Packet == nil {
		return
	}
	at := time.Now()
	for len(b) > 0 {
		n, _, err := packet.Frame(b, 0)
		if err != nil || n == 0 {
			return
		}
		c.o.Trace.Packet(PacketEvent{Sent: true, At: at, Bytes: b[:n], Version: v})
		b = b[n:]
	}
}

// aliases are the topic aliases that one connection uses for what it sends.
type aliases struct {
	max    int
	byName map[string]uint16
	names  []string // by number - 1
	used   []bool   // since it was looked at
	hand   int
	misses int
}

// replaceAfter is how many topics without an alias pass before one takes the
// place of an alias that is not used.
const replaceAfter = 8

// of is the alias for a topic, 0: none. known: the server knows it.
func (a *aliases) of(name []byte) (alias uint16, known bool) {
	if a.max == 0 || len(name) < 3 { // the property is as long
		return 0, false
	}
	if n, ok := a.byName[string(name)]; ok {
		a.used[n-1] = true
		return n, true
	}
	if len(a.names) < a.max {
		if a.byName == nil {
			a.byName = make(map[string]uint16)
		}
		a.names = append(a.names, string(name))
		a.used = append(a.used, false)
		a.byName[string(name)] = uint16(len(a.names))
		return uint16(len(a.names)), false
	}
	if a.misses++; a.misses < replaceAfter {
		return 0, false
	}
	a.misses = 0
	i := a.hand
	a.hand = (a.hand + 1) % len(a.names)
	if a.used[i] {
		a.used[i] = false
		return 0, false
	}
	delete(a.byName, a.names[i])
	a.names[i] = string(name)
	a.byName[a.names[i]] = uint16(i + 1)
	return uint16(i + 1), false
}
