//go:build linux

package bench

import (
	"fmt"
	"time"
)

// Load is one thing to measure. A load with connections to hold (Conns) sends no messages; one with a Trial does what
// that says.
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

	Durable bool // all sessions outlive their connections, and the broker keeps them as well as it can
	Trial   func(*trial) error
	Figures []Figure // what the trial gives, in the order of the table
	Total   int      // messages of all publishers together; 0: as many as there is time for
	Alone   bool     // nothing of it compares: only the first of the brokers runs it
	Heavy   bool     // as Alone, and takes long: it is run once
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
	// Each sends each message to the next subscriber.
	Each
)

// targets is how many deliveries one message makes.
func (l *Load) targets() int {
	if l.Shape == All {
		return l.Subs
	}
	return 1
}

// Connections is how many the load has open at a time, about.
func (l *Load) Connections() int {
	if l.Trial != nil {
		return l.Pubs + min(l.Subs, 1000)
	}
	return l.Conns + l.Pubs + l.Subs
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
	lasting := p2p(v311, 1, "durable", 20, 3)
	lasting.Title, lasting.Durable = lasting.Title+", durable sessions", true
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
	all := []Load{
		p2p(v311, 0, "v311", 20, 0.6),
		p2p(v5, 0, "v5", 20, 0.6*near),
		p2p(v311, 1, "v311", 20, 1.8),
		p2p(v5, 1, "v5", 20, 1.8*near),
		p2p(v311, 2, "v311", 20, 2.8),
		p2p(v5, 2, "v5", 20, 2.8*near),
		lasting,
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
	return append(all, trials()...)
}

// trials lists what is measured with sessions that outlive their connections, and with retained messages.
func trials() []Load {
	const mb = " resident, MB"
	return []Load{
		{
			Name: "store-q1", Title: "1000 sessions away, 10 publishers, 256 B, QoS 1, each message to the next session",
			Version: v311, QoS: 1, Shape: Each, Pubs: 10, Subs: 1000, Payload: 256, Window: 100, Durable: true, Trial: tryStore,
			Figures: []Figure{
				{"rate", "acknowledged per second", AtLeast, 200_000},
				{"cpu", "broker CPU-seconds per million", AtMost, 5},
				{"lost", "acknowledged and lost by kill -9", AtMost, 0},
				{"restart", "restart, s", NoGoal, 0},
				{"drained", "delivered per second after it", NoGoal, 0},
			},
		},
		{
			Name: "store-alone", Title: "1 session away, 1 publisher, 256 B, QoS 1, one message under way",
			Version: v311, QoS: 1, Shape: Each, Pubs: 1, Subs: 1, Payload: 256, Window: 1, Durable: true, Alone: true, Trial: tryAlone,
			Figures: []Figure{
				{"ack", "median acknowledgement, µs", NoGoal, 0},
				{"sync", "median of a bare write and fsync between them, µs", NoGoal, 0},
				{"ratio", "acknowledgement / bare fsync", AtMost, 1.5},
			},
		},
		{
			Name: "store-wide", Title: "10,000 sessions away, each message to all",
			Version: v311, QoS: 1, Shape: All, Pubs: 1, Subs: 10_000, Payload: 128 << 10, Window: 1, Durable: true, Alone: true, Trial: tryWide,
			Figures: []Figure{
				{"ack", "median acknowledgement of 128 KiB, ms", AtMost, 10},
				{"slowest", "slowest of 20, ms", NoGoal, 0},
				{"payloads", "written to the disk per message, in payloads", AtMost, 2},
				{"lost", "lost", AtMost, 0},
			},
		},
		{
			Name: "heavy-queued", Title: "10,000,000 messages of 64 B queued for 1000 sessions away",
			Version: v311, QoS: 1, Shape: Each, Pubs: 10, Subs: 1000, Payload: 64, Window: 200, Total: 10_000_000, Durable: true, Heavy: true, Trial: tryQueued,
			Figures: []Figure{
				{"rate", "acknowledged per second", NoGoal, 0},
				{"rss", "with all of them queued," + mb, AtMost, 300},
				{"restart", "restart after kill -9, s", AtMost, 5},
				{"rss-after", "after the restart," + mb, AtMost, 300},
				{"peak", "the most since the restart," + mb, NoGoal, 0},
				{"lost", "lost of those of 10 sessions", AtMost, 0},
			},
		},
		{
			Name: "heavy-sessions", Title: "1,000,000 sessions away, one subscription each",
			Version: v311, QoS: 1, Shape: Each, Subs: 1_000_000, Payload: 64, Durable: true, Heavy: true, Trial: tryMany,
			Figures: []Figure{
				{"made", "made per second", NoGoal, 0},
				{"rss", "with all of them," + mb, AtMost, 400},
				{"restart", "restart after kill -9, s", AtMost, 5},
				{"rss-after", "after the restart," + mb, AtMost, 400},
				{"peak", "the most since the restart," + mb, NoGoal, 0},
			},
		},
		{
			Name: "heavy-retained", Title: "1,000,000 retained messages of 64 B, and 1000 live ones a second",
			Version: v311, QoS: 1, Pubs: 1, Payload: 64, Window: 1000, Total: 1_000_000, Heavy: true, Trial: tryRetained,
			Figures: []Figure{
				{"made", "acknowledged per second", NoGoal, 0},
				{"bytes", "resident bytes each, beside the payload", AtMost, 300},
				{"restart", "restart after kill -9, s", NoGoal, 0},
				{"delivered", "delivered to one that subscribes to #, complete, per second", NoGoal, 0},
				{"alone", "median latency of live messages before, µs", NoGoal, 0},
				{"beside", "median latency of live messages meanwhile, µs", NoGoal, 0},
				{"ratio", "meanwhile / before", AtMost, 2},
				{"peak", "the most since the restart," + mb, NoGoal, 0},
			},
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
