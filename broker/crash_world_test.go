package broker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/topic"
)

// world is a random workload on a broker, through any number of crashes.
type world struct {
	*ledger
	t     testing.TB
	r     *rand.Rand
	o     Options
	steps int // of each life
	large int // payloads are up to so long
	under func(*vfs.MemFS) vfs.FS
	b     *running
	plug  *plug
	disk  *vfs.MemFS // what the next life begins with
}

func newWorld(t testing.TB, seed uint64) *world {
	w := &world{
		ledger: newLedger(seed), t: t, r: rand.New(rand.NewPCG(seed, 5)), steps: 60, large: 200,
		disk: vfs.NewCrashableMem(), under: func(m *vfs.MemFS) vfs.FS { return m },
		o: Options{DataDir: "data", SysInterval: -1, ShutdownGrace: 5 * time.Second, TopicAliasOutbound: -1},
	}
	for i := range 2 { // they are there to see the wills
		newClient(w.ledger, fmt.Sprint("k", i), []packet.Version{packet.V5, packet.V311}[i]).keen = true
	}
	for i := range 6 {
		newClient(w.ledger, fmt.Sprint("c", i), []packet.Version{packet.V5, packet.V5, packet.V311}[i%3])
	}
	return w
}

// live is one life of the broker: it runs the workload until the power is cut
// before operation at of the file system, at the latest when the workload is
// through. It returns the number of operations; cut: there were so many.
func (w *world) live(at int64, percent int) (n int64, cut bool) {
	cutNow := func(what string) {
		w.crash(what, func() { w.disk = w.plug.after(percent, w.seed+uint64(at)) })
	}
	ok := w.boot(percent, func(n int64, op errorfs.Op) error {
		if n == at {
			cutNow(fmt.Sprint("before operation ", n, " ", op.Kind, " ", op.Path))
		}
		return nil
	})
	if ok {
		w.work()
	}
	w.mu.Lock()
	cut = w.cut
	w.mu.Unlock()
	cutNow("at the end of the workload")
	w.stop()
	return w.plug.n.Load(), cut
}

// boot starts a broker on the disk, of which a crash keeps percent of what is not
// synced; false: there is none, because of hit.
func (w *world) boot(percent int, hit func(n int64, op errorfs.Op) error) bool {
	w.mu.Lock()
	w.life++
	w.cut, w.faulty = false, false
	w.note("BROKER", "starts")
	w.mu.Unlock()
	under := w.under(w.disk)
	if percent%100 != 0 {
		under = journal{under}
	}
	w.plug = newPlug(w.disk, under, hit)
	o := w.o
	o.dataFS = w.plug
	b, err := tryStart(w.t, o)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b = b
	if err != nil && !w.cut && !w.faulty {
		w.fault("the broker does not start: %v", err)
	}
	return err == nil
}

// stop ends the broker of a life that is over.
func (w *world) stop() {
	if w.b != nil {
		w.b.stop()
	}
	w.readers.Wait()
}

// work does random things until the life is over.
func (w *world) work() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.clients[:2] {
		if !w.connect(c) {
			return
		}
		if c.link != nil && len(c.asked) == 0 {
			c.link.subscribe("w/#", packet.QoS(2-len(c.id)%2))
			c.link.subscribe("t/#", 2)
		}
	}
	for range w.steps {
		if w.cut || len(w.faults) > 0 || !w.step() {
			return
		}
	}
	for _, c := range w.clients {
		if w.r.IntN(2) == 0 && !w.answers(c) {
			return
		}
	}
}

// answers waits until the broker has answered all that a client asked for.
func (w *world) answers(c *client) bool {
	return w.wait("answers to "+c.id, func() bool { return c.link == nil || c.link.idle() })
}

// step does one thing; false: the life is over.
func (w *world) step() bool {
	c := w.clients[w.r.IntN(len(w.clients))]
	k := c.link
	do := w.r.IntN(100)
	switch {
	case k == nil || do < 4:
		return w.connect(c)
	case do < 50:
		w.burst(k)
	case do < 60:
		k.subscribe([]string{"t/0", "t/1", "t/2", "t/+", "t/#", "w/#"}[w.r.IntN(6)], packet.QoS(w.r.IntN(3)))
	case do < 66 && !c.keen:
		k.unsubscribe([]string{"t/0", "t/1", "t/2", "t/+", "t/#", "w/#"}[w.r.IntN(6)])
	case do < 84:
		k.release()
	case do < 92:
		return w.leave(c, k)
	}
	if w.r.IntN(3) > 0 {
		return w.answers(c)
	}
	return true
}

