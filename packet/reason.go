package packet

import (
	"fmt"
	"strings"
)

// Reason is a reason code of version 5.0. The packets of older versions are described with it too; see
// [Reason.ReturnCode] for what is left of it there.
type Reason uint8

// The reason codes of MQTT 5.0. Three names share the value 0.
const (
	Success                             Reason = 0x00
	NormalDisconnection                 Reason = 0x00
	GrantedQoS0                         Reason = 0x00
	GrantedQoS1                         Reason = 0x01
	GrantedQoS2                         Reason = 0x02
	DisconnectWithWillMessage           Reason = 0x04
	NoMatchingSubscribers               Reason = 0x10
	NoSubscriptionExisted               Reason = 0x11
	ContinueAuthentication              Reason = 0x18
	Reauthenticate                      Reason = 0x19
	UnspecifiedError                    Reason = 0x80
	MalformedPacket                     Reason = 0x81
	ProtocolError                       Reason = 0x82
	ImplementationSpecificError         Reason = 0x83
	UnsupportedProtocolVersion          Reason = 0x84
	ClientIdentifierNotValid            Reason = 0x85
	BadUserNameOrPassword               Reason = 0x86
	NotAuthorized                       Reason = 0x87
	ServerUnavailable                   Reason = 0x88
	ServerBusy                          Reason = 0x89
	Banned                              Reason = 0x8A
	ServerShuttingDown                  Reason = 0x8B
	BadAuthenticationMethod             Reason = 0x8C
	KeepAliveTimeout                    Reason = 0x8D
	SessionTakenOver                    Reason = 0x8E
	TopicFilterInvalid                  Reason = 0x8F
	TopicNameInvalid                    Reason = 0x90
	PacketIdentifierInUse               Reason = 0x91
	PacketIdentifierNotFound            Reason = 0x92
	ReceiveMaximumExceeded              Reason = 0x93
	TopicAliasInvalid                   Reason = 0x94
	PacketTooLarge                      Reason = 0x95
	MessageRateTooHigh                  Reason = 0x96
	QuotaExceeded                       Reason = 0x97
	AdministrativeAction                Reason = 0x98
	PayloadFormatInvalid                Reason = 0x99
	RetainNotSupported                  Reason = 0x9A
	QoSNotSupported                     Reason = 0x9B
	UseAnotherServer                    Reason = 0x9C
	ServerMoved                         Reason = 0x9D
	SharedSubscriptionsNotSupported     Reason = 0x9E
	ConnectionRateExceeded              Reason = 0x9F
	MaximumConnectTime                  Reason = 0xA0
	SubscriptionIdentifiersNotSupported Reason = 0xA1
	WildcardSubscriptionsNotSupported   Reason = 0xA2
)

type reasonRule struct {
	name string
	in   section
}

