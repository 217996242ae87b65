package client

import (
	"errors"
	"fmt"
	"slices"
	"sync"
)

// FileOptions say how a File keeps a session.
type FileOptions struct {
	// NoSync has Commit return when the operating system has the records: they
	// survive the death of the program, and not a power cut before Close, after
	// which OpenFile may refuse the folder. Default: they are on the disk.
	NoSync bool
}

// File is a Store in a folder. It is one log, to which each Commit appends, and
// which is written anew when more than half of it is past. In memory it has a
// few bytes for each message, and not their packets.
type File struct {
	mu    sync.Mutex
	in    folder
	sync  bool
	log   logFile
	key   logKey
	size  int64 // of the log: where the next group goes
	clean bool  // the log says at its end that it was closed
	state index
	later int64  // below this size the log is not written anew
	buf   []byte // of the group that is being made
	cut   int64
	err   error // what ended the File
}

var _ Store = (*File)(nil)

// OpenFile opens a folder that keeps a client's session, for this File alone,
// and makes it where it is not there. A program that died while it wrote may
// have left part of a Commit at the end; that is cut off, see Cut.
//
// An error is ErrFileInUse when another File has the folder, a *FileFormatError
// when a newer program wrote it, and a *FileDamageError when what is in it is not
// what was written: nothing is left out in silence.
func OpenFile(dir string, o FileOptions) (*File, error) {
	d, err := openFolder(dir, !o.NoSync)
	if err != nil {
		return nil, fmt.Errorf("open session: %w", err)
	}
	f, err := openLog(d, o)
	if err != nil {
		_ = d.close()
		return nil, fmt.Errorf("open session: %w", err)
	}
	return f, nil
}

// openLog opens the log of a folder.
func openLog(d folder, o FileOptions) (*File, error) {
	f := &File{in: d, sync: !o.NoSync}
	err := f.recover()
	if err == nil && !f.clean {
		// What the file system has may not be on the disk, and a sync that failed
		// once may now succeed without it: only a new file is sure.
		err = f.rewrite()
	}
	if err != nil {
		if f.log != nil {
			_ = f.log.Close()
		}
		return nil, err
	}
	return f, nil
}

// Cut is how many bytes OpenFile found at the end that were no whole Commit, and
// cut off.
func (f *File) Cut() int64 { return f.cut }

// Load implements Store.
func (f *File) Load() (State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return State{}, f.err
	}
	s := State{
		ClientID: f.state.client,
		Next:     f.state.next,
		In:       slices.Clone(f.state.in),
		Out:      make([]Kept, 0, len(f.state.out)),
	}
	w := window{f: f.log}
	for _, e := range f.state.out {
		k := Kept{Seq: e.seq, ID: e.id, Released: e.released, At: e.at}
		if !e.released {
			p, err := e.packet(&w)
			if err != nil {
				return State{}, fmt.Errorf("load session: %w", f.named(err))
			}
			k.Packet = slices.Clone(p)
		}
		s.Out = append(s.Out, k)
	}
	return s, nil
}

// Commit implements Store. The records are kept all or none, as long as they are
// less than 16 MiB. After an error of the file system all that follow return the
// same one, until the folder is opened again; records that are refused because
// no session could have them change nothing.
func (f *File) Commit(records []Record) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	for i := range records {
		if err := records[i].check(); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
	}
	if err := f.makeRoom(); err != nil {
		return f.fail(err)
	}
	for len(records) > 0 {
		n := f.encode(records)
		if err := f.append(); err != nil {
			return f.fail(err)
		}
		records = records[n:]
	}
	return nil
}

// encode makes a group of the first records, at least one, and tells how many.
// The state has them already then; it is of no use when the group is not written.
func (f *File) encode(records []Record) (n int) {
	b := append(f.buf[:0], make([]byte, groupHeader)...)
	for n < len(records) && (n == 0 || len(b) < maxGroup) {
		r := &records[n]
		b = appendRecord(b, r)
		f.state.apply(r, f.size+int64(len(b)-len(r.Packet)))
		n++
	}
	f.buf = b
	return n
}

// append writes the group in buf to the end of the log.
func (f *File) append() error {
	f.key.seal(f.buf, f.size)
	f.clean = false
	if _, err := f.log.WriteAt(f.buf, f.size); err != nil {
		return fmt.Errorf("write session: %w", err)
	}
	f.size += int64(len(f.buf))
	if cap(f.buf) > keepBuffer {
		f.buf = nil
	}
	if !f.sync {
		return nil
	}
	if err := f.log.Sync(); err != nil {
		return fmt.Errorf("sync session: %w", err)
	}
	return nil
}

// named puts the log's name into an error that tells what is wrong with it.
func (f *File) named(err error) error {
	var d *FileDamageError
	var v *FileFormatError
	if errors.As(err, &d) {
		d.File = f.in.path(logName)
	} else if errors.As(err, &v) {
		v.File = f.in.path(logName)
	}
	return err
}

// fail ends the File: nobody knows what is on the disk now.
func (f *File) fail(err error) error {
	f.err = err
	return err
}

// Close implements Store. What was committed is on the disk then, with NoSync
// too, unless there is an error.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.in == nil {
		return nil
	}
	var err error
	if f.err == nil {
		if !f.clean {
			err = f.finish()
		}
		f.err = errFileClosed
	}
	if f.log != nil {
		err = errors.Join(err, f.log.Close())
	}
	err = errors.Join(err, f.in.close())
	f.in, f.log, f.buf, f.state = nil, nil, nil, index{}
	return err
}

// finish has the log say that it was closed, when all of it is on the disk.
func (f *File) finish() error {
	if !f.sync {
		if err := errors.Join(f.log.Sync(), f.in.sync()); err != nil {
			return fmt.Errorf("sync session: %w", err)
		}
		f.sync = true
	}
	f.encode(nil) // a group without records says it
	return f.append()
}
