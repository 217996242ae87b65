package client

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"github.com/myelin-mqtt/myelin/internal/dial"
	"github.com/myelin-mqtt/myelin/packet"
)

// link is one connection whose CONNACK has come.
type link struct {
	net.Conn
	gen       uint64
	server    string
	version   packet.Version
	ack       packet.Connack
	keepAlive time.Duration
	maxPacket uint32 // the server's, 0: no limit
	maxQoS    packet.QoS
	aliases   aliases
	known     [][]byte  // the server's topic aliases, by their number - 1; the reader's
	rest      []byte    // what came behind the CONNACK; the reader's
	topic     string    // of the last message; the reader's
	inline    []arrival // what came in one read, with Options.Inline; the reader's

	cause   atomic.Pointer[error] // why this end closed it, nil: it did not
	sentAt  int64                 // the writer's, as heard
	writeBy int64                 // the deadline of writes that was set
	pingAt  int64                 // when the PINGREQ that is not answered left, 0: there is none
}

// fail closes the connection for err. The first one counts.
func (l *link) fail(err error) {
	l.cause.CompareAndSwap(nil, &err)
	l.Close()
}

// run connects again and again, and reads, until the client ends.
func (c *Client) run(first chan<- error) {
	defer c.finish()
	backoff := c.o.MinBackoff
	for attempt := 1; ; {
		err := error(nil)
		for _, s := range c.servers {
			c.setState(StateEvent{State: Connecting, Server: s.name, Attempt: attempt})
			var l *link
			if l, err = c.open(s); err != nil {
				c.log.Warn("cannot connect", "server", s.name, "attempt", attempt, "err", err)
				attempt++
				if c.ctx.Err() != nil {
					first <- err
					return
				}
				continue
			}
			begin := time.Now()
			c.establish(l, attempt)
			if !c.again {
				c.again = true
				first <- nil
			}
			attempt = 1
			err = c.read(l)
			c.lose(l, err)
			if time.Since(begin) > 5*time.Second {
				backoff = c.o.MinBackoff
			}
			break
		}
		if c.over(err) {
			if !c.again {
				first <- err
			}
			return
		}
		// The wait is shortened at random, so that the clients of a broker that was away do not come back together.
		wait := backoff - time.Duration(mrand.Int64N(int64(backoff)/2+1))
		backoff = min(2*backoff, c.o.MaxBackoff)
		c.setState(StateEvent{State: Waiting, Err: err, Attempt: attempt, Retry: wait})
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-c.ctx.Done():
			t.Stop()
		}
		if c.ctx.Err() != nil {
			if !c.again {
				first <- err
			}
			return
		}
	}
}

// over decides whether there is no next attempt after err, and ends the client then.
func (c *Client) over(err error) bool {
	c.mu.Lock()
	leaving := c.leaving || c.ended
	c.mu.Unlock()
	var r *ReasonError
	switch {
	case leaving:
		c.end(nil)
	case c.o.NoReconnect, !c.again && !c.o.RetryConnect:
		c.end(err)
	case errors.As(err, &r) && r.Packet == packet.DISCONNECT && r.Code == packet.SessionTakenOver:
		// Another one with this client identifier has come. Two that come back
		// for ever throw each other out for ever.
		c.end(err)
	default:
		return false
	}
	return true
}

// setState notes and tells a change of state. Only the runner calls it.
func (c *Client) setState(e StateEvent) {
	e.At = time.Now()
	c.mu.Lock()
	c.state = e.State
	c.changed.tell()
	c.mu.Unlock()
	if c.o.OnState != nil {
		c.o.OnState(e)
	}
}

