package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ListenOptions are the settings of one listener.
type ListenOptions struct {
	// Mode is the permission of a Unix socket. Default: what the umask leaves.
	Mode fs.FileMode
	// MaxConns is the most connections at a time by this listener. Default: no limit.
	MaxConns int
	// Access says who may connect. Default: everybody.
	Access Access
	// Data is the handler's, see Listener.Data.
	Data any
	// TLS is for tls and wss, which need it. GetConfigForClient is the way to change certificates while connections live.
	TLS *tls.Config
}

// Access says who may connect by a listener, before anything is said. The zero value is everybody. It does not matter for
// a Unix socket.
type Access struct {
	// Allow and Deny say which addresses may connect: none of Deny, and where Allow is not empty, those of Allow only.
	Allow, Deny []netip.Prefix
	// MaxConnsPerAddr is the most connections at a time from one address, of IPv6 from one network of 64 bits.
	// Default: no limit.
	MaxConnsPerAddr int
	// Rate is how many connections a second are taken, and RatePerAddr how many from one address, each up to a second's
	// worth at once. Default: no limit.
	Rate, RatePerAddr float64
	// Proxies are the addresses whose connections begin with a PROXY header, of version 1 or 2: it tells the address that
	// counts. From all others such a header is garbage.
	Proxies []netip.Prefix
}

// Listener is a socket that accepts connections.
type Listener struct {
	s       *Server
	url     string
	o       ListenOptions
	ln      net.Listener
	addr    net.Addr
	dup     *os.File // reactor: what is accepted from; ln is closed
	unix    bool
	gate    gate
	secure  bool        // TLS
	path    string      // of the WebSocket upgrade; empty: no WebSocket
	file    fs.FileInfo // of the Unix socket, to remove no other
	sockets atomic.Int64
	closing chan struct{}
	closed  atomic.Bool
	once    sync.Once
}

// Listen opens a listener and accepts from it until it or the Server is closed. The URL is one of
//
//	tcp://host:port
//	tls://host:port
//	ws://host:port/path   path defaults to /mqtt
//	wss://host:port/path
//	unix:///path          a socket that nobody listens on is replaced
func (s *Server) Listen(rawURL string, o ListenOptions) (*Listener, error) {
	ln := &Listener{s: s, url: rawURL, o: o, closing: make(chan struct{})}
	ln.gate.o = &ln.o.Access
	if err := ln.open(rawURL); err != nil {
		return nil, fmt.Errorf("listen %s: %w", rawURL, err)
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = ln.closeSocket()
		return nil, fmt.Errorf("listen %s: %w", rawURL, ErrServerClosed)
	}
	s.listeners[ln] = struct{}{}
	s.connWG.Go(func() { s.drv.accept(ln) })
	s.mu.Unlock()
	return ln, nil
}

// CheckURL says what is wrong with the URL of a listener, as far as that can be told without opening it.
func CheckURL(rawURL string) error {
	_, err := parseURL(rawURL)
	return err
}

// maxSocketPath is the longest path of a Unix socket that systems have in common.
const maxSocketPath = 103

func parseURL(rawURL string) (*url.URL, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, err
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("nothing but host and path is allowed")
	}
	switch u.Scheme {
	case "tcp", "tls":
		if u.Path != "" && u.Path != "/" {
			return nil, fmt.Errorf("%s takes no path", u.Scheme)
		}
	case "ws", "wss":
	case "unix":
		switch n := len(u.Host + u.Path); {
		case n == 0:
			return nil, errors.New("unix wants a path")
		case n > maxSocketPath:
			return nil, fmt.Errorf("path of the socket is longer than %d bytes", maxSocketPath)
		}
		return u, nil
	default:
		return nil, fmt.Errorf("unknown scheme %q: want tcp, tls, ws, wss or unix", u.Scheme)
	}
	if u.Port() == "" {
		return nil, errors.New("port is missing")
	}
	return u, nil
}

func (ln *Listener) open(rawURL string) error {
	u, err := parseURL(rawURL)
	if err != nil {
		return err
	}
	switch u.Scheme {
	case "unix":
		ln.unix = true
		return ln.openUnix(u.Host + u.Path)
	case "ws", "wss":
		if ln.path = u.EscapedPath(); ln.path == "" || ln.path == "/" && !strings.HasSuffix(rawURL, "/") {
			ln.path = "/mqtt"
		}
	}
	if ln.secure = u.Scheme == "tls" || u.Scheme == "wss"; ln.secure && ln.o.TLS == nil {
		return errors.New("a certificate is missing")
	}
	if ln.ln, err = net.Listen("tcp", u.Host); err != nil {
		return cause(err)
	}
	return ln.ready()
}

