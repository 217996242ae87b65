package packet

// Connack answers a CONNECT. Below 5.0 it is only SessionPresent (not in 3.1) and the return code that is left of Code.
// In 5.0 a nil pointer, an empty text and nil data are absent properties.
type Connack struct {
	SessionPresent bool
	Code           Reason

	SessionExpiry     *uint32 // seconds, if not what the client asked for
	ReceiveMax        *uint16 // absent: 65,535
	MaxQoS            *QoS    // 0 or 1; absent: 2. Append leaves a 2 out
	RetainAvailable   *bool   // absent: true
	MaxPacket         *uint32 // bytes; absent: no limit
	AssignedClientID  string
	AliasMax          *uint16 // absent: 0
	WildcardAvailable *bool   // absent: true
	SubIDAvailable    *bool   // absent: true
	SharedAvailable   *bool   // absent: true
	ServerKeepAlive   *uint16 // seconds, instead of what the client asked for
	ResponseInfo      string
	ServerReference   string
	AuthMethod        string
	AuthData          []byte
	ReasonString      string
	User              []UserProperty
}

// Parse reads b, exactly one packet as Frame found it, with a fixed header of hdr bytes. Errors are *Error.
func (c *Connack) Parse(b []byte, hdr int, v Version) error {
	*c = Connack{}
	r := reader{b: b[hdr:]}
	flags, code := r.u8(), r.u8()
	if r.err != nil {
		return r.err
	}
	if v == V31 {
		flags = 0 // 3.1 has no flags there, and nothing to say about them
	}
	if flags > 1 {
		return errConnackFlags // [MQTT-3.2.2-1]
	}
	c.SessionPresent = flags == 1
	if v < V5 {
		if int(code) >= len(returnCodes) {
			return errReason
		}
		c.Code = returnCodes[code]
	} else if c.Code = Reason(code); !c.Code.Allowed(CONNACK) {
		return errReason // [MQTT-3.2.2-8]
	}
	if c.SessionPresent && c.Code != Success {
		return errConnackSP // [MQTT-3.2.2-6] [MQTT3-3.2.2-4]
	}
	if v >= V5 {
		ps := r.props(in(CONNACK))
		for ps.next() {
			c.set(&ps)
		}
		if ps.err != nil {
			return ps.err
		}
	}
	return r.end()
}

func (c *Connack) set(ps *propReader) {
	flag := ps.num == 1
	switch ps.id {
	case PropSessionExpiry:
		c.SessionExpiry = new(ps.num)
	case PropReceiveMaximum:
		c.ReceiveMax = new(uint16(ps.num))
	case PropMaximumQoS:
		c.MaxQoS = new(QoS(ps.num))
	case PropRetainAvailable:
		c.RetainAvailable = &flag
	case PropMaximumPacketSize:
		c.MaxPacket = new(ps.num)
	case PropAssignedClientID:
		c.AssignedClientID = string(ps.val)
	case PropTopicAliasMaximum:
		c.AliasMax = new(uint16(ps.num))
	case PropWildcardAvailable:
		c.WildcardAvailable = &flag
	case PropSubIDAvailable:
		c.SubIDAvailable = &flag
	case PropSharedAvailable:
		c.SharedAvailable = &flag
	case PropServerKeepAlive:
		c.ServerKeepAlive = new(uint16(ps.num))
	case PropResponseInfo:
		c.ResponseInfo = string(ps.val)
	case PropServerReference:
		c.ServerReference = string(ps.val)
	case PropAuthMethod:
		c.AuthMethod = string(ps.val)
	case PropAuthData:
		c.AuthData = clone(ps.val)
	default:
		ps.common(&c.ReasonString, &c.User)
	}
}

// Type is CONNACK.
func (c *Connack) Type() Type { return CONNACK }

// Append implements Packet. A Code without a return code of its own (see Reason.ReturnCode) becomes "server
// unavailable" below 5.0; the standard would rather have the connection closed without a CONNACK.
func (c *Connack) Append(dst []byte, v Version) []byte { return appendTo(dst, CONNACK.first(), c, v) }

// Length implements Packet.
func (c *Connack) Length(v Version) int { return lengthOf(c, v) }

func (c *Connack) body(w *writer, v Version) {
	// [MQTT-3.2.2-6] [MQTT3-3.2.2-4]
	w.u8(byte(bit(c.SessionPresent && c.Code == Success && v != V31)))
	if v >= V5 {
		w.u8(byte(c.Code))
		w.section(c)
		return
	}
	code, ok := c.Code.ReturnCode()
	if !ok {
		code, _ = ServerUnavailable.ReturnCode()
	}
	w.u8(code)
}

func (c *Connack) props(w *writer) {
	propU32 := func(id PropID, v *uint32) {
		if v != nil {
			w.propU32(id, *v)
		}
	}
	propU16 := func(id PropID, v *uint16) {
		if v != nil {
			w.propU16(id, *v)
		}
	}
	propU32(PropSessionExpiry, c.SessionExpiry)
	propU16(PropReceiveMaximum, c.ReceiveMax)
	if c.MaxQoS != nil && *c.MaxQoS < ExactlyOnce {
		w.propU8(PropMaximumQoS, byte(*c.MaxQoS))
	}
	w.propBool(PropRetainAvailable, c.RetainAvailable)
	propU32(PropMaximumPacketSize, c.MaxPacket)
	w.propText(PropAssignedClientID, c.AssignedClientID)
	propU16(PropTopicAliasMaximum, c.AliasMax)
	w.propText(PropReasonString, c.ReasonString)
	w.propUser(c.User)
	w.propBool(PropWildcardAvailable, c.WildcardAvailable)
	w.propBool(PropSubIDAvailable, c.SubIDAvailable)
	w.propBool(PropSharedAvailable, c.SharedAvailable)
	propU16(PropServerKeepAlive, c.ServerKeepAlive)
	w.propText(PropResponseInfo, c.ResponseInfo)
	w.propText(PropServerReference, c.ServerReference)
	w.propText(PropAuthMethod, c.AuthMethod)
	if c.AuthData != nil {
		w.propData(PropAuthData, c.AuthData)
	}
}

// String is such as `CONNACK Success (0x00) session-present assigned "auto-7"`.
func (c *Connack) String() string {
	var l line
	l.add("CONNACK %v", c.Code)
	if c.SessionPresent {
		l.add("session-present")
	}
	l.text("assigned", c.AssignedClientID)
	number(&l, "session-expiry %d s", c.SessionExpiry)
	number(&l, "keep-alive %d s", c.ServerKeepAlive)
	number(&l, "receive-max %d", c.ReceiveMax)
	number(&l, "max-packet %d B", c.MaxPacket)
	number(&l, "alias-max %d", c.AliasMax)
	number(&l, "max-qos %d", c.MaxQoS)
	for _, f := range []struct {
		name string
		v    *bool
	}{
		{"retain", c.RetainAvailable}, {"wildcards", c.WildcardAvailable},
		{"sub-ids", c.SubIDAvailable}, {"shared", c.SharedAvailable},
	} {
		if f.v != nil {
			l.add("%s:%d", f.name, bit(*f.v))
		}
	}
	l.text("response-info", c.ResponseInfo)
	l.text("server", c.ServerReference)
	if c.AuthMethod != "" {
		l.add("auth %q %d B", c.AuthMethod, len(c.AuthData))
	}
	l.text("reason", c.ReasonString)
	l.user(c.User)
	return l.String()
}

// number adds an optional number.
func number[T uint16 | uint32 | QoS](l *line, format string, v *T) {
	if v != nil {
		l.add(format, *v)
	}
}
