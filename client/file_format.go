package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// The form of the log. It begins with
//
//	magic (8 bytes), version (4), mark (4), seed (4), checksum of all that (4)
//
// where mark and seed are random, and others in each file. Then come groups, one
// for each Commit:
//
//	mark (4), length of the records (4), their checksum (4), checksum of this header (4), records
//
// The header's checksum is of the seed and of where the group stands, too: the
// bytes of a log that somebody sends as a message are no group. A group without
// records says that the log was closed. A record is its kind (1 byte) and, as
// the kind has them and in this order,
//
//	ID (2), Seq (varint), At (varint), the length (varint) of the packet or client identifier that ends it
//
// Numbers are little-endian, checksums are CRC-32C.
const (
	logMagic   = "MYELINCS"
	logVersion = 1
	logHeader  = 24

	groupHeader = 16
	// maxGroup is the size from which on a group takes no more records.
	maxGroup = 16 << 20
	// maxPacket is the longest packet there can be, with its fixed header.
	maxPacket = 5 + 268_435_455
	maxClient = math.MaxUint16
	// maxRecords is the longest that the records of a group can be.
	maxRecords = maxGroup + maxPacket + 32

	// keepBuffer is the largest buffer that is kept for the next Commit.
	keepBuffer = 1 << 20
)

// recordNext is a kind of record that only the log has: Seq is State.Next.
const recordNext = RecordKind(255)

// What a kind of record has.
const (
	hasID = 1 << iota
	hasSeq
	hasPacket // and At
	hasClient
)

// fields are those of a kind, 0: there is no such kind.
func (k RecordKind) fields() int {
	switch k {
	case RecordMessage:
		return hasSeq | hasPacket
	case RecordSent:
		return hasID | hasSeq
	case RecordReleased, RecordDone, recordNext:
		return hasSeq
	case RecordReceived, RecordForgotten:
		return hasID
	case RecordSession:
		return hasClient
	}
	return 0
}

// check refuses what no session has.
func (r *Record) check() error {
	switch {
	case r.Kind < RecordMessage || r.Kind > RecordSession:
		return fmt.Errorf("no such kind of record: %d", r.Kind)
	case len(r.Packet) > maxPacket:
		return fmt.Errorf("the packet of message %d is longer than a packet can be: %d bytes", r.Seq, len(r.Packet))
	case len(r.ClientID) > maxClient:
		return fmt.Errorf("the client identifier is longer than one can be: %d bytes", len(r.ClientID))
	}
	return nil
}

// appendRecord appends r. Its packet is at the end.
func appendRecord(b []byte, r *Record) []byte {
	has := r.Kind.fields()
	b = append(b, byte(r.Kind))
	if has&hasID != 0 {
		b = binary.LittleEndian.AppendUint16(b, r.ID)
	}
	if has&hasSeq != 0 {
		b = binary.AppendUvarint(b, r.Seq)
	}
	if has&hasPacket != 0 {
		b = binary.AppendUvarint(b, uint64(r.At))
		b = binary.AppendUvarint(b, uint64(len(r.Packet)))
		b = append(b, r.Packet...)
	}
	if has&hasClient != 0 {
		b = binary.AppendUvarint(b, uint64(len(r.ClientID)))
		b = append(b, r.ClientID...)
	}
	return b
}

var (
	errRecordKind  = errors.New("a record of an unknown kind")
	errRecordShort = errors.New("a record is cut short")
	errRecordRange = errors.New("a record with a number that is too large")
)

// parseRecord reads the record at the beginning of b, of which its packet is a
// part, and tells its length.
func parseRecord(b []byte) (r Record, size int, err error) {
	p := recordReader{b: b}
	r.Kind = RecordKind(p.bytes(1)[0])
	has := r.Kind.fields()
	if has == 0 {
		return r, 0, errRecordKind
	}
	if has&hasID != 0 {
		r.ID = binary.LittleEndian.Uint16(p.bytes(2))
	}
	if has&hasSeq != 0 {
		r.Seq = p.uvarint(math.MaxUint64)
	}
	if has&hasPacket != 0 {
		r.At = uint32(p.uvarint(math.MaxUint32))
		r.Packet = p.bytes(int(p.uvarint(maxPacket)))
	}
	if has&hasClient != 0 {
		r.ClientID = string(p.bytes(int(p.uvarint(maxClient))))
	}
	return r, len(b) - len(p.b), p.err
}

