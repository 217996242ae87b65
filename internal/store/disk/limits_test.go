package disk

import (
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/myelin-mqtt/myelin/internal/session"
	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/store/storetest"
	"github.com/myelin-mqtt/myelin/packet"
)

// TestPushedOutAtOnce: where all queues together are full, a message for several
// sessions pushes itself out of the first ones: the others get it, the publisher
// is answered, and it is not counted twice.
func TestPushedOutAtOnce(t *testing.T) {
	fs := vfs.NewMem()
	lost := map[string]int{}
	o := Options{Dir: "data", FS: fs, Limits: session.Limits{TotalMessages: 2}, OnDrop: func(id string, m *packet.Publish, _ store.Reason) {
		if m == nil {
			t.Errorf("%s has lost something that is not known", id)
		}
		lost[id]++
	}}
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { shut(e) }()
	var to []store.Target
	for _, id := range []string{"a", "b", "c", "d"} {
		to = append(to, store.Target{To: claim(t, e, store.ClaimReq{ClientID: id, Expiry: 100}).s, QoS: 1})
	}
	for range 3 {
		must(t, func(c store.Completer) (bool, error) {
			return e.Publish(message(t, "t", strings.Repeat("x", 2000), 1, false), to, store.Inbound{}, c, 0)
		})
	}
	if s := e.Stats(); s.Queued != 2 || s.Dropped != 10 {
		t.Errorf("%d wait and %d are dropped, want 2 and 10", s.Queued, s.Dropped)
	}
	got := 0
	buf := make([]store.Delivery, 4)
	for _, x := range to {
		n, _ := next(x.To, buf, 0)
		for _, d := range buf[:n] {
			got++
			x.To.Ack(d.LSN)
		}
	}
	if got != 2 {
		t.Errorf("%d are delivered, want 2", got)
	}
	must(t, func(c store.Completer) (bool, error) { return to[0].To.Detach(100, false, c, 0), nil })
	e.mu.Lock()
	live := int64(0)
	for _, s := range e.segs {
		live += s.live
	}
	e.mu.Unlock()
	if live != 0 {
		t.Errorf("%d targets count as not finished", live)
	}
	shut(e)
	e = open(t, Options{Dir: "data", FS: fs}, storetest.Limits{})
	if s := e.Stats(); s.Queued != 0 {
		t.Errorf("%d come back", s.Queued)
	}
}

// TestPushedOutBySelf: a message that a session gets twice, and that has room
// once, pushes itself out, and is answered.
func TestPushedOutBySelf(t *testing.T) {
	e, err := Open(Options{Dir: "data", FS: vfs.NewMem(), Limits: session.Limits{TotalBytes: 3000}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { shut(e) }()
	a := claim(t, e, store.ClaimReq{ClientID: "a", Expiry: 100}).s
	big := message(t, "t", strings.Repeat("x", 2000), 1, false)
	for range 3 {
		must(t, func(c store.Completer) (bool, error) {
			return e.Publish(big, []store.Target{{To: a, QoS: 1}, {To: a, QoS: 1, Sub: 7}}, store.Inbound{}, c, 0)
		})
	}
	buf := make([]store.Delivery, 4)
	if n, _ := next(a, buf, 0); n != 1 || buf[0].Sub != 7 {
		t.Errorf("%d are delivered, want the last one", n)
	}
}