func (w *world) burst(k *link) {
	name := fmt.Sprint("t/", w.r.IntN(4))
	for range 1 + w.r.IntN(4) {
		retain := w.r.IntN(4) == 0
		k.publish(name, packet.QoS(w.r.IntN(3)), retain, retain && w.r.IntN(3) == 0, w.r.IntN(w.large))
	}
}

// leave ends a connection in one of the ways there are.
func (w *world) leave(c *client, k *link) bool {
	code, expiry := packet.Success, -1
	switch w.r.IntN(6) {
	case 0, 1:
		k.drop()
		return true
	case 2:
		code = packet.DisconnectWithWillMessage
	case 3:
		if !c.keen {
			expiry = 0
		}
	case 4:
		expiry = 50_000
	}
	k.disconnect(code, expiry)
	if w.r.IntN(2) == 0 {
		k.drop()
		return true
	}
	return w.wait("end of "+c.id, func() bool { return k.closed })
}

// connect connects a client, in place of a connection that it may have.
func (w *world) connect(c *client) bool {
	p := packet.Connect{ReceiveMax: uint16([]int{0, 2, 5}[w.r.IntN(3)]), SessionExpiry: uint32([]int{0, 100_000, 100_000, neverExpires}[w.r.IntN(4)]),
		CleanStart: w.r.IntN(5) == 0, RequestProblemInfo: true}
	switch {
	case c.keen || w.last:
		p.SessionExpiry, p.CleanStart = 100_000, false
	case w.r.IntN(2) == 0:
		p.Will = &packet.Will{Message: packet.Message{Topic: "w/" + c.id, Payload: fmt.Appendf(nil, "will.%d", len(w.msgs)), QoS: packet.QoS(1 + w.r.IntN(2))},
			Delay: uint32([]int{0, 0, 500, 1000}[w.r.IntN(4)])}
	}
	if c.v < packet.V5 {
		p.ReceiveMax, p.SessionExpiry = 0, 0
		if p.Will != nil {
			p.Will.Delay = 0
		}
	}
	w.mu.Unlock()
	conn, err := net.Dial("tcp", w.b.addr)
	w.mu.Lock()
	if w.cut || err != nil {
		if !w.cut {
			w.fault("dial: %v", err)
		} else if err == nil {
			conn.Close()
		}
		return false
	}
	k := c.connect(conn, p)
	return w.wait("CONNACK for "+c.id, func() bool { return k.online || k.closed || c.link != k })
}

// finish is the last life: all clients come back, and get what they were
// promised.
func (w *world) finish() {
	w.last = true
	ok := w.boot(0, func(int64, errorfs.Op) error { return nil })
	if ok {
		w.fireWills()
		w.mu.Lock()
		w.settleWills()
		for _, c := range w.clients {
			ok = ok && w.connect(c)
		}
		ok = ok && w.drained()
		ok = ok && w.probe() && w.drained()
		if ok {
			w.missing()
			w.compareRetained()
		}
		w.cut = true
		for _, c := range w.clients {
			c.link = nil
		}
		w.mu.Unlock()
	}
	w.stop()
}

// fireWills lets all delays pass.
func (w *world) fireWills() {
	b := w.b.Broker
	b.stopped.Store(time.Now().UnixNano() + 2000*1e9)
	b.look()
	for {
		s, _ := b.expirer.next(b.clock())
		if s == nil {
			return
		}
		b.expire(s)
	}
}

// drained waits until nothing is on its way any more.
func (w *world) drained() bool {
	quiet := 0
	end := time.Now().Add(patience)
	for quiet < 3 {
		if time.Now().After(end) {
			w.fault("the broker does not get done")
			w.missing()
			return false
		}
		w.mu.Unlock()
		idle := w.b.quiet() && w.b.idle()
		w.mu.Lock()
		n := w.traffic()
		for _, c := range w.clients {
			if c.link != nil {
				pongs := c.link.pongs
				c.link.write(&packet.Pingreq{})
				k := c.link
				if !w.wait("PINGRESP for "+c.id, func() bool { return k.pongs > pongs || k.closed }) {
					return false
				}
			}
		}
		if len(w.faults) > 0 {
			return false
		}
		if idle && n == w.traffic() {
			quiet++
		} else {
			quiet = 0
			w.mu.Unlock()
			time.Sleep(200 * time.Microsecond)
			w.mu.Lock()
		}
	}
	return true
}

