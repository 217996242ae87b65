package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// mark is at the beginning of each group in the log, and nowhere else.
type mark struct {
	process [8]byte // random, another for each opening of the store
	number  uint64  // of the group
	synced  uint64  // the last group before it that was synced
}

const markSize = 24

// marks makes them.
type marks struct {
	process        [8]byte
	number, synced uint64
}

// put begins a batch with the next mark. The caller holds the engine's mu.
func (m *marks) put(b *pebble.Batch) (number uint64) {
	m.number++
	v := append(make([]byte, 0, markSize), m.process[:]...)
	v = binary.LittleEndian.AppendUint64(v, m.number)
	b.LogData(binary.LittleEndian.AppendUint64(v, m.synced), nil)
	return m.number
}

// parseMark reads the mark at the beginning of a record, behind the header of
// the batch (12 bytes), the kind of the entry and its length.
func parseMark(record []byte) (m mark, ok bool) {
	const logData = 3
	if len(record) < 14+markSize || record[12] != logData || record[13] != markSize {
		return m, false
	}
	v := record[14:]
	copy(m.process[:], v)
	m.number, m.synced = binary.LittleEndian.Uint64(v[8:]), binary.LittleEndian.Uint64(v[16:])
	return m, true
}

// The form of the logs: blocks of 32 KiB with chunks that do not cross them. A
// chunk is a checksum (4 bytes), the length of its payload (2), a type (1), in a
// write-ahead log its number (4), and, but for the first one of a store, up to
// where the log was synced (8); then the payload. The checksum is over all from
// the type on. All numbers are little-endian.
const (
	logBlock    = 32 << 10
	plainHeader = 7  // types 1 to 4, of the manifest
	logHeader   = 11 // types 5 to 8
	syncHeader  = 19 // types 9 to 12
	logTypes    = 12
	endOfLog    = 5 // with the next number, and nothing else
)

// logChunk is one chunk of a log.
type logChunk struct {
	off, hdr, size int  // in its block, of its header, of all of it
	first, last    bool // of its record
	end            bool // it is the mark of a log that was closed
}

// header is the size of the header that a type has, 0: there is no such type here.
func (s *logScan) header(typ byte) int {
	switch {
	case typ == 0 || typ > logTypes || (typ < endOfLog) != s.manifest:
		return 0
	case s.manifest:
		return plainHeader
	case typ < 9:
		return logHeader
	}
	return syncHeader
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// masked is the checksum in its stored form, sum the other way round.
func masked(sum uint32) uint32 { return bits.RotateLeft32(sum, 17) + 0xa282ead8 }

// parse reads the chunk at off of a block, whatever number of a log it has. span
// is where it ends by its header, 0: that is none. ok: its checksum is right.
func (s *logScan) parse(b []byte, off int) (c logChunk, num uint32, span int, ok bool) {
	if len(b)-off < plainHeader {
		return c, 0, 0, false
	}
	h := b[off:]
	hdr, n := s.header(h[6]), int(binary.LittleEndian.Uint16(h[4:]))
	if hdr == 0 || len(h) < hdr+n {
		return c, 0, 0, false
	}
	if !s.manifest {
		num = binary.LittleEndian.Uint32(h[7:])
	}
	kind := (h[6] - 1) % 4 // full, first, middle, last
	c.off, c.hdr, c.size, c.first, c.last = off, hdr, hdr+n, kind <= 1, kind == 0 || kind == 3
	if num > s.num+1 || num == 0 && !s.manifest {
		return c, num, off + c.size, false
	}
	if h[6] == endOfLog && num == s.num+1 && n == 0 && binary.LittleEndian.Uint32(h) == 0 {
		c.end = true
		return c, s.num, off + hdr, true
	}
	return c, num, off + c.size, binary.LittleEndian.Uint32(h) == masked(crc32.Checksum(h[6:c.size], castagnoli))
}

func (c *logChunk) payload(b []byte) []byte { return b[c.off+c.hdr : c.off+c.size] }

// own reads a whole chunk of this log.
func (s *logScan) own(b []byte, off int) (c logChunk, ok bool) {
	c, num, _, ok := s.parse(b, off)
	return c, ok && num == s.num
}

// logScan is one look at a file of records.
type logScan struct {
	in       FS
	name     string
	num      uint32 // the low half of a write-ahead log's number
	manifest bool
	record   func(head []byte) // gets what each record begins with, nil: nobody does

	block   int64 // where the block that is looked at begins
	start   int64 // of the record that is not complete
	part    bool  // there is one
	head    []byte
	records int
	mark    mark // of the last record that has one
	marked  bool
	closed  bool // the mark of the end was found

	// The first place that is no whole chunk, -1: there is none.
	bad    int64
	span   int64 // where its chunk ends by its header, 0: it has none
	rest   int64 // where the last byte is that is not zero, from there on
	older  bool  // behind it are chunks of a log whose file was used again
	damage string
}

// run looks at the file from its beginning to its end.
func (s *logScan) run() error {
	f, err := s.in.Open(s.name)
	if err != nil {
		return fmt.Errorf("open %s: %w", s.name, err)
	}
	defer f.Close()
	s.bad = -1
	buf, blank := make([]byte, logBlock), make([]byte, logBlock)
	for !s.closed && s.damage == "" {
		n, err := io.ReadFull(f, buf)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("read %s at offset %d: %w", s.name, s.block, err)
		}
		switch {
		case s.bad < 0:
			s.walk(buf[:n])
		case bytes.Equal(buf[:n], blank[:n]): // room that was made in advance
		default:
			s.note(buf[:n], 0)
			s.signs(buf[:n], 0, 0)
		}
		s.block += int64(n)
		if n < logBlock {
			break
		}
	}
	return nil
}

