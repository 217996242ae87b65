package client

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func openFile(t testing.TB, dir string, o FileOptions) *File {
	t.Helper()
	f, err := OpenFile(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func mustClose(t testing.TB, f *File) {
	t.Helper()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFileContract(t *testing.T) {
	for name, o := range map[string]FileOptions{"sync": {}, "nosync": {NoSync: true}} {
		t.Run(name, func(t *testing.T) {
			testStore(t, func(t *testing.T) (Store, func() Store) {
				dir := filepath.Join(t.TempDir(), "a", "b")
				return openFile(t, dir, o), func() Store { return openFile(t, dir, o) }
			})
		})
	}
}

// TestFileModel: whatever is committed, and whether the File is closed or only
// left, as a program does that is killed, is there when it is opened again.
func TestFileModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		disk := newMemFolder()
		f, err := openLog(disk, FileOptions{})
		if err != nil {
			t.Fatal(err)
		}
		m := newModel()
		steps := rapid.IntRange(1, 12).Draw(t, "steps")
		for range steps {
			rs := drawRecords(t)
			if err := f.Commit(rs); err != nil {
				t.Fatal(err)
			}
			m.apply(rs...)
			if f.size-logHeader < f.state.bytes {
				t.Fatalf("a log of %d bytes has %d that are live", f.size, f.state.bytes)
			}
			switch rapid.IntRange(0, 3).Draw(t, "then") {
			case 0:
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
				f = nil
			case 1:
				f = nil
			case 2:
				before := f.state.live()
				if err := f.rewrite(); err != nil {
					t.Fatal(err)
				}
				if f.size > before || f.size < before-2 || f.state.live() != before {
					t.Fatalf("%d bytes live, and %d after that, in a new log of %d", before, f.state.live(), f.size)
				}
			}
			if f == nil {
				if f, err = openLog(disk, FileOptions{}); err != nil {
					t.Fatal(err)
				}
				if f.Cut() != 0 {
					t.Fatalf("%d bytes cut off", f.Cut())
				}
			}
			s, err := f.Load()
			if err != nil {
				t.Fatal(err)
			}
			if d := diffState(m.state(), s); d != "" {
				t.Fatal(d)
			}
		}
	})
}

// TestFileKilled copies the folder after each commit, as if the program were
// killed there.
func TestFileKilled(t *testing.T) {
	dir := t.TempDir()
	f := openFile(t, dir, FileOptions{NoSync: true})
	m := newModel()
	for i := range uint64(200) {
		rs := []Record{{Kind: RecordMessage, Seq: i, Packet: bytes.Repeat([]byte{byte(i)}, 20_000)}}
		if i > 9 {
			rs = append(rs, Record{Kind: RecordDone, Seq: i - 10})
		}
		mustCommit(t, f, rs...)
		m.apply(rs...)
		if i%8 != 0 {
			continue
		}
		copied := t.TempDir()
		if err := os.CopyFS(filepath.Join(copied, "c"), os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		g := openFile(t, filepath.Join(copied, "c"), FileOptions{})
		if d := diffState(m.state(), mustLoad(t, g)); d != "" || g.Cut() != 0 {
			t.Fatalf("after %d commits, %d bytes cut: %s", i+1, g.Cut(), d)
		}
		mustClose(t, g)
	}
	if f.size > 2<<20 {
		t.Errorf("the log has %d bytes, and was not written anew", f.size)
	}
}

func TestFileIsAlone(t *testing.T) {
	dir := t.TempDir()
	f := openFile(t, dir, FileOptions{})
	for range 2 {
		if _, err := OpenFile(dir, FileOptions{}); !errors.Is(err, ErrFileInUse) || !strings.Contains(err.Error(), dir) {
			t.Errorf("a second one: %v", err)
		}
	}
	mustCommit(t, f, Record{Kind: RecordReceived, ID: 1})
	mustClose(t, f)
	mustClose(t, f)
	if err := f.Commit(nil); err == nil {
		t.Error("a commit after Close")
	}
	if _, err := f.Load(); err == nil {
		t.Error("a Load after Close")
	}
	mustClose(t, openFile(t, dir, FileOptions{}))
}

func TestFileModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("it has no such modes")
	}
	dir := filepath.Join(t.TempDir(), "a")
	f := openFile(t, dir, FileOptions{})
	mustClose(t, f)
	for name, want := range map[string]os.FileMode{"": 0o700 | os.ModeDir, logName: 0o600, lockName: 0o600} {
		i, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if i.Mode() != want {
			t.Errorf("%q has mode %v, want %v", name, i.Mode(), want)
		}
	}
}

// TestFileDoesNotGrow: to open and close it leaves it as it is.
func TestFileDoesNotGrow(t *testing.T) {
	d := newMemFolder()
	f := mustOpenLog(t, d)
	mustCommit(t, f, Record{Kind: RecordReceived, ID: 1})
	mustClose(t, f)
	before := d.bytes(logName)
	for range 3 {
		f := mustOpenLog(t, d)
		mustCommit(t, f)
		mustClose(t, f)
	}
	if !bytes.Equal(before, d.bytes(logName)) {
		t.Error("the log has changed")
	}
	f = mustOpenLog(t, d)
	mustCommit(t, f, Record{Kind: RecordReceived, ID: 2})
	if f.clean {
		t.Error("a log that is written to was closed")
	}
	mustClose(t, f)
	if f = mustOpenLog(t, d); !f.clean {
		t.Error("the log does not say that it was closed")
	}
}

