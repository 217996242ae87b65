package client

import (
	"cmp"
	"math/bits"
	"slices"
)

// index is a State without its packets: where they are in the log.
type index struct {
	client string
	next   uint64
	out    []entry  // in the order of seq
	in     []uint16 // ascending
	bytes  int64    // what out takes as records
}

// entry is a Kept whose packet is in the log.
type entry struct {
	seq      uint64
	off      int64  // of the packet
	size     uint32 // of the packet
	sum      uint32 // of the packet
	at       uint32
	id       uint16
	released bool
}

// apply does what State.Apply does. off is where the record's packet is.
func (x *index) apply(r *Record, off int64) {
	at, found := slices.BinarySearchFunc(x.out, r.Seq, func(e entry, seq uint64) int { return cmp.Compare(e.seq, seq) })
	switch r.Kind {
	case RecordMessage:
		if !found {
			e := entry{seq: r.Seq, off: off, size: uint32(len(r.Packet)), sum: checksum(0, r.Packet), at: r.At}
			x.out = slices.Insert(x.out, at, e)
			x.bytes += e.bytes()
			x.next = max(x.next, r.Seq+1)
		}
	case RecordSent:
		if found {
			x.change(at, func(e *entry) { e.id = r.ID })
		}
	case RecordReleased:
		if found {
			x.change(at, func(e *entry) { e.released, e.size = true, 0 })
		}
	case RecordDone:
		if found {
			x.bytes -= x.out[at].bytes()
			x.out = deleteAt(x.out, at)
		}
	case RecordReceived:
		x.in = insertID(x.in, r.ID)
	case RecordForgotten:
		x.in = deleteID(x.in, r.ID)
	case RecordSession:
		x.client, x.in, x.bytes = r.ClientID, nil, 0
		x.out = slices.DeleteFunc(x.out, func(e entry) bool { return e.released })
		for i := range x.out {
			x.out[i].id = 0
			x.bytes += x.out[i].bytes()
		}
	case recordNext:
		x.next = max(x.next, r.Seq)
	}
}

func (x *index) change(at int, f func(*entry)) {
	e := &x.out[at]
	x.bytes -= e.bytes()
	f(e)
	x.bytes += e.bytes()
}

// live is how long a log is that has this state and nothing else, but for a
// group header now and then.
func (x *index) live() int64 {
	return logHeader + groupHeader + 1 + uvarintLen(x.next) + 1 + uvarintLen(uint64(len(x.client))) + int64(len(x.client)) + int64(3*len(x.in)) + x.bytes
}

// bytes is what e takes as records: the message, its identifier, its release.
func (e *entry) bytes() int64 {
	seq := uvarintLen(e.seq)
	n := 1 + seq + uvarintLen(uint64(e.at)) + uvarintLen(uint64(e.size)) + int64(e.size)
	if e.id != 0 {
		n += 1 + 2 + seq
	}
	if e.released {
		n += 1 + seq
	}
	return n
}

func uvarintLen(v uint64) int64 { return int64(bits.Len64(v|1)+6) / 7 }

// packet reads e's packet, which is good until w reads again.
func (e *entry) packet(w *window) ([]byte, error) {
	p, err := w.bytes(e.off, int(e.size))
	if err != nil {
		return nil, err
	}
	if checksum(0, p) != e.sum {
		return nil, &FileDamageError{Offset: e.off, Reason: "a message is not what was written"}
	}
	return p, nil
}