// traffic counts what came, and what is not finished.
func (w *world) traffic() (n int) {
	for _, c := range w.clients {
		n += len(c.out) + len(c.inbound)
		if c.link != nil {
			n += c.link.packets
		}
	}
	return n
}

// idle tells whether no message waits or is in flight to a client.
func (r *running) idle() bool {
	var all []*session
	for i := range r.registry.shards {
		sh := &r.registry.shards[i]
		sh.mu.Lock()
		for x := range sh.sessions.All() {
			all = append(all, x)
		}
		sh.mu.Unlock()
	}
	for _, x := range all {
		x.mu.Lock()
		n := 0
		if x.active != nil {
			n = x.out.Send.Live() + x.out.Send.Queued()
		}
		if x.store != nil {
			k, _ := x.store.Queued()
			n += k
		}
		x.mu.Unlock()
		if n > 0 {
			return false
		}
	}
	return true
}

// probe publishes to each topic, and compares who gets it with what the
// subscriptions may be.
func (w *world) probe() bool {
	c := newClient(w.ledger, "probe", packet.V5)
	if !w.connect(c) {
		return false
	}
	k := c.link
	k.subscribe("#", 1)
	if !w.answers(c) {
		return false
	}
	topics := []string{"t/0", "t/1", "t/2", "t/3", "w/x"}
	var sent []*msg
	for _, name := range topics {
		k.publish(name, 2, false, false, 1)
		sent = append(sent, c.out[len(c.out)-1].m)
	}
	if !w.answers(c) || !w.drained() {
		return false
	}
	for _, m := range sent {
		for _, x := range w.clients {
			w.compareProbe(x, m)
		}
	}
	return true
}

// compareProbe: who is subscribed for certain gets it, who is not for certain
// does not.
func (w *world) compareProbe(c *client, m *msg) {
	maybe, certain, most := false, false, packet.QoS(0)
	for f, s := range c.subs {
		if !topic.Match(f, m.topic) {
			continue
		}
		on, all := false, true
		for _, v := range s.vals {
			on, all = on || v.on, all && v.on
			if v.on {
				most = max(most, v.qos)
			}
		}
		maybe, certain = maybe || on, certain || all
	}
	n, two := c.got[m.name], c.got2[m.name]
	switch {
	case n == 0 && certain:
		w.fault("%s does not get %s on %s: its subscription is gone: %v", c.id, m.name, m.topic, c.describeSubs())
	case n > 0 && !maybe:
		w.fault("%s gets %s on %s: it is not subscribed: %v", c.id, m.name, m.topic, c.describeSubs())
	case n > 1 || two > 0 && most < 2:
		w.fault("%s gets %s on %s %d times, %d of QoS 2: %v", c.id, m.name, m.topic, n, two, c.describeSubs())
	}
}

func (c *client) describeSubs() string {
	var out []string
	for f, s := range c.subs {
		out = append(out, fmt.Sprint(f, *s))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// compareRetained compares what the probe has got with what may be retained.
func (w *world) compareRetained() {
	c := w.clients[len(w.clients)-1]
	for _, name := range []string{"t/0", "t/1", "t/2", "t/3"} {
		is := ""
		for _, m := range w.kept[name] {
			if m.name != "" && c.got["retained "+m.name] > 0 {
				is = m.name
			}
		}
		if ok := w.retainable(name); !ok[is] {
			w.fault("%s: %q is retained, not one of %v", name, is, ok)
		}
	}
}

// report fails the test with what was not kept; true: all was.
func (w *world) report(what string) bool {
	if len(w.faults) == 0 {
		return true
	}
	w.t.Errorf("seed %d, %s:\n  %s\n%s", w.seed, what, strings.Join(w.faults, "\n  "), w.trace(traceLines()))
	return false
}

var errInjected = errors.New("injected: input/output error")
