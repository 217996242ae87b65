package client

import (
	"context"
	"crypto/tls"

	"github.com/myelin-mqtt/myelin/packet"
)

// Client is one client of one server. All methods may be called from any
// goroutine, handlers included, unless they say otherwise.
type Client struct{ o Options }

// New checks the options and makes a client, which is Idle. It reads the Store.
func New(o Options) (*Client, error) { return &Client{o: o}, nil }

// Dial makes a client for the server and connects it. Options.Servers are tried
// after it.
func Dial(ctx context.Context, server string, o Options) (*Client, error) {
	return nil, ErrNotConnected
}

// Connect begins to connect, and returns when the first CONNACK has come, or
// with the error that ended it: see Options.RetryConnect. It is called once.
func (c *Client) Connect(ctx context.Context) error { return ErrNotConnected }

// Publish gives m to the client and waits until it is acknowledged: at QoS 0
// until it was written to the connection, at QoS 1 until its PUBACK came, at QoS
// 2 until its PUBCOMP came. Where there is no connection a message of QoS 1 or 2
// waits for the next one. When ctx ends first, the message is sent all the same.
// A refusal is a *ReasonError, and the receipt has it too.
func (c *Client) Publish(ctx context.Context, m *Message) (Receipt, error) {
	return Receipt{}, ErrNotConnected
}

// PublishAsync gives m to the client, waits for room in its queue only, and with
// a Store until it is kept there. done, which may be nil, is called once when it
// is acknowledged or given up, unless an error is returned. It must not block.
// m and its payload may be changed when PublishAsync returns.
func (c *Client) PublishAsync(ctx context.Context, m *Message, done func(Receipt, error)) error {
	return ErrNotConnected
}

// Subscribe asks for the subscriptions, all in one packet, waits for the SUBACK,
// and has h called with their messages. The codes are the server's, one for each:
// the granted QoS, or why not; where one failed, the error is a *SubscribeError,
// and those that were granted stand. A filter that h or another handler has is
// replaced. When the client comes back to a server without its session, it
// subscribes again.
func (c *Client) Subscribe(ctx context.Context, h Handler, subs ...Subscription) ([]packet.Reason, error) {
	return nil, ErrNotConnected
}

// Unsubscribe ends subscriptions and waits for the UNSUBACK.
func (c *Client) Unsubscribe(ctx context.Context, filters ...string) error { return ErrNotConnected }

// Ack acknowledges the message, where Options.ManualAck is set. Acknowledgements
// leave in the order in which the messages came [MQTT-4.6.0-2], so that one that
// is missing holds back those behind it. It does nothing at QoS 0, the second
// time, and when the connection that brought the message is gone.
func (m *Received) Ack() {}

// Disconnect waits until what was given to the client is acknowledged, or ctx
// ends, sends DISCONNECT, and closes.
func (c *Client) Disconnect(ctx context.Context) error { return nil }

// DisconnectWith sends DISCONNECT with d at once, and closes: such as with
// packet.DisconnectWithWill, or a new Session Expiry Interval.
func (c *Client) DisconnectWith(ctx context.Context, d *packet.Disconnect) error { return nil }

// Close closes the connection without a DISCONNECT, so that the server publishes
// the will, and waits until nothing of the client runs. Messages that were not
// acknowledged end with ErrClosed; a Store keeps them.
func (c *Client) Close() error { return nil }

// Done is closed when the client is Closed.
func (c *Client) Done() <-chan struct{} { return nil }

// Err is why the client is Closed, nil before that and after Disconnect.
func (c *Client) Err() error { return nil }

// Reauthenticate runs Options.Auth's exchange on the connection that stands.
func (c *Client) Reauthenticate(ctx context.Context) error { return ErrNotConnected }

// Session is what the last CONNACK said.
type Session struct {
	// Server is the address, Version the protocol, ClientID the identifier, which
	// the server may have assigned.
	Server   string
	Version  packet.Version
	ClientID string
	// Connack is the packet.
	Connack packet.Connack
	// TLS is the state of the TLS connection, nil: none.
	TLS *tls.ConnectionState
	// Local and Remote are the addresses of the connection.
	Local, Remote string
}

// Session tells of the last connection; ok is false before the first.
func (c *Client) Session() (s Session, ok bool) { return Session{}, false }

// Stats are counts since New.
type Stats struct {
	Connects          uint64 // CONNACKs with success
	Sent, Arrived     uint64 // messages, resent ones included
	BytesIn, BytesOut uint64
	PacketsIn         uint64
	PacketsOut        uint64
	Acknowledged      uint64 // messages of QoS 1 and 2 whose handshake is over
	Resent            uint64 // PUBLISH packets with DUP
	Duplicates        uint64 // QoS 2 messages that came again and were not handed out
	Unwanted          uint64 // messages without a handler
	Dropped           uint64 // messages that ended with ErrDropped or ErrExpired, or that broke with the connection at QoS 0
	Queued, Inflight  int    // now
	Waiting           int    // for handlers, now
}

// Stats tells the counts.
func (c *Client) Stats() Stats { return Stats{} }

// Request publishes m with a Response Topic and Correlation Data of its own and
// waits for the answer. Below 5.0, which has neither, the answer is awaited on
// the topic that ResponseTopicV3 tells, and requests to one topic go one after
// the other.
func (c *Client) Request(ctx context.Context, m *Message) (*Received, error) {
	return nil, ErrNotConnected
}

// Respond subscribes to filter and publishes what f returns to the request's
// Response Topic, with its Correlation Data; nil: nothing. Below 5.0 the answer
// goes to the topic that ResponseTopicV3 tells.
func (c *Client) Respond(ctx context.Context, filter Subscription, f func(*Received) *Message) error {
	return ErrNotConnected
}

// ResponseTopicV3 is where a request to the topic is answered by the convention
// for 3.1.1: the topic with /response behind it.
func ResponseTopicV3(topic string) string { return topic + "/response" }
