package transport

import "errors"

// Handler is the consumer of a [Server]: the protocol that is spoken over its connections.
//
// The calls that get a Conn are made by its owner: never two at a time for one Conn, each after the one before it. Calls
// for different connections run in parallel. None of them may block.
type Handler interface {
	// NewLocal makes the handler's own state for one Turn. It is kept in Turn.Local.
	NewLocal() any
	// Open says that the first plaintext of c is about to be fed; a WebSocket upgrade is done by then.
	Open(t *Turn, c *Conn)
	// Feed consumes whole messages from the front of b and returns how many bytes that were. The rest is kept and is fed
	// again with what arrives after it. b is only valid during the call. ErrPaused stops the input until Conn.Resume;
	// any other error ends the connection after what is queued was written.
	Feed(t *Turn, c *Conn, b []byte) (used int, err error)
	// Woken follows Conn.Wake, one call for all the wakes before it, or the notice asked for with Conn.NotifyDrained.
	// It is called while the input is paused, too. An error ends the connection as Feed's does, except ErrPaused.
	Woken(t *Turn, c *Conn) error
	// Timeout says that the connect timeout or the keep alive has passed. The connection ends with the error that is
	// returned (nil: ErrTimeout); a last message may be appended before.
	Timeout(t *Turn, c *Conn) error
	// Gone says that c has ended with err: io.EOF when the peer closed it. It is called once for each Open.
	// What was appended before is still written; Append is without effect from here on.
	Gone(t *Turn, c *Conn, err error)
	// Refused tells of a connection that ended before Open: over a limit, a bad upgrade, no first byte in time, or
	// closed by the peer (io.EOF). addr is as RemoteAddr. It is called from any goroutine.
	Refused(l *Listener, addr string, why error)
}

var (
	// ErrPaused is returned by Feed to stop the input of the connection until Conn.Resume.
	ErrPaused = errors.New("input paused")
	// ErrTimeout ends a connection whose connect timeout or keep alive has passed.
	ErrTimeout = errors.New("timeout")
	// ErrServerClosed ends the connections of a server that is closed.
	ErrServerClosed = errors.New("server closed")
	// ErrTooMany refuses a connection over MaxConns.
	ErrTooMany = errors.New("too many connections")
	// ErrInputTooLarge ends a connection whose Handler left more than Options.MaxInput bytes unconsumed.
	ErrInputTooLarge = errors.New("too much unconsumed input")
)
