package qos

import "github.com/myelin-mqtt/myelin/packet"

// State is where a Slot stands in its handshake.
type State uint8

// The states of a Slot in the window.
const (
	// Free is the state of a slot whose handshake is over.
	Free State = iota
	// Held has a packet identifier, and waits for the store before it is sent:
	// Hold ends the wait, and Next gives it out.
	Held
	// Sent awaits a PUBACK (QoS 1) or a PUBREC (QoS 2).
	Sent
	// Recorded has its PUBREC, and waits for the store before the PUBREL is sent.
	Recorded
	// Released has its PUBREC and awaits the PUBCOMP; its message is gone.
	Released
)

// Flags of a Slot. The Sender keeps them and does not read them, but for
// Resend, which it sets.
const (
	// Retain sends the message with RETAIN set.
	Retain uint8 = 1 << iota
	// Shared marks a message that came through a shared subscription.
	Shared
	// Durable marks a message that the store handed out: it is told when the
	// handshake ends.
	Durable
	// Resend marks a message that was sent on an earlier connection: it is
	// sent again with DUP [MQTT-3.3.1-1].
	Resend
	// counted marks a slot that holds a place of this connection's Receive Maximum.
	counted
	// given marks a slot that Send or Next gave out to be sent on this connection.
	given
)

// Slot is one outgoing message of QoS 1 or 2, waiting or in flight.
type Slot struct {
	Msg   *packet.Publish // nil once Released
	More  *[]uint32       // subscription identifiers where there are several
	LSN   uint64          // the store's number of the message, when Durable
	Sub   uint32          // the one subscription identifier, 0: none
	QoS   packet.QoS      // the granted one, 1 or 2
	Flags uint8
	State State
}

// size is what a slot counts against a limit in bytes.
func (x *Slot) size() int {
	if x.Msg == nil {
		return 0
	}
	return len(x.Msg.Payload()) + len(x.Msg.Topic())
}

// Sender is the sending half. The zero value with Max set is ready for use.
//
// Packet identifiers are given in turn, so the slot of an identifier is found
// by a subtraction, and the window is in the order of sending, which is the
// order of redelivery [MQTT-4.6.0-1].
type Sender struct {
	win   ring // from the oldest unacknowledged slot to the newest
	queue ring // waiting for room in the window
	// Bytes counts topics and payloads of the window, QueueBytes of the queue.
	Bytes, QueueBytes int
	first             uint16 // the packet identifier of the window's first slot, 0: none yet
	live              uint16 // slots of the window that are not Free
	out               uint16 // slots that are counted
	at                uint16 // the window's first slot that is to be sent, its end: none
	old               uint16 // the slots before this one are an earlier connection's
	// Max is the peer's Receive Maximum or the own limit, whichever is lower; at least 1.
	Max uint16
	// MaxBytes closes the window when so many bytes are in flight, 0: no limit.
	// One message is always let through.
	MaxBytes int32
}

// maxID is the number of packet identifiers: 1 to 65535.
const maxID = 65535

// Room reports how many more messages may be sent now.
func (s *Sender) Room() int {
	if s.at < s.old || int(s.win.n) >= maxID || s.out >= s.Max || s.MaxBytes > 0 && s.Bytes >= int(s.MaxBytes) {
		return 0
	}
	return int(min(s.Max-s.out, uint16(maxID-int(s.win.n))))
}

// Live is the number of messages in flight.
func (s *Sender) Live() int { return int(s.live) }

// Queued is the number of messages that wait for room in the window.
func (s *Sender) Queued() int { return int(s.queue.n) }

// Pending reports whether there are slots in the window that are still to be
// sent: those of an earlier connection, or Held ones.
func (s *Sender) Pending() bool { return s.at < uint16(s.win.n) }

// Send gives x an identifier, or queues it and returns 0 where the window is
// full or others wait. The caller sends a message that got an identifier at
// once, unless it is Held. [MQTT-2.2.1-4], [MQTT-4.9.0-2]
func (s *Sender) Send(x Slot) (id uint16) {
	if s.queue.n > 0 || s.Room() == 0 {
		s.QueueBytes += x.size()
		s.queue.push(x)
		return 0
	}
	return s.take(x)
}

// Upcoming is the packet identifier that the next message will get, 0 where all
// are taken.
func (s *Sender) Upcoming() uint16 {
	if int(s.win.n) >= maxID {
		return 0
	}
	if s.first == 0 {
		return 1
	}
	return s.id(int(s.win.n))
}