// open makes one connection, from the name to the CONNACK.
func (c *Client) open(s server) (*link, error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.o.ConnectTimeout)
	defer cancel()
	if c.version < packet.V5 && c.o.CleanStart && c.o.SessionExpiry != 0 && !c.again {
		// Below 5.0 a session that outlives its connection cannot begin anew in one step. [MQTT3-3.1.2-6]
		l, err := c.dial(ctx, s, true)
		if err != nil {
			return nil, err
		}
		_, err = l.Write((&packet.Disconnect{}).Append(nil, l.version))
		l.Close()
		if err != nil {
			return nil, fmt.Errorf("end the old session: %w", err)
		}
	}
	l, err := c.dial(ctx, s, c.o.SessionExpiry == 0 || c.o.CleanStart && !c.again && c.version >= packet.V5)
	var r *ReasonError
	if c.o.Version == 0 && c.version == packet.V5 && errors.As(err, &r) && r.Code == packet.UnsupportedProtocolVersion {
		c.version = packet.V311
		return c.open(s)
	}
	return l, err
}

func (c *Client) dial(ctx context.Context, s server, clean bool) (*link, error) {
	conn, err := s.to.Dial(ctx, dial.Options{
		TLS: c.o.TLS, Dial: c.o.Dial, Header: c.o.Header, Network: c.o.Network, Phase: c.o.Trace.Phase,
	})
	if err != nil {
		return nil, err
	}
	l := &link{Conn: conn, server: s.name, version: c.version}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	err = c.handshake(ctx, l, clean)
	if !stop() && err == nil {
		err = errors.New("too late")
	}
	if err == nil {
		return l, nil
	}
	conn.Close()
	if ctx.Err() != nil {
		err = fmt.Errorf("wait for CONNACK: %w", context.Cause(ctx))
	}
	var r *ReasonError
	if !errors.As(err, &r) { // else it spoke MQTT
		err = s.to.Advise(err)
	}
	return nil, err
}

// handshake sends CONNECT and waits for the CONNACK, with what an enhanced
// authentication has between them.
func (c *Client) handshake(ctx context.Context, l *link, clean bool) error {
	p, err := c.connectPacket(ctx, clean)
	if err != nil {
		return err
	}
	if err := c.say(l, p); err != nil {
		return err
	}
	buf := make([]byte, 0, readFirst)
	for {
		b, n, err := c.hear(l, &buf)
		if err != nil {
			return err
		}
		switch packet.Type(b[0] >> 4) {
		case packet.CONNACK:
			v := l.version
			if n == 4 { // a server that has no 5.0 says so in the form of 3.1.1
				v = packet.V311
			}
			if err := parse(&l.ack, b[:n], v); err != nil {
				return fmt.Errorf("read CONNACK: %w", err)
			}
			l.rest = append([]byte(nil), buf[n:]...)
			if l.ack.Code.Failed() {
				return &ReasonError{packet.CONNACK, l.ack.Code, l.ack.ReasonString, l.ack.ServerReference}
			}
			if v != l.version {
				return fmt.Errorf("read CONNACK: it has the form of 3.1.1: %w", &packet.Error{Code: packet.ProtocolError})
			}
			if c.o.Auth != nil && l.version >= packet.V5 {
				if err := c.o.Auth.Finish(ctx, l.ack.AuthData); err != nil {
					return fmt.Errorf("finish authentication: %w", err)
				}
			}
			return nil
		case packet.AUTH:
			var a packet.Auth
			if err := parse(&a, b[:n], l.version); err != nil {
				return fmt.Errorf("read AUTH: %w", err)
			}
			if c.o.Auth == nil || l.version < packet.V5 || a.Code != packet.ContinueAuthentication {
				return fmt.Errorf("authenticate: %w", &packet.Error{Code: packet.ProtocolError, Text: "AUTH was not asked for"})
			}
			data, err := c.o.Auth.Continue(ctx, a.Data)
			if err != nil {
				return fmt.Errorf("authenticate: %w", err)
			}
			if err := c.say(l, &packet.Auth{Code: packet.ContinueAuthentication, Method: c.o.Auth.Method(), Data: data}); err != nil {
				return err
			}
			buf = append(buf[:0], buf[n:]...)
		case packet.DISCONNECT:
			return serverLeft(b[:n], l.version)
		default:
			return fmt.Errorf("wait for CONNACK: %s came", packet.Type(b[0]>>4))
		}
	}
}

