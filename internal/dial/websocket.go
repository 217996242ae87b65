package dial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// upgrade makes a WebSocket of the connection, which it closes if that fails.
func (t Target) upgrade(ctx context.Context, below net.Conn, o Options) (net.Conn, error) {
	begin := time.Now()
	l := &link{Conn: below}
	ws, err := t.shakeHands(ctx, l, o.Header)
	l.open.Store(err == nil)
	o.tell(WebSocket, begin, remote(below, t), nil, err)
	if err != nil {
		_ = below.Close()
		place := t
		if path, _, ok := strings.Cut(t.Path, "?"); ok {
			place.Path = path + "?..." // a query may be a secret
		}
		return nil, fail(ctx, WebSocket, place.String(), err)
	}
	ws.SetReadLimit(-1) // a message may hold many packets, and is never held as a whole
	return &wsConn{link: l, ws: ws}, nil
}

// shakeHands asks for the upgrade over the connection that is there.
func (t Target) shakeHands(ctx context.Context, l *link, header http.Header) (*websocket.Conn, error) {
	var taken atomic.Bool
	transport := &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			if taken.Swap(true) {
				return nil, errors.New("connection was used up")
			}
			return l, nil
		},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
		ReadBufferSize:         2 << 10,
		WriteBufferSize:        2 << 10,
	}
	host := header.Get("Host")
	if host == "" {
		host = t.hostHeader()
	}
	// To the transport it is http in any case: TLS is below.
	address := "http" + strings.TrimPrefix(strings.TrimPrefix(t.String(), t.Scheme), "s")
	ws, _, err := websocket.Dial(ctx, address, &websocket.DialOptions{
		HTTPClient:   &http.Client{Transport: &judge{transport, l}},
		HTTPHeader:   header,
		Host:         host,
		Subprotocols: []string{"mqtt"}, // [MQTT-6.0.0-3]
	})
	if err == nil {
		return ws, nil
	}
	head := l.answer()
	if len(head) > 0 && !bytes.HasPrefix(head, []byte("HTTP/")[:min(len(head), 5)]) {
		return nil, &notHTTP{head: string(head)}
	}
	// Without what the library was doing.
	if u, ok := errors.AsType[*url.Error](err); ok {
		return nil, u.Err
	}
	if inner := errors.Unwrap(err); inner != nil {
		return nil, inner
	}
	return nil, err
}

// judge looks at the answer to the upgrade before the library does, which waits
// for the rest of one that it does not like, and goes where it is sent.
type judge struct {
	*http.Transport
	l *link
}

// RoundTrip asks, and refuses all but 101 with the subprotocol.
func (j *judge) RoundTrip(r *http.Request) (*http.Response, error) {
	a, err := j.Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, ok := a.Body.(io.ReadWriteCloser)
	switch {
	case a.StatusCode != http.StatusSwitchingProtocols:
		// What the body says helps, and is not worth a wait.
		_ = j.l.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		err = statusError(a)
	case a.Header.Get("Sec-WebSocket-Protocol") != "mqtt": // [MQTT-6.0.0-4]
		err = ErrSubprotocol
	case ok:
		a.Body = &upgraded{body, j.l}
		return a, nil
	}
	_ = a.Body.Close()
	return nil, err
}

// upgraded is what is below the WebSocket: nothing, until the upgrade is over.
type upgraded struct {
	io.ReadWriteCloser
	l *link
}

func (u *upgraded) Read(p []byte) (int, error) {
	if !u.l.open.Load() {
		return 0, io.EOF
	}
	return u.ReadWriteCloser.Read(p)
}

// hostHeader is the host, and the port where it is not the scheme's.
func (t Target) hostHeader() string {
	host, _, _ := strings.Cut(t.Host, "%")
	if _, port := scheme(t.Scheme); port != t.Port {
		return net.JoinHostPort(host, t.Port)
	}
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// link is the connection below a WebSocket.
type link struct {
	net.Conn
	open atomic.Bool // the upgrade is over

	mu   sync.Mutex // guards what follows
	head []byte     // how the answer to the upgrade begins

	out    sync.Mutex // guards what follows
	corked bool       // writes are gathered
	buf    []byte
}

const (
	// chunk is how much of a message the library masks and writes at a time, less
	// the header.
	chunk = 4<<10 - 14
	// gathered is how much of a longer message is written at a time.
	gathered = 64 << 10
)

// Read reads, and keeps the first bytes of the answer to the upgrade.
func (l *link) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if !l.open.Load() {
		l.mu.Lock()
		l.head = append(l.head, p[:min(n, 8-len(l.head))]...)
		l.mu.Unlock()
	}
	return n, err
}

// answer is how the answer to the upgrade begins, up to 8 bytes.
func (l *link) answer() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.head)
}

// Write writes, or gathers what is to be written.
func (l *link) Write(p []byte) (int, error) {
	l.out.Lock()
	defer l.out.Unlock()
	if !l.corked {
		return l.Conn.Write(p)
	}
	if len(l.buf)+len(p) > gathered {
		if err := l.flush(); err != nil {
			return 0, err
		}
	}
	l.buf = append(l.buf, p...)
	return len(p), nil
}

func (l *link) flush() error {
	_, err := l.Conn.Write(l.buf)
	l.buf = l.buf[:0]
	return err
}

// cork begins to gather.
func (l *link) cork() {
	l.out.Lock()
	l.corked = true
	l.out.Unlock()
}

