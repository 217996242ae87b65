package load

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// Key is one part of the description of a load: a flag of `myelin bench`, and a
// key of a scenario.
type Key struct {
	Name  string // "warm-up"
	Short string // the flag of one letter; may be empty
	Type  string // what it wants, for help: "N", "DURATION" …
	Usage string // one line, without a full stop

	set func(*Plan, string) (what, hint string)
}

// Check says what is wrong with a value and what to try, "": nothing.
func (k Key) Check(v string) (what, hint string) {
	var p Plan
	return k.set(&p, v)
}

// Setting is a key with a value.
type Setting struct {
	Key, Value string
	// Where it was given: "bench.yaml:12", or "--clients".
	Where string

	line int
}

// Keys are all of them, in the order of the help.
func Keys() []Key {
	return []Key{
		{"load", "", "LOAD", "what to do: connect, publish, subscribe, p2p, fan-out, fan-in, shared, idle, offline or request", setLoad},
		{"name", "", "TEXT", "how the report calls it (default: the load)", func(p *Plan, v string) (string, string) { p.Name = v; return "", "" }},
		{"clients", "n", "N", "how many clients there are of the side that there are many of (default 100; idle 1000; shared 10)", count(1, maxClients, func(p *Plan) *int { return &p.Clients })},
		{"publishers", "", "N", "publishers, or requesters (default: as clients; fan-out and offline 1)", count(1, maxClients, func(p *Plan) *int { return &p.Publishers })},
		{"subscribers", "", "N", "subscribers, or responders (default: as clients; fan-in and request 1)", count(1, maxClients, func(p *Plan) *int { return &p.Subscribers })},
		{"topics", "", "N", "topics of each publisher, used in turn; of a fan-out: of all; of subscribe and idle: filters of a client (default 1; idle 0)", count(0, maxTopics, func(p *Plan) *int { return &p.Topics })},
		{"topic", "", "TOPIC", "what all topics begin with (default myelin/bench)", func(p *Plan, v string) (string, string) { p.Topic = v; return "", "" }},
		{"size", "s", "BYTES", fmt.Sprintf("payload, at least %d (default 256)", HeaderSize), count(0, packet.MaxRemaining/2, func(p *Plan) *int { return &p.Size })},
		{"qos", "q", "0|1|2", "quality of service of publishers and subscribers (default 0; offline 1)", setQoS},
		{"rate", "", "N", "open loop: messages (connects, subscribes) a second of all clients together (default 0: a closed loop)", setRate},
		{"window", "", "N", "closed loop: messages that a publisher has under way (default 20; fan-in and shared 1)", count(1, maxWindow, func(p *Plan) *int { return &p.Window })},
		{"duration", "", "DURATION", "how long to measure (default 10s; with a count: until it is reached)", lasting(func(p *Plan) *time.Duration { return &p.Duration })},
		{"warm-up", "", "DURATION", "how long to run before that (default 1s; idle and offline 0s)", lasting(func(p *Plan) *time.Duration { return &p.WarmUp })},
		{"ramp", "", "DURATION", "time over which the connections are opened (default 0: as fast as they can be)", lasting(func(p *Plan) *time.Duration { return &p.Ramp })},
		{"count", "", "N", "messages (connects, subscribes) to measure, at most (default 0: no limit; offline 1000 for each subscriber)", setCount},
		{"grace", "", "DURATION", "how long to wait, without progress, for what is under way at the end (default 5s)", lasting(func(p *Plan) *time.Duration { return &p.Grace })},
	}
}

// build makes a plan of settings, where later ones beat earlier ones, and the
// defaults.
func build(settings []Setting) (Plan, Faults) {
	p := Plan{Load: P2P, Topic: "myelin/bench", Topics: -1, Size: 256, WarmUp: time.Second, Grace: 5 * time.Second}
	keys := map[string]Key{}
	for _, k := range Keys() {
		keys[k.Name] = k
	}
	var faults Faults
	last := map[string]Setting{}
	for _, s := range settings {
		last[s.Key] = s
		if what, hint := keys[s.Key].set(&p, s.Value); what != "" {
			faults = append(faults, Fault{Where: s.Where, What: s.Key + ": " + what, Hint: hint, line: s.line})
		}
	}
	if len(faults) > 0 {
		return p, faults
	}
	p.defaults(last)
	p.check(func(key, what, hint string) {
		f := Fault{Where: "--" + key, What: what, Hint: hint}
		for _, k := range []string{key, "load"} {
			if s, given := last[k]; given {
				f.Where, f.line = s.Where, s.line
				break
			}
		}
		faults = append(faults, f)
	})
	return p, faults
}

