package disk

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
)

// The readers fetch messages from the disk for sessions whose Next found them
// not in memory: Next itself never waits for the disk. They fetch what the
// caller of Next had room for, and no more.

// readers is how many may wait for the disk at once.
const readers = 4

// A session's messages are fetched so many at a time: readMost, or readBytes of
// them.
const (
	readMost  = 64
	readBytes = 256 << 10
)

// fetched is what a reader found.
type fetched struct {
	lsn uint64
	m   *packet.Publish
	err error
}

// fetched is what was read for a number, nil: it was not.
func (w *window) fetched(lsn uint64) *fetched {
	for i := range w.read {
		if w.read[i].lsn == lsn {
			return &w.read[i]
		}
	}
	return nil
}

// ask has a reader fetch the first n waiting messages. The caller holds mu.
func (q *queue) ask(n int) {
	if w := q.win(); w.reading == 0 {
		w.reading = min(n, readMost)
		q.e.toRead = append(q.e.toRead, q)
		q.e.asked.Signal()
	}
}

// wanted are those of them that are not in memory. The caller holds mu.
func (q *queue) wanted() (want []fetched) {
	if q.wait == nil || q.w == nil {
		return nil
	}
	bytes := 0
	p := q.wait.walk()
	for range min(q.w.reading, p.left) {
		r := p.next()
		if bytes += int(r.size); bytes > readBytes && len(want) > 0 {
			break
		}
		if q.e.inMemory(r.lsn) == nil {
			want = append(want, fetched{lsn: r.lsn})
		}
	}
	return want
}

func (e *Engine) readLoop() {
	for {
		e.mu.Lock()
		for len(e.toRead) == 0 && !e.closing {
			e.asked.Wait()
		}
		if e.closing {
			e.mu.Unlock()
			return
		}
		q := e.toRead[0]
		e.toRead[0] = nil
		e.toRead = e.toRead[1:]
		want := q.wanted()
		e.mu.Unlock()

		for i := range want {
			want[i].m, want[i].err = readMessage(e.db, want[i].lsn)
		}

		e.mu.Lock()
		sink := q.sink()
		if w := q.w; w != nil {
			if w.reading = 0; sink != nil {
				w.read, q.told = want, true
			}
			q.slim()
		}
		e.mu.Unlock()
		if sink != nil {
			sink.Ready()
		}
	}
}

// readMessage reads a message from the disk.
func readMessage(from pebble.Reader, lsn uint64) (*packet.Publish, error) {
	v, closer, err := from.Get(messageKey(lsn, kindMessage))
	if err != nil {
		return nil, err
	}
	m, err := parseMessage(v)
	if cerr := closer.Close(); err == nil {
		err = cerr
	}
	return m, err
}

// unreadable reports a message that the disk does not give.
func (q *queue) unreadable(lsn uint64, err error) {
	q.e.log.Error("a queued message cannot be read", "client", q.ClientID(), "key", fmt.Sprintf("%x", messageKey(lsn, kindMessage)), "err", damaged(err, q.e.o.Dir))
	q.e.dropped.Add(1)
	q.e.o.OnDrop(q.ClientID(), nil, store.Unreadable)
}