// uncork writes what is gathered.
func (l *link) uncork() error {
	l.out.Lock()
	defer l.out.Unlock()
	l.corked = false
	if len(l.buf) == 0 {
		return nil
	}
	return l.flush()
}

// slim lets go of the buffer.
func (l *link) slim() {
	l.out.Lock()
	l.buf = nil
	l.out.Unlock()
}

// wsConn is a stream over a WebSocket.
type wsConn struct {
	link   *link
	ws     *websocket.Conn
	closed atomic.Bool

	in      sync.Mutex // guards what follows
	message io.Reader  // what is left of the message that is being read
	inErr   error      // what ended reading

	out    sync.Mutex // guards what follows
	outErr error      // what ended writing

	writing atomic.Int32
}

// Read gives what the messages hold, of one message at a time.
func (c *wsConn) Read(p []byte) (int, error) {
	c.in.Lock()
	defer c.in.Unlock()
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	if c.inErr != nil || len(p) == 0 {
		return 0, c.inErr
	}
	for {
		if c.message == nil {
			kind, r, err := c.ws.Reader(context.Background())
			if err != nil {
				c.inErr = c.reason("read", err, io.EOF)
				return 0, c.inErr
			}
			if kind != websocket.MessageBinary { // [MQTT-6.0.0-1]
				c.inErr = errors.New("server sent a text message, and MQTT is binary")
				c.shut(websocket.StatusUnsupportedData, "MQTT is binary")
				return 0, c.inErr
			}
			c.message = r
		}
		n, err := c.message.Read(p)
		switch {
		case err == io.EOF:
			c.message = nil
		case err != nil:
			c.inErr = c.reason("read", err, io.ErrUnexpectedEOF)
			return n, c.inErr
		}
		if n > 0 {
			return n, nil
		}
	}
}

// Write sends one binary message.
func (c *wsConn) Write(p []byte) (int, error) {
	c.writing.Add(1)
	defer c.writing.Add(-1)
	c.out.Lock()
	defer c.out.Unlock()
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	if c.outErr != nil || len(p) == 0 {
		return 0, c.outErr
	}
	if err := c.send(p); err != nil {
		// How much of it left is not known, so that nothing can follow.
		c.outErr = c.reason("write", err, io.ErrClosedPipe)
		return 0, c.outErr
	}
	return len(p), nil
}

// send gathers a long message: the library would write it in pieces of 4 KiB.
func (c *wsConn) send(p []byte) error {
	if len(p) <= chunk {
		if c.link.buf != nil {
			c.link.slim()
		}
		return c.ws.Write(context.Background(), websocket.MessageBinary, p) // [MQTT-6.0.0-1]
	}
	c.link.cork()
	err := c.ws.Write(context.Background(), websocket.MessageBinary, p)
	if e := c.link.uncork(); err == nil {
		err = e
	}
	return err
}

// reason makes of the library's error what a net.Conn would say; end is what
// the connection's end is called here.
func (c *wsConn) reason(verb string, err, end error) error {
	var closed websocket.CloseError
	switch {
	case c.closed.Load():
		return net.ErrClosed
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	case errors.As(err, &closed):
		switch closed.Code {
		case websocket.StatusNormalClosure, websocket.StatusGoingAway, websocket.StatusNoStatusRcvd:
			return io.EOF
		}
		return fmt.Errorf("%s: server closed the WebSocket with code %d %q", verb, closed.Code, closed.Reason)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return end
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(inner) {
		if _, ok := inner.(*net.OpError); ok {
			return inner
		}
	}
	return fmt.Errorf("%s: %w", verb, err)
}

// Close says goodbye, without waiting for the answer, and closes.
func (c *wsConn) Close() error {
	return c.shut(websocket.StatusNormalClosure, "")
}

// shut closes with the code. It does not wait: a Read or Write that is under way
// ends at once.
func (c *wsConn) shut(code websocket.StatusCode, text string) error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	// The library waits for the answer: until the deadline, which is over.
	late := c.link.SetReadDeadline(time.Unix(1, 0))
	if err := c.link.SetWriteDeadline(time.Now().Add(goodbye)); err != nil || late != nil || c.writing.Load() > 0 {
		// The message that is being written cannot be completed, or a goodbye
		// could take long.
		err := c.link.Close()
		_ = c.ws.CloseNow()
		return err
	}
	_ = c.ws.Close(code, text)
	_ = c.link.Close()
	return nil
}

// goodbye is how long the close frame may take to leave.
const goodbye = time.Second

// LocalAddr is the network connection's.
func (c *wsConn) LocalAddr() net.Addr { return c.link.LocalAddr() }

// RemoteAddr is the network connection's.
func (c *wsConn) RemoteAddr() net.Addr { return c.link.RemoteAddr() }

// SetDeadline sets both deadlines.
func (c *wsConn) SetDeadline(t time.Time) error { return c.set(c.link.SetDeadline, t) }

// SetReadDeadline limits Read. Reading is over when it passes within one.
func (c *wsConn) SetReadDeadline(t time.Time) error { return c.set(c.link.SetReadDeadline, t) }

// SetWriteDeadline limits Write. Writing is over when it passes within one.
func (c *wsConn) SetWriteDeadline(t time.Time) error { return c.set(c.link.SetWriteDeadline, t) }

func (c *wsConn) set(deadline func(time.Time) error, t time.Time) error {
	if c.closed.Load() {
		return net.ErrClosed
	}
	return deadline(t)
}
