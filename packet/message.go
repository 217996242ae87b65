package packet

// Message is an application message in plain form, for people and programs that make or read one: everything of a
// PUBLISH that is not about one connection.
type Message struct {
	Topic   string
	Payload []byte
	QoS     QoS
	Retain  bool

	// PayloadFormat is 1 if the payload is UTF-8 text, 0 if nothing is said of it.
	PayloadFormat byte
	// Expiry is the Message Expiry Interval in seconds, if HasExpiry.
	Expiry    uint32
	HasExpiry bool
	// ContentType and ResponseTopic are absent if empty.
	ContentType, ResponseTopic string
	// Correlation is absent if nil; empty is not the same.
	Correlation []byte
	User        []UserProperty
}

// NewPublish makes a Publish out of a message, as if it had been received in version 5.0 and kept at the second now.
// Errors are *Error and say what the wire forbids.
func NewPublish(m *Message, now uint32) (*Publish, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	b := make([]byte, 0, lengthOf(m, V5))
	first := byte(PUBLISH)<<4 | byte(m.QoS)<<1 | byte(bit(m.Retain))
	b = appendTo(b, first, m, V5)
	_, used, err := varint(b[1:])
	if err != nil {
		return nil, err
	}
	p := new(Publish)
	if err := p.Parse(b, 1+used, V5); err != nil {
		return nil, err
	}
	if m.QoS > 0 { // the identifier was there for Parse only
		p.ID = 0
		PatchID(b, int(p.topEnd), 0)
	}
	p.At = now
	return p, nil
}

// check refuses what could not be encoded. What could be encoded and is wrong is found by Parse.
func (m *Message) check() error {
	size := len(m.Topic) + len(m.Payload)
	long := max(len(m.Topic), len(m.ContentType), len(m.ResponseTopic), len(m.Correlation))
	for _, u := range m.User {
		long = max(long, len(u.Key), len(u.Value))
		size += len(u.Key) + len(u.Value)
	}
	switch {
	case m.QoS > ExactlyOnce:
		return errPublishQoS
	case long > maxField:
		return &Error{MalformedPacket, "message: text longer than 65,535 bytes"}
	case size > MaxRemaining || lengthOf(m, V5) > MaxRemaining:
		return errTooLarge
	}
	return nil
}

// body is the message as the rest of a PUBLISH of 5.0, with the identifier 1 if there has to be one.
func (m *Message) body(w *writer, _ Version) {
	w.text(m.Topic)
	if m.QoS > 0 {
		w.u16(1)
	}
	w.section(m)
	w.n += len(m.Payload)
	if !w.count {
		w.b = append(w.b, m.Payload...)
	}
}

// props writes the properties that PUBLISH and the will share.
func (m *Message) props(w *writer) {
	if m.PayloadFormat != 0 {
		w.propU8(PropPayloadFormat, m.PayloadFormat)
	}
	if m.HasExpiry {
		w.propU32(PropMessageExpiry, m.Expiry)
	}
	w.propText(PropContentType, m.ContentType)
	w.propText(PropResponseTopic, m.ResponseTopic)
	if m.Correlation != nil {
		w.propData(PropCorrelationData, m.Correlation)
	}
	w.propUser(m.User)
}

// set stores one property of a message.
func (m *Message) set(p *propReader) {
	switch p.id {
	case PropPayloadFormat:
		m.PayloadFormat = byte(p.num)
	case PropMessageExpiry:
		m.Expiry, m.HasExpiry = p.num, true
	case PropContentType:
		m.ContentType = string(p.val)
	case PropResponseTopic:
		m.ResponseTopic = string(p.val)
	case PropCorrelationData:
		m.Correlation = clone(p.val)
	case PropUser:
		p.common(nil, &m.User)
	}
}

// Message decodes the packet. Everything is copied.
func (p *Publish) Message() *Message { return p.message(clone(p.Payload())) }

// message is Message with this for a payload.
func (p *Publish) message(payload []byte) *Message {
	m := &Message{Topic: string(p.Topic()), Payload: payload, QoS: p.QoS(), Retain: p.Retain()}
	m.Expiry, m.HasExpiry = p.Expiry()
	for id, v := range p.Properties() {
		switch id {
		case PropPayloadFormat:
			m.PayloadFormat = v[0]
		case PropContentType:
			m.ContentType = string(v)
		case PropResponseTopic:
			m.ResponseTopic = string(v)
		case PropCorrelationData:
			m.Correlation = clone(v)
		}
	}
	for k, v := range p.User() {
		m.User = append(m.User, UserProperty{string(k), string(v)})
	}
	return m
}

// describe adds the properties to the String of a packet.
func (m *Message) describe(l *line) {
	if m.PayloadFormat != 0 {
		l.add("utf8")
	}
	if m.HasExpiry {
		l.add("expiry %d s", m.Expiry)
	}
	l.text("type", m.ContentType)
	l.text("reply", m.ResponseTopic)
	if m.Correlation != nil {
		l.add("correlation 0x%x", m.Correlation)
	}
	l.user(m.User)
}
