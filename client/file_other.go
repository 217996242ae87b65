//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package client

import (
	"errors"
	"io"
	"os"
)

// lockFile fails: without a lock two programs would write to one log.
func lockFile(path string) (io.Closer, error) {
	return nil, &os.PathError{Op: "lock", Path: path, Err: errors.ErrUnsupported}
}

func syncFolder(string) error { return errors.ErrUnsupported }