// Skip takes the upcoming packet identifier for a packet that is no PUBLISH, and
// returns it, 0 where all are taken. The Sender gives it to a message again when
// its turn comes, so that a caller skips what it has still in use
// [MQTT-2.2.1-3].
func (s *Sender) Skip() (id uint16) {
	if id = s.Upcoming(); id == 0 {
		return 0
	}
	s.first = max(s.first, 1)
	s.win.push(Slot{})
	s.trim()
	return id
}

// Next takes the next message to send: first those of the window that were not
// sent on this connection, in their order and with their identifiers, then the
// oldest queued one. ok is false where there is none, where the window has no
// room, or where the next one is Held: nothing overtakes it here. Only one that
// comes from the queue may be Held: it got its identifier, and the caller tells
// the store.
func (s *Sender) Next() (id uint16, x Slot, ok bool) {
	if s.Pending() {
		p := s.win.at(int(s.at))
		if p.State == Held || p.Flags&counted == 0 && s.out >= s.Max {
			return 0, Slot{}, false
		}
		if p.Flags&counted == 0 {
			s.out++
		}
		p.Flags |= counted | given
		id, x = s.id(int(s.at)), *p
		s.pass()
		return id, x, true
	}
	if s.queue.n == 0 || s.Room() == 0 {
		return 0, Slot{}, false
	}
	x = *s.queue.at(0)
	s.unqueue()
	if x.State == Free {
		x.State = Sent
	}
	return s.take(x), x, true
}

// pass moves on to the next slot that Next is to give out.
func (s *Sender) pass() {
	for ; s.Pending(); s.at++ {
		if p := s.win.at(int(s.at)); p.Flags&given == 0 && (p.State == Sent || p.State == Held) {
			return
		}
	}
}

// DropOldest removes the oldest queued message.
func (s *Sender) DropOldest() (x Slot, ok bool) {
	if s.queue.n == 0 {
		return Slot{}, false
	}
	x = *s.queue.at(0)
	s.unqueue()
	return x, true
}

// unqueue removes the oldest queued message.
func (s *Sender) unqueue() {
	s.QueueBytes -= s.queue.at(0).size()
	s.queue.drop()
	s.queue.shrink()
}

// take puts x at the end of the window, whose room was checked.
func (s *Sender) take(x Slot) (id uint16) {
	if s.first == 0 {
		s.first = 1
	}
	x.Flags |= counted
	if x.State != Held {
		x.State = Sent
		x.Flags |= given
		if s.at == uint16(s.win.n) {
			s.at++
		}
	}
	s.Bytes += x.size()
	s.win.push(x)
	s.live++
	s.out++
	return s.id(int(s.win.n) - 1)
}

// id is the packet identifier of the window's slot i.
func (s *Sender) id(i int) uint16 {
	id := int(s.first) + i
	if id > maxID {
		id -= maxID
	}
	return uint16(id)
}

// index is the place in the window of an identifier, beyond its end if it has none.
func (s *Sender) index(id uint16) uint16 {
	if id < s.first {
		return id + (maxID - s.first)
	}
	return id - s.first
}

// slot is the slot of an identifier, nil if it is not in flight.
func (s *Sender) slot(id uint16) *Slot {
	i := s.index(id)
	if id == 0 || int(i) >= int(s.win.n) {
		return nil
	}
	p := s.win.at(int(i))
	if p.State == Free {
		return nil
	}
	return p
}

// Ack ends a handshake: a PUBACK for a QoS 1 message, a PUBCOMP for a released
// QoS 2 one. x is what the slot held. ok is false for an identifier that does
// not await this acknowledgement.
func (s *Sender) Ack(t packet.Type, id uint16) (x Slot, ok bool) {
	p := s.slot(id)
	if p == nil {
		return Slot{}, false
	}
	switch t {
	case packet.PUBACK:
		if p.QoS != 1 || p.State != Sent {
			return Slot{}, false
		}
	case packet.PUBCOMP:
		if p.State != Released {
			return Slot{}, false
		}
	default:
		return Slot{}, false
	}
	return s.free(p), true
}

// Drop ends the handshake of a message that will not be sent after all.
func (s *Sender) Drop(id uint16) (x Slot, ok bool) {
	p := s.slot(id)
	if p == nil {
		return Slot{}, false
	}
	return s.free(p), true
}

// Rec is what a PUBREC does to a handshake.
type Rec uint8

// The outcomes of a PUBREC.
const (
	// Unknown: no QoS 2 message awaits it; PUBREL 0x92 answers it.
	Unknown Rec = iota
	// Release: the PUBREL is due [MQTT-4.3.3-4].
	Release
	// Repeat: a PUBREL was sent before; it is due again.
	Repeat
	// Wait: the PUBREL is due when the store has the first PUBREC.
	Wait
	// Ended: the receiver refused the message, and nothing is sent [MQTT-4.4.0-2].
	Ended
)

