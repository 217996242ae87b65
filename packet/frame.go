package packet

// MaxRemaining is the largest Remaining Length (and variable byte integer) that the protocol can say.
const MaxRemaining = 268_435_455

// MaxSize is the length of the longest packet that the protocol allows: five bytes of fixed header and MaxRemaining.
const MaxSize = 5 + MaxRemaining

// fixedFlags are the lower four bits that each type must have in its first byte. PUBLISH has flags of its own and
// type 0 is forbidden: they never match and are looked at apart.
var fixedFlags = [16]byte{0: 0xFF, PUBLISH: 0xFF, PUBREL: 2, SUBSCRIBE: 2, UNSUBSCRIBE: 2}

// FrameType is the packet type in the first byte of b, which must not be empty.
func FrameType(b []byte) Type { return Type(b[0] >> 4) }

// Frame finds the packet at the front of b: n is its whole length and hdr the length of its fixed header. n is 0 while
// b does not hold the whole packet. The type, the fixed header's flags, the encoding of the length and the size limit
// are judged as soon as the bytes they need are there, before any of the body is waited for. max is the largest packet
// taken, in bytes, fixed header included; 0 is no limit beyond the protocol's own. Errors are *Error.
//
// Frame does not know the version: AUTH below 5.0 is for the caller to refuse.
func Frame(b []byte, max int) (n, hdr int, err error) {
	if len(b) == 0 {
		return 0, 0, nil
	}
	if flags := b[0] & 0x0F; flags != fixedFlags[b[0]>>4] {
		if err := checkFlags(b[0]); err != nil {
			return 0, 0, err
		}
	}
	if len(b) < 2 {
		return 0, 0, nil
	}
	if b[1] < 0x80 { // nearly every packet
		n, hdr = 2+int(b[1]), 2
	} else {
		size, used, err := varint(b[1:])
		if used == 0 {
			if err == errShort {
				err = nil // the length itself is not whole yet
			}
			return 0, 0, err
		}
		n, hdr = 1+used+size, 1+used
	}
	if max > 0 && n > max {
		return 0, 0, errTooLarge // [MQTT-3.1.2-24] [MQTT-3.2.2-15]
	}
	if len(b) < n {
		return 0, 0, nil
	}
	return n, hdr, nil
}

// checkFlags judges a first byte whose flags are not the fixed ones of its type.
func checkFlags(first byte) error {
	if Type(first>>4) != PUBLISH {
		if first>>4 == 0 {
			return errType
		}
		return errFlags // [MQTT-2.1.3-1] [MQTT3-2.2.2-2]
	}
	switch qos := first >> 1 & 3; {
	case qos == 3:
		return errPublishQoS // [MQTT-3.3.1-4]
	case qos == 0 && first&8 != 0:
		return errPublishDup // [MQTT-3.3.1-2]
	}
	return nil
}
