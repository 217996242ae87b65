package packet

import (
	"encoding/binary"
	"iter"
	"unsafe"
)

// Publish is a view of one PUBLISH packet: offsets into one []byte. After Parse that is the caller's buffer, and the
// view is good for as long as the buffer is. After Keep, and from NewPublish, the bytes are the view's own, and the
// value must not be changed any more: any number of goroutines may read it.
type Publish struct {
	b    []byte // the whole packet, fixed header included
	name string // the topic that an alias stood for, or empty

	topEnd uint32 // offset behind the topic
	prop   uint32 // offset of the first property; the payload's in 3.x
	pay    uint32 // offset of the payload, which is also the end of the properties
	expiry uint32 // Message Expiry Interval, if expAt
	expAt  uint32 // offset of that property, 0: absent
	alsAt  uint32 // offset of the Topic Alias property, 0: absent

	// At is the second, on the caller's clock, in which Keep was called. See Left.
	At uint32
	// ID is the packet identifier, 0 at QoS 0.
	ID uint16
	// Alias is the topic alias, 0 if there is none.
	Alias uint16

	hdr   uint8   // length of the fixed header: where the topic's length stands
	ver   Version // the form of b
	subID bool    // there is at least one Subscription Identifier
}

// Parse makes p a view of b, which is exactly one PUBLISH packet as Frame found it, with a fixed header of hdr bytes, in
// version v. It checks all of it, each property once, and allocates nothing. p's former contents do not matter. Errors
// are *Error; p must not be used after one.
//
// The packet may be one that only a server sends: HasSubID tells whether there are Subscription Identifiers. A topic may
// be empty if there is an alias; SetTopic puts in what the alias stands for. The payload is not looked at, whatever
// the Payload Format Indicator says of it.
func (p *Publish) Parse(b []byte, hdr int, v Version) error {
	*p = Publish{b: b, hdr: uint8(hdr), ver: v}
	i := hdr + 2
	if i > len(b) {
		return errShort
	}
	end := i + int(binary.BigEndian.Uint16(b[hdr:]))
	if end > len(b) {
		return errShort
	}
	if err := checkTopic(b[i:end]); err != nil {
		return err // [MQTT-3.3.2-1] [MQTT-3.3.2-2]
	}
	empty := end == i
	p.topEnd = uint32(end)
	i = end
	if b[0]&6 != 0 {
		if i+2 > len(b) {
			return errShort
		}
		p.ID = binary.BigEndian.Uint16(b[i:])
		if p.ID == 0 {
			return errZeroID // [MQTT-2.2.1-3] [MQTT-2.2.1-4]
		}
		i += 2
	}
	if v >= V5 {
		var err error
		if i, err = p.parseProps(b, i); err != nil {
			return err
		}
	} else {
		p.prop = uint32(i)
	}
	p.pay = uint32(i)
	if empty && p.Alias == 0 {
		return errTopicEmpty // [MQTT-4.7.3-1]
	}
	return nil
}

// parseProps walks the properties whose length stands at i and returns the offset behind them. It is the general
// walk of properties.go again, by hand, because every message of version 5.0 goes through it.
func (p *Publish) parseProps(b []byte, i int) (int, error) {
	if i >= len(b) {
		return 0, errShort
	}
	size, used := int(b[i]), 1
	if size >= 0x80 {
		var err error
		if size, used, err = varint(b[i:]); err != nil {
			return 0, err
		}
	}
	i += used
	p.prop = uint32(i)
	end := i + size
	if end > len(b) {
		return 0, errShort
	}
	b = b[:end]
	var seen uint64
	for i < end {
		id := PropID(b[i])
		if id > PropUser {
			return 0, inProperty(id, errPropForeign)
		}
		if seen>>id&1 != 0 && id != PropUser && id != PropSubscriptionID {
			return 0, inProperty(id, errPropTwice)
		}
		seen |= 1 << id
		var err error
		if i, err = p.parseProp(b, i+1, id); err != nil {
			return 0, inProperty(id, err)
		}
	}
	return end, nil
}

