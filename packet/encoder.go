package packet

import "encoding/binary"

// Form is a layout of a PUBLISH on the wire. DUP, QoS, RETAIN and the identifier are patched in the copy of each
// target, so that QoS 1 and 2, retained or not, share a form, and so do 3.1 and 3.1.1.
type Form uint8

// The two bits of a Form. Together they make four.
const (
	FormID    Form = 1 // there is a packet identifier: QoS 1 and 2
	FormProps Form = 2 // there are properties: version 5.0
	forms          = 4
)

// FormOf is the form that a target of version v gets a message of this QoS in.
func FormOf(v Version, q QoS) (f Form) {
	if q > 0 {
		f = FormID
	}
	if v >= V5 {
		f |= FormProps
	}
	return f
}

// maxIdle is the largest buffer, in bytes, that an Encoder keeps from one message to the next.
const maxIdle = 64 << 10

// Encoder gives the bytes of one PUBLISH in each form, for a message that goes to many. Each form is encoded at most
// once; where the incoming bytes have the form, they are used as they are. It is meant to be used again and again:
// small buffers stay. The zero value is ready for Reset.
//
// Properties and identifiers can make a packet longer than it came in. Whoever takes packets close to MaxSize must
// compare what goes out with it.
type Encoder struct {
	p      *Publish
	expiry uint32
	heads  uint8 // forms whose head is there
	whole  uint8 // forms whose frame is complete
	large  bool  // a buffer has grown beyond maxIdle
	frame  [forms][]byte
	buf    [forms][]byte
	head   [forms]uint32 // length of the head
	idAt   [forms]uint32
}

// Reset starts with another message. expiry is what is left of its Message Expiry Interval in seconds; it does not matter
// if p has none. Slices that the encoder gave out before are no longer good. p must stay unchanged until the next Reset.
func (e *Encoder) Reset(p *Publish, expiry uint32) {
	e.p, e.expiry, e.heads, e.whole = p, expiry, 0, 0
	if e.large {
		e.frame, e.buf, e.large = [forms][]byte{}, [forms][]byte{}, false
	}
}

// Frame is the whole packet in form f, to be copied for each target. The copy needs PatchFlags, and an identifier at
// idAt (two bytes, big endian) if f has one; idAt is 0 if it has none. Good until Reset; must not be written to.
func (e *Encoder) Frame(f Form) (b []byte, idAt int) {
	if e.whole>>f&1 == 0 {
		e.Head(f)
		if e.whole>>f&1 == 0 {
			e.buf[f] = append(e.buf[f], e.p.Payload()...)
			e.frame[f] = e.buf[f]
			e.whole |= 1 << f
			e.large = e.large || cap(e.buf[f]) > maxIdle
		}
	}
	return e.frame[f], int(e.idAt[f])
}

// Head is Frame without the payload, for a caller that sends large payloads by reference. Nothing is copied for it that
// Frame does not need as well.
func (e *Encoder) Head(f Form) (b []byte, idAt int) {
	if e.heads>>f&1 == 0 {
		e.encode(f)
	}
	return e.frame[f][:e.head[f]], int(e.idAt[f])
}

func (e *Encoder) encode(f Form) {
	p := e.p
	e.heads |= 1 << f
	e.idAt[f] = 0
	if have, asIs := p.Form(); asIs && have == f && (p.expAt == 0 || p.expiry == e.expiry) {
		e.frame[f], e.head[f] = p.b, p.pay
		if f&FormID != 0 {
			e.idAt[f] = p.topEnd
		}
		e.whole |= 1 << f
		e.large = e.large || len(p.b) > maxIdle // Reset lets go of it
		return
	}
	o, v := PublishOpts{Expiry: e.expiry, NoPayload: true}, V311
	if f&FormID != 0 {
		o.QoS = max(p.QoS(), AtLeastOnce)
	}
	if f&FormProps != 0 {
		v = V5
	}
	e.buf[f] = appendPublish(e.buf[f][:0], p, v, &o, false)
	e.frame[f], e.head[f] = e.buf[f], uint32(len(e.buf[f]))
	e.large = e.large || cap(e.buf[f]) > maxIdle
	if f&FormID != 0 {
		_, used, _ := varint(e.buf[f][1:])
		e.idAt[f] = uint32(1 + used + 2 + len(p.Topic()))
	}
}

// PatchFlags sets the flags of the PUBLISH at the front of dst.
func PatchFlags(dst []byte, qos QoS, retain, dup bool) {
	dst[0] = byte(PUBLISH)<<4 | byte(bit(dup))<<3 | byte(qos)<<1 | byte(bit(retain))
}

// PatchID sets the identifier of the PUBLISH at the front of dst; at is what Encoder said.
func PatchID(dst []byte, at int, id uint16) { binary.BigEndian.PutUint16(dst[at:], id) }

// PublishOpts is how one target gets a message.
type PublishOpts struct {
	QoS         QoS
	Retain, Dup bool
	// ID is the packet identifier; it does not matter at QoS 0.
	ID uint16
	// SubIDs are the Subscription Identifiers of the target's matching subscriptions. 5.0 only.
	SubIDs []uint32
	// Alias is the outbound topic alias, 0 for none. 5.0 only.
	Alias uint16
	// OmitTopic leaves the topic out, because the target knows the alias. It is ignored without an alias.
	OmitTopic bool
	// Expiry is what is left of the Message Expiry Interval in seconds; it does not matter if the message has none.
	Expiry uint32
	// NoPayload leaves the payload out of the bytes, though not out of the lengths: the caller sends it after them.
	NoPayload bool
}

