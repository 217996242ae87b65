package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// View is a store that no process uses, opened to be looked at. Nothing in its
// directory changes, but for the lock's file, which is made if it is missing.
type View struct {
	dir      string
	fs       FS
	db       *pebble.DB
	lock     *pebble.Lock
	cache    *pebble.Cache
	damage   error              // of the manifest or the logs: not all is read
	torn     []cut              // by a crash
	sessions map[uint64]*viewed // by number; nil: not read yet
}

// viewed is a session, as far as its queue needs to know it.
type viewed struct {
	id     string
	cursor uint64 // everything up to it is finished
	beyond []span // and these
	out    map[uint64]sent
	n      int
	bytes  int64
}

// sent is a QoS 2 message in flight to the client.
type sent struct {
	id       uint16
	recorded bool // its PUBREC was seen
}

// ErrNoStore says that there is no store in a directory.
var ErrNoStore = errors.New("it holds no store")

// OpenView opens the store of a directory. fs is nil for the operating
// system's file system. The error is an *InUseError where a process uses it, a
// *FormatError where this program cannot read it, or ErrNoStore. A View is used
// by one goroutine at a time.
func OpenView(dir string, in FS) (*View, error) {
	v, err := openView(dir, in)
	if err != nil {
		return nil, fmt.Errorf("open data directory %s: %w", dir, err)
	}
	if err := v.version(); err != nil {
		return nil, errors.Join(fmt.Errorf("open data directory %s: %w", dir, err), v.Close())
	}
	return v, nil
}

// version refuses a store that this program does not know.
func (v *View) version() error {
	version, closer, err := v.db.Get([]byte(keyFormat))
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		if empty, err := v.empty(); err != nil || empty {
			return err
		}
		return &FormatError{Version: -1}
	case err != nil:
		return fmt.Errorf("read format version: %w", err)
	}
	return errors.Join(checkVersion(version), closer.Close())
}

func openView(dir string, in FS) (v *View, err error) {
	if in == nil {
		in = vfs.Default
	}
	switch fi, err := in.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: there is no such directory", ErrNoStore)
	case err != nil:
		return nil, err
	case !fi.IsDir():
		return nil, fmt.Errorf("%w: it is a file", ErrNoStore)
	}
	v = &View{dir: dir, fs: in}
	if v.lock, err = lock(dir, in); err != nil {
		return nil, err
	}
	// Pebble passes over what is said here, and reads the rest.
	v.damage = inspect(dir, in, func(c cut) { v.torn = append(v.torn, c) })
	v.cache = pebble.NewCache(16 << 20)
	defer func() {
		if x := recover(); x != nil { // what Pebble does where it cannot go on
			err = fmt.Errorf("%v", x)
		}
		if err != nil {
			if v.cache.Unref(); v.damage != nil {
				err = v.damage // which says where
			}
			err = errors.Join(err, v.lock.Close())
		}
	}()
	v.db, err = pebble.Open(dir, &pebble.Options{
		FS: in, Cache: v.cache, Lock: v.lock, ReadOnly: true, ErrorIfNotExists: true, Logger: silent{},
		EventListener: &pebble.EventListener{DataCorruption: func(pebble.DataCorruptionInfo) {}}, // who reads is told, too
	})
	if errors.Is(err, pebble.ErrDBDoesNotExist) {
		err = ErrNoStore
	}
	return v, err
}

// Damage is a *DamageError where the manifest or a log is not as it was written,
// so that something that was stored may not be seen; nil: neither is.
func (v *View) Damage() error { return v.damage }

// silent drops Pebble's words: errors are returned.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(f string, args ...any) {
	panic(fmt.Errorf(f, args...))
}

// Close ends the view, and lets other processes have the directory.
func (v *View) Close() error {
	defer v.cache.Unref()
	return errors.Join(v.db.Close(), v.lock.Close())
}

func (v *View) empty() (bool, error) {
	it, err := v.db.NewIter(nil)
	if err != nil {
		return false, err
	}
	empty := !it.First()
	return empty, errors.Join(it.Error(), it.Close())
}

// each calls f for all records of a prefix. Where f fails it ends.
func (v *View) each(prefix byte, f func(key, val []byte) error) error {
	return v.between([]byte{prefix}, []byte{prefix + 1}, f)
}

