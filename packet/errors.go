package packet

import "strings"

// Error is why a packet was refused: the reason code to answer with, where the version has one, and a text for the
// log. Two errors are the same if they are equal by value; errors.As finds the code.
type Error struct {
	Code Reason
	Text string
}

// Error is the text and the reason code.
func (e *Error) Error() string { return e.Text + ": " + e.Code.lower() }

// inProperty says which property err is about. It is made anew each time: the connection that gets it ends.
func inProperty(id PropID, err error) error {
	e, ok := err.(*Error)
	if !ok {
		return err
	}
	return &Error{e.Code, strings.ToLower(id.String()) + ": " + e.Text}
}

// The errors are made once, and nothing writes to them.
var (
	errType        = &Error{MalformedPacket, "packet type 0"}
	errFlags       = &Error{MalformedPacket, "fixed header: reserved flags"}
	errPublishQoS  = &Error{MalformedPacket, "publish: QoS 3"}
	errPublishDup  = &Error{MalformedPacket, "publish: DUP with QoS 0"}
	errTooLarge    = &Error{PacketTooLarge, "packet longer than the limit"}
	errShort       = &Error{MalformedPacket, "packet ends inside a field"}
	errTrailing    = &Error{MalformedPacket, "bytes after the last field"}
	errVarint      = &Error{MalformedPacket, "variable byte integer: more than four bytes"}
	errMinimal     = &Error{MalformedPacket, "variable byte integer: not the shortest form"}
	errTextLong    = &Error{MalformedPacket, "message: text longer than 65,535 bytes"}
	errUTF8        = &Error{MalformedPacket, "string: not UTF-8, or U+0000 in it"}
	errZeroID      = &Error{ProtocolError, "packet identifier 0"}
	errAuthVersion = &Error{MalformedPacket, "AUTH before version 5.0"}

	errTopicUTF8  = &Error{MalformedPacket, "topic: not UTF-8, or U+0000 in it"}
	errTopicWild  = &Error{TopicNameInvalid, "topic: wildcard"}
	errTopicEmpty = &Error{ProtocolError, "topic: empty and no alias"}

	errPropForeign = &Error{MalformedPacket, "does not belong to this packet"}
	errPropTwice   = &Error{ProtocolError, "given twice"}
	errPropBool    = &Error{ProtocolError, "neither 0 nor 1"}
	errPropZero    = &Error{ProtocolError, "0 is not allowed"}
	errResponse    = &Error{ProtocolError, "empty, or a wildcard in it"}
	errAlias       = &Error{TopicAliasInvalid, "0 is not allowed"}

	errReason       = &Error{ProtocolError, "reason code that does not belong to this packet"}
	errBody         = &Error{MalformedPacket, "packet type without a body has one"}
	errNoFilters    = &Error{ProtocolError, "no topic filter"}
	errNoCodes      = &Error{ProtocolError, "no reason code"}
	errSubReserved  = &Error{MalformedPacket, "subscription options: reserved bits"}
	errSubQoS3      = &Error{MalformedPacket, "subscription options: QoS 3"}
	errSubQoS5      = &Error{ProtocolError, "subscription options: QoS 3"}
	errSubRetain    = &Error{ProtocolError, "subscription options: retain handling 3"}
	errSubShareNL   = &Error{ProtocolError, "subscription options: no local on a shared subscription"}
	errConnectName  = &Error{UnsupportedProtocolVersion, "connect: protocol name"}
	errConnectLevel = &Error{UnsupportedProtocolVersion, "connect: protocol level"}
	errConnectFlag  = &Error{MalformedPacket, "connect: reserved flag"}
	errConnectWill  = &Error{MalformedPacket, "connect: will QoS or will retain without a will"}
	errConnectQoS   = &Error{MalformedPacket, "connect: will QoS 3"}
	errConnectPass  = &Error{MalformedPacket, "connect: password without user name"}
	errConnectAuth  = &Error{ProtocolError, "connect: authentication data without a method"}
	errWillTopic    = &Error{TopicNameInvalid, "connect: will topic empty, or a wildcard in it"}
	errConnackFlags = &Error{MalformedPacket, "connack: reserved flags"}
	errConnackSP    = &Error{ProtocolError, "connack: session present with a failure"}
	errAuthMethod   = &Error{ProtocolError, "auth: no authentication method"}
)
