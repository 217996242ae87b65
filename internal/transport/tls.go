package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	sealSize  = 64 << 10 // plaintext that is encrypted at once: ciphertext waits for the socket, plaintext for its turn
	inboxMost = 32 << 10 // what may wait for a handshake that computes
)

// ErrHandshakes ends a connection that would begin one TLS handshake too many.
var ErrHandshakes = errors.New("too many TLS handshakes at a time")

// tlsConn is the TLS layer of one connection. It is the net.Conn of its tls.Conn: Read gives what the owner has just
// read from the socket, Write adds to the ciphertext that the writer sends. The descriptor stays with the owner: a
// handshake runs on a goroutine of its own over what is in memory.
type tlsConn struct {
	tc *tls.Conn
	c  *Conn

	// The owner's; during the handshake its goroutine reads from hs instead.
	in   []byte // read from the socket and not taken yet
	rest []byte // of in, kept while the input is paused
	eof  bool   // the peer is done sending, and what came before is still to be fed
	safe bool   // the handshake has succeeded

	// Under the connection's mu.
	bye bool // close_notify is due after everything else

	// The writer's.
	say bool // and is due now

	mu      sync.Mutex // innermost
	wire    []byte     // ciphertext in the order of encryption
	sending []byte     // the part that the writer is at, before wire
	hs      *handshake // nil when it is over and the owner knows
}

// handshake is what there is until a handshake is done.
type handshake struct {
	inbox   []byte
	some    sync.Cond // of tlsConn.mu: inbox, eof or err has changed
	eof     bool
	err     error // abort with it
	started bool
	full    bool // the owner has stopped reading
	done    bool
	result  error
}

// tlsError ends a connection whose handshake failed.
type tlsError struct{ err error }

func (e *tlsError) Error() string { return "tls handshake: " + e.err.Error() }
func (e *tlsError) Unwrap() error { return e.err }

func newTLS(c *Conn, cfg *tls.Config) *tlsConn {
	l := &tlsConn{c: c, hs: &handshake{}}
	l.hs.some.L = &l.mu
	l.tc = tls.Server(l, cfg)
	return l
}

func (c *Conn) tls() *tlsConn {
	if c.x == nil {
		return nil
	}
	return c.x.tls
}

// TLS returns the state of the connection's TLS, nil if it has none. It is complete from Open on.
func (c *Conn) TLS() *tls.ConnectionState {
	l := c.tls()
	if l == nil {
		return nil
	}
	s := l.tc.ConnectionState()
	return &s
}

// errAgain says that there is nothing to read now. A tls.Conn does not take a temporary error as the end.
type errAgain struct{}

func (errAgain) Error() string   { return "nothing to read now" }
func (errAgain) Timeout() bool   { return true }
func (errAgain) Temporary() bool { return true }

// Read implements net.Conn.
func (l *tlsConn) Read(p []byte) (int, error) {
	l.mu.Lock()
	h := l.hs
	if h == nil || h.done {
		l.mu.Unlock()
		if len(l.in) == 0 {
			return 0, errAgain{}
		}
		n := copy(p, l.in)
		l.in = l.in[n:]
		return n, nil
	}
	for len(h.inbox) == 0 && !h.eof && h.err == nil {
		h.some.Wait()
	}
	defer l.mu.Unlock()
	switch {
	case h.err != nil:
		return 0, h.err
	case len(h.inbox) == 0:
		return 0, io.EOF
	}
	n := copy(p, h.inbox)
	h.inbox = append(h.inbox[:0], h.inbox[n:]...)
	if h.full && len(h.inbox) < inboxMost {
		h.full = false
		l.c.post(doShake)
	}
	return n, nil
}

// Write implements net.Conn. A tls.Conn calls it in the order of encryption.
func (l *tlsConn) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.wire) > wireMost {
		return 0, errors.New("the peer has answers sent and does not read them")
	}
	l.wire = append(l.wire, p...)
	if l.hs != nil {
		l.c.post(doFlush)
	}
	return len(p), nil
}

// wireMost is how much ciphertext may wait: the writer sends what it encrypts before it goes on, so that only answers to
// what a peer sends, such as updates of the key, can become so many.
const wireMost = 512 << 10

