package disk

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// space is the room on the disk: whether there is some, and a reserve that is
// given up when there is none. Its own fields are atomic, since the file system
// reports from goroutines of the database, which hold its locks.
type space struct {
	fs      vfs.FS // the one below
	dir     string
	prefix  string // of the names in dir
	reserve int64  // bytes of the reserve, 0: none
	least   int64  // free bytes below which the disk counts as full
	pause   time.Duration

	full    atomic.Bool  // messages are refused
	blocked atomic.Int32 // operations that wait for room
	log     atomic.Int32 // those of them on the database's log: commits wait
	free    atomic.Int64 // as last seen, -1: not known
	hit     atomic.Int64 // when an operation found no room last, Unix nanoseconds
	poke    chan struct{}
	starved chan error // has the error of an operation that has waited for long
	ended   chan struct{}
	end     sync.Once
	failed  func(error) // told of every sync that failed

	wrote atomic.Int64 // bytes since the last look
	mu    sync.Mutex   // held while the reserve is made or removed
}

// reserveName is the file of the reserve. The database passes it over.
const reserveName = "reserve"

// The defaults, and the part of a small disk that each takes at most. They have
// to hold what the database does with messages that it has taken: it makes
// tables of up to four times 16 MiB of its log, and merges them.
const (
	defaultMinFree = 64 << 20
	defaultReserve = 32 << 20
	smallPart      = 8
)

// newSpace looks at the disk below dir, which is there.
func newSpace(o *Options, failed func(error)) *space {
	s := &space{
		fs: o.FS, dir: o.Dir, prefix: strings.TrimSuffix(o.FS.PathJoin(o.Dir, "x"), "x"), reserve: o.ReserveBytes, least: o.MinFreeBytes,
		pause: o.pause, poke: make(chan struct{}, 1), starved: make(chan error, 1), ended: make(chan struct{}), failed: failed,
	}
	if s.pause == 0 {
		s.pause = 200 * time.Millisecond
	}
	u, err := s.fs.GetDiskUsage(s.dir)
	switch total := int64(u.TotalBytes); {
	case err != nil: // not known on this file system: what it refuses is all there is to go by
		s.free.Store(-1)
		s.least, s.reserve = 0, max(s.reserve, 0)
	default:
		s.least = orPart(s.least, defaultMinFree, total/smallPart)
		s.reserve = orPart(s.reserve, defaultReserve, total/smallPart)
		s.free.Store(int64(u.AvailBytes))
	}
	return s
}

// orPart is a size as it is configured, 0: the default, but not above a part of
// the disk; negative: 0.
func orPart(n, def, part int64) int64 {
	if n == 0 {
		return min(def, part)
	}
	return max(n, 0)
}

// wrap is the file system as the database sees it.
func (s *space) wrap() vfs.FS { return &roomFS{FS: s.fs, s: s} }

// close lets operations that wait for room fail.
func (s *space) close() { s.end.Do(func() { close(s.ended) }) }

// over tells whether operations do not wait any more.
func (s *space) over() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// noSpace tells whether an operation failed for want of room, or of quota.
func noSpace(err error) bool {
	const diskFull, handleDiskFull = syscall.Errno(112), syscall.Errno(39)
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		runtime.GOOS == "windows" && (errors.Is(err, diskFull) || errors.Is(err, handleDiskFull))
}

// kind says what hangs on a file.
type kind uint8

const (
	plainFile kind = iota
	logFile        // commits wait for it
	tableFile      // of a compaction: it gets nothing of the reserve, can be given up, and begun again later
)

// giveUp is how long a compaction waits for room. Then what it has written is
// deleted: it takes the room that everything else waits for.
const giveUp = 2 * time.Second