// defaults fills in what depends on the load.
func (p *Plan) defaults(given map[string]Setting) {
	p.sides()
	has := func(key string) bool { _, ok := given[key]; return ok }
	if p.Name == "" {
		p.Name = string(p.Load)
	}
	if p.Topics < 0 {
		p.Topics = 1
		if p.Load == Idle {
			p.Topics = 0
		}
	}
	if p.Load == Offline && !has("qos") {
		p.QoS = packet.AtLeastOnce
	}
	if p.Window == 0 {
		p.Window = 20
		if p.Load == FanIn || p.Load == Shared {
			p.Window = 1
		}
	}
	switch limited := has("duration") || has("count"); {
	case p.Load == Offline && !limited: // brokers keep so many for a session
		p.Count = 1000 * uint64(p.Subscribers)
	case !limited || p.Load == Idle && !has("duration"):
		p.Duration = 10 * time.Second
	}
	if (p.Load == Idle || p.Load == Offline) && !has("warm-up") {
		p.WarmUp = 0
	}
}

func setLoad(p *Plan, v string) (what, hint string) {
	if p.Load = Kind(v); known(p.Load) {
		return "", ""
	}
	var names []string
	for _, k := range Kinds() {
		names = append(names, string(k))
	}
	return fmt.Sprintf("there is no load %q", v), "choose one of " + strings.Join(names, ", ")
}

func setQoS(p *Plan, v string) (what, hint string) {
	if len(v) != 1 || v[0] < '0' || v[0] > '2' {
		return fmt.Sprintf("%q is no quality of service", v), "use 0, 1 or 2"
	}
	p.QoS = packet.QoS(v[0] - '0')
	return "", ""
}

func setRate(p *Plan, v string) (what, hint string) {
	n, err := strconv.ParseFloat(v, 64)
	switch {
	case err != nil || math.IsNaN(n) || n < 0:
		return fmt.Sprintf("%q is no rate", v), "write messages a second, such as 10000"
	case n > 1e9 || n > 0 && n < 1e-3:
		return v + " messages a second is out of range", "use 0.001 to 1000000000, or 0 for a closed loop"
	}
	p.Rate = n
	return "", ""
}

func setCount(p *Plan, v string) (what, hint string) {
	n, err := strconv.ParseUint(v, 10, 48)
	if err != nil {
		return fmt.Sprintf("%q is no count", v), "write a whole number"
	}
	p.Count = n
	return "", ""
}

func count(least, most int, field func(*Plan) *int) func(*Plan, string) (string, string) {
	return func(p *Plan, v string) (what, hint string) {
		n, err := strconv.Atoi(v)
		switch {
		case err != nil:
			return fmt.Sprintf("%q is no number", v), "write a whole number"
		case n < least || n > most:
			return v + " is out of range", fmt.Sprintf("use %d to %d", least, most)
		}
		*field(p) = n
		return "", ""
	}
}

func lasting(field func(*Plan) *time.Duration) func(*Plan, string) (string, string) {
	return func(p *Plan, v string) (what, hint string) {
		d, err := time.ParseDuration(v)
		if n, bad := strconv.ParseFloat(v, 64); err != nil && bad == nil && math.Abs(n) < 1e9 {
			d, err = time.Duration(n*float64(time.Second)), nil
		}
		if err != nil {
			return fmt.Sprintf("%q is no duration", v), "write seconds, or a number with a unit, such as 90s or 2m"
		}
		if d < 0 || d > 365*24*time.Hour {
			return v + " is out of range", "use 0s to 8760h"
		}
		*field(p) = d
		return "", ""
	}
}

// Plans makes the plans of a scenario, the YAML text of a file with that name, or
// of no scenario where text is nil: of one load. The settings beat those of the
// scenario. It tells all faults.
func Plans(name string, text []byte, settings []Setting) (plans []Plan, faults Faults) {
	loads := [][]Setting{nil}
	if text != nil {
		loads, faults = scenario(name, text)
	}
	used := map[string]int{}
	for _, own := range loads {
		p, fs := build(slices.Concat(own, settings))
		faults = append(faults, fs...)
		if used[p.Name]++; used[p.Name] > 1 {
			p.Name = fmt.Sprintf("%s-%d", p.Name, used[p.Name])
		}
		plans = append(plans, p)
	}
	return plans, faults.sorted()
}
