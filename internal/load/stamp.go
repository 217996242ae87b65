package load

import "encoding/binary"

// HeaderSize is the least payload, in bytes: what each message has to carry.
const HeaderSize = 28

// stamp is the head of each payload.
type stamp struct {
	run    uint32 // which run sent it: others' messages are no faults of this one
	stream uint32 // publisher and topic
	seq    uint64 // its number in the stream; 48 bits travel
	due    int64  // when it was due, in nanoseconds on the run's clock
	waited int64  // how much later it was given to the client, in nanoseconds; 48 bits travel
}

const max48 = 1<<48 - 1

// put writes it to the beginning of a payload of at least HeaderSize bytes.
func (s stamp) put(b []byte) {
	_ = b[HeaderSize-1]
	binary.BigEndian.PutUint32(b, s.run)
	binary.BigEndian.PutUint32(b[4:], s.stream)
	put48(b[8:], s.seq)
	binary.BigEndian.PutUint64(b[14:], uint64(s.due))
	put48(b[22:], uint64(min(max(s.waited, 0), max48)))
}

// readStamp reads it; ok is false where the payload is too short.
func readStamp(b []byte) (s stamp, ok bool) {
	if len(b) < HeaderSize {
		return s, false
	}
	return stamp{
		run:    binary.BigEndian.Uint32(b),
		stream: binary.BigEndian.Uint32(b[4:]),
		seq:    get48(b[8:]),
		due:    int64(binary.BigEndian.Uint64(b[14:])),
		waited: int64(get48(b[22:])),
	}, true
}

func put48(b []byte, v uint64) {
	binary.BigEndian.PutUint16(b, uint16(v>>32))
	binary.BigEndian.PutUint32(b[2:], uint32(v))
}

func get48(b []byte) uint64 {
	return uint64(binary.BigEndian.Uint16(b))<<32 | uint64(binary.BigEndian.Uint32(b[2:]))
}