// retry goes on with an operation that found no room with err. First the
// reserve is given up; then it waits, and tries again.
func (s *space) retry(k kind, err error, again func() error) error {
	begun := time.Now()
	counted := false
	for noSpace(err) {
		if k != tableFile { // which is refused room by us, too, and must not keep the disk full
			s.hit.Store(time.Now().UnixNano())
		}
		s.full.Store(true)
		given := k != tableFile && s.give()
		s.wake()
		if !given {
			if s.over() || k == tableFile && time.Since(begun) > giveUp {
				break
			}
			if time.Since(begun) > 10*s.pause {
				select {
				case s.starved <- err:
				default:
				}
			}
			if !counted && k != tableFile {
				counted = true
				s.blocked.Add(1)
				if k == logFile {
					s.log.Add(1)
				}
			}
			timer := time.NewTimer(s.pause)
			select {
			case <-timer.C:
			case <-s.ended:
				timer.Stop()
			}
		}
		err = again()
	}
	if counted {
		s.blocked.Add(-1)
		if k == logFile {
			s.log.Add(-1)
		}
		s.wake()
	}
	return err
}

// wake has the engine look at the disk now.
func (s *space) wake() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// give gives the reserve up; false: there is none.
func (s *space) give() bool {
	if s.reserve == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fs.Remove(s.fs.PathJoin(s.dir, reserveName)) == nil
}

// missing is what the reserve takes when it is made.
func (s *space) missing() int64 {
	if s.reserve == 0 {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if fi, err := s.fs.Stat(s.fs.PathJoin(s.dir, reserveName)); err == nil && fi.Size() == s.reserve {
		return 0
	}
	return s.reserve
}

// stock makes the reserve. Its size is set last: a file of this size is whole.
func (s *space) stock() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := s.fs.PathJoin(s.dir, reserveName)
	s.fs.Remove(name)
	f, err := s.fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create reserve: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			s.fs.Remove(name)
		}
	}()
	from := int64(0)
	if err := f.Preallocate(0, s.reserve); noSpace(err) {
		return fmt.Errorf("allocate reserve: %w", err)
	} else if err == nil && runtime.GOOS == "linux" && f.Fd() != vfs.InvalidFd {
		from = s.reserve - 1 // elsewhere it does nothing, and says so to nobody
	}
	for zeros := make([]byte, min(s.reserve-from, 1<<20)); from < s.reserve; {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), s.reserve-from)], from)
		if err != nil {
			return fmt.Errorf("write reserve: %w", err)
		}
		from += int64(n)
	}
	return nil
}

// look asks for the free room, and decides whether the disk is full. It is
// full until there is a quarter more room than the least, and the reserve is
// back, so that it does not change with every message.
func (s *space) look() {
	u, err := s.fs.GetDiskUsage(s.dir)
	known := err == nil
	if known {
		s.free.Store(int64(u.AvailBytes))
	}
	free := s.free.Load()
	if !s.full.Load() {
		if known && free < s.least {
			s.full.Store(true)
		}
		if s.missing() == 0 {
			return
		}
	}
	if s.blocked.Load() > 0 || time.Since(time.Unix(0, s.hit.Load())) < 5*s.pause {
		return
	}
	missing := s.missing()
	if known && free-missing < s.least+s.least/4 {
		return
	}
	if missing > 0 && s.stock() != nil { // a quota that the free room does not show
		return
	}
	if s.blocked.Load() == 0 {
		s.full.Store(false)
	}
}

// roomFS is the file system as the database sees it: an operation in the data
// directory that needs room waits until there is some.
type roomFS struct {
	vfs.FS
	s *space
}

// Unwrap implements vfs.FS.
func (r *roomFS) Unwrap() vfs.FS { return r.FS }

// in tells whether a name is the database's: one in a folder of the data
// directory is not, and neither is a backup.
func (r *roomFS) in(name string) bool {
	file, ok := strings.CutPrefix(name, r.s.prefix)
	return ok && !strings.ContainsRune(file, os.PathSeparator)
}

// do makes one call; name is what it makes.
func (r *roomFS) do(name string, k kind, f func() error) error {
	err := f()
	if err != nil && noSpace(err) && r.in(name) {
		return r.s.retry(k, err, f)
	}
	return err
}

// file makes a call that opens a file, and has its writes wait, too.
func (r *roomFS) file(name string, k kind, open func() (vfs.File, error)) (f vfs.File, err error) {
	err = r.do(name, k, func() (err error) { f, err = open(); return err })
	if err != nil || !r.in(name) {
		return f, err
	}
	return &roomFile{File: f, s: r.s, kind: k}, nil
}

