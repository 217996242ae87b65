package packet

// Unsubscribe ends one or more subscriptions. The filters are as they stand in the packet; see Subscription.
type Unsubscribe struct {
	ID      uint16
	Filters []string
	User    []UserProperty // 5.0 only
}

// Parse reads b, exactly one packet as Frame found it, with a fixed header of hdr bytes. Errors are *Error.
func (u *Unsubscribe) Parse(b []byte, hdr int, v Version) error {
	*u = Unsubscribe{}
	r := reader{b: b[hdr:]}
	u.ID = r.id()
	if v >= V5 {
		ps := r.props(in(UNSUBSCRIBE))
		for ps.next() {
			ps.common(nil, &u.User)
		}
		if ps.err != nil {
			return ps.err
		}
	}
	if r.err == nil && len(r.b) == 0 {
		return errNoFilters // [MQTT-3.10.3-2]
	}
	for len(r.b) > 0 {
		filter := r.text() // [MQTT-3.10.3-1]
		if r.err != nil {
			break
		}
		u.Filters = append(u.Filters, string(filter))
	}
	return r.end()
}

// Type is UNSUBSCRIBE.
func (u *Unsubscribe) Type() Type { return UNSUBSCRIBE }

// Append implements Packet.
func (u *Unsubscribe) Append(dst []byte, v Version) []byte {
	return appendTo(dst, UNSUBSCRIBE.first(), u, v)
}

// Length implements Packet.
func (u *Unsubscribe) Length(v Version) int { return lengthOf(u, v) }

func (u *Unsubscribe) body(w *writer, v Version) {
	w.u16(u.ID)
	if v >= V5 {
		w.section(u)
	}
	for _, f := range u.Filters {
		w.text(f)
	}
}

func (u *Unsubscribe) props(w *writer) { w.propUser(u.User) }

// String is such as `UNSUBSCRIBE m5 "a/+", "b"`.
func (u *Unsubscribe) String() string {
	var l line
	l.add("UNSUBSCRIBE m%d", u.ID)
	for i, f := range u.Filters {
		if i > 0 {
			l.WriteByte(',')
		}
		l.add("%q", f)
	}
	l.user(u.User)
	return l.String()
}
