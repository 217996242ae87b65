package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/internal/jq"
	"github.com/myelin-mqtt/myelin/internal/show"
	"github.com/myelin-mqtt/myelin/internal/watch"
)

// watcher draws a table of topics: over itself on a terminal, else one table
// after the other.
type watcher struct {
	out io.Writer
	// size is that of the terminal, asked before each drawing, so that it may
	// change; nil: there is none.
	size     func() (width, height int)
	interval time.Duration
	topics   int // that the table has at most
	view     watch.View
	filter   *jq.Filter // what is shown of a message; nil: its payload
	sel      selection
	limit    int // of messages, 0: none
	warn     func(format string, args ...any)
	ack      func(*client.Received)

	table *watch.Table
	count int
}

// run draws until the limit is reached, ctx or the client ends, or nobody reads
// any more.
func (w *watcher) run(ctx context.Context, in intake, ended <-chan struct{}) error {
	w.table = watch.New(w.topics, time.Now())
	if w.size != nil {
		if _, err := io.WriteString(w.out, watch.Enter); err != nil {
			return err
		}
	}
	err := w.loop(ctx, in, ended)
	if w.size != nil {
		w.view.Width, _ = w.size()
		if _, leaveErr := io.WriteString(w.out, watch.Leave); err == nil {
			err = leaveErr
		}
	}
	if errors.Is(err, errPipe) {
		return err
	}
	w.size = nil // the last table stays, whole, where it can be scrolled
	if drawErr := w.draw(); drawErr != nil {
		return drawErr
	}
	return err
}

func (w *watcher) loop(ctx context.Context, in intake, ended <-chan struct{}) error {
	tick := time.NewTicker(w.interval)
	defer tick.Stop()
	if w.size != nil {
		if err := w.draw(); err != nil {
			return err
		}
	}
	for {
		select {
		case m := <-in:
			if w.take(ctx, m); w.limit > 0 && w.count >= w.limit {
				return nil
			}
		case <-tick.C:
			if err := w.draw(); err != nil {
				return err
			}
		case <-ended:
			return errEnded
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (w *watcher) take(ctx context.Context, m *client.Received) {
	defer w.ack(m)
	if !w.sel.wants(m) {
		return
	}
	value := m.Payload
	if w.filter != nil {
		var results [][]byte
		err := w.filter.Run(ctx, show.Value(m), func(b []byte) error {
			results = append(results, bytes.Clone(b))
			return nil
		})
		if err != nil && w.size == nil { // a warning would stand in the table
			w.warn("%s: %v", show.Clean(m.Topic), err)
		}
		if len(results) == 0 {
			return
		}
		value = bytes.Join(results, []byte(" "))
	}
	w.table.Add(m.Topic, value, m.At)
	w.count++
}

func (w *watcher) draw() error {
	v := w.view
	if w.size != nil {
		v.Width, v.Height = w.size()
		// A cell in the last column would make some terminals go to the next line.
		v.Width = max(v.Width-1, 1)
		_, err := w.out.Write(watch.AppendFrame(nil, w.table.Lines(time.Now(), v)))
		return err
	}
	v.Bold = false
	now := time.Now()
	text := strings.Join(w.table.Lines(now, v), "\n") + "\n"
	if v.Width == 0 { // not the last one of a terminal
		text = now.Format(time.RFC3339) + " " + text + "\n"
	}
	_, err := io.WriteString(w.out, text)
	return err
}
