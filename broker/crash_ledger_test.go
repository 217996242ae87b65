package broker

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/topic"
)

// ledger is what all clients know, and so what the broker has promised them.
// The power is cut under its lock: what a client received before was promised,
// and what comes later nobody sees.
type ledger struct {
	mu      sync.Mutex // guards all of it, and the clients
	news    *sync.Cond // something has changed
	clock   int        // counts what happens
	life    int        // of the broker
	cut     bool       // the power: this life is over
	faulty  bool       // the disk has failed once in this life
	last    bool       // the last life: everything is answered at once
	seed    uint64
	clients []*client
	msgs    map[string]*msg
	kept    map[string][]*msg // retained and clearing messages by topic, in the order of sending
	events  []event
	faults  []string
	readers sync.WaitGroup
}

// msg is a message as its publisher knows it.
type msg struct {
	name, from, topic string
	qos               packet.QoS
	retain            bool
	size              int
	lo, hi            int // its place among those of its publisher and topic: when it was first sent, and last
	sent, acked       int // clock; 0: it was not
	until             int // clock from which on it can no longer take effect, 0: it still can
	cands             []cand
	will              *will
}

// cand is a session that has to have a message as soon as it is acknowledged,
// unless its subscription has been touched meanwhile.
type cand struct {
	c   *client
	sub *sub
	gen [2]int
}

// will is what is known about a will message.
type will struct {
	delay  uint32
	expiry uint32 // of the session that it was stored with
	stored bool   // the CONNACK has come
	away   bool   // a DISCONNECT that discards it was sent
	maybe  bool   // another connection may have discarded it
	ended  bool   // its session may have been ended, which publishes it
	never  bool   // it must not come
}

func (w *will) must() bool { return w.stored && !w.away && !w.maybe && !w.never }

// event is one line of the trace.
type event struct {
	clock, life int
	who         string
	what        any
}

func newLedger(seed uint64) *ledger {
	l := &ledger{seed: seed, msgs: map[string]*msg{}, kept: map[string][]*msg{}}
	l.news = sync.NewCond(&l.mu)
	return l
}

// note writes into the trace, and moves the clock. The caller holds mu.
func (l *ledger) note(who string, what ...any) int {
	l.clock++
	var x any = what
	if len(what) == 1 {
		x = what[0]
	}
	l.events = append(l.events, event{l.clock, l.life, who, x})
	l.news.Broadcast()
	return l.clock
}

// fault is a promise that was not kept. The caller holds mu.
func (l *ledger) fault(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	l.faults = append(l.faults, s)
	l.note("FAULT", s)
}

// crash ends a life: f makes a copy of the disk at this very moment.
func (l *ledger) crash(what string, f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return
	}
	f()
	l.note("CRASH", what)
	l.cut = true
	flying := map[*msg]bool{}
	for _, c := range l.clients {
		for _, f := range c.out {
			flying[f.m] = true
		}
		c.link = nil
	}
	for _, all := range l.kept {
		for _, m := range all {
			if m.until == 0 && !flying[m] {
				m.until = l.clock
			}
		}
	}
}

// wait waits until f is true; false: the life is over. A client that waits too
// long is a fault.
func (l *ledger) wait(what string, f func() bool) bool {
	late := false
	stop := time.AfterFunc(patience, func() {
		l.mu.Lock()
		late = true
		l.news.Broadcast()
		l.mu.Unlock()
	})
	defer stop.Stop()
	for !f() {
		switch {
		case l.cut:
			return false
		case late:
			l.fault("%s: never", what)
			return false
		}
		l.news.Wait()
	}
	return !l.cut
}

// acked: the publisher was told that the broker has its message. The caller
// holds mu.
func (l *ledger) acked(m *msg) {
	if m.acked != 0 {
		return
	}
	m.acked, m.until = l.clock, l.clock
	l.owe(m)
}

// owe makes a message owed to the sessions that are to have it.
func (l *ledger) owe(m *msg) {
	for _, x := range m.cands {
		if x.gen == x.c.gens(x.sub) && !x.c.done[m.name] {
			x.c.owed[m.name] = m
		}
	}
}

