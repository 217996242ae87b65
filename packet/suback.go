package packet

// Suback answers a SUBSCRIBE with one code for each filter, in their order.
type Suback struct {
	ID           uint16
	Codes        []Reason
	ReasonString string         // absent if empty. 5.0 only
	User         []UserProperty // 5.0 only
}

// Parse reads b, exactly one packet as Frame found it, with a fixed header of hdr bytes. Errors are *Error.
func (s *Suback) Parse(b []byte, hdr int, v Version) error {
	*s = Suback{}
	r := reader{b: b[hdr:]}
	s.ID = r.id()
	if v >= V5 {
		ps := r.props(in(SUBACK))
		for ps.next() {
			ps.common(&s.ReasonString, &s.User)
		}
		if ps.err != nil {
			return ps.err
		}
	}
	if r.err != nil {
		return r.err
	}
	for _, c := range r.b {
		code := Reason(c)
		if !code.Allowed(SUBACK) || v < V5 && code > UnspecifiedError || v == V31 && code.Failed() {
			return errReason // [MQTT-3.9.3-2] [MQTT3-3.9.3-2]
		}
		s.Codes = append(s.Codes, code)
	}
	if len(s.Codes) == 0 {
		return errNoCodes
	}
	return nil
}

// Type is SUBACK.
func (s *Suback) Type() Type { return SUBACK }

// Append implements Packet. Every failure is 0x80 in 3.1.1. 3.1 cannot say that a filter was refused: there the
// answer is the least it can promise, QoS 0.
func (s *Suback) Append(dst []byte, v Version) []byte { return appendTo(dst, SUBACK.first(), s, v) }

// Length implements Packet.
func (s *Suback) Length(v Version) int { return lengthOf(s, v) }

func (s *Suback) body(w *writer, v Version) {
	w.u16(s.ID)
	if v >= V5 {
		w.section(s)
	}
	for _, c := range s.Codes {
		switch {
		case v >= V5 || !c.Failed():
		case v == V31:
			c = GrantedQoS0
		default:
			c = UnspecifiedError
		}
		w.u8(byte(c))
	}
}

func (s *Suback) props(w *writer) {
	w.propText(PropReasonString, s.ReasonString)
	w.propUser(s.User)
}

// String is such as `SUBACK m5 q1, Topic filter invalid (0x8F)`.
func (s *Suback) String() string {
	var l line
	l.add("SUBACK m%d", s.ID)
	for i, c := range s.Codes {
		if i > 0 {
			l.WriteByte(',')
		}
		if c <= GrantedQoS2 {
			l.add("%v", QoS(c))
		} else {
			l.add("%v", c)
		}
	}
	l.text("reason", s.ReasonString)
	l.user(s.User)
	return l.String()
}
