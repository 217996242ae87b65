package check

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/myelin-mqtt/myelin/internal/dial"
	"github.com/myelin-mqtt/myelin/packet"
)

// trial is one check while it runs: what it has made, and what it tells. It
// belongs to one goroutine.
type trial struct {
	*env
	name   string
	detail string
	values map[string]any
	began  time.Time
	trace  trace

	conns    []*conn
	sessions map[string]packet.Version // client identifiers whose sessions outlive their connections
	retained map[string]bool           // topics with a retained message
}

func (e *env) trial(r row) *trial {
	return &trial{env: e, name: r.name, sessions: map[string]packet.Version{}, retained: map[string]bool{}, began: time.Now()}
}

// tell sets the words of the finding.
func (t *trial) tell(format string, args ...any) { t.detail = fmt.Sprintf(format, args...) }

// also adds to them.
func (t *trial) also(format string, args ...any) {
	if t.detail != "" {
		t.detail += "; "
	}
	t.detail += fmt.Sprintf(format, args...)
}

// value sets a value of the finding.
func (t *trial) value(name string, v any) {
	if t.values == nil {
		t.values = map[string]any{}
	}
	t.values[name] = v
}

// topic is a topic, or filter, of this check alone.
func (t *trial) topic(name string) string { return t.prefix + t.name + "/" + name }

// id is a client identifier that nobody else has, of the form that every server
// must take [MQTT-3.1.3-5], at most 23 letters and digits, unless IDPrefix makes
// another of it.
func (t *trial) id() string { return fmt.Sprintf("%s%s%d", t.o.IDPrefix, t.nonce, t.ids.Add(1)) }

// v5 skips the check where the version has no such thing.
func (t *trial) v5() error {
	if t.version < packet.V5 {
		return skipped("MQTT 5.0 only")
	}
	return nil
}

// qos is the quality of service to publish with: q or the highest that the
// server has.
func (t *trial) qos(q packet.QoS) packet.QoS {
	if most := t.connack.MaxQoS; most != nil {
		return min(q, *most)
	}
	return q
}

// wait lets time pass.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// clean connects with a new session that ends with the connection.
func (t *trial) clean(ctx context.Context) (*conn, error) {
	return t.connect(ctx, packet.Connect{CleanStart: true})
}

// two are a client that publishes and one that has the subscription.
func (t *trial) two(ctx context.Context, q packet.QoS, filter string) (pub, sub *conn, err error) {
	if sub, err = t.clean(ctx); err != nil {
		return nil, nil, err
	}
	if _, err = sub.subscribe(ctx, q, filter); err != nil {
		return nil, nil, err
	}
	pub, err = t.clean(ctx)
	return pub, sub, err
}

// durable is a CONNECT for a session that outlives its connection.
func (t *trial) durable(id string) packet.Connect {
	return packet.Connect{ClientID: id, SessionExpiry: sessionExpiry}
}

// sessionExpiry is how long sessions of checks live at most that could not be
// removed, in seconds.
const sessionExpiry = 300

// keep makes a durable session, which must be new.
func (t *trial) keep(ctx context.Context, id string) (*conn, error) {
	c, err := t.connect(ctx, t.durable(id))
	if err != nil {
		return nil, err
	}
	switch {
	case c.ack.SessionPresent:
		return nil, broken("a session is present for a client identifier that was never used")
	case c.ack.SessionExpiry != nil && *c.ack.SessionExpiry == 0:
		return nil, absent("no session outlives its connection: CONNACK has Session Expiry Interval 0")
	}
	return c, nil
}

// resume comes back to a session, which must be there.
func (t *trial) resume(ctx context.Context, id string) (*conn, error) {
	c, err := t.connect(ctx, t.durable(id))
	if err != nil {
		return nil, err
	}
	if !c.ack.SessionPresent && c.v > packet.V31 { // 3.1 does not say
		return nil, broken("no session present after coming back")
	}
	return c, nil
}

