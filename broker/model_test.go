package broker

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/store/storetest"
	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/topic"
)

// modelled is a client of the model: what its session should be, and what it
// has received.
type modelled struct {
	id      string
	p       *peer // nil: not connected
	durable bool
	subs    map[string]packet.QoS
	want    map[ordered][]string // QoS 1 and 2 messages that it must get, in order
	got     map[ordered][]string // first arrivals of QoS 1 and 2, in order
	seen    map[string]bool      // payloads of got
	held    []packet.Packet      // acknowledgements that it keeps back
}

// ordered is what has an order: the messages of one topic and QoS [MQTT-4.6.0-5].
type ordered struct {
	topic string
	qos   packet.QoS
}

// TestModel drives random clients through connects, clean and resumed, cut
// connections, subscriptions, publishes and late acknowledgements, against a
// model of who must get what: QoS 1 at least once, QoS 2 exactly once, each in
// the order of publishing, whatever was cut in between.
func TestModel(t *testing.T) {
	for _, io := range []string{"reactor", "goroutine", "late"} {
		t.Run(io, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) { model(t, rt, io) })
		})
	}
}

func model(t *testing.T, rt *rapid.T, io string) {
	o := Options{IO: io, SysInterval: -1, MaxInflight: uint16(rapid.IntRange(1, 5).Draw(rt, "inflight"))}
	var late *storetest.Engine
	if io == "late" {
		o.IO = "goroutine"
		seed := rapid.Uint64().Draw(rt, "seed")
		o.wrapStore = func(e store.Engine) store.Engine { late = storetest.Async(e, seed); return late }
	}
	r := start(t, o)
	defer r.stop()
	pub := r.client("publisher")
	defer pub.c.Close()
	var clients []*modelled
	for i := range 3 {
		clients = append(clients, &modelled{id: fmt.Sprint("c", i)})
	}
	filters := []string{"a/b", "a/+", "#", "a/c"}
	n, id := 0, uint16(0)
	for range rapid.IntRange(5, 40).Draw(rt, "steps") {
		c := clients[rapid.IntRange(0, 2).Draw(rt, "client")]
		switch what := rapid.SampledFrom([]string{"connect", "drop", "subscribe", "unsubscribe", "publish", "publish", "publish", "ack"}).Draw(rt, "what"); what {
		case "connect":
			c.connect(rt, r, rapid.Bool().Draw(rt, "clean"), rapid.Bool().Draw(rt, "durable"))
		case "drop":
			c.drop(r)
		case "subscribe":
			if c.p != nil {
				f, q := rapid.SampledFrom(filters).Draw(rt, "filter"), packet.QoS(rapid.IntRange(0, 2).Draw(rt, "qos"))
				c.p.send(&packet.Subscribe{ID: 1, Filters: []packet.Subscription{{Filter: f, Options: packet.SubOptions(q)}}})
				c.until(rt, packet.SUBACK)
				c.subs[f] = q
			}
		case "unsubscribe":
			if c.p != nil {
				f := rapid.SampledFrom(filters).Draw(rt, "filter")
				c.p.send(&packet.Unsubscribe{ID: 1, Filters: []string{f}})
				c.until(rt, packet.UNSUBACK)
				delete(c.subs, f)
			}
		case "ack":
			c.ack()
		case "publish":
			name := rapid.SampledFrom([]string{"a/b", "a/c"}).Draw(rt, "topic")
			q := packet.QoS(rapid.IntRange(0, 2).Draw(rt, "qos"))
			n++
			payload := fmt.Sprint(n)
			for _, c := range clients {
				if g := min(q, c.granted(name)); g > 0 && c.subs != nil && (c.p != nil || c.durable) {
					key := ordered{name, g}
					c.want[key] = append(c.want[key], payload)
				}
			}
			publish(rt, pub, name, payload, q, &id)
		}
	}
	for _, c := range clients { // everybody comes back, and acknowledges everything
		if c.durable || c.p != nil {
			if c.p == nil {
				c.connect(rt, r, false, c.durable)
			}
			c.finish(rt, r, late)
			if !maps.EqualFunc(c.got, c.want, slices.Equal) {
				rt.Fatalf("%s: got %v, want %v", c.id, c.got, c.want)
			}
		}
		if c.p != nil {
			c.p.c.Close()
		}
	}
}

