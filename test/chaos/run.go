package chaos

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/test/fault"
)

// patience is how long a run may go without any progress.
const patience = 30 * time.Second

// run has so many faults happen while messages flow, then lets everything pass,
// and looks at what came.
func (l Load) run(t *testing.T, url string, seed uint64, faults int) {
	c := &chaos{Load: l, t: t, seed: seed, heap: heapSys(), chance: rand.New(rand.NewPCG(seed, 7)), came: make(chan struct{}, 1)}
	c.listen(url)
	c.pub = &actor{id: "publisher", dir: t.TempDir(), proxy: c.proxies[0]}
	c.sub = &actor{id: "subscriber", dir: t.TempDir(), proxy: c.proxies[1], hears: true}
	c.calm.Store(true) // the subscription is there before anything is lost
	c.begin(c.sub)
	c.subscribe()
	c.calm.Store(false)
	c.sub.proxy.Cut() // the next connection is one of the plan's
	c.begin(c.pub)

	for c.happened() < faults && !t.Failed() {
		c.give()
		c.mayDie()
	}
	c.calm.Store(true)
	c.end()
	c.check()
	t.Logf("%d messages; to the publisher %v, to the subscriber %v, %d deaths; connected %d and %d times, sent %d again, sorted out %d"+
		"\nwhy the publisher's ended:%s\nthe subscriber's:%s",
		c.given, c.proxies[0].Stats().Faults, c.proxies[1].Stats().Faults, c.deaths,
		c.pub.total.Connects, c.sub.total.Connects, c.pub.total.Resent, c.sub.total.Duplicates,
		c.pub.tape.breaks(), c.sub.tape.breaks())
}

// chaos is a run.
type chaos struct {
	Load
	t        *testing.T
	seed     uint64
	heap     uint64 // when it began
	chance   *rand.Rand
	proxies  [2]*fault.Proxy
	calm     atomic.Bool // no more faults
	pub, sub *actor
	given    uint32 // the publisher has taken the messages below it
	deaths   int
	refused  atomic.Int64 // messages that ended with an error

	came chan struct{} // something came
	mu   sync.Mutex
	got  []uint32 // what came, in order
	bent int      // how many payloads were not as they were sent
}

// listen puts the proxies before the broker.
func (c *chaos) listen(url string) {
	c.t.Helper()
	for i := range c.proxies {
		plan := fault.Seeded(c.seed*2+uint64(i), c.Mix)
		p, err := fault.Listen(url, func(conn int, d fault.Direction, offset int64) fault.Fault {
			if c.calm.Load() {
				return fault.Fault{}
			}
			return plan(conn, d, offset)
		})
		if err != nil {
			c.t.Fatal(err)
		}
		c.proxies[i] = p
		c.t.Cleanup(func() {
			p.Close()
			for _, err := range p.Stats().Errors {
				c.t.Logf("proxy: %v", err)
			}
		})
	}
}

// happened counts the faults, but for those that no client can notice.
func (c *chaos) happened() (n int) {
	for _, p := range c.proxies {
		for k, times := range p.Stats().Faults {
			if k != fault.Halve && k != fault.Delay {
				n += times
			}
		}
	}
	return n
}

// subscribe asks for everything.
func (c *chaos) subscribe() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := c.sub.Subscribe(ctx, c.sub.handler, client.Filter("chaos/#", c.QoS)); err != nil {
		c.t.Fatalf("subscribe: %v", err)
	}
}

// message is the message of that number: number, checksum, and some more bytes.
func (c *chaos) message(n uint32) *client.Message {
	most := 200
	switch {
	case c.Damaged: // so that more than payloads is damaged
		most = 8
	case c.chance.IntN(50) == 0:
		most = 8000
	}
	b := make([]byte, 8+c.chance.IntN(most))
	binary.BigEndian.PutUint32(b, n)
	for i := range b[8:] {
		b[8+i] = byte(c.chance.Uint32())
	}
	binary.BigEndian.PutUint32(b[4:], checksum(b))
	return &client.Message{Topic: "chaos/messages", Payload: b, QoS: c.QoS}
}

func checksum(b []byte) uint32 { return crc32.ChecksumIEEE(b[:4]) ^ crc32.ChecksumIEEE(b[8:]) }

