package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/internal/jq"
	"github.com/myelin-mqtt/myelin/internal/show"
	"github.com/myelin-mqtt/myelin/internal/watch"
	"github.com/myelin-mqtt/myelin/packet"
)

// screen is an output that takes so many bytes and then fails.
type screen struct {
	text strings.Builder
	room int
	err  error
}

func (s *screen) Write(b []byte) (int, error) {
	if n := s.room - s.text.Len(); s.err != nil && len(b) > n {
		s.text.Write(b[:n])
		return n, s.err
	}
	return s.text.Write(b)
}

// ears is a receiver with what it said and did.
type ears struct {
	receiver
	out      screen
	warnings []string
	acks     []string
	removals []string
}

func newEars() *ears {
	e := &ears{}
	e.receiver = receiver{
		out:  &e.out,
		warn: func(format string, args ...any) { e.warnings = append(e.warnings, fmt.Sprintf(format, args...)) },
		ack:  func(m *client.Received) { e.acks = append(e.acks, m.Topic) },
	}
	return e
}

func msg(topic, payload string) *client.Received {
	return &client.Received{Message: packet.Message{Topic: topic, Payload: []byte(payload)}}
}

func retained(topic, payload string) *client.Received {
	m := msg(topic, payload)
	m.Retain = true
	return m
}

// hear gives the messages, and then a time that passes.
func (e *ears) hear(t *testing.T, patience time.Duration, messages ...*client.Received) error {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, errors.New("time is up"))
	defer cancel()
	in := newIntake()
	go func() {
		handler := in.handler(ctx)
		for _, m := range messages {
			handler(m)
		}
	}()
	return e.run(ctx, in, nil)
}

func TestRemovalFails(t *testing.T) {
	e := newEars()
	e.remove = func(context.Context, string) error { return errors.New("no") }
	e.check(t, e.hear(t, time.Minute, msg("a", "1"), retained("b", "2")), "no", "1\n", "a")
}

func (e *ears) check(t *testing.T, err error, wantErr, wantOut, wantAcks string) {
	t.Helper()
	if fmt.Sprint(err) != wantErr || e.out.text.String() != wantOut || strings.Join(e.acks, " ") != wantAcks {
		t.Errorf("%v, printed %q, acknowledged %v, want %s, %q, %s", err, e.out.text.String(), e.acks, wantErr, wantOut, wantAcks)
	}
}

func filter(t *testing.T, expr string) *jq.Filter {
	t.Helper()
	f, err := jq.Compile(expr)
	if err != nil {
		t.Fatal(err)
	}
	f.Raw = true
	return f
}

func TestReceiver(t *testing.T) {
	f := func(name string, set func(*ears), wantErr, wantOut, wantAcks string, messages ...*client.Received) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			t.Helper()
			e := newEars()
			set(e)
			e.check(t, e.hear(t, time.Minute, messages...), wantErr, wantOut, wantAcks)
			if t.Failed() {
				t.Error(name)
			}
		})
	}
	nothing := func(*ears) {}
	f("all", nothing, "time is up", "1\n2\n", "a b", msg("a", "1"), msg("b", "2"))
	f("count", func(e *ears) { e.limit = 2 }, "<nil>", "1\n2\n", "a b", msg("a", "1"), msg("b", "2"), msg("c", "3"))
	f("fresh", func(e *ears) { e.sel.fresh, e.limit = true, 1 }, "<nil>", "2\n", "a b", retained("a", "1"), msg("b", "2"), msg("c", "3"))
	f("without", func(e *ears) { e.sel.without = []string{"a/#", "+/x"}; e.limit = 1 }, "<nil>", "3\n", "a/b c/x c",
		msg("a/b", "1"), msg("c/x", "2"), msg("c", "3"))
	f("retained only", func(e *ears) { e.sel.retainedOnly = true }, "<nil>", "1\n", "a", retained("a", "1"), msg("b", "2"), msg("c", "3"))
	f("verbose", func(e *ears) { e.show.Style = show.Verbose }, "time is up", "a 1\n", "a", msg("a", "1"))
	f("filter", func(e *ears) { e.filter, e.limit = filter(t, "select(.payload.t > 20).payload | .t, .s"), 1 }, "<nil>", "21\nx\n", "a b",
		msg("a", `{"t":19}`), msg("b", `{"t":21,"s":"x"}`), msg("c", `{"t":22}`))
	f("filter verbose", func(e *ears) {
		e.filter, e.show.Style, e.show.Clean = filter(t, ".payload"), show.Verbose, true
	}, "time is up", "a x\\x1b\n", "a", msg("a", "x\x1b"))
	f("batch", func(e *ears) { e.limit = 1 }, "<nil>", strings.Repeat("x", flushAt)+"\n", "a", msg("a", strings.Repeat("x", flushAt)), msg("b", "2"))
}

