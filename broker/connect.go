package broker

import (
	"errors"
	"strconv"
	"strings"
	"sync/atomic"

	sess "github.com/myelin-mqtt/myelin/internal/session"
	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/transport"
	"github.com/myelin-mqtt/myelin/packet"
)

// setup is what a connection holds from its CONNECT to its CONNACK.
type setup struct {
	packet.Connect
	id       string // the client's, or the one assigned to it
	assigned bool
	expiry   uint32 // granted
	alive    uint16 // granted keep alive

	answer  atomic.Pointer[AuthAnswer] // of the authenticator, left by any goroutine
	data    []byte                     // for the CONNACK of an enhanced authentication
	grant   atomic.Pointer[session]    // the session that was waited for
	claim   atomic.Pointer[claim]      // the store's answer
	inLine  bool
	claimed bool // the store was asked
	ending  end  // of the session that it discards
	asked   bool // somebody else has seen it
}

// end is how far the end of a session has come that a CONNECT discards.
type end uint8

const (
	endNone   end = iota // there was none, or it is off the disk
	endWaits             // after a crash it might come back
	endFailed            // it will
)

var errNotEnded = errors.New("the session before it cannot be discarded")

// enhanced is the state of an enhanced authentication.
type enhanced struct {
	method string
	state  any // see AuthAnswer.State
}

// welcome is the answer where nobody has to be asked; it is never written to.
var welcome AuthAnswer

// takeSetup gives a blank setup, and giveSetup takes one back that nobody
// refers to any more: a CONNECT that is through at once leaves no garbage.
func (t *turn) takeSetup() *setup {
	u := t.setup
	t.setup = nil
	if u == nil {
		u = new(setup)
	}
	return u
}

func (t *turn) giveSetup(u *setup) {
	if u.asked {
		return // an authenticator or the store may still hold it
	}
	u.Connect = packet.Connect{}
	u.id, u.assigned, u.expiry, u.alive, u.data, u.inLine, u.claimed, u.ending = "", false, 0, 0, nil, false, false, endNone
	u.answer.Store(nil)
	u.grant.Store(nil)
	u.claim.Store(nil)
	t.setup = u
}

// claim is the store's answer to a Claim.
type claim struct {
	s   store.Session
	st  *store.State
	err error
}

// onConnect takes the CONNECT.
func (c *conn) onConnect(t *turn, b []byte, hdr int) error {
	u := t.takeSetup()
	err := u.Parse(b, hdr, 0)
	c.ver = u.Version
	if err != nil {
		return c.bad(t, b, err)
	}
	c.setup = u
	if u.HasAuthMethod {
		c.auth = &enhanced{method: u.AuthMethod}
	}
	if !u.RequestProblemInfo {
		c.flags |= flagNoProblem
	}
	code, text := c.identify(u)
	if code == packet.Success {
		code, text = c.check(t, u)
	}
	if code != packet.Success {
		return c.refuse(t, code, text)
	}
	c.grantLimits(t, u)
	c.state = stAuth
	auth := t.o.Authenticator
	if auth == nil {
		u.answer.Store(&welcome)
	} else {
		c.ask(auth, &AuthRequest{Client: c.info(), Password: u.Password, Method: u.AuthMethod, Data: u.AuthData})
	}
	if err := c.advance(t); err != nil {
		if err == transport.ErrPaused {
			return c.pause()
		}
		return err
	}
	return nil
}

// identify takes who the client is from its certificate, where the listener does.
func (c *conn) identify(u *setup) (packet.Reason, string) {
	u.id = u.ClientID
	l, _ := c.io.Listener().Data().(*Listener)
	if l == nil || l.Identify == nil {
		return packet.Success, ""
	}
	user, id, err := l.Identify(c.io.TLS())
	switch {
	case err != nil:
		return packet.NotAuthorized, "identity of the client's certificate: " + err.Error()
	case id != "" && u.ClientID != "" && u.ClientID != id: // it could not be told another
		return packet.ClientIdentifierNotValid, "the client's certificate is for client identifier " + strconv.Quote(id)
	}
	if user != "" {
		u.Username, u.HasUsername = user, true
		c.flags |= flagCertified
	}
	if id != "" && u.ClientID == "" && (u.Version >= packet.V5 || u.Version == packet.V311 && u.CleanStart) { // [MQTT-3.1.3-6], [MQTT3-3.1.3-7]
		u.id, u.assigned = id, true
	}
	return packet.Success, ""
}

