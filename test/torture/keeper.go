package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// keeper reads the retained messages after each restart: each must be the last that was acknowledged, or one sent after
// it.
type keeper struct {
	w       *world
	streams []sending
	n       int
	checked int // messages that were judged
}

func (k *keeper) run(ctx context.Context) {
	for {
		round, ok := k.w.running(ctx)
		if !ok {
			return
		}
		err := k.read(ctx, time.Time{})
		(&client{w: k.w, id: "keeper"}).ended(ctx, round, err)
		pause(ctx, time.Millisecond)
	}
}

// check reads all that must be there, at rest: also that something is missing is seen.
func (k *keeper) check(ctx context.Context) error {
	if err := k.read(ctx, time.Now().Add(10*time.Second)); !errors.Is(err, errLeft) {
		return err
	}
	return nil
}

// due is one retained message that a subscriber waits for.
type due struct {
	sending
	acked uint64 // before the SUBSCRIBE
	seen  bool
}

// read subscribes to all retained topics with a session of its own. With a deadline it stays until everything has come;
// what has not by then is missing. Without one it stays as long as the broker runs.
func (k *keeper) read(ctx context.Context, deadline time.Time) error {
	k.n++
	l, _, err := open(ctx, k.w.addr, &packet.Connect{
		Version: packet.V5, ClientID: fmt.Sprintf("keeper-%d", k.n), CleanStart: true, RequestProblemInfo: true,
	})
	if err != nil {
		return err
	}
	defer l.close()
	sub := &packet.Subscribe{ID: 1}
	all := make([]due, 0, len(k.streams))
	for _, s := range k.streams {
		acked, _ := k.w.ledger.window(s.id)
		all = append(all, due{sending: s, acked: acked})
		sub.Filters = append(sub.Filters, packet.Subscription{Filter: s.topic, Options: packet.SubOptions(packet.AtLeastOnce)})
	}
	l.send(sub)
	err = l.read(deadline, func(got packet.Packet) (bool, error) {
		switch p := got.(type) {
		case *packet.Suback:
		case *packet.Publish:
			k.judge(all, p)
			if p.QoS() != packet.AtMostOnce {
				l.sendAck(packet.PUBACK, p.ID)
			}
		default:
			return false, unexpected(got)
		}
		if !deadline.IsZero() && len(k.missing(all)) == 0 {
			return false, errLeft
		}
		return true, nil
	})
	if !deadline.IsZero() && errors.Is(err, os.ErrDeadlineExceeded) {
		for _, d := range k.missing(all) {
			k.w.ledger.note(retention, "there is no retained message on %s, message %d was acknowledged last", d.topic, d.acked)
		}
		return errLeft
	}
	return err
}

// judge looks at a message that came because it is retained.
func (k *keeper) judge(all []due, p *packet.Publish) {
	if !p.Retain() {
		return
	}
	i := slices.IndexFunc(all, func(d due) bool { return d.topic == string(p.Topic()) })
	if i < 0 {
		k.w.ledger.note(stranger, "a retained message on %s", p.Topic())
		return
	}
	d := &all[i]
	d.seen = true
	k.checked++
	_, sent := k.w.ledger.window(d.id)
	stream, seq, err := parseBody(p.Payload())
	switch {
	case err != nil || stream != d.id || seq > sent:
		k.w.ledger.note(stranger, "the retained message on %s is number %d of stream %d: %v", d.topic, seq, stream, err)
	case seq < d.acked:
		k.w.ledger.note(retention, "the retained message on %s is number %d, message %d was acknowledged before", d.topic, seq, d.acked)
	}
}

// missing lists what has not come and cannot have been deleted by a message since the last acknowledged one.
func (k *keeper) missing(all []due) (list []due) {
	for _, d := range all {
		if d.seen || d.acked == 0 || d.erases != nil && k.erased(d) {
			continue
		}
		list = append(list, d)
	}
	return list
}

func (k *keeper) erased(d due) bool {
	_, sent := k.w.ledger.window(d.id)
	for seq := d.acked; seq <= sent; seq++ {
		if d.erases(seq) {
			return true
		}
	}
	return false
}
