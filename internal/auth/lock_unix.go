//go:build unix

package auth

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// lockFile opens the file, makes it if it is not there, and waits until nobody
// else edits it. The lock ends when the file is closed.
func lockFile(name string) (f *os.File, created bool, err error) {
	for {
		f, err := os.OpenFile(name, os.O_RDONLY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			f, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
			if errors.Is(err, fs.ErrExist) {
				continue
			}
			created = err == nil
		}
		if err != nil {
			return nil, false, err
		}
		if err := flock(f); err != nil {
			_ = f.Close()
			return nil, created, err
		}
		mine, err := f.Stat()
		is, err2 := os.Stat(name)
		if err == nil && err2 == nil && os.SameFile(mine, is) {
			return f, created, nil
		}
		_ = f.Close() // it was exchanged while this one waited
		if err != nil {
			return nil, created, err
		}
	}
}

func flock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// keepOwner gives a file the owner of the one that it replaces, where this user
// may.
func keepOwner(f *os.File, old fs.FileInfo) {
	if s, ok := old.Sys().(*syscall.Stat_t); ok {
		_ = f.Chown(int(s.Uid), int(s.Gid)) // only root may, and only root needs to
	}
}
