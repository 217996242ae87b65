package storetest

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
)

// prompt is an engine that is done at once, and refuses what it is told to.
type prompt struct {
	store.Engine
	err error
}

func (p *prompt) Publish(*packet.Publish, []store.Target, store.Inbound, store.Completer, uint64) (bool, error) {
	return true, p.err
}

func (p *prompt) Close(context.Context) error { return p.err }

// log is a Completer that remembers.
type log struct {
	mu   sync.Mutex
	toks []uint64
	err  error
}

func (l *log) Done(tok uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.toks, l.err = append(l.toks, tok), err
}

func (l *log) all() []uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.toks)
}

func TestAsyncPause(t *testing.T) {
	const n = 50
	order := func(seed uint64) []uint64 {
		e := Async(&prompt{}, seed)
		var l log
		e.Pause()
		for tok := range uint64(n) {
			if done, err := e.Publish(nil, nil, store.Inbound{}, &l, tok); done || err != nil {
				t.Fatalf("Publish is done, with error %v", err)
			}
		}
		if got := l.all(); len(got) != 0 {
			t.Fatalf("%d completions in a pause", len(got))
		}
		for range n {
			if !e.Step() {
				t.Fatal("nothing is left")
			}
		}
		if e.Step() {
			t.Error("something is left")
		}
		if err := e.Close(t.Context()); err != nil {
			t.Error(err)
		}
		return l.all()
	}
	a := order(1)
	if !slices.Equal(a, order(1)) {
		t.Error("the same seed gives another order")
	}
	if slices.Equal(a, order(2)) || slices.IsSorted(a) {
		t.Errorf("the order is not random: %d", a)
	}
	slices.Sort(a)
	if a = slices.Compact(a); len(a) != n {
		t.Errorf("%d completions, want %d", len(a), n)
	}
}

// TestAsyncClose: nothing that was begun is left without its completion, not
// even in a pause.
func TestAsyncClose(t *testing.T) {
	p := &prompt{err: store.ErrQuota}
	e := Async(p, 1)
	var l log
	e.Publish(nil, nil, store.Inbound{}, &l, 1)
	e.Pause()
	e.Publish(nil, nil, store.Inbound{}, &l, 2)
	e.Continue()
	e.Pause()
	e.Publish(nil, nil, store.Inbound{}, &l, 3)
	if err := e.Close(t.Context()); err != store.ErrQuota {
		t.Errorf("Close: %v, want the inner engine's error", err)
	}
	if got := l.all(); len(got) != 3 || l.err != store.ErrQuota {
		t.Errorf("%d completions with %v, want 3 with %v", len(got), l.err, store.ErrQuota)
	}
}
