package load

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/topic"
)

// fake is a broker within the program, without a network: it delivers and
// acknowledges each message after a delay, in their order, and does what its
// functions say.
type fake struct {
	delay   time.Duration
	copies  func(n int, m *client.Message) int // how often delivery n is made; nil: once
	ack     func(n int, m *client.Message) error
	noAck   func(n int) bool
	dialing func(o client.Options) error

	mu       sync.Mutex
	cond     *sync.Cond
	queue    []job
	ended    bool
	done     chan struct{}
	subs     []*fakeSub
	sessions map[string]*fakeSub // durable ones
	turn     int
	n, acks  int
	conns    int
}

type job struct {
	at time.Time
	do func()
}

type fakeSub struct {
	id     string
	filter string
	h      client.Handler // nil: away
	queue  []*client.Received
}

func newFake(delay time.Duration) *fake {
	b := &fake{delay: delay, done: make(chan struct{}), sessions: map[string]*fakeSub{}}
	b.cond = sync.NewCond(&b.mu)
	go b.run()
	return b
}

func (b *fake) close() {
	b.mu.Lock()
	b.ended = true
	b.cond.Signal()
	b.mu.Unlock()
	<-b.done
}

func (b *fake) run() {
	defer close(b.done)
	for {
		b.mu.Lock()
		for len(b.queue) == 0 && !b.ended {
			b.cond.Wait()
		}
		if b.ended {
			b.mu.Unlock()
			return
		}
		j := b.queue[0]
		b.queue = b.queue[1:]
		b.mu.Unlock()
		time.Sleep(time.Until(j.at))
		j.do()
	}
}

func (b *fake) target(name string) Target { return Target{Name: name, Dial: b.dial} }

func (b *fake) dial(_ context.Context, o client.Options) (Conn, error) {
	if b.dialing != nil {
		if err := b.dialing(o); err != nil {
			return nil, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns++
	c := &fakeConn{b: b, o: o}
	if s := b.sessions[o.ClientID]; s != nil {
		if o.CleanStart {
			delete(b.sessions, o.ClientID)
			b.remove(s)
		} else {
			s.h = o.OnMessage
			queued := s.queue
			s.queue = nil
			b.queue = append(b.queue, job{time.Now().Add(b.delay), func() {
				for _, m := range queued {
					m.At = time.Now()
					s.h(m)
				}
			}})
			b.cond.Signal()
		}
	}
	return c, nil
}

func (b *fake) remove(s *fakeSub) {
	for i := range b.subs {
		if b.subs[i] == s {
			b.subs = append(b.subs[:i], b.subs[i+1:]...)
			return
		}
	}
}

type fakeConn struct {
	b      *fake
	o      client.Options
	mine   []*fakeSub
	closed bool
}

func (c *fakeConn) PublishAsync(_ context.Context, m *client.Message, done func(client.Receipt, error)) error {
	b := c.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.closed {
		return client.ErrClosed
	}
	sent := *m
	sent.Payload = append([]byte(nil), m.Payload...)
	sent.Correlation = append([]byte(nil), m.Correlation...)
	n := b.acks
	b.acks++
	b.queue = append(b.queue, job{time.Now().Add(b.delay), func() {
		var err error
		if b.ack != nil {
			err = b.ack(n, &sent)
		}
		if err == nil {
			b.deliver(&sent)
		}
		if done != nil && (b.noAck == nil || !b.noAck(n)) {
			done(client.Receipt{}, err)
		}
	}})
	b.cond.Signal()
	return nil
}

func (b *fake) deliver(m *client.Message) {
	b.mu.Lock()
	var to, group []*fakeSub
	for _, s := range b.subs {
		f, err := topic.ParseFilter(s.filter)
		if err != nil || !topic.Match(f.Filter, m.Topic) {
			continue
		}
		if f.Shared() {
			group = append(group, s)
		} else {
			to = append(to, s)
		}
	}
	if len(group) > 0 {
		to = append(to, group[b.turn%len(group)])
		b.turn++
	}
	type delivery struct {
		s *fakeSub
		m *client.Received
	}
	var all []delivery
	for _, s := range to {
		times := 1
		if b.copies != nil {
			times = b.copies(b.n, m)
		}
		b.n++
		for range times {
			r := &client.Received{Message: *m, At: time.Now()}
			if s.h == nil {
				s.queue = append(s.queue, r)
				continue
			}
			all = append(all, delivery{s, r})
		}
	}
	b.mu.Unlock()
	for _, d := range all {
		d.s.h(d.m)
	}
}

func (c *fakeConn) Subscribe(_ context.Context, h client.Handler, subs ...client.Subscription) ([]packet.Reason, error) {
	time.Sleep(c.b.delay)
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	var codes []packet.Reason
	for _, s := range subs {
		x := &fakeSub{id: c.o.ClientID, filter: s.Filter, h: h}
		c.b.subs = append(c.b.subs, x)
		c.mine = append(c.mine, x)
		codes = append(codes, packet.Reason(s.QoS))
	}
	return codes, nil
}

func (c *fakeConn) Unsubscribe(_ context.Context, filters ...string) error {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	for _, f := range filters {
		for _, s := range c.mine {
			if s.filter == f {
				c.b.remove(s)
			}
		}
	}
	return nil
}

func (c *fakeConn) Disconnect(context.Context) error {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if c.closed {
		return errors.New("twice")
	}
	c.end()
	return nil
}

func (c *fakeConn) end() {
	if c.closed {
		return
	}
	c.closed = true
	for _, s := range c.mine {
		if c.o.SessionExpiry > 0 {
			s.h = nil
			c.b.sessions[s.id] = s
		} else {
			c.b.remove(s)
		}
	}
}

func (c *fakeConn) Close() error {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	c.end()
	return nil
}
