package broker

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/myelin-mqtt/myelin/internal/route"
	"github.com/myelin-mqtt/myelin/internal/transport"
	"github.com/myelin-mqtt/myelin/packet"
)

// conn is one network connection. All of it belongs to the connection's owner
// in transport, but for signals, kick and async.
type conn struct {
	b      *Broker
	io     *transport.Conn
	s      *session  // nil until the CONNECT was accepted
	setup  *setup    // from CONNECT to CONNACK, else nil
	client *Client   // made when somebody asks who remembers it, or for a user name
	auth   *enhanced // nil: no enhanced authentication

	allowed *route.Entry[*session] // the topic that was last allowed to be published to
	jobs    *retainedJob           // retained messages being delivered, one after the other
	async   *async                 // completions of the store, nil until one is late

	signals atomic.Uint32
	policy  uint32     // the access rules' epoch of allowed
	most    packet.QoS // the highest QoS of allowed

	maxPacket  uint32 // promised by the CONNACK, as are the next two
	receiveMax uint16
	aliasMax   uint16

	state state
	ver   packet.Version
	code  packet.Reason // why the connection ends, as a DISCONNECT has it
	flags uint8
}

// state is where a connection stands.
type state uint8

const (
	stNew     state = iota // no CONNECT yet
	stAuth                 // the authenticator is asked
	stAuthing              // an AUTH of the client is awaited
	stWill                 // the access rules are asked for the will
	stLine                 // waits for the session's owner to leave
	stClaim                // the store is asked for the session
	stOnline               // CONNACK sent
	stLeft                 // DISCONNECT came: its effect is not on the disk yet
	stOver                 // ends
)

// Bits of conn.signals.
const (
	sigEvict    uint32 = 1 << iota // another connection wants the session
	sigGranted                     // the session is this connection's
	sigAuth                        // the authenticator has answered
	sigClaimed                     // the store has answered
	sigDone                        // completions of the store
	sigKick                        // Broker.Disconnect
	sigShutdown                    // the broker drains
	sigAccess                      // an Authorizer's answer is there
	sigSettled                     // the session's detachment or end is on the disk
	sigFailed                      // or, with sigSettled, will never be
	sigRejudge                     // the access rules have changed
)

// kickShift is where the reason code of sigKick stands in conn.signals.
const kickShift = 24

// Bits of conn.flags.
const (
	flagNoProblem uint8 = 1 << iota // Request Problem Information 0 [MQTT-3.1.2-29]
	flagEvicted                     // to leave as soon as it is online
	flagReauth                      // a re-authentication is under way
	flagPaused                      // input waits
	flagCongested                   // for the out-queue to be written
	flagAccess                      // for the access rules
	flagCertified                   // the user name is the certificate's
)

// signal leaves word for the owner, from any goroutine.
func (c *conn) signal(bit uint32) {
	c.signals.Or(bit)
	c.io.Wake()
}

// evict tells the owner of a session to leave, granted a connection in line
// that the session is its own. Both are called under the registry's lock.
func (c *conn) evict() {
	if c.io != nil { // else the expirer, which is through in a moment
		c.signal(sigEvict)
	}
}

func (c *conn) granted(s *session) {
	c.setup.grant.Store(s)
	c.signal(sigGranted)
}

// over is the error that ends a connection on the broker's decision. What is
// to be said was said.
type over struct {
	code packet.Reason
	text string
}

func (e *over) Error() string {
	if e.text == "" {
		return e.code.String()
	}
	return e.text + ": " + e.code.String()
}

// Is makes the end of a server an end that transport knows: WebSocket clients
// are told "going away".
func (e *over) Is(target error) bool {
	return target == transport.ErrServerClosed && e.code == packet.ServerShuttingDown
}

// errLeft ends a connection after the client's DISCONNECT.
var errLeft = errors.New("client disconnected")

// errAgain makes Feed offer the same packet again after a pause.
var errAgain = errors.New("packet waits")

// handler is the transport's view of the broker.
type handler struct{ b *Broker }

// NewLocal implements transport.Handler.
func (h *handler) NewLocal() any { return h.b.newTurn() }

// Open implements transport.Handler.
func (h *handler) Open(_ *transport.Turn, io *transport.Conn) {
	io.Data = &conn{b: h.b, io: io}
}

