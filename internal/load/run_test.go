package load

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plan makes one of "key=value" words.
func plan(t *testing.T, words string) Plan {
	t.Helper()
	var settings []Setting
	for _, w := range strings.Fields(words) {
		k, v, _ := strings.Cut(w, "=")
		settings = append(settings, Setting{Key: k, Value: v, Where: "--" + k})
	}
	plans, faults := Plans("", nil, settings)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return plans[0]
}

// try runs a load on a fake broker on a clock of its own.
func try(t *testing.T, words string, tune func(*fake), then func(*Result)) {
	t.Helper()
	p := plan(t, words)
	synctest.Test(t, func(t *testing.T) {
		b := newFake(time.Millisecond)
		if tune != nil {
			tune(b)
		}
		r := &Runner{Target: b.target("fake"), pause: time.Sleep}
		res := r.Run(t.Context(), p)
		b.mu.Lock()
		left := len(b.subs) + len(b.sessions)
		b.mu.Unlock()
		b.close()
		if left > 0 {
			t.Errorf("%s: %d subscriptions or sessions are left behind", words, left)
		}
		then(res)
	})
}

func TestLoads(t *testing.T) {
	f := func(words string, sent, received uint64, latency time.Duration) {
		t.Helper()
		try(t, words, nil, func(r *Result) {
			if err := r.Failed(); err != nil {
				t.Errorf("%s: %v", words, err)
			}
			if r.Faults != (Faulty{}) {
				t.Errorf("%s: faults %+v", words, r.Faults)
			}
			if r.Sent != sent || r.Received != received {
				t.Errorf("%s: sent %d and received %d, want %d and %d", words, r.Sent, r.Received, sent, received)
			}
			if got := r.Latency.Corrected.ValueAtPercentile(50); received > 0 && (got < int64(latency)*99/100 || got > int64(latency)*101/100) {
				t.Errorf("%s: median %v, want %v", words, time.Duration(got), latency)
			}
		})
	}
	for q := range 3 {
		qos := fmt.Sprintf(" qos=%d", q)
		f("load=p2p clients=3 warm-up=0s count=100"+qos, 100, 100, time.Millisecond)
		f("load=p2p clients=3 topics=20 warm-up=0s count=100"+qos, 100, 100, time.Millisecond)
		f("load=fan-out publishers=2 subscribers=5 warm-up=0s count=60"+qos, 60, 300, time.Millisecond)
		f("load=fan-in clients=10 subscribers=3 warm-up=0s count=60"+qos, 60, 60, time.Millisecond)
		f("load=shared clients=4 warm-up=0s count=60 topics=3"+qos, 60, 60, time.Millisecond)
		f("load=request clients=4 subscribers=3 warm-up=0s count=60"+qos, 60, 60, 2*time.Millisecond)
		f("load=publish clients=4 warm-up=0s count=60"+qos, 60, 0, 0)
	}
	// An open loop sends exactly what is due.
	try(t, "load=p2p clients=3 rate=1000 warm-up=500ms duration=2s", nil, func(r *Result) {
		if r.Failed() != nil || r.Latency.Count() < 1999 || r.Latency.Count() > 2001 || r.Sent < 1998 || r.Sent > 2002 || r.Behind() != "" {
			t.Error(r.Failed(), r.Latency.Count(), r.Sent, r.Behind())
		}
	})
	f("load=p2p clients=7 rate=300 warm-up=0s count=100 qos=1", 100, 100, time.Millisecond)
	// A closed loop: windows of 2 and a round of a millisecond make 2000/s each.
	try(t, "load=p2p clients=3 window=2 warm-up=100ms duration=1s qos=1", nil, func(r *Result) {
		if r.Failed() != nil || r.Received < 5990 || r.Received > 6010 {
			t.Error(r.Failed(), r.Received)
		}
	})
}

func TestConnectSubscribeIdle(t *testing.T) {
	f := func(words string, least uint64) {
		t.Helper()
		try(t, words, func(b *fake) {
			b.dialing = func(client.Options) error { time.Sleep(3 * time.Millisecond); return nil }
		}, func(r *Result) {
			if err := r.Failed(); err != nil || r.Faults != (Faulty{}) || r.Sent < least {
				t.Errorf("%s: %v, %+v, %d", words, err, r.Faults, r.Sent)
			}
			if ramp := r.Plan.Ramp; ramp > 0 && (r.Opening < ramp*98/100 || r.Opening > ramp*102/100 || r.Connections != r.Plan.Clients) {
				t.Errorf("%s: %d connections in %v", words, r.Connections, r.Opening)
			}
			if r.Plan.Load == Connect && r.Latency.Raw.ValueAtPercentile(50)/1e5 != 30 {
				t.Errorf("%s: median %d", words, r.Latency.Raw.ValueAtPercentile(50))
			}
		})
	}
	f("load=connect clients=3 count=100 warm-up=0s", 100)
	f("load=connect clients=30 rate=100 duration=2s warm-up=1s", 199)
	f("load=subscribe clients=3 count=100 warm-up=0s topics=7", 100)
	f("load=idle clients=100 duration=3s topics=2 ramp=1s", 0)
}

