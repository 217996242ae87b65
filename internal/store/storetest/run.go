package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
)

// Limits are those of each session's queue, as package session has them.
type Limits struct {
	Messages, Bytes int // 0: no limit
	Policy          Policy
	TotalMessages   int64 // of all sessions together
}

// Policy is what happens to a message for a full queue.
type Policy uint8

// The policies, in the order of package session.
const (
	DropOldest Policy = iota
	DropNew
	Refuse
)

// Run runs the contract. open makes an empty engine; the suite closes it.
func Run(t *testing.T, open func(t testing.TB, l Limits) store.Engine) {
	for _, c := range []struct {
		name   string
		limits Limits
		test   func(k *kit)
	}{
		{"Claim", Limits{}, testClaim},
		{"ClaimCleanDiscards", Limits{}, testClaimClean},
		{"Takeover", Limits{}, testTakeover},
		{"Delivery", Limits{}, testDelivery},
		{"FanOut", Limits{}, testFanOut},
		{"Order", Limits{}, testOrder},
		{"Expiry", Limits{}, testExpiry},
		{"DropOldest", Limits{Messages: 3}, testDropOldest},
		{"DropOldestBytes", Limits{Bytes: 30}, testDropOldestBytes},
		{"DropNew", Limits{Messages: 3, Policy: DropNew}, testDropNew},
		{"Refuse", Limits{Messages: 3, Policy: Refuse}, testRefuse},
		{"TotalDropOldest", Limits{TotalMessages: 40}, testTotalDropOldest},
		{"TotalDropNew", Limits{TotalMessages: 40, Policy: DropNew}, testTotalDropNew},
		{"TotalRefuse", Limits{TotalMessages: 40, Policy: Refuse}, testTotalRefuse},
		{"Ready", Limits{}, testReady},
		{"NoLostWakeUp", Limits{}, testNoLostWakeUp},
		{"End", Limits{}, testEnd},
		{"Handshakes", Limits{}, testHandshakes},
		{"Churn", Limits{Messages: 50}, testChurn},
		{"Retained", Limits{}, testRetained},
		{"RetainedAgain", Limits{}, testRetainedAgain},
		{"RetainedForget", Limits{}, testForget},
		{"RetainedForgetRace", Limits{}, testForgetRace},
		{"RetainedWildcards", Limits{}, testWildcards},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(newKit(t, open(t, c.limits))) })
	}
	for _, l := range []Limits{{}, {Messages: 4}, {Bytes: 60}, {Messages: 4, Policy: DropNew}, {Messages: 4, Policy: Refuse}} {
		for seed := range uint64(8) {
			t.Run(fmt.Sprintf("Model/%d-%d-%d/%d", l.Policy, l.Messages, l.Bytes, seed), func(t *testing.T) {
				testModel(newKit(t, open(t, l)), l, seed)
			})
		}
	}
}

// patience is how long the suite waits for what must come.
const patience = 20 * time.Second

// kit is one test's engine and what it does with it.
type kit struct {
	*testing.T
	e      store.Engine
	closed bool
}

func newKit(t *testing.T, e store.Engine) *kit {
	k := &kit{T: t, e: e}
	t.Cleanup(k.close)
	return k
}

func (k *kit) close() {
	if k.closed {
		return
	}
	k.closed = true
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := k.e.Close(ctx); err != nil {
		k.Errorf("close: %v", err)
	}
}

// await is what comes through c.
func await[T any](k *kit, what string, c <-chan T) (x T) {
	k.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case x = <-c:
	case <-timeout.C:
		k.Fatalf("%s does not come", what)
	}
	return x
}

// call is one call's Completer.
type call struct {
	k    *kit
	tok  uint64
	done atomic.Bool
	c    chan error
}

var tokens atomic.Uint64

func (k *kit) call() *call {
	return &call{k: k, tok: tokens.Add(1), c: make(chan error, 1)}
}

// Done implements store.Completer.
func (c *call) Done(tok uint64, err error) {
	if tok != c.tok {
		c.k.Errorf("Done with token %d, want %d", tok, c.tok)
	}
	c.finish(err)
}

func (c *call) finish(err error) {
	if c.done.Swap(true) {
		c.k.Error("a call is completed a second time")
		return
	}
	c.c <- err
}

// publish publishes, and waits until it is done.
func (k *kit) publish(m *packet.Publish, in store.Inbound, to ...store.Target) error {
	k.Helper()
	return await(k, "the completion of a Publish", k.start(m, in, to).c)
}

// start publishes and does not wait.
func (k *kit) start(m *packet.Publish, in store.Inbound, to []store.Target) *call {
	c := k.call()
	if done, err := k.e.Publish(m, to, in, c, c.tok); done {
		c.finish(err)
	}
	return c
}

// must is publish of a message that nobody refuses.
func (k *kit) must(m *packet.Publish, to ...store.Target) {
	k.Helper()
	if err := k.publish(m, store.Inbound{}, to...); err != nil {
		k.Fatalf("publish %s: %v", m.Topic(), err)
	}
}