// walk goes from chunk to chunk of a block.
func (s *logScan) walk(b []byte) {
	for off := 0; off < len(b); {
		c, ok := s.own(b, off)
		if !ok {
			if s.padding(b, off) {
				return
			}
			s.fault(b, off)
			return
		}
		if c.end {
			s.closed = true
			return
		}
		if c.first != !s.part { // not what the writer does
			s.bad, s.damage = s.block+int64(off), "its records do not follow each other"
			return
		}
		if c.first {
			s.start, s.part, s.head = s.block+int64(off), true, s.head[:0]
		}
		if len(s.head) < headMost {
			s.head = append(s.head, c.payload(b)...)
		}
		if c.last {
			s.part = false
			s.records++
			if m, ok := parseMark(s.head); ok && !s.manifest {
				s.mark, s.marked = m, true
			}
			if s.record != nil {
				s.record(s.head)
			}
		}
		off += c.size
	}
}

// headMost is how much of a record is of interest.
const headMost = 128

// padding: no chunk has room in what is left of the block.
func (s *logScan) padding(b []byte, off int) bool {
	least := syncHeader
	if s.manifest {
		least = plainHeader
	}
	return len(b) == logBlock && len(b)-off < least && zero(b[off:])
}

func zero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// fault judges the first chunk that is not whole.
func (s *logScan) fault(b []byte, off int) {
	s.bad = s.block + int64(off)
	if s.flipped(b[off:]) {
		s.damage = whatFlipped
		return
	}
	s.note(b, off)
	_, num, span, _ := s.parse(b, off)
	if span > 0 && num == s.num {
		s.span = s.block + int64(span)
	}
	s.signs(b, off+1, span)
}

// note remembers up to where there is something.
func (s *logScan) note(b []byte, off int) {
	if n := len(bytes.TrimRight(b[off:], "\x00")); n > 0 {
		s.rest = s.block + int64(off+n)
	}
}

// signs looks for whole chunks of this log behind the one that is not, from off
// on. next is where one is to be expected, but may be anywhere.
func (s *logScan) signs(b []byte, off, next int) {
	for i := off; i+plainHeader <= len(b) && s.damage == ""; {
		if s.header(b[i+6]) == 0 {
			i++
			continue
		}
		c, num, span, ok := s.parse(b, i)
		switch {
		case !ok:
			i++
			continue
		case num < s.num:
			s.older = true
		default:
			s.sign(b, &c, i == next)
		}
		i, next = span, span
	}
}

