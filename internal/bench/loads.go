//go:build linux

package bench

import (
	"fmt"
	"time"
)

// Load is one thing to measure. A load with connections to hold (Conns) sends no messages.
type Load struct {
	Name    string  // how -run finds it
	Title   string  // how the tables call it
	Version byte    // protocol level: 4 or 5
	QoS     byte    // of publishers and subscribers
	Shape   Shape   // who gets what
	Pubs    int     // publishers
	Subs    int     // subscribers
	Payload int     // bytes
	Window  int     // messages that a publisher has under way; 0 with a rate
	Rate    int     // messages a second of all publishers together; 0: as fast as the windows let them
	Conns   int     // connections to hold
	Filters int     // subscriptions of each of those
	Filter  string  // format of subscription k of connection c, from c and k
	Goal    float64 // the most that Myelin may take, in the unit of the load's measure; 0: none
}

// Shape tells how messages get from publishers to subscribers.
type Shape uint8

const (
	// Pairs sends from each publisher to the subscriber of the same number.
	Pairs Shape = iota
	// All sends each message to all subscribers.
	All
	// Spread sends from publisher p to subscriber p modulo their number.
	Spread
	// Shared sends each message to one of all subscribers, which share a subscription.
	Shared
)

// targets is how many deliveries one message makes.
func (l *Load) targets() int {
	if l.Shape == All {
		return l.Subs
	}
	return 1
}

// topic is where publisher p sends to.
func (l *Load) topic(p int) string {
	switch l.Shape {
	case Pairs:
		return fmt.Sprintf("bench/p2p/%d", p)
	case All:
		return "bench/fan"
	default:
		return fmt.Sprintf("bench/in/%d/%d", p%l.Subs, p)
	}
}

// filter is what subscriber s subscribes to.
func (l *Load) filter(s int) string {
	switch l.Shape {
	case Pairs, All:
		return l.topic(s)
	case Spread:
		return fmt.Sprintf("bench/in/%d/+", s)
	default:
		return "$share/bench/bench/in/#"
	}
}

// Loads lists everything that is measured, in the order of the tables. The goals are those of the project, for a
// broker on one core.
func Loads() []Load {
	const near = 1.2 // MQTT 5 may cost a fifth more than 3.1.1
	p2p := func(version, qos byte, name string, window int, goal float64) Load {
		return Load{
			Name:    fmt.Sprintf("p2p-q%d-%s", qos, name),
			Title:   fmt.Sprintf("point to point 100 -> 100, 256 B, QoS %d, %s", qos, title(version)),
			Version: version, QoS: qos, Shape: Pairs, Pubs: 100, Subs: 100, Payload: 256, Window: window, Goal: goal,
		}
	}
	fan := func(qos byte, goal float64) Load {
		return Load{
			Name:    fmt.Sprintf("fanout-q%d", qos),
			Title:   fmt.Sprintf("fan-out 5 -> 1000, 64 B, QoS %d", qos),
			Version: v311, QoS: qos, Shape: All, Pubs: 5, Subs: 1000, Payload: 64, Window: 10, Goal: goal,
		}
	}
	in := func(shape Shape, name, title string) Load {
		return Load{
			Name: name, Title: "fan-in 1000 -> 5, 64 B, QoS 1" + title,
			Version: v311, QoS: 1, Shape: shape, Pubs: 1000, Subs: 5, Payload: 64, Window: 1, Goal: 8,
		}
	}
	paced := func(qos byte, goal float64) Load {
		return Load{
			Name:    fmt.Sprintf("paced-q%d", qos),
			Title:   fmt.Sprintf("paced 10,000/s, 100 -> 100, 256 B, QoS %d", qos),
			Version: v311, QoS: qos, Shape: Pairs, Pubs: 100, Subs: 100, Payload: 256, Rate: 10_000, Goal: goal,
		}
	}
	return []Load{
		p2p(v311, 0, "v311", 20, 0.6),
		p2p(v5, 0, "v5", 20, 0.6*near),
		p2p(v311, 1, "v311", 20, 1.8),
		p2p(v5, 1, "v5", 20, 1.8*near),
		p2p(v311, 2, "v311", 20, 2.8),
		p2p(v5, 2, "v5", 20, 2.8*near),
		fan(0, 0.6),
		fan(1, 0.75),
		in(Spread, "fanin-q1", ""),
		in(Shared, "fanin-q1-share", ", $share"),
		paced(0, 33),
		paced(1, 0),
		{
			Name: "idle", Title: "10,000 idle connections, one exact subscription each",
			Version: v311, Conns: 10_000, Filters: 1, Filter: "bench/idle%[2]d/%[1]d", Goal: 1200,
		},
		{
			Name: "subs", Title: "1,000,000 subscriptions client/+/n, 1000 clients",
			Version: v311, Conns: 1000, Filters: 1000, Filter: "bench/%d/+/%d", Goal: 300,
		},
		{
			Name: "subs-deep", Title: "1,000,000 subscriptions client/n/+/state, 1000 clients",
			Version: v311, Conns: 1000, Filters: 1000, Filter: "bench/%d/%d/+/state", Goal: 300,
		},
	}
}

func title(version byte) string {
	if version == v5 {
		return "5.0"
	}
	return "3.1.1"
}

// Timing bounds a run.
type Timing struct {
	Warm    time.Duration // before the measuring begins
	Measure time.Duration // counted
	Stall   time.Duration // without any progress, a run has failed
	Settle  time.Duration // between the last subscription and the reading of the memory
	Limit   time.Duration // of one run with everything in it; the broker is killed then
}