// The rest of net.Conn: time, addresses and the end are the connection's.

func (l *tlsConn) Close() error                     { return nil }
func (l *tlsConn) LocalAddr() net.Addr              { return l.c.lis.addr }
func (l *tlsConn) RemoteAddr() net.Addr             { return net.TCPAddrFromAddrPort(l.c.Peer()) }
func (l *tlsConn) SetDeadline(time.Time) error      { return nil }
func (l *tlsConn) SetReadDeadline(time.Time) error  { return nil }
func (l *tlsConn) SetWriteDeadline(time.Time) error { return nil }

// tlsReadable is readable for a TLS connection.
func (c *Conn) tlsReadable(t *Turn) after {
	l := c.x.tls
	if l.shaking() && l.isFull() {
		return stopped
	}
	raw := t.rawBuffer()
	n, err := c.l.s.drv.read(c, raw)
	switch {
	case err == syscall.EAGAIN:
		return drained
	case err != nil:
		c.fail(t, fmt.Errorf("read: %w", err))
		return stopped
	case n == 0:
		c.tlsEOF(t)
		return stopped
	}
	t.in += uint64(n)
	if l.shaking() {
		l.feedHandshake(t, raw[:n])
	} else {
		c.tlsInput(t, raw[:n])
	}
	if poison {
		spoil(raw[:n])
	}
	switch {
	case c.pause != running || c.ended:
		return stopped
	case n == len(raw) || c.hup || c.x.g != nil:
		return more
	}
	return drained
}

// shaking says that the handshake is not over.
func (l *tlsConn) shaking() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hs != nil
}

// isFull says that the handshake has more to read than it should, and has the owner told when it has not.
func (l *tlsConn) isFull() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hs.full = len(l.hs.inbox) >= inboxMost
	return l.hs.full
}

// tlsEOF takes the end of the socket's input. What a peer said before it is not lost: one that is short of time sends its
// Finished, its messages and the end in one go.
func (c *Conn) tlsEOF(t *Turn) {
	l := c.x.tls
	c.eof = true
	l.mu.Lock()
	if h := l.hs; h != nil && h.started {
		h.eof = true
		h.some.Broadcast()
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	c.end(t, io.EOF)
}

// feedHandshake gives what was read to the handshake, and begins it with the first byte.
func (l *tlsConn) feedHandshake(t *Turn, b []byte) {
	s := l.c.l.s
	l.mu.Lock()
	h := l.hs
	h.inbox = append(h.inbox, b...)
	if h.started {
		h.some.Broadcast()
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	select {
	case s.shakes <- struct{}{}:
	default:
		l.c.end(t, ErrHandshakes)
		return
	}
	h.started = true
	s.connWG.Go(func() {
		err := l.tc.Handshake()
		<-s.shakes
		l.mu.Lock()
		h.done, h.result = true, err
		l.mu.Unlock()
		l.c.post(doShake)
	})
}

// shaken goes on where the handshake has ended, or has made room.
func (c *Conn) shaken(t *Turn) {
	l := c.x.tls
	l.mu.Lock()
	h := l.hs
	if h == nil || !h.done {
		l.mu.Unlock()
		if h != nil {
			c.l.s.drv.readOn(t, c)
		}
		return
	}
	l.hs = nil
	rest, eof := h.inbox, h.eof
	l.mu.Unlock()
	if h.result != nil {
		c.eof = eof
		c.end(t, &tlsError{h.result})
		return
	}
	l.trim()
	l.eof, l.safe = eof, true
	c.tlsInput(t, rest)
	if !c.ended && c.pause == running && !l.eof {
		c.l.s.drv.readOn(t, c)
	}
}

// abort ends a handshake that is under way. Its goroutine is waited for by the Server.
func (l *tlsConn) abort(err error) {
	l.mu.Lock()
	if h := l.hs; h != nil {
		if h.err == nil {
			h.err = err
		}
		h.some.Broadcast()
	}
	l.mu.Unlock()
}

// tlsInput decrypts b, and what an earlier pause has left in the tls.Conn, and feeds it.
func (c *Conn) tlsInput(t *Turn, b []byte) {
	l := c.x.tls
	l.in = b
	for c.pause == running && !c.ended {
		buf, k := c.place(t)
		n, err := k, error(nil)
		for n < len(buf) && err == nil {
			var m int
			m, err = l.tc.Read(buf[n:])
			n += m
		}
		if n > k {
			c.input(t, buf[:n], k)
		}
		if err == nil {
			continue
		}
		if _, again := err.(errAgain); again {
			break
		}
		if c.pause != running || c.ended {
			break // the error comes again
		}
		if err != io.EOF {
			err = fmt.Errorf("tls: %w", err)
		}
		c.end(t, err)
	}
	l.rest = nil
	if len(l.in) > 0 && !c.ended {
		l.rest = append([]byte(nil), l.in...)
	}
	l.in = nil
	if l.eof && !c.ended && c.pause == running {
		c.end(t, io.EOF)
	}
	l.trim()
	c.mu.Lock() // what Read had to answer
	if !c.gone && l.unsent() {
		c.touch(t)
	}
	c.mu.Unlock()
}

// unsent says that there is ciphertext to write.
func (l *tlsConn) unsent() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.wire)+len(l.sending) > 0
}

