//go:build unix && !aix

package disk

import (
	"io"
	"os"
	"syscall"
)

// holder is the process that holds the lock of a file, 0: none, or one that
// this process cannot see. It must not be called for a file that this process
// has locked, whose lock would end.
func holder(file string) int {
	f, err := os.Open(file)
	if err != nil {
		return 0
	}
	defer f.Close() //nolint:errcheck // it was only read
	l := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &l); err != nil || l.Type == syscall.F_UNLCK {
		return 0
	}
	return int(l.Pid)
}
