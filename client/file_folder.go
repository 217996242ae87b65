package client

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrFileInUse: another File has the folder, in this program or in another one.
var ErrFileInUse = errors.New("in use by another program")

var errFileClosed = errors.New("the session's file is closed")

// FileDamageError says that the disk does not have what was written.
type FileDamageError struct {
	File   string
	Offset int64 // in bytes
	Reason string
}

// Error implements error.
func (e *FileDamageError) Error() string {
	return fmt.Sprintf("%s is damaged at byte %d: %s", e.File, e.Offset, e.Reason)
}

// Hint says what to try.
func (e *FileDamageError) Hint() string {
	return "restore the folder, or name another one: the messages that were not acknowledged are lost then"
}

// FileFormatError refuses a file of another format version.
type FileFormatError struct {
	File    string
	Version uint32
}

// Error implements error.
func (e *FileFormatError) Error() string {
	return fmt.Sprintf("%s has format version %d, and this program knows version %d only", e.File, e.Version, logVersion)
}

// Hint says what to try.
func (e *FileFormatError) Hint() string {
	return "another version of the program wrote it: run that one, or name another folder"
}

// The files in a folder.
const (
	logName    = "session"
	newLogName = "session.new" // until it is whole
	lockName   = "lock"
)

// folder is what a File needs of the file system. Tests have one that fails.
type folder interface {
	path(name string) string // for errors
	// open opens a file to read and write it; create: an empty one, in the place
	// of what there is.
	open(name string, create bool) (logFile, error)
	// rename has the file from in the place of to.
	rename(from, to string) error
	remove(name string) error
	// sync returns when open, rename and remove will survive.
	sync() error
	// close lets others have the folder.
	close() error
}

// logFile is a file in a folder.
type logFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	// Sync returns when what was written will survive.
	Sync() error
}

// osFolder is a folder of the operating system.
type osFolder struct {
	dir  string
	lock io.Closer
}

// openFolder makes the folder where it is not there, and locks it.
func openFolder(dir string, sync bool) (*osFolder, error) {
	var made []string // the folders that have a new one in them
	for d := filepath.Clean(dir); filepath.Dir(d) != d; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		made = append(made, filepath.Dir(d))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if sync {
		for _, d := range made {
			if err := syncFolder(d); err != nil {
				return nil, err
			}
		}
	}
	lock, err := lockFile(filepath.Join(dir, lockName))
	if errors.Is(err, ErrFileInUse) {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	if err != nil {
		return nil, err
	}
	return &osFolder{dir: dir, lock: lock}, nil
}

func (o *osFolder) path(name string) string { return filepath.Join(o.dir, name) }

func (o *osFolder) open(name string, create bool) (logFile, error) {
	flag := os.O_RDWR
	if create {
		flag |= os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(o.path(name), flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (o *osFolder) rename(from, to string) error {
	return os.Rename(o.path(from), o.path(to))
}

func (o *osFolder) remove(name string) error { return os.Remove(o.path(name)) }

func (o *osFolder) sync() error { return syncFolder(o.dir) }

func (o *osFolder) close() error { return o.lock.Close() }

// osFile is a file of the operating system.
type osFile struct{ *os.File }

// Size implements logFile.
func (f osFile) Size() (int64, error) {
	i, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return i.Size(), nil
}
