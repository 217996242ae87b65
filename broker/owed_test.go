package broker

import (
	"fmt"
	"testing"

	"github.com/myelin-mqtt/myelin/packet"
)

// TestRetainedOwed: the retained messages that a durable subscription brings
// come, whatever the client had got of them when the broker stopped; and once
// they have been queued they do not come again after another restart.
func TestRetainedOwed(t *testing.T) {
	const n = retainedAhead + 50
	restarts(t, func(r *running) {
		p := r.client("p")
		for i := range n {
			p.acked(pub(packet.Message{Topic: fmt.Sprint("r/", i), Payload: []byte("kept"), QoS: 1, Retain: true}, 1))
		}
		a, _ := r.connect(packet.Connect{ClientID: "a", SessionExpiry: 1000, ReceiveMax: 1})
		a.subscribe("r/#", 1)
		expect[*packet.Publish](a) // and no acknowledgement: the others have to wait
	}, func(r *running, _ bool) {
		a, ack := r.connect(packet.Connect{ClientID: "a", SessionExpiry: 1000})
		if !ack.SessionPresent {
			t.Fatal("the session is gone")
		}
		seen := map[string]bool{}
		for len(seen) < n {
			m := expect[*packet.Publish](a)
			seen[string(m.Topic())] = true
			if !m.Retain() {
				t.Fatalf("%s comes without RETAIN", m.Topic())
			}
			a.send(puback(m.ID))
		}
		for { // what was queued before the stop may come twice
			a.send(&packet.Pingreq{})
			x := a.next()
			m, ok := x.(*packet.Publish)
			if !ok {
				break
			}
			a.send(puback(m.ID))
		}
	})
}

// TestRetainedNotOwed: what was queued is not owed after a restart.
func TestRetainedNotOwed(t *testing.T) {
	restarts(t, func(r *running) {
		p := r.client("p")
		p.acked(pub(packet.Message{Topic: "r", Payload: []byte("kept"), QoS: 1, Retain: true}, 1))
		a, _ := r.connect(packet.Connect{ClientID: "a", SessionExpiry: 1000})
		a.subscribe("r", 1)
		a.send(puback(expect[*packet.Publish](a).ID))
		a.subscribe("other", 1) // so that what was acknowledged and settled before is on the disk
		a.subscribe("another", 1)
	}, func(r *running, _ bool) {
		a, _ := r.connect(packet.Connect{ClientID: "a", SessionExpiry: 1000})
		a.quiet()
		a.subscribe("r", 1) // a new SUBSCRIBE brings it again
		expect[*packet.Publish](a)
	})
}