// cause is err without the address, which Listen says.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// openUnix binds path. A socket left behind by a process that is gone is removed first, under a lock that keeps two
// starters from removing each other's.
func (ln *Listener) openUnix(path string) error {
	unlock := lockDir(path)
	defer unlock()
	if fi, err := os.Lstat(path); err == nil && fi.Mode().Type() != fs.ModeSocket {
		return errors.New("a file that is no socket is in the way")
	}
	l, err := net.Listen("unix", path)
	if errors.Is(err, syscall.EADDRINUSE) && stale(path) {
		if err = os.Remove(path); err == nil {
			l, err = net.Listen("unix", path)
		}
	}
	if err != nil {
		return cause(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.ln = l
	ln.addr = l.Addr()
	if ln.file, err = os.Lstat(path); err == nil && ln.o.Mode != 0 {
		err = os.Chmod(path, ln.o.Mode.Perm())
	}
	if err == nil {
		err = ln.ready()
	}
	if err != nil {
		_ = ln.closeSocket()
	}
	return err
}

// ready prepares the socket for accept.
func (ln *Listener) ready() error {
	ln.addr = ln.ln.Addr()
	return ln.s.drv.listen(ln)
}

// stale says that path is a socket that nobody listens on.
func stale(path string) bool {
	fi, err := os.Lstat(path)
	if err != nil || fi.Mode().Type() != fs.ModeSocket {
		return false
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// URL returns the URL that the listener was opened with.
func (ln *Listener) URL() string { return ln.url }

// Data returns what ListenOptions had for the handler.
func (ln *Listener) Data() any { return ln.o.Data }

// Addr returns the address that the listener is bound to, with the real port.
func (ln *Listener) Addr() net.Addr { return ln.addr }

// Close stops accepting and removes a Unix socket. Connections live on.
func (ln *Listener) Close() error {
	ln.s.mu.Lock()
	delete(ln.s.listeners, ln)
	ln.s.mu.Unlock()
	return ln.closeSocket()
}

func (ln *Listener) closeSocket() (err error) {
	ln.once.Do(func() {
		ln.closed.Store(true)
		close(ln.closing)
		if ln.file != nil {
			path := ln.addr.String()
			if fi, e := os.Lstat(path); e == nil && os.SameFile(fi, ln.file) {
				_ = os.Remove(path)
			}
		}
		if ln.dup != nil {
			err = ln.dup.Close()
		} else {
			err = ln.ln.Close()
		}
	})
	return err
}

// proxied says that the connections of an address begin with a PROXY header.
func (ln *Listener) proxied(a netip.Addr) bool {
	return len(ln.o.Access.Proxies) > 0 && contains(ln.o.Access.Proxies, a.Unmap().WithZone(""))
}

func (ln *Listener) isClosed() bool { return ln.closed.Load() }

// backOff waits after a failed accept, twice as long each time, until the listener is closed: with no descriptor left
// accept would fail again at once, for ever.
func (ln *Listener) backOff(delay time.Duration, why error) time.Duration {
	ln.s.accFail.Add(1)
	delay = min(max(2*delay, 10*time.Millisecond), time.Second)
	ln.s.log.Warn("accept failed", "listener", ln.url, "error", why, "retry", delay)
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ln.closing:
	}
	return delay
}

// refuse counts and reports a connection that ended before Open.
func (s *Server) refuse(ln *Listener, addr string, why error) {
	var shake *tlsError
	switch {
	case why == ErrTooMany:
		s.refLimit.Add(1)
	case why == ErrTimeout:
		s.refTime.Add(1)
	case why == io.EOF || why == errReset:
		s.refEOF.Add(1)
	case why == ErrDenied || why == ErrTooManyOfAddress || why == ErrTooFast:
		s.refAddr.Add(1)
	case why == ErrHandshakes || errors.As(why, &shake):
		s.refTLS.Add(1)
	default:
		s.refOther.Add(1)
	}
	s.h.Refused(ln, addr, why)
}