// check holds the CONNECT against the limits.
func (c *conn) check(t *turn, u *setup) (packet.Reason, string) {
	switch {
	case u.ClientID != "":
		if u.Version == packet.V31 && len(u.ClientID) > 23 {
			return packet.ClientIdentifierNotValid, "client identifier longer than 23 bytes in 3.1"
		}
	case u.assigned: // by the certificate
	case t.o.RefuseEmptyClientID || u.Version == packet.V31:
		return packet.ClientIdentifierNotValid, "client identifier is empty"
	case u.Version == packet.V311 && !u.CleanStart: // [MQTT3-3.1.3-8]
		return packet.ClientIdentifierNotValid, "client identifier is empty without clean session"
	default: // [MQTT-3.1.3-6], [MQTT-3.2.2-16]
		u.assigned = true
		u.id = "auto-" + strconv.FormatUint(c.b.nonce, 36) + "-" + strconv.FormatUint(c.b.serial.Add(1), 36)
	}
	switch {
	case c.b.draining.Load():
		return packet.ServerUnavailable, "server shuts down"
	case u.HasAuthMethod && t.o.Authenticator == nil: // [MQTT-4.12.0-1]
		return packet.BadAuthenticationMethod, "authentication method " + strconv.Quote(u.AuthMethod) + " is not supported"
	case u.Will != nil && u.Will.Retain && t.o.Retain.Disabled: // [MQTT-3.2.2-13]
		return packet.RetainNotSupported, "will is retained"
	case u.Will != nil && strings.HasPrefix(u.Will.Topic, string(sysPrefix)):
		return packet.NotAuthorized, "will to a topic of the broker's own"
	case u.Will != nil && t.o.MaxTopicLevels > 0 && levels(u.Will.Topic) > t.o.MaxTopicLevels:
		return packet.TopicNameInvalid, "will topic has too many levels"
	}
	return packet.Success, ""
}

// grantLimits decides what the client gets of what it asked for.
func (c *conn) grantLimits(t *turn, u *setup) {
	u.expiry, u.alive = u.SessionExpiry, u.KeepAlive
	if u.Version < packet.V5 {
		u.expiry = 0
		if !u.CleanStart {
			u.expiry = neverExpires
		}
	}
	if m := t.o.MaxSessionExpiry; m > 0 {
		u.expiry = min(u.expiry, m)
	}
	c.maxPacket = uint32(t.o.MaxPacketSize)
	if u.Version >= packet.V5 {
		c.receiveMax, c.aliasMax = t.o.ReceiveMaximum, uint16(max(t.o.TopicAliasMaximum, 0))
	}
	if m := t.o.MaxKeepAlive; m > 0 && (u.alive == 0 || u.alive > m) {
		u.alive = m
	}
}

// ask makes one request of the authenticator.
func (c *conn) ask(auth Authenticator, r *AuthRequest) {
	u := c.setup
	u.asked = true
	auth.Auth(r, func(a AuthAnswer) {
		u.answer.Store(&a)
		c.signal(sigAuth)
	})
}