// parse reads b, exactly one packet.
func parse(p interface {
	Parse(b []byte, hdr int, v packet.Version) error
}, b []byte, v packet.Version) error {
	_, hdr, err := packet.Frame(b, 0)
	if err != nil {
		return err
	}
	return p.Parse(b, hdr, v)
}

// say writes a packet before the writer has the connection.
func (c *Client) say(l *link, p packet.Packet) error {
	b := p.Append(nil, l.version)
	c.traceOut(b, l.version)
	if _, err := l.Write(b); err != nil {
		return fmt.Errorf("send %s: %w", p.Type(), err)
	}
	return nil
}

// hear reads until buf begins with a whole packet, which has n bytes.
func (c *Client) hear(l *link, buf *[]byte) (b []byte, n int, err error) {
	for {
		n, _, err := packet.Frame(*buf, int(c.o.MaxPacket))
		if err != nil {
			return nil, 0, fmt.Errorf("wait for CONNACK: %w", dial.NotMQTT(*buf, err))
		}
		if n > 0 {
			if c.o.Trace.Packet != nil {
				c.o.Trace.Packet(PacketEvent{At: time.Now(), Bytes: (*buf)[:n], Version: l.version})
			}
			return *buf, n, nil
		}
		if len(*buf) == cap(*buf) {
			*buf = append(make([]byte, 0, 2*cap(*buf)), *buf...)
		}
		k, err := l.Read((*buf)[len(*buf):cap(*buf)])
		*buf = (*buf)[:len(*buf)+k]
		if err != nil && k == 0 {
			return nil, 0, fmt.Errorf("wait for CONNACK: %w", err)
		}
	}
}

func (c *Client) connectPacket(ctx context.Context, clean bool) (*packet.Connect, error) {
	p := &packet.Connect{
		Version: c.version, CleanStart: clean, ClientID: c.clientID(), Will: c.o.Will,
		Username: c.o.Username, Password: c.o.Password, ReceiveMax: c.o.ReceiveMaximum, MaxPacket: c.o.MaxPacket,
		AliasMax: uint16(c.o.TopicAliasMaximum), SessionExpiry: c.o.expiry(), RequestResponseInfo: true,
		RequestProblemInfo: true, User: c.o.User,
	}
	if c.o.KeepAlive > 0 {
		p.KeepAlive = uint16(max(1, c.o.KeepAlive/time.Second))
	}
	if c.o.Credentials != nil {
		var err error
		if p.Username, p.Password, err = c.o.Credentials(ctx); err != nil {
			return nil, fmt.Errorf("get credentials: %w", err)
		}
	}
	p.HasPassword = p.Password != nil
	// Below 5.0 a password needs a user name. [MQTT3-3.1.2-22]
	p.HasUsername = p.Username != "" || p.HasPassword && p.Version < packet.V5
	if a := c.o.Auth; a != nil && p.Version >= packet.V5 {
		data, err := a.Start(ctx)
		if err != nil {
			return nil, fmt.Errorf("begin authentication: %w", err)
		}
		p.AuthMethod, p.HasAuthMethod, p.AuthData = a.Method(), true, data
	}
	return p, nil
}

// clientID is the identifier to connect with.
func (c *Client) clientID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.o.ClientID != "":
		return c.o.ClientID
	case c.session.ClientID == "" && c.version < packet.V5:
		var b [8]byte
		_, _ = rand.Read(b[:]) // it never fails
		// Letters and digits, at most 23, are what every server takes. [MQTT3-3.1.3-5]
		c.session.ClientID = "myelin" + hex.EncodeToString(b[:])
	}
	return c.session.ClientID
}

