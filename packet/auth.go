package packet

// Auth is one step of an enhanced authentication. 5.0 only: Append does not look at the version.
type Auth struct {
	Code         Reason // Success, ContinueAuthentication or Reauthenticate
	Method       string
	Data         []byte // absent if nil
	ReasonString string // absent if empty
	User         []UserProperty
}

// Parse reads b, exactly one packet as Frame found it, with a fixed header of hdr bytes. Without a body it is a bare
// Success; with one, it must name the method. Errors are *Error.
func (a *Auth) Parse(b []byte, hdr int, v Version) error {
	*a = Auth{}
	if v < V5 {
		return errAuthVersion
	}
	if len(b) == hdr {
		return nil
	}
	r := reader{b: b[hdr:]}
	if a.Code = Reason(r.u8()); !a.Code.Allowed(AUTH) {
		return errReason // [MQTT-3.15.2-1]
	}
	ps := r.props(in(AUTH))
	method := false
	for ps.next() {
		switch ps.id {
		case PropAuthMethod:
			a.Method, method = string(ps.val), true
		case PropAuthData:
			a.Data = clone(ps.val)
		default:
			ps.common(&a.ReasonString, &a.User)
		}
	}
	if ps.err != nil {
		return ps.err
	}
	if !method {
		return errAuthMethod
	}
	return r.end()
}

// Type is AUTH.
func (a *Auth) Type() Type { return AUTH }

// Append implements Packet.
func (a *Auth) Append(dst []byte, v Version) []byte { return appendTo(dst, AUTH.first(), a, v) }

// Length implements Packet.
func (a *Auth) Length(v Version) int { return lengthOf(a, v) }

func (a *Auth) body(w *writer, _ Version) {
	if a.Code == Success && a.Method == "" && a.Data == nil && a.ReasonString == "" && len(a.User) == 0 {
		return
	}
	w.u8(byte(a.Code))
	w.section(a)
}

func (a *Auth) props(w *writer) {
	w.u8(byte(PropAuthMethod)) // there even if empty: it must not be left out
	w.text(a.Method)
	if a.Data != nil {
		w.propData(PropAuthData, a.Data)
	}
	w.propText(PropReasonString, a.ReasonString)
	w.propUser(a.User)
}

// String is such as `AUTH Continue authentication (0x18) method "SCRAM-SHA-256" 32 B`.
func (a *Auth) String() string {
	var l line
	l.add("AUTH %v", a.Code)
	if a.Method != "" || a.Data != nil {
		l.add("method %q %d B", a.Method, len(a.Data))
	}
	l.text("reason", a.ReasonString)
	l.user(a.User)
	return l.String()
}
