package packet

// Connect is the first packet of a client.
type Connect struct {
	// Version is the protocol the client speaks. Parse sets it as soon as it is known, also when it fails later, so that
	// the CONNACK can have the right form; 0 if the bytes are no MQTT at all.
	Version    Version
	CleanStart bool
	KeepAlive  uint16 // seconds; 0 is none
	ClientID   string // may be empty: what that means depends on the version
	Will       *Will  // nil: none

	Username    string
	HasUsername bool
	Password    []byte
	HasPassword bool

	// The rest is 5.0 only.

	// SessionExpiry is how long, in seconds, the session outlives the connection; absent is 0, 0xFFFFFFFF is for ever.
	SessionExpiry uint32
	// ReceiveMax is how many QoS 1 and 2 messages the client takes at once. Parse gives 65,535 if absent; Append takes
	// 0 and 65,535 as absent.
	ReceiveMax uint16
	// MaxPacket is the longest packet the client takes, in bytes; 0 is no limit.
	MaxPacket uint32
	// AliasMax is the highest topic alias the client takes; 0 is none.
	AliasMax uint16
	// RequestResponseInfo asks for response information in the CONNACK; absent is false.
	RequestResponseInfo bool
	// RequestProblemInfo allows reason strings and user properties on every packet; absent is true.
	RequestProblemInfo bool
	// AuthMethod starts an enhanced authentication, if HasAuthMethod, and AuthData is its first data; nil is absent.
	AuthMethod    string
	HasAuthMethod bool
	AuthData      []byte
	User          []UserProperty
}

// Will is the message to publish when the connection ends without a DISCONNECT.
type Will struct {
	Message
	// Delay is how long, in seconds, to wait for the client to come back. 5.0 only.
	Delay uint32
}

// The bits of the connect flags.
const (
	flagReserved   = 1 << 0
	flagClean      = 1 << 1
	flagWill       = 1 << 2
	flagWillQoS    = 3 << 3
	flagWillRetain = 1 << 5
	flagPassword   = 1 << 6
	flagUsername   = 1 << 7
)

// Parse reads b, exactly one packet as Frame found it, with a fixed header of hdr bytes. The version argument is
// ignored: the packet brings its own. An unknown protocol name or level is UnsupportedProtocolVersion; a level
// with the top bit set, which some bridges send, is one of those, with Version what is left without the bit. Errors are
// *Error.
func (c *Connect) Parse(b []byte, hdr int, _ Version) error {
	*c = Connect{ReceiveMax: maxField, RequestProblemInfo: true}
	r := reader{b: b[hdr:]}
	if err := c.protocol(&r); err != nil {
		return err
	}
	flags := r.u8()
	if r.err == nil {
		if err := c.checkFlags(flags); err != nil {
			return err
		}
	}
	c.CleanStart = flags&flagClean != 0
	c.KeepAlive = r.u16()
	if c.Version >= V5 {
		if err := c.parseProps(&r); err != nil {
			return err
		}
	}
	c.ClientID = string(r.text()) // [MQTT-3.1.3-3] [MQTT-3.1.3-4]
	if flags&flagWill != 0 && r.err == nil {
		if err := c.parseWill(&r, flags); err != nil {
			return err
		}
	}
	// In 3.1 a name or password that is promised may be missing: the length of the packet counts.
	missing := func() bool { return c.Version == V31 && r.err == nil && len(r.b) == 0 }
	if flags&flagUsername != 0 && !missing() {
		c.Username, c.HasUsername = string(r.text()), true // [MQTT-3.1.2-17] [MQTT-3.1.3-12]
	}
	if flags&flagPassword != 0 && !missing() {
		c.Password, c.HasPassword = clone(r.binary()), true // [MQTT-3.1.2-19]
	}
	return r.end()
}

// protocol reads the name and the level. [MQTT-3.1.2-1] [MQTT-3.1.2-2]
func (c *Connect) protocol(r *reader) error {
	name, level := r.text(), Version(r.u8())
	if r.err != nil {
		return r.err
	}
	old := string(name) == "MQIsdp"
	if !old && string(name) != "MQTT" {
		return errConnectName
	}
	switch {
	case old && level == V31, !old && (level == V311 || level == V5):
		c.Version = level
		return nil
	case !old && level&0x7F >= V5:
		c.Version = V5
	case !old && level&0x7F == V311:
		c.Version = V311
	default:
		c.Version = V31
	}
	return errConnectLevel
}

func (c *Connect) checkFlags(flags byte) error {
	switch {
	case flags&flagReserved != 0:
		return errConnectFlag // [MQTT-3.1.2-3]
	case flags&flagWillQoS == flagWillQoS:
		return errConnectQoS // [MQTT-3.1.2-12]
	case flags&flagWill == 0 && flags&(flagWillQoS|flagWillRetain) != 0 && c.Version > V31:
		return errConnectWill // [MQTT-3.1.2-11] [MQTT-3.1.2-13]
	case flags&(flagUsername|flagPassword) == flagPassword && c.Version < V5:
		return errConnectPass // [MQTT3-3.1.2-22]
	}
	return nil
}

func (c *Connect) parseProps(r *reader) error {
	ps := r.props(in(CONNECT))
	for ps.next() {
		switch ps.id {
		case PropSessionExpiry:
			c.SessionExpiry = ps.num
		case PropReceiveMaximum:
			c.ReceiveMax = uint16(ps.num)
		case PropMaximumPacketSize:
			c.MaxPacket = ps.num
		case PropTopicAliasMaximum:
			c.AliasMax = uint16(ps.num)
		case PropRequestResponseInfo:
			c.RequestResponseInfo = ps.num == 1
		case PropRequestProblemInfo:
			c.RequestProblemInfo = ps.num == 1
		case PropAuthMethod:
			c.AuthMethod, c.HasAuthMethod = string(ps.val), true
		case PropAuthData:
			c.AuthData = clone(ps.val)
		case PropUser:
			ps.common(nil, &c.User)
		}
	}
	if ps.err == nil && c.AuthData != nil && !c.HasAuthMethod {
		return errConnectAuth
	}
	return ps.err
}