// establish takes a connection into use.
func (c *Client) establish(l *link, attempt int) {
	l.take(&c.o)
	c.mu.Lock()
	c.gen++
	l.gen = c.gen
	c.stats.Connects++
	id := c.session.ClientID
	if c.o.ClientID != "" {
		id = c.o.ClientID
	}
	if l.ack.AssignedClientID != "" {
		id = l.ack.AssignedClientID
	}
	c.session = Session{
		Server: l.server, Version: l.version, ClientID: id, Connack: l.ack, Local: l.LocalAddr(), Remote: l.RemoteAddr(),
		TLS: dial.State(l.Conn),
	}
	if !l.ack.SessionPresent {
		c.forget()
	}
	if c.o.Store != nil && (!l.ack.SessionPresent || !c.toldStore) {
		c.toldStore = true
		c.record(Record{Kind: RecordSession, ClientID: id})
	}
	c.resumeIn(l)
	now := c.since()
	c.heard.Store(now)
	l.sentAt = now
	c.link = l
	if c.ended { // Close did not see the connection
		l.Close()
	}
	limit := c.o.MaxInflight
	if l.ack.ReceiveMax != nil {
		limit = min(limit, *l.ack.ReceiveMax)
	}
	c.snd.Resume(limit, func(id uint16) {
		c.out = packet.AppendAck(c.grow(), packet.PUBREL, l.version, id, packet.Success)
	})
	c.askAgain(l, !l.ack.SessionPresent)
	c.pump()
	c.poke()
	c.unlock()
	c.log.Info("connected", "server", l.server, "version", l.version, "client", id, "session present", l.ack.SessionPresent)
	c.setState(StateEvent{State: Connected, Server: l.server, Attempt: attempt, SessionPresent: l.ack.SessionPresent})
}

// take reads what the CONNACK says of the server.
func (l *link) take(o *Options) {
	l.maxQoS, l.keepAlive = packet.QoS(2), max(o.KeepAlive, 0)
	a := &l.ack
	if a.MaxQoS != nil {
		l.maxQoS = *a.MaxQoS
	}
	if a.MaxPacket != nil {
		l.maxPacket = *a.MaxPacket
	}
	if a.ServerKeepAlive != nil { // [MQTT-3.1.2-21]
		l.keepAlive = time.Duration(*a.ServerKeepAlive) * time.Second
	}
	if a.AliasMax != nil {
		l.aliases.max = min(o.SendAliases, int(*a.AliasMax))
	}
}

// lose gives up a connection that broke, or was closed.
func (c *Client) lose(l *link, err error) {
	l.Close()
	c.mu.Lock()
	c.link = nil
	c.snd.Max = 0 // everything waits
	c.out, c.answers = c.out[:0], 0
	for _, done := range c.written {
		c.stats.Dropped++
		c.tell(done, Receipt{}, fmt.Errorf("publish at QoS 0: %w", err))
	}
	c.written = nil
	for id := range c.sent {
		delete(c.sent, id)
	}
	c.reauth = nil
	c.changed.tell()
	leaving := c.leaving || c.ended
	c.unlock()
	if !leaving {
		c.log.Warn("connection lost", "server", l.server, "err", err)
	}
}

// finish ends what is left when there are no connections any more. It is called
// once.
func (c *Client) finish() {
	c.end(nil)
	c.writer.Wait()
	c.mu.Lock()
	n := c.recorded
	c.mu.Unlock()
	if err := c.keep(n); err != nil {
		c.log.Error("the session is not kept whole", "err", err)
	}
	c.mu.Lock()
	err := c.closedError()
	for c.pending.n > 0 {
		if p := c.pending.pop(); !p.over {
			c.tell(p.done, Receipt{}, err)
		}
	}
	for c.waiting0.n > 0 {
		c.stats.Dropped++
		c.tell(c.waiting0.pop().done, Receipt{}, err)
	}
	for _, x := range c.calls {
		x.end(err)
	}
	c.calls = nil
	c.requests.end(err)
	c.stats.Dropped += uint64(len(c.inbox))
	c.unhandled -= len(c.inbox)
	c.inbox = nil
	c.state = Closed
	cause := c.err
	c.changed.tell()
	c.unlock()
	if c.o.OnState != nil {
		c.o.OnState(StateEvent{State: Closed, At: time.Now(), Err: cause})
	}
	close(c.done)
}

// since is the time since born, in nanoseconds.
func (c *Client) since() int64 { return int64(time.Since(c.born)) }