// parseProp checks the value at i, with the properties ending at len(b), and returns the offset behind it.
func (p *Publish) parseProp(b []byte, i int, id PropID) (int, error) {
	switch id {
	case PropUser:
		for range 2 { // [MQTT-1.5.7-1]
			next, ok := skipText(b, i)
			if !ok {
				return 0, textError(b, i)
			}
			i = next
		}
		return i, nil
	case PropContentType:
		next, ok := skipText(b, i)
		if !ok {
			return 0, textError(b, i)
		}
		return next, nil
	case PropResponseTopic:
		next, ok := skipText(b, i)
		if !ok {
			return 0, textError(b, i)
		}
		if next == i+2 || checkTopic(b[i+2:next]) != nil {
			return 0, errResponse // [MQTT-3.3.2-14] [MQTT-4.7.3-1]
		}
		return next, nil
	case PropCorrelationData:
		if i+2 > len(b) {
			return 0, errShort
		}
		next := i + 2 + int(binary.BigEndian.Uint16(b[i:]))
		if next > len(b) {
			return 0, errShort
		}
		return next, nil
	case PropMessageExpiry:
		if i+4 > len(b) {
			return 0, errShort
		}
		p.expiry, p.expAt = binary.BigEndian.Uint32(b[i:]), uint32(i-1)
		return i + 4, nil
	case PropPayloadFormat:
		if i >= len(b) {
			return 0, errShort
		}
		if b[i] > 1 {
			return 0, errPropBool
		}
		return i + 1, nil
	case PropTopicAlias:
		if i+2 > len(b) {
			return 0, errShort
		}
		p.Alias, p.alsAt = binary.BigEndian.Uint16(b[i:]), uint32(i-1)
		if p.Alias == 0 {
			return 0, errAlias // [MQTT-3.3.2-8]
		}
		return i + 2, nil
	case PropSubscriptionID:
		v, used, err := varint(b[i:])
		if err != nil {
			return 0, err
		}
		if v == 0 {
			return 0, errPropZero
		}
		p.subID = true
		return i + used, nil
	}
	return 0, errPropForeign
}

// skipText is the offset behind the string at i; ok is false if there is no whole and valid one. Then textError of that
// offset says why.
func skipText(b []byte, i int) (next int, ok bool) {
	if i+2 > len(b) {
		return 0, false
	}
	next = i + 2 + int(binary.BigEndian.Uint16(b[i:]))
	if next > len(b) {
		return 0, false
	}
	s := b[i+2 : next]
	if len(s) <= 16 { // shorter than what the calls below cost
		for _, c := range s {
			if c == 0 || c >= 0x80 {
				return next, validString(s)
			}
		}
		return next, true
	}
	return next, validString(s)
}

// textError is why skipText refused the string at i.
func textError(b []byte, i int) error {
	if i+2 > len(b) || i+2+int(binary.BigEndian.Uint16(b[i:])) > len(b) {
		return errShort
	}
	return errUTF8
}

// Type is PUBLISH.
func (p *Publish) Type() Type { return PUBLISH }

// Topic is the topic name: the one that SetTopic gave, else the packet's own. Empty while an alias is unresolved.
func (p *Publish) Topic() []byte {
	if p.name != "" {
		return bytesOf(p.name)
	}
	return p.b[int(p.hdr)+2 : p.topEnd]
}

// Payload is the application message.
func (p *Publish) Payload() []byte { return p.b[p.pay:] }

// Props are the properties as they stand in the packet, without their length; empty in 3.x.
func (p *Publish) Props() []byte { return p.b[p.prop:p.pay] }

// Bytes is the whole packet as it stands. Together with Version it is enough to Parse it again.
func (p *Publish) Bytes() []byte { return p.b }

// Version is the version whose form Bytes has.
func (p *Publish) Version() Version { return p.ver }

