package broker

import (
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/myelin-mqtt/myelin/packet"
)

// TestStoredSubIDs: what comes from the disk has the identifiers of all its
// subscriptions [MQTT-3.3.4-4], for a client without topic aliases, too.
func TestStoredSubIDs(t *testing.T) {
	r := start(t, Options{SysInterval: -1, DataDir: "data", dataFS: vfs.NewMem()})
	a, _ := r.connect(packet.Connect{ClientID: "a", SessionExpiry: 1000})
	a.send(&packet.Subscribe{ID: 1, SubID: 1, Filters: []packet.Subscription{{Filter: "a/+", Options: 1}}})
	expect[*packet.Suback](a)
	a.send(&packet.Subscribe{ID: 2, SubID: 200, Filters: []packet.Subscription{{Filter: "a/#", Options: 2}}})
	expect[*packet.Suback](a)
	a.send(&packet.Disconnect{})
	a.closed()
	p := r.client("p")
	p.acked(message("a/b", "both", 2, 1))
	a, _ = r.connect(packet.Connect{ClientID: "a", SessionExpiry: 1000})
	ids := expect[*packet.Publish](a).SubIDs(nil)
	if slices.Sort(ids); !slices.Equal(ids, []uint32{1, 200}) { // their order is free
		t.Errorf("got %v", ids)
	}
}
