package transport

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is one connection. It owns no buffer while it is idle.
type Conn struct {
	// Data is the handler's, set in Open. Who reads it outside of the handler's calls must order that itself.
	Data any

	// Set once, before anybody else sees the connection.
	l    *loop
	lis  *Listener
	x    *extra
	addr [16]byte // of the peer; IPv4 in its mapped form, zero if it has none

	// The owner's.
	tail       *tail  // input that was not consumed yet
	fd         int32  // reactor; set once
	slot       uint32 // reactor
	at         uint32 // reactor: the tick of its entry in the wheel; 0: none
	seen       uint32 // tick of the last input, or of the begin of the time that is limited
	limit      uint32 // ticks after seen at which Timeout is due; 0: never
	opened     bool
	connecting bool // limit is the connect timeout: input does not move seen
	pause      pause
	hup        bool // the peer is done sending: read until the end, short reads notwithstanding
	eof        bool // read up to the end
	listed     bool // reactor: on the list of those to read again
	ended      bool

	counted bool // by its listener's gate

	port uint16 // of the peer; it stands here, like the flags before mu, because it fills a gap

	// Anybody's, under mu.
	dirty  dirt // on which lists of a Turn, or in a mailbox
	writer writer
	notify bool // post doDrain when the queue is empty
	closed bool // takes no more output
	failed bool // a write has failed
	gone   bool // the owner has given up the descriptor; the last one out closes it

	posted atomic.Uint32

	mu  sync.Mutex
	out outq
}

// pause is the state of a connection's input.
type pause uint8

const (
	running  pause = iota
	paused         // Feed has returned ErrPaused
	resuming       // and Resume was called
)

// dirt says whether somebody has a connection on his list of those to write.
type dirt uint8

const (
	clean dirt = iota
	dirty      // on the list of a Turn, or in a mailbox
	early      // and on the list of those that are written before the turn ends
)

// writer says who writes the output of a connection.
type writer uint8

const (
	nobody  writer = iota
	waiting        // reactor: the socket is full, the owner goes on when it is not
	writing        // somebody does, and will write what is added meanwhile
	hadRoom        // reactor: so, and the socket had room again while he was at it
)

func (w writer) busy() bool { return w >= writing }

// extra is what only some connections need. The layers between socket and Handler have a fixed order: PROXY
// header, TLS, WebSocket.
type extra struct {
	px  *proxyConn
	tls *tlsConn
	ws  *wsConn
	g   *gconn // goroutine driver
}

func (c *Conn) ws() *wsConn {
	if c.x == nil {
		return nil
	}
	return c.x.ws
}

// newConn returns a connection that has just been accepted.
func newConn(l *loop, ln *Listener, from netip.AddrPort, tick uint32) *Conn {
	c := &Conn{l: l, lis: ln, connecting: true, seen: tick, limit: uint32((ln.s.o.ConnectTimeout + tickLen - 1) / tickLen)}
	proxied := from.IsValid() && ln.proxied(from.Addr())
	if from.IsValid() {
		c.addr, c.port, c.counted = from.Addr().As16(), from.Port(), !proxied
	}
	if ln.path != "" || ln.secure || proxied {
		c.x = &extra{}
	}
	if proxied {
		c.x.px = &proxyConn{}
	}
	if ln.path != "" {
		c.x.ws = &wsConn{upgrading: true}
	}
	if ln.secure {
		c.x.tls = newTLS(c, ln.o.TLS)
	}
	l.load.Add(1)
	return c
}

// Append copies p to the output of c, to be written at the end of t. Any goroutine may call it that holds a Turn.
// It is without effect on a connection that has ended.
func (c *Conn) Append(t *Turn, p []byte) {
	c.mu.Lock()
	if !c.closed {
		c.out.add(t, p)
		c.touch(t)
	}
	c.mu.Unlock()
}

// refMin is the size from which on a reference is cheaper than a copy.
const refMin = 4 << 10

// AppendRef is Append of head and then of payload, which is kept by reference if it is 4 KiB or more: it must never
// change afterwards.
func (c *Conn) AppendRef(t *Turn, head, payload []byte) {
	c.mu.Lock()
	if !c.closed {
		c.out.add(t, head)
		if len(payload) >= refMin {
			c.out.addRef(t, payload)
		} else {
			c.out.add(t, payload)
		}
		c.touch(t)
	}
	c.mu.Unlock()
}

// touch puts c on the lists of t. The caller holds mu.
func (c *Conn) touch(t *Turn) {
	if c.writer != nobody {
		return
	}
	if c.dirty == clean {
		c.dirty = dirty
		t.dirty = append(t.dirty, c)
	}
	if c.out.n >= earlySize && c.dirty != early {
		c.dirty = early
		t.early = append(t.early, c)
	}
}

// Queued returns how many bytes of output are waiting, in the queue or for a writer to get rid of. Any goroutine may
// call it.
func (c *Conn) Queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.n
}

// Wake makes the owner call Handler.Woken soon. Any goroutine may call it, with or without a Turn, also from within a
// call of the Handler: then Woken follows in the same turn. It allocates nothing.
func (c *Conn) Wake() { c.post(doWake) }

// NotifyDrained makes the owner call Handler.Woken once the output is written completely, at once if it is. Any goroutine
// may call it.
func (c *Conn) NotifyDrained() {
	c.mu.Lock()
	now := !c.writer.busy() && !c.pending()
	if !now {
		c.notify = true
	}
	c.mu.Unlock()
	if now {
		c.post(doDrain)
	}
}

// Resume ends the pause that Feed asked for: what was not consumed is fed again, and reading goes on. The owner calls
// it, that is a call of the Handler for c; it takes effect when that returns.
func (c *Conn) Resume(t *Turn) {
	if c.pause == paused {
		c.pause = resuming
	}
}

// KeepAlive replaces the connect timeout: from now on Handler.Timeout is called if nothing arrives for d; 0 means never.
// The owner calls it. Timeout comes up to half a second late.
func (c *Conn) KeepAlive(t *Turn, d time.Duration) {
	c.connecting = false
	c.setLimit(t, d)
}

// setLimit makes Timeout due d after now.
func (c *Conn) setLimit(t *Turn, d time.Duration) {
	c.seen, c.limit = t.tick, 0
	if d > 0 {
		c.limit = uint32((d + tickLen - 1) / tickLen)
	}
	c.l.s.drv.arm(t, c)
}

// Close ends c with err as soon as its owner runs. Any goroutine may call it; Wake, and an error from Woken, is the way
// for a handler that has more to say.
func (c *Conn) Close(err error) {
	if err == nil {
		err = ErrServerClosed
	}
	c.l.mail.put(post{c: c, err: err})
}

// Listener returns the listener that c came in by.
func (c *Conn) Listener() *Listener { return c.lis }

// Peer returns the peer's address; it is not valid for a Unix socket.
func (c *Conn) Peer() netip.AddrPort {
	if c.lis.unix {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(netip.AddrFrom16(c.addr).Unmap(), c.port)
}

// RemoteAddr returns the peer's address in the form host:port, or "unix" for a Unix socket.
func (c *Conn) RemoteAddr() string {
	if c.lis.unix {
		return "unix"
	}
	return c.Peer().String()
}

// tickLen is the grain of all deadlines.
const tickLen = 250 * time.Millisecond

func tickAt(start, now time.Time) uint32 { return uint32(now.Sub(start)/tickLen) + 1 }

// due is the first tick at which the limit has passed; 0: there is none.
func (c *Conn) due() uint32 {
	if c.limit == 0 {
		return 0
	}
	return c.seen + c.limit + 1
}