// opt makes a message differ.
type opt func(m *packet.Message)

func retain(m *packet.Message) { m.Retain = true }

func payload(s string) opt { return func(m *packet.Message) { m.Payload = []byte(s) } }

func expiry(sec uint32) opt {
	return func(m *packet.Message) { m.Expiry, m.HasExpiry = sec, true }
}

// message is a kept message of QoS 1 that came at the second at.
func (k *kit) message(name string, at uint32, opts ...opt) *packet.Publish {
	k.Helper()
	m := packet.Message{Topic: name, Payload: []byte("p"), QoS: 1}
	for _, o := range opts {
		o(&m)
	}
	p, err := packet.NewPublish(&m, at)
	if err != nil {
		k.Fatal(err)
	}
	return p
}

// client is the broker's end of one session: its Sink.
type client struct {
	k       *kit
	id      string
	s       store.Session
	st      *store.State
	claimed chan struct{}
	answers atomic.Int32
	ready   chan struct{} // holds one while Ready was called and not taken
	readies atomic.Int32
	empty   int // how often Next left nothing
	said    int // how often Next returned more == false
}

// Claimed implements store.Sink.
func (c *client) Claimed(s store.Session, st *store.State, err error) {
	if c.answers.Add(1) > 1 {
		c.k.Errorf("%s is answered a second time", c.id)
		return
	}
	if err != nil {
		c.k.Errorf("claim %s: %v", c.id, err)
	}
	c.s, c.st = s, st
	close(c.claimed)
}

// Ready implements store.Sink.
func (c *client) Ready() {
	c.readies.Add(1)
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

func (k *kit) claim(r store.ClaimReq) *client {
	k.Helper()
	c := &client{k: k, id: r.ClientID, claimed: make(chan struct{}), ready: make(chan struct{}, 1)}
	k.e.Claim(r, c)
	await(k, "the answer to a Claim", c.claimed)
	return c
}

// session claims a session that is stored.
func (k *kit) session(id string) *client {
	k.Helper()
	c := k.claim(store.ClaimReq{ClientID: id, Expiry: 100})
	if c.s == nil {
		k.Fatalf("claim %s: no session", id)
	}
	return c
}

func (c *client) target() store.Target { return store.Target{To: c.s, QoS: 1} }

// next takes up to n messages at the second now, and acknowledges them.
func (c *client) next(n int, now uint32) (got []store.Delivery) {
	c.k.Helper()
	buf := make([]store.Delivery, n)
	n = 0
	for {
		k, more := c.s.Next(buf[n:], now)
		if !more {
			c.said++
		}
		if n += k; n == len(buf) && more {
			break
		}
		if left, _ := c.s.Queued(); !more && left == 0 {
			c.empty++
			break
		}
		if !more && n < len(buf) { // what is left is on its way
			await(c.k, "Ready after Next has left something", c.ready)
		} else if n == len(buf) {
			break
		}
	}
	for _, d := range buf[:n] {
		c.s.Ack(d.LSN)
	}
	return buf[:n]
}

// drain takes all messages, a few at a time.
func (c *client) drain(now uint32) (got []store.Delivery) {
	c.k.Helper()
	for {
		before := c.empty
		d := c.next(3, now)
		got = append(got, d...)
		if c.empty > before {
			return got
		}
		if len(d) == 0 {
			c.k.Fatalf("%s: Next gives nothing and says there is more", c.id)
		}
	}
}

// expect drains, and wants messages of these topics.
func (c *client) expect(what string, now uint32, want ...string) {
	c.k.Helper()
	if got := topics(c.drain(now)); !slices.Equal(got, want) {
		c.k.Errorf("%s: %s gets %q, want %q", what, c.id, got, want)
	}
}

func topics(ds []store.Delivery) (names []string) {
	for _, d := range ds {
		names = append(names, string(d.Msg.Topic()))
	}
	return names
}

// stats wants the engine's numbers.
func (k *kit) stats(what string, want store.Stats) {
	k.Helper()
	got := k.e.Stats()
	got.Free = want.Free // the disk's, if there is one
	if got != want {
		k.Errorf("%s: the engine counts %+v, want %+v", what, got, want)
	}
}

// retained is what is retained for a filter: the payloads by topic.
func (k *kit) retained(filter string) map[string]string {
	all := map[string]string{}
	c := k.e.Retained(filter)
	for c.Next(7, func(name string, m *packet.Publish) bool {
		if _, twice := all[name]; twice || name != string(m.Topic()) {
			k.Errorf("%s: %s is yielded as %s, a second time: %v", filter, m.Topic(), name, twice)
		}
		all[name] = string(m.Payload())
		return true
	}) {
	}
	return all
}

func list(m map[string]string) string {
	var lines []string
	for k, v := range m {
		lines = append(lines, k+"="+v)
	}
	slices.Sort(lines)
	return strings.Join(lines, " ")
}