// reasonTable is table 2-6 of the standard, by code.
var reasonTable = [...]reasonRule{
	Success:                             {"Success", in(CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, UNSUBACK, AUTH, SUBACK, DISCONNECT)},
	GrantedQoS1:                         {"Granted QoS 1", in(SUBACK)},
	GrantedQoS2:                         {"Granted QoS 2", in(SUBACK)},
	DisconnectWithWillMessage:           {"Disconnect with will message", in(DISCONNECT)},
	NoMatchingSubscribers:               {"No matching subscribers", in(PUBACK, PUBREC)},
	NoSubscriptionExisted:               {"No subscription existed", in(UNSUBACK)},
	ContinueAuthentication:              {"Continue authentication", in(AUTH)},
	Reauthenticate:                      {"Re-authenticate", in(AUTH)},
	UnspecifiedError:                    {"Unspecified error", in(CONNACK, PUBACK, PUBREC, SUBACK, UNSUBACK, DISCONNECT)},
	MalformedPacket:                     {"Malformed packet", in(CONNACK, DISCONNECT)},
	ProtocolError:                       {"Protocol error", in(CONNACK, DISCONNECT)},
	ImplementationSpecificError:         {"Implementation specific error", in(CONNACK, PUBACK, PUBREC, SUBACK, UNSUBACK, DISCONNECT)},
	UnsupportedProtocolVersion:          {"Unsupported protocol version", in(CONNACK)},
	ClientIdentifierNotValid:            {"Client identifier not valid", in(CONNACK)},
	BadUserNameOrPassword:               {"Bad user name or password", in(CONNACK)},
	NotAuthorized:                       {"Not authorized", in(CONNACK, PUBACK, PUBREC, SUBACK, UNSUBACK, DISCONNECT)},
	ServerUnavailable:                   {"Server unavailable", in(CONNACK)},
	ServerBusy:                          {"Server busy", in(CONNACK, DISCONNECT)},
	Banned:                              {"Banned", in(CONNACK)},
	ServerShuttingDown:                  {"Server shutting down", in(DISCONNECT)},
	BadAuthenticationMethod:             {"Bad authentication method", in(CONNACK, DISCONNECT)},
	KeepAliveTimeout:                    {"Keep alive timeout", in(DISCONNECT)},
	SessionTakenOver:                    {"Session taken over", in(DISCONNECT)},
	TopicFilterInvalid:                  {"Topic filter invalid", in(SUBACK, UNSUBACK, DISCONNECT)},
	TopicNameInvalid:                    {"Topic name invalid", in(CONNACK, PUBACK, PUBREC, DISCONNECT)},
	PacketIdentifierInUse:               {"Packet identifier in use", in(PUBACK, PUBREC, SUBACK, UNSUBACK)},
	PacketIdentifierNotFound:            {"Packet identifier not found", in(PUBREL, PUBCOMP)},
	ReceiveMaximumExceeded:              {"Receive maximum exceeded", in(DISCONNECT)},
	TopicAliasInvalid:                   {"Topic alias invalid", in(DISCONNECT)},
	PacketTooLarge:                      {"Packet too large", in(CONNACK, DISCONNECT)},
	MessageRateTooHigh:                  {"Message rate too high", in(DISCONNECT)},
	QuotaExceeded:                       {"Quota exceeded", in(CONNACK, PUBACK, PUBREC, SUBACK, DISCONNECT)},
	AdministrativeAction:                {"Administrative action", in(DISCONNECT)},
	PayloadFormatInvalid:                {"Payload format invalid", in(CONNACK, PUBACK, PUBREC, DISCONNECT)},
	RetainNotSupported:                  {"Retain not supported", in(CONNACK, DISCONNECT)},
	QoSNotSupported:                     {"QoS not supported", in(CONNACK, DISCONNECT)},
	UseAnotherServer:                    {"Use another server", in(CONNACK, DISCONNECT)},
	ServerMoved:                         {"Server moved", in(CONNACK, DISCONNECT)},
	SharedSubscriptionsNotSupported:     {"Shared subscriptions not supported", in(SUBACK, DISCONNECT)},
	ConnectionRateExceeded:              {"Connection rate exceeded", in(CONNACK, DISCONNECT)},
	MaximumConnectTime:                  {"Maximum connect time", in(DISCONNECT)},
	SubscriptionIdentifiersNotSupported: {"Subscription identifiers not supported", in(SUBACK, DISCONNECT)},
	WildcardSubscriptionsNotSupported:   {"Wildcard subscriptions not supported", in(SUBACK, DISCONNECT)},
}

// String is the name and the code, such as "Malformed packet (0x81)".
func (r Reason) String() string {
	if int(r) < len(reasonTable) && reasonTable[r].in != 0 {
		return fmt.Sprintf("%s (0x%02X)", reasonTable[r].name, uint8(r))
	}
	return fmt.Sprintf("Unknown reason (0x%02X)", uint8(r))
}

// lower is String as it stands inside an error's text.
func (r Reason) lower() string {
	s := r.String()
	return strings.ToLower(s[:1]) + s[1:]
}

// Failed says whether the code reports an error: 0x80 and above.
func (r Reason) Failed() bool { return r >= 0x80 }

// Allowed says whether a packet of type t may carry the code, whichever end sends it.
func (r Reason) Allowed(t Type) bool {
	return int(r) < len(reasonTable) && reasonTable[r].in>>t&1 != 0
}

// ReturnCode is the return code of a CONNACK of version 3.1 or 3.1.1 that says the same. ok is false if there is none:
// then the connection is closed without a CONNACK. [MQTT3-3.2.2-6]
func (r Reason) ReturnCode() (code byte, ok bool) {
	switch r {
	case Success:
		return 0, true
	case UnsupportedProtocolVersion:
		return 1, true
	case ClientIdentifierNotValid:
		return 2, true
	case ServerUnavailable, ServerBusy, QuotaExceeded, UseAnotherServer, ServerMoved, ConnectionRateExceeded:
		return 3, true
	case BadUserNameOrPassword:
		return 4, true
	case NotAuthorized, Banned, BadAuthenticationMethod:
		return 5, true
	}
	return 0, false
}

// returnCodes are the reasons that the return codes 0 to 5 stand for.
var returnCodes = [...]Reason{
	Success, UnsupportedProtocolVersion, ClientIdentifierNotValid, ServerUnavailable, BadUserNameOrPassword, NotAuthorized,
}
