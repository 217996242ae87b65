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
		{"ws-bad-frames", five, wsBadFrames},
		{"ws-bad-upgrade", five, wsBadUpgrade},
		{"ws-subprotocol-missing", five, wsSubprotocolMissing},
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

// wsBadFrames: frames that RFC 6455 forbids end the connection, and nobody else's.
func wsBadFrames(e *env) {
	ping := pingreq()
	for name, b := range map[string][]byte{
		"reserved bit":              cat(raw(0xC2), wsFrame(wsBinary, true, ping)[1:]),
		"reserved opcode":           wsFrame(3, true, ping),
		"reserved control":          wsFrame(11, true, nil),
		"control of 126 bytes":      wsFrame(wsPing, true, make([]byte, 126)),
		"control in fragments":      wsFrame(wsPing, false, []byte("x")),
		"fragment in a fragment":    cat(wsFrame(wsBinary, false, ping[:1]), wsFrame(wsBinary, true, ping[1:])),
		"length with the high bit":  raw(0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4),
		"length beyond everything":  raw(0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4, 0xF0, 0),
		"close with one byte":       wsFrame(wsClose, true, raw(3)),
		"close with a bad code":     wsFrame(wsClose, true, raw(0, 5)),
		"text after a good packet":  cat(wsFrame(wsBinary, true, ping), wsFrame(wsText, true, ping)),
		"malformed packet in frame": wsFrame(wsBinary, true, raw(0xF0, 0)),
	} {
		c, w := e.ws()
		c.hail(connect{})
		c.welcome()
		c.id = name
		w.frames(e, b)
		if name == "text after a good packet" {
			c.expect(tPINGRESP)
		}
		c.ended()
	}
	e.healthy()
}

// wsBadUpgrade: requests that are no upgrade to a WebSocket get an HTTP error, or just the end.
func wsBadUpgrade(e *env) {
	e.ws() // or skip
	host, path, _ := strings.Cut(target.ws, "/")
	good := []string{"GET /" + path + " HTTP/1.1", "Host: " + host, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: mqtt"}
	with := func(i int, line string) string {
		list := append([]string(nil), good...)
		list[i] = line
		return strings.Join(list, "\r\n") + "\r\n\r\n"
	}
	for name, text := range map[string]string{
		"method":      with(0, "POST /"+path+" HTTP/1.1"),
		"path":        with(0, "GET /nowhere HTTP/1.1"),
		"old HTTP":    with(0, "GET /"+path+" HTTP/1.0"),
		"no upgrade":  with(2, "X-Nothing: here"),
		"connection":  with(3, "Connection: close"),
		"version":     with(4, "Sec-WebSocket-Version: 8"),
		"no key":      with(5, "X-Nothing: here"),
		"rubbish":     "\x00\x01\x02\r\n\r\n",
		"MQTT":        string(connect{id: e.unique()}.bytes(e.v)) + "\r\n\r\n",
		"endless":     "GET /" + path + " HTTP/1.1\r\nX: " + strings.Repeat("x", 100000),
		"many fields": "GET /" + path + " HTTP/1.1\r\n" + strings.Repeat("X: y\r\n", 20000),
	} {
		nc, err := dialTCP(host)
		if err != nil {
			e.Fatal(err)
		}
		c := newClient(e, e.v, nc)
		c.id = name
		c.write([]byte(text))
		if b := string(c.rest()); strings.HasPrefix(b, "HTTP/1.1 101") {
			e.Errorf("%s: got %.80q", name, b)
		}
	}
	e.healthy()
}

// wsSubprotocolMissing: a client that does not offer mqtt is turned away, or at least not told that it had.
func wsSubprotocolMissing(e *env) {
	e.ws() // or skip
	for _, offer := range [][]string{nil, {"soap"}, {"mqttv3.1"}, {"MQTT"}} {
		w, err := dialWS(target.ws, offer...)
		if err != nil {
			continue
		}
		if got := w.header.Get("Sec-WebSocket-Protocol"); got == "mqtt" {
			e.Errorf("offered %q, the server chose %q", offer, got)
		}
		w.Close()
	}
}
