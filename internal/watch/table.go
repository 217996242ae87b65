// Package watch keeps a table of topics with their last values and draws it:
// the model in table.go, the lines in render.go, and what redraws them in place
// on a terminal in screen.go. It takes the time and the size of the screen from
// its caller, and writes to buffers only.
//
// Start with Table.
package watch

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// What a Table keeps of a topic, at most.
const (
	maxTopic = 4096 // a longer topic is one of the others
	maxValue = 1024 // bytes of the payload
)

// Table has the last message of each topic. It is for one goroutine.
type Table struct {
	begun  time.Time
	limit  int
	rows   map[string]*row
	count  uint64 // of all messages
	rate   window
	others uint64 // messages of topics that have no row
}

type row struct {
	topic string
	value []byte // the first bytes of the payload
	long  bool   // there are more
	last  time.Time
	count uint64
	rate  window
}

// New makes a table for that many topics, which begins to count now.
func New(topics int, now time.Time) *Table {
	return &Table{begun: now, limit: topics, rows: map[string]*row{}}
}

// Add takes a message that came then. Payload is copied.
func (t *Table) Add(topic string, payload []byte, then time.Time) {
	second := t.second(then)
	t.count++
	t.rate.add(second)
	r := t.rows[topic]
	if r == nil {
		if len(t.rows) >= t.limit || len(topic) > maxTopic {
			t.others++
			return
		}
		r = &row{topic: topic}
		t.rows[topic] = r
	}
	r.value = append(r.value[:0], payload[:min(len(payload), maxValue)]...)
	r.long = len(payload) > maxValue
	r.last = then
	r.count++
	r.rate.add(second)
}

// second is how many seconds the table is old.
func (t *Table) second(now time.Time) int64 {
	return max(int64(now.Sub(t.begun)/time.Second), 0)
}

// perSecond is the rate of a window: over its seconds, of which the last one
// has only begun, or over the table's life if that is shorter.
func (t *Table) perSecond(w window, now time.Time) float64 {
	age := now.Sub(t.begun)
	span := min(age, (windowSeconds-1)*time.Second+age%time.Second)
	return float64(w.sum(t.second(now))) / max(span.Seconds(), 1)
}

// Order is how rows are sorted.
type Order uint8

// The orders.
const (
	ByTopic Order = iota
	ByRate        // the busiest first, and of equals by topic
)

func (t *Table) sorted(o Order, now time.Time) []*row {
	rows := make([]*row, 0, len(t.rows))
	for _, r := range t.rows {
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b *row) int {
		if o == ByRate {
			if c := cmp.Compare(t.perSecond(b.rate, now), t.perSecond(a.rate, now)); c != 0 {
				return c
			}
		}
		return strings.Compare(a.topic, b.topic)
	})
	return rows
}

// windowSeconds is how far back a rate looks.
const windowSeconds = 10

// window counts events of the last seconds.
type window struct {
	slots [windowSeconds]uint32
	last  int64 // the second of the newest slot
}

func (w *window) add(second int64) {
	second = max(second, w.last) // clocks of packets may cross
	for s := max(w.last+1, second-windowSeconds+1); s <= second; s++ {
		w.slots[s%windowSeconds] = 0
	}
	w.last = second
	w.slots[second%windowSeconds]++
}

// sum is how many there were in the seconds that end with this one.
func (w *window) sum(second int64) (n uint64) {
	for s := max(second-windowSeconds+1, w.last-windowSeconds+1, 0); s <= w.last; s++ {
		n += uint64(w.slots[s%windowSeconds])
	}
	return n
}