// Feed implements transport.Handler: it takes whole packets from the front of in.
func (h *handler) Feed(tt *transport.Turn, tc *transport.Conn, in []byte) (used int, err error) {
	c, t := tc.Data.(*conn), tt.Local.(*turn)
	t.begin(tt)
	defer t.finish(c)
	for {
		if c.state == stLeft { // nothing counts behind a DISCONNECT, but the end is still seen
			return len(in), nil
		}
		limit := int(c.maxPacket)
		if c.state != stOnline {
			limit = t.o.MaxConnectSize
		}
		if c.ver == packet.V31 && used < len(in) {
			in[used] = withoutDup(in[used])
		}
		n, hdr, err := packet.Frame(in[used:], limit)
		if err != nil {
			return used, c.bad(t, in[used:], err)
		}
		if n == 0 {
			return used, c.congested(t)
		}
		err = c.packet(t, in[used:used+n:used+n], hdr)
		if err == errAgain {
			return used, transport.ErrPaused
		}
		used += n
		t.n.packetsIn++
		if err != nil {
			return used, err
		}
	}
}

// withoutDup clears the DUP flag with which 3.1, and only 3.1, lets a client
// mark a repeated PUBREL, SUBSCRIBE or UNSUBSCRIBE: it changes nothing.
func withoutDup(first byte) byte {
	switch packet.Type(first >> 4) {
	case packet.PUBREL, packet.SUBSCRIBE, packet.UNSUBSCRIBE:
		if first&0x0f == 0x0a {
			return first &^ 8
		}
	}
	return first
}

// mostCalls is how many SUBSCRIBEs and the like of one client may wait for the
// store.
const mostCalls = 1024

// mostWaiting is how many acknowledgements of one client may wait for the store.
const mostWaiting = 4096

// congested stops reading from a client that asks and does not read the
// answers, until it has read them, and from one whose messages the store does
// not get done with: what waits for a client is bounded.
func (c *conn) congested(t *turn) error {
	switch {
	case c.state != stOnline:
		return nil
	case c.io.Queued() >= 4*t.o.MaxOutboundBytes:
	case c.async != nil && len(c.async.later) >= mostCalls:
	case c.s.in != nil && c.s.in.Waiting() >= mostWaiting: // 3.x has no Receive Maximum
	default:
		return nil
	}
	c.flags |= flagCongested
	t.flush(c)
	c.notifyDrained()
	return c.pause()
}

// notifyDrained asks for word when the out-queue is empty, where it is what the
// client waits for; the store's word comes by itself.
func (c *conn) notifyDrained() {
	if c.io.Queued() > 0 {
		c.io.NotifyDrained()
	}
}

// packet takes one whole packet.
func (c *conn) packet(t *turn, b []byte, hdr int) error {
	typ := packet.FrameType(b)
	if c.state == stOnline {
		switch typ {
		case packet.PUBLISH:
			return c.onPublish(t, b, hdr)
		case packet.PUBACK, packet.PUBREC, packet.PUBREL, packet.PUBCOMP:
			return c.onAck(t, typ, b, hdr)
		case packet.SUBSCRIBE:
			return c.onSubscribe(t, b, hdr)
		case packet.UNSUBSCRIBE:
			return c.onUnsubscribe(t, b, hdr)
		case packet.PINGREQ:
			return c.onPingreq(t, b, hdr)
		case packet.DISCONNECT:
			return c.onDisconnect(t, b, hdr)
		case packet.AUTH:
			return c.onAuth(t, b, hdr)
		}
		// A second CONNECT [MQTT-3.1.0-2], or what only a server sends.
		return c.fail(t, packet.ProtocolError, "unexpected "+typ.String())
	}
	switch {
	case c.state == stNew && typ == packet.CONNECT:
		return c.onConnect(t, b, hdr)
	case c.state == stAuthing && typ == packet.AUTH:
		return c.onAuth(t, b, hdr)
	case c.state == stAuthing && typ == packet.DISCONNECT: // [MQTT-3.1.2-30]
		c.state = stOver
		return errLeft
	case c.state == stNew: // [MQTT-3.1.0-1]
		c.state = stOver
		return c.refused(&over{packet.ProtocolError, "first packet is " + typ.String()})
	}
	return c.refuse(t, packet.ProtocolError, "unexpected "+typ.String())
}

func (c *conn) onPingreq(t *turn, b []byte, hdr int) error {
	if len(b) != hdr {
		return c.fail(t, packet.MalformedPacket, "PINGREQ with a body")
	}
	t.own = append(t.own, byte(packet.PINGRESP)<<4, 0) // [MQTT-3.12.4-1]
	t.n.packetsOut++
	return nil
}

// bad ends the connection for a packet that does not parse, with the reason
// code that the error carries.
func (c *conn) bad(t *turn, b []byte, err error) error {
	code := packet.MalformedPacket
	var e *packet.Error
	if errors.As(err, &e) {
		code = e.Code
	}
	if c.state == stNew && packet.FrameType(b) != packet.CONNECT {
		c.state = stOver
		return c.refused(&over{code, "first packet: " + err.Error()})
	}
	if e != nil {
		return c.fail(t, code, e.Text) // the code is said beside it
	}
	return c.fail(t, code, err.Error())
}

