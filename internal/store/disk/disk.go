// Package disk is the store on one node's disk: sessions, their queues,
// retained messages and QoS 2 state in a Pebble database, through one commit
// group at a time. What a completion promises is on the disk when it comes.
// DESIGN.md has the keys, what is synced when, and what is not promised. It
// does not hold the protocol. Start with Engine.Publish in publish.go and
// Engine.commit in group.go.
package disk

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/myelin-mqtt/myelin/internal/ids"
	"github.com/myelin-mqtt/myelin/internal/route"
	"github.com/myelin-mqtt/myelin/internal/session"
	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
)

// Durability is what a completion promises.
type Durability uint8

const (
	// Fsync: the disk has it.
	Fsync Durability = iota
	// Async: the operating system will have it soon, and the disk within a second.
	Async
)

// FS is a file system.
type FS = vfs.FS

// Options configure an Engine.
type Options struct {
	// Dir is the directory of the database. It is created, with mode 0700.
	Dir string
	// FS is the file system, nil: the operating system's.
	FS FS
	// Durability is Fsync or Async.
	Durability Durability
	// Limits bound the queue of each session.
	Limits session.Limits
	// MaxRetained and MaxRetainedBytes bound the retained messages, 0: no
	// limit. A retained message above them is delivered and not retained, and
	// the one that it should have replaced is gone: OnDrop is told.
	MaxRetained      int
	MaxRetainedBytes int64
	// NoRetain retains nothing.
	NoRetain bool
	// CacheBytes bounds the messages that are kept in memory although they are
	// on the disk, 0: 16 MiB.
	CacheBytes int64
	// MinFreeBytes is the free room on the disk below which it counts as full:
	// messages that would have to be stored are refused, until there is a
	// quarter more. 0: 64 MiB, but at most an eighth of the disk; negative:
	// the disk is full when it refuses a write.
	MinFreeBytes int64
	// ReserveBytes is the size of a file that is given up when the disk refuses
	// a write, so that what has begun can end. 0: 32 MiB, but at most a eighth
	// of the disk; negative: none. Neither this nor MinFreeBytes counts where
	// the file system does not tell its free room.
	ReserveBytes int64
	// MemTableBytes is what the database collects in memory before it writes a
	// table, 0: 8 MiB.
	MemTableBytes int
	// SegmentMessages is the number of messages after which a segment ends,
	// 0: 4096.
	SegmentMessages int
	// OnDrop is told of every message that a limit, its expiry or the end of
	// its session cost; clientID is "" for a retained one. m is nil where the
	// message is not in memory. It must not block, and not call the engine.
	// nil: nobody is told.
	OnDrop func(clientID string, m *packet.Publish, why store.Reason)
	// Logger gets faults, nil: nobody does.
	Logger *slog.Logger
	// For tests.
	pause time.Duration // between two attempts at a write that finds no room, 0: 200 ms
}

var (
	// ErrClosed is the answer of an engine that was closed.
	ErrClosed = errors.New("store is closed")
	// ErrFailed is the answer to everything that would have to be durable
	// after a write or a sync has failed. It ends with the process.
	ErrFailed = errors.New("store has failed, nothing is acknowledged until a restart")
)

// Engine is the store on disk.
type Engine struct {
	o        Options
	log      *slog.Logger
	db       *pebble.DB
	lock     *pebble.Lock
	cache    *pebble.Cache
	retained *route.Retained[*packet.Publish]
	over     sync.WaitGroup // the engine's goroutines
	space    *space
	stop     chan struct{}
	using    sync.WaitGroup // backups, and sessions that end: Close waits for them

	mu         sync.Mutex // guards what follows; never held across I/O
	work       sync.Cond  // the committer's: open is worth a commit
	told       sync.Cond  // the notifier's: notes
	sessions   *ids.Set[*queue]
	loaded     []*queue // those that were stored when the engine was opened, by number, for Recover
	sid, lsn   uint64
	written    uint64   // the highest number in a committed group
	open       *group   // takes what comes
	recent     []*group // sealed ones whose messages are in memory, in order
	recentN    int64    // what their messages cost
	entries    int      // of recent
	segs       []*seg
	committing *group    // sealed, and not committed yet
	sealed     time.Time // since when
	late       bool      // it waits for room on the disk
	freed      bool      // messages were deleted since the last table
	flushing   bool      // a table is made of that
	unsynced   bool      // something was written without a sync
	dirty      []*queue  // their cursors have moved
	dead       []*seg    // to be deleted with the next group
	notes      []note
	asked      sync.Cond // the readers': toRead
	toRead     []*queue
	holders    store.Holders[*queue]
	orphans    []uint64        // session numbers whose subscriptions are to be deleted
	undead     map[string]bool // clients of sessions that have ended, but will be there after a restart
	err        error           // the engine has failed, or is closed
	closing    bool
	drained    bool // the committer is at its end

	queued, queuedBytes, retainedBytes int64
	dropped, expired                   atomic.Uint64
	failed                             atomic.Bool // was logged
	opened                             atomic.Bool
	halt                               halt
	fatal                              chan error // why the database could not be opened; has room for one
	corrupted                          sync.Map   // the files that Pebble has found damaged
	marks                              marks
}

