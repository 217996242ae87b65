package packet

import "encoding/binary"

// ParseAck reads a PUBACK, PUBREC, PUBREL or PUBCOMP: b is exactly one packet as Frame found it. It checks all of it,
// reason string and user properties included, though it does not hand those out (see Ack), and allocates nothing. code
// is Success where the packet has none. Errors are *Error.
func ParseAck(b []byte, hdr int, v Version) (id uint16, code Reason, err error) {
	if len(b) < hdr+2 {
		return 0, 0, errShort
	}
	if id = binary.BigEndian.Uint16(b[hdr:]); id == 0 {
		return 0, 0, errZeroID
	}
	if len(b) == hdr+2 {
		return id, Success, nil
	}
	if v < V5 {
		return 0, 0, errTrailing
	}
	if code = Reason(b[hdr+2]); !code.Allowed(FrameType(b)) {
		return 0, 0, errReason // [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
	}
	if len(b) == hdr+3 {
		return id, code, nil
	}
	r := reader{b: b[hdr+3:]}
	ps := r.props(in(FrameType(b)))
	for ps.next() {
	}
	if err = ps.err; err == nil {
		err = r.end()
	}
	if err != nil {
		return 0, 0, err
	}
	return id, code, nil
}

// AppendAck appends a PUBACK, PUBREC, PUBREL or PUBCOMP in its shortest form: the code stands in it only if it is not
// Success and the version has codes.
func AppendAck(dst []byte, t Type, v Version, id uint16, code Reason) []byte {
	if code == Success || v < V5 {
		return append(dst, t.first(), 2, byte(id>>8), byte(id))
	}
	return append(dst, t.first(), 3, byte(id>>8), byte(id), byte(code))
}

// Ack is a PUBACK, PUBREC, PUBREL or PUBCOMP with all it can say. The code and what follows it are 5.0 only.
type Ack struct {
	Kind         Type
	ID           uint16
	Code         Reason
	ReasonString string // absent if empty
	User         []UserProperty
}

// Parse reads b, exactly one packet as Frame found it, with a fixed header of hdr bytes. Errors are *Error.
func (a *Ack) Parse(b []byte, hdr int, v Version) error {
	*a = Ack{Kind: FrameType(b)}
	var err error
	if a.ID, a.Code, err = ParseAck(b, hdr, v); err != nil || len(b) < hdr+4 {
		return err
	}
	r := reader{b: b[hdr+3:]}
	ps := r.props(in(a.Kind))
	for ps.next() {
		ps.common(&a.ReasonString, &a.User)
	}
	return ps.err
}

// Type is Kind.
func (a *Ack) Type() Type { return a.Kind }

// Append implements Packet.
func (a *Ack) Append(dst []byte, v Version) []byte { return appendTo(dst, a.Kind.first(), a, v) }

// Length implements Packet.
func (a *Ack) Length(v Version) int { return lengthOf(a, v) }

func (a *Ack) body(w *writer, v Version) {
	w.u16(a.ID)
	bare := a.ReasonString == "" && len(a.User) == 0
	if v < V5 || a.Code == Success && bare {
		return
	}
	w.u8(byte(a.Code))
	if !bare {
		w.section(a)
	}
}

func (a *Ack) props(w *writer) {
	w.propText(PropReasonString, a.ReasonString)
	w.propUser(a.User)
}

// String is such as `PUBACK m5 Success (0x00)`.
func (a *Ack) String() string {
	var l line
	l.add("%v m%d %v", a.Kind, a.ID, a.Code)
	l.text("reason", a.ReasonString)
	l.user(a.User)
	return l.String()
}