func kindOf(name string, c vfs.DiskWriteCategory) kind {
	switch {
	case strings.HasSuffix(name, ".log"):
		return logFile
	case c == "pebble-compaction", c == "pebble-blob-file-rewrite":
		return tableFile
	}
	return plainFile
}

// Create implements vfs.FS.
func (r *roomFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	k := kindOf(name, c)
	return r.file(name, k, func() (vfs.File, error) {
		if k == tableFile && r.s.blocked.Load() > 0 { // what comes free is for what cannot wait
			return nil, &os.PathError{Op: "create", Path: name, Err: syscall.ENOSPC}
		}
		return r.FS.Create(name, c)
	})
}

// OpenReadWrite implements vfs.FS.
func (r *roomFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return r.file(name, kindOf(name, c), func() (vfs.File, error) { return r.FS.OpenReadWrite(name, c, opts...) })
}

// ReuseForWrite implements vfs.FS.
func (r *roomFS) ReuseForWrite(from, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return r.file(name, kindOf(name, c), func() (vfs.File, error) { return r.FS.ReuseForWrite(from, name, c) })
}

// OpenDir implements vfs.FS. A directory is opened to be synced.
func (r *roomFS) OpenDir(name string) (vfs.File, error) {
	f, err := r.FS.OpenDir(name)
	if err != nil || !r.in(r.FS.PathJoin(name, "x")) {
		return f, err
	}
	return &roomFile{File: f, s: r.s}, nil
}

// Link implements vfs.FS.
func (r *roomFS) Link(from, to string) error {
	return r.do(to, kindOf(to, ""), func() error { return r.FS.Link(from, to) })
}

// Rename implements vfs.FS.
func (r *roomFS) Rename(from, to string) error {
	return r.do(to, kindOf(to, ""), func() error { return r.FS.Rename(from, to) })
}

// Remove implements vfs.FS: some file systems need room for it.
func (r *roomFS) Remove(name string) error {
	return r.do(name, plainFile, func() error { return r.FS.Remove(name) })
}

// MkdirAll implements vfs.FS.
func (r *roomFS) MkdirAll(name string, perm os.FileMode) error {
	return r.do(name, plainFile, func() error { return r.FS.MkdirAll(name, perm) })
}

// roomFile is a file that was opened to be written.
type roomFile struct {
	vfs.File
	s    *space
	kind kind
}

// Write implements vfs.File.
func (f *roomFile) Write(p []byte) (n int, err error) {
	n, err = f.File.Write(p)
	if f.s.wrote.Add(int64(n)) > max(f.s.least/8, 1<<20) { // a second may be too long
		f.s.wrote.Store(0)
		f.s.wake()
	}
	if err != nil && noSpace(err) {
		err = f.s.retry(f.kind, err, func() error {
			k, err := f.File.Write(p[n:]) // a part of it may have found room
			n += k
			return err
		})
	}
	return n, err
}

// WriteAt implements vfs.File.
func (f *roomFile) WriteAt(p []byte, at int64) (n int, err error) {
	n, err = f.File.WriteAt(p, at)
	if err != nil && noSpace(err) {
		err = f.s.retry(f.kind, err, func() error {
			k, err := f.File.WriteAt(p[n:], at+int64(n))
			n += k
			return err
		})
	}
	return n, err
}

// Sync implements vfs.File. It is never made again: after a sync that failed
// the system may have thrown away what was to be written, and say nothing of it
// the next time.
func (f *roomFile) Sync() error { return f.synced(f.File.Sync()) }

// SyncData implements vfs.File.
func (f *roomFile) SyncData() error { return f.synced(f.File.SyncData()) }

// SyncTo implements vfs.File.
func (f *roomFile) SyncTo(n int64) (all bool, err error) {
	all, err = f.File.SyncTo(n)
	return all, f.synced(err)
}

func (f *roomFile) synced(err error) error {
	if err != nil {
		f.s.failed(err)
	}
	return err
}
