package session

import (
	"github.com/myelin-mqtt/myelin/internal/qos"
	"github.com/myelin-mqtt/myelin/packet"
)

// In is the receiving half of a session. Its QoS 2 identifiers outlive the
// connection, aliases and waiting acknowledgements do not.
type In struct {
	Recv    qos.Receiver
	aliases [][]byte // topic by alias-1; a name is replaced, never overwritten
	acks    *acks    // nil until one has to wait
	first   uint64   // the first token
	// AliasMax is the Topic Alias Maximum that the CONNACK told the client.
	AliasMax uint16
}

// NewIn returns the receiving half of a session whose tokens begin with first:
// who forgets an idle In, and makes another, has tokens of the old one come
// late, and they must not be the new one's. The zero In is ready, too.
func NewIn(first uint64) *In { return &In{first: first} }

// Idle reports whether nothing is held that the next connection needs: no QoS 2
// identifier, and no acknowledgement that waits.
func (s *In) Idle() bool {
	return s.Recv.Len() == 0 && s.Waiting() == 0 && (s.acks == nil || len(s.acks.unsure) == 0)
}

// Verdict is what one inbound PUBLISH does, in the order of its fields.
type Verdict struct {
	// Route: match, commit and deliver it; false for a QoS 2 duplicate.
	Route bool
	// Ack is PUBACK or PUBREC, due after the commit; 0: none.
	Ack packet.Type
	// Code of 0x80 or more: disconnect with it.
	Code packet.Reason
}

// Publish takes a PUBLISH whose topic is resolved.
func (s *In) Publish(p *packet.Publish) Verdict {
	switch p.QoS() {
	case 0:
		return Verdict{Route: true}
	case 1: // never a duplicate, whatever its DUP flag says [MQTT-4.3.2-5]
		if !s.Recv.Begin() {
			return Verdict{Code: packet.ReceiveMaximumExceeded} // [MQTT-3.3.4-7]
		}
		return Verdict{Route: true, Ack: packet.PUBACK}
	}
	dup, ok := s.Recv.Publish(p.ID)
	if !ok {
		return Verdict{Code: packet.ReceiveMaximumExceeded}
	}
	return Verdict{Route: !dup, Ack: packet.PUBREC} // [MQTT-4.3.3-8], [MQTT-4.3.3-10]
}

// Acked is told that the acknowledgement of a PUBLISH leaves. A refused QoS 2
// message frees its identifier [MQTT-4.3.3-9].
func (s *In) Acked(t packet.Type, id uint16, code packet.Reason) {
	switch {
	case t == packet.PUBACK:
		s.Recv.End()
	case code.Failed():
		s.Recv.Release(id)
	}
}

// Release takes a PUBREL and gives the PUBCOMP's reason code [MQTT-4.3.3-11].
func (s *In) Release(id uint16) packet.Reason {
	if s.Recv.Release(id) {
		return packet.Success
	}
	return packet.PacketIdentifierNotFound
}

// Resolve takes the topic alias of a PUBLISH: it is remembered with a topic,
// and gives the topic without one. The reason code is Success or that of the
// DISCONNECT. [MQTT-3.3.2-8], [MQTT-3.3.2-9], [MQTT-3.3.2-12]
func (s *In) Resolve(p *packet.Publish) packet.Reason {
	if p.Alias == 0 || p.Alias > s.AliasMax {
		return packet.TopicAliasInvalid
	}
	i := int(p.Alias) - 1
	if name := p.Topic(); len(name) > 0 {
		for len(s.aliases) <= i {
			s.aliases = append(s.aliases, nil)
		}
		if string(s.aliases[i]) != string(name) {
			s.aliases[i] = append([]byte(nil), name...)
		}
		return packet.Success
	}
	if i >= len(s.aliases) || s.aliases[i] == nil {
		return packet.ProtocolError // 3.3.2.3.4: an alias that was not set
	}
	p.SetTopic(s.aliases[i])
	return packet.Success
}

// Resume begins a new connection: aliases are gone [MQTT-3.3.2-7], and the
// acknowledgements that waited for the old one too. No token is given twice:
// the Commit of a QoS 2 message still decides about its identifier, that of
// another does nothing.
func (s *In) Resume(receiveMax, aliasMax uint16) {
	s.Recv.Resume()
	s.Recv.Max, s.AliasMax = receiveMax, aliasMax
	s.aliases = nil
	a := s.acks
	if a == nil {
		return
	}
	q := a.waiting()
	for i := range q {
		switch w := &q[i]; {
		case w.Type != packet.PUBREC:
		case !w.done && w.on == 0:
			a.unsure = append(a.unsure, unsure{a.first + uint64(i), w.ID})
		case w.done && w.Code.Failed():
			s.Recv.Release(w.ID)
		}
	}
	*a = acks{first: a.first + uint64(len(q)), unsure: a.unsure}
}

