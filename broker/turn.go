package broker

import (
	"github.com/myelin-mqtt/myelin/internal/route"
	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/transport"
	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/topic"
)

// turn is what one loop, or one borrowing goroutine, works with: scratch
// memory and the route cache. It belongs to the transport's Turn, and nothing
// in it outlives a call from the transport but the cache.
type turn struct {
	b      *Broker
	o      *Options // read once a call
	tt     *transport.Turn
	nano   int64  // Unix nanoseconds
	now    uint32 // Unix seconds
	pub    packet.Publish
	enc    packet.Encoder
	routes *route.Cache[*session]

	own     []byte         // answers to the client being fed: appended at once
	head    []byte         // the head of a PUBLISH being patched
	targets []store.Target // of the message being routed
	picked  []picked       // members of shared subscriptions that it goes to
	epoch   uint64         // see find
	expiry  uint32         // what is left of the expiry interval of enc's message
	seed    uint64         // of random
	next    [32]store.Delivery
	id      [1]uint32
	n       counts
	setup   *setup // spare
	connack packet.Connack
	suback  packet.Suback
	pace    pace // of retained messages
	access  AccessRequest
	matches *topic.Tree[struct{}] // see wants
}

func (b *Broker) newTurn() *turn {
	return &turn{b: b, routes: route.NewCache(b.table, 0), seed: nonce() | 1}
}

// find is who gets a message; epoch is that of the subscriptions before.
func (t *turn) find(name []byte) *route.Entry[*session] {
	t.epoch = t.b.table.Epoch()
	return t.routes.Find(name)
}

// begin starts a call from the transport.
func (t *turn) begin(tt *transport.Turn) {
	t.tt, t.o = tt, t.b.opt()
	t.nano = tt.Now
	if at := t.b.stopped.Load(); at != 0 {
		t.nano = at
	}
	if now := uint32(t.nano / 1e9); now != t.now {
		t.now = now
		t.routes.Sweep(1024) // entries that nobody asks for hold no ended sessions
	}
}

// keptInput is the largest packet that a turn holds on to.
const keptInput = 64 << 10

// finish ends it: what was answered to c is appended to its out-queue, and
// counters are added to the broker's.
func (t *turn) finish(c *conn) {
	t.flush(c)
	if len(t.pub.Bytes()) > keptInput { // it holds on to what was read
		t.pub = packet.Publish{}
	}
	t.enc.Reset(nil, 0)
	t.access = AccessRequest{}
	t.b.stats.add(&t.n)
	t.n = counts{}
}

// flush appends the answers to c so far, so that they come before what is
// appended next.
func (t *turn) flush(c *conn) {
	if len(t.own) > 0 {
		c.io.Append(t.tt, t.own)
		t.own = t.own[:0]
		if cap(t.own) > 64<<10 {
			t.own = nil
		}
	}
}

// left is what is left of a kept message's expiry interval.
func (t *turn) left(m *packet.Publish) uint32 {
	sec, _ := m.Left(t.now)
	return sec
}

// borrow lets a goroutine of the broker's own deliver; give ends it.
func (b *Broker) borrow() *turn {
	tt := b.net.Borrow()
	t := tt.Local.(*turn)
	t.begin(tt)
	return t
}

func (b *Broker) give(t *turn) {
	t.enc.Reset(nil, 0)
	b.stats.add(&t.n)
	t.n = counts{}
	b.net.Return(t.tt)
}
