package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/myelin-mqtt/myelin/internal/dial"
	"github.com/myelin-mqtt/myelin/packet"
)

// Options say how a Client connects and what it keeps. The zero value is good
// but for the server, which Dial takes from its argument.
type Options struct {
	// Servers are the brokers' addresses, tried in this order: tcp://, mqtt://,
	// tls://, ssl://, mqtts://, ws://, wss:// or unix://. Ports: 1883, 8883, 80
	// and 443. User information in a URL counts where Username is empty.
	Servers []string

	// Version is the protocol, 0: 5.0, and 3.1.1 where the server has no 5.0.
	Version packet.Version
	// ClientID is the client identifier, empty: the server assigns one (5.0), or
	// the client makes one (3.1.1). With a Store it must not be empty.
	ClientID string
	// CleanStart begins with a new session when Connect is called. It does not
	// matter when the client comes back after that.
	CleanStart bool
	// SessionExpiry is how long the session outlives the connection, in whole
	// seconds, up to 0xFFFFFFFE; negative: for ever. 0: it ends with it, so that
	// what is in flight when the connection breaks is sent once more, as new.
	SessionExpiry time.Duration
	// KeepAlive is the longest silence, in whole seconds. 0: 60 s, negative: none.
	KeepAlive time.Duration
	// Username and Password go into the CONNECT; nil Password: none.
	Username string
	Password []byte
	// Credentials, if set, is asked at each connect instead.
	Credentials func(ctx context.Context) (username string, password []byte, err error)
	// Auth, if set, answers an enhanced authentication. 5.0 only.
	Auth Authenticator
	// Will is what the server publishes when the connection breaks; nil: nothing.
	Will *packet.Will
	// User are user properties of the CONNECT. 5.0 only.
	User []packet.UserProperty

	// ReceiveMaximum is how many QoS 1 and 2 messages the server may have in
	// flight to this client. 0: 256, and not more than Inbox. 5.0 only.
	ReceiveMaximum uint16
	// MaxInflight is how many this client has in flight at most, whatever more
	// the server allows. 0: 1024.
	MaxInflight uint16
	// MaxPacket is the longest packet to take, in bytes. 0: 16 MiB.
	MaxPacket uint32
	// TopicAliasMaximum is how many topic aliases the server may use to this
	// client. 0: 16, negative: none. 5.0 only.
	TopicAliasMaximum int
	// SendAliases is how many topic aliases this client uses, of those that the
	// server allows. 0: 16, negative: none. 5.0 only.
	SendAliases int

	// TLS is for tls:// and wss://; nil: the system's roots and the server's
	// name from the address. LoadTLS makes one from files.
	TLS *tls.Config
	// Dial, if set, makes the network connection instead of a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Header goes into the WebSocket upgrade.
	Header http.Header
	// Network is "tcp", "tcp4" or "tcp6"; empty: "tcp".
	Network string
	// ConnectTimeout limits one attempt, from the name to the CONNACK. 0: 10 s.
	ConnectTimeout time.Duration
	// AckTimeout is how long PINGRESP, SUBACK and the end of a close are awaited.
	// 0: 10 s.
	AckTimeout time.Duration

	// NoReconnect ends the client when its connection breaks.
	NoReconnect bool
	// RetryConnect has Connect try until its context ends. Otherwise it fails when
	// all servers have failed once.
	RetryConnect bool
	// MinBackoff and MaxBackoff are the waits between attempts: it doubles from
	// one to the other, and each is shortened by up to a half at random. 0: 250 ms and 30 s.
	MinBackoff, MaxBackoff time.Duration
	// OnState is told of each change, in order. It must not block, and may call
	// the client only from another goroutine.
	OnState func(StateEvent)

	// QueueMessages and QueueBytes (topics and payloads) limit the QoS 1 and 2
	// messages that wait for their turn or a connection. 0: 10,000 and 64 MiB.
	QueueMessages, QueueBytes int
	// QueueFull is what becomes of one too many. Default: Wait.
	QueueFull QueueFull
	// QueueQoS0 keeps QoS 0 messages too while there is no connection. Otherwise
	// they are refused then, with ErrNotConnected.
	QueueQoS0 bool
	// Store keeps the session in a file or elsewhere; nil: in memory.
	Store Store

	// Inbox is how many messages may wait for the handlers before the client
	// stops reading. 0: 256.
	Inbox int
	// ManualAck leaves it to the handlers to call Received.Ack.
	ManualAck bool
	// Inline calls the handlers on the goroutine that reads: nothing waits, and
	// a handler must neither block nor wait for this client.
	Inline bool
	// OnMessage gets what no subscription of this client asked for, such as what
	// a session had queued before Subscribe was called. nil: it is acknowledged
	// and counted in Stats.Unwanted.
	OnMessage Handler

	// Trace is told of packets and phases.
	Trace Trace
	// Log gets what the client notices. nil: nothing is logged.
	Log *slog.Logger
}