// Ack is an acknowledgement of a PUBLISH.
type Ack struct {
	Type packet.Type
	Code packet.Reason
	ID   uint16
}

// acks restores the order of acknowledgements whose commits end in any order
// [MQTT-4.6.0-2], [MQTT-4.6.0-3].
type acks struct {
	first  uint64 // the token of q[head]
	head   int    // those before it have left
	q      []waiting
	unsure []unsure
	linked int // entries of q with on
}

type waiting struct {
	Ack
	done bool
	on   uint64 // waits for the commit of this token, 0: its own
}

// unsure is a QoS 2 message of an earlier connection whose commit is awaited.
type unsure struct {
	tok uint64
	id  uint16
}

func (a *acks) waiting() []waiting { return a.q[a.head:] }

// Waiting is the number of acknowledgements that wait for a commit or behind
// one that does.
func (s *In) Waiting() int {
	if s.acks == nil {
		return 0
	}
	return len(s.acks.waiting())
}

// Token is the name that the next call of Wait will give.
func (s *In) Token() uint64 {
	if s.acks == nil {
		s.acks = &acks{first: max(s.first, 1)}
	}
	return s.acks.first + uint64(len(s.acks.waiting()))
}

// Wait enters an acknowledgement under Token's name.
func (s *In) Wait(t packet.Type, id uint16) {
	s.Token()
	s.acks.q = append(s.acks.q, waiting{Ack: Ack{Type: t, ID: id}})
}

// Behind is the token of the commit that a QoS 2 duplicate has to wait for; ok
// is false where the message that it repeats is committed.
func (s *In) Behind(id uint16) (tok uint64, ok bool) {
	if s.acks == nil {
		return 0, false
	}
	for i, w := range s.acks.waiting() {
		if w.ID == id && w.Type == packet.PUBREC && !w.done && w.on == 0 {
			return s.acks.first + uint64(i), true
		}
	}
	for _, u := range s.acks.unsure {
		if u.id == id {
			return u.tok, true
		}
	}
	return 0, false
}

// WaitOn enters the acknowledgement of a duplicate that waits for the commit
// that Behind named.
func (s *In) WaitOn(t packet.Type, id uint16, tok uint64) {
	s.Wait(t, id)
	s.acks.q[len(s.acks.q)-1].on = tok
	s.acks.linked++
}

// Awaits tells what kind of acknowledgement, if any, waits for a commit: its own
// message's, or a repeated one's.
func (s *In) Awaits(tok uint64) (t packet.Type, ok bool) {
	if s.acks == nil {
		return 0, false
	}
	for i, w := range s.acks.waiting() {
		if !w.done && (w.on == tok || w.on == 0 && s.acks.first+uint64(i) == tok) {
			return w.Type, true
		}
	}
	return 0, false
}

// Commit ends the wait of an acknowledgement, and of those that wait on it.
func (s *In) Commit(tok uint64, code packet.Reason) {
	a := s.acks
	if a == nil {
		return
	}
	q := a.waiting()
	if tok >= a.first && tok-a.first < uint64(len(q)) && q[tok-a.first].on == 0 {
		w := &q[tok-a.first]
		w.Code, w.done = code, true
	}
	for i := 0; a.linked > 0 && i < len(q); i++ {
		if q[i].on == tok && !q[i].done {
			q[i].Code, q[i].done = code, true
			a.linked--
		}
	}
	for i, u := range a.unsure {
		if u.tok != tok {
			continue
		}
		if code.Failed() { // sent again, it is a new message
			s.Recv.Release(u.id)
		}
		a.unsure = append(a.unsure[:i], a.unsure[i+1:]...)
		return
	}
}

// Next takes the next acknowledgement that may leave.
func (s *In) Next() (a Ack, ok bool) {
	if s.acks == nil {
		return Ack{}, false
	}
	q := s.acks.waiting()
	if len(q) == 0 || !q[0].done {
		return Ack{}, false
	}
	s.acks.head++
	s.acks.first++
	a = q[0].Ack
	switch k := s.acks; {
	case len(q) == 1:
		if k.q, k.head = k.q[:0], 0; cap(k.q) > 256 {
			k.q = nil
		}
	case k.head >= 64 && 2*k.head > len(k.q):
		k.q, k.head = k.q[:copy(k.q, q[1:])], 0
	}
	return a, true
}
