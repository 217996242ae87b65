package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeNet answers each address after its delay: with a connection, or with err.
type fakeNet struct {
	delays map[string]time.Duration
	errs   map[string]error
	late   bool // it answers although the context has ended

	mu    sync.Mutex
	conns []*fakeConn
}

type fakeConn struct {
	net.Conn
	address string
	closed  bool
}

func (c *fakeConn) Close() error { c.closed = true; return nil }

func (n *fakeNet) dial(ctx context.Context, _, address string) (net.Conn, error) {
	done := ctx.Done()
	if n.late {
		done = nil
	}
	select {
	case <-time.After(n.delays[address]):
		if err := n.errs[address]; err != nil {
			return nil, err
		}
		c := &fakeConn{address: address}
		n.mu.Lock()
		defer n.mu.Unlock()
		n.conns = append(n.conns, c)
		return c, nil
	case <-done:
		return nil, ctx.Err()
	}
}

func TestRace(t *testing.T) {
	refused := errors.New("refused")
	const ms = time.Millisecond
	type event struct {
		address    string
		begin, end time.Duration
		err        error
	}
	f := func(name string, n *fakeNet, limit time.Duration, want string, events ...event) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(context.Background(), limit)
				defer cancel()
				start := time.Now()
				var got []event
				conn, err := race(ctx, "tcp", []string{"a", "b", "c"}, n.dial, func(e Event) {
					if e.Phase != TCP {
						t.Errorf("phase %v", e.Phase)
					}
					got = append(got, event{e.Address, e.Begin.Sub(start), e.End.Sub(start), e.Err})
				})
				// Which of two at one time comes first is open.
				byBegin := func(a, b event) int { return int(a.begin - b.begin) }
				slices.SortStableFunc(got, byBegin)
				slices.SortStableFunc(events, byBegin)
				if !slices.Equal(got, events) {
					t.Errorf("events %+v, want %+v", got, events)
				}
				for _, c := range n.conns {
					if c.closed != (c != conn) {
						t.Errorf("connection to %s is closed: %v", c.address, c.closed)
					}
				}
				if c, ok := conn.(*fakeConn); ok && (err != nil || c.address != want) {
					t.Errorf("connected to %s, %v, want %s", c.address, err, want)
				} else if !ok && (err == nil || err.Error() != want) {
					t.Errorf("error %v, want %s", err, want)
				}
			})
		})
	}
	f("first", &fakeNet{delays: map[string]time.Duration{"a": 100 * ms}}, time.Minute, "a",
		event{"a", 0, 100 * ms, nil})
	f("second is faster", &fakeNet{delays: map[string]time.Duration{"a": time.Hour, "b": 10 * ms}}, time.Minute, "b",
		event{"b", 250 * ms, 260 * ms, nil}, event{"a", 0, 260 * ms, ErrSlower})
	f("first fails", &fakeNet{delays: map[string]time.Duration{"a": 10 * ms, "b": 200 * ms}, errs: map[string]error{"a": refused}}, time.Minute, "b",
		event{"a", 0, 10 * ms, refused}, event{"b", 10 * ms, 210 * ms, nil})
	f("late success is closed", &fakeNet{delays: map[string]time.Duration{"a": 400 * ms, "b": 10 * ms}, late: true}, time.Minute, "b",
		event{"b", 250 * ms, 260 * ms, nil}, event{"a", 0, 400 * ms, ErrSlower})
	f("all in turn", &fakeNet{delays: map[string]time.Duration{"a": 600 * ms, "b": time.Hour, "c": time.Hour}, errs: map[string]error{"a": refused}}, time.Second,
		"connect to a: no answer in time",
		event{"a", 0, 600 * ms, refused}, event{"b", 250 * ms, time.Second, context.DeadlineExceeded}, event{"c", 500 * ms, time.Second, context.DeadlineExceeded})
	f("all fail", &fakeNet{errs: map[string]error{"a": refused, "b": refused, "c": refused}}, time.Minute,
		"connect to a: a: refused; b: refused; c: refused",
		event{"a", 0, 0, refused}, event{"b", 0, 0, refused}, event{"c", 0, 0, refused})
	f("neither", &fakeNet{}, time.Minute, "a", event{"a", 0, 0, nil})
}

