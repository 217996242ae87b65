package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
)

// The last byte of a message's key: the record of a group's targets stands in
// front of its first message.
const (
	kindTargets = 0
	kindMessage = 1
)

// errShort says that a record ends too early, or holds what it cannot.
var errShort = errors.New("damaged record")

func appendMessageKey(dst []byte, lsn uint64, kind byte) []byte {
	return append(binary.BigEndian.AppendUint64(append(dst, 'm'), lsn), kind)
}

func messageKey(lsn uint64, kind byte) []byte { return appendMessageKey(nil, lsn, kind) }

func sidKey(prefix byte, sid uint64) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, 32), prefix), sid)
}

func idKey(prefix byte, sid uint64, id uint16) []byte {
	return binary.BigEndian.AppendUint16(sidKey(prefix, sid), id)
}

func filterKey(sid uint64, filter string) []byte { return append(sidKey('u', sid), filter...) }

func retainedKey(name []byte) []byte { return append([]byte{'r'}, name...) }

// messageHead is what stands in front of a message's packet: version, second.
const messageHead = 5

func messageSize(m *packet.Publish) int { return messageHead + len(m.Bytes()) }

func appendMessage(dst []byte, m *packet.Publish) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, byte(m.Version())), m.At)
	return append(dst, m.Bytes()...)
}

// parseMessage reads a message; it copies v.
func parseMessage(v []byte) (*packet.Publish, error) {
	if len(v) < messageHead {
		return nil, errShort
	}
	b := append(make([]byte, 0, len(v)-messageHead), v[messageHead:]...)
	n, hdr, err := packet.Frame(b, math.MaxInt32)
	switch {
	case err != nil:
		return nil, fmt.Errorf("damaged message: %w", err)
	case n != len(b) || packet.FrameType(b) != packet.PUBLISH:
		return nil, errShort
	}
	if i := hdr + 2; b[0]&6 != 0 && len(b) >= i {
		if i += int(binary.BigEndian.Uint16(b[hdr:])); len(b) >= i+2 { // what nobody sent has none
			binary.BigEndian.PutUint16(b[i:], max(1, binary.BigEndian.Uint16(b[i:])))
		}
	}
	m := new(packet.Publish)
	if err := m.Parse(b, hdr, packet.Version(v[0])); err != nil {
		return nil, fmt.Errorf("damaged message: %w", err)
	}
	m.At = binary.BigEndian.Uint32(v[1:])
	return m, nil
}

// size is what a message counts against limits.
func size(m *packet.Publish) int64 { return int64(len(m.Topic()) + len(m.Payload())) }

// appendTargets writes the record of a group's targets: how many numbers the
// group has, and each message that is needed.
func (g *group) appendTargets(b []byte, live []uint32) []byte {
	b = binary.AppendUvarint(b, uint64(len(g.entries)))
	b = binary.AppendUvarint(b, uint64(len(live)))
	for _, i := range live {
		x := &g.entries[i]
		b = appendTargets(b, uint64(i), uint32(size(x.m)), g.targets[x.t0:x.t1])
	}
	return b
}

// appendTargets writes a message's part of it: place, size and targets.
func appendTargets(b []byte, place uint64, size uint32, to []target) []byte {
	b = binary.AppendUvarint(b, place)
	b = binary.AppendUvarint(b, uint64(size))
	b = binary.AppendUvarint(b, uint64(len(to)))
	for i := range to {
		b = to[i].append(b)
	}
	return b
}

// eachTarget reads a record of targets: place is a message's place in the
// group, n how many numbers the group has.
func eachTarget(v []byte, f func(place uint64, size uint32, sid uint64, h how)) (n uint64, err error) {
	r := reader{b: v}
	n = r.uint()
	for range r.count() {
		place := r.uint()
		size := uint32(r.uint())
		for range r.count() {
			sid, h := r.target()
			if !r.bad {
				f(place, size, sid, h)
			}
		}
	}
	if r.bad {
		return 0, errShort
	}
	return n, nil
}

func (t *target) append(b []byte) []byte {
	b = binary.AppendUvarint(append(b, t.head()), t.q.sid)
	return t.appendSubs(b)
}

// reader takes a record apart; after a fault it gives zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uint() uint64 {
	x, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return x
}

// count is a number of things of which each takes a byte at least.
func (r *reader) count() int {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(n)
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	x := r.b[0]
	r.b = r.b[1:]
	return x
}

func (r *reader) bytes(n int) []byte {
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	x := r.b[:n]
	r.b = r.b[n:]
	return x
}

// target reads one target; its session is found by its number.
func (r *reader) target() (sid uint64, t how) {
	head := r.byte()
	t.setHead(head)
	sid = r.uint()
	t.readSubs(head, r)
	return sid, t
}

// span is a run of numbers, both ends included.
type span struct{ first, last uint64 }

// appendCursor writes how far a session has come: everything up to a number is
// finished, and some runs beyond it. The caller holds the engine's lock.
func (q *queue) appendCursor(b []byte) []byte {
	last := q.floor() - 1
	b = binary.AppendUvarint(b, last)
	if q.w == nil {
		return b
	}
	for _, x := range q.w.given[q.w.begin:] {
		if x.done && x.lsn > last {
			b = binary.AppendUvarint(b, x.lsn-last)
			b = binary.AppendUvarint(b, x.end-x.lsn)
			last = x.end
		}
	}
	return b
}

// parseCursor reads a cursor: everything up to last is finished, and what is in
// the spans.
func parseCursor(v []byte) (last uint64, beyond []span, err error) {
	r := reader{b: v}
	last = r.uint()
	at := last
	for len(r.b) > 0 {
		s := span{first: at + r.uint()}
		s.last = s.first + r.uint()
		at = s.last
		beyond = append(beyond, s)
	}
	if r.bad {
		return 0, nil, errShort
	}
	return last, beyond, nil
}

// The bits of a session's record.
const (
	sessionWill  = 1
	sessionArmed = 2
)

// appendRecord writes the session itself.
func (q *queue) appendRecord(b []byte) []byte {
	var bits byte
	if q.will() != nil {
		bits |= sessionWill
	}
	if q.armed {
		bits |= sessionArmed
	}
	b = append(b, bits)
	b = binary.AppendUvarint(b, uint64(q.expiry))
	b = binary.AppendUvarint(b, uint64(q.detached))
	b = binary.AppendUvarint(b, uint64(q.size))
	b = append(b, q.ClientID()...)
	if q.will() != nil {
		b = binary.AppendUvarint(b, uint64(q.will().Delay))
		b = appendMessage(b, q.will().Msg)
	}
	return b
}

func (q *queue) parseRecord(v []byte) error {
	r := reader{b: v}
	bits := r.byte()
	q.expiry, q.detached = uint32(r.uint()), uint32(r.uint())
	q.setID(string(r.bytes(r.count())))
	q.armed = bits&sessionArmed != 0
	if bits&sessionWill != 0 && !r.bad {
		delay := uint32(r.uint())
		m, err := parseMessage(r.b)
		if err != nil {
			return err
		}
		q.setWill(&store.Will{Msg: m, Delay: delay})
	}
	if r.bad {
		return errShort
	}
	return nil
}
