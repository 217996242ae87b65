package packet

// Unsuback answers an UNSUBSCRIBE. Below 5.0 it is only the identifier.
type Unsuback struct {
	ID           uint16
	Codes        []Reason // one for each filter, in their order
	ReasonString string   // absent if empty
	User         []UserProperty
}

// Parse reads b, exactly one packet as Frame found it, with a fixed header of hdr bytes. Errors are *Error.
func (u *Unsuback) Parse(b []byte, hdr int, v Version) error {
	*u = Unsuback{}
	r := reader{b: b[hdr:]}
	u.ID = r.id()
	if v < V5 {
		return r.end()
	}
	ps := r.props(in(UNSUBACK))
	for ps.next() {
		ps.common(&u.ReasonString, &u.User)
	}
	if ps.err != nil {
		return ps.err
	}
	for _, c := range r.b {
		code := Reason(c)
		if !code.Allowed(UNSUBACK) {
			return errReason // [MQTT-3.11.3-2]
		}
		u.Codes = append(u.Codes, code)
	}
	if len(u.Codes) == 0 {
		return errNoCodes
	}
	return nil
}

// Type is UNSUBACK.
func (u *Unsuback) Type() Type { return UNSUBACK }

// Append implements Packet.
func (u *Unsuback) Append(dst []byte, v Version) []byte { return appendTo(dst, UNSUBACK.first(), u, v) }

// Length implements Packet.
func (u *Unsuback) Length(v Version) int { return lengthOf(u, v) }

func (u *Unsuback) body(w *writer, v Version) {
	w.u16(u.ID)
	if v < V5 {
		return
	}
	w.section(u)
	for _, c := range u.Codes {
		w.u8(byte(c))
	}
}

func (u *Unsuback) props(w *writer) {
	w.propText(PropReasonString, u.ReasonString)
	w.propUser(u.User)
}

// String is such as `UNSUBACK m5 Success (0x00), No subscription existed (0x11)`.
func (u *Unsuback) String() string {
	var l line
	l.add("UNSUBACK m%d", u.ID)
	for i, c := range u.Codes {
		if i > 0 {
			l.WriteByte(',')
		}
		l.add("%v", c)
	}
	l.text("reason", u.ReasonString)
	l.user(u.User)
	return l.String()
}