// QueueFull is what becomes of a message for which the queue has no room.
type QueueFull uint8

// What Publish does where the queue is full.
const (
	Wait       QueueFull = iota // until there is room, or its context ends
	Refuse                      // with ErrQueueFull
	DropOldest                  // the oldest that waits ends with ErrDropped
)

// Authenticator answers an enhanced authentication, [MQTT-4.12]. Its methods are
// called one after the other.
type Authenticator interface {
	// Method is the authentication method, such as SCRAM-SHA-256.
	Method() string
	// Start begins an exchange, at a connect or for Reauthenticate; data goes
	// into the CONNECT or AUTH, nil: none.
	Start(ctx context.Context) (data []byte, err error)
	// Continue answers the server's data.
	Continue(ctx context.Context, data []byte) (answer []byte, err error)
	// Finish judges the data that came with the server's success.
	Finish(ctx context.Context, data []byte) error
}

// State is what a client is doing.
type ConnState uint8

// The states of a client.
const (
	Idle       ConnState = iota // Connect was not called
	Connecting                  // an attempt is under way
	Connected                   // a CONNACK came
	Waiting                     // an attempt failed or the connection broke; the next comes after a wait
	Closed                      // for good
)

// StateEvent is a change of state.
type StateEvent struct {
	State ConnState
	// At is when, with a monotonic reading.
	At time.Time
	// Server is the address it is about; empty where it is about none.
	Server string
	// Err is why, where the state is Waiting or Closed; nil after Disconnect.
	Err error
	// Attempt counts the attempts since the last success, from 1.
	Attempt int
	// Retry is how long the wait is, where the state is Waiting.
	Retry time.Duration
	// SessionPresent: the server had the session, where the state is Connected.
	SessionPresent bool
}

// Limits that need no option.
const (
	windowBytes = 8 << 20   // topics and payloads in flight, after which a message waits
	outFull     = 256 << 10 // bytes for the connection, after which a message waits
	maxAliases  = 65535
)

// complete fills in the defaults, and says what is wrong.
func (o *Options) complete() (servers []server, err error) {
	if len(o.Servers) == 0 {
		return nil, errors.New("no server is given")
	}
	for _, s := range o.Servers {
		t, err := dial.Parse(s)
		if err != nil {
			return nil, err
		}
		if o.Username == "" && t.User != "" {
			o.Username = t.User
			if o.Password == nil && t.HasPassword {
				o.Password = []byte(t.Password)
			}
		}
		servers = append(servers, server{t.String(), t})
	}
	switch o.Version {
	case 0, packet.V311, packet.V5:
	default:
		return nil, fmt.Errorf("version %s is not one that the client speaks", o.Version)
	}
	if o.Store != nil && o.ClientID == "" {
		return nil, errors.New("a session that is stored needs a client identifier")
	}
	if o.SessionExpiry != 0 && o.ClientID == "" && o.Version == packet.V311 {
		return nil, errors.New("a session that outlives its connection needs a client identifier")
	}
	if o.Will != nil {
		if _, err := packet.NewPublish(&o.Will.Message, 0); err != nil {
			return nil, fmt.Errorf("check the will: %w", err)
		}
	}
	if o.KeepAlive == 0 {
		o.KeepAlive = time.Minute
	}
	if o.KeepAlive > 65535*time.Second {
		return nil, fmt.Errorf("keep alive of %s is more than the protocol's 65,535 s", o.KeepAlive)
	}
	def(&o.Inbox, 256)
	def(&o.ReceiveMaximum, uint16(min(o.Inbox, 256)))
	def(&o.MaxInflight, 1024)
	def(&o.MaxPacket, 16<<20)
	def(&o.TopicAliasMaximum, 16)
	def(&o.SendAliases, 16)
	o.TopicAliasMaximum = min(max(o.TopicAliasMaximum, 0), maxAliases)
	o.SendAliases = min(max(o.SendAliases, 0), maxAliases)
	def(&o.ConnectTimeout, 10*time.Second)
	def(&o.AckTimeout, 10*time.Second)
	def(&o.MinBackoff, 250*time.Millisecond)
	def(&o.MaxBackoff, 30*time.Second)
	o.MaxBackoff = max(o.MaxBackoff, o.MinBackoff)
	def(&o.QueueMessages, 10_000)
	def(&o.QueueBytes, 64<<20)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return servers, nil
}

// def sets what was left at zero.
func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// expiry is the Session Expiry Interval.
func (o *Options) expiry() uint32 {
	switch s := o.SessionExpiry / time.Second; {
	case o.SessionExpiry < 0:
		return 0xFFFFFFFF
	case s == 0 && o.SessionExpiry > 0:
		return 1
	default:
		return uint32(min(s, 0xFFFFFFFE))
	}
}
