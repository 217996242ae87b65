//go:build conformance

package conformance

func authCases() []testCase {
	return []testCase{
		{"auth-method-unsupported", five, authMethodUnsupported},
		{"auth-unasked", five, authUnasked},
		{"auth-before-connect", all, authBeforeConnect},
		{"auth-not-offered", five, authNotOffered},
		{"auth-data-without-method", five, authDataWithoutMethod},
		{"auth-reserved-flags", five, authReservedFlags},
		{"response-information", five, responseInformation},
		{"problem-information", five, problemInformation},
		{"maximum-qos", all, maximumQoS},
		{"retain-available", all, retainAvailable},
		{"features-available", five, featuresAvailable},
	}
}

// authMethodUnsupported: a method that the server does not know ends the connection, and what follows the CONNECT is not processed.
func authMethodUnsupported(e *env) {
	sub := e.client()
	sub.want(e.topic("behind"), 0)
	c := e.dial()
	c.hail(connect{props: [][]byte{pStr(pAuthMethod, "no-such-method"), pStr(pAuthData, "data")}})
	c.send(message{topic: e.topic("behind"), payload: "x"}.bytes(e.v))
	p := c.refused(0x8C, 0x87)
	if _, ok := p.prop(pAuthMethod); ok {
		e.Errorf("got %s with the method of a failed authentication", p)
	}
	sub.quiet()
}

// authUnasked: AUTH from a client that named no method, also as a re-authentication.
func authUnasked(e *env) {
	for _, b := range [][]byte{
		frame(tAUTH << 4),
		frame(tAUTH<<4, raw(0x18), properties(pStr(pAuthMethod, "m"))),
		frame(tAUTH<<4, raw(0x19), properties(pStr(pAuthMethod, "m"), pStr(pAuthData, "d"))),
	} {
		c := e.client()
		c.send(b)
		c.closed(0x82)
	}
}

func authBeforeConnect(e *env) {
	c := e.dial()
	c.send(frame(tAUTH<<4, raw(0x18), properties(pStr(pAuthMethod, "m"))))
	c.drain(nil)
}

// authNotOffered: a client without a method gets neither AUTH nor a method. (Every case reads with a decoder that would see an AUTH.)
func authNotOffered(e *env) {
	user, password := "user", "password"
	c := e.connect(connect{user: &user, password: &password})
	if _, ok := c.hello.prop(pAuthMethod); ok {
		e.Errorf("got %s", c.hello)
	}
	c.quiet()
}

func authDataWithoutMethod(e *env) {
	e.begin(connect{props: [][]byte{pStr(pAuthData, "data")}}).refused(0x82)
}

func authReservedFlags(e *env) {
	for flags := byte(1); flags < 16; flags++ {
		c := e.client()
		c.send(frame(tAUTH<<4|flags, raw(0x18), properties(pStr(pAuthMethod, "m"))))
		c.closed(0x81)
	}
}

// responseInformation: none without a request for it.
func responseInformation(e *env) {
	for _, props := range [][][]byte{nil, {pByte(pResponseInfoReq, 0)}} {
		c := e.connect(connect{props: props})
		if _, ok := c.hello.prop(pResponseInfo); ok {
			e.Errorf("got %s without a request", c.hello)
		}
	}
	e.connect(connect{props: [][]byte{pByte(pResponseInfoReq, 1)}}).alive()
}

// problemInformation: a client that does not want it gets no reason string and no user property, whatever it does wrong.
func problemInformation(e *env) {
	c := e.connect(connect{props: [][]byte{pByte(pProblemInfo, 0)}})
	check := func(p *packet) {
		e.Helper()
		if len(p.props) > 0 {
			e.Errorf("got %s", p)
		}
	}
	check(c.subscribe(nil, filter{"a#", 0}, filter{"$share/x", 1}, filter{e.topic("ok"), 1}))
	check(c.unsubscribe(e.topic("unknown"), e.topic("ok")))
	c.send(message{topic: e.topic("nobody"), payload: "x", qos: 1, id: 9}.bytes(e.v))
	check(c.ackFor(tPUBACK, 9))
	c.send(message{topic: e.topic("nobody"), payload: "x", qos: 2, id: 9}.bytes(e.v))
	check(c.ackFor(tPUBREC, 9))
	c.send(ack(tPUBREL, 9), ack(tPUBREL, 77))
	check(c.ackFor(tPUBCOMP, 9))
	check(c.ackFor(tPUBCOMP, 77))
	c.send(ack(tPUBREC, 78))
	check(c.ackFor(tPUBREL, 78))
}

// maximumQoS: a server that announces no Maximum QoS serves all of them, in wills too; one that does still grants or lowers each.
func maximumQoS(e *env) {
	c := e.client()
	highest := byte(c.hello.number(pMaximumQoS, 2))
	p := c.subscribe(nil, filter{e.topic("0"), 0}, filter{e.topic("1"), 1}, filter{e.topic("2"), 2})
	for i, code := range p.codes {
		if code > 2 {
			e.Errorf("quality of service %d: got %s", i, p)
		}
	}
	for qos := byte(0); qos <= 2; qos++ {
		k := connect{will: &will{topic: e.topic("will"), qos: qos}}
		if qos > highest {
			e.begin(k).refused(0x9B)
			continue
		}
		e.connect(k).disconnect()
		if code := c.publish(message{topic: e.topic("x"), payload: "x", qos: qos}); code >= 0x80 {
			e.Errorf("quality of service %d: code %#x", qos, code)
		}
	}
}

// retainAvailable: a server that does not deny it retains, wills too; one that does refuses a retained will.
func retainAvailable(e *env) {
	c := e.client()
	k := connect{will: &will{topic: e.topic("will"), payload: "w", retain: true}}
	if c.hello.number(pRetainAvailable, 1) == 0 {
		e.begin(k).refused(0x9A)
		return
	}
	e.connect(k).drop()
	c.want(e.topic("will"), 0)
	if p := c.message(); p.payload != "w" {
		e.Errorf("got %s", p)
	}
	c.publish(message{topic: e.topic("will"), retain: true})
}

// featuresAvailable: what CONNACK does not deny works.
func featuresAvailable(e *env) {
	c := e.client()
	for _, f := range []struct {
		prop  byte
		name  string
		props [][]byte
	}{
		{pWildcards, e.topic("+/#"), nil},
		{pSubIDs, e.topic("ids"), [][]byte{pVar(pSubscriptionID, 268435455)}},
		{pShared, "$share/group/" + e.topic("shared"), nil},
	} {
		if c.hello.number(f.prop, 1) == 1 {
			c.want(f.name, 1, f.props...)
		} else {
			e.Logf("property %#x says that it is not available", f.prop)
		}
	}
}
