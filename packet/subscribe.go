package packet

import (
	"bytes"
	"fmt"
)

// Subscribe asks for one or more subscriptions.
type Subscribe struct {
	ID      uint16
	SubID   uint32 // Subscription Identifier of all of them; 0: none. 5.0 only
	Filters []Subscription
	User    []UserProperty // 5.0 only
}

// Subscription is one topic filter, as it stands in the packet, and how it is subscribed to. Parse has checked that it
// is UTF-8; whether it is a topic filter is for package topic to say.
type Subscription struct {
	Filter  string
	Options SubOptions
}

// SubOptions is the byte behind a topic filter. Below 5.0 it is only the QoS.
type SubOptions uint8

// The flags of SubOptions, to be or-ed with a QoS and a retain handling shifted by RetainHandlingShift.
const (
	NoLocal             SubOptions = 1 << 2
	RetainAsPublished   SubOptions = 1 << 3
	RetainHandlingShift            = 4
)

// QoS is the highest QoS the client wants.
func (o SubOptions) QoS() QoS { return QoS(o & 3) }

// NoLocal says that the client's own messages are not for it.
func (o SubOptions) NoLocal() bool { return o&NoLocal != 0 }

// RetainAsPublished says that the RETAIN flag of messages is to be left as it was.
func (o SubOptions) RetainAsPublished() bool { return o&RetainAsPublished != 0 }

// RetainHandling says when retained messages are wanted: 0 at each subscribe, 1 if the subscription is new, 2 never.
func (o SubOptions) RetainHandling() byte { return byte(o >> RetainHandlingShift & 3) }

// String is such as "q1 no-local as-published handling 2".
func (o SubOptions) String() string {
	s := o.QoS().String()
	if o.NoLocal() {
		s += " no-local"
	}
	if o.RetainAsPublished() {
		s += " as-published"
	}
	if h := o.RetainHandling(); h != 0 {
		s += fmt.Sprintf(" handling %d", h)
	}
	return s
}

// check judges the options of one filter.
func (o SubOptions) check(filter []byte, v Version) error {
	if v < V5 {
		switch {
		case o&^3 != 0:
			return errSubReserved // [MQTT3-3.8.3-4]
		case o == 3:
			return errSubQoS3
		}
		return nil
	}
	switch {
	case o>>6 != 0:
		return errSubReserved // [MQTT-3.8.3-5]
	case o&3 == 3:
		return errSubQoS5
	case o.RetainHandling() == 3:
		return errSubRetain
	case o.NoLocal() && bytes.HasPrefix(filter, []byte("$share/")):
		return errSubShareNL // [MQTT-3.8.3-4]
	}
	return nil
}

// Parse reads b, exactly one packet as Frame found it, with a fixed header of hdr bytes. Errors are *Error.
func (s *Subscribe) Parse(b []byte, hdr int, v Version) error {
	*s = Subscribe{}
	r := reader{b: b[hdr:]}
	s.ID = r.id()
	if v >= V5 {
		ps := r.props(in(SUBSCRIBE))
		for ps.next() {
			switch ps.id {
			case PropSubscriptionID:
				s.SubID = ps.num
			default:
				ps.common(nil, &s.User)
			}
		}
		if ps.err != nil {
			return ps.err
		}
	}
	if r.err == nil && len(r.b) == 0 {
		return errNoFilters // [MQTT-3.8.3-2]
	}
	for len(r.b) > 0 {
		filter, o := r.text(), SubOptions(r.u8()) // [MQTT-3.8.3-1]
		if r.err != nil {
			break
		}
		if err := o.check(filter, v); err != nil {
			return err
		}
		s.Filters = append(s.Filters, Subscription{string(filter), o})
	}
	return r.end()
}

// Type is SUBSCRIBE.
func (s *Subscribe) Type() Type { return SUBSCRIBE }

// Append implements Packet.
func (s *Subscribe) Append(dst []byte, v Version) []byte {
	return appendTo(dst, SUBSCRIBE.first(), s, v)
}

// Length implements Packet.
func (s *Subscribe) Length(v Version) int { return lengthOf(s, v) }

func (s *Subscribe) body(w *writer, v Version) {
	w.u16(s.ID)
	mask := SubOptions(3)
	if v >= V5 {
		mask = 0xFF
		w.section(s)
	}
	for _, f := range s.Filters {
		w.text(f.Filter)
		w.u8(byte(f.Options & mask))
	}
}

func (s *Subscribe) props(w *writer) {
	if s.SubID != 0 {
		w.u8(byte(PropSubscriptionID))
		w.varint(int(min(s.SubID, MaxRemaining)))
	}
	w.propUser(s.User)
}

// String is such as `SUBSCRIBE m5 sub 7 "a/+" q1, "b" q0 no-local`.
func (s *Subscribe) String() string {
	var l line
	l.add("SUBSCRIBE m%d", s.ID)
	if s.SubID != 0 {
		l.add("sub %d", s.SubID)
	}
	for i, f := range s.Filters {
		if i > 0 {
			l.WriteByte(',')
		}
		l.add("%q %v", f.Filter, f.Options)
	}
	l.user(s.User)
	return l.String()
}
