package client

import (
	"cmp"
	"slices"
)

// Store keeps what a session must not forget: the messages of QoS 1 and 2 that
// were given to the client and are not acknowledged, and the identifiers of QoS
// 2 messages that came and are not released. With one in Options a message
// survives the death of the program. See OpenFile.
//
// A client calls it from one goroutine at a time.
type Store interface {
	// Load tells what was kept. It is called once, before all else, and what it
	// returns belongs to the caller.
	Load() (State, error)
	// Commit keeps the records, in their order, and returns when they will
	// survive: nothing of what they tell has been sent before. The slice and
	// what is in it belong to the caller again when it returns. After an error
	// the client sends nothing more that depends on it, and ends.
	Commit([]Record) error
	// Close lets go of what is open. The client does not call it.
	Close() error
}

// State is what a Store has kept.
type State struct {
	// ClientID is whose session it is, empty: nobody's yet.
	ClientID string
	// Next is greater than the Seq of every message that was ever kept.
	Next uint64
	// Out are the messages that were not acknowledged, in the order in which
	// they were given to the client.
	Out []Kept
	// In are the identifiers of QoS 2 messages that came and were not released,
	// ascending.
	In []uint16
}

// Kept is a message that was not acknowledged.
type Kept struct {
	// Seq is its number, ascending.
	Seq uint64
	// ID is its packet identifier, 0 if it was never sent.
	ID uint16
	// Released: its PUBREC came. Its Packet is gone.
	Released bool
	// Packet is the PUBLISH in the form of 5.0 and At the second, since 1970,
	// in which it was given to the client.
	Packet []byte
	At     uint32
}

// RecordKind says what a Record tells.
type RecordKind uint8

// What a Record tells.
const (
	// RecordMessage: a message was given to the client: Seq, Packet and At.
	RecordMessage RecordKind = iota + 1
	// RecordSent: the message Seq has the packet identifier ID.
	RecordSent
	// RecordReleased: the PUBREC of the message Seq came.
	RecordReleased
	// RecordDone: the message Seq is acknowledged, or given up.
	RecordDone
	// RecordReceived: the QoS 2 message ID came and was handed out.
	RecordReceived
	// RecordForgotten: the PUBREL of the message ID came.
	RecordForgotten
	// RecordSession: the session is another one, of the client ClientID:
	// messages lose their identifiers, and all received ones are forgotten.
	RecordSession
)

// Record is one change of a State.
type Record struct {
	Kind     RecordKind
	ID       uint16
	At       uint32
	Seq      uint64
	Packet   []byte
	ClientID string
}

// Apply changes the state as the record tells, for a Store that keeps it in
// memory too. It keeps the record's slices. A record that tells of nothing that
// is there changes nothing. The end of an old message takes no longer where many
// newer ones are kept.
func (s *State) Apply(r Record) {
	at, found := slices.BinarySearchFunc(s.Out, r.Seq, func(k Kept, seq uint64) int { return cmp.Compare(k.Seq, seq) })
	switch r.Kind {
	case RecordMessage:
		if !found {
			s.Out = slices.Insert(s.Out, at, Kept{Seq: r.Seq, Packet: r.Packet, At: r.At})
			s.Next = max(s.Next, r.Seq+1)
		}
	case RecordSent:
		if found {
			s.Out[at].ID = r.ID
		}
	case RecordReleased:
		if found {
			s.Out[at].Released, s.Out[at].Packet = true, nil
		}
	case RecordDone:
		if found {
			s.Out = deleteAt(s.Out, at)
		}
	case RecordReceived:
		s.In = insertID(s.In, r.ID)
	case RecordForgotten:
		s.In = deleteID(s.In, r.ID)
	case RecordSession:
		s.ClientID, s.In = r.ClientID, nil
		s.Out = slices.DeleteFunc(s.Out, func(k Kept) bool { return k.Released })
		for i := range s.Out {
			s.Out[i].ID = 0
		}
	}
}

// deleteAt is s without the element i. What is acknowledged is among the oldest,
// so those before i move up and not those behind it down.
func deleteAt[T any](s []T, i int) []T {
	if i >= len(s)/2 {
		return slices.Delete(s, i, i+1)
	}
	copy(s[1:], s[:i])
	var none T
	s[0] = none // what it held is free
	return s[1:]
}

// insertID is ids, ascending, with id.
func insertID(ids []uint16, id uint16) []uint16 {
	at, found := slices.BinarySearch(ids, id)
	if found {
		return ids
	}
	return slices.Insert(ids, at, id)
}

// deleteID is ids, ascending, without id.
func deleteID(ids []uint16, id uint16) []uint16 {
	at, found := slices.BinarySearch(ids, id)
	if !found {
		return ids
	}
	return deleteAt(ids, at)
}
