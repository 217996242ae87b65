//go:build !unix

package auth

import (
	"errors"
	"io/fs"
	"os"
)

// lockFile opens the file, and makes it if it is not there. There is no lock on
// this system: two who edit at a time may undo each other's change.
func lockFile(name string) (f *os.File, created bool, err error) {
	f, err = os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		created = err == nil
	}
	return f, created, err
}

func keepOwner(*os.File, fs.FileInfo) {}
