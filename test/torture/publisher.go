package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// publisher sends to streams of its own, with a window of messages under way, and answers for each until it is
// acknowledged. What is not is sent again after a restart: a PUBLISH with DUP, or, once PUBREC has come, the PUBREL, in
// the order of the first time.
type publisher struct {
	client
	live   []sending // taken at random
	quiet  []sending // retained ones: one of them in each round of the broker
	window int
	rate   float64 // messages a second; 0: as many as the window allows
	size   int     // bytes, on average
	rng    *rand.Rand
	stop   <-chan struct{} // no new messages any more

	mu   sync.Mutex
	box  outbox
	wake chan struct{} // the window has room again
}

// sending is a stream as its publisher knows it.
type sending struct {
	id     int
	topic  string
	qos    packet.QoS
	retain bool
	erases func(seq uint64) bool
}

// idle says that nothing is under way.
func (p *publisher) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.box.list) == 0
}

func (p *publisher) run(ctx context.Context) {
	for {
		round, ok := p.w.running(ctx)
		if !ok {
			return
		}
		l, ack := p.connect(ctx, round, nil)
		if l == nil {
			pause(ctx, time.Millisecond)
			continue
		}
		window := p.window
		if ack.ReceiveMax != nil {
			window = min(window, int(*ack.ReceiveMax))
		}
		p.resume(l, ack.SessionPresent)
		online, offline := context.WithCancel(ctx)
		var sender sync.WaitGroup
		sender.Go(func() { p.send(online, l, round, window) })
		p.ended(ctx, round, l.read(time.Time{}, func(got packet.Packet) (bool, error) { return true, p.handle(l, got) }))
		offline()
		sender.Wait()
		l.close()
	}
}

// resume sends again what was under way.
func (p *publisher) resume(l *link, present bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !present {
		p.box.forget()
	}
	for _, e := range p.box.list {
		if e.received {
			l.sendAck(packet.PUBREL, e.id)
		} else {
			p.write(l, p.stream(e.stream), e, present)
		}
	}
}

func (p *publisher) stream(id int) sending {
	for _, s := range p.live {
		if s.id == id {
			return s
		}
	}
	for _, s := range p.quiet {
		if s.id == id {
			return s
		}
	}
	panic("a stream that nobody has made")
}

func (p *publisher) write(l *link, s sending, e entry, dup bool) {
	m := &packet.Message{Topic: s.topic, QoS: s.qos, Retain: s.retain}
	if s.erases == nil || !s.erases(e.seq) {
		m.Payload = appendBody(nil, s.id, e.seq, e.size)
	}
	l.publish(m, packet.PublishOpts{QoS: s.qos, Retain: s.retain, Dup: dup, ID: e.id})
}

// send is the sender of one connection.
func (p *publisher) send(ctx context.Context, l *link, round, window int) {
	due, last := 0.0, time.Now()
	for {
		select {
		case <-p.stop:
			return
		default:
		}
		now := time.Now()
		due = min(due+now.Sub(last).Seconds()*p.rate, float64(p.window))
		last = now
		p.mu.Lock()
		n := window - len(p.box.list)
		if p.rate > 0 {
			n = min(n, int(due))
		}
		for range n {
			s := p.choose(round)
			p.write(l, s, p.box.add(s.id, p.w.ledger.send(s.id), s.qos, p.bytes()), false)
		}
		p.mu.Unlock()
		due -= float64(max(0, n))
		if p.rate > 0 {
			// Bursts: a broker that is killed between them, and in the middle of one, shows more than one under an even load.
			if !pause(ctx, time.Duration(1+p.rng.IntN(25))*time.Millisecond) {
				return
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		}
	}
}

// choose picks the stream of the next message.
func (p *publisher) choose(round int) sending {
	if p.rng.IntN(10) == 0 {
		return p.quiet[round%len(p.quiet)]
	}
	return p.live[p.rng.IntN(len(p.live))]
}

// bytes picks a size: mostly small, now and then one that brokers handle differently.
func (p *publisher) bytes() int {
	if p.rng.IntN(300) == 0 {
		return 8 << 10
	}
	return p.rng.IntN(2*p.size + 1)
}

func (p *publisher) handle(l *link, got packet.Packet) error {
	a, ok := got.(*packet.Ack)
	if !ok {
		return unexpected(got)
	}
	p.mu.Lock()
	e, acked, reply, err := p.box.answer(a.Kind, a.ID, a.Code)
	p.mu.Unlock()
	if err != nil {
		p.w.ledger.note(protocol, "%s: %v", p.id, err)
	}
	if acked {
		p.w.ledger.ack(e.stream, e.seq)
	}
	if reply {
		l.sendAck(packet.PUBREL, a.ID)
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return nil
}
