// Package dial makes the network connection of an MQTT client: it reads a
// broker's URL, resolves the name, connects over TCP, TLS, WebSocket or a Unix
// socket, and times each of these phases. It holds no MQTT, uses no proxy, and
// does not try twice.
//
// Start with Parse in parse.go and Target.Dial here. Then tcp.go (names and
// addresses), tls.go, websocket.go, errors.go (what failed) and hint.go (what to
// try).
// LoadTLS in files.go makes a TLS configuration from files.
package dial

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Phase is a step of making a connection.
type Phase uint8

// The phases, in their order.
const (
	DNS Phase = iota + 1
	TCP
	TLS
	WebSocket
)

// String is "dns", "tcp", "tls" or "websocket".
func (p Phase) String() string {
	switch p {
	case DNS:
		return "dns"
	case TCP:
		return "tcp"
	case TLS:
		return "tls"
	case WebSocket:
		return "websocket"
	}
	return "none"
}

// Event is a phase that is over. A connection over TCP to a name has DNS and
// one TCP for each address that was tried; a Unix socket's connect is TCP, too.
type Event struct {
	Phase Phase
	// Begin and End have monotonic readings.
	Begin, End time.Time
	// Address is the name that was resolved, or the address and port of the others.
	Address string
	// Err is why it failed, nil: it did not. An attempt that a faster one made
	// needless has ErrSlower.
	Err error
	// State is the TLS connection's, nil: none, or it failed before there was one.
	// Where the certificate is what failed, PeerCertificates are those that the
	// server showed.
	State *tls.ConnectionState
}

// Options say how to connect.
type Options struct {
	// TLS is for tls and wss; nil: the system's roots. ServerName is the URL's
	// host where it is empty, MinVersion TLS 1.2 where it is 0.
	TLS *tls.Config
	// Dial, if set, makes the connection below TLS and WebSocket; the phases DNS
	// and TCP are then one TCP. It is to return when its context ends.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Header goes into the WebSocket upgrade.
	Header http.Header
	// Network is "tcp", "tcp4" or "tcp6"; empty: "tcp".
	Network string
	// Resolver looks up names; nil: the system's.
	Resolver *net.Resolver
	// Phase, if set, is told of each phase when it is over, from the goroutine
	// that called Target.Dial.
	Phase func(Event)
}

// Target is a broker's address.
type Target struct {
	// Scheme is tcp, tls, ws, wss or unix: mqtt is tcp; mqtts and ssl are tls.
	Scheme string
	// Host and Port are where to connect, Path the WebSocket's with its query, or
	// the Unix socket's.
	Host, Port, Path string
	// User and Password are the URL's; HasPassword tells an empty one from none.
	User, Password string
	HasPassword    bool
}

// Dial connects. When ctx ends, so does what it waits for, and nothing stays
// behind; a connection that was made is independent of ctx. What failed is an
// *Error. TCP connections have Nagle's algorithm off and keep-alive on.
//
// A connection over WebSocket is a stream of bytes: each Write is a message,
// Read gives their bytes one after the other, and a deadline that passes within
// one ends the connection.
func (t Target) Dial(ctx context.Context, o Options) (net.Conn, error) {
	secure, web, err := t.layers(o)
	if err != nil {
		return nil, err
	}
	conn, err := t.connect(ctx, o)
	if err != nil {
		return nil, err
	}
	if secure {
		if conn, err = t.handshake(ctx, conn, o); err != nil {
			return nil, err
		}
	}
	if web {
		return t.upgrade(ctx, conn, o)
	}
	return conn, nil
}

// layers says what is above the TCP connection, and checks what a program may
// have filled in without Parse.
func (t Target) layers(o Options) (secure, web bool, err error) {
	switch o.Network {
	case "", "tcp", "tcp4", "tcp6":
	default:
		return false, false, fmt.Errorf("network %q: it is tcp, tcp4 or tcp6", o.Network)
	}
	switch t.Scheme {
	case "unix":
		if t.Path == "" {
			return false, false, fmt.Errorf("unix address without a path")
		}
		return false, false, nil
	case "tcp":
	case "tls":
		secure = true
	case "ws":
		web = true
	case "wss":
		secure, web = true, true
	default:
		return false, false, fmt.Errorf("unknown scheme %q", t.Scheme)
	}
	if t.Host == "" || t.Port == "" {
		return false, false, fmt.Errorf("%s address without host or port", t.Scheme)
	}
	return secure, web, nil
}

// tell tells of a phase that began at begin and is over now.
func (o *Options) tell(p Phase, begin time.Time, address string, state *tls.ConnectionState, err error) {
	if o.Phase != nil {
		o.Phase(Event{Phase: p, Begin: begin, End: time.Now(), Address: address, State: state, Err: err})
	}
}

// State is the state of the TLS connection that c is, or that a WebSocket
// stands on; nil: there is none.
func State(c net.Conn) *tls.ConnectionState {
	if w, ok := c.(*wsConn); ok {
		c = w.link.Conn
	}
	if t, ok := c.(*tls.Conn); ok {
		s := t.ConnectionState()
		return &s
	}
	return nil
}