func TestRaceErrors(t *testing.T) {
	refused, other := errors.New("refused"), errors.New("other")
	n := &fakeNet{errs: map[string]error{"a": refused, "b": other}}
	_, err := race(t.Context(), "tcp", []string{"a", "b"}, n.dial, nil)
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Phase != TCP || e.Address != "a" || !errors.Is(err, refused) || !errors.Is(err, other) {
		t.Errorf("%#v", err)
	}
	if _, err := race(t.Context(), "tcp", []string{"a"}, func(context.Context, string, string) (net.Conn, error) { return nil, nil }, nil); err == nil {
		t.Error("a dial without a connection succeeds")
	}
	var many failures
	for i := range 9 {
		many = append(many, failure{fmt.Sprint("a", i), refused})
	}
	if got := many.Error(); !strings.HasSuffix(got, "a3: refused; and 5 addresses more") {
		t.Error(got)
	}
}

func TestInterleave(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		var ips []netip.Addr
		for _, s := range strings.Fields(in) {
			ips = append(ips, netip.MustParseAddr(s))
		}
		if got := strings.Trim(fmt.Sprint(interleave(ips)), "[]"); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	f("", "")
	f("1.1.1.1", "1.1.1.1")
	f("::1 ::2 ::3 1.1.1.1 1.1.1.2", "::1 1.1.1.1 ::2 1.1.1.2 ::3")
	f("1.1.1.1 1.1.1.2 ::1", "1.1.1.1 ::1 1.1.1.2")
	f("::ffff:1.1.1.1 1.1.1.2 ::1", "::ffff:1.1.1.1 ::1 1.1.1.2")
}

func TestResolve(t *testing.T) {
	f := func(host, network, want string, phases ...Phase) {
		t.Helper()
		var got []Phase
		o := Options{Phase: func(e Event) { got = append(got, e.Phase) }}
		all, err := Target{Scheme: "tcp", Host: host, Port: "5"}.resolve(t.Context(), o, network)
		text := strings.Join(all, " ")
		if err != nil {
			text = err.Error()
		}
		if text != want || !slices.Equal(got, phases) {
			t.Errorf("%s %s: %q %v, want %q %v", host, network, text, got, want, phases)
		}
	}
	f("127.0.0.1", "tcp", "127.0.0.1:5")
	f("127.0.0.1", "tcp4", "127.0.0.1:5")
	f("::1", "tcp6", "[::1]:5")
	f("fe80::1%lo", "tcp", "[fe80::1%lo]:5")
	f("::ffff:1.2.3.4", "tcp4", "1.2.3.4:5")
	f("127.0.0.1", "tcp6", "connect to 127.0.0.1:5: it has no address for tcp6")
	f("::1", "tcp4", "connect to [::1]:5: it has no address for tcp4")
	f("localhost", "tcp4", "127.0.0.1:5", DNS)
}

// TestResolver asks a name server of the test's own.
func TestResolver(t *testing.T) {
	answer := func(t *testing.T, f func(net.Conn)) *net.Resolver {
		// The name server's connection is one end of a pipe: a stream, as for TCP.
		return &net.Resolver{PreferGo: true, Dial: ending(func(context.Context, string, string) (net.Conn, error) {
			a, b := net.Pipe()
			go func() {
				defer b.Close()
				f(b)
			}()
			return a, nil
		})}
	}
	target := Target{Scheme: "tcp", Host: "broker.invalid", Port: "1883"}

	var events []Event
	o := Options{Phase: func(e Event) { events = append(events, e) }}
	o.Resolver = answer(t, func(c net.Conn) {
		b := make([]byte, 2000)
		n, err := c.Read(b)
		if err != nil || n < 14 {
			return
		}
		if n == 2 { // the length comes alone
			if n, err = c.Read(b[2:]); err != nil {
				return
			}
			n += 2
		}
		b = b[:n]
		b[4], b[5] = 0x81, 0x83 // a response: no such name
		_, _ = c.Write(b)
	})
	_, err := target.Dial(testContext(t), o)
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Phase != DNS || e.Address != "broker.invalid" || !strings.HasPrefix(e.Error(), "look up broker.invalid: no such host") {
		t.Errorf("error %v", err)
	}
	if h := Hint(err); !strings.Contains(h, "spelled right") {
		t.Errorf("hint %q", h)
	}
	if len(events) != 1 || events[0].Phase != DNS || events[0].Address != "broker.invalid" || events[0].Err == nil || events[0].End.Before(events[0].Begin) {
		t.Errorf("events %+v", events)
	}

	// It says nothing.
	asked := make(chan bool, 10)
	o.Resolver = answer(t, func(c net.Conn) {
		asked <- true
		silent(c)
	})
	ctx, cancel := context.WithCancel(testContext(t))
	go func() {
		<-asked
		cancel()
	}()
	_, err = target.Dial(ctx, o)
	if e, ok := errors.AsType[*Error](err); !ok || e.Phase != DNS || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
