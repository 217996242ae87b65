package chaos

import (
	"errors"
	"sync"

	"github.com/myelin-mqtt/myelin/client"
)

// mortal is a store whose client dies: after some more commits it fails for
// ever.
type mortal struct {
	client.Store
	mu     sync.Mutex
	left   int // commits to go, 0: it lives
	after  bool
	failed bool
	kept   uint32
}

var errDead = errors.New("the client is dead")

// dieIn has the n-th commit from now be the last: it is kept, or is not, and the
// client is not told.
func (m *mortal) dieIn(n int, kept bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left, m.after = n, kept
}

// stay has it live on; true: it is dead already.
func (m *mortal) stay() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left = 0
	return m.failed
}

func (m *mortal) dead() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failed
}

// Load implements client.Store.
func (m *mortal) Load() (client.State, error) {
	s, err := m.Store.Load()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept = uint32(max(s.Next, 1) - 1) // the first message is number 1
	return s, err
}

// messages is how many were ever kept, as Load has told.
func (m *mortal) messages() uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept
}

// Commit implements client.Store.
func (m *mortal) Commit(r []client.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left > 0 {
		if m.left--; m.left == 0 {
			m.failed = true
			if m.after {
				if err := m.Store.Commit(r); err != nil {
					return err
				}
			}
		}
	}
	if m.failed {
		return errDead
	}
	return m.Store.Commit(r)
}
