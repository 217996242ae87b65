//go:build conformance

package conformance

import (
	"strings"
)

func wsCases() []testCase {
	return []testCase{
		{"ws-serves", all, wsServes},
		{"ws-subprotocol", all, wsSubprotocol},
		{"ws-text-frame", all, wsTextFrame},
		{"ws-split", all, wsSplit},
		{"ws-several-in-one", all, wsSeveralInOne},
		{"ws-fragments", all, wsFragments},
		{"ws-ping-close", all, wsPingClose},
		{"ws-unmasked", all, wsUnmasked},
		{"ws-length-beyond-frame", all, wsLengthBeyondFrame},
		{"ws-large", all, wsLarge},
	}
}

// ws opens a WebSocket and gives a client on it.
func (e *env) ws() (*client, *wsConn) {
	e.Helper()
	if target.ws == "" {
		e.Skip("the server under test has no WebSocket listener (MYELIN_WS_URL)")
	}
	w, err := dialWS(target.ws, "mqtt")
	if err != nil {
		e.Fatalf("dial: %v", err)
	}
	return newClient(e, e.v, w), w
}

// frames sends raw WebSocket frames.
func (w *wsConn) frames(e *env, list ...[]byte) {
	e.Helper()
	if _, err := w.TCPConn.Write(cat(list...)); err != nil {
		e.Fatalf("write frames: %v", err)
	}
}

// wsServes: a client on WebSocket and one on TCP talk to each other at every quality of service.
func wsServes(e *env) {
	c, _ := e.ws()
	c.hail(connect{})
	c.welcome()
	other := e.client()
	c.want(e.topic("to ws"), 2)
	other.want(e.topic("to tcp"), 2)
	for qos := byte(0); qos <= 2; qos++ {
		c.publish(message{topic: e.topic("to tcp"), payload: "m", qos: qos})
		other.receive("m")
		other.publish(message{topic: e.topic("to ws"), payload: "m", qos: qos})
		c.receive("m")
	}
	c.disconnect()
}

func wsSubprotocol(e *env) {
	_, w := e.ws()
	if got := w.header.Get("Sec-WebSocket-Protocol"); got != "mqtt" {
		e.Errorf("the subprotocol is %q", got)
	}
	w, err := dialWS(target.ws, "soap", "mqtt", "mqttv3.1")
	if err != nil {
		e.Fatalf("dial: %v", err)
	}
	defer w.Close()
	if got := w.header.Get("Sec-WebSocket-Protocol"); got != "mqtt" {
		e.Errorf("the subprotocol chosen from several is %q", got)
	}
}

// wsTextFrame: a text frame ends the connection, before and after CONNECT.
func wsTextFrame(e *env) {
	c, w := e.ws()
	w.frames(e, wsFrame(wsText, true, connect{id: e.unique()}.bytes(e.v)))
	c.drain(nil)
	c, w = e.ws()
	c.hail(connect{})
	c.welcome()
	w.frames(e, wsFrame(wsText, true, pingreq()))
	c.ended()
	if w.code != 0 && w.code != 1003 && w.code != 1002 {
		e.Errorf("closed with the code %d, want 1003", w.code)
	}
}

// ended waits for the end; any DISCONNECT may come before.
func (c *client) ended() {
	c.e.Helper()
	for {
		p, err := c.read(patience)
		if err != nil {
			if err.Error() != "EOF" {
				c.e.Fatalf("%s: waiting for the end: %v", c.id, err)
			}
			return
		}
		if p.typ != tDISCONNECT && p.typ != tPUBLISH {
			c.e.Fatalf("%s: got %s, want the end", c.id, p)
		}
	}
}

// wsSplit: a packet goes over as many frames as it has bytes, with empty frames in between.
func wsSplit(e *env) {
	c, w := e.ws()
	c.id = e.unique()
	for _, b := range cat(connect{id: c.id}.bytes(e.v), subscribe(e.v, 1, nil, filter{e.topic("t"), 1}), pingreq()) {
		w.frames(e, wsFrame(wsBinary, true, raw(b)), wsFrame(wsBinary, true, nil))
	}
	c.welcome()
	c.ackFor(tSUBACK, 1)
	c.expect(tPINGRESP)
}

// wsSeveralInOne: frames hold several packets, and the border of a frame lies within one.
func wsSeveralInOne(e *env) {
	c, w := e.ws()
	c.id = e.unique()
	all := cat(connect{id: c.id}.bytes(e.v), subscribe(e.v, 1, nil, filter{e.topic("t"), 1}), pingreq(),
		message{topic: e.topic("t"), payload: strings.Repeat("m", 70000), qos: 1, id: 2}.bytes(e.v), pingreq())
	for _, at := range [][]byte{all[:len(all)/2], all[len(all)/2:]} {
		w.frames(e, wsFrame(wsBinary, true, at))
	}
	c.welcome()
	c.ackFor(tSUBACK, 1)
	c.expect(tPINGRESP)
	c.ackFor(tPUBACK, 2)
	c.expect(tPINGRESP)
	c.receive(strings.Repeat("m", 70000))
}

// wsFragments: a message of several frames, with a ping between them.
func wsFragments(e *env) {
	c, w := e.ws()
	c.id = e.unique()
	b := connect{id: c.id}.bytes(e.v)
	w.frames(e, wsFrame(wsBinary, false, b[:3]), wsFrame(0, false, b[3:5]), wsFrame(wsPing, true, []byte("hi")), wsFrame(0, false, nil),
		wsFrame(0, true, b[5:]))
	c.welcome()
	c.alive()
	w.frames(e, wsFrame(0, true, pingreq())) // the continuation of nothing
	c.ended()
}

func wsPingClose(e *env) {
	c, w := e.ws()
	c.hail(connect{})
	c.welcome()
	w.frames(e, wsFrame(wsPing, true, []byte("payload")))
	c.alive()
	w.frames(e, wsFrame(wsClose, true, raw(0x03, 0xE8)))
	c.ended()
	if w.code != 1000 {
		e.Errorf("the close frame was answered with the code %d, want 1000", w.code)
	}
}

// wsUnmasked: frames from a client are masked.
func wsUnmasked(e *env) {
	c, w := e.ws()
	c.hail(connect{})
	c.welcome()
	w.frames(e, cat(raw(0x82, 2), pingreq()))
	c.ended()
}

// wsLengthBeyondFrame: a remaining length that goes beyond the frame waits for more frames; it reads nothing that is not there.
func wsLengthBeyondFrame(e *env) {
	c, w := e.ws()
	c.hail(connect{})
	c.welcome()
	b := message{topic: e.topic("t"), payload: strings.Repeat("x", 1000), qos: 1, id: 9}.bytes(e.v)
	w.frames(e, wsFrame(wsBinary, true, b[:20]))
	e.healthy()
	w.frames(e, wsFrame(wsBinary, true, b[20:]))
	c.ackFor(tPUBACK, 9)
	w.frames(e, wsFrame(wsBinary, true, b[:20]))
	w.Close()
	e.healthy()
}

func wsLarge(e *env) {
	c, _ := e.ws()
	c.hail(connect{})
	c.welcome()
	c.want(e.topic("t"), 1)
	for _, n := range []int{100, 118, 119, 120, 125, 126, 127, 128, 65400, 65535, 65536, 200000} {
		payload := strings.Repeat("x", n)
		c.publish(message{topic: e.topic("t"), payload: payload, qos: 1})
		c.receive(payload)
	}
}
