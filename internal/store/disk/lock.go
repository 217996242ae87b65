package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
)

// InUseError says that another process, or another part of this one, has the
// data directory open.
type InUseError struct {
	Dir string
	PID int // of the other process; 0: it cannot be told
}

// Error implements error.
func (e *InUseError) Error() string {
	if e.PID == 0 {
		return "it is in use"
	}
	return fmt.Sprintf("it is in use by process %d", e.PID)
}

// lock takes the directory for this process alone.
func lock(dir string, in FS) (*pebble.Lock, error) {
	l, err := pebble.LockDirectory(dir, in)
	var path *fs.PathError
	var system syscall.Errno
	switch {
	case err == nil:
		return l, nil
	case errors.As(err, &path), errors.Is(err, syscall.ENOLCK), errors.Is(err, syscall.ENOSYS):
		return nil, fmt.Errorf("lock directory: %w", err) // the lock's file cannot be made, or not be locked
	case errors.As(err, &system):
		return nil, &InUseError{Dir: dir, PID: holder(in.PathJoin(dir, "LOCK"))}
	default: // this process has it
		return nil, &InUseError{Dir: dir}
	}
}
