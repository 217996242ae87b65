package client

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
)

// written makes a log of some commits, as a killed program leaves it, or a
// closed one. states[i] is after i commits, and ends[i] where the log ended then.
func written(t testing.TB, closed bool) (log []byte, states []State, ends []int) {
	t.Helper()
	d := newMemFolder()
	f := mustOpenLog(t, d)
	m := newModel()
	note := func() {
		states = append(states, m.state())
		ends = append(ends, len(d.bytes(logName)))
	}
	note()
	for _, rs := range [][]Record{
		{{Kind: RecordSession, ClientID: "sensor"}},
		{{Kind: RecordMessage, Seq: 1, At: 7, Packet: []byte("first")}, {Kind: RecordSent, Seq: 1, ID: 9}},
		{{Kind: RecordReceived, ID: 5}, {Kind: RecordReceived, ID: 6}},
		{{Kind: RecordMessage, Seq: 2, At: 8, Packet: bytes.Repeat([]byte("x"), 70)}},
		{{Kind: RecordReleased, Seq: 1}, {Kind: RecordForgotten, ID: 5}},
		{{Kind: RecordDone, Seq: 1}, {Kind: RecordMessage, Seq: 3, Packet: []byte("last")}},
	} {
		mustCommit(t, f, rs...)
		m.apply(rs...)
		note()
	}
	if closed {
		mustClose(t, f)
	}
	return d.bytes(logName), states, ends
}

// TestFileTorn cuts a log at each byte, and has it end in zeros or in what was
// there before: what was committed is there, and what is cut off is told.
func TestFileTorn(t *testing.T) {
	log, states, ends := written(t, true)
	states, ends = append(states, states[len(states)-1]), append(ends, len(log))
	garbage := bytes.Repeat([]byte{0xA5, 0x5A, 0x00}, 50)
	for at := ends[0]; at <= len(log); at++ {
		for _, tail := range [][]byte{nil, {0}, make([]byte, 3), make([]byte, 200), garbage} {
			b := append(bytes.Clone(log[:at]), tail...)
			same := at // the tail may happen to go on as the log did
			for same < min(len(b), len(log)) && b[same] == log[same] {
				same++
			}
			whole := 0
			for whole+1 < len(ends) && ends[whole+1] <= same {
				whole++
			}
			d := newMemFolder()
			d.put(logName, b)
			f, err := openLog(d, FileOptions{})
			if err != nil {
				t.Fatalf("cut at %d, %d bytes behind: %v", at, len(tail), err)
			}
			if diff := diffState(states[whole], mustLoad(t, f)); diff != "" {
				t.Fatalf("cut at %d, %d bytes behind: %s", at, len(tail), diff)
			}
			if want := int64(len(b) - ends[whole]); f.Cut() != want {
				t.Fatalf("cut at %d, %d bytes behind: %d are told, want %d", at, len(tail), f.Cut(), want)
			}
			mustCommit(t, f, Record{Kind: RecordReceived, ID: 77})
			mustClose(t, f)
			f = mustOpenLog(t, d)
			m := newModel()
			m.client, m.next = states[whole].ClientID, states[whole].Next
			for _, k := range states[whole].Out {
				m.out[k.Seq] = k
			}
			for _, id := range states[whole].In {
				m.in[id] = true
			}
			m.in[77] = true
			if diff := diffState(m.state(), mustLoad(t, f)); diff != "" || f.Cut() != 0 {
				t.Fatalf("cut at %d, then a commit: %s", at, diff)
			}
		}
	}
}

// TestFileDamage changes each bit of a log that was closed, and clears some
// bytes: it is refused, and nothing of it changed.
func TestFileDamage(t *testing.T) {
	log, _, _ := written(t, true)
	f := func(what string, at int, b []byte) {
		t.Helper()
		d := newMemFolder()
		d.put(logName, b)
		_, err := openLog(d, FileOptions{})
		var damage *FileDamageError
		var format *FileFormatError
		switch {
		case errors.As(err, &format) && at >= 8 && at < 12:
		case !errors.As(err, &damage):
			t.Fatalf("%s: %v", what, err)
		case damage.File != "mem/session":
			t.Fatalf("%s: %v names another file", what, err)
		case at < logHeader && damage.Offset != 0 || damage.Offset > int64(at):
			t.Fatalf("%s: %v", what, err)
		}
		if !bytes.Equal(d.bytes(logName), b) {
			t.Fatalf("%s: what is damaged was changed", what)
		}
	}
	last := len(log) - groupHeader // of what says that it was closed
	for at := range last {
		for bit := range 8 {
			b := bytes.Clone(log)
			b[at] ^= 1 << bit
			f(fmt.Sprintf("bit %d of byte %d", bit, at), at, b)
		}
	}
	for at := 0; at+32 <= last; at += 16 {
		b := bytes.Clone(log)
		clear(b[at : at+32])
		f(fmt.Sprintf("zeros at %d", at), at, b)
	}
}