// connect makes a connection, fills what k leaves out, and demands success: the
// refusal is a *RefusedError.
func (t *trial) connect(ctx context.Context, k packet.Connect) (*conn, error) {
	if k.ClientID == "" {
		k.ClientID = t.id()
	}
	c, err := t.try(ctx, k)
	if err != nil {
		return nil, err
	}
	if c.ack.Code != packet.Success {
		return nil, &RefusedError{Code: c.ack.Code, Reason: c.ack.ReasonString}
	}
	return c, nil
}

// try connects, with the client identifier as it is, and does not judge the
// CONNACK.
func (t *trial) try(ctx context.Context, k packet.Connect) (*conn, error) {
	if k.Version == 0 {
		k.Version = t.version
	}
	if k.KeepAlive == 0 {
		k.KeepAlive = 60
	}
	k.RequestProblemInfo = true
	if k.Username == "" && t.o.Username != "" {
		k.Username, k.HasUsername = t.o.Username, true
	}
	if k.Password == nil && t.o.Password != nil {
		k.Password, k.HasPassword = t.o.Password, true
	}
	if k.ClientID != "" && (k.SessionExpiry > 0 || k.Version < packet.V5 && !k.CleanStart) {
		t.sessions[k.ClientID] = k.Version
	}
	if k.Will != nil && k.Will.Retain && t.canRetain() == nil {
		t.retained[k.Will.Topic] = true
	}
	c, err := t.raw(ctx, k.Version)
	if err != nil {
		return nil, err
	}
	c.id = k.ClientID
	if err := c.send(ctx, &k); err != nil {
		return nil, err
	}
	return c, c.greeting(ctx)
}

// raw makes a network connection, over which nothing has been said.
func (t *trial) raw(ctx context.Context, v packet.Version) (*conn, error) {
	nc, err := t.dial(ctx, t.o.Net)
	if err != nil {
		return nil, err
	}
	c := &conn{t: t, number: len(t.conns) + 1, nc: nc, v: v, patience: t.o.Patience, reads: make(chan chunk), ended: make(chan struct{}), over: make(chan struct{})}
	go c.listen() // until cut, which tidy calls at the latest
	t.conns = append(t.conns, c)
	return c, nil
}

// dial makes a network connection.
func (t *trial) dial(ctx context.Context, o dial.Options) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, t.o.ConnectTimeout)
	defer cancel()
	return t.o.Server.Dial(ctx, o)
}

// tidyTime is how long tidying up may take.
const tidyTime = 10 * time.Second

// tidy closes connections and removes sessions and retained messages, also when
// ctx has ended.
func (t *trial) tidy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTime)
	defer cancel()
	for _, c := range t.conns {
		c.leave(ctx)
	}
	t.conns = nil
	var faults []error
	for _, id := range slices.Sorted(maps.Keys(t.sessions)) {
		c, err := t.connect(ctx, packet.Connect{Version: t.sessions[id], ClientID: id, CleanStart: true})
		if err != nil {
			faults = append(faults, fmt.Errorf("session %s: %w", id, err))
			continue
		}
		c.leave(ctx)
	}
	if len(t.retained) > 0 {
		faults = append(faults, t.clear(ctx))
	}
	for _, c := range t.conns {
		c.leave(ctx)
	}
	return errors.Join(faults...)
}

// clear removes the retained messages.
func (t *trial) clear(ctx context.Context) error {
	c, err := t.clean(ctx)
	if err != nil {
		return fmt.Errorf("retained messages: %w", err)
	}
	for _, topic := range slices.Sorted(maps.Keys(t.retained)) {
		if err := c.publish(ctx, &packet.Message{Topic: topic, Retain: true, QoS: t.qos(1)}); err != nil {
			return fmt.Errorf("retained message of %s: %w", topic, err)
		}
	}
	// At QoS 0 nothing but the answer to a PINGREQ shows that the server has read it.
	return c.ping(ctx)
}
