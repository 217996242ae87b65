package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrNotEmpty refuses a place for a backup that holds something.
var ErrNotEmpty = errors.New("it is there already, and not empty")

// Backup copies the store into a directory of the operating system's file
// system, which becomes one that a store can be opened in. It must not exist, or
// be empty. Everything that was acknowledged before the call is in the copy, and
// what comes meanwhile may be. The store goes on meanwhile; tables are linked
// and not copied where the file system can do that. What is there under the name
// dir is a whole copy or nothing, whatever happens.
func (e *Engine) Backup(ctx context.Context, dir string) error {
	e.mu.Lock()
	err := e.err
	if e.closing && err == nil {
		err = ErrClosed
	}
	if err == nil {
		e.using.Add(1)
	}
	e.mu.Unlock()
	if err != nil {
		return err
	}
	defer e.using.Done()
	return whole(dir, func(to string) (err error) {
		defer func() { // Pebble panics where it cannot go on
			if x := recover(); x != nil {
				err = fmt.Errorf("%v", x)
			}
		}()
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.o.Durability == Async { // else what was acknowledged is in the log, and a full disk is none of our business
			return e.db.Checkpoint(to, pebble.WithFlushedWAL())
		}
		return e.db.Checkpoint(to)
	})
}

// Backup is Engine's, of a store that nobody uses.
func (v *View) Backup(ctx context.Context, dir string) error {
	names, err := v.fs.List(v.dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", v.dir, err)
	}
	return whole(dir, func(to string) error {
		if err := v.fs.MkdirAll(to, 0o700); err != nil {
			return err
		}
		for _, name := range names {
			from := v.fs.PathJoin(v.dir, name)
			fi, err := os.Lstat(from)
			if err != nil || !fi.Mode().IsRegular() || name == "LOCK" || name == reserveName {
				continue // a socket, a folder of somebody else, a file that went
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			copyFile := vfs.Copy
			if strings.HasSuffix(name, ".sst") { // which never changes
				copyFile = vfs.LinkOrCopy
			}
			if err := copyFile(vfs.NewSyncingFS(v.fs, vfs.SyncingFileOptions{}), from, v.fs.PathJoin(to, name)); err != nil {
				return fmt.Errorf("copy %s: %w", name, err)
			}
		}
		return nil
	})
}

// whole has fill make a directory beside dir, and moves it there when it is
// whole and on the disk.
func whole(dir string, fill func(to string) error) (err error) {
	dir = filepath.Clean(dir)
	there := false
	switch names, err := os.ReadDir(dir); {
	case err == nil && len(names) > 0:
		return &fs.PathError{Op: "back up to", Path: dir, Err: ErrNotEmpty}
	case err == nil:
		there = true
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(parent, "."+filepath.Base(dir)+".incomplete-") // of mode 0700
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, os.RemoveAll(tmp))
	}()
	copied := filepath.Join(tmp, "store")
	if err := fill(copied); err != nil {
		return err
	}
	if err := os.Chmod(copied, 0o700); err != nil {
		return err
	}
	if err := syncDir(copied); err != nil {
		return err
	}
	if there {
		if err := os.Remove(dir); err != nil {
			return fmt.Errorf("replace the empty directory: %w", err)
		}
	}
	if err := os.Rename(copied, dir); err != nil {
		return err
	}
	return syncDir(parent)
}

func syncDir(dir string) error {
	d, err := vfs.Default.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