func (v *View) between(from, to []byte, f func(key, val []byte) error) error {
	it, err := v.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return fmt.Errorf("read records %c: %w", from[0], err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		val, err := it.ValueAndErr()
		if err != nil {
			break // the iterator's error, below
		}
		if err := f(it.Key(), val); err != nil {
			it.Close() //nolint:errcheck // the first error counts
			return err
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return fmt.Errorf("read records %c: %w", from[0], err)
	}
	return nil
}

// load reads who there is, and how far each has come. bad is told of records
// that cannot be read; nil: the first ends it.
func (v *View) load(bad func(key []byte, err error)) error {
	v.sessions = map[uint64]*viewed{}
	fault := func(key []byte, err error) error {
		if bad == nil {
			return fmt.Errorf("%s: %w", v.describe(key), err)
		}
		bad(key, err)
		return nil
	}
	err := v.each('s', func(key, val []byte) error {
		var q queue
		if len(key) != 9 {
			return fault(key, errShort)
		}
		if err := q.parseRecord(val); err != nil {
			return fault(key, err)
		}
		v.sessions[sidOf(key)] = &viewed{id: q.ClientID()}
		return nil
	})
	if err != nil {
		return err
	}
	err = v.each('a', func(key, val []byte) error {
		last, beyond, err := parseCursor(val)
		if err != nil || len(key) != 9 {
			return fault(key, errShort)
		}
		if s := v.sessions[sidOf(key)]; s != nil {
			s.cursor, s.beyond = last, beyond
		}
		return nil
	})
	if err != nil {
		return err
	}
	return v.each('o', func(key, val []byte) error {
		lsn, x, err := parseSent(key, val)
		if err != nil {
			return fault(key, err)
		}
		if s := v.sessions[sidOf(key)]; s != nil {
			if s.out == nil {
				s.out = map[uint64]sent{}
			}
			s.out[lsn] = x
		}
		return nil
	})
}

// done reports whether the session has finished a message.
func (s *viewed) done(lsn uint64) bool {
	if lsn <= s.cursor {
		return true
	}
	for _, b := range s.beyond {
		if b.first <= lsn && lsn <= b.last {
			return true
		}
	}
	return false
}

// parseSent reads the record of a QoS 2 message in flight to a client.
func parseSent(key, val []byte) (lsn uint64, x sent, err error) {
	if len(key) != 11 {
		return 0, sent{}, errShort
	}
	r := reader{b: val}
	x = sent{id: uint16(key[9])<<8 | uint16(key[10]), recorded: r.byte() == 1}
	if lsn = r.uint(); r.bad || x.id == 0 {
		return 0, sent{}, errShort
	}
	return lsn, x, nil
}

// count goes from one group's targets to the next, past the messages, and
// counts what waits for each session.
func (v *View) count(ctx context.Context) error {
	it, err := v.db.NewIter(&pebble.IterOptions{LowerBound: []byte{'m'}, UpperBound: []byte{'n'}})
	if err != nil {
		return fmt.Errorf("read messages: %w", err)
	}
	defer it.Close() //nolint:errcheck // its error is looked at below
	for ok := it.First(); ok && ctx.Err() == nil; {
		key := it.Key()
		if len(key) != 10 || key[9] != kindTargets {
			return fmt.Errorf("%s: %w", v.describe(key), errNoTargets)
		}
		val, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("%s: %w", v.describe(key), err)
		}
		first := sidOf(key)
		n, err := eachTarget(val, func(place uint64, size uint32, sid uint64, _ how) {
			if s := v.sessions[sid]; s != nil && !s.done(first+place) {
				s.n++
				s.bytes += int64(size)
			}
		})
		if err != nil || n == 0 {
			return fmt.Errorf("%s: %w", v.describe(key), errShort)
		}
		ok = it.SeekGE(messageKey(first+n, kindTargets))
	}
	if err := errors.Join(it.Error(), ctx.Err()); err != nil {
		return fmt.Errorf("read messages: %w", err)
	}
	return nil
}

// errNoTargets is a message that stands in no record of targets.
var errNoTargets = errors.New("the message is in no record of targets")

// Holder is a session and what it holds back: messages that were not
// acknowledged to the end, and their bytes of topic and payload.
type Holder struct {
	ClientID string `json:"client_id"`
	Messages int    `json:"messages"`
	Bytes    int64  `json:"bytes"`
}

// Holders yields every session.
func (v *View) Holders(ctx context.Context, yield func(Holder)) error {
	if err := v.load(nil); err != nil {
		return err
	}
	if err := v.count(ctx); err != nil {
		return err
	}
	for _, s := range v.sessions {
		yield(Holder{ClientID: s.id, Messages: s.n, Bytes: s.bytes})
	}
	return nil
}

// describe says what a key is of, for people.
func (v *View) describe(key []byte) string {
	if len(key) == 0 {
		return "a record without a key"
	}
	of := func() string {
		sid := sidOf(key)
		if s := v.sessions[sid]; s != nil {
			return fmt.Sprintf("session %d (client %q)", sid, s.id)
		}
		return fmt.Sprintf("session %d", sid)
	}
	switch k := key[0]; {
	case string(key) == keyFormat:
		return "format version"
	case string(key) == keySid:
		return "highest session number"
	case k == 'r':
		return fmt.Sprintf("retained message of %q", key[1:])
	case k == 's' && len(key) == 9:
		return of()
	case k == 'a' && len(key) == 9:
		return "cursor of " + of()
	case k == 'u' && len(key) > 9:
		return fmt.Sprintf("subscription to %q of %s", key[9:], of())
	case k == 'd' && len(key) == 11:
		return fmt.Sprintf("inbound QoS 2 identifier %d of %s", uint16(key[9])<<8|uint16(key[10]), of())
	case k == 'o' && len(key) == 11:
		return fmt.Sprintf("outbound QoS 2 identifier %d of %s", uint16(key[9])<<8|uint16(key[10]), of())
	case k == 'm' && len(key) == 10 && key[9] == kindTargets:
		return fmt.Sprintf("targets of messages from %d on", sidOf(key))
	case k == 'm' && len(key) == 10:
		return fmt.Sprintf("message %d", sidOf(key))
	}
	return fmt.Sprintf("unknown record %x", key)
}

// readFile opens a file of the directory.
func (v *View) open(name string) (vfs.File, error) {
	f, err := v.fs.Open(v.fs.PathJoin(v.dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, errors.New("the file is missing")
	}
	return f, err
}

// of calls f for the records of one prefix and one session.
func (v *View) of(prefix byte, sid uint64, f func(key, val []byte) error) error {
	return v.between(sidKey(prefix, sid), sidKey(prefix, sid+1), f)
}