// give gives the next message to the publisher. Where the publisher is dead, so
// that it refuses, the next one is born.
func (c *chaos) give() {
	wait := patience
	if c.Damaged {
		wait = 5 * time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	m := c.message(c.given)
	err := c.pub.PublishAsync(ctx, m, func(_ client.Receipt, err error) {
		if err != nil && (c.Graves == 0 || !errors.Is(err, client.ErrClosed)) {
			c.refused.Add(1)
			if !c.Damaged {
				c.t.Errorf("a message ended with: %v", err)
			}
		}
	})
	switch {
	case err == nil:
		c.given++
	case c.Damaged:
		// Such as too long, for what arrived as CONNACK. The next one says other things.
		c.refused.Add(1)
		c.given++
		c.pub.proxy.Cut()
	case c.pub.store != nil && c.pub.store.dead():
		<-c.pub.Done()
		c.bury()
		if c.pub.store.messages() == c.given+1 { // nobody had learned that it was kept
			c.given++
		}
	default:
		c.t.Fatalf("publish the message %d: %v", c.given, err)
	}
}

// mayDie has clients die now and then.
func (c *chaos) mayDie() {
	if c.Graves == 0 {
		return
	}
	if c.chance.IntN(c.Graves) == 0 {
		c.finish(c.sub)
		c.begin(c.sub)
		c.deaths++
	}
	switch c.chance.IntN(2 * c.Graves) {
	case 0:
		c.bury()
	case 1:
		c.pub.store.dieIn(1+c.chance.IntN(30), c.chance.IntN(2) == 0)
	}
}

// bury has a new publisher take the place of the old one, which may be dead
// already.
func (c *chaos) bury() {
	c.t.Helper()
	c.finish(c.pub)
	c.begin(c.pub)
	c.deaths++
	if n := c.pub.store.messages(); n < c.given || n > c.given+1 {
		c.t.Errorf("%d messages were given to the publisher, and its store has kept %d", c.given, n)
	}
}

// receive is the subscriber's handler. A dead subscriber notices nothing, and
// none dies between the notice and the acknowledgement: that would bring the
// message to the next one again, as the library says.
func (c *chaos) receive(m *client.Received, l *life) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.over {
		return
	}
	if c.Graves > 0 {
		defer m.Ack()
	}
	if b := m.Payload; len(b) >= 8 && binary.BigEndian.Uint32(b[4:]) == checksum(b) {
		c.got = append(c.got, binary.BigEndian.Uint32(b))
	} else {
		c.bent++
	}
	select {
	case c.came <- struct{}{}:
	default:
	}
}

// end publishes a last message, waits for its way through, and has both clients
// leave in order.
func (c *chaos) end() {
	if c.Damaged { // what the clients believe may be wrong until they connect anew
		for _, p := range c.proxies {
			p.Reset()
		}
		c.subscribe()
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m := c.message(c.given)
	for c.pub.store != nil && c.pub.store.stay() { // it was about to die
		c.bury()
	}
	if _, err := c.pub.Publish(ctx, m); err != nil {
		c.t.Fatalf("publish the last message: %v", err)
	}
	for !c.has(c.given) {
		select {
		case <-c.came:
		case <-time.After(patience):
			c.check()
			c.t.Fatalf("nothing came for %v, and not the last message\npublisher: %+v%v\nsubscriber: %+v%v",
				patience, c.pub.Stats(), &c.pub.tape, c.sub.Stats(), &c.sub.tape)
		}
	}
	c.given++
	for _, a := range []*actor{c.pub, c.sub} {
		if err := a.Disconnect(ctx); err != nil {
			c.t.Errorf("disconnect the %s: %v", a.id, err)
		}
		c.finish(a)
	}
}

// has tells whether the message came.
func (c *chaos) has(n uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.got[max(0, len(c.got)-1000):], n)
}

// heapSys is the memory that the heap has had of the system, which does not fall.
func heapSys() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapSys
}

// check holds what came against what was given.
func (c *chaos) check() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Damaged {
		if grown := int64(heapSys()-c.heap) >> 20; grown > 256 {
			c.t.Errorf("the heap has grown by %d MiB", grown)
		}
		c.t.Logf("of %d messages %d came whole, %d bent, %d were refused", c.given, len(c.got), c.bent, c.refused.Load())
		return
	}
	if c.bent > 0 {
		c.t.Errorf("%d messages are not as they were sent", c.bent)
	}
	faults, next := 0, uint32(0)
	for i, n := range c.got {
		switch {
		case n == next:
			next++
			continue
		case n < next && c.QoS == 1:
			continue // once more
		case n < next:
			c.t.Errorf("receipt %d: message %d once more, after %d", i, n, next-1)
		default:
			c.t.Errorf("receipt %d: message %d after %d", i, n, int64(next)-1)
			next = n + 1
		}
		if faults++; faults == 10 {
			break
		}
	}
	if next != c.given {
		c.t.Errorf("messages came up to %d, of %d", next, c.given)
	}
}
