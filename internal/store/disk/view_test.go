package disk

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/store/storetest"
	"github.com/myelin-mqtt/myelin/packet"
)

// sound wants a store in which nothing is wrong.
func sound(t testing.TB, dir string, in FS) Summary {
	t.Helper()
	sum, err := Check(context.Background(), dir, in, func(f Fault) { t.Errorf("%+v", f) })
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// faults are those of a store, as text.
func faults(t testing.TB, dir string) string {
	t.Helper()
	var all []string
	sum, err := Check(context.Background(), dir, nil, func(f Fault) { all = append(all, fmt.Sprintf("%s %s: %s", f.File, f.Of, f.What)) })
	if err != nil {
		t.Fatal(err)
	}
	if sum.Faults != len(all) {
		t.Errorf("%d faults are counted, %d told", sum.Faults, len(all))
	}
	return strings.Join(all, "\n")
}

// furnish puts something of everything into a store: 300 messages to two
// sessions, one of them with QoS 2 in both directions.
func furnish(t testing.TB, e *Engine) {
	t.Helper()
	will := &store.Will{Msg: message(t, "will", "gone", 1, false), Delay: 5}
	a, b := claim(t, e, store.ClaimReq{ClientID: "a", Expiry: 100, Will: will}), claim(t, e, store.ClaimReq{ClientID: "b", Expiry: neverEnds})
	do(t, func(c store.Completer) (bool, error) {
		return a.s.Subscribe([]store.Sub{{Filter: "t/#", ID: 7, Options: packet.SubOptions(1)}, {Filter: "$share/g/s", Options: packet.SubOptions(2) | packet.NoLocal}}, c, 0), nil
	})
	for i := range 300 {
		to := []store.Target{{To: a.s, QoS: packet.QoS(1 + i%2), Sub: 7}, {To: b.s, QoS: 1}}
		if err := do(t, func(c store.Completer) (bool, error) {
			return e.Publish(message(t, fmt.Sprint("t/", i), "payload", 2, false), to, store.Inbound{From: b.s, ID: uint16(1 + i%3)}, c, 0)
		}); err != nil {
			t.Fatal(err)
		}
	}
	do(t, func(c store.Completer) (bool, error) {
		return e.Publish(message(t, "kept", "\xff\xfe", 1, true), nil, store.Inbound{}, c, 0)
	})
	buf := make([]store.Delivery, 4)
	n, _ := next(a.s, buf, 0)
	for i, d := range buf[:n] {
		if d.QoS == 1 {
			a.s.Ack(d.LSN)
			continue
		}
		do(t, func(c store.Completer) (bool, error) { return a.s.Sent2(d.LSN, uint16(40+i), c, 0), nil })
	}
	a.s.Detach(100, true, nil, 0)
}

const neverEnds = 0xFFFFFFFF

// hashes are the contents of a directory's files.
func hashes(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, x := range entries {
		text, err := os.ReadFile(filepath.Join(dir, x.Name()))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %x\n", x.Name(), sha256.Sum256(text))
	}
	return b.String()
}

// TestLookingChangesNothing: check, dump, holders and backup leave each file of
// a store as it is, the log of one that was killed included.
func TestLookingChangesNothing(t *testing.T) {
	dir := t.TempDir()
	e := open(t, Options{Dir: dir}, storetest.Limits{})
	furnish(t, e)
	killed := filepath.Join(t.TempDir(), "killed")
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil { // what a SIGKILL leaves
		t.Fatal(err)
	}
	shut(e)
	logs, _ := filepath.Glob(filepath.Join(killed, "*.log"))
	if len(logs) == 0 {
		t.Fatal("there is no log")
	}
	f, err := os.OpenFile(logs[len(logs)-1], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("half a record") // a torn tail
	f.Close()
	for _, dir := range []string{dir, killed} {
		before := hashes(t, dir)
		sum := sound(t, dir, nil)
		if (sum.Torn > 0) != (dir == killed) {
			t.Errorf("%d bytes are torn", sum.Torn)
		}
		if sum.Sessions != 2 || sum.Subscriptions != 2 || sum.Messages != 300 || sum.Queued != 598 || sum.Inbound != 3 || sum.Outbound != 2 || sum.Retained != 1 {
			t.Errorf("%+v", sum)
		}
		v, err := OpenView(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		held := map[string]int{}
		if err := v.Holders(context.Background(), func(h Holder) { held[h.ClientID] = h.Messages }); err != nil || held["a"] != 298 || held["b"] != 300 {
			t.Errorf("%v %v", held, err)
		}
		to := filepath.Join(t.TempDir(), "x", "copy")
		if err := v.Backup(context.Background(), to); err != nil {
			t.Fatal(err)
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		if after := hashes(t, dir); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		if copied := sound(t, to, nil); copied != sum {
			t.Errorf("the copy has %+v, want %+v", copied, sum)
		}
	}
}

// TestDump: each part, and what is asked for only.
func TestDump(t *testing.T) {
	dir := t.TempDir()
	e := open(t, Options{Dir: dir}, storetest.Limits{})
	furnish(t, e)
	shut(e)
	v, err := OpenView(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	lines := func(p Parts) (all []string) {
		t.Helper()
		err := v.Dump(context.Background(), p, func(line any) error {
			text, err := json.Marshal(line)
			all = append(all, string(text))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	sessions := lines(Parts{Sessions: true})
	if len(sessions) != 2 {
		t.Fatal(sessions)
	}
	for _, want := range []string{
		`"type":"session","client_id":"a"`, `"expiry":100`, `"delay":5,"armed":true`, `"topic":"will"`, `{"filter":"t/#","id":7,"qos":1}`,
		`{"filter":"$share/g/s","qos":2,"no_local":true}`, `"outbound":[{"id":41,`, `"queued":298`,
	} {
		if !strings.Contains(sessions[0], want) {
			t.Errorf("no %s in %s", want, sessions[0])
		}
	}
	if !strings.Contains(sessions[1], `"inbound":[1,2,3]`) || !strings.Contains(sessions[1], `"subscriptions":[]`) {
		t.Error(sessions[1])
	}
	queue := lines(Parts{Queues: true, ClientID: "b"})
	if len(queue) != 300 {
		t.Fatalf("%d lines", len(queue))
	}
	for i, l := range queue {
		if !strings.Contains(l, fmt.Sprintf(`"topic":"t/%d","qos":2,`, i)) || !strings.Contains(l, `"delivery_qos":1`) || !strings.Contains(l, `"payload":"payload"`) {
			t.Fatal(i, l)
		}
	}
	if all := lines(Parts{Queues: true}); len(all) != 598 {
		t.Errorf("%d lines", len(all))
	}
	if r := lines(Parts{Retained: true}); len(r) != 1 || !strings.Contains(r[0], `"payload_base64":"//4="`) {
		t.Error(r)
	}
	if all := lines(Parts{Sessions: true, Queues: true, Retained: true}); len(all) != 2+598+1 {
		t.Errorf("%d lines", len(all))
	}
}

// TestCheckFindsBrokenReferences: each record that names what is not there.
func TestCheckFindsBrokenReferences(t *testing.T) {
	for name, x := range map[string]struct {
		harm func(b *pebble.Batch)
		want string
	}{
		"no message":        {func(b *pebble.Batch) { b.Delete(messageKey(9, kindMessage), nil) }, "message 9: it is missing, though its group names it"},
		"no targets":        {func(b *pebble.Batch) { b.Delete(messageKey(9, kindTargets), nil) }, "message 9: the message is in no record of targets"},
		"damaged message":   {func(b *pebble.Batch) { b.Set(messageKey(9, kindMessage), []byte("junk"), nil) }, "message 9: damaged record"},
		"damaged targets":   {func(b *pebble.Batch) { b.Set(messageKey(9, kindTargets), []byte{1}, nil) }, "targets of messages from 9 on: damaged record"},
		"another size":      {func(b *pebble.Batch) { b.Set(messageKey(9, kindTargets), []byte{1, 1, 0, 200, 1, 1, 1, 2}, nil) }, "the record of targets says 200"},
		"session too high":  {func(b *pebble.Batch) { b.Set(sidKey('s', 99), mustRecord("z"), nil) }, `session 99 (client "z"): its number is above`},
		"sub of nobody":     {func(b *pebble.Batch) { b.Set(filterKey(98, "a"), []byte{0, 0}, nil) }, `subscription to "a" of session 98: there is no such session`},
		"bad filter":        {func(b *pebble.Batch) { b.Set(filterKey(1, "a/#/b"), []byte{0, 0}, nil) }, `subscription to "a/#/b" of session 1 (client "a"): `},
		"outbound, nothing": {func(b *pebble.Batch) { b.Set(idKey('o', 1, 5), []byte{0, 200, 100}, nil) }, `outbound QoS 2 identifier 5 of session 1 (client "a"): message 12872, which it sends, is not in the queue`},
		"retained":          {func(b *pebble.Batch) { b.Set(retainedKey([]byte("kept")), []byte("junk"), nil) }, `retained message of "kept": damaged record`},
		"stranger":          {func(b *pebble.Batch) { b.Set([]byte("q"), nil, nil) }, "no store has such a record"},
		"damaged session":   {func(b *pebble.Batch) { b.Set(sidKey('s', 2), []byte{1}, nil) }, "session 2: damaged record"},
		"damaged cursor":    {func(b *pebble.Batch) { b.Set(sidKey('a', 1), []byte{0x80}, nil) }, `cursor of session 1 (client "a"): damaged record`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			e := open(t, Options{Dir: dir}, storetest.Limits{})
			furnish(t, e)
			b := e.db.NewBatch()
			x.harm(b)
			if err := b.Commit(pebble.Sync); err != nil {
				t.Fatal(err)
			}
			shut(e)
			if got := faults(t, dir); !strings.Contains(got, x.want) {
				t.Errorf("no %q in:\n%s", x.want, got)
			}
		})
	}
}

func mustRecord(id string) []byte {
	q := &queue{expiry: 1}
	q.setID(id)
	return q.appendRecord(nil)
}

// TestCheckFindsFlippedBytes: a byte that is not what was written is found in
// each table, wherever it is.
func TestCheckFindsFlippedBytes(t *testing.T) {
	dir := t.TempDir()
	e := open(t, Options{Dir: dir}, storetest.Limits{})
	furnish(t, e)
	if err := e.db.Flush(); err != nil {
		t.Fatal(err)
	}
	shut(e)
	sound(t, dir, nil)
	tables, _ := filepath.Glob(filepath.Join(dir, "*.sst"))
	if len(tables) == 0 {
		t.Fatal("there is no table")
	}
	text, err := os.ReadFile(tables[0])
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(text); at += 1 + len(text)/97 {
		bad := append([]byte(nil), text...)
		bad[at] ^= 0x10
		if err := os.WriteFile(tables[0], bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := faults(t, dir); !strings.Contains(got, filepath.Base(tables[0])) {
			t.Errorf("byte %d of %d: %s", at, len(text), got)
		}
	}
	if err := os.Remove(tables[0]); err != nil {
		t.Fatal(err)
	}
	if got := faults(t, dir); !strings.Contains(got, strings.TrimSuffix(filepath.Base(tables[0]), ".sst")) {
		t.Errorf("a missing table: %s", got)
	}
}

// TestCheckFindsDamagedLogs: a byte in the log, and in the manifest, of a store
// that was killed.
func TestCheckFindsDamagedLogs(t *testing.T) {
	dir := t.TempDir()
	e := open(t, Options{Dir: dir}, storetest.Limits{})
	furnish(t, e)
	for _, pattern := range []string{"*.log", "MANIFEST-*"} {
		killed := filepath.Join(t.TempDir(), "killed")
		if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		files, _ := filepath.Glob(filepath.Join(killed, pattern))
		if len(files) == 0 {
			t.Fatal(pattern)
		}
		name := files[len(files)-1]
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		content[min(60, len(content)/2)] ^= 1
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := faults(t, killed); !strings.Contains(got, filepath.Base(name)+" : at offset ") {
			t.Errorf("%s: %s", pattern, got)
		}
	}
	shut(e)
}

// TestNoView: what is not a store, or not one for this program.
func TestNoView(t *testing.T) {
	empty, used, newer := t.TempDir(), t.TempDir(), t.TempDir()
	e := open(t, Options{Dir: used}, storetest.Limits{})
	defer shut(e)
	n := open(t, Options{Dir: newer}, storetest.Limits{})
	n.db.Set([]byte(keyFormat), []byte{format + 1}, pebble.Sync)
	shut(n)
	for dir, want := range map[string]error{empty: ErrNoStore, filepath.Join(empty, "gone"): ErrNoStore, used: new(InUseError), newer: new(FormatError)} {
		_, err := Check(context.Background(), dir, nil, func(f Fault) { t.Errorf("%+v", f) })
		switch want.(type) {
		case *InUseError:
			want = new(InUseError)
			if !errors.As(err, new(*InUseError)) {
				t.Errorf("in use: %v", err)
			}
		case *FormatError:
			var f *FormatError
			if !errors.As(err, &f) || f.Version != format+1 || f.Hint() == "" {
				t.Errorf("newer: %v", err)
			}
		default:
			if !errors.Is(err, want) {
				t.Errorf("%s: %v", dir, err)
			}
		}
	}
}

// TestBackup copies a store while publishers run: what was acknowledged before
// is in the copy.
func TestBackup(t *testing.T) {
	for _, d := range []Durability{Fsync, Async} {
		e := open(t, Options{Dir: t.TempDir(), Durability: d}, storetest.Limits{})
		defer shut(e)
		var mu sync.Mutex
		acked := map[string]bool{}
		stop := make(chan struct{})
		var run sync.WaitGroup
		begun := make(chan struct{}, 4)
		for p := range 4 {
			c := claim(t, e, store.ClaimReq{ClientID: fmt.Sprint("s", p), Expiry: 100})
			run.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					body := fmt.Sprint(p, "-", i)
					err := do(t, func(k store.Completer) (bool, error) {
						return e.Publish(message(t, "t", body, 1, false), []store.Target{{To: c.s, QoS: 1}}, store.Inbound{}, k, 0)
					})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					acked[body] = true
					mu.Unlock()
					if i == 50 {
						begun <- struct{}{}
					}
				}
			})
		}
		for range 4 {
			<-begun
		}
		mu.Lock()
		before := make([]string, 0, len(acked))
		for body := range acked {
			before = append(before, body)
		}
		mu.Unlock()
		to := filepath.Join(t.TempDir(), "copy")
		if err := e.Backup(context.Background(), to); err != nil {
			t.Fatal(err)
		}
		if err := e.Backup(context.Background(), to); !errors.Is(err, ErrNotEmpty) {
			t.Errorf("a second copy in the same place: %v", err)
		}
		close(stop)
		run.Wait()
		sound(t, to, nil)
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(to), ".*")); len(left) > 0 {
			t.Errorf("%v is left", left)
		}
		if fi, err := os.Stat(to); err != nil || fi.Mode().Perm() != 0o700 {
			t.Errorf("%v %v", fi.Mode(), err)
		}
		v, err := OpenView(to, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		err = v.Dump(context.Background(), Parts{Queues: true}, func(l any) error { got[*l.(*QueuedLine).Payload] = true; return nil })
		if err := errors.Join(err, v.Close()); err != nil {
			t.Fatal(err)
		}
		for _, body := range before {
			if !got[body] {
				t.Errorf("%s was acknowledged before, and is not in the copy", body)
			}
		}
		t.Logf("%d acknowledged before, %d in the copy", len(before), len(got))
	}
}
