package control

import (
	"fmt"
	"os"
)

// longest is a folder's path that still leaves room for a socket's name in an
// address, on every system.
const longest = 80

// short is a path of a directory that fits into the address of a socket, good
// until done is called.
func short(dir string) (path string, done func(), err error) {
	if len(dir) <= longest {
		return dir, func() {}, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d", f.Fd()), func() { _ = f.Close() }, nil
}
