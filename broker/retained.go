package broker

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/myelin-mqtt/myelin/internal/qos"
	"github.com/myelin-mqtt/myelin/internal/route"
	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
)

// retainedJob delivers the retained messages of one new subscription, a
// portion a turn and at a bounded rate, so that live traffic goes on.
type retainedJob struct {
	filter string
	qos    packet.QoS
	id     uint32
	sys    bool // $SYS, which the store does not have
	over   bool // the cursor is at its end
	cursor *route.Cursor[*packet.Publish]
	wait   []string // topics taken from the cursor, not delivered yet
	next   *retainedJob
	asleep *atomic.Bool // the connection will be woken in a moment, to go on; nil: it was never paced

	// In the first of a list only.
	last     *retainedJob
	byFilter map[string]*retainedJob // nil where there is but one
}

const (
	retainedNodes = 128       // of the index, looked at in one turn
	retainedRoom  = 256 << 10 // bytes of the out-queue above which delivery waits
	retainedAhead = 256       // messages in the store's queue above which it waits
)

// pace bounds how many retained messages a loop sends in a millisecond, to all
// its clients: what comes live is not to wait for a processor that is busy with
// them. A few thousand go at once; a message that is acknowledged counts for
// three, one of many KiB for several.
type pace struct {
	at   int64 // Unix nanoseconds
	left int   // that may be sent
}

const (
	pacePeriod = int64(time.Millisecond)
	paceRate   = 200  // messages in a period
	paceBurst  = 4096 // messages at once
	paceBytes  = 4096 // for which a message counts once more
)

// room reports whether one more message may be sent at the time now.
func (p *pace) room(now int64) bool {
	if n := (now - p.at) / pacePeriod; n >= paceBurst/paceRate || n < 0 { // or the clock was set back
		p.at, p.left = now, paceBurst
	} else if n > 0 {
		p.at, p.left = p.at+n*pacePeriod, min(p.left+int(n)*paceRate, paceBurst)
	}
	return p.left > 0
}

// sent counts a message of so many bytes.
func (p *pace) sent(q packet.QoS, bytes int) { p.left -= 1 + 2*int(min(q, 1)) + bytes/paceBytes }

// paced tells whether the loop may send one more retained message now; if not,
// it is seen to that retained is called again.
func (c *conn) paced(t *turn, j *retainedJob) bool {
	if t.pace.room(t.tt.Now) {
		return true
	}
	if j.asleep == nil {
		j.asleep = new(atomic.Bool)
	}
	if asleep, io := j.asleep, c.io; !asleep.Swap(true) {
		time.AfterFunc(time.Duration(pacePeriod), func() {
			asleep.Store(false) // before the word, which may come in a turn that began long ago
			io.Wake()
		})
	}
	return false
}

// startRetained begins with the retained messages of a subscription.
// [MQTT-3.3.1-9]
func (c *conn) startRetained(t *turn, j *retainedJob) {
	alone := c.jobs == nil
	c.jobs = c.b.addRetained(c.jobs, j)
	if alone {
		c.retained(t)
	}
}

// addRetained puts a job behind the others; what it returns is the first.
func (b *Broker) addRetained(first, j *retainedJob) *retainedJob {
	if j.sys = j.filter == "$SYS" || strings.HasPrefix(j.filter, "$SYS/"); j.sys {
		j.cursor = b.sys.Cursor(j.filter)
	} else {
		j.cursor = b.store.Retained(j.filter)
	}
	if first == nil {
		j.last = j
		return j
	}
	if first.byFilter == nil {
		first.byFilter = map[string]*retainedJob{first.filter: first}
	}
	if old := first.byFilter[j.filter]; old != nil { // subscribed to again before it was through: from the beginning
		old.qos, old.id, old.cursor, old.wait, old.over = j.qos, j.id, j.cursor, nil, false
		return first
	}
	first.last.next, first.last = j, j
	first.byFilter[j.filter] = j
	return first
}