func TestOffline(t *testing.T) {
	try(t, "load=offline subscribers=5 publishers=2 count=100 qos=2", nil, func(r *Result) {
		if err := r.Failed(); err != nil || r.Acked != 100 || r.Return == nil || r.Return.Received != 100 || r.Return.Sessions != 5 {
			t.Errorf("%v, %+v, %+v", err, r, r.Return)
		}
	})
	try(t, "load=offline subscribers=5 count=100", func(b *fake) {
		b.copies = func(n int, _ *client.Message) int { return min(n%10, 1) }
	}, func(r *Result) {
		if r.Failed() == nil || r.Faults.Lost != 10 || r.Return.Received != 90 {
			t.Errorf("%+v", r.Faults)
		}
	})
}

// TestFaults: what a broker does wrong is found, and fails the run where its
// quality of service forbids it.
func TestFaults(t *testing.T) {
	f := func(words string, tune func(*fake), want Faulty, fails string) {
		t.Helper()
		try(t, words+" warm-up=0s count=100 clients=2", tune, func(r *Result) {
			got := r.Faults
			got.First = nil
			if got != want {
				t.Errorf("%s: faults %+v, want %+v", words, got, want)
			}
			if err := r.Failed(); (err == nil) != (fails == "") || err != nil && !strings.Contains(err.Error(), fails) {
				t.Errorf("%s: fails with %v, want %q", words, err, fails)
			}
		})
	}
	drop := func(b *fake) {
		b.copies = func(n int, _ *client.Message) int { return map[bool]int{true: 0, false: 1}[n == 50] }
	}
	twice := func(b *fake) {
		b.copies = func(n int, _ *client.Message) int { return map[bool]int{true: 2, false: 1}[n == 50] }
	}
	all := func(b *fake) { b.copies = func(int, *client.Message) int { return 0 } }
	f("load=p2p", drop, Faulty{Lost: 1}, "")
	f("load=p2p window=1", drop, Faulty{Lost: 1}, "")
	f("load=p2p", all, Faulty{Lost: 100}, "nothing was measured")
	f("load=p2p qos=1", drop, Faulty{Lost: 1}, "1 messages of QoS 1 were lost")
	f("load=shared qos=1", drop, Faulty{Lost: 1}, "1 messages of QoS 1 were lost")
	f("load=fan-out qos=2", drop, Faulty{Lost: 1}, "1 messages of QoS 2 were lost")
	f("load=request qos=1", drop, Faulty{Lost: 1}, "1 messages of QoS 1 were lost")
	f("load=p2p", twice, Faulty{Duplicated: 1}, "")
	f("load=p2p qos=1", twice, Faulty{Duplicated: 1}, "")
	f("load=p2p qos=2", twice, Faulty{Duplicated: 1}, "1 messages of QoS 2 came more than once")
	f("load=shared qos=2", twice, Faulty{Duplicated: 1}, "more than once")
	f("load=p2p qos=1", func(b *fake) {
		b.ack = func(n int, _ *client.Message) error {
			if n == 7 {
				return &client.ReasonError{Packet: packet.PUBACK, Code: packet.QuotaExceeded}
			}
			return nil
		}
	}, Faulty{Refused: 1}, "1 messages were refused: PUBACK")
	f("load=p2p qos=1", func(b *fake) { b.noAck = func(n int) bool { return n == 99 } },
		Faulty{Unacked: 1}, "1 messages were not acknowledged")
	f("load=publish qos=1", func(b *fake) {
		b.ack = func(n int, _ *client.Message) error {
			if n == 7 {
				return errors.New("gave up")
			}
			return nil
		}
	}, Faulty{Failed: 1}, "1 messages failed: gave up")
}

// TestReordered: a message that comes before its predecessor is seen.
func TestReordered(t *testing.T) {
	p := plan(t, "load=p2p clients=1 count=10 warm-up=0s")
	f := &flow{bench: &bench{Runner: &Runner{}, plan: p, epoch: time.Now(), main: newRecorder(1, false)}}
	f.prepare()
	body := make([]byte, p.Size)
	for _, n := range []uint64{0, 2, 1, 3, 3} {
		stamp{seq: n}.put(body)
		m := &client.Received{At: time.Now()}
		m.Payload = body
		f.subs[0].handle(m)
	}
	m := &client.Received{}
	for _, b := range [][]byte{nil, make([]byte, p.Size-1), append([]byte{1}, body[1:]...), append([]byte{0, 0, 0, 0, 9}, body[5:]...)} {
		m.Payload = b
		f.subs[0].handle(m)
	}
	s := f.subs[0]
	if s.got.Load() != 4 || s.reordered.Load() != 1 || s.duplicated.Load() != 1 || s.strays.Load() != 4 {
		t.Error(s.got.Load(), s.reordered.Load(), s.duplicated.Load(), s.strays.Load())
	}
}

