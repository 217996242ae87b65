package client

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/topic"
)

// requests are those that wait for their answers.
type requests struct {
	topic string // where the answers of 5.0 come, empty: not subscribed
	turn  chan struct{}
	last  uint64
	wait  map[uint64]chan *Received
	v3    map[string]*conversation
}

// conversation is the topic of requests below 5.0: one after the other.
type conversation struct {
	turn chan struct{}
	wait chan *Received
}

// end is for a client that ends: those who wait look at Client.done.
func (r *requests) end(error) { r.wait, r.v3 = nil, nil }

// Request publishes m with a Response Topic and Correlation Data of its own and
// waits for the answer. Below 5.0, which has neither, the answer is awaited on
// the topic that ResponseTopicV3 tells, and requests to one topic go one after
// the other.
func (c *Client) Request(ctx context.Context, m *Message) (*Received, error) {
	v, err := c.awaitVersion(ctx)
	if err != nil {
		return nil, err
	}
	if v < packet.V5 {
		return c.requestV3(ctx, m)
	}
	to, err := c.responseTopic(ctx)
	if err != nil {
		return nil, err
	}
	answer := make(chan *Received, 1)
	c.mu.Lock()
	if c.requests.wait == nil {
		c.requests.wait = make(map[uint64]chan *Received)
	}
	c.requests.last++
	id := c.requests.last
	c.requests.wait[id] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.requests.wait, id)
		c.mu.Unlock()
	}()
	ask := *m
	ask.ResponseTopic, ask.Correlation = to, binary.BigEndian.AppendUint64(nil, id)
	return c.converse(ctx, &ask, answer)
}

// converse publishes a request and waits for its answer.
func (c *Client) converse(ctx context.Context, m *Message, answer <-chan *Received) (*Received, error) {
	failed := make(chan error, 1)
	err := c.PublishAsync(ctx, m, func(r Receipt, err error) {
		if err == nil && r.Code == packet.NoMatchingSubscribers {
			err = &ReasonError{Packet: packet.PUBACK, Code: r.Code, Reason: r.Reason}
		}
		if err != nil {
			failed <- err
		}
	})
	if err != nil {
		return nil, fmt.Errorf("send the request: %w", err)
	}
	c.blocks(1)
	defer c.blocks(-1)
	select {
	case a := <-answer:
		return a, nil
	case err := <-failed:
		return nil, fmt.Errorf("send the request: %w", err)
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the answer: %w", context.Cause(ctx))
	case <-c.done:
		return nil, fmt.Errorf("wait for the answer: %w", ErrClosed)
	}
}

// awaitVersion waits for a connection, and tells its version.
func (c *Client) awaitVersion(ctx context.Context) (packet.Version, error) {
	for {
		c.mu.Lock()
		if c.ended {
			defer c.mu.Unlock()
			return 0, c.closedError()
		}
		if c.link != nil {
			defer c.mu.Unlock()
			return c.link.version, nil
		}
		changed := c.changed.wait()
		c.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, fmt.Errorf("wait for a connection: %w", context.Cause(ctx))
		}
	}
}

// responseTopic is where answers come; the first request subscribes to it.
func (c *Client) responseTopic(ctx context.Context) (string, error) {
	c.mu.Lock()
	if c.requests.turn == nil {
		c.requests.turn = make(chan struct{}, 1)
	}
	turn := c.requests.turn
	c.mu.Unlock()
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return "", fmt.Errorf("subscribe to the answers: %w", context.Cause(ctx))
	}
	defer func() { <-turn }()
	c.mu.Lock()
	have, s := c.requests.topic, c.session
	c.mu.Unlock()
	if have != "" {
		return have, nil
	}
	var nonce [8]byte
	_, _ = rand.Read(nonce[:]) // it never fails
	base := s.Connack.ResponseInfo
	if base == "" {
		base = "response/" + s.ClientID
	}
	name := base + "/" + hex.EncodeToString(nonce[:])
	if topic.CheckName(name) != nil {
		name = "response/" + hex.EncodeToString(nonce[:])
	}
	if _, err := c.Subscribe(ctx, c.onAnswer, Filter(name, 1)); err != nil {
		return "", fmt.Errorf("subscribe to the answers: %w", err)
	}
	c.mu.Lock()
	c.requests.topic = name
	c.mu.Unlock()
	return name, nil
}

// onAnswer is the handler of answers.
func (c *Client) onAnswer(m *Received) {
	if c.o.ManualAck {
		defer m.Ack()
	}
	if len(m.Correlation) != 8 {
		c.log.Debug("answer to no request", "topic", m.Topic)
		return
	}
	id := binary.BigEndian.Uint64(m.Correlation)
	c.mu.Lock()
	answer := c.requests.wait[id]
	delete(c.requests.wait, id)
	c.mu.Unlock()
	if answer == nil {
		c.log.Debug("answer to no request", "topic", m.Topic, "request", id)
		return
	}
	answer <- m
}

// ResponseTopicV3 is where a request to the topic is answered by the convention
// for 3.1.1: the topic with /response behind it.
func ResponseTopicV3(topic string) string { return topic + "/response" }

