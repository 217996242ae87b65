package broker

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/myelin-mqtt/myelin/internal/route"
	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/topic"
)

// Message is an application message as programs see it.
type Message = packet.Message

// Publish sends a message as if a client had, without asking the access
// rules. It returns when the message is as durable as the broker makes it, or
// with the reason why it was taken for nobody, or with ctx's error, when
// nothing is known.
func (b *Broker) Publish(ctx context.Context, m Message) error {
	p, err := packet.NewPublish(&m, uint32(b.clock()/1e9))
	if err != nil {
		return fmt.Errorf("publish to %q: %w", m.Topic, err)
	}
	b.use.RLock()
	if b.isClosed() {
		b.use.RUnlock()
		return ErrClosed
	}
	t := b.borrow()
	w := make(waiter, 1)
	t.n.pubIn[p.QoS()]++
	t.n.pubBytesIn += uint64(len(p.Payload()))
	done, _, err := t.routeFor(p, w)
	b.give(t)
	b.use.RUnlock()
	if !done {
		select {
		case err = <-w:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err != nil {
		return fmt.Errorf("publish to %q: %w", m.Topic, err)
	}
	return nil
}

// waiter waits for the store.
type waiter chan error

// Done implements store.Completer.
func (w waiter) Done(_ uint64, err error) { w <- err }

func (b *Broker) isClosed() bool {
	select {
	case <-b.closed:
		return true
	default:
		return false
	}
}

// Subscription is an in-process subscription. End it with Close.
type Subscription struct {
	b      *Broker
	s      *session
	filter topic.Filter
	queue  chan *Message
	done   chan struct{}
	once   sync.Once
	wg     sync.WaitGroup
}

// SubscribeOptions configure an in-process subscription.
type SubscribeOptions struct {
	// Queue is how many messages wait for the function before new ones are
	// dropped and counted; default 1024.
	Queue int
	// NoRetained leaves out the retained messages at the beginning.
	NoRetained bool
}

// Subscribe calls f for every message that matches the filter, one after the
// other, from a goroutine of its own; retained messages come first. The
// message is f's. The subscription is not one of a session: what comes while
// the program is slow is queued up to o.Queue, and no further. It ends with
// Close, or with the broker, which does not wait for a call of f under way.
func (b *Broker) Subscribe(filter string, o SubscribeOptions, f func(*Message)) (*Subscription, error) {
	if b.isClosed() {
		return nil, ErrClosed
	}
	parsed, err := topic.ParseFilter(filter)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	if o.Queue < 0 {
		return nil, fmt.Errorf("subscribe: queue of %d messages", o.Queue)
	}
	def(&o.Queue, 1024)
	l := &Subscription{b: b, filter: parsed, queue: make(chan *Message, o.Queue), done: make(chan struct{})}
	l.s = newSession("local-" + strconv.FormatUint(b.serial.Add(1), 36))
	l.s.active = &active{local: l}
	l.s.setLoad()
	b.table.Subscribe(parsed, route.Sub[*session]{To: l.s, QoS: 2, Opts: route.RetainAsPublished}, true)
	l.wg.Go(func() {
		if parsed.Share == "" && !o.NoRetained && !l.retained(f) {
			return
		}
		for {
			select {
			case m := <-l.queue:
				f(m)
			case <-l.done:
				return
			case <-b.over:
				return
			}
		}
	})
	return l, nil
}

// retained calls f for the retained messages that match, as they are by then;
// false: the subscription has ended meanwhile.
func (l *Subscription) retained(f func(*Message)) bool {
	b := l.b
	c := b.store.Retained(l.filter.Filter)
	if strings.HasPrefix(l.filter.Filter, string(sysPrefix)) {
		c = b.sys.Cursor(l.filter.Filter)
	}
	for more, alive := true, true; more; {
		more = c.Next(1024, func(_ string, p *packet.Publish) bool {
			select {
			case <-l.done:
				alive = false
			case <-b.over:
				alive = false
			default:
				if left, expired := p.Left(uint32(b.clock() / 1e9)); !expired {
					m := p.Message()
					m.Expiry = left
					f(m)
				}
			}
			return alive
		})
		if !alive {
			return false
		}
	}
	return true
}

// Close ends the subscription, and waits for the function to return. It must
// not be called from the function.
func (l *Subscription) Close() {
	l.once.Do(func() {
		l.s.mu.Lock()
		l.s.load.Store(route.Never)
		l.s.mu.Unlock()
		l.b.table.Unsubscribe(l.filter, l.s)
		close(l.done)
	})
	l.wg.Wait()
}

// put hands over one message; false: the queue is full.
func (l *Subscription) put(p *packet.Publish) bool {
	if l.s.ended() {
		return true
	}
	select {
	case l.queue <- p.Message():
		return true
	default:
		return false
	}
}
