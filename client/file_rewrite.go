package client

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// rewriteFrom is how long a log must be to be written anew.
	rewriteFrom = 1 << 20
	// rewriteGroup is about how long the groups of a log are that is written anew.
	rewriteGroup = 64 << 10
)

// makeRoom writes the log anew where more than half of it is past.
func (f *File) makeRoom() error {
	if f.size <= rewriteFrom || f.size <= 2*f.state.live() || f.size < f.later {
		return nil
	}
	err := f.rewrite()
	var damage *FileDamageError
	if err == nil || f.log == nil || errors.As(err, &damage) {
		return err
	}
	f.later = f.size + f.size/2 // the disk may have room then
	return nil
}

// rewrite writes the state to a new log, and puts that in the place of the one
// there is. After an error that one is still good, unless f.log is nil.
func (f *File) rewrite() error {
	n := newLog{old: window{f: f.log}, sync: f.sync}
	if err := n.write(f.in, &f.state); err != nil {
		_ = f.in.remove(newLogName)
		return f.named(err)
	}
	if f.log != nil {
		// Windows does not rename over a file that is open.
		_ = f.log.Close()
		f.log = nil
	}
	if err := f.in.rename(newLogName, logName); err != nil {
		return err
	}
	if f.sync {
		if err := f.in.sync(); err != nil {
			return err
		}
	}
	log, err := f.in.open(logName, false)
	if err != nil {
		return err
	}
	f.log, f.key, f.size, f.state.out, f.later, f.clean = log, n.key, n.off, n.out, 0, false
	return nil
}

// newLog is a log while it is written anew.
type newLog struct {
	old  window
	file logFile
	sync bool
	key  logKey
	b    []byte // the group
	off  int64  // of b
	out  []entry
}

// write writes the whole log and closes it.
func (n *newLog) write(in folder, x *index) (err error) {
	if n.file, err = in.open(newLogName, true); err != nil {
		return err
	}
	if err = n.writeState(x); err == nil && n.sync {
		if err = n.file.Sync(); err != nil {
			err = fmt.Errorf("sync new session: %w", err)
		}
	}
	return errors.Join(err, n.file.Close())
}

func (n *newLog) writeState(x *index) error {
	var random [8]byte
	rand.Read(random[:]) //nolint:errcheck // it does not fail
	n.key = logKey{mark: binary.LittleEndian.Uint32(random[:]), seed: binary.LittleEndian.Uint32(random[4:])}
	if err := n.put(n.key.appendHeader(nil)); err != nil {
		return err
	}
	n.b = make([]byte, groupHeader, rewriteGroup)
	if x.client != "" {
		n.add(&Record{Kind: RecordSession, ClientID: x.client})
	}
	n.add(&Record{Kind: recordNext, Seq: x.next})
	for _, id := range x.in {
		n.add(&Record{Kind: RecordReceived, ID: id})
	}
	n.out = make([]entry, 0, len(x.out))
	for _, e := range x.out {
		if err := n.message(e); err != nil {
			return err
		}
		if len(n.b) >= rewriteGroup {
			if err := n.group(); err != nil {
				return err
			}
		}
	}
	return n.group()
}

func (n *newLog) add(r *Record) { n.b = appendRecord(n.b, r) }

// message adds a message, and remembers where its packet is now.
func (n *newLog) message(e entry) error {
	r := Record{Kind: RecordMessage, Seq: e.seq, At: e.at}
	if !e.released {
		p, err := e.packet(&n.old)
		if err != nil {
			return err
		}
		r.Packet = p
	}
	n.add(&r)
	e.off = n.off + int64(len(n.b)-len(r.Packet))
	n.out = append(n.out, e)
	if e.id != 0 {
		n.add(&Record{Kind: RecordSent, Seq: e.seq, ID: e.id})
	}
	if e.released {
		n.add(&Record{Kind: RecordReleased, Seq: e.seq})
	}
	return nil
}

// group writes the group that was made, and begins the next.
func (n *newLog) group() error {
	if len(n.b) == groupHeader {
		return nil
	}
	n.key.seal(n.b, n.off)
	err := n.put(n.b)
	n.b = n.b[:groupHeader]
	if cap(n.b) > keepBuffer {
		n.b = make([]byte, groupHeader, rewriteGroup)
	}
	return err
}

func (n *newLog) put(b []byte) error {
	if _, err := n.file.WriteAt(b, n.off); err != nil {
		return fmt.Errorf("write new session: %w", err)
	}
	n.off += int64(len(b))
	return nil
}