// fail ends the connection for what the client did: MQTT 5 clients are told,
// others see the connection close. [MQTT-4.13.1-1], [MQTT-3.14.0-1]
func (c *conn) fail(t *turn, code packet.Reason, text string) error {
	if c.state != stOnline {
		return c.refuse(t, code, text)
	}
	c.b.stats.badPackets.Add(1)
	c.b.log.Warn("packet refused", "client", c.s.id, "address", c.io.RemoteAddr(), "code", code.String(), "err", text)
	return c.goodbye(t, code, text)
}

// goodbye says DISCONNECT to an MQTT 5 client, and ends the connection.
func (c *conn) goodbye(t *turn, code packet.Reason, text string) error {
	if c.ver >= packet.V5 {
		d := packet.Disconnect{Code: code}
		if c.flags&flagNoProblem == 0 {
			d.ReasonString = text
		}
		if max := int(c.s.maxPacket); max > 0 && d.Length(c.ver) > max { // [MQTT-3.14.2-3]
			d.ReasonString = ""
		}
		if max := int(c.s.maxPacket); max == 0 || d.Length(c.ver) <= max {
			t.own = d.Append(t.own, c.ver)
			t.n.packetsOut++
		}
	}
	c.state, c.code = stOver, code
	return &over{code, text}
}

// Woken implements transport.Handler.
func (h *handler) Woken(tt *transport.Turn, tc *transport.Conn) error {
	c, t := tc.Data.(*conn), tt.Local.(*turn)
	t.begin(tt)
	defer t.finish(c)
	return c.woken(t)
}

func (c *conn) woken(t *turn) error {
	sig := c.signals.Swap(0)
	switch {
	case c.state == stOver:
		return nil
	case c.state == stLeft: // where the store has failed, there is no use in waiting
		if sig&sigSettled == 0 {
			return nil
		}
		c.state = stOver
		return errLeft
	case sig&sigSettled != 0 && c.setup != nil:
		if c.setup.ending = endNone; sig&sigFailed != 0 {
			c.setup.ending = endFailed
		}
	}
	if sig&sigAccess != 0 {
		c.flags &^= flagAccess
	}
	if sig&sigEvict != 0 {
		c.flags |= flagEvicted
	}
	if c.state == stOnline {
		if err := c.committed(t); err != nil {
			return err
		}
	}
	if sig&sigDone != 0 {
		if err := c.completions(t); err != nil {
			return err
		}
	}
	switch {
	case sig&sigShutdown != 0 && c.state == stOnline:
		return c.goodbye(t, packet.ServerShuttingDown, "server shuts down")
	case sig&sigKick != 0 && c.state == stOnline:
		return c.goodbye(t, packet.Reason(sig>>kickShift), "disconnected by the server")
	}
	switch c.state {
	case stAuth, stWill, stLine, stClaim:
		if err := c.advance(t); err != nil {
			if err == transport.ErrPaused {
				return nil
			}
			return err
		}
	case stOnline:
		if c.flags&flagReauth != 0 && sig&sigAuth != 0 {
			if err := c.reauthenticated(t); err != nil {
				return err
			}
		}
	}
	if sig&sigRejudge != 0 && c.state == stOnline {
		c.rejudge(t)
	}
	if c.state == stOnline {
		if c.flags&flagEvicted != 0 { // [MQTT-3.1.4-3]
			c.b.stats.takeovers.Add(1)
			return c.goodbye(t, packet.SessionTakenOver, "another connection with this client identifier")
		}
		if c.s.ready.Load() {
			t.pump(c.s)
		}
		c.retained(t)
	}
	if c.flags&flagCongested != 0 && c.io.Queued() < t.o.MaxOutboundBytes && (c.async == nil || len(c.async.later) < mostCalls/2) && (c.s.in == nil || c.s.in.Waiting() < mostWaiting/2) {
		c.flags &^= flagCongested
	} else if c.flags&flagCongested != 0 {
		c.notifyDrained() // the last notice is used up, and others have queued since
	}
	if c.flags&flagPaused != 0 && !c.waits() {
		c.flags &^= flagPaused
		t.flush(c)
		c.io.Resume(t.tt)
	}
	return nil
}

// waits tells whether the input is to stay paused.
func (c *conn) waits() bool {
	switch c.state {
	case stAuth, stWill, stLine, stClaim:
		return true
	}
	return c.flags&(flagReauth|flagCongested|flagAccess) != 0
}

// pause makes Feed stop after this packet.
func (c *conn) pause() error {
	c.flags |= flagPaused
	return transport.ErrPaused
}