// recordReader reads from b until there is an error, and zeros after that.
type recordReader struct {
	b   []byte
	err error
}

func (p *recordReader) bytes(n int) []byte {
	if n > len(p.b) {
		p.fail(errRecordShort)
		var zeros [2]byte
		return zeros[:min(n, len(zeros))]
	}
	b := p.b[:n:n]
	p.b = p.b[n:]
	return b
}

func (p *recordReader) uvarint(most uint64) uint64 {
	v, n := binary.Uvarint(p.b)
	switch {
	case n == 0:
		p.fail(errRecordShort)
		return 0
	case n < 0 || v > most:
		p.fail(errRecordRange)
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *recordReader) fail(err error) {
	if p.err == nil {
		p.err = err
	}
	p.b = nil
}

// checksum is the CRC-32C of b behind what has the checksum before.
func checksum(before uint32, b []byte) uint32 {
	return crc32.Update(before, crc32.MakeTable(crc32.Castagnoli), b)
}

// logKey is what a log has for itself.
type logKey struct{ mark, seed uint32 }

// appendHeader appends the beginning of a log.
func (k logKey) appendHeader(b []byte) []byte {
	at := len(b)
	b = append(b, logMagic...)
	b = binary.LittleEndian.AppendUint32(b, logVersion)
	b = binary.LittleEndian.AppendUint32(b, k.mark)
	b = binary.LittleEndian.AppendUint32(b, k.seed)
	return binary.LittleEndian.AppendUint32(b, checksum(0, b[at:]))
}

// parseHeader reads the beginning of a log.
func parseHeader(b []byte) (k logKey, err error) {
	if len(b) < logHeader || string(b[:8]) != logMagic {
		return k, &FileDamageError{Reason: "it does not begin as a session does"}
	}
	// Of another version only the first 12 bytes are known.
	if v := binary.LittleEndian.Uint32(b[8:]); v != logVersion {
		return k, &FileFormatError{Version: v}
	}
	if checksum(0, b[:logHeader-4]) != binary.LittleEndian.Uint32(b[logHeader-4:]) {
		return k, &FileDamageError{Reason: "the checksum of its header is wrong"}
	}
	return logKey{mark: binary.LittleEndian.Uint32(b[12:]), seed: binary.LittleEndian.Uint32(b[16:])}, nil
}

// seal writes the header of the group b, which has room for it at its beginning
// and will stand at off.
func (k logKey) seal(b []byte, off int64) {
	records := b[groupHeader:]
	binary.LittleEndian.PutUint32(b, k.mark)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(records)))
	binary.LittleEndian.PutUint32(b[8:], checksum(0, records))
	binary.LittleEndian.PutUint32(b[12:], k.sum(b, off))
}

// sum is the checksum of the header of a group.
func (k logKey) sum(header []byte, off int64) uint32 {
	var at [8]byte
	binary.LittleEndian.PutUint64(at[:], uint64(off))
	return checksum(checksum(k.seed, at[:]), header[:groupHeader-4])
}

// parseGroup reads the header at the beginning of b, which stands at off: how
// long the records behind it are, and their checksum. ok: it is one.
func (k logKey) parseGroup(b []byte, off int64) (size int64, sum uint32, ok bool) {
	if binary.LittleEndian.Uint32(b) != k.mark || binary.LittleEndian.Uint32(b[12:]) != k.sum(b, off) {
		return 0, 0, false
	}
	size = int64(binary.LittleEndian.Uint32(b[4:]))
	return size, binary.LittleEndian.Uint32(b[8:]), size <= maxRecords
}