// TestFileEndDamaged: bytes of the last commit of a program that was killed are
// not there as they were written. It could be a commit that never ended, so
// that it is cut off.
func TestFileEndDamaged(t *testing.T) {
	log, states, ends := written(t, false)
	n := len(ends) - 2
	for at := ends[n]; at < len(log); at++ {
		b := bytes.Clone(log)
		b[at] ^= 0x10
		d := newMemFolder()
		d.put(logName, b)
		f := mustOpenLog(t, d)
		if diff := diffState(states[n], mustLoad(t, f)); diff != "" || f.Cut() != int64(len(log)-ends[n]) {
			t.Fatalf("byte %d: %d cut, %s", at, f.Cut(), diff)
		}
	}
	log, states, _ = written(t, true)
	for at := len(log) - groupHeader; at < len(log); at++ {
		b := bytes.Clone(log)
		b[at] ^= 0x10
		d := newMemFolder()
		d.put(logName, b)
		f := mustOpenLog(t, d)
		if diff := diffState(states[len(states)-1], mustLoad(t, f)); diff != "" || f.Cut() != groupHeader {
			t.Fatalf("byte %d of a log that was closed: %d cut, %s", at, f.Cut(), diff)
		}
	}
}

// TestFileLogAsMessage: the bytes of a log in a commit that never ended are
// messages, and no groups.
func TestFileLogAsMessage(t *testing.T) {
	d := newMemFolder()
	f := mustOpenLog(t, d)
	mustCommit(t, f, Record{Kind: RecordReceived, ID: 1})
	mustCommit(t, f, Record{Kind: RecordReceived, ID: 2})
	want := mustLoad(t, f)
	before := len(d.bytes(logName))
	mustCommit(t, f, Record{Kind: RecordMessage, Seq: 1, Packet: bytes.Repeat(d.bytes(logName), 3000)})
	torn := d.bytes(logName)
	for _, n := range []int{100, 70_000, 1} {
		d := newMemFolder()
		d.put(logName, torn[:len(torn)-n])
		f := mustOpenLog(t, d)
		if diff := diffState(want, mustLoad(t, f)); diff != "" || f.Cut() != int64(len(torn)-n-before) {
			t.Errorf("%d bytes cut: %s", f.Cut(), diff)
		}
	}
}

// TestFileFarGroup: the group that proves damage is found wherever it is in
// what is read at a time.
func TestFileFarGroup(t *testing.T) {
	for _, n := range []int{1, windowSize - 100, windowSize, windowSize + 17, 3*windowSize - 60} {
		for more := range 80 {
			d := newMemFolder()
			f := mustOpenLog(t, d)
			at := f.size
			mustCommit(t, f, Record{Kind: RecordMessage, Seq: 1, Packet: make([]byte, n+more)})
			mustCommit(t, f, Record{Kind: RecordReceived, ID: 1})
			b := d.bytes(logName)
			b[at]++
			d.put(logName, b)
			_, err := openLog(d, FileOptions{})
			var damage *FileDamageError
			if !errors.As(err, &damage) || damage.Offset != at {
				t.Fatalf("a message of %d bytes: %v", n+more, err)
			}
		}
	}
}

// TestFilePacketDamaged: a message that changes on the disk while the File is
// open is neither loaded nor written into a new log.
func TestFilePacketDamaged(t *testing.T) {
	d := newMemFolder()
	f := mustOpenLog(t, d)
	mustCommit(t, f, Record{Kind: RecordMessage, Seq: 1, Packet: []byte("abcdefgh")})
	b := d.bytes(logName)
	b[len(b)-1]++
	d.put(logName, b)
	var damage *FileDamageError
	if _, err := f.Load(); !errors.As(err, &damage) || damage.Offset != int64(len(b)-8) {
		t.Errorf("Load: %v", err)
	}
	var err error
	for i := uint64(2); err == nil && i < 100; i++ {
		err = f.Commit([]Record{{Kind: RecordMessage, Seq: i, Packet: make([]byte, 100_000)}, {Kind: RecordDone, Seq: i}})
	}
	if !errors.As(err, &damage) {
		t.Errorf("Commit: %v", err)
	}
	if err2 := f.Commit(nil); err2 != err {
		t.Errorf("after %v: %v", err, err2)
	}
}