// parseWill reads the three fields of the will. [MQTT-3.1.2-9] [MQTT-3.1.3-1]
func (c *Connect) parseWill(r *reader, flags byte) error {
	w := &Will{Message: Message{QoS: QoS(flags & flagWillQoS >> 3), Retain: flags&flagWillRetain != 0}}
	if c.Version >= V5 {
		ps := r.props(inWill)
		for ps.next() {
			if ps.id == PropWillDelay {
				w.Delay = ps.num
				continue
			}
			w.set(&ps)
		}
		if ps.err != nil {
			return ps.err
		}
	}
	topic := r.text() // [MQTT-3.1.3-11]
	if r.err == nil && (len(topic) == 0 || checkTopic(topic) != nil) {
		return errWillTopic // [MQTT-4.7.1-1] [MQTT-4.7.3-1]
	}
	w.Topic = string(topic)
	w.Payload = clone(r.binary())
	c.Will = w
	return nil
}

// Type is CONNECT.
func (c *Connect) Type() Type { return CONNECT }

// Append implements Packet. v is the version to connect with; 0 is c.Version.
func (c *Connect) Append(dst []byte, v Version) []byte {
	return appendTo(dst, CONNECT.first(), c, c.version(v))
}

// Length implements Packet.
func (c *Connect) Length(v Version) int { return lengthOf(c, c.version(v)) }

func (c *Connect) version(v Version) Version {
	if v == 0 {
		return c.Version
	}
	return v
}

func (c *Connect) body(w *writer, v Version) {
	if v == V31 {
		w.text("MQIsdp")
	} else {
		w.text("MQTT")
	}
	w.u8(byte(v))
	w.u8(c.flags())
	w.u16(c.KeepAlive)
	if v >= V5 {
		w.section(c)
	}
	w.text(c.ClientID)
	if c.Will != nil {
		if v >= V5 {
			w.section(c.Will)
		}
		w.text(c.Will.Topic)
		w.binary(c.Will.Payload)
	}
	if c.HasUsername {
		w.text(c.Username)
	}
	if c.HasPassword {
		w.binary(c.Password)
	}
}

func (c *Connect) flags() (f byte) {
	f = byte(bit(c.CleanStart))*flagClean | byte(bit(c.HasUsername))*flagUsername | byte(bit(c.HasPassword))*flagPassword
	if c.Will != nil {
		f |= flagWill | byte(c.Will.QoS)<<3&flagWillQoS | byte(bit(c.Will.Retain))*flagWillRetain
	}
	return f
}

func (c *Connect) props(w *writer) {
	if c.SessionExpiry != 0 {
		w.propU32(PropSessionExpiry, c.SessionExpiry)
	}
	if c.ReceiveMax != 0 && c.ReceiveMax != maxField {
		w.propU16(PropReceiveMaximum, c.ReceiveMax)
	}
	if c.MaxPacket != 0 {
		w.propU32(PropMaximumPacketSize, c.MaxPacket)
	}
	if c.AliasMax != 0 {
		w.propU16(PropTopicAliasMaximum, c.AliasMax)
	}
	if c.RequestResponseInfo {
		w.propU8(PropRequestResponseInfo, 1)
	}
	if !c.RequestProblemInfo {
		w.propU8(PropRequestProblemInfo, 0)
	}
	if c.HasAuthMethod {
		w.u8(byte(PropAuthMethod))
		w.text(c.AuthMethod)
	}
	if c.AuthData != nil {
		w.propData(PropAuthData, c.AuthData)
	}
	w.propUser(c.User)
}

func (w *Will) props(wr *writer) {
	if w.Delay != 0 {
		wr.propU32(PropWillDelay, w.Delay)
	}
	w.Message.props(wr)
}

// String is such as `CONNECT 5.0 "meter-7" clean keep-alive 60 s user "anna" password will q1 r0 "gone" 2 B`.
func (c *Connect) String() string {
	var l line
	l.add("CONNECT %v %q", c.Version, c.ClientID)
	if c.CleanStart {
		l.add("clean")
	}
	l.add("keep-alive %d s", c.KeepAlive)
	if c.HasUsername {
		l.add("user %q", c.Username)
	}
	if c.HasPassword {
		l.add("password")
	}
	if c.Version >= V5 {
		c.describe(&l)
	}
	if w := c.Will; w != nil {
		l.add("will q%d r%d %q %d B", w.QoS, bit(w.Retain), w.Topic, len(w.Payload))
		if w.Delay != 0 {
			l.add("delay %d s", w.Delay)
		}
		w.Message.describe(&l)
	}
	l.user(c.User)
	return l.String()
}

func (c *Connect) describe(l *line) {
	if c.SessionExpiry != 0 {
		l.add("session-expiry %d s", c.SessionExpiry)
	}
	if c.ReceiveMax != 0 && c.ReceiveMax != maxField {
		l.add("receive-max %d", c.ReceiveMax)
	}
	if c.MaxPacket != 0 {
		l.add("max-packet %d B", c.MaxPacket)
	}
	if c.AliasMax != 0 {
		l.add("alias-max %d", c.AliasMax)
	}
	if c.RequestResponseInfo {
		l.add("response-info")
	}
	if !c.RequestProblemInfo {
		l.add("no-problem-info")
	}
	if c.HasAuthMethod {
		l.add("auth %q %d B", c.AuthMethod, len(c.AuthData))
	}
}
