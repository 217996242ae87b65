//go:build conformance

package conformance

func errorCases() []testCase {
	return []testCase{
		{"error-closes", all, errorCloses},
		{"error-spares-session", all, errorSparesSession},
		{"server-packets-from-client", all, serverPacketsFromClient},
		{"reserved-packet-types", all, reservedPacketTypes},
		{"pubrel-flags", all, pubrelFlags},
		{"disconnect-flags", all, disconnectFlags},
		{"disconnect-ends", all, disconnectEnds},
		{"disconnect-code-unknown", five, disconnectCodeUnknown},
		{"no-disconnect-before-connack", all, noDisconnectBeforeConnack},
		{"ack-reason-code-invalid", five, ackReasonCodeInvalid},
	}
}

// errorCloses: malformed packets and protocol errors end the connection; what follows in the same segment is not processed.
func errorCloses(e *env) {
	sub := e.client()
	sub.want(e.topic("t"), 0)
	for _, b := range [][]byte{
		message{topic: e.topic("#")}.bytes(e.v),
		subscribe(e.v, 0, nil, filter{e.topic("t"), 0}),
		frame(tPUBLISH<<4|6, str("t"), u16(1)),
		frame(tPINGREQ<<4, raw(0)),
		raw(tPUBLISH<<4, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F),
	} {
		c := e.client()
		c.send(b, message{topic: e.topic("t"), payload: "behind"}.bytes(e.v))
		c.closed(0x81, 0x82, 0x90)
	}
	sub.quiet()
}

// errorSparesSession: an error ends the connection, not the session.
func errorSparesSession(e *env) {
	pub, c := e.client(), e.connect(lasting(e.unique()))
	c.want(e.topic("t"), 1)
	c.send(frame(tPINGREQ<<4, raw(0)))
	c.closed(0x81)
	pub.publish(message{topic: e.topic("t"), payload: "m", qos: 1})
	if c = e.connect(lasting(c.id)); e.v > v31 && !c.hello.present {
		e.Errorf("no session after an error")
	}
	c.receive("m")
}

func serverPacketsFromClient(e *env) {
	body := func(v5body ...byte) []byte {
		if e.v < v5 {
			return nil
		}
		return v5body
	}
	for _, b := range [][]byte{
		frame(tCONNACK<<4, raw(0, 0), body(0)),
		frame(tSUBACK<<4, u16(1), body(0), raw(0)),
		frame(tUNSUBACK<<4, u16(1), body(0, 0)),
		raw(tPINGRESP<<4, 0),
	} {
		e.refuses(b, 0x81, 0x82)
		c := e.dial() // and the same as the first packet
		c.send(b)
		c.drain(nil)
	}
}

func reservedPacketTypes(e *env) {
	types := []byte{0}
	if e.v < v5 {
		types = append(types, tAUTH)
	}
	for _, t := range types {
		e.refuses(raw(t<<4, 0), 0x81, 0x82)
		e.refuses(raw(t<<4|2, 2, 0, 1), 0x81, 0x82)
		c := e.dial()
		c.send(raw(t<<4, 0))
		c.drain(nil)
	}
}

// pubrelFlags: any other flags than 0010, also while the identifier is in use.
func pubrelFlags(e *env) {
	for flags := byte(0); flags < 16; flags++ {
		if flags == 2 || e.v == v31 && flags == 0xA { // 3.1 has a DUP flag here
			continue
		}
		c := e.client()
		c.send(message{topic: e.topic("t"), qos: 2, id: 5}.bytes(e.v))
		c.ackFor(tPUBREC, 5)
		c.send(frame(tPUBREL<<4|flags, u16(5)))
		c.closed(0x81)
	}
}

// disconnectFlags: a DISCONNECT with reserved bits is no DISCONNECT: the will is sent.
func disconnectFlags(e *env) {
	for flags := byte(1); flags < 16; flags++ {
		e.refuses(raw(tDISCONNECT<<4|flags, 0), 0x81)
	}
	sub, c := e.withWill(connect{})
	c.send(raw(tDISCONNECT<<4|1, 0))
	c.closed(0x81)
	sub.receive("will")
}

// disconnectEnds: the server closes, sends nothing more, and processes nothing that stands behind the DISCONNECT.
func disconnectEnds(e *env) {
	sub := e.client()
	sub.want(e.topic("t"), 1)
	c := e.client()
	c.send(disconnect(), message{topic: e.topic("t"), payload: "behind", qos: 1, id: 1}.bytes(e.v), pingreq())
	c.drain(nil)
	sub.quiet()
}

func disconnectCodeUnknown(e *env) {
	for _, code := range []byte{1, 3, 5, 0x10, 0x7F, 0xA3, 0xFF} {
		c := e.client()
		c.send(frame(tDISCONNECT<<4, raw(code)))
		c.closed(0x81, 0x82)
	}
}

// noDisconnectBeforeConnack: whatever is wrong with a first packet, no DISCONNECT answers it.
func noDisconnectBeforeConnack(e *env) {
	for _, b := range [][]byte{
		message{topic: e.topic("#")}.bytes(e.v), raw(0xF0, 0), raw(0, 0), raw(tCONNECT<<4, 0xFF, 0xFF, 0xFF, 0xFF, 1), raw(tCONNECT<<4|4, 0),
		frame(tCONNECT<<4, str("nonsense"), raw(9)), frame(tCONNECT<<4, protocol(e.v)), []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
	} {
		c := e.dial()
		c.send(b)
		c.turnedAway()
	}
}

func ackReasonCodeInvalid(e *env) {
	for _, t := range []byte{tPUBACK, tPUBREC, tPUBREL, tPUBCOMP} {
		for _, code := range []byte{1, 2, 0x11, 0x7F, 0x81, 0xFF} {
			e.refuses(frame(t<<4|ackFlags(t), u16(1), raw(code)), 0x81, 0x82)
		}
	}
}
