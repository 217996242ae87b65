package broker

import (
	"sync/atomic"

	sess "github.com/myelin-mqtt/myelin/internal/session"
)

// held counts what waits in memory for connected clients that are slower than
// their publishers, and bounds it for all of them together. What waits for
// durable sessions is the store's, which has bounds of its own.
type held struct {
	messages, bytes atomic.Int64
}

// limits are those of a session's queue at this moment: while all together are
// at their limit, a queue may not grow, and who is slow pays with his own
// messages. The caller holds s.mu.
func (h *held) limits(o *Options, s *session) sess.Limits {
	l := o.limits()
	bytes := l.TotalBytes
	if o.Queue.TotalBytes == 0 {
		bytes = DefaultTotalBytes
	}
	if l.TotalMessages > 0 && h.messages.Load() >= l.TotalMessages || bytes > 0 && h.bytes.Load() >= bytes {
		l.Messages = max(1, s.out.Send.Queued())
	}
	return l
}

// weigh counts what s holds now. The caller holds s.mu.
func (h *held) weigh(s *session) {
	n, bytes := int32(s.out.Send.Queued()), int32(min(s.out.Send.QueueBytes, 1<<31-1))
	if n != s.heldN {
		h.messages.Add(int64(n - s.heldN))
	}
	if bytes != s.heldBytes {
		h.bytes.Add(int64(bytes) - int64(s.heldBytes))
	}
	s.heldN, s.heldBytes = n, bytes
}
