package broker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"time"

	"github.com/myelin-mqtt/myelin/internal/route"
	sess "github.com/myelin-mqtt/myelin/internal/session"
	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/store/disk"
	"github.com/myelin-mqtt/myelin/internal/transport"
	"github.com/myelin-mqtt/myelin/packet"
)

// Listener is one place where the broker listens.
type Listener struct {
	// URL is tcp://HOST:PORT, tls://HOST:PORT, unix:///PATH, or ws or
	// wss://HOST:PORT/PATH (path /mqtt where none is given). Port 0 takes a free
	// one.
	URL string
	// Access says who may connect by it.
	Access Access
	// TLS is for tls and wss, which need it. Its GetConfigForClient is the way to
	// change certificates while connections live.
	TLS *tls.Config
	// Identify takes the identity of a client from its certificate, before the
	// Authenticator is asked; nil: nothing is taken. The user name replaces the one
	// of the CONNECT; "" leaves that. The client identifier is given to a client
	// that sends none, and refuses one that sends another with reason code 0x85; ""
	// leaves it to the client. An error refuses the client with 0x87, and is
	// logged. It is called on a loop: it must return at once.
	Identify func(*tls.ConnectionState) (username, clientID string, err error)
	// CertificateEnd tells when the first of the listener's certificates ends, for
	// Stats and $SYS; nil: it is not known.
	CertificateEnd func() time.Time
}

// Access says who may connect by a listener. The zero value is everybody.
type Access = transport.Access

// same: what else changes of a listener, changes behind it.
func (l Listener) same(o Listener) bool {
	return l.URL == o.URL && (l.TLS == nil) == (o.TLS == nil) && reflect.DeepEqual(l.Access, o.Access)
}

// Strategy chooses the member of a shared subscription that gets a message.
type Strategy = route.Strategy

// The strategies of shared subscriptions.
const (
	RoundRobin    = route.RoundRobin
	Random        = route.Random
	Sticky        = route.Sticky
	LeastInflight = route.LeastInflight
)

// QueuePolicy is what happens to a message for a session whose queue is full.
type QueuePolicy = sess.Policy

// The policies of a full queue.
const (
	DropOldest = sess.DropOldest
	DropNew    = sess.DropNew
	Refuse     = sess.Refuse
)

// Options configure a Broker. The zero value of each field means its default.
type Options struct {
	// Listeners; none: tcp://127.0.0.1:1883 and ws://127.0.0.1:8083/mqtt,
	// unless NoListeners says that there are to be none.
	Listeners   []Listener
	NoListeners bool
	// IO is the connection layer: "reactor" (Linux), "goroutine", or "auto",
	// the default: the reactor where there is one.
	IO string
	// Loops is the number of reactor loops, 0: one a processor.
	Loops int

	// MaxConnections bounds the connections of all listeners, 0: no limit.
	MaxConnections int
	// ConnectTimeout is the time from accept to a whole CONNECT, default 10 s.
	ConnectTimeout time.Duration
	// MaxPacketSize is the largest packet that is read, in bytes with its
	// fixed header; default 1 MiB, at most 268,435,460.
	MaxPacketSize int
	// MaxConnectSize is the largest packet of a client that is not
	// authenticated, default 128 KiB.
	MaxConnectSize int
	// MaxKeepAlive is the longest keep alive that is granted, in seconds;
	// 0: whatever the client asks for. MQTT 5 clients are told
	// (Server Keep Alive); 3.x clients that ask for more are held to it.
	MaxKeepAlive uint16
	// ReceiveMaximum is how many QoS 1 and 2 messages of a client may be in
	// flight to the broker; default 1024. It is enforced for MQTT 5.
	ReceiveMaximum uint16
	// MaxInflight is how many QoS 1 and 2 messages may be in flight to a
	// client, whatever more its Receive Maximum allows; default 1024.
	MaxInflight uint16
	// MaxInflightBytes closes the window to a client at so many bytes of
	// topics and payloads; default 4 MiB.
	MaxInflightBytes int
	// TopicAliasMaximum is how many topic aliases a client may set, default
	// 64; -1: none.
	TopicAliasMaximum int
	// TopicAliasOutbound is how many topic aliases the broker assigns to a
	// client that allows them, default 32; -1: none.
	TopicAliasOutbound int
	// MaxTopicLevels bounds the levels of topic names and filters, 0: no limit.
	MaxTopicLevels int
	// MaxSubscriptions bounds the subscriptions of one session, 0: no limit.
	MaxSubscriptions int
	// MaxSessionExpiry caps the session expiry interval, in seconds; 0: no
	// cap. MQTT 5 clients are told.
	MaxSessionExpiry uint32
	// MaxOutboundBytes is how much may wait in a connection's out-queue before
	// a QoS 0 message to it is dropped; default 4 MiB.
	MaxOutboundBytes int
	// RefuseEmptyClientID refuses clients that leave the identifier to the broker.
	RefuseEmptyClientID bool

	// Queue bounds what waits for one session.
	Queue QueueOptions
	// Shared chooses the members of shared subscriptions, default RoundRobin.
	Shared Strategy
	// Retain bounds the retained messages.
	Retain RetainOptions

	// DataDir is the directory of what must survive: sessions, their queues,
	// retained messages. It is created with mode 0700. "": all of it is in memory.
	DataDir string
	// Durability is what an acknowledgement promises where there is a DataDir:
	// "fsync", the default, the disk has it; "async", the disk has it within a
	// second; "memory": nothing survives, and DataDir is not used.
	Durability string

	// MinFreeDisk is the free room, in bytes, on the disk of DataDir below which
	// it counts as full: messages that would have to be stored are refused until
	// there is a quarter more. 0: 64 MiB, but at most an eighth of the disk;
	// negative: the disk is full when it refuses a write.
	MinFreeDisk int64

	// SysInterval is the period of the $SYS topics, default 10 s; negative: off.
	SysInterval time.Duration
	// ShutdownGrace is how long Serve waits for connections to end once its
	// context is done; default 10 s.
	ShutdownGrace time.Duration
	// ResponseInformation is told to MQTT 5 clients that ask for it: a topic
	// prefix for responses. "" tells nothing.
	ResponseInformation string

	// Authenticator decides who may connect; nil: everybody.
	Authenticator Authenticator
	// Authorizer decides who may publish and subscribe where; nil: everybody
	// everywhere.
	Authorizer Authorizer
	// Events watches the broker.
	Events Events
	// Logger takes one line for each refused connection, refused packet and
	// class of dropped messages; nil: slog.Default().
	Logger *slog.Logger
	// dataFS is the file system of DataDir, nil: the operating system's.
	dataFS disk.FS
	// tuneDisk lets tests change how the store on disk is opened.
	tuneDisk func(*disk.Options)
	// wrapStore lets tests put something between the broker and its store.
	wrapStore func(store.Engine) store.Engine
	// Version is what $SYS/broker/version tells; "": "myelin".
	Version string
}