// TestBroken: a connection that breaks is counted, and the first cause told.
func TestBroken(t *testing.T) {
	try(t, "load=idle clients=3 duration=1s", func(b *fake) {
		b.dialing = func(o client.Options) error {
			time.AfterFunc(500*time.Millisecond, func() { o.OnState(client.StateEvent{State: client.Closed, Err: errors.New("cut")}) })
			return nil
		}
	}, func(r *Result) {
		if err := r.Failed(); err == nil || err.Error() != "3 connections broke: cut" || r.Faults.Broken != 3 {
			t.Error(err)
		}
	})
}

// TestRefused: a broker that lets nobody in ends the run with what it said.
func TestRefused(t *testing.T) {
	for _, words := range []string{"load=p2p", "load=idle", "load=connect", "load=subscribe"} {
		try(t, words, func(b *fake) {
			b.dialing = func(client.Options) error { return errors.New("not authorized") }
		}, func(r *Result) {
			if err := r.Failed(); err == nil || !strings.Contains(err.Error(), "not authorized") {
				t.Error(words, err)
			}
		})
	}
}

// TestInterrupted: the end of the context ends the run, and nothing counts as lost.
func TestInterrupted(t *testing.T) {
	for _, words := range []string{"load=p2p qos=1 rate=100", "load=p2p qos=1 rate=1", "load=fan-out", "load=idle", "load=connect", "load=subscribe", "load=offline duration=10s", "load=offline ramp=100s subscribers=50"} {
		t.Log(words)
		p := plan(t, words+" clients=2 warm-up=0s")
		synctest.Test(t, func(t *testing.T) {
			b := newFake(time.Millisecond)
			b.dialing = func(client.Options) error { time.Sleep(time.Millisecond); return nil }
			defer b.close()
			ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
			defer cancel()
			seen := 0
			r := (&Runner{Target: b.target("fake"), Progress: func(Interval) { seen++ }, pause: time.Sleep}).Run(ctx, p)
			b.mu.Lock()
			left := len(b.subs) + len(b.sessions)
			b.mu.Unlock()
			if left > 0 {
				t.Errorf("%s: %d subscriptions or sessions are left behind", words, left)
			}
			if !errors.Is(r.Err, context.DeadlineExceeded) || r.Faults.Lost > 0 || r.Faults.Unacked > 0 || seen < 2 {
				t.Errorf("%s: %v, %+v, %d intervals", words, r.Err, r.Faults, seen)
			}
		})
	}
}

// TestOmission: a broker that stops for a second is seen in what is corrected, and
// next to not in what is not: the generator held back what was due.
func TestOmission(t *testing.T) {
	p := plan(t, "load=p2p clients=1 rate=1000 duration=4s warm-up=0s")
	synctest.Test(t, func(t *testing.T) {
		b := newFake(time.Millisecond)
		defer b.close()
		target := b.target("fake")
		target.Dial = func(ctx context.Context, o client.Options) (Conn, error) {
			c, err := b.dial(ctx, o)
			return &stalling{c.(*fakeConn), time.Now().Add(2 * time.Second)}, err
		}
		r := (&Runner{Target: target, pause: time.Sleep}).Run(t.Context(), p)
		corrected, raw := time.Duration(r.Latency.Corrected.ValueAtPercentile(90)), time.Duration(r.Latency.Raw.ValueAtPercentile(90))
		if corrected < 500*time.Millisecond || raw > 2*time.Millisecond {
			t.Errorf("corrected %v, raw %v", corrected, raw)
		}
		if r.Behind() == "" || time.Duration(r.Lag.Max()) < 990*time.Millisecond {
			t.Errorf("%q, lag %v", r.Behind(), time.Duration(r.Lag.Max()))
		}
		if r.Failed() != nil || r.Received+1 < r.Intended || r.Received > r.Intended+1 {
			t.Error(r.Failed(), r.Received, r.Intended)
		}
	})
}

// stalling takes nothing for a second.
type stalling struct {
	*fakeConn
	at time.Time
}

func (s *stalling) PublishAsync(ctx context.Context, m *client.Message, done func(client.Receipt, error)) error {
	if time.Now().After(s.at) {
		time.Sleep(time.Until(s.at.Add(time.Second)))
	}
	return s.fakeConn.PublishAsync(ctx, m, done)
}
