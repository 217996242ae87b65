package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/myelin-mqtt/myelin/topic"
)

// Fault is one thing that is wrong with a store. Either File or Key says where,
// or neither does.
type Fault struct {
	File string `json:"file,omitempty"` // in the data directory
	Key  string `json:"key,omitempty"`  // of the record, in hexadecimal
	Of   string `json:"of,omitempty"`   // what the record is of
	What string `json:"what"`
}

// Summary counts what a check has read. Bytes of messages are those of topics
// and payloads.
type Summary struct {
	Format        int   `json:"format"`
	Files         int   `json:"files"` // tables, of which each block was read
	FileBytes     int64 `json:"file_bytes"`
	Sessions      int   `json:"sessions"`
	Subscriptions int   `json:"subscriptions"`
	Inbound       int   `json:"inbound"`  // QoS 2 identifiers of publishers
	Outbound      int   `json:"outbound"` // QoS 2 messages in flight to clients
	Messages      int   `json:"messages"` // stored once each
	MessageBytes  int64 `json:"message_bytes"`
	Queued        int   `json:"queued"` // a message counts for each session that it waits for
	QueuedBytes   int64 `json:"queued_bytes"`
	Retained      int   `json:"retained"`
	RetainedBytes int64 `json:"retained_bytes"`
	// Torn are bytes at the end of logs that a crash has cut a record in: nothing
	// of it was acknowledged, and the next start leaves it out.
	Torn int64 `json:"torn"`
	// Leftovers are records of sessions that have ended, or of deliveries that
	// are finished: they mean nothing, and are deleted in time.
	Leftovers int `json:"leftovers"`
	Faults    int `json:"faults"`
}

// Check reads everything in a data directory: the checksum of each block, the
// order of the tables, each record, and whether what they name is there. It
// calls fault for each thing that is wrong. The error is one that keeps it from
// looking: the directory is in use, not readable, not a store, or of another
// format.
func Check(ctx context.Context, dir string, in FS, fault func(Fault)) (Summary, error) {
	c := checker{tell: fault}
	v, err := openView(dir, in)
	if err != nil {
		return c.sum, c.closed(ctx, dir, in, err)
	}
	c.View = v
	for _, x := range v.torn {
		c.sum.Torn += x.size
	}
	if v.damage != nil {
		c.damaged(v.damage)
	}
	c.tables(ctx)
	err = v.version()
	var other *FormatError
	switch {
	case errors.As(err, &other):
		return c.sum, errors.Join(fmt.Errorf("open data directory %s: %w", dir, err), v.Close())
	case err == nil:
		c.sum.Format = format
	case c.sum.Faults == 0:
		c.fault(Fault{What: text(err)})
	}
	c.records(ctx)
	if err := v.Close(); err != nil {
		c.fault(Fault{What: "close: " + text(err)})
	}
	return c.sum, ctx.Err()
}

// closed looks at a store that cannot be opened: at each table that lies there.
func (c *checker) closed(ctx context.Context, dir string, in FS, err error) error {
	var used *InUseError
	if errors.As(err, &used) || errors.Is(err, ErrNoStore) || errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("open data directory %s: %w", dir, err)
	}
	if in == nil {
		in = vfs.Default
	}
	c.View = &View{dir: dir, fs: in}
	c.damaged(err)
	names, err := in.List(dir)
	if err != nil {
		c.fault(Fault{What: text(err)})
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			c.file(ctx, name)
		}
	}
	return ctx.Err()
}

// damaged is a fault of a file, as far as it is told which.
func (c *checker) damaged(err error) {
	var d *DamageError
	switch err = damaged(err, c.dir); {
	case !errors.As(err, &d):
		c.fault(Fault{What: "open: " + text(err)})
	case d.Offset < 0:
		c.fault(Fault{File: c.fs.PathBase(d.File), What: d.What})
	default:
		c.fault(Fault{File: c.fs.PathBase(d.File), What: fmt.Sprintf("at offset %d: %s", d.Offset, d.What)})
	}
}

// text is what an error says, without what its type adds below.
func text(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	return s
}

// checker is one check.
type checker struct {
	*View
	tell func(Fault)
	sum  Summary
	sid  uint64 // the highest number given
}

func (c *checker) fault(f Fault) {
	c.sum.Faults++
	c.tell(f)
}

func (c *checker) bad(key []byte, err error) {
	c.fault(Fault{Key: fmt.Sprintf("%x", key), Of: c.describe(key), What: text(err)})
}

