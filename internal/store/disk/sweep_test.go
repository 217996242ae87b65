package disk

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/store/storetest"
)

// flush has everything committed that is to be.
func flush(t testing.TB, e *Engine) {
	t.Helper()
	if err := do(t, func(c store.Completer) (bool, error) {
		return e.Publish(message(t, "flush", "x", 1, true), nil, store.Inbound{}, c, 0)
	}); err != nil {
		t.Fatal(err)
	}
}

func count(e *Engine, prefix byte) (n int) {
	e.scan(prefix, func(_, _ []byte) error { n++; return nil })
	return n
}

// TestStraggler: a message that one session does not take does not keep all
// the others of its segment on the disk; and it is still there afterwards, in
// its place among what was sent, acknowledged or not.
func TestStraggler(t *testing.T) {
	fs := vfs.NewMem()
	e := open(t, Options{Dir: "data", FS: fs, Durability: Async}, storetest.Limits{})
	defer func() { shut(e) }()
	slow, fast := claim(t, e, store.ClaimReq{ClientID: "slow", Expiry: 100}), claim(t, e, store.ClaimReq{ClientID: "fast", Expiry: 100})
	var want []string
	buf := make([]store.Delivery, 100)
	for i := range 3 * segSize {
		to := []store.Target{{To: fast.s, QoS: 1}}
		if i%100 == 50 {
			to = append(to, store.Target{To: slow.s, QoS: 1, Sub: 7})
			want = append(want, fmt.Sprint(i))
		}
		e.Publish(message(t, "t", fmt.Sprint(i), 1, false), to, store.Inbound{}, nil, 0)
		if i%1000 == 999 { // or all of it would be one group
			flush(t, e)
		}
	}
	for left := true; left; {
		var n int
		n, left = next(fast.s, buf, 0)
		for _, d := range buf[:n] {
			fast.s.Ack(d.LSN)
		}
	}
	flush(t, e)
	before := count(e, 'm')
	if err := e.sweep(); err != nil {
		t.Fatal(err)
	}
	flush(t, e)
	if n := count(e, 'm'); n > segSize+1500 || before < 2*segSize {
		t.Errorf("%d records of messages and targets are left of %d", n, before)
	}
	if err := e.sweep(); err != nil { // a second time there is nothing to do
		t.Fatal(err)
	}
	check := func(n int) {
		t.Helper()
		for len(want) > 0 && n > 0 {
			k, _ := next(slow.s, buf[:min(n, len(buf))], 0)
			for _, d := range buf[:k] {
				if body(d) != want[0] || d.Sub != 7 {
					t.Fatalf("%s comes with %d, want %s", body(d), d.Sub, want[0])
				}
				slow.s.Ack(d.LSN)
				want = want[1:]
			}
			n -= k
		}
	}
	check(20)
	shut(e)
	e = open(t, Options{Dir: "data", FS: fs}, storetest.Limits{})
	if s := e.Stats(); s.Queued != len(want) {
		t.Errorf("%d messages wait, want %d", s.Queued, len(want))
	}
	slow = claim(t, e, store.ClaimReq{ClientID: "slow", Expiry: 100})
	check(1000)
	if len(want) > 0 {
		t.Errorf("%d did not come", len(want))
	}
}

// TestSubscriptionsGo: those of a session that has ended are deleted, also
// after a restart.
func TestSubscriptionsGo(t *testing.T) {
	fs := vfs.NewMem()
	e := open(t, Options{Dir: "data", FS: fs}, storetest.Limits{})
	defer func() { shut(e) }()
	for _, id := range []string{"a", "b", "c"} {
		c := claim(t, e, store.ClaimReq{ClientID: id, Expiry: 100})
		do(t, func(w store.Completer) (bool, error) {
			return c.s.Subscribe([]store.Sub{{Filter: "x/" + id}, {Filter: "y/" + id}}, w, 0), nil
		})
		if id != "b" {
			c.s.End(nil, 0)
		}
		if id == "a" {
			if err := e.sweep(); err != nil {
				t.Fatal(err)
			}
		}
	}
	flush(t, e)
	if n := count(e, 'u'); n != 4 {
		t.Errorf("%d subscriptions are on the disk, want those of b and c", n)
	}
	shut(e)
	e = open(t, Options{Dir: "data", FS: fs}, storetest.Limits{})
	got := ""
	if err := e.Recover(func(s *store.Stored) bool { got += fmt.Sprint(s.ClientID, s.Subs); return true }); err != nil {
		t.Fatal(err)
	}
	if want := "b[{x/b 0 q0 false} {y/b 0 q0 false}]"; got != want {
		t.Errorf("%s comes back, want %s", got, want)
	}
	if err := e.sweep(); err != nil {
		t.Fatal(err)
	}
	flush(t, e)
	if n := count(e, 'u'); n != 2 {
		t.Errorf("%d subscriptions are on the disk, want those of b", n)
	}
}

// TestDroppedBehindUnacknowledged: what a full queue drops while a message is
// never acknowledged takes no memory, and does not come back after a restart.
func TestDroppedBehindUnacknowledged(t *testing.T) {
	fs := vfs.NewMem()
	l := storetest.Limits{Messages: 10}
	e := open(t, Options{Dir: "data", FS: fs}, l)
	defer func() { shut(e) }()
	c := claim(t, e, store.ClaimReq{ClientID: "a", Expiry: 100})
	put := func(i int) {
		e.Publish(message(t, "t", fmt.Sprint(i), 1, false), []store.Target{{To: c.s, QoS: 1}}, store.Inbound{}, nil, 0)
	}
	put(0)
	buf := make([]store.Delivery, 1)
	if n, _ := next(c.s, buf, 0); n != 1 {
		t.Fatal("nothing comes")
	}
	for i := range 5000 {
		put(1 + i)
	}
	flush(t, e)
	if n := len(c.s.(*queue).w.given); n > 2 {
		t.Errorf("%d are kept as handed out", n)
	}
	shut(e)
	e = open(t, Options{Dir: "data", FS: fs}, l)
	c = claim(t, e, store.ClaimReq{ClientID: "a", Expiry: 100})
	got := ""
	for left := true; left; {
		var n int
		n, left = next(c.s, buf, 0)
		for _, d := range buf[:n] {
			got += body(d) + " "
		}
	}
	if want := "0 4991 4992 4993 4994 4995 4996 4997 4998 4999 5000 "; got != want {
		t.Errorf("%s come after a restart, want %s", got, want)
	}
}
