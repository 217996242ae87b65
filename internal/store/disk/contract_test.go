package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/store/storetest"
	"github.com/myelin-mqtt/myelin/packet"
)

// after opens what is on the disk at this moment, unsynced data gone, and tells
// of its sessions.
func after(t *testing.T, fs *vfs.MemFS) map[string]*store.Stored {
	t.Helper()
	e := open(t, Options{Dir: "data", FS: fs.CrashClone(vfs.CrashCloneCfg{})}, storetest.Limits{})
	t.Cleanup(func() { shut(e) })
	all := map[string]*store.Stored{}
	if err := e.Recover(func(s *store.Stored) bool { all[s.ClientID] = s; return true }); err != nil {
		t.Fatal(err)
	}
	return all
}

func must(t *testing.T, f func(c store.Completer) (bool, error)) {
	t.Helper()
	if err := do(t, f); err != nil {
		t.Fatal(err)
	}
}

// TestHandshakePoints crashes at each point of a QoS 2 delivery, of which each
// word was durable: the message goes on from there, once, with its identifier.
func TestHandshakePoints(t *testing.T) {
	fs := vfs.NewCrashableMem()
	e := open(t, Options{Dir: "data", FS: fs}, storetest.Limits{})
	defer shut(e)
	from := claim(t, e, store.ClaimReq{ClientID: "from", Expiry: 100}).s
	to := claim(t, e, store.ClaimReq{ClientID: "to", Expiry: 100}).s
	state := func() string {
		all := after(t, fs)
		s := fmt.Sprint("inbound ", all["from"].Inbound)
		for _, o := range all["to"].Out {
			s += fmt.Sprintf(", %d in flight", o.ID)
			if o.Recorded {
				s += ", recorded"
			} else {
				s += ": " + body(o.Delivery)
			}
		}
		buf := make([]store.Delivery, 4)
		n, _ := next(all["to"].Session, buf, 0)
		for _, d := range buf[:n] {
			s += ", waits: " + body(d)
		}
		return s
	}
	check := func(what, want string) {
		t.Helper()
		if got := state(); got != want {
			t.Errorf("after %s: %s, want %s", what, got, want)
		}
	}
	publish := func(text string) {
		must(t, func(c store.Completer) (bool, error) {
			return e.Publish(message(t, "t", text, 2, false), []store.Target{{To: to, QoS: 2}}, store.Inbound{From: from, ID: 9}, c, 0)
		})
	}
	publish("a")
	check("PUBREC to the publisher", "inbound [9], waits: a")
	must(t, func(c store.Completer) (bool, error) { return from.Release2(9, c, 0), nil })
	check("PUBCOMP to the publisher", "inbound [], waits: a")
	buf := make([]store.Delivery, 1)
	next(to, buf, 0)
	check("Next", "inbound [], waits: a")
	must(t, func(c store.Completer) (bool, error) { return to.Sent2(buf[0].LSN, 3, c, 0), nil })
	check("PUBLISH to the subscriber", "inbound [], 3 in flight: a")
	must(t, func(c store.Completer) (bool, error) { return to.Received2(3, c, 0), nil })
	check("PUBREL to the subscriber", "inbound [], 3 in flight, recorded")
	to.Ack(buf[0].LSN)
	flush(t, e)
	check("PUBCOMP from the subscriber", "inbound []")
	publish("b") // the identifiers are free for what comes next
	next(to, buf, 0)
	must(t, func(c store.Completer) (bool, error) { return to.Sent2(buf[0].LSN, 3, c, 0), nil })
	check("the identifiers again", "inbound [9], 3 in flight: b")
}

// TestElidedPublisher: the identifier of a publisher is on the disk when he is
// answered, although everybody had acknowledged his message by then and it was
// never written.
func TestElidedPublisher(t *testing.T) {
	fs := vfs.NewCrashableMem()
	e := open(t, Options{Dir: "data", FS: fs}, storetest.Limits{})
	defer shut(e)
	from := claim(t, e, store.ClaimReq{ClientID: "from", Expiry: 100}).s
	to := claim(t, e, store.ClaimReq{ClientID: "to", Expiry: 100}).s
	buf := make([]store.Delivery, 1)
	for id := uint16(1); id < 50; id++ {
		must(t, func(c store.Completer) (bool, error) {
			done, err := e.Publish(message(t, "t", "x", 2, false), []store.Target{{To: to, QoS: 1}}, store.Inbound{From: from, ID: id}, c, 0)
			for n := 0; n == 0; {
				n, _ = next(to, buf, 0)
			}
			to.Ack(buf[0].LSN)
			return done, err
		})
		if got := after(t, fs)["from"].Inbound; len(got) != int(id) {
			t.Fatalf("%d identifiers are there after %d were answered", len(got), id)
		}
	}
}

// TestFanOutSpace: a payload is on the disk once, whatever the number of those
// who wait for it.
func TestFanOutSpace(t *testing.T) {
	dir := t.TempDir()
	e := open(t, Options{Dir: dir, Durability: Async}, storetest.Limits{})
	var to []store.Target
	for i := range 10_000 {
		e.Claim(store.ClaimReq{ClientID: fmt.Sprint(i), Expiry: 100}, &claimer{c: make(chan struct{})})
		if i%1000 == 0 {
			flush(t, e)
		}
	}
	flush(t, e)
	e.eachQueue(func(q *queue) { to = append(to, store.Target{To: q, QoS: 1}) })
	before := used(t, dir)
	const size = 100 << 10
	must(t, func(c store.Completer) (bool, error) {
		return e.Publish(message(t, "t", strings.Repeat("x", size), 1, false), to, store.Inbound{}, c, 0)
	})
	shut(e) // so that all of it is in files
	if grown := used(t, dir) - before; grown < size/100 || grown > 4*size {
		t.Errorf("the files have grown by %d bytes for %d", grown, size)
	}
	e = open(t, Options{Dir: dir}, storetest.Limits{})
	defer shut(e)
	if s := e.Stats(); s.Queued != 10_000 {
		t.Errorf("%d wait for it", s.Queued)
	}
}

// used is the length of what is in the files, without the zeros at the end of a
// log that is made ahead.
func used(t *testing.T, dir string) (n int64) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		n += int64(len(strings.TrimRight(string(b), "\x00")))
	}
	return n
}

// TestSessionNumbers: the messages of a session that has ended do not come to a
// later one with its client identifier.
func TestSessionNumbers(t *testing.T) {
	fs := vfs.NewCrashableMem()
	e := open(t, Options{Dir: "data", FS: fs}, storetest.Limits{})
	defer shut(e)
	for range 3 {
		c := claim(t, e, store.ClaimReq{ClientID: "a", Clean: true, Expiry: 100})
		must(t, func(w store.Completer) (bool, error) {
			return e.Publish(message(t, "t", "old", packet.QoS(1), false), []store.Target{{To: c.s, QoS: 1}}, store.Inbound{}, w, 0)
		})
	}
	claim(t, e, store.ClaimReq{ClientID: "a", Clean: true, Expiry: 100})
	if n, _ := after(t, fs)["a"].Session.Queued(); n != 0 {
		t.Errorf("%d messages of earlier sessions wait", n)
	}
}