// take moves what is due after the queue to the writer. The caller holds the connection's mu.
func (l *tlsConn) take(last bool) {
	if l.bye && last {
		l.bye, l.say = false, true
	}
}

// pending says that something is to be written beside the queue. The caller holds the connection's mu.
func (l *tlsConn) pending() bool { return l.bye || l.unsent() }

// tlsWrite is write for a TLS connection: it encrypts a part of the queue, and sends that before it goes on to the next.
func (c *Conn) tlsWrite(t *Turn, q *chunk, n int) (rest *chunk, done int, err error) {
	l, w := c.x.tls, c.ws()
	for {
		if err := l.send(t); err != nil {
			return q, done, err
		}
		if done >= c.l.s.most || l.shaking() {
			return q, done, nil
		}
		var bufs [][]byte
		if w == nil {
			bufs = gather(t.bufs[:0], q, sealSize)
		} else {
			bufs = gather(w.begin(t.bufs[:0], n-done), q, min(w.left, sealSize))
		}
		if len(bufs) == 0 {
			if !l.say {
				return q, done, nil
			}
			l.say = false
			_ = l.tc.CloseWrite() // to memory; where the handshake has failed there is nothing to say
			continue
		}
		plain := t.seal[:0] // in one piece, so that the records are few
		for _, b := range bufs {
			plain = append(plain, b...)
		}
		clear(bufs)
		t.seal = plain
		l.lend(t)
		if _, err := l.tc.Write(plain); err != nil {
			return q, done, fmt.Errorf("tls: %w", err)
		}
		m := len(plain)
		if w != nil {
			m = w.sent(m)
		}
		q = sent(t, q, m)
		done += m
	}
}

// lend lets the ciphertext grow in the turn's buffer.
func (l *tlsConn) lend(t *Turn) {
	l.mu.Lock()
	if l.wire == nil {
		l.wire, t.wire = t.wire, nil
	}
	l.mu.Unlock()
}

// send writes the ciphertext that there is.
func (l *tlsConn) send(t *Turn) error {
	for {
		l.mu.Lock()
		if len(l.sending) == 0 {
			l.sending, l.wire = l.wire, nil
		}
		p := l.sending
		if len(p) == 0 {
			l.sending = nil
		}
		l.mu.Unlock()
		if len(p) == 0 {
			if p != nil && t.wire == nil {
				t.wire = p
			}
			return nil
		}
		n, err := l.c.l.s.drv.write(t, l.c, append(t.bufs[:0], p))
		clear(t.bufs[:1])
		if err != nil {
			return err
		}
		t.out += uint64(n)
		l.mu.Lock()
		l.sending = p[n:]
		if n == len(p) {
			l.sending = nil
			if t.wire == nil {
				t.wire = p[:0]
			}
		}
		l.mu.Unlock()
	}
}

// lost lets go of what will not be sent any more.
func (l *tlsConn) lost() {
	l.mu.Lock()
	l.wire, l.sending = nil, nil
	l.mu.Unlock()
}