// QoS is the quality of service it was sent with.
func (p *Publish) QoS() QoS { return QoS(p.b[0] >> 1 & 3) }

// Retain is the RETAIN flag.
func (p *Publish) Retain() bool { return p.b[0]&1 != 0 }

// Dup is the DUP flag.
func (p *Publish) Dup() bool { return p.b[0]&8 != 0 }

// Expiry is the Message Expiry Interval in seconds; ok is false if there is none.
func (p *Publish) Expiry() (sec uint32, ok bool) { return p.expiry, p.expAt != 0 }

// Left is what is left at the second now of the Message Expiry Interval of a kept message. expired is true if nothing
// is. A message without an interval never expires, and its sec is 0. A clock that steps back adds no time.
func (p *Publish) Left(now uint32) (sec uint32, expired bool) {
	if p.expAt == 0 {
		return 0, false
	}
	var waited uint32
	if now > p.At {
		waited = now - p.At
	}
	if waited >= p.expiry {
		return 0, true // [MQTT-3.3.2-5]
	}
	return p.expiry - waited, false // [MQTT-3.3.2-6]
}

// HasSubID says whether there is a Subscription Identifier, which a client must not send. [MQTT-3.3.4-6]
func (p *Publish) HasSubID() bool { return p.subID }

// SetTopic gives the topic that the packet's alias stands for. name must not be changed afterwards.
func (p *Publish) SetTopic(name []byte) {
	// A string has no capacity: a kept message is 16 bytes smaller without it.
	p.name = unsafe.String(unsafe.SliceData(name), len(name))
}

// Form is the layout of the packet on the wire. asIs says whether the bytes can be sent to others as they are, but for
// their flags and identifier: a Topic Alias and Subscription Identifiers belong to one connection only.
func (p *Publish) Form() (f Form, asIs bool) {
	if p.b[0]&6 != 0 {
		f = FormID
	}
	if p.ver >= V5 {
		f |= FormProps
	}
	return f, p.Alias == 0 && !p.subID && p.name == ""
}

// Keep copies the packet out of the buffer: the only way to hold on to a view after its buffer is used again. now is
// the second, on any clock that Left will be asked on later. In the copy of a packet whose alias SetTopic has resolved,
// the topic stands in place of the alias.
func (p *Publish) Keep(now uint32) *Publish {
	k := new(Publish)
	if p.Alias == 0 && p.name == "" || !p.keepResolved(k) {
		*k = *p
		k.b = append(make([]byte, 0, len(p.b)), p.b...)
	}
	k.At = now
	return k
}

// keepResolved makes k a copy of p without its alias; false if the alias is not resolved, or if no packet would be
// long enough with the topic in it.
func (p *Publish) keepResolved(k *Publish) bool {
	o := p.opts()
	size := sizePublish(p, p.ver, &o, true)
	if len(p.Topic()) == 0 || size > MaxSize {
		return false
	}
	k.locate(appendPublish(make([]byte, 0, size), p, p.ver, &o, true), p.ver)
	return true
}

// locate makes p a view of b, a packet that this package has just encoded, without judging it.
func (p *Publish) locate(b []byte, v Version) {
	_, used, _ := varint(b[1:])
	*p = Publish{b: b, hdr: uint8(1 + used), ver: v}
	i := int(p.hdr) + 2 + int(binary.BigEndian.Uint16(b[p.hdr:]))
	p.topEnd = uint32(i)
	if b[0]&6 != 0 {
		p.ID = binary.BigEndian.Uint16(b[i:])
		i += 2
	}
	end := i
	if v >= V5 {
		size, used, _ := varint(b[i:])
		i += used
		end = i + size
	}
	p.prop, p.pay = uint32(i), uint32(end)
	for i < end {
		switch PropID(b[i]) {
		case PropMessageExpiry:
			p.expiry, p.expAt = binary.BigEndian.Uint32(b[i+1:]), uint32(i)
		case PropSubscriptionID:
			p.subID = true
		}
		i += propSize(b[i:])
	}
}

