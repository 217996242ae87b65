package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/myelin-mqtt/myelin/internal/dial"
	"github.com/myelin-mqtt/myelin/internal/qos"
	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/topic"
)

// Client is one client of one server. All methods may be called from any
// goroutine, handlers included, unless they say otherwise.
type Client struct {
	o       Options
	servers []server
	log     *slog.Logger
	born    time.Time     // what heard and the writer's times count from
	wake    chan struct{} // the writer has something to do
	done    chan struct{} // closed when all is over
	ctx     context.Context
	cancel  context.CancelFunc
	writer  sync.WaitGroup
	heard   atomic.Int64 // when the last read returned, in nanoseconds since born
	paused  atomic.Bool  // the reader waits for the handlers

	// The runner's.
	version packet.Version // to try next
	again   bool           // there was a connection

	mu sync.Mutex // guards what follows, and is held for arithmetic only

	// The life of the client.
	state   ConnState
	running bool // Connect was called
	leaving bool // DISCONNECT is sent, or about to be
	ended   bool // for good
	err     error
	session Session
	stats   Stats
	link    *link  // the connection, nil: none
	gen     uint64 // counts connections
	changed signal // state, room, what is kept or in flight has changed

	// What leaves.
	out       []byte                 // packets for the connection
	answers   int                    // acknowledgements in out
	written   []func(Receipt, error) // of the QoS 0 messages in out, to be told of the write
	records   []Record               // what is to be kept before out leaves
	recorded  uint64                 // batches of records begun
	kept      uint64                 // batches of records that are kept
	keeping   bool                   // somebody commits records
	spare     []Record               // the last that were committed, to be used again
	storeErr  error                  // why the Store keeps nothing more
	finished  []completion           // what is to be told when mu is unlocked
	told      []completion           // the last that were told, to be used again
	snd       qos.Sender
	seq       uint64 // of the next message of QoS 1 or 2
	pending   deque[pending]
	first     uint64 // the seq of the first in pending
	waiting0  deque[waiting0]
	bytes0    int
	toldStore bool // the Store knows whose session it is

	// What arrives.
	rcv       qos.Receiver
	toAck     deque[toAck]
	firstAck  uint32            // the place of the first in toAck
	opened    map[uint16]*open2 // QoS 2 messages that were handed out and not acknowledged
	inbox     []arrival
	unhandled int  // messages that wait for handlers
	handling  bool // a goroutine calls handlers
	blocked   int  // callers that wait for an acknowledgement

	// Subscriptions, and what asks for them.
	filters  map[string]*subscribed
	tree     topic.Tree[[]*subscribed]
	groups   map[uint32]*group
	lastSub  uint32
	calls    []*call          // in their order, sent or not
	sent     map[uint16]*call // those that were sent
	requests requests
	reauth   chan packet.Auth // what answers Reauthenticate, nil: nobody waits
}

// server is an address to try.
type server struct {
	name string // without user and password
	to   dial.Target
}