func (c *Client) requestV3(ctx context.Context, m *Message) (*Received, error) {
	to := ResponseTopicV3(m.Topic)
	c.mu.Lock()
	x := c.requests.v3[to]
	if x == nil {
		x = &conversation{turn: make(chan struct{}, 1)}
		if c.requests.v3 == nil {
			c.requests.v3 = make(map[string]*conversation)
		}
		c.requests.v3[to] = x
	}
	c.mu.Unlock()
	select {
	case x.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the request before: %w", context.Cause(ctx))
	}
	defer func() { <-x.turn }()
	answer := make(chan *Received, 1)
	c.mu.Lock()
	x.wait = answer
	c.mu.Unlock()
	_, err := c.Subscribe(ctx, func(m *Received) {
		if c.o.ManualAck {
			defer m.Ack()
		}
		if m.Retain { // an answer to somebody before
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if x.wait != nil {
			x.wait <- m
			x.wait = nil
		}
	}, Filter(to, 1))
	if err != nil {
		return nil, fmt.Errorf("subscribe to the answers: %w", err)
	}
	return c.converse(ctx, m, answer)
}

// Respond subscribes to filter and publishes what f returns to the request's
// Response Topic, with its Correlation Data; nil: nothing. Below 5.0 the answer
// goes to the topic that ResponseTopicV3 tells, and what comes on such a topic
// is an answer and not handed out. Messages without a Response Topic go to f,
// too, and what it returns goes nowhere.
func (c *Client) Respond(ctx context.Context, filter Subscription, f func(*Received) *Message) error {
	_, err := c.Subscribe(ctx, func(m *Received) {
		// A filter with a wildcard brings our own answers, which would be
		// answered without an end.
		if s, _ := c.Session(); s.Version < packet.V5 && strings.HasSuffix(m.Topic, ResponseTopicV3("")) {
			if c.o.ManualAck {
				m.Ack()
			}
			return
		}
		answer := f(m)
		if c.o.ManualAck {
			defer m.Ack()
		}
		if answer == nil {
			return
		}
		a := *answer
		a.Topic, a.Correlation = m.ResponseTopic, m.Correlation
		if s, _ := c.Session(); s.Version < packet.V5 {
			a.Topic = ResponseTopicV3(m.Topic)
		}
		if a.Topic == "" {
			return
		}
		if err := c.PublishAsync(c.ctx, &a, nil); err != nil {
			c.log.Warn("cannot answer a request", "topic", m.Topic, "err", err)
		}
	}, filter)
	return err
}

// Reauthenticate runs Options.Auth's exchange on the connection that stands.
// [MQTT-4.12.1-1]
func (c *Client) Reauthenticate(ctx context.Context) error {
	a := c.o.Auth
	if a == nil {
		return errors.New("authenticate again: Options.Auth is not set")
	}
	data, err := a.Start(ctx)
	if err != nil {
		return fmt.Errorf("authenticate again: %w", err)
	}
	c.mu.Lock()
	if c.link == nil || c.link.version < packet.V5 || c.reauth != nil {
		c.mu.Unlock()
		return fmt.Errorf("authenticate again: %w", ErrNotConnected)
	}
	answers, changed := make(chan packet.Auth, 1), c.changed.wait()
	gen := c.gen
	c.reauth = answers
	c.sendAuth(packet.Reauthenticate, data)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		if c.gen == gen {
			c.reauth = nil
		}
		c.mu.Unlock()
	}()
	for {
		select {
		case p := <-answers:
			if p.Code == packet.Success {
				if err := a.Finish(ctx, p.Data); err != nil {
					return fmt.Errorf("authenticate again: %w", err)
				}
				return nil
			}
			if data, err = a.Continue(ctx, p.Data); err != nil {
				return fmt.Errorf("authenticate again: %w", err)
			}
			c.mu.Lock()
			if c.gen == gen && c.link != nil {
				c.sendAuth(packet.ContinueAuthentication, data)
			}
			c.mu.Unlock()
		case <-changed:
			c.mu.Lock()
			gone := c.gen != gen || c.link == nil
			changed = c.changed.wait()
			c.mu.Unlock()
			if gone {
				return fmt.Errorf("authenticate again: %w", ErrNotConnected)
			}
		case <-ctx.Done():
			return fmt.Errorf("authenticate again: %w", context.Cause(ctx))
		}
	}
}

// sendAuth sends an AUTH; mu is held, and there is a connection.
func (c *Client) sendAuth(code packet.Reason, data []byte) {
	p := packet.Auth{Code: code, Method: c.o.Auth.Method(), Data: data}
	c.out = p.Append(c.grow(), c.link.version)
	c.stats.PacketsOut++
}

// onAuth takes an AUTH on a connection that stands; mu is held.
func (c *Client) onAuth(l *link, b []byte, hdr int) error {
	var p packet.Auth
	if l.version < packet.V5 {
		return &packet.Error{Code: packet.ProtocolError, Text: "3.1.1 has no AUTH"}
	}
	if err := p.Parse(b, hdr, l.version); err != nil {
		return err
	}
	if c.reauth == nil {
		return &packet.Error{Code: packet.ProtocolError, Text: "AUTH was not asked for"}
	}
	select {
	case c.reauth <- p:
	default:
		return &packet.Error{Code: packet.ProtocolError, Text: "AUTH came twice"}
	}
	return nil
}