// TestReceiverFaults: a message that does not fit is told of and ends nothing.
func TestReceiverFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEars()
		e.filter = filter(t, ".payload.x")
		err := e.hear(t, time.Second, msg("a\x1b", "text"), msg("b", `{"x":1}`))
		e.check(t, err, "time is up", "1\n", "a\x1b b")
		if len(e.warnings) != 1 || !strings.HasPrefix(e.warnings[0], `a\x1b: expected an object`) {
			t.Error(e.warnings)
		}
	})
}

// TestReceiverPipe: what was not written to its end is not acknowledged.
func TestReceiverPipe(t *testing.T) {
	for room, acks := range map[int]string{0: "", 1: "", 2: "a", 3: "a", 4: "a b", 5: "a b"} {
		for _, fault := range []error{errPipe, syscall.ENOSPC} {
			e := newEars()
			e.removed, e.out.room, e.out.err = map[string]bool{}, room, fault
			for _, m := range []*client.Received{msg("a", "1"), msg("b", "2"), msg("c", "3")} {
				if done, err := e.take(t.Context(), m); done || err != nil {
					t.Fatal(done, err)
				}
			}
			err := e.flush()
			if got := strings.Join(e.acks, " "); got != acks {
				t.Errorf("%d bytes: acknowledged %q, want %q", room, got, acks)
			}
			if !errors.Is(err, fault) {
				t.Errorf("%v: %v", fault, err)
			}
		}
	}
}

// TestReceiverAll: of many messages each is printed once, in order.
func TestReceiverAll(t *testing.T) {
	e := newEars()
	var all []*client.Received
	var want strings.Builder
	for i := range 5000 {
		all = append(all, msg("a", fmt.Sprint(i)))
		fmt.Fprintln(&want, i)
	}
	e.limit = len(all)
	if err := e.hear(t, time.Minute, all...); err != nil || e.out.text.String() != want.String() || len(e.acks) != len(all) {
		t.Errorf("%v, %d bytes of %d, %d acknowledged", err, e.out.text.Len(), want.Len(), len(e.acks))
	}
}

// TestReceiverBusy: a stream of messages without a pause, none of which is
// printed, does not keep it from ending.
func TestReceiverBusy(t *testing.T) {
	e := newEars()
	e.sel.without = []string{"#"}
	ctx, cancel := context.WithCancel(t.Context())
	e.ack = func(*client.Received) { cancel() }
	in := newIntake()
	stop := make(chan struct{})
	var feeding sync.WaitGroup
	feeding.Go(func() {
		for {
			select {
			case in <- msg("a", "1"):
			case <-stop:
				return
			}
		}
	})
	if err := e.run(ctx, in, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(stop)
	feeding.Wait()
}

func TestReceiverEnds(t *testing.T) {
	e := newEars()
	ended := make(chan struct{})
	close(ended)
	in := newIntake()
	for range cap(in) { // what came before the end is printed
		in <- msg("a", "1")
	}
	if err := e.run(t.Context(), in, ended); err != errEnded || e.out.text.Len() != 2*cap(in) {
		t.Error(err, e.out.text.Len())
	}
	e.limit = cap(in) + 1
	in <- msg("a", "1")
	if err := e.run(t.Context(), in, ended); err != nil {
		t.Error(err)
	}
}

// TestRemoveRetained: each is removed once, what comes back is not printed, and
// the end comes when all came back and it is quiet.
func TestRemoveRetained(t *testing.T) {
	f := func(set func(*ears), unread int, wantErr, wantOut, wantRemovals string, messages ...*client.Received) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			t.Helper()
			e := newEars()
			e.remove = func(_ context.Context, topic string) error {
				e.removals = append(e.removals, topic)
				return nil
			}
			set(e)
			err := e.hear(t, time.Minute, messages...)
			if fmt.Sprint(err) != wantErr || e.out.text.String() != wantOut || strings.Join(e.removals, " ") != wantRemovals {
				t.Errorf("%v, printed %q, removed %v", err, e.out.text.String(), e.removals)
			}
			if want := len(messages) - unread; len(e.acks) != want {
				t.Error(e.acks)
			}
		})
	}
	only := func(e *ears) { e.sel.retainedOnly = true }
	f(only, 0, "<nil>", "1\n2\n", "a b", retained("a", "1"), retained("b", "2"), msg("a", ""), msg("b", ""))
	f(only, 0, "<nil>", "1\n2\n", "a b", retained("a", "1"), msg("a", ""), retained("b", "2"), msg("b", ""))
	f(only, 0, "time is up", "1\n", "a", retained("a", "1"))
	f(only, 1, "<nil>", "1\n", "a", retained("a", "1"), msg("c", "new"))
	f(func(e *ears) { e.sel.fresh = true }, 0, "time is up", "\nnew\n", "a", retained("a", "1"), msg("b", ""), msg("a", ""), msg("a", "new"))
	f(func(e *ears) { e.sel.without = []string{"a"} }, 0, "time is up", "2\n", "b", retained("a", "1"), retained("b", "2"), msg("b", ""))
}