// Record takes a PUBREC. failed: its reason code is 0x80 or more. The message
// itself is dropped: only the PUBREL is ever sent again [MQTT-4.3.3-6]. x is
// what the slot held before.
func (s *Sender) Record(id uint16, failed bool) (x Slot, r Rec) {
	p := s.slot(id)
	switch {
	case p == nil || p.QoS != 2:
		return Slot{}, Unknown
	case failed && p.State != Held: // after the PUBREL, too: the receiver has given it up
		return s.free(p), Ended
	case p.State == Sent:
		x = *p
		s.Bytes -= p.size()
		p.Msg, p.More = nil, nil
		p.State = Released
		s.pass()
		return x, Release
	case p.State == Released:
		return *p, Repeat
	case p.State == Recorded:
		return *p, Wait
	}
	return Slot{}, Unknown
}

// Hold makes a message wait for the store, or ends the wait: Held and then Sent
// for its PUBLISH, Recorded and then Released for its PUBREL. A message that
// may be Sent is given out by Next, in its turn: the order of the store's
// answers is not the order of the messages [MQTT-4.6.0-5]. The PUBREL that may
// be sent is the caller's to send. ok is false for an identifier that is not in
// flight.
func (s *Sender) Hold(id uint16, st State) (x Slot, ok bool) {
	p := s.slot(id)
	if p == nil {
		return Slot{}, false
	}
	if p.State = st; st == Held {
		p.Flags &^= given
		s.at = min(s.at, s.index(id))
	}
	return *p, true
}

// Settle ends the wait for the store: Held becomes Sent, Recorded becomes
// Released, as Hold would have it. ok is false where the slot does not wait like
// that, as when the store answers twice.
func (s *Sender) Settle(id uint16, from State) (ok bool) {
	p := s.slot(id)
	if p == nil || p.State != from {
		return false
	}
	s.Hold(id, from+1)
	return true
}

// free ends a slot and moves the window's start past what is over.
func (s *Sender) free(p *Slot) (x Slot) {
	x = *p
	s.Bytes -= p.size()
	s.live--
	if x.Flags&counted != 0 {
		s.out--
	}
	*p = Slot{}
	s.trim()
	return x
}

// trim moves the window's start past what is over.
func (s *Sender) trim() {
	for s.win.n > 0 && s.win.at(0).State == Free {
		s.win.drop()
		s.first = s.id(1)
		s.at = max(s.at, 1) - 1
		s.old = max(s.old, 1) - 1
	}
	s.pass()
	s.win.shrink()
}

// Resume begins a new connection with the peer's Receive Maximum: everything
// in the window is to be sent again, the PUBLISH packets by Next, those that
// were sent with DUP. The identifiers whose PUBREL is due at once are yielded
// in order; one that waits for the store is not.
// [MQTT-4.4.0-1], [MQTT-3.3.4-10]
func (s *Sender) Resume(receiveMax uint16, release func(id uint16)) {
	s.Max, s.out, s.at, s.old = max(receiveMax, 1), 0, 0, uint16(s.win.n)
	for i := range int(s.win.n) {
		p := s.win.at(i)
		if p.State == Sent && p.Flags&given != 0 {
			p.Flags |= Resend
		}
		p.Flags &^= counted | given
		if p.State == Released {
			release(s.id(i))
		}
	}
	s.pass()
}

// Restore puts a QoS 2 message that the store kept at the end of the window,
// with its identifier: as Sent, or as Released and without its message. Those
// between the identifiers are over. It is for a Sender that was not used yet,
// before its first Resume, in the order of sending. false: the identifier is
// taken, or 0.
func (s *Sender) Restore(id uint16, x Slot) (ok bool) {
	switch {
	case id == 0:
		return false
	case s.win.n == 0:
		s.first = id
	}
	i := int(s.index(id))
	if i < int(s.win.n) {
		return false
	}
	for int(s.win.n) < i {
		s.win.push(Slot{})
	}
	x.Flags |= given // on an earlier connection: it is sent again with DUP
	s.Bytes += x.size()
	s.win.push(x)
	s.live++
	return true
}

// Unacked yields everything in the window in the order of sending, and then
// what is queued with the identifier 0.
func (s *Sender) Unacked(yield func(id uint16, x *Slot) bool) {
	for i := range int(s.win.n) {
		if p := s.win.at(i); p.State != Free && !yield(s.id(i), p) {
			return
		}
	}
	for i := range int(s.queue.n) {
		if !yield(0, s.queue.at(i)) {
			return
		}
	}
}
