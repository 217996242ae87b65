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
	e.Cleanup(func() { p.cmd.Process.Kill() })
	return p
}

// transports: the same broker on TCP and on WebSocket.
func transports(e *env) {
	e.healthy()
	wsServes(e)
}

// shutdown: asked to end, the server tells clients of 5.0 so with 0x8B, closes the others without a packet, and ends well.
func shutdown(e *env) {
	p := e.own()
	nc, err := dialTCP(p.tcp)
	if err != nil {
		e.Fatal(err)
	}
	c := newClient(e, e.v, nc)
	c.hail(lasting(e.unique()))
	c.welcome()
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