func newWatcher(out io.Writer, acks *int) *watcher {
	return &watcher{
		out: out, interval: time.Second, topics: 10, warn: func(string, ...any) {},
		ack: func(*client.Received) { *acks++ },
	}
}

func watched(t *testing.T, w *watcher, d time.Duration, messages ...*client.Received) error {
	ctx, cancel := context.WithTimeoutCause(t.Context(), d, errors.New("time is up"))
	defer cancel()
	in := newIntake()
	for _, m := range messages {
		m.At = time.Now()
		in <- m
	}
	return w.run(ctx, in, nil)
}

func TestWatchPlain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		acks := 0
		w := newWatcher(&out, &acks)
		w.sel.without = []string{"no"}
		w.filter = filter(t, "select(.payload > 0) | .payload, .topic")
		err := watched(t, w, 2500*time.Millisecond, msg("a", "1"), msg("no", "2"), msg("b", "0"), msg("c", "\x1b"))
		title := "TOPIC  LAST VALUE    AGE      COUNT      RATE\n"
		want := "2000-01-01T00:00:01Z 2 topics, 2 messages, 2.0/s, 1s\n" + title +
			"a      1 a            1s          1     1.0/s\n" +
			"c      \\x1b c         1s          1     1.0/s\n\n" +
			"2000-01-01T00:00:02Z 2 topics, 2 messages, 1.0/s, 2s\n" + title +
			"a      1 a            2s          1     0.5/s\n" +
			"c      \\x1b c         2s          1     0.5/s\n\n"
		got := strings.ReplaceAll(out.String(), "+00:00", "Z")
		if diff := cmp.Diff(want, got[:min(len(want), len(got))]); diff != "" || fmt.Sprint(err) != "time is up" || acks != 4 {
			t.Errorf("%v, %d acknowledged, %s", err, acks, diff)
		}
		if n := strings.Count(got, title); n != 3 {
			t.Errorf("%d tables, want two and the last", n)
		}
	})
}

// TestWatchTerminal: it draws on the other screen, in the size of the moment,
// and leaves the last table behind.
func TestWatchTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		acks, width := 0, 60
		w := newWatcher(&out, &acks)
		w.size = func() (int, int) { width -= 10; return width, 5 }
		err := watched(t, w, 2500*time.Millisecond, msg("a", "1"))
		if fmt.Sprint(err) != "time is up" {
			t.Error(err)
		}
		in, rest, ok := strings.Cut(strings.TrimPrefix(out.String(), watch.Enter), watch.Leave)
		if !ok || !strings.HasPrefix(rest, "1 topics, 1 message…\n") || strings.Contains(rest, "\x1b") {
			t.Errorf("%q", out.String())
		}
		frames := strings.Split(in, "\x1b[H")[1:]
		if len(frames) != 3 {
			t.Fatalf("%d frames: %q", len(frames), in)
		}
		for i, frame := range frames {
			for line := range strings.SplitSeq(strings.TrimSuffix(frame, "\x1b[J"), "\r\n") {
				if n := show.Width(strings.TrimSuffix(line, "\x1b[K")); n >= 50-10*i {
					t.Errorf("frame %d: %d cells: %q", i, n, line)
				}
			}
		}
	})
}

func TestWatchEnds(t *testing.T) {
	acks := 0
	w := newWatcher(io.Discard, &acks)
	w.limit = 2
	if err := watched(t, w, time.Minute, msg("a", "1"), msg("a", "1"), msg("a", "1")); err != nil || acks != 2 {
		t.Error(err, acks)
	}
	ended := make(chan struct{})
	close(ended)
	if err := newWatcher(io.Discard, &acks).run(t.Context(), newIntake(), ended); err != errEnded {
		t.Error(err)
	}
	w = newWatcher(&screen{err: errPipe}, &acks)
	w.size = func() (int, int) { return 80, 24 }
	if err := watched(t, w, time.Minute); err != errPipe {
		t.Error(err)
	}
}