// New checks the options and makes a client, which is Idle. It reads the Store.
func New(o Options) (*Client, error) {
	servers, err := o.complete()
	if err != nil {
		return nil, err
	}
	c := &Client{
		o: o, servers: servers, log: o.Log, born: time.Now(), version: o.Version,
		wake: make(chan struct{}, 1), done: make(chan struct{}), seq: 1, first: 1,
	}
	c.snd.MaxBytes = windowBytes
	if c.version == 0 {
		c.version = packet.V5
	}
	if o.Store != nil {
		if err := c.restore(); err != nil {
			return nil, fmt.Errorf("read the session's store: %w", err)
		}
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Dial makes a client for the server and connects it. Options.Servers are tried
// after it.
func Dial(ctx context.Context, server string, o Options) (*Client, error) {
	o.Servers = append([]string{server}, o.Servers...)
	c, err := New(o)
	if err != nil {
		return nil, err
	}
	if err := c.Connect(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Connect begins to connect, and returns when the first CONNACK has come, or
// with the error that ended it: see Options.RetryConnect. It is called once.
// After an error the client is Closed.
func (c *Client) Connect(ctx context.Context) error {
	c.mu.Lock()
	if c.running || c.ended {
		c.mu.Unlock()
		return errors.New("connect: the client was connected or closed before")
	}
	c.running = true
	c.writer.Go(c.write)
	c.mu.Unlock()
	first := make(chan error, 1)
	go c.run(first)
	select {
	case err := <-first:
		if err != nil {
			<-c.done
		}
		return err
	case <-ctx.Done():
		c.end(fmt.Errorf("connect: %w", context.Cause(ctx)))
		<-c.done
		select {
		case err := <-first:
			if err != nil { // what was tried says more than that the time is over
				return fmt.Errorf("%w: %w", context.Cause(ctx), err)
			}
		default:
		}
		return fmt.Errorf("connect: %w", context.Cause(ctx))
	}
}

// Disconnect waits until what was given to the client is acknowledged, or ctx
// ends, sends DISCONNECT, and closes.
func (c *Client) Disconnect(ctx context.Context) error {
	var waited error
	for {
		c.mu.Lock()
		if c.ended || c.snd.Live() == 0 && c.snd.Queued() == 0 && c.waiting0.n == 0 {
			c.mu.Unlock()
			break
		}
		changed := c.changed.wait()
		c.mu.Unlock()
		select {
		case <-changed:
			continue
		case <-ctx.Done():
			waited = fmt.Errorf("wait for acknowledgements: %w", context.Cause(ctx))
		}
		break
	}
	return errors.Join(waited, c.DisconnectWith(ctx, &packet.Disconnect{}))
}

// DisconnectWith sends DISCONNECT with d at once, and closes: such as with
// packet.DisconnectWithWillMessage, or a new Session Expiry Interval.
func (c *Client) DisconnectWith(ctx context.Context, d *packet.Disconnect) error {
	c.mu.Lock()
	begun := c.leaving && !c.ended // by another call, which this one waits for
	if l := c.link; l != nil && !c.leaving && !c.ended {
		c.leaving, begun = true, true
		c.out = d.Append(c.grow(), l.version)
		c.stats.PacketsOut++
		c.changed.tell()
	}
	c.mu.Unlock()
	if begun {
		t := time.NewTimer(c.o.AckTimeout)
		defer t.Stop()
		select {
		case <-c.done:
		case <-t.C:
		case <-ctx.Done():
		}
	}
	c.end(nil)
	c.finishUnlessRunning()
	<-c.done
	return nil
}

// Close closes the connection without a DISCONNECT, so that the server publishes
// the will, and waits until the client neither reads nor writes; a handler that
// is running may end later. Messages that were not acknowledged end with
// ErrClosed; a Store keeps them. With Options.Inline no handler may call it.
func (c *Client) Close() error {
	c.end(nil)
	c.finishUnlessRunning()
	<-c.done
	return nil
}

// end ends the client; the first error counts.
func (c *Client) end(err error) {
	c.mu.Lock()
	if !c.ended {
		c.ended, c.err = true, err
		c.cancel()
		if c.link != nil {
			c.link.Close()
		}
		c.changed.tell()
	}
	c.mu.Unlock()
}

// finishUnlessRunning ends what there is where Connect was never called.
func (c *Client) finishUnlessRunning() {
	c.mu.Lock()
	running := c.running
	c.running = true
	c.mu.Unlock()
	if !running {
		c.finish()
	}
}

// Done is closed when the client is Closed.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is why the client is Closed, nil before that and after Disconnect.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// closedError is what calls end with once the client has ended; mu is held.
func (c *Client) closedError() error {
	if c.err != nil {
		return fmt.Errorf("%w: %w", ErrClosed, c.err)
	}
	return ErrClosed
}

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
	Local, Remote net.Addr
}

// Session tells of the last connection; ok is false before the first.
func (c *Client) Session() (s Session, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session, c.gen > 0
}

// State is what the client is doing.
func (c *Client) State() ConnState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Stats are counts since New.
type Stats struct {
	Connects              uint64 // CONNACKs with success
	Sent, Arrived         uint64 // messages; those that were sent or came again count again
	PacketsIn, PacketsOut uint64 // of all kinds, those of a connect not counted
	BytesIn, BytesOut     uint64
	Acknowledged          uint64 // messages of QoS 1 and 2 whose handshake is over
	Resent                uint64 // PUBLISH packets with DUP
	Duplicates            uint64 // QoS 2 messages that came again and were not handed out
	Unwanted              uint64 // messages without a handler
	// Dropped are messages that ended with ErrDropped, ErrExpired or ErrTooLong,
	// that were in a broken connection's buffer at QoS 0, or that waited for
	// their handlers when the client ended.
	Dropped uint64
	// Queued messages wait for their turn, Inflight ones for an acknowledgement,
	// and Unhandled ones for their handlers, now.
	Queued, Inflight, Unhandled int
}

// Stats tells the counts.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Queued, s.Inflight, s.Unhandled = c.snd.Queued()+c.waiting0.n, c.snd.Live(), c.unhandled
	return s
}

// completion is what a caller is told of its message.
type completion struct {
	done func(Receipt, error)
	r    Receipt
	err  error
}

// unlock unlocks mu, and tells what has finished meanwhile.
func (c *Client) unlock() {
	f := c.finished
	if len(f) == 0 {
		c.mu.Unlock()
		return
	}
	c.finished, c.told = c.told, nil
	c.mu.Unlock()
	for i := range f {
		f[i].done(f[i].r, f[i].err)
	}
	if cap(f) > 64 && len(f) < cap(f)/4 { // so many were long ago
		return
	}
	clear(f)
	c.mu.Lock()
	c.told = f[:0]
	c.mu.Unlock()
}

// tell has done called when mu is unlocked by unlock.
func (c *Client) tell(done func(Receipt, error), r Receipt, err error) {
	if done != nil {
		c.finished = append(c.finished, completion{done, r, err})
	}
}

// signal wakes those who wait for something to change.
type signal struct{ c chan struct{} }

// wait is a channel that the next tell closes.
func (s *signal) wait() <-chan struct{} {
	if s.c == nil {
		s.c = make(chan struct{})
	}
	return s.c
}

func (s *signal) tell() {
	if s.c != nil {
		close(s.c)
		s.c = nil
	}
}

// deque is a queue that grows by doubling, and gives its memory back when it has
// run empty and was long.
type deque[T any] struct {
	b       []T // length a power of two, or 0
	head, n int
}

func (q *deque[T]) at(i int) *T { return &q.b[(q.head+i)&(len(q.b)-1)] }

func (q *deque[T]) push(x T) {
	if q.n == len(q.b) {
		b := make([]T, max(4, 2*len(q.b)))
		k := copy(b, q.b[q.head:])
		copy(b[k:], q.b[:q.head])
		q.b, q.head = b, 0
	}
	q.n++
	*q.at(q.n - 1) = x
}

func (q *deque[T]) pop() (x T) {
	p := q.at(0)
	x = *p
	var zero T
	*p = zero
	q.head = (q.head + 1) & (len(q.b) - 1)
	if q.n--; len(q.b) > 4096 {
		q.slim()
	}
	return x
}

// slim gives back the memory of an empty queue.
func (q *deque[T]) slim() {
	if q.n == 0 {
		*q = deque[T]{}
	}
}
