package packet

import "encoding/binary"

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
// Errors are *Error and say what the wire forbids, see Check.
func NewPublish(m *Message, now uint32) (*Publish, error) {
	if err := m.Check(); err != nil {
		return nil, err
	}
	o := PublishOpts{QoS: m.QoS, Retain: m.Retain, Expiry: m.Expiry}
	p := new(Publish)
	p.locate(AppendMessage(make([]byte, 0, SizeMessage(m, V5, o)), m, V5, o), V5)
	p.At = now
	return p, nil
}

// Check refuses what no PUBLISH of version 5.0 may say. Errors are *Error.
func (m *Message) Check() error {
	switch {
	case m.QoS > ExactlyOnce:
		return errPublishQoS
	case m.Topic == "":
		return errTopicEmpty // [MQTT-4.7.3-1]
	case max(len(m.Topic), len(m.ContentType), len(m.ResponseTopic), len(m.Correlation)) > maxField:
		return errTextLong
	case m.PayloadFormat > 1:
		return inProperty(PropPayloadFormat, errPropBool)
	case !validString(bytesOf(m.ContentType)):
		return inProperty(PropContentType, errUTF8)
	case checkTopic(bytesOf(m.ResponseTopic)) != nil: // [MQTT-3.3.2-14]
		return inProperty(PropResponseTopic, errResponse)
	}
	for i := range m.User { // [MQTT-1.5.7-1]
		u := &m.User[i]
		if max(len(u.Key), len(u.Value)) > maxField {
			return errTextLong
		}
		if !validString(bytesOf(u.Key)) || !validString(bytesOf(u.Value)) {
			return inProperty(PropUser, errUTF8)
		}
	}
	if SizeMessage(m, V5, PublishOpts{QoS: m.QoS}) > MaxRemaining {
		return errTooLarge
	}
	return checkTopic(bytesOf(m.Topic)) // [MQTT-3.3.2-1] [MQTT-3.3.2-2]
}

// AppendMessage appends m, which Check has passed, to dst as one target gets it: as AppendPublish does with what
// NewPublish makes of m, without anything in between.
func AppendMessage(dst []byte, m *Message, v Version, o PublishOpts) []byte {
	n, props := o.bodySize(len(m.Topic), m.propsSize(), len(m.Payload), v)
	w := writer{b: o.appendHead(dst, n)}
	if o.omitTopic(v) {
		w.u16(0)
	} else {
		w.text(m.Topic)
	}
	if o.QoS > 0 {
		w.u16(o.ID)
	}
	if v >= V5 {
		w.varint(props)
		m.propsLeft(&w, o.Expiry)
		w.b = o.appendProps(w.b)
	}
	if o.NoPayload {
		return w.b
	}
	return append(w.b, m.Payload...)
}

// SizeMessage is to AppendMessage what SizePublish is to AppendPublish.
func SizeMessage(m *Message, v Version, o PublishOpts) int {
	n, _ := o.bodySize(len(m.Topic), m.propsSize(), len(m.Payload), v)
	return 1 + varintLen(n) + n
}

// propsSize is the number of bytes that props writes.
func (m *Message) propsSize() int {
	w := writer{count: true}
	m.props(&w)
	return w.n
}

// props writes the properties that PUBLISH and the will share.
func (m *Message) props(w *writer) { m.propsLeft(w, m.Expiry) }

// propsLeft is props with what is left of the expiry.
func (m *Message) propsLeft(w *writer, left uint32) {
	if m.PayloadFormat != 0 {
		w.propU8(PropPayloadFormat, m.PayloadFormat)
	}
	if m.HasExpiry {
		w.propU32(PropMessageExpiry, left)
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
func (p *Publish) Message() *Message {
	m := new(Message)
	p.Decode(m)
	return m
}

// Decode is Message into m, whose former contents do not matter, but that a Topic that is the same already is not
// copied again.
func (p *Publish) Decode(m *Message) { p.decode(m, clone(p.Payload())) }

// decode is Decode with this for a payload.
func (p *Publish) decode(m *Message, payload []byte) {
	topic := m.Topic
	if topic != string(p.Topic()) {
		topic = string(p.Topic())
	}
	*m = Message{Topic: topic, Payload: payload, QoS: p.QoS(), Retain: p.Retain(), Expiry: p.expiry, HasExpiry: p.expAt != 0}
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
		case PropUser:
			n := 2 + int(binary.BigEndian.Uint16(v))
			m.User = append(m.User, UserProperty{string(v[2:n]), string(v[n+2:])})
		}
	}
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
