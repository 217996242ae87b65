package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// world is what all clients share: where the broker is, whether it runs, and the ledger.
type world struct {
	addr   string
	ledger *ledger

	mu      sync.Mutex
	round   int
	up      bool
	changed chan struct{} // closed, and replaced, at each change
	final   bool          // everybody comes, and takes what is left
}

func newWorld(addr string, g *ledger) *world {
	return &world{addr: addr, ledger: g, changed: make(chan struct{})}
}

// set tells whether the broker runs. It is told of a kill before the kill.
func (w *world) set(round int, up bool) {
	w.ledger.setRound(round)
	w.change(func() { w.round, w.up = round, up })
}

// finish calls in everybody.
func (w *world) finish() { w.change(func() { w.final = true }) }

func (w *world) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	close(w.changed)
	w.changed = make(chan struct{})
}

// look is the state now, and a channel that is closed when it changes.
func (w *world) look() (round int, up, final bool, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.round, w.up, w.final, w.changed
}

// running waits for a run of the broker that is not the one before, which is -1 at first. It is false when the context
// ends.
func (w *world) running(ctx context.Context) (round int, ok bool) {
	for {
		round, up, _, changed := w.look()
		if up {
			return round, ctx.Err() == nil
		}
		select {
		case <-ctx.Done():
			return 0, false
		case <-changed:
		}
	}
}

// alive says whether that run of the broker goes on, as far as anybody has said.
func (w *world) alive(round int) bool {
	now, up, _, _ := w.look()
	return up && now == round
}

// client is what all of them have: a durable session under one identifier, which outlives the connections.
type client struct {
	w  *world
	id string
	v  packet.Version
	// established: a CONNACK for the session has come, so that it must be there the next time.
	established bool
	// over: the session was ended, and the broker has confirmed it, so that it must not be there the next time.
	over       bool
	clean      bool // end the old session with the CONNECT
	receiveMax uint16
}

// connect takes up the session. The link is nil if the broker is gone.
func (c *client) connect(ctx context.Context, round int, will *packet.Will) (*link, *packet.Connack) {
	connect := &packet.Connect{
		Version: c.v, ClientID: c.id, RequestProblemInfo: true, Will: will,
		CleanStart: c.clean, SessionExpiry: 0xFFFFFFFF, ReceiveMax: c.receiveMax,
	}
	l, ack, err := open(ctx, c.w.addr, connect)
	var op *net.OpError
	if err != nil && !(errors.As(err, &op) && op.Op == "dial") {
		c.over = false // the CONNECT may have begun a new session
	}
	if err != nil {
		c.ended(ctx, round, err)
		return nil, nil
	}
	switch {
	case (c.clean || c.over) && ack.SessionPresent:
		c.w.ledger.note(session, "the session of %s was ended and is there again", c.id)
	case c.clean, c.over:
	case c.established && ack.SessionPresent:
		c.w.ledger.present()
	case c.established:
		c.w.ledger.note(session, "the session of %s is gone", c.id)
	}
	c.established, c.over, c.clean = true, false, false
	return l, ack
}

// ended judges the end of a connection: nobody but the killer may end one, unless the client itself has.
func (c *client) ended(ctx context.Context, round int, err error) {
	if errors.Is(err, errLeft) || errors.Is(err, net.ErrClosed) || ctx.Err() != nil || !c.w.alive(round) {
		return
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.w.ledger.note(protocol, "%s waited for an answer in vain", c.id)
		return
	}
	c.w.ledger.note(protocol, "%s: the connection has ended though nobody has killed the broker: %v", c.id, err)
	pause(ctx, 50*time.Millisecond)
}

// unexpected is the error of a packet that the client does not wait for.
func unexpected(p packet.Packet) error { return fmt.Errorf("the broker sent %v", p) }

// pause waits, and says whether the context goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