// note is a completion that the notifier is to deliver.
type note struct {
	g    *group // all of its completions
	c    store.Completer
	tok  uint64
	err  error
	late bool // only word that the completion is not near
}

// Open opens the store, and reads all but the messages.
func Open(o Options) (*Engine, error) {
	if o.FS == nil {
		o.FS = systemFS()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if o.OnDrop == nil {
		o.OnDrop = func(string, *packet.Publish, store.Reason) {}
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 16 << 20
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = 8 << 20
	}
	if o.SegmentMessages == 0 {
		o.SegmentMessages = segSize
	}
	e := &Engine{
		o: o, log: o.Logger, retained: new(route.Retained[*packet.Publish]),
		sessions: ids.New[*queue](maphash.MakeSeed()), stop: make(chan struct{}), fatal: make(chan error, 1),
		halt: halt{halted: make(chan struct{})},
	}
	e.work.L, e.told.L, e.asked.L = &e.mu, &e.mu, &e.mu
	if err := o.FS.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data directory: %w", err)
	}
	var err error
	if e.lock, err = lock(o.Dir, o.FS); err != nil {
		return nil, fmt.Errorf("open data directory %s: %w", o.Dir, err)
	}
	if err := e.inspect(); err != nil {
		return nil, errors.Join(fmt.Errorf("open data directory %s: %w", o.Dir, err), e.lock.Close())
	}
	e.cache = pebble.NewCache(16 << 20)
	e.space = newSpace(&e.o, e.syncFailed)
	if err := e.begin(); err != nil {
		return nil, err
	}
	e.written = e.lsn
	rand.Read(e.marks.process[:])
	e.open = e.newGroup()
	e.opened.Store(true)
	e.space.look()
	e.over.Go(e.commitLoop)
	e.over.Go(e.notifyLoop)
	e.over.Go(e.tick)
	e.over.Go(e.watch)
	e.over.Go(e.sweepLoop)
	for range readers {
		e.over.Go(e.readLoop)
	}
	return e, nil
}

// begin opens the database, and reads it, unless there is no room for that:
// Pebble tries for ever to write the tables that it makes of its log, so that
// this is left alone, and closes the database when there is room. It is done in
// a goroutine of its own, too, because a goroutine of the database that cannot
// go on stays where it is, or is ended by logger.Fatalf, and that may be this
// one, or one that it waits for. Then the database cannot be closed, and the
// directory stays locked until the process ends.
func (e *Engine) begin() error {
	done := make(chan error, 1)
	go func() { done <- e.openDB() }()
	var err error
	select {
	case err = <-done:
		if err != nil {
			err = errors.Join(err, e.lock.Close())
		}
	case err = <-e.fatal:
	case err = <-e.space.starved:
		go func() {
			if <-done == nil {
				e.closeDB()
				e.cache.Unref()
			}
			e.lock.Close()
		}()
	}
	switch {
	case err == nil:
		return nil
	case noSpace(err):
		return fmt.Errorf("open data directory %s: the disk is full: %w", e.o.Dir, err)
	}
	return fmt.Errorf("open data directory %s: %w", e.o.Dir, damaged(err, e.o.Dir))
}

// tick writes what lies about without anybody waiting for it.
func (e *Engine) tick() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-e.stop:
			return
		case <-t.C:
		}
		e.mu.Lock()
		e.open.flush = e.unsynced && e.o.Durability == Async
		e.open.due = e.open.due || e.open.flush || len(e.dirty) > 0 || len(e.dead) > 0
		e.mu.Unlock()
		e.work.Signal()
	}
}