// advance takes the connection as far as it goes: authenticated, session
// acquired, claimed in the store, online. transport.ErrPaused: it waits.
func (c *conn) advance(t *turn) error {
	for {
		var err error
		switch c.state {
		case stAuth:
			err = c.authenticated(t)
		case stWill:
			err = c.allowedWill(t)
		case stLine:
			err = c.acquired(t)
		case stClaim:
			err = c.claimed(t)
		default:
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// authenticated takes the authenticator's answer.
func (c *conn) authenticated(t *turn) error {
	u := c.setup
	a := u.answer.Swap(nil)
	if a == nil {
		return transport.ErrPaused
	}
	if c.auth != nil {
		c.auth.state = a.State
	}
	switch {
	case a.Code == packet.ContinueAuthentication && c.auth != nil: // [MQTT-4.12.0-2]
		c.sendAuth(t, packet.ContinueAuthentication, a)
		c.state = stAuthing
		return nil
	case a.Code.Failed() || a.Code != packet.Success: // [MQTT-4.12.0-4]
		return c.refuse(t, failure(a.Code), a.Reason)
	}
	if a.Username != "" && a.Username != u.Username {
		u.Username, c.client = a.Username, nil
		c.flags &^= flagCertified
	}
	u.data = a.Data
	if u.MaxPacket > 0 && c.answerOf(t).Length(c.ver) > int(u.MaxPacket) { // [MQTT-3.1.2-24]
		return c.refuse(t, packet.PacketTooLarge, "CONNACK exceeds the client's maximum packet size")
	}
	c.state = stWill
	return nil
}

// allowedWill asks the access rules for the will, and gets in line for the
// session.
func (c *conn) allowedWill(t *turn) error {
	u := c.setup
	if a := t.o.Authorizer; a != nil && u.Will != nil {
		u.asked = true
		q := t.question(c.known(), Publish, u.Will.Topic, u.Will.QoS)
		q.Retain = u.Will.Retain
		switch a.Access(q, q.Client.asked) {
		case Later:
			return transport.ErrPaused
		case Deny:
			c.b.stats.deniedPubs.Add(1)
			return c.refuse(t, packet.NotAuthorized, "will to "+strconv.Quote(u.Will.Topic)+", by "+t.rule())
		}
	}
	c.state = stLine
	s := c.b.registry.acquire(u.id, c, newSession)
	if s == nil {
		u.inLine, u.asked = true, true
		return nil
	}
	u.grant.Store(s)
	return nil
}

func failure(code packet.Reason) packet.Reason {
	if code.Failed() {
		return code
	}
	return packet.NotAuthorized
}

// sendAuth sends an AUTH packet with the method of the CONNECT [MQTT-4.12.0-5].
func (c *conn) sendAuth(t *turn, code packet.Reason, a *AuthAnswer) {
	p := packet.Auth{Code: code, Method: c.auth.method, Data: a.Data}
	t.own = p.Append(t.own, c.ver)
	t.n.packetsOut++
}

// acquired goes on when the session is this connection's.
func (c *conn) acquired(t *turn) error {
	u := c.setup
	s := u.grant.Load()
	if s == nil {
		return transport.ErrPaused
	}
	u.inLine = false
	// What is due is done before the client is back, be the expirer late: after a
	// restart much may be due at once.
	will, end := s.dues()
	expired := end != 0 && t.nano >= end // [MQTT-4.1.0-2]
	switch {
	case expired:
		c.b.stats.sessionsExpired.Add(1)
	case will != 0 && t.nano >= will:
		c.b.fireWill(t, s)
	}
	if s.store != nil && (u.CleanStart || expired) { // [MQTT-3.1.2-4]
		fresh := newSession(u.id)
		c.b.registry.replace(s, fresh)
		if !c.b.end(t, s, (*settling)(c)) {
			u.ending = endWaits
		}
		s = fresh
		u.grant.Store(s)
	}
	r := store.ClaimReq{ClientID: u.id, Clean: u.CleanStart, Expiry: u.expiry}
	if u.Will != nil {
		m, err := packet.NewPublish(&u.Will.Message, t.now)
		if err != nil {
			c.b.registry.release(s, s.store == nil, newSession)
			u.grant.Store(nil)
			return c.refuse(t, packet.TopicNameInvalid, "will: "+err.Error())
		}
		r.Will = &store.Will{Msg: m, Delay: u.Will.Delay}
	}
	c.b.expirer.cancel(s)
	s.gone = 0
	s.setWill(r.Will) // [MQTT-3.1.3-9]
	c.state, u.claimed = stClaim, true
	c.b.store.Claim(r, &sink{c, s})
	return nil
}

// sink is the broker's end of a session in the store.
type sink struct {
	c *conn
	s *session
}

// Claimed implements store.Sink.
func (k *sink) Claimed(s store.Session, st *store.State, err error) {
	if !k.c.setup.claim.CompareAndSwap(nil, &claim{s, st, err}) {
		k.c.b.orphan(k.s, s)
		return
	}
	k.c.signal(sigClaimed)
}

// abandoned is the answer to a claim whose connection did not wait for it.
var abandoned claim

// orphan takes a session that the store gives to a connection that is gone: a
// new one ends, as nobody was told of it; an old one goes on waiting.
func (b *Broker) orphan(s *session, claimed store.Session) {
	fresh := s.store == nil
	if fresh {
		s.setStore(claimed)
	}
	s.setWill(nil)
	if fresh || s.store == nil {
		t := b.borrow()
		b.end(t, s, nil)
		b.give(t)
	} else {
		s.store.Detach(s.expiry, false, nil, 0)
		b.rest(s, b.clock())
	}
	b.registry.release(s, fresh, newSession)
}

// Ready implements store.Sink.
func (k *sink) Ready() { k.s.wake() }

// claimed goes on with the store's answer.
func (c *conn) claimed(t *turn) error {
	u := c.setup
	a := u.claim.Load()
	if a == nil || u.ending == endWaits {
		return transport.ErrPaused
	}
	s := u.grant.Load()
	err := a.err
	if err == nil && u.ending == endFailed {
		if err = errNotEnded; a.s != nil {
			a.s.End(nil, 0)
		}
	}
	if err != nil {
		s.setWill(nil)
		if s.store != nil {
			c.b.rest(s, t.nano)
		}
		c.b.registry.release(s, s.store == nil, newSession)
		u.grant.Store(nil)
		code := packet.ServerUnavailable
		if errors.Is(err, store.ErrQuota) {
			code = packet.QuotaExceeded
		}
		return c.refuse(t, code, "claim session: "+err.Error())
	}
	present := a.st != nil
	if s.store == nil { // else it is the same, and others read it
		s.setStore(a.s)
	}
	if !c.judge(t, s, c.known().asked) {
		return transport.ErrPaused
	}
	c.connack(t, present)
	c.attach(t, s)
	if u.Username != "" {
		c.client = c.info()
	}
	c.setup = nil
	t.giveSetup(u)
	if s.late.Load() { // the store has left word while nobody was there
		c.io.Wake()
	}
	st := &c.b.stats
	st.connects.Add(1)
	for n := st.connected.Add(1); ; {
		most := st.connectedMax.Load()
		if n <= most || st.connectedMax.CompareAndSwap(most, n) {
			break
		}
	}
	if f := t.o.Events.Connected; f != nil {
		f(c.info(), present)
	}
	if c.b.draining.Load() { // it came between the refusals and the goodbyes
		c.signal(sigShutdown)
	}
	return nil
}

// answerOf is the CONNACK of success: what differs from the protocol's
// defaults, and the Maximum Packet Size always.
func (c *conn) answerOf(t *turn) *packet.Connack {
	u := c.setup
	a := &t.connack
	*a = packet.Connack{}
	if c.ver < packet.V5 {
		return a
	}
	if u.expiry != u.SessionExpiry {
		a.SessionExpiry = &u.expiry
	}
	a.ReceiveMax, a.AliasMax = &c.receiveMax, &c.aliasMax
	if c.maxPacket < MaxPacketSize {
		a.MaxPacket = &c.maxPacket
	}
	if u.assigned { // [MQTT-3.1.3-7]
		a.AssignedClientID = u.id
	}
	if t.o.Retain.Disabled {
		a.RetainAvailable = new(false)
	}
	if u.alive != u.KeepAlive {
		a.ServerKeepAlive = &u.alive
	}
	if u.RequestResponseInfo { // [MQTT-3.1.2-28]
		a.ResponseInfo = t.o.ResponseInformation
	}
	if u.HasAuthMethod { // [MQTT-4.12.0-5]
		a.AuthMethod, a.AuthData = u.AuthMethod, u.data
	}
	return a
}

// connack sends the CONNACK [MQTT-3.2.0-1].
func (c *conn) connack(t *turn, present bool) {
	a := c.answerOf(t)
	a.SessionPresent = present // [MQTT-3.2.2-2], [MQTT-3.2.2-3]
	t.own = a.Append(t.own, c.ver)
	t.n.packetsOut++
	*a = packet.Connack{}
}

// attach makes the session's deliveries go to this connection, after the
// CONNACK, and sends again what is unacknowledged.
func (c *conn) attach(t *turn, s *session) {
	u := c.setup
	s.expiry = u.expiry
	c.io.KeepAlive(t.tt, keepAlive(u.alive))
	t.flush(c)
	c.state, c.s = stOnline, s
	s.activate()
	if s.in != nil {
		s.in.Resume(c.window())
	}

	s.mu.Lock()
	s.ver, s.maxPacket = c.ver, u.MaxPacket
	s.told.Store(0)
	if n := min(int(u.AliasMax), t.o.TopicAliasOutbound); n > 0 {
		s.alias = &aliases{max: uint16(n)}
	}
	s.out.Send.MaxBytes = int32(min(t.o.MaxInflightBytes, 1<<30))
	s.out.Send.Resume(t.o.inflight(&u.Connect), func(id uint16) { // [MQTT-4.4.0-1]
		t.own = packet.AppendAck(t.own, packet.PUBREL, c.ver, id, packet.Success)
		t.n.packetsOut++
	})
	s.io = c.io
	t.recordAgain(s)
	t.flush(c)
	s.stored = s.store != nil
	s.strict = t.o.Authorizer != nil
	s.shared = 0
	for _, x := range s.subs() {
		if strings.HasPrefix(x.filter(), "$share/") {
			s.shared++
		}
	}
	s.setLoad()
	if c.jobs, s.jobs = s.jobs, nil; c.jobs != nil {
		c.jobs.asleep = nil // that was another connection's
	}
	s.mu.Unlock()
	t.pump(s)
	c.retained(t)
}

// window is what the CONNACK allowed the client: its Receive Maximum, which
// 3.x clients do not have, and its Topic Alias Maximum.
func (c *conn) window() (receiveMax, alias uint16) {
	return c.receiveMax, c.aliasMax
}

// newIn makes the receiving half of a session; none has another's tokens.
func (b *Broker) newIn() *sess.In { return sess.NewIn(b.tokens.Add(1) << 32) }

// receiver is the receiving half of the session, made at first use.
func (c *conn) receiver() *sess.In {
	s := c.s
	if s.in == nil {
		s.in = c.b.newIn()
		s.in.Resume(c.window())
	}
	return s.in
}

// refuse answers a CONNECT with a failure, and ends the connection.
// [MQTT-3.2.2-7], [MQTT-3.2.2-6]
func (c *conn) refuse(t *turn, code packet.Reason, text string) error {
	c.state = stOver
	switch {
	case c.ver >= packet.V5:
		a := packet.Connack{Code: code}
		if c.flags&flagNoProblem == 0 {
			a.ReasonString = text
		}
		if u := c.setup; u != nil && u.MaxPacket > 0 && a.Length(c.ver) > int(u.MaxPacket) { // [MQTT-3.2.2-19]
			a.ReasonString = ""
		}
		if u := c.setup; u == nil || u.MaxPacket == 0 || a.Length(c.ver) <= int(u.MaxPacket) { // [MQTT-3.1.2-24]
			t.own = a.Append(t.own, c.ver)
		}
	case c.ver != 0 || code == packet.UnsupportedProtocolVersion:
		v := c.ver
		if v == 0 {
			v = packet.V311
		}
		if code == packet.MalformedPacket || code == packet.ProtocolError { // [MQTT3-3.1.4-1]
			break
		}
		if _, ok := code.ReturnCode(); ok { // [MQTT3-3.2.2-6]
			t.own = (&packet.Connack{Code: code}).Append(t.own, v)
		}
	}
	return c.refused(&over{code, text})
}

// refused counts, logs and reports a connection without a successful CONNACK.
func (c *conn) refused(err error) error {
	c.b.stats.refusedConns.Add(1)
	code, text := packet.UnspecifiedError, err.Error()
	var o *over
	if errors.As(err, &o) {
		code, text = o.code, o.text
	}
	id := ""
	if c.setup != nil {
		id = c.setup.id
	}
	c.b.log.Warn("connection refused", "client", id, "address", c.io.RemoteAddr(), "code", code.String(), "err", text)
	if f := c.b.opt().Events.Refused; f != nil {
		f(c.io.RemoteAddr(), code, err)
	}
	return err
}

// abandon gives up what a connection held that ends before its CONNACK.
func (c *conn) abandon(*turn) {
	u := c.setup
	if u.inLine && c.b.registry.leave(u.id, c) {
		return
	}
	s := u.grant.Load()
	if s == nil {
		return
	}
	if u.claimed && u.claim.CompareAndSwap(nil, &abandoned) {
		return // the store's answer is not there yet: orphan will see to it
	}
	if a := u.claim.Load(); u.claimed && a.err == nil {
		c.b.orphan(s, a.s)
		return
	}
	if u.claimed { // its timers were stopped, and its will is this connection's
		s.setWill(nil)
		if s.store != nil {
			c.b.rest(s, c.b.clock())
		}
	} else {
		c.b.arm(s)
	}
	c.b.registry.release(s, s.store == nil, newSession)
}

// onDisconnect takes the client's DISCONNECT.
func (c *conn) onDisconnect(t *turn, b []byte, hdr int) error {
	var d packet.Disconnect
	if err := d.Parse(b, hdr, c.ver); err != nil {
		return c.bad(t, b, err)
	}
	s := c.s
	if d.HasSessionExpiry && d.SessionExpiry != s.expiry {
		if s.expiry == 0 { // 3.14.2.2.2
			return c.fail(t, packet.ProtocolError, "session expiry changed from 0 at DISCONNECT")
		}
		s.expiry = d.SessionExpiry
		if m := t.o.MaxSessionExpiry; m > 0 {
			s.expiry = min(s.expiry, m)
		}
	}
	if d.Code == packet.Success { // [MQTT-3.14.4-3]
		s.will = nil
	}
	c.state, c.code = stLeft, d.Code
	if c.detach(t, errLeft, (*settling)(c)) {
		c.state = stOver
		return errLeft
	}
	return nil
}

// settling is a connection that waits until what it did to its session as a
// whole is on the disk.
type settling conn

// Done implements store.Completer; any goroutine.
func (x *settling) Done(_ uint64, err error) {
	if err != nil {
		(*conn)(x).signal(sigSettled | sigFailed)
	} else {
		(*conn)(x).signal(sigSettled)
	}
}

// detach ends the connection's ownership: the session waits for the client to
// come back, or ends. done: it need not be waited for, and w is not called; w
// is nil where nobody waits.
func (c *conn) detach(t *turn, err error, w store.Completer) (done bool) {
	s := c.s
	s.mu.Lock()
	s.io, s.alias = nil, nil
	if s.store != nil {
		s.jobs = c.jobs
	}
	s.setLoad()
	s.mu.Unlock()
	if c.code == packet.Success && !errors.Is(err, errLeft) {
		c.code = packet.UnspecifiedError
	}
	if f := t.o.Events.Disconnected; f != nil {
		f(c.info(), c.code, err)
	}
	ended := s.store == nil || s.expiry == 0
	if ended {
		done = c.b.end(t, s, w)
	} else {
		if s.will != nil {
			if s.will.Delay == 0 {
				c.b.fireWill(t, s)
			} else {
				s.willAt = t.nano + int64(min(s.will.Delay, s.expiry))*1e9 // 3.1.3.2.2: at the earlier of the two
			}
		}
		done = s.store.Detach(s.expiry, s.will != nil, w, 0)
		c.b.rest(s, t.nano)
	}
	c.s, c.jobs = nil, nil
	c.b.registry.release(s, ended, newSession)
	c.b.stats.connected.Add(-1)
	return done
}

// rest begins the time in which nobody owns a session that goes on: its timers
// run from now, in Unix nanoseconds, and it keeps what is needed again.
func (b *Broker) rest(s *session, now int64) {
	s.gone = uint32((now + 1e9 - 1) / 1e9)
	s.settle()
	b.arm(s)
}

// onAuth takes an AUTH: the next step of the authentication of the CONNECT, or
// a re-authentication. [MQTT-4.12.0-7], [MQTT-4.12.1-1]
func (c *conn) onAuth(t *turn, b []byte, hdr int) error {
	if c.ver < packet.V5 {
		return c.fail(t, packet.ProtocolError, "AUTH in "+c.ver.String())
	}
	var p packet.Auth
	if err := p.Parse(b, hdr, c.ver); err != nil {
		return c.bad(t, b, err)
	}
	auth := t.o.Authenticator
	switch {
	case c.auth == nil || auth == nil:
		return c.fail(t, packet.ProtocolError, "AUTH without an authentication method in CONNECT")
	case p.Method != c.auth.method:
		return c.fail(t, packet.BadAuthenticationMethod, "authentication method changed")
	}
	r := &AuthRequest{Client: c.info(), Method: p.Method, Data: p.Data, State: c.auth.state}
	if c.state == stAuthing {
		if p.Code != packet.ContinueAuthentication { // [MQTT-4.12.0-3]
			return c.fail(t, packet.ProtocolError, "AUTH with reason code "+p.Code.String())
		}
		c.state = stAuth
		c.ask(auth, r)
		if err := c.advance(t); err != nil {
			if err == transport.ErrPaused {
				return c.pause()
			}
			return err
		}
		return nil
	}
	switch {
	case p.Code == packet.Reauthenticate:
		r.State = nil
	case p.Code != packet.ContinueAuthentication || c.setup == nil:
		return c.fail(t, packet.ProtocolError, "AUTH with reason code "+p.Code.String())
	}
	r.Reauthenticate = true
	c.setup = &setup{id: c.s.id}
	c.flags |= flagReauth
	c.ask(auth, r)
	if err := c.reauthenticated(t); err != nil {
		return err
	}
	if c.flags&flagReauth != 0 {
		return c.pause()
	}
	return nil
}

// reauthenticated takes the authenticator's answer on a connection that stands.
func (c *conn) reauthenticated(t *turn) error {
	a := c.setup.answer.Swap(nil)
	if a == nil {
		return nil
	}
	c.flags &^= flagReauth
	c.auth.state = a.State
	switch {
	case a.Code == packet.ContinueAuthentication:
		c.sendAuth(t, packet.ContinueAuthentication, a)
		return nil // c.setup stays: another AUTH may come
	case a.Code != packet.Success: // [MQTT-4.12.1-2]
		return c.fail(t, failure(a.Code), a.Reason)
	}
	c.allowed = nil // another user's rules
	if a.Username != "" {
		renamed := *c.info()
		renamed.Username, renamed.FromCertificate = a.Username, renamed.FromCertificate && a.Username == renamed.Username
		c.client = &renamed
	}
	c.setup = nil
	c.sendAuth(t, packet.Success, a)
	c.rejudge(t)
	return nil
}
