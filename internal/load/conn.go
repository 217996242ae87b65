package load

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
)

// Conn is what a load needs of a client. *client.Client is one.
type Conn interface {
	PublishAsync(ctx context.Context, m *client.Message, done func(client.Receipt, error)) error
	Subscribe(ctx context.Context, h client.Handler, subs ...client.Subscription) ([]packet.Reason, error)
	Unsubscribe(ctx context.Context, filters ...string) error
	Disconnect(ctx context.Context) error
	Close() error
}

// Target is a broker, and how it is reached and watched.
type Target struct {
	// Name is how the report calls it: its URL.
	Name string
	// Options are the connections' options: address, credentials, TLS, version.
	// Identifier, session, handlers and what is kept in flight are the load's.
	Options client.Options
	// Dial makes a connected client.
	Dial func(context.Context, client.Options) (Conn, error)
	// Meter reads what the broker uses; nil: nothing is known of it.
	Meter Meter
}

// Dial makes a connected client of package client.
func Dial(ctx context.Context, o client.Options) (Conn, error) {
	c, err := client.New(o)
	if err != nil {
		return nil, err
	}
	if err := c.Connect(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// role is what the load asks of one connection.
type role struct {
	id       string
	durable  bool
	clean    bool
	inline   bool
	inflight int
	handler  client.Handler // for what a session had queued
	lost     func(error)    // the connection broke
}

func (t *Target) connect(ctx context.Context, r role) (Conn, error) {
	o := t.Options
	o.ClientID = r.id
	o.NoReconnect, o.RetryConnect = true, false
	o.Inline = r.inline
	o.OnMessage = r.handler
	o.CleanStart = r.clean
	o.SessionExpiry = 0
	if r.durable {
		o.SessionExpiry = time.Hour
	}
	if t.Options.ClientID != "" {
		o.ClientID = t.Options.ClientID + "-" + r.id
	}
	if o.MaxInflight == 0 { // the window is the load's, and not the client's
		o.MaxInflight = uint16(min(max(r.inflight, 1024), 65535))
	}
	var up atomic.Bool
	if r.lost != nil {
		o.OnState = func(e client.StateEvent) {
			if e.State == client.Closed && e.Err != nil && up.Load() {
				r.lost(e.Err)
			}
		}
	}
	c, err := t.Dial(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	up.Store(true)
	return c, nil
}

// subscribe wants every filter granted, with the quality of service asked for.
func subscribe(ctx context.Context, c Conn, h client.Handler, qos packet.QoS, filters ...string) error {
	subs := make([]client.Subscription, len(filters))
	for i, f := range filters {
		subs[i] = client.Filter(f, qos)
	}
	codes, err := c.Subscribe(ctx, h, subs...)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	for i, code := range codes {
		if code != packet.Reason(qos) {
			return fmt.Errorf("subscribe to %s: asked for QoS %d, granted %d", filters[i], qos, code)
		}
	}
	return nil
}
