package packet

// Disconnect is the last packet of either end. Below 5.0 it is empty, and only a client sends it.
type Disconnect struct {
	Code Reason
	// SessionExpiry is a new Session Expiry Interval in seconds, if HasSessionExpiry. Only a client may send it.
	SessionExpiry    uint32
	HasSessionExpiry bool
	ReasonString     string // absent if empty
	ServerReference  string // absent if empty
	User             []UserProperty
}

// Parse reads b, exactly one packet as Frame found it, with a fixed header of hdr bytes. Errors are *Error.
func (d *Disconnect) Parse(b []byte, hdr int, v Version) error {
	*d = Disconnect{}
	if len(b) == hdr {
		return nil
	}
	if v < V5 {
		return errBody
	}
	r := reader{b: b[hdr:]}
	if d.Code = Reason(r.u8()); !d.Code.Allowed(DISCONNECT) {
		return errReason // [MQTT-3.14.2-1]
	}
	if len(r.b) == 0 {
		return nil
	}
	ps := r.props(in(DISCONNECT))
	for ps.next() {
		switch ps.id {
		case PropSessionExpiry:
			d.SessionExpiry, d.HasSessionExpiry = ps.num, true
		case PropServerReference:
			d.ServerReference = string(ps.val)
		default:
			ps.common(&d.ReasonString, &d.User)
		}
	}
	if ps.err != nil {
		return ps.err
	}
	return r.end()
}

// Type is DISCONNECT.
func (d *Disconnect) Type() Type { return DISCONNECT }

// Append implements Packet.
func (d *Disconnect) Append(dst []byte, v Version) []byte {
	return appendTo(dst, DISCONNECT.first(), d, v)
}

// Length implements Packet.
func (d *Disconnect) Length(v Version) int { return lengthOf(d, v) }

func (d *Disconnect) body(w *writer, v Version) {
	bare := !d.HasSessionExpiry && d.ReasonString == "" && d.ServerReference == "" && len(d.User) == 0
	if v < V5 || d.Code == NormalDisconnection && bare {
		return
	}
	w.u8(byte(d.Code))
	if !bare {
		w.section(d)
	}
}

func (d *Disconnect) props(w *writer) {
	if d.HasSessionExpiry {
		w.propU32(PropSessionExpiry, d.SessionExpiry)
	}
	w.propText(PropReasonString, d.ReasonString)
	w.propUser(d.User)
	w.propText(PropServerReference, d.ServerReference)
}

// String is such as `DISCONNECT Session taken over (0x8E)`.
func (d *Disconnect) String() string {
	var l line
	if d.Code == NormalDisconnection {
		l.add("DISCONNECT Normal disconnection (0x00)")
	} else {
		l.add("DISCONNECT %v", d.Code)
	}
	if d.HasSessionExpiry {
		l.add("session-expiry %d s", d.SessionExpiry)
	}
	l.text("server", d.ServerReference)
	l.text("reason", d.ReasonString)
	l.user(d.User)
	return l.String()
}
