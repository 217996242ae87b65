package disk

import (
	"os"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// halt is where goroutines of the database stay for ever that cannot go on.
//
// Where Pebble cannot make, write or sync its log, its manifest or its
// directory, it panics, in goroutines of its own or with its locks in a state in
// which even a recovered panic ends the process. But the process is to go on,
// with those who need no disk. So such a failure never reaches Pebble: the engine
// fails, and the operation does not return. Nothing is lost by it: nothing is
// acknowledged any more, and messages can still be read.
type halt struct {
	once   sync.Once
	halted chan struct{} // closed with the first of them: the database cannot be closed
}

// here ends the engine, and does not return.
func (h *halt) here(e *Engine, err error) {
	if e.opened.Load() {
		go e.fail(err) // the caller may hold locks
	} else {
		select {
		case e.fatal <- err: // to begin
		default: // the second one
		}
	}
	h.once.Do(func() { close(h.halted) })
	select {}
}

// haltFS is the file system as the database sees it.
type haltFS struct {
	vfs.FS
	e *Engine
}

// Unwrap implements vfs.FS.
func (h *haltFS) Unwrap() vfs.FS { return h.FS }

// vital tells whether Pebble does not survive a failure of a file.
func (h *haltFS) vital(name string) bool {
	base := h.PathBase(name)
	return strings.HasPrefix(name, h.e.space.prefix) &&
		(strings.HasSuffix(base, ".log") || strings.HasPrefix(base, "MANIFEST-") || strings.HasPrefix(base, "marker."))
}

func (h *haltFS) file(vital bool, f vfs.File, err error) (vfs.File, error) {
	switch {
	case !vital:
		return f, err
	case err != nil:
		h.e.halt.here(h.e, err)
	}
	return &haltFile{f, h.e}, nil
}

// Create implements vfs.FS.
func (h *haltFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := h.FS.Create(name, c)
	return h.file(h.vital(name), f, err)
}

// ReuseForWrite implements vfs.FS.
func (h *haltFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := h.FS.ReuseForWrite(old, name, c)
	return h.file(h.vital(name), f, err)
}

// OpenDir implements vfs.FS.
func (h *haltFS) OpenDir(name string) (vfs.File, error) {
	f, err := h.FS.OpenDir(name)
	return h.file(strings.HasPrefix(h.PathJoin(name, "x"), h.e.space.prefix) && !os.IsNotExist(err), f, err)
}

// haltFile is a file whose failure the database does not survive.
type haltFile struct {
	vfs.File
	e *Engine
}

// ok: a file that finds no room while the engine is being closed is one that it
// survives.
func (f *haltFile) ok(err error) error {
	if err != nil && !noSpace(err) {
		f.e.halt.here(f.e, err)
	}
	return err
}

// Write implements vfs.File.
func (f *haltFile) Write(p []byte) (n int, err error) {
	n, err = f.File.Write(p)
	return n, f.ok(err)
}

// WriteAt implements vfs.File.
func (f *haltFile) WriteAt(p []byte, at int64) (n int, err error) {
	n, err = f.File.WriteAt(p, at)
	return n, f.ok(err)
}

// Sync implements vfs.File.
func (f *haltFile) Sync() error { return f.ok(f.File.Sync()) }

// SyncData implements vfs.File.
func (f *haltFile) SyncData() error { return f.ok(f.File.SyncData()) }

// SyncTo implements vfs.File.
func (f *haltFile) SyncTo(n int64) (all bool, err error) {
	all, err = f.File.SyncTo(n)
	return all, f.ok(err)
}

// Close implements vfs.File.
func (f *haltFile) Close() error { return f.ok(f.File.Close()) }