// sign draws the conclusion from a whole chunk of this log behind one that is
// not. What was written and not synced may be kept in any order when the power
// goes. But a mark that says that what came before was synced says that what is
// not whole once was; and so does the mark of the end, which is made in peace,
// and whatever follows in a manifest, each record of which is synced. What a
// message holds may look like a chunk: so it needs the number of the process,
// or to be where a chunk is expected.
func (s *logScan) sign(b []byte, c *logChunk, expected bool) {
	m, marked := mark{}, false
	if c.first {
		m, marked = parseMark(c.payload(b))
	}
	switch {
	case s.manifest, c.end && expected:
		s.damage = whatFollowed
	case !marked:
	case s.marked && m.process == s.mark.process && m.synced > s.mark.number,
		!s.marked && expected && m.synced+1 == m.number:
		s.damage = whatFollowed
	}
}

// flipped reports whether a chunk would be whole with one bit changed, or with
// another length: no crash does that.
func (s *logScan) flipped(b []byte) bool {
	if len(b) < plainHeader {
		return false
	}
	n := int(binary.LittleEndian.Uint16(b[4:]))
	typ := b[6]
	for bit := -1; bit < 8; bit++ {
		if bit >= 0 {
			typ = b[6] ^ 1<<bit
		}
		hdr := s.header(typ)
		if hdr == 0 {
			continue
		}
		if s.oneBit(b, hdr+n) {
			return true
		}
	}
	hdr := s.header(b[6])
	return hdr > 0 && hdr <= len(b) && s.numbered(b) && otherLength(b, hdr)
}

// otherLength reports whether the checksum of a chunk is right for another
// length than the one that it has.
func otherLength(b []byte, hdr int) bool {
	stored := binary.LittleEndian.Uint32(b)
	sum := crc32.Checksum(b[6:hdr], castagnoli)
	for i := hdr; masked(sum) != stored; i++ {
		if i == len(b) {
			return false
		}
		sum = crc32.Update(sum, castagnoli, b[i:i+1])
	}
	return true
}

func (s *logScan) numbered(b []byte) bool {
	return s.manifest || len(b) >= logHeader && binary.LittleEndian.Uint32(b[7:]) == s.num
}

// oneBit reports whether the checksum of a chunk of n bytes is right but for
// one bit, of its own or of what it is over.
func (s *logScan) oneBit(b []byte, n int) bool {
	if n > len(b) {
		return false
	}
	stored := binary.LittleEndian.Uint32(b)
	sum := crc32.Checksum(b[6:n], castagnoli)
	if bits.OnesCount32(stored^masked(sum)) == 1 {
		return s.numbered(b)
	}
	// A changed bit changes the checksum by an amount that depends on its place
	// only. From the last byte to the first: what was changed there so that this
	// is the difference at the end?
	var tops [256]byte // indices of castagnoli by the highest byte of the entry, another one for each
	for i, x := range castagnoli {
		tops[x>>24] = byte(i)
	}
	diff := sum ^ bits.RotateLeft32(stored-0xa282ead8, 15)
	for i := n - 1; i >= 6; i-- {
		top := tops[diff>>24]
		x := diff ^ castagnoli[top] // shifted by a byte: zero where this byte is the one
		if x == 0 && bits.OnesCount8(top) == 1 {
			return s.repaired(b[:n], i, top)
		}
		diff = x<<8 | uint32(top)
	}
	return false
}

// repaired reports whether the logChunk is one of this log with byte i changed by x.
func (s *logScan) repaired(b []byte, i int, x byte) bool {
	whole := slices.Clone(b)
	whole[i] ^= x
	c, ok := s.own(whole, 0)
	return ok && c.size == len(b)
}

// torn is what a start cuts: from where, and how many bytes of a record that is
// not complete can be told; 0: none.
func (s *logScan) torn() (from, n int64) {
	switch {
	case s.bad < 0 && s.part: // the file ends in the middle of a record
		return s.start, s.block - s.start
	case s.bad < 0:
		return 0, 0
	}
	end := s.bad
	if s.span > 0 {
		end = s.span
	} else if !s.older && s.rest > end {
		end = s.rest
	}
	if from = s.bad; s.part {
		from = s.start
	}
	return from, end - from
}

func (s *logScan) err() error {
	if s.damage == "" {
		return nil
	}
	return &DamageError{File: s.name, Offset: s.bad, What: s.damage}
}