// tables reads each block of each table, and the order of all.
func (c *checker) tables(ctx context.Context) {
	levels, err := c.db.SSTables()
	if err != nil {
		c.fault(Fault{What: "list the tables: " + text(err)})
		return
	}
	seen := map[string]bool{}
	before := c.sum.Faults
	for _, l := range levels {
		for _, t := range l {
			name := t.BackingSSTNum.String() + ".sst"
			if seen[name] || ctx.Err() != nil {
				continue
			}
			seen[name] = true
			c.file(ctx, name)
		}
	}
	if c.sum.Faults > before || ctx.Err() != nil {
		return // it would find the same again
	}
	if err := c.db.CheckLevels(nil); err != nil {
		c.fault(Fault{What: "order of the tables: " + text(err)})
	}
}

func (c *checker) file(ctx context.Context, name string) {
	c.sum.Files++
	n, err := c.table(ctx, name)
	c.sum.FileBytes += n
	if err != nil {
		// The reader does not know which file it reads.
		c.fault(Fault{File: name, What: strings.TrimPrefix(text(err), "pebble: file 000000: ")})
	}
}

// table reads each block of one table.
func (c *checker) table(ctx context.Context, name string) (size int64, err error) {
	f, err := c.open(name)
	if err != nil {
		return 0, err
	}
	if fi, err := f.Stat(); err == nil {
		size = fi.Size()
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return size, errors.Join(err, f.Close())
	}
	r, err := sstable.NewReader(ctx, readable, sstable.ReaderOptions{Comparer: pebble.DefaultComparer})
	if err != nil {
		return size, err // it has closed the file
	}
	return size, errors.Join(r.ValidateBlockChecksums(), r.Close())
}

// records reads all records, and looks for what they name.
func (c *checker) records(ctx context.Context) {
	if v, closer, err := c.db.Get([]byte(keySid)); err == nil {
		if len(v) == 8 {
			c.sid = binary.BigEndian.Uint64(v)
		} else {
			c.bad([]byte(keySid), errShort)
		}
		closer.Close() //nolint:errcheck // it was only read
	} else if !errors.Is(err, pebble.ErrNotFound) {
		c.bad([]byte(keySid), err)
	}
	if err := c.load(c.bad); err != nil {
		c.fault(Fault{What: text(err)})
	}
	for _, part := range []struct {
		prefix byte
		check  func(key, val []byte) error
	}{
		{'s', c.session}, {'u', c.sub}, {'a', c.cursor}, {'d', c.inbound}, {'o', c.outbound}, {'r', c.retained},
	} {
		err := c.each(part.prefix, func(key, val []byte) error {
			if err := part.check(key, val); err != nil {
				c.bad(key, err)
			}
			return ctx.Err()
		})
		if err != nil && ctx.Err() == nil {
			c.fault(Fault{What: text(err)})
		}
	}
	whole := c.messages(ctx)
	c.strangers()
	for sid, s := range c.sessions {
		if !whole {
			break
		}
		for lsn, x := range s.out { // what messages has found is gone from it
			if s.done(lsn) {
				c.sum.Leftovers++
				continue
			}
			c.bad(idKey('o', sid, x.id), fmt.Errorf("message %d, which it sends, is not in the queue", lsn))
		}
	}
}

// of counts a record of a session that has ended, and refuses one of a session
// that there never was.
func (c *checker) of(key []byte) (here bool, err error) {
	sid := sidOf(key)
	switch {
	case c.sessions[sid] != nil:
		return true, nil
	case sid == 0 || sid > c.sid:
		return false, errors.New("there is no such session")
	}
	c.sum.Leftovers++
	return false, nil
}

func (c *checker) session(key, _ []byte) error {
	s := c.sessions[sidOf(key)]
	if s == nil {
		return nil // load has told
	}
	c.sum.Sessions++
	if sidOf(key) > c.sid {
		return fmt.Errorf("its number is above the highest given, %d", c.sid)
	}
	return nil
}

func (c *checker) sub(key, val []byte) error {
	s, err := parseSub(key, val)
	if err != nil {
		return err
	}
	if _, err := topic.ParseFilter(s.Filter); err != nil {
		return err
	}
	here, err := c.of(key)
	if here {
		c.sum.Subscriptions++
	}
	return err
}

func (c *checker) cursor(key, _ []byte) error {
	_, err := c.of(key)
	return err
}

func (c *checker) inbound(key, _ []byte) error {
	if len(key) != 11 || key[9] == 0 && key[10] == 0 {
		return errShort
	}
	here, err := c.of(key)
	if here {
		c.sum.Inbound++
	}
	return err
}