// publish sends one message, and waits for the end of its handshake.
func publish(rt *rapid.T, p *peer, name, payload string, q packet.QoS, id *uint16) {
	*id++
	if q == 0 {
		p.send(message(name, payload, 0, 0))
		p.quiet()
		return
	}
	p.send(message(name, payload, q, *id))
	a := expect[*packet.Ack](p)
	if a.ID != *id || a.Code.Failed() {
		rt.Fatalf("publish: %v", a)
	}
	if q == 2 {
		p.send(&packet.Ack{Kind: packet.PUBREL, ID: *id})
		expect[*packet.Ack](p)
	}
}

// granted is the highest QoS of the matching subscriptions.
func (c *modelled) granted(name string) (q packet.QoS) {
	for f, g := range c.subs {
		if topic.Match(f, name) {
			q = max(q, g)
		}
	}
	return q
}

func (c *modelled) connect(rt *rapid.T, r *running, clean, durable bool) {
	old := c.p
	if old != nil { // what was received is received, what is on its way is not
		c.until(rt, packet.PINGRESP)
	}
	x := packet.Connect{Version: packet.V5, ClientID: c.id, CleanStart: clean}
	if durable {
		x.SessionExpiry = 1000
	}
	p := r.dial(packet.V5)
	p.send(&x)
	a := expect[*packet.Connack](p)
	if old != nil {
		old.c.Close()
	}
	c.p, c.held = p, nil
	if want := !clean && c.durable; a.SessionPresent != want {
		rt.Fatalf("%s: session present %v, want %v", c.id, a.SessionPresent, want)
	}
	if !a.SessionPresent {
		*c = modelled{id: c.id, p: p, subs: map[string]packet.QoS{}, seen: map[string]bool{}, want: map[ordered][]string{}, got: map[ordered][]string{}}
	}
	c.durable = durable
}

func (c *modelled) drop(r *running) {
	if c.p == nil {
		return
	}
	c.p.c.Close()
	c.p, c.held = nil, nil
	eventually(c.pt(r), "gone", func() bool { return r.registry.connected(c.id) == nil })
	if !c.durable {
		c.subs = nil
	}
}

func (c *modelled) pt(r *running) testing.TB { return r.t }

// until reads up to a packet of this kind; a PINGRESP is asked for.
func (c *modelled) until(rt *rapid.T, t packet.Type) {
	if t == packet.PINGRESP {
		c.p.c.Write((&packet.Pingreq{}).Append(nil, c.p.v))
	}
	for {
		x, err := c.p.read()
		if err != nil {
			rt.Fatalf("%s: read: %v", c.id, err)
		}
		c.take(rt, x)
		if x.Type() == t {
			return
		}
	}
}

// take notes what came, and prepares its acknowledgement.
func (c *modelled) take(rt *rapid.T, x packet.Packet) {
	switch x := x.(type) {
	case *packet.Publish:
		payload := string(x.Payload())
		switch x.QoS() {
		case 1:
			c.held = append(c.held, &packet.Ack{Kind: packet.PUBACK, ID: x.ID})
		case 2:
			c.held = append(c.held, &packet.Ack{Kind: packet.PUBREC, ID: x.ID})
			if c.seen[payload] && !x.Dup() {
				rt.Fatalf("%s: QoS 2 message %s came again as a new one", c.id, payload)
			}
		default:
			return
		}
		if !c.seen[payload] {
			c.seen[payload] = true
			key := ordered{string(x.Topic()), x.QoS()}
			c.got[key] = append(c.got[key], payload)
		}
	case *packet.Ack:
		if x.Kind == packet.PUBREL {
			c.held = append(c.held, &packet.Ack{Kind: packet.PUBCOMP, ID: x.ID})
		}
	case *packet.Disconnect:
		rt.Fatalf("%s: %v", c.id, x)
	}
}

// ack sends the acknowledgements that were kept back.
func (c *modelled) ack() {
	if c.p != nil && len(c.held) > 0 {
		c.p.send(c.held...)
		c.held = nil
	}
}

// finish reads and acknowledges until nothing comes any more.
func (c *modelled) finish(rt *rapid.T, r *running, late *storetest.Engine) {
	for calm := 0; calm < 3; calm++ {
		eventually(r.t, "quiet", r.quiet)
		before := len(c.seen)
		c.until(rt, packet.PINGRESP)
		if len(c.held) > 0 || len(c.seen) > before || late != nil && !late.Idle() {
			calm = -1
		}
		c.ack()
	}
}
