package mem

import (
	"fmt"
	"testing"

	"github.com/myelin-mqtt/myelin/internal/session"
	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/store/storetest"
	"github.com/myelin-mqtt/myelin/packet"
)

func open(l storetest.Limits) *Engine {
	return Open(Options{Limits: session.Limits{Messages: l.Messages, Bytes: l.Bytes, Policy: session.Policy(l.Policy), TotalMessages: l.TotalMessages}})
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(_ testing.TB, l storetest.Limits) store.Engine { return open(l) })
}

// TestContractLate runs the contract with completions that come late.
func TestContractLate(t *testing.T) {
	storetest.Run(t, func(_ testing.TB, l storetest.Limits) store.Engine { return storetest.Async(open(l), 1) })
}

func message(t testing.TB, topic string, payload int) *packet.Publish {
	t.Helper()
	m, err := packet.NewPublish(&packet.Message{Topic: topic, Payload: make([]byte, payload), QoS: 1, Retain: true}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestRetainedLimits: each step publishes one retained message; what was
// dropped and what is held is looked at.
func TestRetainedLimits(t *testing.T) {
	type step struct {
		topic   string
		payload int
		dropped bool
		n       int
		bytes   int64
	}
	f := func(o Options, steps ...step) {
		t.Helper()
		dropped := false
		o.OnDrop = func(_ string, _ *packet.Publish, why Reason) { dropped = why == RetainedFull }
		e := Open(o)
		for i, s := range steps {
			dropped = false
			if done, err := e.Publish(message(t, s.topic, s.payload), nil, store.Inbound{}, nil, 0); !done || err != nil {
				t.Fatalf("step %d: %v %v", i, done, err)
			}
			got := step{s.topic, s.payload, dropped, e.Stats().Retained, e.Stats().RetainedBytes}
			if got != s {
				t.Errorf("step %d: %+v, want %+v", i, got, s)
			}
		}
	}
	f(Options{MaxRetained: 2},
		step{"a", 1, false, 1, 2}, step{"b", 1, false, 2, 4}, step{"c", 1, true, 2, 4},
		step{"a", 5, false, 2, 8}, step{"b", 0, false, 1, 6}, step{"c", 1, false, 2, 8})
	f(Options{MaxRetainedBytes: 10},
		step{"a", 4, false, 1, 5}, step{"b", 4, false, 2, 10}, step{"c", 1, true, 2, 10},
		step{"b", 3, false, 2, 9}, step{"b", 4, false, 2, 10}, step{"b", 5, true, 1, 5},
		step{"b", 9, true, 1, 5}, step{"a", 9, false, 1, 10})
	f(Options{NoRetain: true}, step{"a", 4, false, 0, 0})
}

// TestOnDrop: each message that is lost is told, with the reason.
func TestOnDrop(t *testing.T) {
	var got []string
	e := Open(Options{Limits: session.Limits{Messages: 1}, OnDrop: func(id string, m *packet.Publish, why Reason) {
		got = append(got, fmt.Sprintf("%s %s %d", id, m.Topic(), why))
	}})
	sink := &sink{}
	e.Claim(store.ClaimReq{ClientID: "a", Expiry: 1}, sink)
	to := []store.Target{{To: sink.s, QoS: 1}}
	late, err := packet.NewPublish(&packet.Message{Topic: "late", Expiry: 1, HasExpiry: true}, 0)
	if err != nil {
		t.Fatal(err)
	}
	e.Publish(message(t, "first", 1), to, store.Inbound{}, nil, 0)
	e.Publish(late, to, store.Inbound{}, nil, 0)
	if n, more := sink.s.Next(make([]store.Delivery, 2), 100); n != 0 || more {
		t.Errorf("Next: %d %v", n, more)
	}
	if want := fmt.Sprint([]string{"a first 0", "a late 1"}); fmt.Sprint(got) != want {
		t.Errorf("told of %v, want %v", got, want)
	}
}

type sink struct{ s store.Session }

func (k *sink) Claimed(s store.Session, _ *store.State, _ error) { k.s = s }
func (k *sink) Ready()                                           {}

// TestQueueGivesMemoryBack: a queue that ran empty is small, and one that never
// does, but stays short, does not grow.
func TestQueueGivesMemoryBack(t *testing.T) {
	e := Open(Options{})
	k := &sink{}
	e.Claim(store.ClaimReq{ClientID: "a", Expiry: 1}, k)
	m, to := message(t, "a", 1), []store.Target{{To: k.s, QoS: 1}}
	buf := make([]store.Delivery, 10)
	for range 5000 {
		e.Publish(m, to, store.Inbound{}, nil, 0)
	}
	for more := true; more; {
		_, more = k.s.Next(buf, 0)
	}
	q := k.s.(*queue)
	if n := cap(q.items); n > 64 {
		t.Errorf("empty, with memory for %d", n)
	}
	e.Publish(m, to, store.Inbound{}, nil, 0)
	for range 50000 {
		e.Publish(m, to, store.Inbound{}, nil, 0)
		q.Next(buf[:1], 0)
	}
	if n := cap(q.items); n > 4096 {
		t.Errorf("one waits, with memory for %d", n)
	}
}

func BenchmarkPublishNext(b *testing.B) {
	e := Open(Options{Limits: session.Limits{Messages: 1000}})
	k := &sink{}
	e.Claim(store.ClaimReq{ClientID: "a", Expiry: 1}, k)
	m, to := message(b, "a/b/c", 64), []store.Target{{To: k.s, QoS: 1}}
	buf := make([]store.Delivery, 32)
	b.ReportAllocs()
	for b.Loop() {
		e.Publish(m, to, store.Inbound{Again: true}, nil, 0)
		k.s.Next(buf, 0)
	}
}