// Timeout implements transport.Handler.
func (h *handler) Timeout(tt *transport.Turn, tc *transport.Conn) error {
	c, t := tc.Data.(*conn), tt.Local.(*turn)
	t.begin(tt)
	defer t.finish(c)
	switch c.state {
	case stOnline:
	case stLeft:
		c.state = stOver
		return errLeft
	case stNew:
		c.state = stOver
		return c.refused(&over{packet.UnspecifiedError, "no CONNECT in time"})
	case stAuth, stAuthing, stWill:
		return c.refuse(t, packet.ServerUnavailable, "not authenticated in time")
	default:
		return c.refuse(t, packet.ServerUnavailable, "session not free in time")
	}
	c.b.log.Info("keep alive timeout", "client", c.s.id, "address", c.io.RemoteAddr())
	return c.goodbye(t, packet.KeepAliveTimeout, "keep alive timeout") // [MQTT-3.1.2-22]
}

// Gone implements transport.Handler.
func (h *handler) Gone(tt *transport.Turn, tc *transport.Conn, err error) {
	c, t := tc.Data.(*conn), tt.Local.(*turn)
	t.begin(tt)
	defer t.finish(c)
	c.gone(t, err)
}

func (c *conn) gone(t *turn, err error) {
	switch {
	case c.state == stLeft:
		c.state = stOver
		return
	case c.s != nil:
		c.state = stOver
		c.detach(t, err, nil)
		return
	case c.state != stOver && c.setup != nil:
		c.refused(fmt.Errorf("ended before CONNACK: %w", err))
	case c.state != stOver && err != nil && !errors.Is(err, io.EOF):
		c.refused(err)
	}
	if c.setup != nil {
		c.abandon(t)
	}
	c.state = stOver
}

// Refused implements transport.Handler.
func (h *handler) Refused(l *transport.Listener, addr string, why error) {
	if errors.Is(why, io.EOF) {
		return // a port scan, a health check
	}
	b := h.b
	b.stats.refusedConns.Add(1)
	url := ""
	if l != nil {
		url = l.URL()
	}
	b.log.Warn("connection refused", "address", addr, "listener", url, "err", why)
	if f := b.opt().Events.Refused; f != nil {
		f(addr, packet.UnspecifiedError, why)
	}
}

// info describes the client to others.
func (c *conn) info() *Client {
	if c.client != nil {
		return c.client
	}
	i := &Client{Address: c.io.RemoteAddr(), Listener: c.io.Listener().URL(), Version: c.ver, FromCertificate: c.flags&flagCertified != 0, io: c.io}
	if c.s != nil {
		i.ID = c.s.id
	}
	if c.setup != nil {
		i.ID, i.Username = c.setup.id, c.setup.Username
	}
	return i
}

// async is where completions from other goroutines are left.
type async struct {
	mu    sync.Mutex
	done  []completion
	later []rare // rare calls in their order; the owner's
	next  uint64 // the token of the last
}

type completion struct {
	tok uint64
	err error
}

// rare is a call of the store that is not for a PUBLISH. What follows from it
// is done in the order of the calls.
type rare struct {
	tok  uint64
	then func(t *turn, err error) error
	done bool
	err  error
}

// Done implements store.Completer; any goroutine.
func (c *conn) Done(tok uint64, err error) {
	a := c.async
	a.mu.Lock()
	a.done = append(a.done, completion{tok, err})
	a.mu.Unlock()
	c.signal(sigDone)
}

// waiter makes the place for completions before a call that may need it.
func (c *conn) waiter() *async {
	if c.async == nil {
		c.async = new(async)
	}
	return c.async
}

// call makes a rare call of the store, and runs then when it is done: at once,
// or on a later turn.
func (c *conn) call(t *turn, begin func(tok uint64) (done bool), then func(t *turn, err error) error) error {
	a := c.waiter()
	a.next++
	tok := a.next
	done := begin(tok)
	if done && len(a.later) == 0 {
		return then(t, nil)
	}
	a.later = append(a.later, rare{tok: tok, then: then, done: done})
	return nil
}

// completions takes what the store has finished.
func (c *conn) completions(t *turn) error {
	a := c.async
	a.mu.Lock()
	done := a.done
	a.done = nil
	a.mu.Unlock()
	for _, d := range done {
		if i := slices.IndexFunc(a.later, func(r rare) bool { return r.tok == d.tok }); i >= 0 {
			a.later[i].done, a.later[i].err = true, d.err
		}
	}
	for len(a.later) > 0 && a.later[0].done {
		r := a.later[0]
		a.later = slices.Delete(a.later, 0, 1)
		if err := r.then(t, r.err); err != nil {
			return err
		}
	}
	return nil
}

// keepAlive is one and a half times the interval [MQTT-3.1.2-22].
func keepAlive(sec uint16) time.Duration { return time.Duration(sec) * 3 * time.Second / 2 }
