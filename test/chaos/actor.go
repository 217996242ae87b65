package chaos

import (
	"context"
	"time"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/test/fault"
)

// actor is one client, through its lives.
type actor struct {
	id    string
	dir   string // of its store
	proxy *fault.Proxy
	hears bool // it is the subscriber

	*client.Client
	*life
	handler client.Handler
	store   *mortal
	tape    tape
	total   client.Stats // of former lives, and at the end of all
}

// life is one of an actor's.
type life struct{ over bool }

// begin begins a life: the client has what the last one's store has kept.
func (c *chaos) begin(a *actor) {
	c.t.Helper()
	o := client.Options{
		Servers: []string{a.proxy.URL()}, ClientID: a.id, Version: c.Version, SessionExpiry: time.Hour, KeepAlive: c.KeepAlive,
		MaxInflight: 16, ReceiveMaximum: 16, Inbox: 16, QueueMessages: 64, MaxPacket: 1 << 20, RetryConnect: true,
		MinBackoff: time.Millisecond, MaxBackoff: 8 * time.Millisecond,
	}
	o.Trace.Packet = a.tape.add
	o.OnState = a.tape.state
	if a.life = new(life); a.hears {
		l := a.life
		a.handler = func(m *client.Received) { c.receive(m, l) }
		o.OnMessage = a.handler
	}
	if c.KeepAlive != 0 {
		o.ConnectTimeout, o.AckTimeout = c.KeepAlive, c.KeepAlive/4
	}
	if c.Graves > 0 {
		f, err := client.OpenFile(a.dir, client.FileOptions{NoSync: true})
		if err != nil {
			c.t.Fatalf("open the store of the %s: %v", a.id, err)
		}
		a.store = &mortal{Store: f}
		o.Store, o.ManualAck = a.store, true
	}
	var err error
	if a.Client, err = client.New(o); err != nil {
		c.t.Fatalf("make the %s: %v", a.id, err)
	}
	x := a.Client
	c.t.Cleanup(func() { x.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := a.Connect(ctx); err != nil {
		c.t.Fatalf("connect the %s: %v", a.id, err)
	}
}

// finish ends a life without a word to the broker.
func (c *chaos) finish(a *actor) {
	c.t.Helper()
	c.mu.Lock()
	a.over = true
	c.mu.Unlock()
	if err := a.Close(); err != nil && c.Graves == 0 {
		c.t.Errorf("close the %s: %v", a.id, err)
	}
	s := a.Stats()
	a.total.Connects += s.Connects
	a.total.Resent += s.Resent
	a.total.Duplicates += s.Duplicates
	if a.store != nil {
		if err := a.store.Close(); err != nil {
			c.t.Errorf("close the store of the %s: %v", a.id, err)
		}
	}
}
