package disk

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
)

// Pebble reads its logs up to the first record that is not whole, and takes
// that for the end, unless it finds a sign of more. It looks for signs in later
// blocks of 32 KiB only, and not at all in the manifest; so that a flipped bit
// can cost what was acknowledged, without a word. So the files are looked at
// here before Pebble opens them: what is torn is reported, and what is damaged
// refused.

// DamageError refuses a data directory with a file that is not as it was written.
type DamageError struct {
	File   string
	Offset int64 // in bytes, of the record that cannot be read
	What   string
}

// Error implements error.
func (e *DamageError) Error() string {
	return fmt.Sprintf("%s is damaged at offset %d: %s", e.File, e.Offset, e.What)
}

// Hint says what to try.
func (e *DamageError) Hint() string {
	return "nothing was changed: copy the directory, look at the disk, ask `myelin store check`, and restore a backup"
}

// Words of a DamageError.
const (
	whatFollowed = "a record cannot be read, and what follows it says that it was on the disk"
	whatFlipped  = "one bit of a record has changed"
	whatUnended  = "a closed log has no end"
)

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
	off, size   int    // in its block
	synced      uint64 // up to where the log was on the disk before it, 0: it does not say
	first, last bool   // of its record
	end         bool   // it is the mark of a log that was closed
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
	if hdr == syncHeader {
		c.synced = binary.LittleEndian.Uint64(h[11:])
	}
	kind := (h[6] - 1) % 4 // full, first, middle, last
	c.off, c.size, c.first, c.last = off, hdr+n, kind <= 1, kind == 0 || kind == 3
	if h[6] == endOfLog && num == s.num+1 && n == 0 && binary.LittleEndian.Uint32(h) == 0 {
		c.end = true
		return c, s.num, off + hdr, true
	}
	return c, num, off + c.size, binary.LittleEndian.Uint32(h) == masked(crc32.Checksum(h[6:c.size], castagnoli))
}

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
	buf := make([]byte, logBlock)
	for !s.closed && s.damage == "" {
		n, err := io.ReadFull(f, buf)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("read %s at offset %d: %w", s.name, s.block, err)
		}
		if s.bad < 0 {
			s.walk(buf[:n])
		} else {
			s.signs(buf[:n], 0)
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
		if s.record != nil && len(s.head) < headMost {
			s.head = append(s.head, b[c.off+s.header(b[c.off+6]):c.off+c.size]...)
		}
		if c.last {
			if s.part = false; s.record != nil {
				s.record(s.head)
			}
			s.records++
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
	_, num, span, _ := s.parse(b, off)
	if span > 0 && num == s.num {
		s.span = s.block + int64(span)
		s.note(b, off)
		s.signs(b, span)
		return
	}
	s.note(b, off)
	for i := off + 1; i < len(b) && s.damage == ""; i++ { // where the next one begins cannot be told
		if s.header(typeAt(b, i)) == 0 {
			continue
		}
		if c, num, _, ok := s.parse(b, i); ok && num == s.num {
			s.sign(&c)
		} else if ok && num < s.num {
			s.older = true
		}
	}
}

func typeAt(b []byte, off int) byte {
	if off+6 < len(b) {
		return b[off+6]
	}
	return 0
}

// note remembers up to where there is something.
func (s *logScan) note(b []byte, off int) {
	if n := len(bytes.TrimRight(b[off:], "\x00")); n > 0 {
		s.rest = s.block + int64(off+n)
	}
}

// signs looks for chunks behind the one that is not whole.
func (s *logScan) signs(b []byte, off int) {
	if off == 0 {
		s.note(b, 0)
	}
	for off < len(b) && s.damage == "" {
		c, num, span, ok := s.parse(b, off)
		if !ok {
			return
		}
		switch {
		case num == s.num:
			s.sign(&c)
		case num < s.num:
			s.older = true
		}
		off = span
	}
}

// sign draws the conclusion from a whole chunk of this log behind one that is
// not. In a crash what was written and not synced may be kept in any order; but
// a chunk that says that all before it was synced, the mark of the end, which
// is made in peace, and whatever follows in a manifest, each record of which is
// synced, say that what is not whole once was.
func (s *logScan) sign(c *logChunk) {
	if at := s.block + int64(c.off); s.manifest || c.end || int64(c.synced) > s.bad && int64(c.synced) <= at {
		s.damage = whatFollowed
	}
}

// flipped reports whether a chunk would be whole with one bit changed: no crash
// does that.
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
		for i := 0; bit < 0 && i < 16; i++ { // the length itself
			k := hdr + (n ^ 1<<i)
			if k <= len(b) && binary.LittleEndian.Uint32(b) == masked(crc32.Checksum(b[6:k], castagnoli)) && s.numbered(b) {
				return true
			}
		}
	}
	return false
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

