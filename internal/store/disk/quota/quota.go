// Package quota is a file system for tests with a limit on its bytes: what
// does not fit is refused as a full disk refuses it, a write perhaps in its
// middle. It is no part of the program. Start with FS.
package quota

import (
	"os"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS is a file system with a limit. Its methods may be called from any
// goroutine.
type FS struct {
	vfs.FS

	mu     sync.Mutex
	limit  int64
	used   int64
	files  map[string]*inode
	ops    int // operations that need room
	from   int // the operation from which on there is none, 0: no such
	hidden bool
	syncs  error
}

// inode is a file, under one or more names.
type inode struct{ size, names int64 }

// New puts a limit in bytes on a file system that is empty.
func New(fs vfs.FS, limit int64) *FS {
	return &FS{FS: fs, limit: limit, files: map[string]*inode{}}
}

// SetLimit changes the limit. It may be below what is used.
func (f *FS) SetLimit(limit int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limit = limit
}

// Leave sets the limit so that n bytes are free.
func (f *FS) Leave(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limit = f.used + n
}

// Used are the bytes of all files.
func (f *FS) Used() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.used
}

// FailFrom refuses the n-th operation from now that needs room, and all after
// it; 0: none. A write that is refused has written the half.
func (f *FS) FailFrom(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ops, f.from = 0, n
}

// Ops counts the operations that needed room since FailFrom.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// Hide makes GetDiskUsage tell more room than there is, as it does where a
// user has a quota.
func (f *FS) Hide(hide bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hidden = hide
}

// FailSyncs makes every sync fail with err; nil: none.
func (f *FS) FailSyncs(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.syncs = err
}

// room asks for n more bytes, and says how many there are. The caller holds mu.
func (f *FS) room(n int64) (int64, error) {
	f.ops++
	if f.from > 0 && f.ops >= f.from {
		return min(n/2, max(f.limit-f.used, 0)), syscall.ENOSPC
	}
	if left := max(f.limit-f.used, 0); n > left {
		return left, syscall.ENOSPC
	}
	return n, nil
}

// entry asks for room for a name: there is some while a byte is free.
func (f *FS) entry() error {
	_, err := f.room(1)
	return err
}

// drop takes a name away. The caller holds mu.
func (f *FS) drop(name string) {
	if i := f.files[name]; i != nil {
		delete(f.files, name)
		if i.names--; i.names == 0 {
			f.used -= i.size
		}
	}
}

// Unwrap implements vfs.FS.
func (f *FS) Unwrap() vfs.FS { return f.FS }

func (f *FS) open(name string, fresh bool, open func() (vfs.File, error)) (vfs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.files[name] == nil || fresh {
		if err := f.entry(); err != nil {
			return nil, err
		}
	}
	x, err := open()
	if err != nil {
		return nil, err
	}
	if fresh {
		f.drop(name)
	}
	i := f.files[name]
	if i == nil {
		i = &inode{names: 1}
		f.files[name] = i
	}
	return &file{File: x, fs: f, inode: i}, nil
}

// Create implements vfs.FS.
func (f *FS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.open(name, true, func() (vfs.File, error) { return f.FS.Create(name, c) })
}

// OpenReadWrite implements vfs.FS.
func (f *FS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.open(name, false, func() (vfs.File, error) { return f.FS.OpenReadWrite(name, c, opts...) })
}

// ReuseForWrite implements vfs.FS.
func (f *FS) ReuseForWrite(from, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.Rename(from, name); err != nil {
		return nil, err
	}
	return f.OpenReadWrite(name, c)
}

// OpenDir implements vfs.FS.
func (f *FS) OpenDir(name string) (vfs.File, error) {
	x, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &file{File: x, fs: f, inode: new(inode)}, nil
}

// Link implements vfs.FS.
func (f *FS) Link(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.entry(); err != nil {
		return err
	}
	if err := f.FS.Link(from, to); err != nil {
		return err
	}
	if i := f.files[from]; i != nil {
		i.names++
		f.files[to] = i
	}
	return nil
}

// Rename implements vfs.FS.
func (f *FS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.entry(); err != nil {
		return err
	}
	if err := f.FS.Rename(from, to); err != nil {
		return err
	}
	if i := f.files[from]; i != nil && from != to {
		f.drop(to)
		delete(f.files, from)
		f.files[to] = i
	}
	return nil
}

// Remove implements vfs.FS.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.FS.Remove(name); err != nil {
		return err
	}
	f.drop(name)
	return nil
}

// MkdirAll implements vfs.FS.
func (f *FS) MkdirAll(dir string, perm os.FileMode) error { return f.FS.MkdirAll(dir, perm) }

// GetDiskUsage implements vfs.FS.
func (f *FS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	free := max(f.limit-f.used, 0)
	if f.hidden {
		free = 1 << 40
	}
	return vfs.DiskUsage{AvailBytes: uint64(free), TotalBytes: uint64(f.limit), UsedBytes: uint64(f.used)}, nil
}

// file counts what is written beyond its end.
type file struct {
	vfs.File
	fs    *FS
	inode *inode
	at    int64
}

// Write implements vfs.File.
func (f *file) Write(p []byte) (int, error) {
	n, err := f.grow(p, f.at, f.File.Write)
	f.at += int64(n)
	return n, err
}

// WriteAt implements vfs.File.
func (f *file) WriteAt(p []byte, at int64) (int, error) {
	return f.grow(p, at, func(p []byte) (int, error) { return f.File.WriteAt(p, at) })
}

func (f *file) grow(p []byte, at int64, write func(p []byte) (int, error)) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	grows := max(at+int64(len(p))-f.inode.size, 0)
	if got, full := f.fs.room(grows); full != nil {
		p = p[:max(int64(len(p))-grows+got, 0)]
		n := 0
		if len(p) > 0 {
			var err error
			if n, err = write(p); err != nil {
				return n, err
			}
		}
		f.wrote(at + int64(n))
		return n, full
	}
	n, err := write(p)
	f.wrote(at + int64(n))
	return n, err
}

func (f *file) wrote(end int64) {
	if n := end - f.inode.size; n > 0 {
		f.inode.size = end
		if f.inode.names > 0 {
			f.fs.used += n
		}
	}
}

func (f *file) sync(do func() error) error {
	f.fs.mu.Lock()
	err := f.fs.syncs
	f.fs.mu.Unlock()
	if err != nil {
		return err
	}
	return do()
}

// Sync implements vfs.File.
func (f *file) Sync() error { return f.sync(f.File.Sync) }

// SyncData implements vfs.File.
func (f *file) SyncData() error { return f.sync(f.File.SyncData) }

// SyncTo implements vfs.File.
func (f *file) SyncTo(n int64) (all bool, err error) {
	err = f.sync(func() (err error) { all, err = f.File.SyncTo(n); return err })
	return all, err
}