// endJob goes on to the next job. What a durable subscription was owed is in
// the store by then, and does not come again after a restart; but while calls
// of the client are under way, one of them may be for the same filter.
func (c *conn) endJob() {
	j := c.jobs
	if c.s.store != nil && j.qos > 0 && (c.async == nil || len(c.async.later) == 0) {
		if i := c.s.find(j.filter); i >= 0 {
			x := &c.s.subs()[i]
			c.s.store.Settle(store.Sub{Filter: j.filter, ID: x.id, Options: x.options})
		}
	}
	if j.next != nil {
		j.next.last, j.next.byFilter = j.last, j.byFilter // there is one where there are two jobs
		delete(j.byFilter, j.filter)
	}
	c.jobs = j.next
}

// stop ends, of the job and those behind it, the retained messages of a filter that is unsubscribed
// from [MQTT-3.10.4-2].
func (j *retainedJob) stop(filter string) {
	if j != nil && j.filter != filter {
		j = j.byFilter[filter]
	}
	if j != nil {
		j.over, j.wait = true, nil
	}
}

// retained goes on with the retained messages as far as there is room. It is
// called again when the out-queue is empty, or the window has room, or, where
// only the portion is over, in the next turn or after a moment.
func (c *conn) retained(t *turn) {
	for c.jobs != nil {
		j := c.jobs
		fetched := false
		if len(j.wait) == 0 && !j.over {
			fetched = true
			j.over = !j.cursor.Next(retainedNodes, func(name string, _ *packet.Publish) bool {
				j.wait = append(j.wait, name)
				return true
			})
		}
		for i, name := range j.wait {
			if !c.retainedRoom(j) || !c.paced(t, j) {
				j.wait = append(j.wait[:0:0], j.wait[i:]...)
				return
			}
			t.pace.sent(j.qos, c.sendRetained(t, j, name))
		}
		clear(j.wait)
		j.wait = j.wait[:0]
		switch {
		case !j.over && fetched:
			c.io.Wake() // others come first
			return
		case j.over:
			c.endJob()
		}
	}
}

// retainedRoom tells whether the client can take one more retained message
// now; if not, it is seen to that retained is called again.
func (c *conn) retainedRoom(j *retainedJob) bool {
	if c.io.Queued() > retainedRoom {
		c.io.NotifyDrained()
		return false
	}
	if j.qos == 0 {
		return true
	}
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store != nil {
		n, _ := s.store.Queued()
		return n < retainedAhead || s.out.Send.Live() == 0
	}
	return s.out.Send.Queued() == 0 && (s.out.Send.Room() > 0 || s.out.Send.Live() == 0)
}

// sendRetained sends the retained message of a topic as it is now, with RETAIN
// set [MQTT-3.3.1-8]. A newer one is retained before it is delivered, so
// looking it up under the session's lock, or the queue's, means that what the
// client gets last of a topic is what was published last. It returns the size of
// the payload.
func (c *conn) sendRetained(t *turn, j *retainedJob, name string) int {
	s := c.s
	if s.store != nil && j.qos > 0 && !j.sys {
		if m := c.b.store.Current(name); m != nil && m.QoS() > 0 {
			s.store.Retained(name, store.Target{Sub: j.id, QoS: j.qos, Flags: qos.Retain})
			return len(m.Payload())
		}
	}
	s.mu.Lock()
	m := c.b.retainedNow(j, name)
	if m == nil {
		s.mu.Unlock()
		return 0
	}
	left, expired := m.Left(t.now)
	if expired { // [MQTT-3.3.2-5]
		s.mu.Unlock()
		c.b.store.Forget(m)
		return 0
	}
	t.enc.Reset(m, left)
	t.expiry = left
	f := form{qos: min(j.qos, m.QoS()), retain: true, sub: j.id, kept: m}
	lost := t.deliverLocked(s, m, &f, 0)
	s.mu.Unlock()
	lost.report(t.b, s)
	return len(m.Payload())
}

func (b *Broker) retainedNow(j *retainedJob, name string) *packet.Publish {
	if j.sys {
		m, _ := b.sys.Get(name)
		return m
	}
	return b.store.Current(name)
}