// inspect looks at the manifest and at the logs that will be read, and reports
// what is cut. It changes nothing but for a log without a single record.
func (e *Engine) inspect() error {
	desc, err := pebble.Peek(e.o.Dir, e.o.FS)
	if err != nil {
		return fmt.Errorf("look at the directory: %w", err)
	}
	if !desc.Exists {
		return nil
	}
	least := uint64(0)
	m := &logScan{in: e.o.FS, name: desc.ManifestFilename, manifest: true, record: func(head []byte) {
		if n := firstLog(head); n > 0 {
			least = n
		}
	}}
	if err := m.run(); err != nil {
		return err
	}
	if m.records == 0 && m.damage == "" {
		m.bad, m.damage = 0, "it has no record"
	}
	if err := m.err(); err != nil {
		return err
	}
	e.sayCut(m, "a record of the manifest was torn and is cut")
	logs, err := e.logs(least)
	if err != nil {
		return err
	}
	for i, n := range logs {
		if err := e.inspectLog(n, i == len(logs)-1); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) inspectLog(n uint64, last bool) error {
	s := &logScan{in: e.o.FS, name: e.o.FS.PathJoin(e.o.Dir, logName(n)), num: uint32(n)}
	if err := s.run(); err != nil {
		return err
	}
	if err := s.err(); err != nil {
		return err
	}
	switch {
	case s.closed:
		return nil
	case last:
		e.sayCut(s, "a record of the log was torn and is cut")
		return nil
	case s.records == 0:
		return nil
	}
	if s.bad < 0 {
		s.bad = s.block
	}
	return &DamageError{File: s.name, Offset: s.bad, What: whatUnended}
}

// sayCut reports what is torn, if anything is.
func (e *Engine) sayCut(s *logScan, what string) {
	if from, n := s.torn(); n > 0 {
		e.log.Warn(what, "file", s.name, "offset", from, "bytes", n)
	}
}

func logName(n uint64) string { return fmt.Sprintf("%06d.log", n) }

// logs are the numbers of the write-ahead logs from one on, in their order.
func (e *Engine) logs(least uint64) (all []uint64, err error) {
	names, err := e.o.FS.List(e.o.Dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", e.o.Dir, err)
	}
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, ".log")
		if n, err := strconv.ParseUint(digits, 10, 64); ok && err == nil && n >= least {
			all = append(all, n)
		}
	}
	slices.SortFunc(all, cmp.Compare[uint64])
	return all, nil
}

// firstLog is the number of the first log that is still needed, as the record
// of a manifest says that begins with head; 0: it does not.
func firstLog(head []byte) uint64 {
	const comparer, log = 1, 2 // the fields that come first
	r := reader{b: head}
	field := r.uint()
	if field == comparer {
		r.bytes(r.count())
		field = r.uint()
	}
	if field != log {
		return 0
	}
	if n := r.uint(); !r.bad {
		return n
	}
	return 0
}

// corrupt takes Pebble's word that a file is damaged. What was being read fails
// by itself; the rest goes on.
func (e *Engine) corrupt(i pebble.DataCorruptionInfo) {
	e.log.Error("a file of the store is damaged", "file", i.Path, "keys", i.Bounds.String(), "err", i.Details)
}
