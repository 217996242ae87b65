package broker

import (
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// plug is a file system in memory whose power can be cut: it counts what is
// done to it, and calls hit before each operation that changes something. What
// hit returns is the operation's error.
type plug struct {
	vfs.FS
	mem *vfs.MemFS
	n   atomic.Int64
}

func newPlug(mem *vfs.MemFS, under vfs.FS, hit func(n int64, op errorfs.Op) error) *plug {
	p := &plug{mem: mem}
	p.FS = errorfs.Wrap(under, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch {
		case op.Kind.ReadOrWrite() == errorfs.OpIsRead:
			return nil
		case op.Kind == errorfs.OpLock, op.Kind == errorfs.OpFileClose, op.Kind == errorfs.OpFilePreallocate:
			return nil // nothing of them survives
		}
		return hit(p.n.Add(1), op)
	}))
	return p
}

// after is what the disk has after the power was cut now: what was synced, and
// percent of the rest.
func (p *plug) after(percent int, seed uint64) *vfs.MemFS {
	return p.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(seed, 3))})
}

// journal is a file system that keeps the order in which names are made and
// removed, as those with a journal do: the database counts on it. Without it a
// crash keeps all names that are not synced, or none.
type journal struct{ vfs.FS }

func (j journal) keep(name string, err error) error {
	if err != nil {
		return err
	}
	d, err := j.FS.OpenDir(j.FS.PathDir(name))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Create implements vfs.FS.
func (j journal) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := j.FS.Create(name, c)
	return f, j.keep(name, err)
}

// ReuseForWrite implements vfs.FS.
func (j journal) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := j.FS.ReuseForWrite(old, name, c)
	return f, j.keep(name, err)
}

// Link, Rename, Remove and MkdirAll implement vfs.FS.
func (j journal) Link(old, name string) error   { return j.keep(name, j.FS.Link(old, name)) }
func (j journal) Rename(old, name string) error { return j.keep(name, j.FS.Rename(old, name)) }
func (j journal) Remove(name string) error      { return j.keep(name, j.FS.Remove(name)) }
func (j journal) MkdirAll(name string, perm os.FileMode) error {
	return j.keep(name, j.FS.MkdirAll(name, perm))
}

// liar is a file system that does not sync files whose name ends in suffix.
type liar struct {
	vfs.FS
	suffix string
}

func (l liar) lie(name string, f vfs.File, err error) (vfs.File, error) {
	if err == nil && strings.HasSuffix(name, l.suffix) {
		f = unsynced{f}
	}
	return f, err
}

// Create implements vfs.FS.
func (l liar) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.Create(name, c)
	return l.lie(name, f, err)
}

// ReuseForWrite implements vfs.FS.
func (l liar) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.ReuseForWrite(old, name, c)
	return l.lie(name, f, err)
}

// unsynced is a file that says that it is synced.
type unsynced struct{ vfs.File }

// Sync, SyncData and SyncTo implement vfs.File.
func (unsynced) Sync() error                  { return nil }
func (unsynced) SyncData() error              { return nil }
func (unsynced) SyncTo(n int64) (bool, error) { return false, nil }
