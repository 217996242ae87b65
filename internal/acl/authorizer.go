package acl

import (
	"strings"
	"sync/atomic"

	"github.com/myelin-mqtt/myelin/broker"
)

// Authorizer is a broker.Authorizer that asks a policy, which can be replaced
// while it is asked. Make it with NewAuthorizer.
type Authorizer struct {
	now atomic.Pointer[state]
}

type state struct {
	policy *Policy
	epoch  uint32
}

// NewAuthorizer makes an Authorizer with its first policy.
func NewAuthorizer(p *Policy) *Authorizer {
	a := &Authorizer{}
	a.Set(p)
	return a
}

// Set replaces the policy. Broker.Rejudge is to be called after it.
func (a *Authorizer) Set(p *Policy) {
	for {
		old := a.now.Load()
		s := &state{policy: p, epoch: 1}
		if old != nil {
			s.epoch = old.epoch + 1
		}
		if a.now.CompareAndSwap(old, s) {
			return
		}
	}
}

// Epoch implements broker.Authorizer.
func (a *Authorizer) Epoch() uint32 { return a.now.Load().epoch }

// Access implements broker.Authorizer. It answers at once.
func (a *Authorizer) Access(q *broker.AccessRequest, _ func()) broker.Decision {
	c := q.Client
	d := a.now.Load().policy.Decide(&Query{
		User: c.Username, Client: c.ID, Publish: q.Action == broker.Publish, Topic: q.Topic, QoS: q.QoS, Retain: q.Retain,
		Address: c.Address, Listener: c.Listener, TLS: secure(c.Listener),
	})
	q.Rule, q.Once = d.Rule, d.Once
	if !d.Allow {
		return broker.Deny
	}
	if q.Action == broker.Subscribe {
		q.QoS = d.QoS
	}
	return broker.Allow
}

// secure tells whether a listener's connections are encrypted.
func secure(listener string) bool {
	return strings.HasPrefix(listener, "tls:") || strings.HasPrefix(listener, "wss:")
}