// candidates are the sessions that have to have a message that is sent now.
func (l *ledger) candidates(name string, q packet.QoS) (all []cand) {
	if q == 0 {
		return nil
	}
	for _, c := range l.clients {
		if !c.lives() {
			continue
		}
		for _, f := range slices.Sorted(maps.Keys(c.subs)) {
			if s := c.subs[f]; s.certain() && topic.Match(f, name) {
				all = append(all, cand{c, s, c.gens(s)})
				break
			}
		}
	}
	return all
}

// publish enters a message that is sent now.
func (l *ledger) publish(from, name string, q packet.QoS, retain, empty bool) *msg {
	m := &msg{name: fmt.Sprintf("%s.%d", from, len(l.msgs)), from: from, topic: name, qos: q, retain: retain}
	l.msgs[m.name] = m
	m.sent = l.note(m.name, "is published to", name)
	if empty {
		m.name = ""
	} else {
		m.cands = l.candidates(name, q)
	}
	if retain {
		l.kept[name] = append(l.kept[name], m)
	}
	return m
}

// retainable are the messages that may be retained for a topic, "" for none:
// each that no other has replaced for certain.
func (l *ledger) retainable(name string) map[string]bool {
	var replaced int // what took effect before this clock is not it
	for _, m := range l.kept[name] {
		if m.acked != 0 {
			replaced = max(replaced, m.sent)
		}
	}
	ok := map[string]bool{}
	if replaced == 0 {
		ok[""] = true
	}
	for _, m := range l.kept[name] {
		if m.until == 0 || m.until >= replaced {
			ok[m.name] = true
		}
	}
	return ok
}

// retained tells whether a message is certainly the one that is retained.
func (l *ledger) retained(m *msg) bool {
	ok := l.retainable(m.topic)
	return len(ok) == 1 && ok[m.name]
}

// settleWills decides about the wills when all delays have passed.
func (l *ledger) settleWills() {
	for _, m := range l.msgs {
		if m.will != nil && m.will.must() {
			l.owe(m)
		}
	}
}

// missing lists what is owed, and what is not finished.
func (l *ledger) missing() {
	for _, c := range l.clients {
		for _, name := range slices.Sorted(maps.Keys(c.owed)) {
			m := c.owed[name]
			l.fault("%s does not get %s (%s, QoS %d, published at %d, acknowledged at %d)", c.id, name, m.topic, m.qos, m.sent, m.acked)
		}
		for _, b := range c.brings {
			if l.retained(b.m) && b.gen == c.gens(b.sub) && c.got["retained "+b.m.name] == 0 {
				l.fault("%s does not get the retained %s", c.id, b.m.name)
			}
		}
		for id, name := range c.inbound {
			l.fault("%s: the handshake of %s, identifier %d, does not go on", c.id, name, id)
		}
		for _, f := range c.out {
			l.fault("%s: %s, identifier %d, is not acknowledged", c.id, f.m.name, f.id)
		}
	}
}

// trace is what happened: the end of it, and all about the messages that the
// faults name.
func (l *ledger) trace(n int) string {
	var b strings.Builder
	skip := len(l.events) - n
	for i, e := range l.events {
		text := describeEvent(e.what)
		named := e.who == "CRASH" || e.who == "BROKER" || e.who == "DISK" || e.who == "FAULT" || slices.ContainsFunc(l.faults, func(f string) bool {
			return mentions(f, text) || strings.HasPrefix(f, e.who) && strings.Contains(text, "onn") // its connections
		})
		if i >= skip || named {
			fmt.Fprintf(&b, "%6d.%d %-7s %s\n", e.clock, e.life, e.who, text)
		}
	}
	return b.String()
}

// mentions tells whether a line is about a message that a fault names.
func mentions(fault, line string) bool {
	for _, w := range strings.Fields(fault) {
		if strings.Contains(w, ".") && strings.Contains(line, strings.Trim(w, ",()")) {
			return true
		}
	}
	return false
}

func describeEvent(x any) string {
	switch x := x.(type) {
	case []any:
		var out []string
		for _, y := range x {
			out = append(out, describeEvent(y))
		}
		return strings.Join(out, " ")
	case *packet.Publish:
		name, _, _ := strings.Cut(string(x.Payload()), "|")
		return fmt.Sprintf("%v %q", x, name)
	}
	return fmt.Sprint(x)
}

// traceLines is how much of the trace a failure prints: MYELIN_CRASH_TRACE, or some.
func traceLines() int {
	if n, err := strconv.Atoi(os.Getenv("MYELIN_CRASH_TRACE")); err == nil {
		return n
	}
	return 80
}