// Stats implements store.Engine.
func (e *Engine) Stats() store.Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	return store.Stats{
		Sessions: e.sessions.Len(), Queued: int(e.queued), QueuedBytes: e.queuedBytes,
		Retained: e.retained.Len(), RetainedBytes: e.retainedBytes,
		Dropped: e.dropped.Load(), Expired: e.expired.Load(), State: e.health(), Free: e.space.free.Load(),
	}
}

// Close implements store.Engine.
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	if e.closing {
		e.mu.Unlock()
		return nil
	}
	e.closing = true
	e.open.due, e.open.sync = true, true
	e.mu.Unlock()
	close(e.stop)
	e.space.close()
	e.work.Signal()
	e.told.Signal()
	e.asked.Broadcast()
	done := make(chan error, 1)
	go func() {
		e.over.Wait()
		e.using.Wait()
		err := errors.Join(e.closeDB(), e.lock.Close())
		e.cache.Unref()
		done <- err
	}()
	select {
	case err := <-done:
		e.mu.Lock()
		defer e.mu.Unlock()
		if !errors.Is(e.err, ErrClosed) {
			err = errors.Join(e.err, err)
		}
		return err
	case <-e.halt.halted: // what it is doing it will do for ever
		e.mu.Lock()
		defer e.mu.Unlock()
		e.drained = true
		e.told.Signal()
		return errors.Join(e.err, errors.New("database cannot be closed"))
	case <-ctx.Done():
		return fmt.Errorf("close store: %w", ctx.Err())
	}
}

// closeDB closes the database; after a failure that may not go well.
func (e *Engine) closeDB() (err error) {
	defer func() {
		if x := recover(); x != nil {
			err = fmt.Errorf("close database: %v", x)
		}
	}()
	return e.db.Close()
}

// fail ends all acknowledgements. The caller does not hold mu.
func (e *Engine) fail(err error) {
	if !e.failed.Swap(true) {
		e.log.Error("the store has failed: nothing is acknowledged until a restart", "dir", e.o.Dir, "err", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return
	}
	e.err = fmt.Errorf("%w: %w", ErrFailed, err)
	if e.committing != nil {
		e.rise(e.committing.ended...)
		e.notes = append(e.notes, note{g: e.committing, err: e.err})
	}
	g := e.open // its messages are still delivered
	e.rise(g.ended...)
	e.recent = append(e.recent, g)
	e.open = e.newGroup()
	e.notes = append(e.notes, note{g: g, err: e.err})
	e.told.Signal()
	e.work.Signal()
}

// rise remembers sessions that have ended, and are still on the disk, which can
// not be changed any more. The caller holds mu.
func (e *Engine) rise(ids ...string) {
	if e.undead == nil {
		e.undead = map[string]bool{}
	}
	for _, id := range ids {
		e.undead[id] = true
	}
}

// logger takes Pebble's words.
type logger struct{ e *Engine }

func (l logger) Infof(f string, args ...any) { l.e.log.Debug(fmt.Sprintf(f, args...)) }

func (l logger) Errorf(f string, args ...any) {
	l.e.log.Error("database: " + fmt.Sprintf(f, args...))
}

// Fatalf must not return: the database cannot go on. The process does, without
// acknowledgements.
func (l logger) Fatalf(f string, args ...any) {
	err := fmt.Errorf(f, args...)
	if l.e.opened.Load() {
		go l.e.fail(err) // the caller may hold locks
	} else {
		select {
		case l.e.fatal <- err: // to begin
		default: // the second one
		}
	}
	runtime.Goexit()
}

// openDB opens the database, and reads all but the messages. Pebble panics where
// it cannot go on.
func (e *Engine) openDB() (err error) {
	defer func() {
		if x := recover(); x != nil {
			err = fmt.Errorf("%v", x)
		}
	}()
	e.db, err = pebble.Open(e.o.Dir, &pebble.Options{
		FS: &haltFS{e.space.wrap(), e}, Cache: e.cache, MemTableSize: uint64(e.o.MemTableBytes), MemTableStopWritesThreshold: 4,
		FormatMajorVersion: pebble.FormatNewest, Logger: logger{e}, Lock: e.lock,
		EventListener: &pebble.EventListener{DataCorruption: e.corrupt},
	})
	if err == nil {
		if err = e.load(); err == nil {
			return nil
		}
		err = errors.Join(err, e.closeDB())
	}
	e.cache.Unref()
	return err
}