// AppendPublish appends p to dst as one target gets it: the slow path, for what no Form can share. The alias and the
// Subscription Identifiers that p came with are not passed on. If SizePublish is beyond MaxSize, or beyond what the
// target takes, the packet must not be made. [MQTT-3.1.2-25]
func AppendPublish(dst []byte, p *Publish, v Version, o PublishOpts) []byte {
	return appendPublish(dst, p, v, &o, false)
}

// SizePublish is the length of the whole packet that AppendPublish makes, the payload included even with NoPayload.
func SizePublish(p *Publish, v Version, o PublishOpts) int { return sizePublish(p, v, &o, false) }

// bodySize is the Remaining Length and the length of the properties, given the lengths of the topic, of the
// properties that the message itself has, and of the payload.
func (o *PublishOpts) bodySize(topic, own, payload int, v Version) (n, props int) {
	n = 2 + payload
	if !o.omitTopic(v) {
		n += topic
	}
	if o.QoS > 0 {
		n += 2
	}
	if v < V5 {
		return n, 0
	}
	props = own
	if o.Alias != 0 {
		props += 3
	}
	for _, id := range o.SubIDs {
		props += 1 + varintLen(int(id))
	}
	return n + varintLen(props) + props, props
}

// bodySize is that of PublishOpts for p.
func bodySize(p *Publish, v Version, o *PublishOpts, own bool) (n, props int) {
	if v >= V5 {
		props = int(p.pay - p.prop)
		if p.alsAt != 0 {
			props -= 3
		}
		if p.subID && !own {
			for b := p.Props(); len(b) > 0; {
				size := propSize(b)
				if PropID(b[0]) == PropSubscriptionID {
					props -= size
				}
				b = b[size:]
			}
		}
	}
	return o.bodySize(len(p.Topic()), props, len(p.b)-int(p.pay), v)
}

func sizePublish(p *Publish, v Version, o *PublishOpts, own bool) int {
	n, _ := bodySize(p, v, o, own)
	return 1 + varintLen(n) + n
}

func (o *PublishOpts) omitTopic(v Version) bool { return o.OmitTopic && o.Alias != 0 && v >= V5 }

// appendPublish does the work of AppendPublish. own keeps p's own Subscription Identifiers.
func appendPublish(dst []byte, p *Publish, v Version, o *PublishOpts, own bool) []byte {
	n, props := bodySize(p, v, o, own)
	dst = o.appendHead(dst, n)
	if o.omitTopic(v) {
		dst = append(dst, 0, 0)
	} else {
		topic := p.Topic()
		dst = append(binary.BigEndian.AppendUint16(dst, uint16(len(topic))), topic...)
	}
	if o.QoS > 0 {
		dst = binary.BigEndian.AppendUint16(dst, o.ID)
	}
	if v >= V5 {
		dst = appendVarint(dst, props)
		dst = o.appendProps(appendProps(dst, p, o.Expiry, own))
	}
	if o.NoPayload {
		return dst
	}
	return append(dst, p.b[p.pay:]...)
}

// appendHead appends the fixed header in front of n bytes.
func (o *PublishOpts) appendHead(dst []byte, n int) []byte {
	first := byte(PUBLISH)<<4 | byte(bit(o.Dup && o.QoS > 0))<<3 | byte(o.QoS)<<1 | byte(bit(o.Retain))
	return appendVarint(append(dst, first), n)
}

// appendProps appends the properties that belong to the target.
func (o *PublishOpts) appendProps(dst []byte) []byte {
	if o.Alias != 0 {
		dst = binary.BigEndian.AppendUint16(append(dst, byte(PropTopicAlias)), o.Alias)
	}
	for _, id := range o.SubIDs {
		dst = appendVarint(append(dst, byte(PropSubscriptionID)), int(id))
	}
	return dst
}

// appendProps appends the properties that go on to others: all as they are and in their order, but for the alias, the
// Subscription Identifiers unless own, and what is left of the expiry. [MQTT-3.3.2-15] [MQTT-3.3.2-18]
func appendProps(dst []byte, p *Publish, expiry uint32, own bool) []byte {
	start := len(dst)
	expAt := int(p.expAt) - int(p.prop)
	switch {
	case p.subID && !own:
		for b := p.Props(); len(b) > 0; {
			n := propSize(b)
			switch PropID(b[0]) {
			case PropSubscriptionID, PropTopicAlias:
			case PropMessageExpiry:
				expAt = len(dst) - start
				fallthrough
			default:
				dst = append(dst, b[:n]...)
			}
			b = b[n:]
		}
	case p.alsAt != 0:
		dst = append(dst, p.b[p.prop:p.alsAt]...)
		dst = append(dst, p.b[p.alsAt+3:p.pay]...)
		if p.expAt > p.alsAt {
			expAt -= 3
		}
	default:
		dst = append(dst, p.b[p.prop:p.pay]...)
	}
	if p.expAt != 0 {
		binary.BigEndian.PutUint32(dst[start+expAt+1:], expiry) // [MQTT-3.3.2-6]
	}
	return dst
}
