package load

import (
	"fmt"
	"slices"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/topic"
)

// Kind is what a load does.
type Kind string

// The loads.
const (
	Connect   Kind = "connect"   // clients that connect, disconnect, and connect again
	Publish   Kind = "publish"   // publishers, and nobody subscribes
	Subscribe Kind = "subscribe" // clients that subscribe and unsubscribe
	P2P       Kind = "p2p"       // each publisher has a subscriber of its own
	FanOut    Kind = "fan-out"   // every subscriber gets every message
	FanIn     Kind = "fan-in"    // many publishers, few subscribers, each message to one of them
	Shared    Kind = "shared"    // fan-in, and all subscribers share one subscription
	Idle      Kind = "idle"      // connections that do nothing
	Offline   Kind = "offline"   // sessions that are away, and come back for what waits for them
	Request   Kind = "request"   // requests and their responses
)

// Kinds are all of them.
func Kinds() []Kind {
	return []Kind{Connect, Publish, Subscribe, P2P, FanOut, FanIn, Shared, Idle, Offline, Request}
}

// Plan describes one load. Plans makes it, with the defaults of its kind.
type Plan struct {
	Name string // for the report; default: the load's
	Load Kind

	Clients     int // of the side that there are many of; see sides
	Publishers  int // and requesters
	Subscribers int // and responders
	Topics      int // of each publisher (fan-out: of all; idle, subscribe: filters of a client)
	Topic       string

	Size int // bytes of a payload
	QoS  packet.QoS

	Rate   float64 // messages (or connects, subscribes) a second of all clients together; 0: a closed loop
	Window int     // closed loop: messages that a publisher has under way

	Duration time.Duration // of what is measured; 0: until Count is reached
	WarmUp   time.Duration // before it
	Ramp     time.Duration // over which the connections are opened; 0: as fast as they can be
	Count    uint64        // messages (or connects, subscribes) to measure, at most; 0: no limit
	Grace    time.Duration // how long to wait, without progress, for what is still under way at the end
}

// Messages tells whether the load sends messages.
func (p *Plan) Messages() bool {
	return p.Load != Connect && p.Load != Subscribe && p.Load != Idle
}

// Open tells whether the loop is open: messages are sent when they are due, and
// not when the one before is done.
func (p *Plan) Open() bool { return p.Rate > 0 }

// receivers is how many subscribers get each message of the load while it runs.
func (p *Plan) receivers() int {
	switch p.Load {
	case Publish, Offline:
		return 0
	case FanOut:
		return p.Subscribers
	}
	return 1
}

// unit is what the load counts.
func (p *Plan) unit() string {
	switch p.Load {
	case Connect:
		return "connects"
	case Subscribe:
		return "subscribes"
	case Idle:
		return "connections"
	}
	return "messages"
}

// sides fills in who is not given: the many from Clients, the few with one.
func (p *Plan) sides() {
	if p.Load == P2P && p.Clients == 0 { // one number is enough
		p.Clients = max(p.Publishers, p.Subscribers)
	}
	if p.Clients == 0 {
		p.Clients = 100
		switch p.Load {
		case Idle:
			p.Clients = 1000
		case Shared:
			p.Clients = 10
		}
	}
	pubs, subs := p.Clients, p.Clients
	switch p.Load {
	case Connect, Subscribe, Idle:
		p.Publishers, p.Subscribers = 0, 0
		return
	case Publish:
		p.Subscribers, subs = 0, 0
	case FanOut, Offline:
		pubs = 1
	case FanIn, Request:
		subs = 1
	}
	if p.Publishers == 0 {
		p.Publishers = pubs
	}
	if p.Subscribers == 0 {
		p.Subscribers = subs
	}
}

// Bounds of a plan, so that a slip of the finger takes no memory.
const (
	maxClients = 1 << 20
	maxTopics  = 1 << 20
	maxPairs   = 1 << 26 // sequences to follow
	maxWindow  = 1 << 16
)

// check says what cannot be, field by field, by the names of the keys.
func (p *Plan) check(fault func(key, what, hint string)) {
	least := HeaderSize
	if p.Messages() && p.Size < least {
		fault("size", fmt.Sprintf("a payload of %d bytes is too small for what each message carries", p.Size), fmt.Sprintf("use %d or more", least))
	}
	if p.Load == Offline && p.QoS == 0 {
		fault("qos", "offline sessions keep messages of QoS 1 and 2", "use qos 1")
	}
	if p.Load == P2P && p.Publishers != p.Subscribers {
		fault("publishers", fmt.Sprintf("p2p wants as many publishers as subscribers, not %d and %d", p.Publishers, p.Subscribers), "give clients, or use fan-in or fan-out")
	}
	if p.Duration == 0 && p.Count == 0 {
		fault("duration", "neither a duration nor a count", "give one of them")
	}
	if p.Load == Idle && p.Duration == 0 {
		fault("duration", "idle connections have nothing to count", "give a duration")
	}
	if p.Load == FanIn && p.Publishers < p.Subscribers {
		fault("subscribers", fmt.Sprintf("%d publishers cannot reach %d subscribers", p.Publishers, p.Subscribers), "use fewer subscribers, or fan-out")
	}
	if p.streams() > maxPairs || p.sequences() > maxPairs {
		fault("topics", "too many pairs of publisher, topic and subscriber to follow each", "use fewer of them")
	}
	if err := topic.CheckName(p.Topic); err != nil || len(p.Topic) > 1000 {
		fault("topic", fmt.Sprintf("%.100q cannot begin a topic", p.Topic), "leave out + and #, such as in myelin/bench")
	}
}

// each is how many topics a publisher sends to in turn.
func (p *Plan) each() int {
	if p.Load == Offline {
		return p.Subscribers
	}
	return max(p.Topics, 1)
}

// streams is how many pairs of publisher and topic there are: messages have an
// order within each.
func (p *Plan) streams() int { return p.Publishers * p.each() }

// sequences is how many streams there are to follow at all receivers together.
func (p *Plan) sequences() int {
	switch p.Load {
	case FanOut, Shared:
		return p.streams() * max(p.Subscribers, 1)
	}
	return p.streams()
}

// known tells whether k is a load.
func known(k Kind) bool { return slices.Contains(Kinds(), k) }