// opts sends the packet as it was received, with the alias resolved.
func (p *Publish) opts() PublishOpts {
	return PublishOpts{QoS: p.QoS(), Retain: p.Retain(), Dup: p.Dup(), ID: p.ID, Expiry: p.expiry}
}

// Append appends the packet in version v. In the packet's own version that is the packet itself, alias and
// Subscription Identifiers included, unless SetTopic has resolved the alias.
func (p *Publish) Append(dst []byte, v Version) []byte {
	if p.name == "" && (v >= V5) == (p.ver >= V5) {
		return append(dst, p.b...)
	}
	o := p.opts()
	return appendPublish(dst, p, v, &o, true)
}

// Length is the number of bytes that Append would add.
func (p *Publish) Length(v Version) int {
	if p.name == "" && (v >= V5) == (p.ver >= V5) {
		return len(p.b)
	}
	o := p.opts()
	return sizePublish(p, v, &o, true)
}

// String is such as `PUBLISH q1 r0 d0 m5 "a/b" 12 B`: QoS, RETAIN, DUP, packet identifier (above QoS 0), topic, size
// of the payload, then the properties.
func (p *Publish) String() string {
	var l line
	l.add("PUBLISH q%d r%d d%d", p.QoS(), bit(p.Retain()), bit(p.Dup()))
	if p.QoS() > 0 {
		l.add("m%d", p.ID)
	}
	l.add("%q %d B", p.Topic(), len(p.Payload()))
	if p.Alias != 0 {
		l.add("alias %d", p.Alias)
	}
	for _, id := range p.SubIDs(nil) {
		l.add("sub %d", id)
	}
	var m Message
	p.decode(&m, nil)
	m.describe(&l)
	return l.String()
}

// Property is the value of the first property with this identifier: two or four bytes of a number, the bytes of a
// text or binary without their length, the encoded pair of a user property. It searches; it is not for every message.
func (p *Publish) Property(id PropID) (value []byte, ok bool) {
	for x, v := range p.Properties() {
		if x == id {
			return v, true
		}
	}
	return nil, false
}

// Properties yields every property in its order, with the values that Property describes.
func (p *Publish) Properties() iter.Seq2[PropID, []byte] {
	return func(yield func(PropID, []byte) bool) {
		for b := p.Props(); len(b) > 0; {
			id, n := PropID(b[0]), propSize(b)
			v := b[1:n]
			switch propTable[id].kind {
			case kindText, kindTopic, kindBinary:
				v = v[2:]
			}
			if !yield(id, v) {
				return
			}
			b = b[n:]
		}
	}
}

// User yields the user properties in their order.
func (p *Publish) User() iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		for id, v := range p.Properties() {
			if id == PropUser {
				n := 2 + int(binary.BigEndian.Uint16(v))
				if !yield(v[2:n], v[n+2:]) {
					return
				}
			}
		}
	}
}

// SubIDs appends the Subscription Identifiers to dst.
func (p *Publish) SubIDs(dst []uint32) []uint32 {
	if !p.subID {
		return dst
	}
	for id, v := range p.Properties() {
		if id == PropSubscriptionID {
			n, _, _ := varint(v) // Parse has checked it
			dst = append(dst, uint32(n))
		}
	}
	return dst
}

// propSize is the length, identifier included, of the property at the front of b, which Parse has checked.
func propSize(b []byte) int {
	switch propTable[b[0]].kind {
	case kindBool:
		return 2
	case kindU16:
		return 3
	case kindU32:
		return 5
	case kindVarNZ:
		_, used, _ := varint(b[1:])
		return 1 + used
	case kindPair:
		n := 3 + int(binary.BigEndian.Uint16(b[1:]))
		return n + 2 + int(binary.BigEndian.Uint16(b[n:]))
	}
	return 3 + int(binary.BigEndian.Uint16(b[1:]))
}