// TestFileNewLog: a log is written anew when it is long and more than half of
// it is past, and not before.
func TestFileNewLog(t *testing.T) {
	d := newMemFolder()
	f := mustOpenLog(t, d)
	logs := func(records ...Record) bool {
		t.Helper()
		before := f.key
		mustCommit(t, f, records...)
		return f.key != before
	}
	for i := range uint64(30) {
		if logs(Record{Kind: RecordMessage, Seq: i, Packet: make([]byte, 100_000)}) {
			t.Fatalf("%d messages that are needed were written anew", i)
		}
	}
	for i := range uint64(30) {
		r := Record{Kind: RecordDone, Seq: i}
		if i%2 == 0 {
			r.Kind = RecordReleased
		}
		if anew := logs(r); anew != (i == 15) { // it is looked at before a commit
			t.Fatalf("written anew %v, with %d packets past", anew, i)
		}
		if i == 15 {
			break
		}
	}
	if len(d.bytes(logName)) > 15*101_000 {
		t.Errorf("the new log has %d bytes", len(d.bytes(logName)))
	}
}

func TestFileFolders(t *testing.T) {
	refused := func(name string, prepare func(dir string), want string) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			prepare(dir)
			f, err := OpenFile(filepath.Join(dir, "s"), FileOptions{})
			if err == nil {
				_ = f.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want it to tell %q", err, want)
			}
		})
	}
	write := func(dir, name string, b []byte) {
		if err := os.MkdirAll(filepath.Join(dir, "s"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "s", name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	newer := logKey{}.appendHeader(nil)
	binary.LittleEndian.PutUint32(newer[8:], 2)
	wrong := logKey{}.appendHeader(nil)
	wrong[13]++
	refused("a file", func(dir string) {
		if err := os.WriteFile(filepath.Join(dir, "s"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}, "not a directory")
	refused("empty", func(dir string) { write(dir, logName, nil) }, "session is damaged at byte 0")
	refused("short", func(dir string) { write(dir, logName, newer[:logHeader-1]) }, "session is damaged at byte 0")
	refused("something else", func(dir string) { write(dir, logName, []byte("# my session\n\nto do today: ...")) }, "session is damaged at byte 0")
	refused("newer", func(dir string) { write(dir, logName, newer) }, "session has format version 2, and this program knows version 1 only")
	refused("header", func(dir string) { write(dir, logName, wrong) }, "session is damaged at byte 0: the checksum")
	refused("a folder as lock", func(dir string) {
		if err := os.MkdirAll(filepath.Join(dir, "s", lockName), 0o700); err != nil {
			t.Fatal(err)
		}
	}, "lock: ")
	t.Run("a new log that was not finished", func(t *testing.T) {
		dir := t.TempDir()
		write(dir, newLogName, []byte("half"))
		f := openFile(t, filepath.Join(dir, "s"), FileOptions{})
		if d := diffState(State{}, mustLoad(t, f)); d != "" {
			t.Error(d)
		}
	})
}

func TestFileRefusesRecords(t *testing.T) {
	f := mustOpenLog(t, newMemFolder())
	for _, r := range []Record{
		{},
		{Kind: RecordSession + 1},
		{Kind: recordNext, Seq: 5},
		{Kind: RecordSession, ClientID: strings.Repeat("a", 65536)},
		{Kind: RecordMessage, Packet: make([]byte, maxPacket+1)},
	} {
		if err := f.Commit([]Record{{Kind: RecordReceived, ID: 1}, r}); err == nil {
			t.Errorf("%d: kept", r.Kind)
		}
	}
	if d := diffState(State{}, mustLoad(t, f)); d != "" {
		t.Errorf("what was refused is there: %s", d)
	}
	long := Record{Kind: RecordSession, ClientID: strings.Repeat("a", 65535)}
	mustCommit(t, f, long)
	if s := mustLoad(t, f); s.ClientID != long.ClientID {
		t.Error("the longest client identifier is lost")
	}
}

// TestFileLargeCommit: more than one group takes.
func TestFileLargeCommit(t *testing.T) {
	d := newMemFolder()
	f := mustOpenLog(t, d)
	m := newModel()
	var rs []Record
	for i := range uint64(3) {
		rs = append(rs, Record{Kind: RecordMessage, Seq: i, Packet: bytes.Repeat([]byte{byte(i)}, maxGroup/2+1)})
	}
	before := d.syncs
	mustCommit(t, f, rs...)
	m.apply(rs...)
	if n := d.syncs - before; n != 2 {
		t.Errorf("%d syncs, want one for each group", n)
	}
	if cap(f.buf) > keepBuffer {
		t.Errorf("a buffer of %d bytes is kept", cap(f.buf))
	}
	f = mustOpenLog(t, d)
	if d := diffState(m.state(), mustLoad(t, f)); d != "" {
		t.Error("messages are lost")
	}
}

// TestFileCommitIsOneWrite: and one sync.
func TestFileCommitIsOneWrite(t *testing.T) {
	for _, o := range []FileOptions{{}, {NoSync: true}} {
		d := newMemFolder()
		f, err := openLog(d, o)
		if err != nil {
			t.Fatal(err)
		}
		writes, syncs := d.writes, d.syncs
		for i := range uint64(10) {
			mustCommit(t, f, Record{Kind: RecordMessage, Seq: i, Packet: []byte("a")}, Record{Kind: RecordSent, Seq: i, ID: 1})
		}
		want := 10
		if o.NoSync {
			want = 0
		}
		if d.writes-writes != 10 || d.syncs-syncs != want {
			t.Errorf("%+v: %d writes and %d syncs for 10 commits", o, d.writes-writes, d.syncs-syncs)
		}
	}
}
