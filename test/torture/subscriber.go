package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// habit is when a subscriber is there.
type habit int

// The habits.
const (
	always   habit = iota // from each start to each kill
	lazy                  // so, too, but acknowledges late, many at a time
	flapping              // comes and goes
	rare                  // is there for a moment in some rounds
	absent                // comes once to subscribe, and at the end
	habits
)

func (h habit) String() string {
	return [habits]string{"always there", "acknowledging late", "coming and going", "rarely there", "away till the end"}[h]
}

// subscriber is a durable session with one subscription.
type subscriber struct {
	client
	reader int
	qos    packet.QoS
	filter string
	habit  habit
	rng    *rand.Rand
	in     inbox
	held   []owing // acknowledgements of a lazy one
}

// owing is an acknowledgement that was not sent yet.
type owing struct {
	kind packet.Type
	id   uint16
}

// subscribe makes the session and the subscription, on a broker that nobody kills yet.
func (s *subscriber) subscribe(ctx context.Context, round int) error {
	l, ack := s.connect(ctx, round, nil)
	if l == nil {
		return errors.New("a subscriber cannot connect")
	}
	defer l.leave()
	return s.resume(l, ack.SessionPresent)
}

// resume subscribes again where the session is gone.
func (s *subscriber) resume(l *link, present bool) error {
	s.held = s.held[:0]
	if present {
		return nil
	}
	clear(s.in)
	l.send(&packet.Subscribe{ID: 1, Filters: []packet.Subscription{{Filter: s.filter, Options: packet.SubOptions(s.qos)}}})
	return l.read(time.Now().Add(patience), func(p packet.Packet) (bool, error) {
		a, ok := p.(*packet.Suback)
		if !ok {
			return true, s.handle(l, p)
		}
		if a.Codes[0] != packet.Reason(s.qos) {
			s.w.ledger.note(protocol, "%s: %v", s.id, a)
		}
		return false, nil
	})
}

func (s *subscriber) run(ctx context.Context) {
	for {
		round, ok := s.await(ctx)
		if !ok {
			return
		}
		l, ack := s.connect(ctx, round, nil)
		if l == nil {
			pause(ctx, time.Millisecond)
			continue
		}
		err := s.resume(l, ack.SessionPresent)
		if err == nil {
			err = s.stay(l)
		}
		s.ended(ctx, round, err)
		if errors.Is(err, errLeft) && s.rng.IntN(2) == 0 {
			l.leave()
		}
		l.close()
	}
}

// await waits until it is time to come.
func (s *subscriber) await(ctx context.Context) (round int, ok bool) {
	if s.habit == flapping && !pause(ctx, time.Duration(20+s.rng.IntN(600))*time.Millisecond) {
		return 0, false
	}
	seen := -1
	for {
		round, up, final, changed := s.w.look()
		comes := s.habit != absent && s.habit != rare || final
		if s.habit == rare && up && round != seen {
			seen = round
			comes = comes || s.rng.IntN(8) == 0
		}
		if up && comes {
			return round, ctx.Err() == nil
		}
		select {
		case <-ctx.Done():
			return 0, false
		case <-changed:
		}
	}
}

// stay takes messages until the connection ends, or it is time to go: then the error is errLeft.
func (s *subscriber) stay(l *link) error {
	var until time.Time
	switch _, _, final, _ := s.w.look(); {
	case final:
	case s.habit == flapping, s.habit == rare:
		until = time.Now().Add(time.Duration(20+s.rng.IntN(400)) * time.Millisecond)
	}
	for {
		deadline := until
		if s.habit == lazy {
			deadline = time.Now().Add(time.Duration(20+s.rng.IntN(80)) * time.Millisecond)
		}
		err := l.read(deadline, func(p packet.Packet) (bool, error) { return true, s.handle(l, p) })
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if s.habit != lazy {
			return errLeft
		}
		for _, o := range s.held {
			l.sendAck(o.kind, o.id)
		}
		s.held = s.held[:0]
	}
}

func (s *subscriber) handle(l *link, got packet.Packet) error {
	switch p := got.(type) {
	case *packet.Publish:
		return s.take(l, p)
	case *packet.Ack:
		if p.Kind != packet.PUBREL {
			return unexpected(p)
		}
		s.in.release(p.ID)
		s.answer(l, packet.PUBCOMP, p.ID)
		return nil
	}
	return unexpected(got)
}

func (s *subscriber) take(l *link, p *packet.Publish) error {
	switch p.QoS() {
	case packet.AtLeastOnce:
		s.w.ledger.receive(s.reader, p.Topic(), p.Payload())
		s.answer(l, packet.PUBACK, p.ID)
	case packet.ExactlyOnce:
		stream, seq, err := parseBody(p.Payload())
		if err == nil {
			var fresh bool
			if fresh, err = s.in.take(p.ID, ref{stream, seq}); fresh {
				s.w.ledger.receive(s.reader, p.Topic(), p.Payload())
			}
		}
		if err != nil {
			s.w.ledger.note(stranger, "%s: %v", s.id, err)
		}
		s.answer(l, packet.PUBREC, p.ID)
	default:
		return unexpected(p)
	}
	return nil
}

func (s *subscriber) answer(l *link, kind packet.Type, id uint16) {
	if s.habit == lazy {
		if _, _, final, _ := s.w.look(); !final {
			s.held = append(s.held, owing{kind, id})
			return
		}
		// What is held goes first.
		for _, o := range s.held {
			l.sendAck(o.kind, o.id)
		}
		s.held = s.held[:0]
	}
	l.sendAck(kind, id)
}