// QueueOptions bound what waits for one session.
type QueueOptions struct {
	// MaxMessages and MaxBytes (topics and payloads); default 10,000 and
	// 32 MiB; -1: no limit.
	MaxMessages, MaxBytes int
	// TotalMessages and TotalBytes bound the queues of all durable sessions
	// together; default 10,000,000 messages, and 1 GiB where they are in memory,
	// no limit where they are on disk; -1: no limit. DropOldest takes from the
	// longest queue then, and the other policies spare who is connected.
	TotalMessages, TotalBytes int
	// Policy of a full queue, default DropOldest.
	Policy QueuePolicy
	// QoS0 keeps QoS 0 messages for clients that are away, too, but for those
	// of shared subscriptions.
	QoS0 bool
}

// RetainOptions bound the retained messages.
type RetainOptions struct {
	// Disabled refuses retained messages and says so in the CONNACK.
	Disabled bool
	// MaxMessages and MaxBytes (topics and payloads), 0: no limit. A message
	// above them is delivered and not retained.
	MaxMessages int
	MaxBytes    int64
}

// Defaults of Options.
const (
	DefaultConnectTimeout     = 10 * time.Second
	DefaultMaxPacketSize      = 1 << 20
	DefaultMaxConnectSize     = 128 << 10
	DefaultReceiveMaximum     = 1024
	DefaultMaxInflight        = 1024
	DefaultMaxInflightBytes   = 4 << 20
	DefaultTopicAliasMaximum  = 64
	DefaultTopicAliasOutbound = 32
	DefaultMaxOutboundBytes   = 4 << 20
	DefaultQueueMessages      = 10_000
	DefaultQueueBytes         = 32 << 20
	DefaultTotalMessages      = 10_000_000
	DefaultTotalBytes         = 1 << 30 // in memory; on disk there is no limit
	DefaultSysInterval        = 10 * time.Second
	DefaultShutdownGrace      = 10 * time.Second
	// MaxPacketSize is the largest packet that the protocol has.
	MaxPacketSize = 268_435_455 + 5
)

// DefaultListeners are used where Options name none: the loopback only.
func DefaultListeners() []Listener {
	return []Listener{{URL: "tcp://127.0.0.1:1883"}, {URL: "ws://127.0.0.1:8083/mqtt"}}
}

