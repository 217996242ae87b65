package broker

import (
	"fmt"
	"testing"

	"github.com/myelin-mqtt/myelin/packet"
)

func TestPace(t *testing.T) {
	var p pace
	send := func(now int64, q packet.QoS, bytes int) (n int) {
		for p.room(now) {
			p.sent(q, bytes)
			n++
		}
		return n
	}
	now := int64(1e18)
	for _, x := range []struct {
		what  string
		after int64
		q     packet.QoS
		bytes int
		want  int
	}{
		{"the first", 0, 0, 10, paceBurst},
		{"at once", 0, 0, 10, 0},
		{"within the period", pacePeriod - 1, 0, 10, 0},
		{"in the next", 1, 0, 10, paceRate},
		{"two later", 2 * pacePeriod, 0, 10, 2 * paceRate},
		{"acknowledged", 3 * pacePeriod, 1, 10, paceRate},
		{"large", 2 * pacePeriod, 0, paceBytes, paceRate},
		{"after a pause", 100 * pacePeriod, 2, 10, paceBurst/3 + 1},
		{"the clock is set back", -1e15, 0, 10, paceBurst},
	} {
		now += x.after
		if got := send(now, x.q, x.bytes); got != x.want {
			t.Errorf("%s: %d messages, want %d", x.what, got, x.want)
		}
		p.left = min(p.left, 0)
	}
}

// Retained messages beyond what goes at once come all, to a client that
// connects again meanwhile, too.
func TestPacedRetained(t *testing.T) {
	atOnce(t)
	each(t, func(t *testing.T, io string) {
		r := start(t, Options{IO: io, SysInterval: -1, Loops: 1})
		const n = paceBurst + 10*paceRate
		turn := r.borrow()
		for i := range n {
			m, err := packet.NewPublish(&packet.Message{Topic: fmt.Sprintf("r/%d", i), Payload: []byte("x"), Retain: true, QoS: 1}, turn.now)
			if err != nil {
				t.Fatal(err)
			}
			turn.routeFor(m, nobody{})
		}
		r.give(turn)
		for _, q := range []packet.SubOptions{0, 1} {
			c := durable(fmt.Sprint("s", q))
			s, _ := r.connect(c)
			s.send(&packet.Subscribe{ID: 1, Filters: []packet.Subscription{{Filter: "#", Options: q}}})
			got := map[string]bool{}
			for i := 0; len(got) < n; i++ {
				m, ok := s.next().(*packet.Publish)
				if !ok {
					continue
				}
				got[string(m.Topic())] = true
				if m.QoS() == 1 {
					s.send(&packet.Ack{Kind: packet.PUBACK, ID: m.ID})
				}
				if q == 1 && i%1500 == 1499 {
					s.leave(r)
					s, _ = r.connect(c)
				}
			}
			s.leave(r)
		}
	})
}
