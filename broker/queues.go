package broker

import (
	"cmp"
	"slices"
)

// Holder is a session with the messages that it holds: those that wait for it,
// and those that are in flight to its client and not acknowledged to the end.
type Holder struct {
	ClientID  string
	Messages  int
	Bytes     int64 // topics and payloads
	Connected bool
}

// HolderOrder says which sessions hold most.
type HolderOrder uint8

// The orders of holders.
const (
	ByBytes HolderOrder = iota
	ByMessages
)

// Queues is who holds how much.
type Queues struct {
	Holders  int // sessions that hold something
	Messages int // a message counts for each session that it waits for
	Bytes    int64
	Top      []Holder // those that hold most, the most first
}

// Queues looks at the queue of every session, of which the limit that hold most
// are named, at most 10,000. Sessions go on meanwhile, so that the figures are
// not of one moment.
func (b *Broker) Queues(order HolderOrder, limit int) Queues {
	limit = max(0, min(limit, 10_000))
	compare := func(x, y Holder) int {
		by := cmp.Compare(y.Bytes, x.Bytes)
		if order == ByMessages {
			by = cmp.Compare(y.Messages, x.Messages)
		}
		return cmp.Or(by, cmp.Compare(x.ClientID, y.ClientID))
	}
	var q Queues
	b.registry.sessions(func(s *session) {
		h := s.holds()
		if h.Messages == 0 {
			return
		}
		q.Holders++
		q.Messages += h.Messages
		q.Bytes += h.Bytes
		if i, _ := slices.BinarySearchFunc(q.Top, h, compare); i < limit {
			if len(q.Top) == limit {
				q.Top = q.Top[:limit-1]
			}
			q.Top = slices.Insert(q.Top, i, h)
		}
	})
	return q
}

// holds is what the session holds. The caller need not own it.
func (s *session) holds() Holder {
	h := Holder{ClientID: s.id}
	s.mu.Lock()
	stored := s.store
	if s.active != nil {
		h.Messages = s.out.Send.Live() + s.out.Send.Queued()
		h.Bytes = int64(s.out.Send.Bytes + s.out.Send.QueueBytes)
		h.Connected = s.io != nil || s.local != nil
	}
	s.mu.Unlock()
	if stored != nil {
		n, bytes := stored.Queued()
		h.Messages += n
		h.Bytes += int64(bytes)
	}
	return h
}
