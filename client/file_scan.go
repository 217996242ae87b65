package client

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// recover reads the log, if there is one. Without one there is no f.log.
func (f *File) recover() error {
	log, err := f.in.open(logName, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	f.log = log
	size, err := log.Size()
	if err != nil {
		return err
	}
	s := logScan{w: window{f: log}, size: size}
	if err := s.run(); err != nil {
		return f.named(err)
	}
	f.key, f.size, f.state = s.key, s.off, s.state
	f.cut = size - s.off
	f.clean = s.closed && f.cut == 0
	return nil
}

// logScan reads a log from its beginning to its end.
type logScan struct {
	w      window
	size   int64 // of the file
	off    int64 // behind the last good group
	key    logKey
	state  index
	closed bool // the last good group says that the log was closed
}

func (s *logScan) run() error {
	b, err := s.w.bytes(0, int(min(s.size, logHeader)))
	if err != nil {
		return err
	}
	if s.key, err = parseHeader(b); err != nil {
		return err
	}
	s.off = logHeader
	for s.off < s.size {
		records, ok, err := s.group()
		if err != nil {
			return err
		}
		if !ok {
			return s.torn()
		}
		if err := s.apply(records); err != nil {
			return err
		}
		s.closed = len(records) == 0
		s.off += groupHeader + int64(len(records))
	}
	return nil
}

// group reads the records of the group at off. ok: it is what was written.
func (s *logScan) group() (records []byte, ok bool, err error) {
	room := s.size - s.off - groupHeader
	if room < 0 {
		return nil, false, nil
	}
	b, err := s.w.bytes(s.off, groupHeader)
	if err != nil {
		return nil, false, err
	}
	n, sum, ok := s.key.parseGroup(b, s.off)
	if !ok || n > room {
		return nil, false, nil
	}
	if b, err = s.w.bytes(s.off+groupHeader, int(n)); err != nil {
		return nil, false, err
	}
	return b, checksum(0, b) == sum, nil
}

// apply applies the records of the group at off.
func (s *logScan) apply(records []byte) error {
	for i := 0; i < len(records); {
		at := s.off + groupHeader + int64(i)
		r, n, err := parseRecord(records[i:])
		if err != nil {
			return &FileDamageError{Offset: at, Reason: err.Error()}
		}
		s.state.apply(&r, at+int64(n-len(r.Packet)))
		i += n
	}
	return nil
}

// torn is called where the bytes at off are no group. A group is begun when the
// one before it is on the disk: where there is one behind off, what was there
// is damaged. Otherwise it was never finished.
func (s *logScan) torn() error {
	mark := binary.LittleEndian.AppendUint32(nil, s.key.mark)
	for off := s.off + 1; off <= s.size-groupHeader; {
		b, err := s.w.bytes(off, int(min(s.size-off, windowSize)))
		if err != nil {
			return err
		}
		i := bytes.Index(b, mark)
		switch {
		case i < 0:
			off += int64(len(b) - len(mark) + 1)
			continue
		case len(b)-i >= groupHeader:
			if _, _, ok := s.key.parseGroup(b[i:], off+int64(i)); ok {
				return &FileDamageError{Offset: s.off, Reason: fmt.Sprintf("what was committed here is not what is here, and there is more at byte %d", off+int64(i))}
			}
			i++
		}
		off += int64(i) // at a mark near the end of the window, or behind one
	}
	return nil
}

const windowSize = 64 << 10

// window reads a file in pieces of windowSize, or longer ones if it must.
type window struct {
	f   io.ReaderAt
	b   []byte
	off int64 // of b
}

// bytes are the n bytes at off, until the next call.
func (w *window) bytes(off int64, n int) ([]byte, error) {
	if i := off - w.off; i >= 0 && i+int64(n) <= int64(len(w.b)) {
		return w.b[i : i+int64(n)], nil
	}
	want := max(n, windowSize)
	if cap(w.b) < want || want == windowSize && cap(w.b) > keepBuffer {
		w.b = make([]byte, want)
	}
	got, err := w.f.ReadAt(w.b[:want], off)
	w.b, w.off = w.b[:got], off
	if got >= n {
		return w.b[:n], nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return nil, fmt.Errorf("read session: %w", err)
}
