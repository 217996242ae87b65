//go:build conformance

package conformance

import (
	"syscall"
	"time"
)

// serverCases need a program of their own, or the one under test as a whole.
func serverCases() []testCase {
	return []testCase{
		{"transports", all, transports},
		{"shutdown", all, shutdown},
		{"connect-timeout", all, connectTimeout},
		{"server-keep-alive", five, serverKeepAlive},
		{"retain-unavailable", five, retainUnavailable},
		{"pubrec-failing", five, pubrecFailing},
		{"nothing-needed", all, nothingNeeded},
	}
}

// own starts a program for this case alone.
func (e *env) own(args ...string) *process {
	e.Helper()
	if target.bin == "" {
		e.Skip("needs the project's own program (MYELIN_URL is set)")
	}
	p, err := start(e.TempDir(), args...)
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() {
		if p.over {
			p.cmd.Process.Kill()
		} else if err := p.stop(); err != nil {
			e.Error(err)
		}
	})
	return p
}

// at opens a connection to a program of the case's own.
func (p *process) at(e *env) *client {
	e.Helper()
	nc, err := dialTCP(p.tcp)
	if err != nil {
		e.Fatal(err)
	}
	return newClient(e, e.v, nc)
}

// in opens a connection to it that must be accepted.
func (p *process) in(e *env, k connect) *client {
	e.Helper()
	c := p.at(e)
	c.hail(k)
	return c.welcome()
}

// transports: the same broker on TCP and on WebSocket.
func transports(e *env) {
	e.healthy()
	wsServes(e)
}

// shutdown: asked to end, the server tells clients of 5.0 so with 0x8B, closes the others without a packet, and ends well.
func shutdown(e *env) {
	p := e.own()
	c := p.in(e, lasting(e.unique()))
	p.over = true
	p.cmd.Process.Signal(syscall.SIGTERM)
	c.closed(0x8B)
	select {
	case err := <-p.done:
		if err != nil {
			e.Errorf("the program ended with %v", err)
		}
	case <-time.After(3 * patience):
		e.Errorf("the program did not end")
	}
}

// nothingNeeded: the plainest client there can be is served, without any property or extension.
func nothingNeeded(e *env) {
	c := e.dial()
	c.id = e.unique()
	var none []byte
	if e.v == v5 {
		none = []byte{0}
	}
	c.send(frame(0x10, protocol(e.v), raw(2, 0, 0), none, str(c.id)))
	c.welcome()
	c.send(frame(0x82, raw(0, 1), none, str(e.topic("t")), raw(0)))
	c.ackFor(tSUBACK, 1)
	c.send(frame(0x30, str(e.topic("t")), none, raw('m')))
	if p := c.message(); p.payload != "m" || len(p.props) > 0 {
		e.Errorf("got %s", p)
	}
	c.send(raw(0xC0, 0))
	c.expect(tPINGRESP)
	c.disconnect()
}

// connectTimeout: who says nothing, or half a CONNECT, or a CONNECT byte by byte for ever, is put out.
func connectTimeout(e *env) {
	p := e.own("--limits-connect-timeout", "1s")
	silent, half, slow := p.at(e), p.at(e), p.at(e)
	b := connect{id: e.unique()}.bytes(e.v)
	half.send(b[:len(b)-1])
	go func() {
		for _, one := range b {
			slow.write(raw(one))
			time.Sleep(300 * time.Millisecond) // as slowly as it wants to be
		}
	}()
	at := time.Now()
	for _, c := range []*client{silent, half, slow} {
		c.turnedAway()
	}
	if d := time.Since(at); d > 5*time.Second {
		e.Errorf("the last one was put out after %v", d)
	}
	p.in(e, connect{}).alive()
}

// serverKeepAlive: the server's own keep alive and session expiry are announced, and the keep alive is enforced.
func serverKeepAlive(e *env) {
	p := e.own("--limits-max-keep-alive", "1s", "--limits-max-session-expiry", "5s")
	for _, n := range []uint16{0, 100} {
		k := lasting(e.unique())
		k.keepAlive = n
		c := p.in(e, k)
		if c.hello.number(pServerKeepAlive, 0) != 1 || c.hello.number(pSessionExpiry, 300) != 5 {
			e.Errorf("got %s, want a server keep alive of 1 s and a session expiry of 5 s", c.hello)
		}
		at := time.Now()
		c.closed(0x8D)
		if d := time.Since(at); d < 1400*time.Millisecond || d > 4*time.Second {
			e.Errorf("closed after %v", d)
		}
	}
}

// retainUnavailable: a server without retained messages says so, and refuses them.
func retainUnavailable(e *env) {
	p := e.own("--retain-enabled=false")
	c := p.in(e, connect{})
	if c.hello.number(pRetainAvailable, 1) != 0 {
		e.Fatalf("got %s, want retain available 0", c.hello)
	}
	c.send(message{topic: e.topic("t"), payload: "x", retain: true}.bytes(e.v))
	c.closed(0x9A)
	c = p.at(e)
	c.hail(connect{will: &will{topic: e.topic("t"), payload: "x", retain: true}})
	c.refused(0x9A)
}

// pubrecFailing: an identifier whose PUBREC had an error is free at once: the next PUBLISH with it is a new message.
func pubrecFailing(e *env) {
	p := e.own("--queue-policy", "refuse", "--queue-max-messages", "1")
	pub, sub := p.in(e, connect{}), p.in(e, lasting(e.unique()))
	sub.want(e.topic("t"), 2)
	sub.disconnect()
	pub.publish(message{topic: e.topic("t"), payload: "fills", qos: 1, id: 1})
	if code := pub.publish(message{topic: e.topic("t"), payload: "too much", qos: 1, id: 1}); code != 0x97 {
		e.Errorf("PUBACK has the code %#x, want 0x97", code)
	}
	if code := pub.publish(message{topic: e.topic("t"), payload: "too much", qos: 2, id: 7}); code != 0x97 {
		e.Errorf("PUBREC has the code %#x, want 0x97", code)
	}
	sub = p.in(e, lasting(sub.id))
	sub.receive("fills")
	sub.alive()
	if code := pub.publish(message{topic: e.topic("t"), payload: "new", qos: 2, id: 7}); code != 0 {
		e.Errorf("the flow ended with the code %#x", code)
	}
	sub.receive("new")
}
