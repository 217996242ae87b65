package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/store/storetest"
	"github.com/myelin-mqtt/myelin/packet"
)

// files are a directory's, by name.
type files map[string][]byte

func readFiles(t testing.TB, fs vfs.FS) files {
	t.Helper()
	names, err := fs.List("data")
	if err != nil {
		t.Fatal(err)
	}
	all := files{}
	for _, name := range names {
		f, err := fs.Open("data/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if all[name], err = io.ReadAll(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return all
}

// write makes a file system of them, with one of them changed.
func (fs files) write(t testing.TB, name string, to []byte) vfs.FS {
	t.Helper()
	m := vfs.NewMem()
	if err := m.MkdirAll("data", 0o700); err != nil {
		t.Fatal(err)
	}
	for n, b := range fs {
		if n == name {
			b = to
		}
		f, err := m.Create("data/"+n, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(bytes.Clone(b)); err != nil { // with the race detector it changes what it is given
			t.Fatal(err)
		}
		f.Close()
	}
	return m
}

func (fs files) last(suffix string) (name string) {
	for n := range fs {
		if strings.HasSuffix(n, suffix) && n > name {
			name = n
		}
	}
	return name
}

// fill makes a store in which every kind of record is: in tables, in a closed
// log and in an open one. Each message has its place in text.
func fill(t testing.TB, fs vfs.FS) *Engine {
	e := open(t, Options{Dir: "data", FS: fs}, storetest.Limits{})
	buf := make([]store.Delivery, 2)
	for round := range 3 {
		for i := range 3 {
			id := fmt.Sprint("client", round, i)
			will := &store.Will{Msg: message(t, "will", id, 1, false), Delay: 9}
			c := claim(t, e, store.ClaimReq{ClientID: id, Expiry: 100000, Will: will})
			do(t, func(w store.Completer) (bool, error) {
				return c.s.Subscribe([]store.Sub{{Filter: id + "/#", ID: 7, Options: 1}, {Filter: "all"}}, w, 0), nil
			})
			for k := range 6 {
				m := message(t, "all", fmt.Sprintf("%s %d %s", id, k, strings.Repeat("x", 50*k)), 2, k == 5)
				do(t, func(w store.Completer) (bool, error) {
					return e.Publish(m, []store.Target{{To: c.s, QoS: packet.QoS(1 + k%2)}}, store.Inbound{From: c.s, ID: uint16(k + 1)}, w, 0)
				})
			}
			n, _ := next(c.s, buf, 0)
			c.s.Ack(buf[0].LSN)
			do(t, func(w store.Completer) (bool, error) { return c.s.Sent2(buf[n-1].LSN, 1, w, 0), nil })
			do(t, func(w store.Completer) (bool, error) { return c.s.Release2(1, w, 0), nil })
			do(t, func(w store.Completer) (bool, error) { return c.s.Detach(100000, false, w, 0), nil })
		}
		for k := range 3 { // more than a block of a log, and tables that are not read at a start
			c := claim(t, e, store.ClaimReq{ClientID: "big", Expiry: 100000})
			noise := make([]byte, 6000*(3-k)) // that cannot be compressed
			rand.NewChaCha8([32]byte{byte(round), byte(k)}).Read(noise)
			m := message(t, "all", fmt.Sprintf("%d %d %q", round, k, noise[:len(noise)/4]), 1, false)
			do(t, func(w store.Completer) (bool, error) {
				return e.Publish(m, []store.Target{{To: c.s, QoS: 1}}, store.Inbound{}, w, 0)
			})
		}
		if round == 0 {
			if err := e.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return e
}

// content is all that the store holds, in text; errors are what it says is
// wrong, for which a part is missing.
func content(t testing.TB, fs vfs.FS) (text string, said string, err error) {
	var b strings.Builder
	words := new(safe)
	o := Options{Dir: "data", FS: fs, Logger: slog.New(slog.NewTextHandler(words, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	e, err := Open(o)
	if err != nil {
		return "", words.String(), err
	}
	defer shut(e)
	var all []*store.Stored
	if err := e.Recover(func(s *store.Stored) bool { all = append(all, s); return true }); err != nil {
		return "", words.String(), err
	}
	slices.SortFunc(all, func(a, b *store.Stored) int { return strings.Compare(a.ClientID, b.ClientID) })
	buf := make([]store.Delivery, 20)
	for _, s := range all {
		fmt.Fprintf(&b, "%s %d %v %v %v\n", s.ClientID, s.Expiry, s.Will == nil, s.Subs, s.Inbound)
		for _, o := range s.Out {
			fmt.Fprintf(&b, "  out %d %v %s\n", o.ID, o.Recorded, o.Delivery.Msg.Payload())
		}
		for more := true; more; {
			var n int
			n, more = next(s.Session, buf, 0)
			for _, d := range buf[:n] {
				fmt.Fprintf(&b, "  %d %s\n", d.QoS, d.Msg.Payload())
			}
		}
	}
	for _, n := range []string{"all"} {
		if m := e.Current(n); m != nil {
			fmt.Fprintf(&b, "retained %s\n", m.Payload())
		}
	}
	return b.String(), words.String(), nil
}

// safe takes what is logged.
type safe struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *safe) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safe) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// placed finds the place of a damage in an error or a line of the log.
var placed = regexp.MustCompile(`(MANIFEST|OPTIONS)-\d+|\d{6}\.(log|sst)`)

// TestFlip: whatever single bit of whatever file changes, the store says where
// the damage is, or everything is there. Damage of a whole byte is found, too,
// but in the last record of the last log, where it may look like a torn write:
// then it is said what was cut.
func TestFlip(t *testing.T) {
	crash := vfs.NewCrashableMem()
	e := fill(t, crash)
	killed := readFiles(t, crash.CrashClone(vfs.CrashCloneCfg{}))
	shut(e)
	stopped := readFiles(t, crash)
	for name, all := range map[string]files{"killed": killed, "stopped": stopped} {
		t.Run(name, func(t *testing.T) { flipAll(t, all) })
	}
}

func flipAll(t *testing.T, all files) {
	want, said, err := content(t, all.write(t, "", nil))
	if err != nil || said != "" || strings.Count(want, "\n") < 50 {
		t.Fatalf("without damage: %v, said %q, content\n%s", err, said, want)
	}
	total, refused, late, same, cut := 0, 0, 0, 0, 0
	lastLog, lastAt := all.last(".log"), 0
	for _, name := range slices.Sorted(maps.Keys(all)) {
		b := all[name]
		if name == lastLog {
			if at := records(name, b); len(at) > 0 { // it may be new
				lastAt = at[len(at)-1]
			}
		}
		step := max(1, len(b)/150)
		if strings.HasSuffix(name, ".sst") { // Pebble takes its time to look for the bit
			step = max(1, len(b)/40)
		}
		if step > 1 {
			step |= 1
		}
		counts := [4]int{refused, late, same, cut}
		for at := 0; at < len(b); at += step {
			for _, x := range []byte{1 << (at % 8), 0xFF} {
				damaged := bytes.Clone(b)
				damaged[at] ^= x
				got, said, err := content(t, all.write(t, name, damaged))
				total++
				switch {
				case err != nil && placed.MatchString(err.Error()):
					refused++
				case err != nil:
					t.Errorf("%s, byte %d, bits %x: the error does not say where: %v", name, at, x, err)
				case got == want:
					same++
				case x == 0xFF && name == lastLog && at >= lastAt && strings.Contains(said, "cut") && strings.Contains(said, fmt.Sprintf("offset=%d", lastAt)):
					cut++
				case placed.MatchString(said) && strings.Contains(said, "level=ERROR"):
					late++
				default:
					t.Errorf("%s, byte %d of %d, bits %x: lost without a word; said %q", name, at, len(b), x, said)
				}
			}
		}
		t.Logf("%s, %d bytes: %d refused, %d reported later, %d without effect, %d cut", name, len(b), refused-counts[0], late-counts[1], same-counts[2], cut-counts[3])
	}
	t.Logf("%d flips: %d refused at the start, %d reported later, %d without effect, %d cut", total, refused, late, same, cut)
}

// TestTorn: a log that ends anywhere, because the process or the power went in
// the middle of a write, gives what is whole, and the store says what it cut,
// to the byte; of an end between two records it says nothing.
func TestTorn(t *testing.T) {
	crash := vfs.NewCrashableMem()
	e := fill(t, crash)
	all := readFiles(t, crash.CrashClone(vfs.CrashCloneCfg{}))
	shut(e)
	name := all.last(".log")
	b := all[name]
	starts := records(name, b)
	starts = starts[len(starts)-12:]
	old := bytes.Repeat([]byte("what an older log left "), len(b)/20) // where the file was used before
	for i, from := range starts {
		want, said, err := content(t, all.write(t, name, b[:from]))
		if err != nil || said != "" {
			t.Fatalf("ends at a record: %v, said %q", err, said)
		}
		end := len(b)
		if i+1 < len(starts) {
			end = starts[i+1]
		}
		for cut := from + 1; cut < end; cut += 1 + (end-from)/10 {
			for rest, tail := range map[string][]byte{
				"nothing": nil, "zeros": make([]byte, len(b)-cut), "older": old[:len(b)-cut],
			} {
				got, said, err := content(t, all.write(t, name, slices.Concat(b[:cut], tail)))
				switch {
				case err != nil && strings.Contains(err.Error(), "a bit") && rest != "nothing": // as good as whole
				case err != nil || got != want:
					t.Errorf("record at %d cut at %d, behind it %s: error %v, content is right: %v", from, cut, rest, err, got == want)
				case !strings.Contains(said, fmt.Sprintf("offset=%d ", from)) && cut-from >= syncHeader:
					t.Errorf("record at %d cut at %d, behind it %s: said %q", from, cut, rest, said)
				}
				var n int // zeros at the end do not count
				if _, tail, ok := strings.Cut(said, "bytes="); ok && rest == "nothing" {
					if fmt.Sscan(tail, &n); n > cut-from || n < cut-from-16 {
						t.Errorf("record at %d cut at %d: said %q, want %d bytes", from, cut, said, cut-from)
					}
				}
			}
		}
	}
}

// records are where the records of a log begin.
func records(name string, b []byte) (at []int) {
	var n uint32
	fmt.Sscanf(name, "%d", &n)
	for s, off := (&logScan{num: n}), 0; off < len(b); {
		block := off / logBlock * logBlock
		c, ok := s.own(b[block:min(block+logBlock, len(b))], off-block)
		switch {
		case ok && c.end:
			return at
		case !ok: // padding
			off = block + logBlock
			continue
		case c.first:
			at = append(at, off)
		}
		off += c.size
	}
	return at
}

// TestUnreadable: a message that the disk no longer gives is reported with its
// key, and counted apart; everything else goes on.
func TestUnreadable(t *testing.T) {
	fs := vfs.NewMem()
	shut(fill(t, fs))
	words := new(safe)
	lost := map[store.Reason]int{}
	o := Options{Dir: "data", FS: fs, CacheBytes: 1, Logger: slog.New(slog.NewTextHandler(words, nil)),
		OnDrop: func(_ string, _ *packet.Publish, why store.Reason) { lost[why]++ }}
	e := open(t, o, storetest.Limits{})
	defer shut(e)
	c := claim(t, e, store.ClaimReq{ClientID: "big", Expiry: 100000})
	e.mu.Lock()
	p := c.s.(*queue).wait.walk()
	first, second := p.next(), p.next()
	e.mu.Unlock()
	if err := errors.Join(e.db.Delete(messageKey(first.lsn, kindMessage), nil), e.db.Set(messageKey(second.lsn, kindMessage), []byte{5}, nil)); err != nil {
		t.Fatal(err)
	}
	buf := make([]store.Delivery, 20)
	n, _ := next(c.s, buf, 0)
	if n+lost[store.Unreadable] != 9 || lost[store.Unreadable] != 2 || len(lost) != 1 {
		t.Errorf("%d messages, lost %v", n, lost)
	}
	for range 2 { // Pebble comes back to what it has found
		e.corrupt(pebble.DataCorruptionInfo{Path: "data/000005.sst", Details: errors.New("crc32c checksum mismatch")})
	}
	for _, lsn := range []uint64{first.lsn, second.lsn} {
		if said, want := words.String(), fmt.Sprintf("cannot be read\" client=big key=%x err=", messageKey(lsn, kindMessage)); !strings.Contains(said, want) {
			t.Errorf("said %s, want %s", said, want)
		}
	}
	if said := words.String(); strings.Count(said, "file=data/000005.sst") != 1 {
		t.Errorf("said %s", said)
	}
	do(t, func(w store.Completer) (bool, error) {
		return e.Publish(message(t, "all", "x", 1, false), []store.Target{{To: c.s, QoS: 1}}, store.Inbound{}, w, 0)
	})
	if n, _ := next(c.s, buf, 0); n != 1 {
		t.Errorf("%d messages after the damage", n)
	}
}
