package packet

// Pingreq asks whether the server is there.
type Pingreq struct{}

// Pingresp says that it is.
type Pingresp struct{}

// Parse reads b, exactly one packet as Frame found it. Errors are *Error.
func (*Pingreq) Parse(b []byte, hdr int, _ Version) error { return noBody(b, hdr) }

// Type is PINGREQ.
func (*Pingreq) Type() Type { return PINGREQ }

// Append implements Packet.
func (*Pingreq) Append(dst []byte, _ Version) []byte { return append(dst, PINGREQ.first(), 0) }

// Length implements Packet.
func (*Pingreq) Length(Version) int { return 2 }

// String is "PINGREQ".
func (*Pingreq) String() string { return PINGREQ.String() }

// Parse reads b, exactly one packet as Frame found it. Errors are *Error.
func (*Pingresp) Parse(b []byte, hdr int, _ Version) error { return noBody(b, hdr) }

// Type is PINGRESP.
func (*Pingresp) Type() Type { return PINGRESP }

// Append implements Packet.
func (*Pingresp) Append(dst []byte, _ Version) []byte { return append(dst, PINGRESP.first(), 0) }

// Length implements Packet.
func (*Pingresp) Length(Version) int { return 2 }

// String is "PINGRESP".
func (*Pingresp) String() string { return PINGRESP.String() }

func noBody(b []byte, hdr int) error {
	if len(b) != hdr {
		return errBody
	}
	return nil
}