func (c *checker) outbound(key, _ []byte) error {
	here, err := c.of(key)
	if here {
		c.sum.Outbound++
	}
	return err
}

func (c *checker) retained(key, val []byte) error {
	m, err := parseMessage(val)
	if err != nil {
		return err
	}
	if string(m.Topic()) != string(key[1:]) {
		return fmt.Errorf("it holds a message to %q", m.Topic())
	}
	c.sum.Retained++
	c.sum.RetainedBytes += size(m)
	return nil
}

// strangers looks for records that no part of a store has.
func (c *checker) strangers() {
	it, err := c.db.NewIter(nil)
	if err != nil {
		return
	}
	for ok := it.First(); ok; {
		if key := it.Key(); len(key) > 0 && strings.IndexByte("admorsux", key[0]) < 0 || len(key) > 0 && key[0] == 'x' && string(key) != keyFormat && string(key) != keySid {
			c.bad(key, errors.New("no store has such a record"))
			ok = it.Next()
		} else if len(key) > 0 && key[0] != 'x' { // the next prefix
			ok = it.SeekGE([]byte{key[0] + 1})
		} else {
			ok = it.Next()
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil && c.sum.Faults == 0 {
		c.fault(Fault{What: text(err)})
	}
}

// expected is what a record of targets says of one message.
type expected struct {
	lsn  uint64
	size uint32
}

// messages reads the records of targets with the messages behind them; false:
// not all of them.
func (c *checker) messages(ctx context.Context) bool {
	var want []expected // of the group, not met yet
	var end uint64      // the first number after the group
	missing := func(upTo uint64) {
		for len(want) > 0 && want[0].lsn < upTo {
			c.bad(messageKey(want[0].lsn, kindMessage), errors.New("it is missing, though its group names it"))
			want = want[1:]
		}
	}
	err := c.each('m', func(key, val []byte) error {
		switch {
		case len(key) != 10 || key[9] > kindMessage:
			c.bad(key, errShort)
		case key[9] == kindTargets:
			missing(1 << 63)
			if first := sidOf(key); first < end {
				c.bad(key, fmt.Errorf("the group before it goes on up to %d", end-1))
			}
			want, end = c.targets(key, val)
		default:
			lsn := sidOf(key)
			missing(lsn)
			c.message(key, val, want)
			if len(want) > 0 && want[0].lsn == lsn {
				want = want[1:]
			}
		}
		return ctx.Err()
	})
	if err != nil {
		if ctx.Err() == nil {
			c.fault(Fault{What: text(err)})
		}
		return false // and what was to come is not missing
	}
	missing(1 << 63)
	return true
}

// targets checks one record, and says which messages are to come behind it.
func (c *checker) targets(key, val []byte) (want []expected, end uint64) {
	first := sidOf(key)
	n, err := eachTarget(val, func(place uint64, size uint32, sid uint64, h how) {
		lsn := first + place
		if k := len(want); k == 0 || want[k-1].lsn != lsn {
			want = append(want, expected{lsn, size})
		}
		s := c.sessions[sid]
		switch {
		case sid == 0 || sid > c.sid:
			c.bad(key, fmt.Errorf("message %d is for session %d, which there never was", lsn, sid))
		case h.qos > 2:
			c.bad(key, fmt.Errorf("message %d is for session %d with QoS 3", lsn, sid))
		case s == nil || s.done(lsn):
		default:
			c.sum.Queued++
			c.sum.QueuedBytes += int64(size)
			delete(s.out, lsn)
		}
	})
	if err != nil || n == 0 {
		c.bad(key, errShort)
		return nil, first
	}
	if k := len(want); !slices.IsSortedFunc(want, func(a, b expected) int {
		if a.lsn < b.lsn {
			return -1
		}
		return 1
	}) || k > 0 && want[k-1].lsn >= first+n {
		c.bad(key, errors.New("it names messages out of order, or of another group"))
		return nil, first
	}
	return want, first + n
}

// message checks one message against what the targets' record says of it.
func (c *checker) message(key, val []byte, want []expected) {
	m, err := parseMessage(val)
	if err != nil {
		c.bad(key, err)
		return
	}
	c.sum.Messages++
	c.sum.MessageBytes += size(m)
	switch lsn := sidOf(key); {
	case len(want) == 0 || want[0].lsn != lsn:
		c.bad(key, errNoTargets)
	case int64(want[0].size) != size(m):
		c.bad(key, fmt.Errorf("it has %d bytes of topic and payload, and the record of targets says %d", size(m), want[0].size))
	}
}
