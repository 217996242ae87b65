//go:build conformance

package conformance

import (
	"fmt"
	"net"
	"testing"
	"time"
)

// witness is a pair of well-behaved clients that exchange messages during all that is done to the server, and must notice nothing.
type witness struct {
	end  chan struct{}
	done chan error
	sent int
	slow time.Duration // the longest way of a message
}

// startWitness begins the exchange.
func startWitness(t *testing.T) *witness {
	w := &witness{end: make(chan struct{}), done: make(chan error, 1)}
	a, err := net.Dial("tcp", target.tcp)
	if err != nil {
		t.Fatalf("witness: %v", err)
	}
	b, err := net.Dial("tcp", target.tcp)
	if err != nil {
		t.Fatalf("witness: %v", err)
	}
	e := &env{T: t, v: v5, prefix: target.run + "w"}
	pub, sub := newClient(e, v5, a), newClient(e, v5, b)
	for _, c := range []*client{pub, sub} {
		c.hail(connect{keepAlive: 30})
		c.welcome()
	}
	sub.want(e.topic("witness"), 2)
	go func() { w.done <- w.run(pub, sub, e.topic("witness")) }()
	return w
}

// run exchanges messages of all qualities of service until the end.
func (w *witness) run(pub, sub *client, topic string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-w.end:
			return nil
		case <-tick.C:
		}
		at := time.Now()
		if err := w.exchange(pub, sub, topic); err != nil {
			return fmt.Errorf("message %d: %w", w.sent, err)
		}
		w.slow = max(w.slow, time.Since(at))
	}
}

// exchange sends one message and waits for its delivery and its acknowledgement; it runs outside of the test's goroutine.
func (w *witness) exchange(pub, sub *client, topic string) error {
	w.sent++
	qos := byte(w.sent % 2)
	text := fmt.Sprint("message ", w.sent)
	if err := pub.write(message{topic: topic, payload: text, qos: qos, id: 7}.bytes(v5)); err != nil {
		return err
	}
	if qos == 1 {
		if p, err := pub.read(patience); err != nil || p.typ != tPUBACK || p.id != 7 || p.code != 0 {
			return fmt.Errorf("the publisher got %v, %w", p, err)
		}
	}
	p, err := sub.read(patience)
	if err != nil || p.typ != tPUBLISH || p.payload != text || p.qos() != qos || p.dup() {
		return fmt.Errorf("the subscriber got %v, %w", p, err)
	}
	if qos == 1 {
		return sub.write(ack(tPUBACK, p.id))
	}
	return nil
}

// stop ends the exchange; nothing must have been lost, doubled, or late.
func (w *witness) stop(t *testing.T) {
	close(w.end)
	if err := <-w.done; err != nil {
		t.Errorf("the clients that did nothing wrong noticed: %v", err)
	}
	t.Logf("witness: %d messages, the slowest took %v", w.sent, w.slow)
}