// validate reports all faults at once.
func (o *Options) validate() error {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	switch o.IO {
	case "", "auto", "reactor", "goroutine":
	default:
		bad("IO: %q is none of auto, reactor, goroutine", o.IO)
	}
	for _, l := range o.Listeners {
		if err := transport.CheckURL(l.URL); err != nil {
			bad("Listeners: %s: %w", l.URL, err)
			continue
		}
		switch secure := strings.HasPrefix(l.URL, "tls:") || strings.HasPrefix(l.URL, "wss:"); {
		case secure && l.TLS == nil:
			bad("Listeners: %s: TLS is missing", l.URL)
		case !secure && (l.TLS != nil || l.Identify != nil):
			bad("Listeners: %s: TLS is for tls and wss", l.URL)
		}
	}
	if o.MaxPacketSize < 0 || o.MaxPacketSize > MaxPacketSize {
		bad("MaxPacketSize: %d is not between 1 and %d", o.MaxPacketSize, MaxPacketSize)
	}
	for _, x := range []struct {
		name     string
		is, from int
	}{
		{"Loops", o.Loops, 0}, {"MaxConnections", o.MaxConnections, 0}, {"ConnectTimeout", int(o.ConnectTimeout), 0},
		{"MaxConnectSize", o.MaxConnectSize, 0}, {"MaxInflightBytes", o.MaxInflightBytes, 0}, {"MaxTopicLevels", o.MaxTopicLevels, 0},
		{"MaxSubscriptions", o.MaxSubscriptions, 0}, {"MaxOutboundBytes", o.MaxOutboundBytes, 0}, {"ShutdownGrace", int(o.ShutdownGrace), 0},
		{"TopicAliasMaximum", o.TopicAliasMaximum, -1}, {"TopicAliasOutbound", o.TopicAliasOutbound, -1},
		{"Queue.MaxMessages", o.Queue.MaxMessages, -1}, {"Queue.MaxBytes", o.Queue.MaxBytes, -1},
		{"Queue.TotalMessages", o.Queue.TotalMessages, -1}, {"Queue.TotalBytes", o.Queue.TotalBytes, -1},
		{"Retain.MaxMessages", o.Retain.MaxMessages, 0}, {"Retain.MaxBytes", int(o.Retain.MaxBytes), 0},
	} {
		if x.is < x.from {
			bad("%s: %d is below %d", x.name, x.is, x.from)
		}
	}
	switch o.Durability {
	case "", "memory":
	case "fsync", "async":
		if o.DataDir == "" {
			bad("Durability: %q needs DataDir", o.Durability)
		}
	default:
		bad("Durability: %q is none of fsync, async, memory", o.Durability)
	}
	if o.TopicAliasMaximum > 65535 || o.TopicAliasOutbound > 65535 {
		bad("TopicAliasMaximum, TopicAliasOutbound: above 65535")
	}
	if o.Shared > LeastInflight {
		bad("Shared: there is no strategy %d", o.Shared)
	}
	if o.Queue.Policy > Refuse {
		bad("Queue.Policy: there is no policy %d", o.Queue.Policy)
	}
	return errors.Join(faults...)
}

// setDefaults fills what is zero.
func (o *Options) setDefaults() {
	if len(o.Listeners) == 0 && !o.NoListeners {
		o.Listeners = DefaultListeners()
	}
	def(&o.ConnectTimeout, DefaultConnectTimeout)
	def(&o.MaxPacketSize, DefaultMaxPacketSize)
	def(&o.MaxConnectSize, DefaultMaxConnectSize)
	def(&o.ReceiveMaximum, DefaultReceiveMaximum)
	def(&o.MaxInflight, DefaultMaxInflight)
	def(&o.MaxInflightBytes, DefaultMaxInflightBytes)
	def(&o.TopicAliasMaximum, DefaultTopicAliasMaximum)
	def(&o.TopicAliasOutbound, DefaultTopicAliasOutbound)
	def(&o.MaxOutboundBytes, DefaultMaxOutboundBytes)
	def(&o.Queue.MaxMessages, DefaultQueueMessages)
	def(&o.Queue.MaxBytes, DefaultQueueBytes)
	def(&o.Queue.TotalMessages, DefaultTotalMessages)
	def(&o.SysInterval, DefaultSysInterval)
	def(&o.ShutdownGrace, DefaultShutdownGrace)
	if o.Durability == "" {
		if o.Durability = "fsync"; o.DataDir == "" {
			o.Durability = "memory"
		}
	}
	if o.Durability == "memory" {
		def(&o.Queue.TotalBytes, DefaultTotalBytes)
	}
	o.MaxConnectSize = min(o.MaxConnectSize, o.MaxPacketSize)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Version == "" {
		o.Version = "myelin"
	}
}

// limits are the queue limits with 0 for none.
func (o *Options) limits() sess.Limits {
	return sess.Limits{
		Messages: max(o.Queue.MaxMessages, 0), Bytes: max(o.Queue.MaxBytes, 0), Policy: o.Queue.Policy,
		TotalMessages: int64(max(o.Queue.TotalMessages, 0)), TotalBytes: int64(max(o.Queue.TotalBytes, 0)),
	}
}

func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// inflight is the window to a client with this Receive Maximum [MQTT-3.3.4-9].
func (o *Options) inflight(c *packet.Connect) uint16 { return min(o.MaxInflight, c.ReceiveMax) }
