// Package auth decides who may connect: it is the broker's Authenticator for a
// configured list of methods.
//
// A Gate (gate.go) has the methods of each listener in their order. Each says
// yes, no, or that the credentials are not its own; where none says yes, nobody
// comes in. What a method is stands here; the methods are passwords.go, with the
// hashes of hash.go and the file of users.go, and anonymous. Work that takes long is done by pool.go, never on a loop; refusals
// are slowed by slow.go. edit.go changes a password file for `myelin passwd`.
//
// It logs who was refused by what and why, and no secret. It does not decide what
// a client may do once it is in. Start reading at Gate.Auth.
package auth

import (
	"github.com/myelin-mqtt/myelin/broker"
	"github.com/myelin-mqtt/myelin/packet"
)

// The names of the methods.
const (
	Anonymous    = "anonymous"     // who shows nothing at all
	PasswordFile = "password_file" // a user name and a password that the file knows
)

// method is one way to authenticate. check must return at once; the answer goes
// to done, exactly once, from any goroutine.
type method interface {
	name() string
	// enhanced is the Authentication Method of MQTT 5 that it is; "": it judges the
	// user name and the password of a CONNECT.
	enhanced() string
	check(r *request, done func(answer))
}

// request is one step, as a method sees it.
type request struct {
	*broker.AuthRequest
	user string // of the CONNECT
}

// nothing tells whether the client shows nothing at all.
func (r *request) nothing() bool { return r.user == "" && len(r.Password) == 0 && r.Method == "" }

// verdict of a method.
type verdict uint8

const (
	notMine verdict = iota // another method may know
	yes
	no
	goOn   // another step of an enhanced authentication follows
	failed // it cannot tell now
)

// answer of a method.
type answer struct {
	verdict verdict
	code    packet.Reason // of no and failed; Success: the usual one
	why     string        // logged, never told to the client
	user    string        // of yes; "": as the client said
	data    []byte        // of an enhanced authentication
	state   any           // for the next step
}

// anonymous lets in who shows nothing.
type anonymous struct{}

func (anonymous) name() string     { return Anonymous }
func (anonymous) enhanced() string { return "" }

func (anonymous) check(r *request, done func(answer)) {
	if r.nothing() {
		done(answer{verdict: yes})
		return
	}
	done(answer{})
}
