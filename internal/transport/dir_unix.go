//go:build unix

package transport

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lockDir locks the directory of path against other starters. Where that is not possible it goes without.
func lockDir(path string) (unlock func()) {
	f, err := os.Open(filepath.Dir(path))
	if err != nil {
		return func() {}
	}
	_ = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	return func() { _ = f.Close() }
}
