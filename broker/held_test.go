package broker

import (
	"fmt"
	"testing"

	"github.com/myelin-mqtt/myelin/packet"
)

// What waits in memory for slow clients is bounded for all of them together:
// who is slow loses his own oldest messages, and it counts down again when he
// catches up or goes.
func TestHeldIsBoundedTogether(t *testing.T) {
	for _, x := range []struct {
		policy QueuePolicy
		first  string // of those that waited
	}{{DropOldest, "3"}, {DropNew, "1"}, {Refuse, "1"}} {
		t.Run(fmt.Sprint(x.policy), func(t *testing.T) {
			r := start(t, Options{SysInterval: -1, Queue: QueueOptions{TotalMessages: 4, Policy: x.policy}})
			slow := map[string]*peer{}
			for _, id := range []string{"a", "b"} {
				slow[id], _ = r.connect(packet.Connect{ClientID: id, CleanStart: true, ReceiveMax: 1})
				slow[id].subscribe("t/"+id, 1)
			}
			p := r.client("p")
			for i := range 5 { // the first is in flight, and four wait
				p.publish(packet.Message{Topic: "t/a", Payload: fmt.Append(nil, i)})
			}
			if n := r.held.messages.Load(); n != 4 {
				t.Fatalf("%d wait", n)
			}
			for i := 5; i < 7; i++ { // all together are at the limit
				p.publish(packet.Message{Topic: "t/a", Payload: fmt.Append(nil, i)})
			}
			for i := range 3 { // one may wait for everybody
				p.publish(packet.Message{Topic: "t/b", Payload: fmt.Append(nil, i)})
			}
			if n, want := r.held.messages.Load(), int64(5); n != want {
				t.Errorf("%d wait, want %d", n, want)
			}
			if n := r.Stats().Dropped[DropQueueFull.String()]; n != 3 {
				t.Errorf("%d were dropped, want 3", n)
			}
			m := expect[*packet.Publish](slow["a"])
			slow["a"].send(&packet.Ack{Kind: packet.PUBACK, ID: m.ID})
			if m = expect[*packet.Publish](slow["a"]); string(m.Payload()) != x.first {
				t.Errorf("%s comes next, want %s", m.Payload(), x.first)
			}
			for range 3 {
				slow["a"].send(&packet.Ack{Kind: packet.PUBACK, ID: m.ID})
				m = expect[*packet.Publish](slow["a"])
			}
			eventually(t, "only what waits for b counts", func() bool { return r.held.messages.Load() == 1 })
			slow["b"].c.Close()
			eventually(t, "nothing counts", func() bool { return r.held.messages.Load() == 0 && r.held.bytes.Load() == 0 })
		})
	}
}
