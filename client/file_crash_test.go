package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"testing"
)

// memFolder is a disk in memory, which fails from a given operation on, and can
// tell what a power cut may leave of it.
type memFolder struct {
	names   map[string]*memFile
	durable map[string]*memFile         // the names at the last sync
	pending []func(map[string]*memFile) // what happened to them since
	ops     int
	failAt  int // the first operation that fails, 0: none
	last    int // the last one that fails, 0: all that follow do
	readErr error
	writes  int
	syncs   int
	closed  bool
}

type memFile struct {
	in      *memFolder
	data    []byte
	durable []byte
	lost    bool // a sync has failed: the system takes what it had to write for written
}

var errDisk = errors.New("disk failure")

func newMemFolder() *memFolder {
	return &memFolder{names: map[string]*memFile{}, durable: map[string]*memFile{}}
}

func mustOpenLog(t testing.TB, d *memFolder) *File {
	t.Helper()
	f, err := openLog(d, FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (d *memFolder) bytes(name string) []byte { return bytes.Clone(d.names[name].data) }

// put has the file hold b, on the disk. Who has it open sees it.
func (d *memFolder) put(name string, b []byte) {
	if d.names[name] == nil {
		d.names[name] = &memFile{in: d}
		d.durable[name] = d.names[name]
	}
	d.names[name].data, d.names[name].durable = bytes.Clone(b), bytes.Clone(b)
}

// op counts an operation that changes something, and fails when it is its turn.
func (d *memFolder) op() error {
	d.ops++
	if d.failAt != 0 && d.ops >= d.failAt && (d.last == 0 || d.ops <= d.last) {
		return errDisk
	}
	return nil
}

func (d *memFolder) change(f func(map[string]*memFile)) {
	f(d.names)
	d.pending = append(d.pending, f)
}

func (d *memFolder) path(name string) string { return "mem/" + name }

func (d *memFolder) open(name string, create bool) (logFile, error) {
	if create {
		if err := d.op(); err != nil {
			return nil, err
		}
		f := &memFile{in: d}
		d.change(func(names map[string]*memFile) { names[name] = f })
	}
	f := d.names[name]
	if f == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return f, nil
}

func (d *memFolder) rename(from, to string) error {
	if err := d.op(); err != nil {
		return err
	}
	f := d.names[from]
	d.change(func(names map[string]*memFile) {
		delete(names, from)
		names[to] = f
	})
	return nil
}

func (d *memFolder) remove(name string) error {
	if err := d.op(); err != nil {
		return err
	}
	d.change(func(names map[string]*memFile) { delete(names, name) })
	return nil
}

func (d *memFolder) sync() error {
	if err := d.op(); err != nil {
		return err
	}
	d.durable, d.pending = maps.Clone(d.names), nil
	return nil
}

func (d *memFolder) close() error { d.closed = true; return nil }

func (f *memFile) ReadAt(b []byte, off int64) (int, error) {
	if f.in.readErr != nil {
		return 0, f.in.readErr
	}
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt writes half of it when it fails.
func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	err := f.in.op()
	f.in.writes++
	if err != nil {
		b = b[:len(b)/2]
	}
	if n := int(off) + len(b); n > len(f.data) {
		f.data = append(f.data, make([]byte, n-len(f.data))...)
	}
	return copy(f.data[off:], b), err
}

func (f *memFile) Sync() error {
	f.in.syncs++
	if err := f.in.op(); err != nil {
		f.lost = true
		return err
	}
	if !f.lost {
		f.durable = bytes.Clone(f.data)
	}
	return nil
}

func (f *memFile) Close() error         { return nil }
func (f *memFile) Size() (int64, error) { return int64(len(f.data)), nil }

// killed is what the death of the program leaves: all that was done.
func (d *memFolder) killed() *memFolder {
	c := newMemFolder()
	for name, f := range d.names {
		c.put(name, f.data)
	}
	return c
}

// cut is what a power cut may leave: of the names what was synced and some of
// what happened then, in its order, and of each file what was synced and any
// sectors of what was written then.
func (d *memFolder) cut(r *rand.Rand) *memFolder {
	names := maps.Clone(d.durable)
	for _, f := range d.pending[:r.IntN(len(d.pending)+1)] {
		f(names)
	}
	c := newMemFolder()
	for name, f := range names {
		b := bytes.Clone(f.data[:len(f.durable)+r.IntN(len(f.data)-len(f.durable)+1)])
		copy(b, f.durable)
		sector := 16
		if len(b)-len(f.durable) > 4096 {
			sector = 512
		}
		for at := len(f.durable); at < len(b); at += sector {
			if r.IntN(4) == 0 {
				clear(b[at:min(at+sector, len(b))])
			}
		}
		c.put(name, b)
	}
	return c
}

// crashWork commits records until one fails, and tells the states after each
// commit, and how many commits did not fail. The log is written anew on the way.
func crashWork(d *memFolder) (states []State, done int) {
	m := newModel()
	states = append(states, m.state())
	f, err := openLog(d, FileOptions{})
	if err != nil {
		return states, 0
	}
	for i := range uint64(24) {
		rs := []Record{
			{Kind: RecordMessage, Seq: i, At: uint32(i), Packet: bytes.Repeat([]byte{byte(i)}, 60_000)},
			{Kind: RecordSent, Seq: i, ID: uint16(i + 1)},
			{Kind: RecordReceived, ID: uint16(i)},
		}
		if i > 2 {
			rs = append(rs, Record{Kind: RecordDone, Seq: i - 3}, Record{Kind: RecordReleased, Seq: i - 1})
		}
		m.apply(rs...)
		states = append(states, m.state())
		if err := f.Commit(rs); err != nil {
			return states, done
		}
		done++
	}
	_ = f.Close()
	return states, done
}

// TestFileCrash has the disk fail for good at each operation, and looks at what
// the death of the program leaves then, and at what a power cut may leave: all
// that was committed, and perhaps what was being committed, and nothing else.
func TestFileCrash(t *testing.T) {
	whole := newMemFolder()
	if _, done := crashWork(whole); done != 24 {
		t.Fatalf("%d commits", done)
	}
	if len(whole.bytes(logName)) > 1_200_000 {
		t.Fatal("the log was not written anew")
	}
	r := rand.New(rand.NewPCG(1, 2))
	for at := 1; at <= whole.ops; at++ {
		d := newMemFolder()
		d.failAt = at
		states, done := crashWork(d)
		look := func(what string, c *memFolder) {
			f, err := openLog(c, FileOptions{})
			if err != nil {
				t.Fatalf("operation %d fails, then %s: %v", at, what, err)
			}
			s := mustLoad(t, f)
			for n := done; n < len(states); n++ {
				if diffState(states[n], s) == "" {
					mustCommit(t, f, Record{Kind: RecordReceived, ID: 999})
					mustClose(t, f)
					s.In = insertID(s.In, 999)
					if diff := diffState(s, mustLoad(t, mustOpenLog(t, c))); diff != "" {
						t.Fatalf("operation %d fails, then %s: it does not go on: %s", at, what, diff)
					}
					return
				}
			}
			t.Fatalf("operation %d fails, then %s: what is there is not the state after %d commits nor what follows: %d messages, %v", at, what, done, len(s.Out), s.In)
		}
		look("a death", d.killed())
		for i := range 4 {
			look(fmt.Sprintf("power cut %d", i), d.cut(r))
		}
	}
}

// TestFileFails: after a failure all that is committed fails likewise, though
// the disk is well again, and what was committed before is there in the end.
func TestFileFails(t *testing.T) {
	for _, op := range []string{"write", "sync"} {
		d := newMemFolder()
		f := mustOpenLog(t, d)
		mustCommit(t, f, Record{Kind: RecordReceived, ID: 1})
		d.failAt = d.ops + 1
		if op == "sync" {
			d.failAt++
		}
		d.last = d.failAt
		err := f.Commit([]Record{{Kind: RecordReceived, ID: 2}})
		if !errors.Is(err, errDisk) {
			t.Fatalf("%s: %v", op, err)
		}
		size := len(d.bytes(logName))
		for range 2 {
			if err2 := f.Commit([]Record{{Kind: RecordReceived, ID: 3}}); err2 != err {
				t.Errorf("%s: %v, want the same as before: %v", op, err2, err)
			}
		}
		if _, err2 := f.Load(); err2 != err {
			t.Errorf("%s: Load: %v", op, err2)
		}
		mustClose(t, f)
		if n := len(d.bytes(logName)); n != size {
			t.Errorf("%s: %d bytes were written after the failure", op, n-size)
		}
		if err2 := f.Commit(nil); err2 != err {
			t.Errorf("%s: after Close: %v", op, err2)
		}
		f = mustOpenLog(t, d)
		s := mustLoad(t, f)
		if diffState(State{In: []uint16{1}}, s) != "" && diffState(State{In: []uint16{1, 2}}, s) != "" {
			t.Errorf("%s: %+v", op, s)
		}
		// What was told survives, whatever became of what the failed sync was of.
		r := rand.New(rand.NewPCG(1, 2))
		for range 10 {
			if diff := diffState(s, mustLoad(t, mustOpenLog(t, d.cut(r)))); diff != "" {
				t.Errorf("%s: after a power cut: %s", op, diff)
			}
		}
	}
}

// TestFileNewLogFails: a new log that cannot be written is done without, and
// tried again later. What cannot be said to be done or not ends the File.
func TestFileNewLogFails(t *testing.T) {
	whole := newMemFolder()
	f := mustOpenLog(t, whole)
	fill := func(d *memFolder, f *File) {
		for i := range uint64(11) {
			mustCommit(t, f, Record{Kind: RecordMessage, Seq: i, Packet: make([]byte, 100_000)}, Record{Kind: RecordDone, Seq: i})
		}
	}
	fill(whole, f)
	before := whole.ops
	mustCommit(t, f, Record{Kind: RecordReceived, ID: 1})
	steps := whole.ops - before - 2 // but for the write and the sync of the commit
	if steps < 6 {
		t.Fatalf("a new log takes %d operations", steps)
	}
	for step := 1; step <= steps; step++ {
		d := newMemFolder()
		f := mustOpenLog(t, d)
		fill(d, f)
		d.failAt = d.ops + step
		d.last = d.failAt
		ends := step > steps-2 // rename, and the sync of the folder
		err := f.Commit([]Record{{Kind: RecordReceived, ID: 1}})
		if ends != (err != nil) {
			t.Fatalf("step %d of %d: %v", step, steps, err)
		}
		if ends {
			if err2 := f.Commit(nil); err2 != err {
				t.Errorf("step %d: %v after %v", step, err2, err)
			}
		} else {
			if d.names[newLogName] != nil {
				t.Errorf("step %d: the new log is left over", step)
			}
			for i := uint64(100); f.size > 1<<20; i++ {
				mustCommit(t, f, Record{Kind: RecordMessage, Seq: i, Packet: make([]byte, 100_000)}, Record{Kind: RecordDone, Seq: i})
				if i > 120 {
					t.Fatalf("step %d: it is not tried again", step)
				}
			}
		}
		_ = f.Close()
		s := mustLoad(t, mustOpenLog(t, d))
		if err == nil && len(s.In) != 1 || len(s.Out) != 0 {
			t.Errorf("step %d: %+v", step, s)
		}
	}
}

// TestFileOpenFails: when the log cannot be written anew, nothing is lost.
func TestFileOpenFails(t *testing.T) {
	d := newMemFolder()
	mustCommit(t, mustOpenLog(t, d), Record{Kind: RecordReceived, ID: 1})
	probe := d.killed()
	mustOpenLog(t, probe)
	for at := 1; at <= probe.ops; at++ {
		c := d.killed()
		c.failAt, c.last = at, at
		if _, err := openLog(c, FileOptions{}); !errors.Is(err, errDisk) {
			t.Fatalf("operation %d: %v", at, err)
		}
		r := rand.New(rand.NewPCG(3, 4))
		for _, c := range []*memFolder{c.killed(), c.cut(r), c.cut(r), c.cut(r), c.cut(r)} {
			if diff := diffState(State{In: []uint16{1}}, mustLoad(t, mustOpenLog(t, c))); diff != "" {
				t.Errorf("operation %d: %s", at, diff)
			}
		}
	}
}

// TestFileNoSync: what Close was told of survives a power cut, and what a
// program left that died is as good as synced when the folder is opened again.
func TestFileNoSync(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, closed := range []bool{false, true} {
		d := newMemFolder()
		f, err := openLog(d, FileOptions{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		for i := range uint16(9) {
			mustCommit(t, f, Record{Kind: RecordReceived, ID: i})
		}
		if d.syncs != 0 {
			t.Fatalf("%d syncs", d.syncs)
		}
		want := mustLoad(t, f)
		if closed {
			mustClose(t, f)
		} else {
			mustOpenLog(t, d)
		}
		for range 10 {
			if diff := diffState(want, mustLoad(t, mustOpenLog(t, d.cut(r)))); diff != "" {
				t.Errorf("closed %v: after a power cut: %s", closed, diff)
			}
		}
	}
}

// TestFileCloseFails: a log that is not on the disk does not say that it was
// closed.
func TestFileCloseFails(t *testing.T) {
	for _, o := range []FileOptions{{}, {NoSync: true}} {
		whole := newMemFolder()
		prepare := func(d *memFolder) *File {
			f, err := openLog(d, o)
			if err != nil {
				t.Fatal(err)
			}
			mustCommit(t, f, Record{Kind: RecordReceived, ID: 1})
			return f
		}
		f := prepare(whole)
		before := whole.ops
		mustClose(t, f)
		for at := before + 1; at <= whole.ops; at++ {
			d := newMemFolder()
			d.failAt, d.last = at, at
			if err := prepare(d).Close(); !errors.Is(err, errDisk) || !d.closed {
				t.Fatalf("%+v, operation %d: %v", o, at, err)
			}
			s := mustLoad(t, mustOpenLog(t, d))
			r := rand.New(rand.NewPCG(7, 8))
			for range 10 {
				if diff := diffState(s, mustLoad(t, mustOpenLog(t, d.cut(r)))); diff != "" {
					t.Errorf("%+v, operation %d: after a power cut: %s", o, at, diff)
				}
			}
			if len(s.In) != 1 {
				t.Errorf("%+v, operation %d: %+v", o, at, s)
			}
		}
	}
}

// TestFileReadFails: what cannot be read is not taken for damaged or torn.
func TestFileReadFails(t *testing.T) {
	d := newMemFolder()
	f := mustOpenLog(t, d)
	mustCommit(t, f, Record{Kind: RecordMessage, Seq: 1, Packet: make([]byte, 3*windowSize)})
	before := d.bytes(logName)
	d.readErr = errDisk
	var damage *FileDamageError
	if _, err := f.Load(); !errors.Is(err, errDisk) || errors.As(err, &damage) {
		t.Errorf("Load: %v", err)
	}
	if _, err := openLog(d, FileOptions{}); !errors.Is(err, errDisk) || errors.As(err, &damage) {
		t.Errorf("open: %v", err)
	}
	if !bytes.Equal(before, d.bytes(logName)) {
		t.Error("the log was changed")
	}
}
