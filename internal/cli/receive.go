package cli

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/internal/jq"
	"github.com/myelin-mqtt/myelin/internal/show"
	"github.com/myelin-mqtt/myelin/topic"
)

// flushAt is how many bytes are gathered, while messages come without a pause,
// before they are written and acknowledged.
const flushAt = 64 << 10

// sweepQuiet is how long nothing retained must have come before the removal of
// retained messages is over.
const sweepQuiet = time.Second

// receiver prints the messages that come, and acknowledges each when it is
// written, so that what nobody could read comes again.
type receiver struct {
	out    io.Writer
	warn   func(format string, args ...any)
	show   show.Printer
	filter *jq.Filter // nil: none
	sel    selection
	// limit is how many to print, 0: no limit.
	limit int
	// remove has a retained message removed, nil: they stay.
	remove func(ctx context.Context, topic string) error
	// ack acknowledges a message.
	ack func(*client.Received)

	buf     []byte
	pending []unwritten
	printed int
	removed map[string]bool
	quiet   *time.Timer // runs while retained messages are removed
}

// unwritten is a message that is to be acknowledged when the first end bytes of
// buf are written.
type unwritten struct {
	m   *client.Received
	end int
}

// selection says which messages are wanted.
type selection struct {
	without      []string // filters of topics
	fresh        bool     // none that was retained
	retainedOnly bool     // those only, and the first other one ends it
}

func (s *selection) wants(m *client.Received) bool {
	if s.fresh && m.Retain || s.retainedOnly && !m.Retain {
		return false
	}
	return !s.leavesOut(m.Topic)
}

func (s *selection) leavesOut(name string) bool {
	for _, filter := range s.without {
		if topic.Match(filter, name) {
			return true
		}
	}
	return false
}

// intake is the way of messages from the handlers to a receiver. What waits in
// it when the receiver ends was not acknowledged.
type intake chan *client.Received

func newIntake() intake { return make(intake, 64) }

// handler hands messages over until ctx ends.
func (in intake) handler(ctx context.Context) client.Handler {
	return func(m *client.Received) {
		select {
		case in <- m:
		case <-ctx.Done():
		}
	}
}

// run prints until the limit is reached, ctx or the client ends, or nobody
// reads any more. The error is ctx's cause, errEnded, or of the writer.
func (r *receiver) run(ctx context.Context, in intake, ended <-chan struct{}) error {
	r.removed = map[string]bool{}
	r.quiet = time.NewTimer(time.Hour)
	r.quiet.Stop()
	defer r.quiet.Stop()
	for {
		select {
		case m := <-in:
			if done, err := r.batch(ctx, m, in); done || err != nil {
				return err
			}
		case <-r.quiet.C:
			return nil
		case <-ended:
			for len(in) > 0 { // it came before the end
				if done, err := r.batch(ctx, <-in, in); done || err != nil {
					return err
				}
			}
			return errEnded
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// errEnded: the client is closed, and knows why.
var errEnded = errors.New("the connection has ended")

// batch takes a message and some of those that came meanwhile, and writes what
// is to be printed of them.
func (r *receiver) batch(ctx context.Context, m *client.Received, in intake) (done bool, err error) {
	for n := 1; ; n++ {
		if done, err = r.take(ctx, m); done || err != nil || len(r.buf) >= flushAt || n >= cap(in) || len(in) == 0 {
			break
		}
		m = <-in // only this goroutine takes
	}
	if flushErr := r.flush(); flushErr != nil {
		return false, flushErr
	}
	return done, err
}

// take prints one message, or passes it by. done: there is no need for more. A
// message that ended it without being printed is not acknowledged.
func (r *receiver) take(ctx context.Context, m *client.Received) (done bool, err error) {
	taken := true
	defer func() {
		if taken && err == nil {
			r.pending = append(r.pending, unwritten{m, len(r.buf)})
		}
	}()
	if r.remove != nil && !r.sel.leavesOut(m.Topic) {
		echo, err := r.sweep(ctx, m)
		if echo || err != nil {
			return false, err
		}
	}
	if r.sel.retainedOnly && !m.Retain && !r.sel.leavesOut(m.Topic) {
		taken = false
		return true, nil
	}
	if !r.sel.wants(m) {
		return false, nil
	}
	before := len(r.buf)
	longer, fault := r.append(ctx, r.buf, m)
	if fault != nil { // one message that does not fit what was asked for ends nothing
		r.warn("%s: %v", show.Clean(m.Topic), fault)
		return false, nil
	}
	r.buf = longer
	if len(r.buf) == before && r.filter != nil {
		return false, nil // it was filtered out
	}
	r.printed++
	return r.printed == r.limit, nil
}

// sweep has a retained message removed, and recognises what comes back of that:
// an empty message on its topic. Where only retained messages are wanted, the
// end comes when all removals have come back and it is quiet.
func (r *receiver) sweep(ctx context.Context, m *client.Received) (echo bool, err error) {
	switch {
	case m.Retain && len(m.Payload) > 0:
		r.quiet.Stop()
		r.removed[m.Topic] = true
		return false, r.remove(ctx, m.Topic)
	case len(m.Payload) == 0 && r.removed[m.Topic]:
		delete(r.removed, m.Topic)
		if len(r.removed) == 0 && r.sel.retainedOnly {
			r.quiet.Reset(sweepQuiet)
		}
		return true, nil
	}
	return false, nil
}

// append adds what is to be printed of a message: it, or each result of the
// filter on a line, behind the topic where that is asked for.
func (r *receiver) append(ctx context.Context, b []byte, m *client.Received) ([]byte, error) {
	if r.filter == nil {
		return r.show.Append(b, m)
	}
	err := r.filter.Run(ctx, show.Value(m), func(result []byte) error {
		if r.show.Style == show.Verbose {
			b = append(r.text(b, []byte(m.Topic)), ' ')
		}
		b = r.text(b, result)
		if !r.show.NoNewline {
			b = append(b, '\n')
		}
		return nil
	})
	return b, err
}

// text adds what a message holds, which is safe to print on a terminal then.
func (r *receiver) text(b, text []byte) []byte {
	if r.show.Clean {
		return show.AppendCleanLines(b, text)
	}
	return append(b, text...)
}

// flush writes what was gathered, and acknowledges the messages that were
// written to their end.
func (r *receiver) flush() error {
	n, err := len(r.buf), error(nil)
	if n > 0 {
		n, err = r.out.Write(r.buf)
	}
	for _, u := range r.pending {
		if u.end <= n {
			r.ack(u.m)
		}
	}
	r.pending = r.pending[:0]
	r.buf = r.buf[:0]
	return err
}