// TestFileBounds: no number is taken that is longer than what it is of can be.
func TestFileBounds(t *testing.T) {
	long := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}
	record := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	kind := func(k RecordKind) []byte { return []byte{byte(k)} }
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"nothing":          {nil, errRecordKind},
		"no kind":          {[]byte{0, 1, 2}, errRecordKind},
		"no such kind":     {kind(RecordSession + 1), errRecordKind},
		"no ID":            {[]byte{byte(RecordReceived), 1}, errRecordShort},
		"no Seq":           {[]byte{byte(RecordDone)}, errRecordShort},
		"half a Seq":       {[]byte{byte(RecordDone), 0x80}, errRecordShort},
		"the longest Seq":  {record(kind(RecordDone), long), nil},
		"Seq too long":     {record(kind(RecordDone), long[:9], []byte{2}), errRecordRange},
		"the latest At":    {record(kind(RecordMessage), []byte{1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0}), nil},
		"At too late":      {record(kind(RecordMessage), []byte{1, 0x80, 0x80, 0x80, 0x80, 0x10, 0}), errRecordRange},
		"half a packet":    {[]byte{byte(RecordMessage), 1, 1, 2, 'a'}, errRecordShort},
		"packet too long":  {record(kind(RecordMessage), []byte{1, 1}, long), errRecordRange},
		"client too long":  {record(kind(RecordSession), []byte{0x80, 0x80, 0x04}, make([]byte, 65536)), errRecordRange},
		"half a client":    {[]byte{byte(RecordSession), 2, 'a'}, errRecordShort},
		"more behind that": {[]byte{byte(RecordSession), 1, 'a', 'b'}, nil},
	} {
		if _, _, err := parseRecord(c.b); err != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	key := logKey{mark: 1, seed: 2}
	for size, want := range map[uint32]bool{0: true, maxRecords: true, maxRecords + 1: false, 1<<32 - 1: false} {
		b := make([]byte, groupHeader)
		binary.LittleEndian.PutUint32(b, key.mark)
		binary.LittleEndian.PutUint32(b[4:], size)
		binary.LittleEndian.PutUint32(b[12:], key.sum(b, 99))
		if _, _, ok := key.parseGroup(b, 99); ok != want {
			t.Errorf("a group of %d bytes is taken: %v", size, ok)
		}
		if _, _, ok := key.parseGroup(b, 98); ok {
			t.Errorf("a group of %d bytes is taken where it does not belong", size)
		}
	}
}

// FuzzFileLog opens any bytes as a log, as they are and behind a good header:
// it neither panics nor takes more memory than there are bytes, and what it
// takes for good it finds again.
func FuzzFileLog(f *testing.F) {
	log, _, ends := written(f, true)
	f.Add(log)
	f.Add(log[ends[0]:])
	f.Add(log[:len(log)-5])
	f.Add([]byte{byte(RecordMessage), 1, 0, 0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte{byte(RecordSession), 3, 'a', 'b', 'c', byte(recordNext), 9})
	key := logKey{mark: 0x12345678, seed: 42}
	f.Fuzz(func(t *testing.T, b []byte) {
		group := append(make([]byte, groupHeader), b...)
		key.seal(group, logHeader)
		for _, log := range [][]byte{b, append(key.appendHeader(nil), b...), append(key.appendHeader(nil), group...)} {
			d := newMemFolder()
			d.put(logName, log)
			s, err := openLog(d, FileOptions{})
			if err != nil {
				var damage *FileDamageError
				var format *FileFormatError
				if !errors.As(err, &damage) && !errors.As(err, &format) {
					t.Fatal(err)
				}
				continue
			}
			if n := cap(s.state.out)*48 + cap(s.state.in)*2; n > 64*len(log)+1024 {
				t.Fatalf("%d bytes of memory for %d of a log", n, len(log))
			}
			want := mustLoad(t, s)
			mustClose(t, s)
			if diff := diffState(want, mustLoad(t, mustOpenLog(t, d))); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

// FuzzRecord: what is read of a record is written as it was.
func FuzzRecord(f *testing.F) {
	f.Add(appendRecord(nil, &Record{Kind: RecordMessage, Seq: 300, At: 5, Packet: []byte("abc")}))
	f.Add(appendRecord(nil, &Record{Kind: RecordSent, Seq: 1, ID: 2}))
	f.Add(appendRecord(nil, &Record{Kind: RecordSession, ClientID: "a"}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, n, err := parseRecord(b)
		if err != nil {
			return
		}
		if n < 1 || n > len(b) {
			t.Fatalf("%d of %d bytes", n, len(b))
		}
		again, _, err := parseRecord(appendRecord(nil, &r))
		if err != nil || again.Kind != r.Kind || again.ID != r.ID || again.Seq != r.Seq || again.At != r.At || !bytes.Equal(again.Packet, r.Packet) || again.ClientID != r.ClientID {
			t.Fatalf("%+v became %+v, %v", r, again, err)
		}
	})
}
