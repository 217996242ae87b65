// Package dial makes the network connection of an MQTT client: it reads a
// broker's URL, resolves the name, connects over TCP, TLS, WebSocket or a Unix
// socket, and times each of these phases. It holds no MQTT.
//
// Start with Parse and Target.Dial.
package dial

import (
	"context"
	"crypto/tls"
	"errors"
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
	// Err is why it failed, nil: it did not.
	Err error
	// State is the TLS connection's, nil: none, or it failed before there was one.
	State *tls.ConnectionState
}

// Options say how to connect.
type Options struct {
	// TLS is for tls and wss; nil: the system's roots. ServerName is the URL's
	// host where it is empty.
	TLS *tls.Config
	// Dial, if set, makes the connection below TLS and WebSocket; the phases DNS
	// and TCP are then one TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Header goes into the WebSocket upgrade.
	Header http.Header
	// Network is "tcp", "tcp4" or "tcp6"; empty: "tcp".
	Network string
	// Phase, if set, is told of each phase when it is over.
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

// Dial connects. Errors wrap with the phase that failed.
func (t Target) Dial(ctx context.Context, o Options) (net.Conn, error) {
	return nil, errors.New("not built yet")
}

// Parse reads a URL, or host or host:port, which is tcp.
func Parse(s string) (Target, error) { return Target{}, errors.New("not built yet") }
