package transport

import (
	"errors"
	"net"
	"testing"
	"time"
)

// A loop that was frozen, or had no deadline for long, still ends what is over: entries from before the gap count.
func TestDeadlinesAfterAGap(t *testing.T) {
	gaps := make(chan struct{}, 2)
	h := &echo{feed: func(turn *Turn, _ *Conn, b []byte) (int, error) {
		switch b[len(b)-1] {
		case 1: // as if much time had passed, which the next turn sees
			turn.s.start = turn.s.start.Add(-400 * time.Second)
			gaps <- struct{}{}
		case 2:
			return len(b), errors.New("bye")
		}
		return len(b), nil
	}}
	s, ln := serve(t, h, "tcp", Options{Driver: "reactor", Loops: 1, Linger: 250 * time.Millisecond})
	idle, ends := dial(t, ln), dial(t, ln)
	for h.opens.Load() < 2 {
		idle.Write([]byte{0})
		ends.Write([]byte{0})
		time.Sleep(time.Millisecond)
	}
	for gap, nc := range []net.Conn{ends, idle} { // whose linger time begins behind the gap; they keep their side open
		nc.Write([]byte{1})
		<-gaps
		nc.Write([]byte{2})
		for end := time.Now().Add(10 * time.Second); s.Stats().Sockets > int64(1-gap); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("gap %d: an ended connection is kept for ever", gap)
			}
		}
	}
}

func TestWheelAcrossAGap(t *testing.T) {
	var w wheel
	w.now = 100
	at := w.clamp(110)
	w.add(at, 7)
	found := false
	for {
		ids, ok := w.step(5000)
		if !ok {
			break
		}
		for _, id := range ids {
			if id == 7 && int32(at-w.now) <= 0 {
				found = true
			}
		}
	}
	if !found || w.n != 0 || w.now != 5000 {
		t.Errorf("found %v, %d entries left, now %d", found, w.n, w.now)
	}
	w.catchUp(9000)
	if at := w.clamp(9010); at != 9010 {
		t.Errorf("clamped to %d", at)
	}
}
