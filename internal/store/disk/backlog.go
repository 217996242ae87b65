package disk

import (
	"encoding/binary"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
)

// backlog is what waits for a session, in its order: references to messages,
// not the messages. They are packed, at five to seven bytes each, because
// there may be millions.
type backlog struct {
	first, last *chunk
	at          int    // where first is read
	n           int    // how many wait
	bytes       int    // of their topics and payloads
	before      uint64 // the number before the first one, which it is counted from
	end         uint64 // the number of the last one
}

// chunk is a run of packed references.
type chunk struct {
	next *chunk
	b    []byte
}

// Chunks begin small, for most queues are short, and double up to maxChunk.
const (
	minChunk = 32
	maxChunk = 2048
)

// how is in which way a session gets a message.
type how struct {
	more  *[]uint32 // subscription identifiers where there are several
	sub   uint32
	qos   packet.QoS
	flags uint8
}

// ref is one message of a session.
type ref struct {
	lsn uint64
	how
	size uint32 // of topic and payload
}

// The bits of the first byte of a packed reference, and of a target on the disk.
const (
	targetQoS   = 3
	targetFlags = 2 // shift
	targetSub   = 1 << 4
	targetMore  = 1 << 5
)

// head is that byte.
func (h *how) head() byte {
	b := byte(h.qos) | h.flags&(store.Retain|store.Shared)<<targetFlags
	switch {
	case h.more != nil:
		b |= targetMore
	case h.sub != 0:
		b |= targetSub
	}
	return b
}

// appendSubs writes the subscription identifiers that head tells of.
func (h *how) appendSubs(b []byte) []byte {
	if h.more != nil {
		b = binary.AppendUvarint(b, uint64(len(*h.more)))
		for _, id := range *h.more {
			b = binary.AppendUvarint(b, uint64(id))
		}
	} else if h.sub != 0 {
		b = binary.AppendUvarint(b, uint64(h.sub))
	}
	return b
}

// setHead reads head.
func (h *how) setHead(b byte) {
	h.qos, h.flags = packet.QoS(b&targetQoS), b>>targetFlags&(store.Retain|store.Shared)
}

// readSubs reads what appendSubs wrote.
func (h *how) readSubs(head byte, in *reader) {
	switch {
	case head&targetMore != 0:
		ids := make([]uint32, in.count())
		for i := range ids {
			ids[i] = uint32(in.uint())
		}
		h.more = &ids
	case head&targetSub != 0:
		h.sub = uint32(in.uint())
	}
}

// push appends a message; its number is above all others.
func (l *backlog) push(r *ref) {
	if l.n == 0 {
		l.before = r.lsn
		l.end = r.lsn
	}
	need := 1 + binary.MaxVarintLen64 + 2*binary.MaxVarintLen32
	if r.more != nil {
		need += len(*r.more) * binary.MaxVarintLen32
	}
	c := l.last
	if c == nil || cap(c.b)-len(c.b) < need {
		room := minChunk
		if c != nil {
			room = min(2*cap(c.b), maxChunk)
		}
		c = &chunk{b: make([]byte, 0, max(room, need))}
		if l.last == nil {
			l.first = c
		} else {
			l.last.next = c
		}
		l.last = c
	}
	c.b = binary.AppendUvarint(append(c.b, r.head()), r.lsn-l.end)
	c.b = r.appendSubs(binary.AppendUvarint(c.b, uint64(r.size)))
	l.end = r.lsn
	l.n++
	l.bytes += int(r.size)
}

// pop takes the first message, of which there is one.
func (l *backlog) pop() ref {
	p := l.walk()
	r := p.next()
	if l.n--; l.n == 0 {
		*l = backlog{}
		return r
	}
	l.first, l.at, l.before = p.c, p.at, p.lsn
	l.bytes -= int(r.size)
	return r
}

// place is somewhere in a backlog.
type place struct {
	c    *chunk
	at   int
	lsn  uint64
	left int
}

// walk begins with the first message.
func (l *backlog) walk() place { return place{l.first, l.at, l.before, l.n} }

// next is the message at the place, which moves on. The caller looks at left.
func (p *place) next() ref {
	if p.at == len(p.c.b) {
		p.c, p.at = p.c.next, 0
	}
	in := reader{b: p.c.b[p.at:]}
	head := in.byte()
	p.lsn += in.uint()
	r := ref{lsn: p.lsn, size: uint32(in.uint())}
	r.setHead(head)
	r.readSubs(head, &in)
	p.at = len(p.c.b) - len(in.b)
	p.left--
	return r
}

// head is the number of the first message, of which there is one.
func (l *backlog) head() uint64 {
	c, at := l.first, l.at
	if at == len(c.b) {
		c, at = c.next, 0
	}
	d, _ := binary.Uvarint(c.b[at+1:])
	return l.before + d
}
