package disk

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
)

// Pebble reads its logs up to the first record that is not whole, and takes
// that for the end, unless it finds a sign of more. It finds few in the last
// log, and looks for none in the manifest; so that a flipped bit can cost what
// was acknowledged, without a word. So the files are looked at here before
// Pebble opens them: what is torn is reported, and what is damaged refused.
// For that each group begins with a mark.

// DamageError refuses a data directory with a file that is not as it was written.
type DamageError struct {
	File   string
	Offset int64 // in bytes, of the record that cannot be read; -1: What says it
	What   string
}

// Error implements error.
func (e *DamageError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("%s is damaged: %s", e.File, e.What)
	}
	return fmt.Sprintf("%s is damaged at offset %d: %s", e.File, e.Offset, e.What)
}

// Hint says what to try.
func (e *DamageError) Hint() string {
	return "copy the directory, ask `myelin store check`, look at the disk, and restore a backup"
}

// Words of a DamageError.
const (
	whatFollowed = "a record cannot be read, and what follows it says that it was on the disk"
	whatFlipped  = "a bit of a record has changed, or its length"
	whatUnended  = "a closed log has no end"
)

// cut is what was torn from the end of a file by a crash, and is not read.
type cut struct {
	file   string
	what   string
	offset int64 // from here on, in bytes
	size   int64
}

// inspection looks at the files that Pebble is going to read.
type inspection struct {
	dir  string
	fs   FS
	tell func(cut)
}

// inspect looks at the manifest and at the logs that will be read, and reports
// what is cut. It changes nothing.
func (e *Engine) inspect() error {
	return inspect(e.o.Dir, e.o.FS, func(c cut) {
		e.log.Warn(c.what, "file", c.file, "offset", c.offset, "bytes", c.size)
	})
}

func inspect(dir string, in FS, tell func(cut)) error {
	e := &inspection{dir, in, tell}
	desc, err := pebble.Peek(dir, in)
	if err != nil {
		return fmt.Errorf("look at the directory: %w", err)
	}
	if !desc.Exists {
		return nil
	}
	if err := e.options(desc.OptionsFilename); err != nil {
		return err
	}
	least := uint64(0)
	m := &logScan{in: e.fs, name: desc.ManifestFilename, manifest: true, record: func(head []byte) {
		if n := firstLog(head); n > 0 {
			least = n
		}
	}}
	if err := m.run(); err != nil {
		return err
	}
	if m.records == 0 && m.damage == "" {
		m.bad, m.damage = 0, "it has no record"
	}
	if err := m.err(); err != nil {
		return err
	}
	e.sayCut(m, "a record of the manifest was torn and is cut")
	logs, err := e.logs(least)
	if err != nil {
		return err
	}
	for i, n := range logs {
		if err := e.log(n, i == len(logs)-1); err != nil {
			return err
		}
	}
	return nil
}

// options looks at the file that says with which settings Pebble wrote
// the others: it has no checksum, and Pebble does not name it.
func (e *inspection) options(name string) error {
	if name == "" {
		return nil
	}
	f, err := e.fs.Open(name)
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	o := new(pebble.Options)
	o.EnsureDefaults()
	if err := o.CheckCompatibility(e.dir, string(text)); err != nil {
		return &DamageError{File: name, Offset: -1, What: err.Error()}
	}
	return nil
}

func (e *inspection) log(n uint64, last bool) error {
	s := &logScan{in: e.fs, name: e.fs.PathJoin(e.dir, logName(n)), num: uint32(n)}
	if err := s.run(); err != nil {
		return err
	}
	if err := s.err(); err != nil {
		return err
	}
	switch {
	case s.closed:
		return nil
	case last:
		e.sayCut(s, "a record of the log was torn and is cut")
		return nil
	case s.records == 0:
		return nil
	}
	if s.bad < 0 {
		s.bad = s.block
	}
	return &DamageError{File: s.name, Offset: s.bad, What: whatUnended}
}

// sayCut reports what is torn, if anything is.
func (e *inspection) sayCut(s *logScan, what string) {
	if from, n := s.torn(); n > 0 {
		e.tell(cut{file: s.name, what: what, offset: from, size: n})
	}
}

func logName(n uint64) string { return fmt.Sprintf("%06d.log", n) }

// logs are the numbers of the write-ahead logs from one on, in their order.
func (e *inspection) logs(least uint64) (all []uint64, err error) {
	names, err := e.fs.List(e.dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", e.dir, err)
	}
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, ".log")
		if n, err := strconv.ParseUint(digits, 10, 64); ok && err == nil && n >= least {
			all = append(all, n)
		}
	}
	slices.SortFunc(all, cmp.Compare[uint64])
	return all, nil
}

// firstLog is the number of the first log that is still needed, as the record
// of a manifest says that begins with head; 0: it does not.
func firstLog(head []byte) uint64 {
	const comparer, log = 1, 2 // the fields that come first
	r := reader{b: head}
	field := r.uint()
	if field == comparer {
		r.bytes(r.count())
		field = r.uint()
	}
	if field != log {
		return 0
	}
	if n := r.uint(); !r.bad {
		return n
	}
	return 0
}

// damaged is err as a DamageError where Pebble says that a file is damaged.
func damaged(err error, dir string) error {
	if i := pebble.ExtractDataCorruptionInfo(err); i != nil {
		return &DamageError{File: i.Path, Offset: -1, What: i.Details.Error()}
	}
	if pebble.IsCorruptionError(err) {
		return &DamageError{File: "a file of " + dir, Offset: -1, What: err.Error()}
	}
	return err
}

// corrupt takes Pebble's word that a file is damaged. What was being read fails
// by itself, and is reported there; the rest goes on. A file is named once:
// Pebble comes back to it.
func (e *Engine) corrupt(i pebble.DataCorruptionInfo) {
	if _, known := e.corrupted.LoadOrStore(i.Path, true); !known {
		e.log.Error("a file of the store is damaged", "file", i.Path, "keys", i.Bounds.String(), "err", i.Details.Error())
	}
}
