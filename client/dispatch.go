package client

// arrival is a message and its handlers.
type arrival struct {
	m    *Received
	h    Handler
	more []Handler
}

func (a *arrival) call() {
	a.h(a.m)
	for _, h := range a.more {
		h(a.m)
	}
}

// handle calls the handlers until no message waits.
func (c *Client) handle() {
	var batch []arrival
	for {
		c.mu.Lock()
		clear(batch)
		batch, c.inbox = c.inbox, batch[:0]
		if len(batch) == 0 || c.ended {
			c.handling = false
			c.stats.Dropped += uint64(len(batch))
			c.unhandled -= len(batch)
			c.changed.tell()
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		for i := range batch {
			batch[i].call()
			c.mu.Lock()
			c.handled(batch[i].m)
			if c.unhandled == c.o.Inbox/2 {
				c.changed.tell()
			}
			ended := c.ended
			if ended { // what is left comes again, but for QoS 0
				c.stats.Dropped += uint64(len(batch) - i - 1)
				c.unhandled -= len(batch) - i - 1
			}
			c.unlock()
			if ended {
				batch = batch[:0]
				break
			}
		}
		if cap(batch) > 1024 {
			batch = nil
		}
	}
}

// handled notes that a message's handlers have returned; mu is held.
func (c *Client) handled(m *Received) {
	c.unhandled--
	if !c.o.ManualAck && m.QoS > 0 {
		c.acknowledge(m)
	}
}

// handleInline calls the handlers on the reader's goroutine.
func (c *Client) handleInline(l *link) {
	for i := range l.inline {
		l.inline[i].call()
	}
	c.mu.Lock()
	for i := range l.inline {
		c.handled(l.inline[i].m)
	}
	c.unlock()
	clear(l.inline)
	l.inline = l.inline[:0]
}

// maxAnswers is how many acknowledgements may wait to be written before nothing
// more is read: more than any server can need that reads them.
const maxAnswers = 1 << 17

// awaitRoom waits while too many messages wait for their handlers, or too many
// answers for the server. It does not wait for handlers where a caller waits for an
// acknowledgement, which may be a handler, until that makes sixteen times as many.
func (c *Client) awaitRoom(l *link) {
	for {
		c.mu.Lock()
		most := c.o.Inbox
		if c.blocked > 0 {
			most *= 16
		}
		room := (c.o.Inline || c.unhandled < most) && c.answers < maxAnswers
		if c.ended || room || l.cause.Load() != nil {
			if c.paused.Load() {
				c.heard.Store(c.since())
				c.paused.Store(false)
				c.poke()
			}
			c.mu.Unlock()
			return
		}
		c.paused.Store(true)
		changed := c.changed.wait()
		c.mu.Unlock()
		select {
		case <-changed:
		case <-c.ctx.Done():
		}
	}
}
