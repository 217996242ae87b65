package broker

import "github.com/myelin-mqtt/myelin/packet"

// Authenticator decides who may connect. It is asked once for each CONNECT,
// and again for each AUTH packet of an enhanced authentication. Auth must
// return at once; the answer goes to done, exactly once, from any goroutine,
// possibly before Auth returns. Meanwhile nothing of that client is read.
type Authenticator interface {
	Auth(r *AuthRequest, done func(AuthAnswer))
}

// AuthRequest is one step of an authentication.
type AuthRequest struct {
	Client   *Client
	Password []byte // of the CONNECT, nil: none
	// Method and Data of enhanced authentication, from CONNECT or AUTH.
	Method string
	Data   []byte
	// Reauthenticate: the client began a new authentication on a connection
	// that stands [MQTT-4.12.1-1].
	Reauthenticate bool
	// State is what the last answer of this authentication left, nil at first.
	State any
}

// AuthAnswer ends or goes on with an authentication.
type AuthAnswer struct {
	// Code is packet.Success, packet.ContinueAuthentication, which sends Data
	// to the client and waits for its AUTH [MQTT-4.12.0-2], or the failure that
	// the client is told.
	Code packet.Reason
	// Data for the AUTH or CONNACK of an enhanced authentication.
	Data []byte
	// Reason is told to MQTT 5 clients as Reason String, and logged.
	Reason string
	// Username replaces the client's, "": it stays.
	Username string
	// State comes back with the next step.
	State any
}

// Action is what an Authorizer is asked for.
type Action uint8

// The actions.
const (
	Publish Action = iota
	Subscribe
)

// Decision of an Authorizer.
type Decision uint8

// The decisions. Later pauses the client until done is called, and the same
// question is asked again.
const (
	Deny Decision = iota
	Allow
	Later
)

// Authorizer decides who may publish and subscribe where. Access must return
// at once: where the answer is not at hand, it returns Later and calls done
// when it is. An allowed publish is remembered while the client goes on with
// the topic and Epoch stays the same. Subscriptions are judged again when a
// session is resumed, when the client authenticates again, and at Broker.Rejudge.
type Authorizer interface {
	// Access answers q, which is not to be kept after its return.
	Access(q *AccessRequest, done func()) Decision
	// Epoch changes with every change of the rules.
	Epoch() uint32
}

// AccessRequest is one question to an Authorizer.
type AccessRequest struct {
	Client *Client
	Action Action
	// Topic name of a publish, topic filter of a subscription ($share stripped).
	Topic string
	// QoS that is asked for. Who allows a subscription may lower it: that is
	// granted [MQTT-3.8.4-7].
	QoS    packet.QoS
	Retain bool

	// Rule is for the answer: what decided, for the log.
	Rule string
	// Once is for the answer: it holds for this message only, and is not
	// remembered.
	Once bool
}
