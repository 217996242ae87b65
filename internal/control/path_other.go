//go:build !linux

package control

// short has no other path for a directory here: an address that is too long is
// the system's error.
func short(dir string) (path string, done func(), err error) { return dir, func() {}, nil }
