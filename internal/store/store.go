// Package store is the contract of what must survive: messages for durable
// sessions, those sessions themselves, retained messages and QoS 2 state. One
// node's memory (package mem), one node's disk and a cluster's log stand
// behind it alike; the broker sees only these types.
//
// Its rules: nothing blocks; a call that cannot answer at once answers through
// its Completer, exactly once, from any goroutine and in any order; a durable
// session gets its messages of QoS 1 and 2 only through Session.Next, online
// or not, so that the order of its window is the order of the log; and a
// Target is opaque to the broker. Start with Engine.
package store

import (
	"context"
	"errors"
	"strconv"

	"github.com/myelin-mqtt/myelin/internal/qos"
	"github.com/myelin-mqtt/myelin/internal/route"
	"github.com/myelin-mqtt/myelin/packet"
)

// ErrQuota refuses a message because a session that must have it has a full
// queue, or the whole store is at its limit: reason code 0x97 to the publisher.
var ErrQuota = errors.New("quota exceeded")

// QuotaError is an ErrQuota that says whose queue is full; Total: his is not,
// but all together are.
type QuotaError struct {
	ClientID string
	Total    bool
}

// Error implements error.
func (e *QuotaError) Error() string {
	if e.Total {
		return "all queues together are full, and " + strconv.Quote(e.ClientID) + " is away"
	}
	return "queue of " + strconv.Quote(e.ClientID) + " is full"
}

// Is makes it an ErrQuota.
func (*QuotaError) Is(target error) bool { return target == ErrQuota }

// ErrFull refuses what would need room on a disk that has none. It is an
// ErrQuota.
var ErrFull error = fullError{}

type fullError struct{}

func (fullError) Error() string { return "disk is full" }

// Is makes it an ErrQuota.
func (fullError) Is(target error) bool { return target == ErrQuota }

// Engine is a store. Every method may be called from any goroutine.
type Engine interface {
	// Publish makes m durable for every session of to, and retains it where m
	// says so. m is immutable and shared from here on; to is copied before the
	// return. done reports that nothing is left to wait for, and c is not
	// called; otherwise c.Done(tok, err) is. An error with done means that m
	// was taken for nobody. While the disk is full the error is ErrFull, but for
	// what is fired or published again; a QoS 0 message to nobody is not retained
	// then, without an error.
	Publish(m *packet.Publish, to []Target, from Inbound, c Completer, tok uint64) (done bool, err error)
	// Claim creates, resumes or discards the stored session of a client
	// identifier; the answer goes to s, possibly before the return. A session
	// that is claimed again while it lives has the same Session.
	Claim(r ClaimReq, s Sink)
	// Retained finds retained messages; "" finds all, those of $ topics
	// included. It reads local memory.
	Retained(filter string) *route.Cursor[*packet.Publish]
	// Current is the retained message of a topic as it is now; nil: none.
	Current(name string) *packet.Publish
	// Forget removes a retained message that has expired, unless another has
	// replaced it.
	Forget(m *packet.Publish)
	// Recover yields every session that was stored when the engine was opened.
	// It is called once, before the first Claim; yield must not call the engine.
	Recover(yield func(*Stored) bool) error
	// Stats counts what is held.
	Stats() Stats
	// Close ends the engine; what was accepted is durable when it returns.
	Close(ctx context.Context) error
}

// Backuper is an Engine that can copy what it has on the disk.
type Backuper interface {
	// Backup makes a copy in a directory that does not exist, or is empty:
	// everything that was acknowledged before the call is in it. It blocks.
	Backup(ctx context.Context, dir string) error
}

// Target names a session that must have a message, and how.
type Target struct {
	To    Session
	More  *[]uint32 // subscription identifiers where there are several
	Sub   uint32    // the one subscription identifier, 0: none
	QoS   packet.QoS
	Flags uint8 // Retain and Shared
}

// The flags of a Target and of its Delivery, with the values that package qos
// gives them.
const (
	// Retain: RETAIN is to be set.
	Retain = qos.Retain
	// Shared: the message came through a shared subscription.
	Shared = qos.Shared
)

// Inbound is the QoS 2 identifier of the publisher that must become durable in
// the same record. The zero value: none.
type Inbound struct {
	From Session
	ID   uint16
	// Again: the message was published before, and now goes to somebody else.
	// It is not retained again.
	Again bool
	// Fired: the message is this session's will, which is removed in the same
	// record, so that it is published once.
	Fired Session
}

// Completer is told of the end of a call. Done must not block and only leaves
// word with whoever waits.
type Completer interface {
	Done(tok uint64, err error)
}

// Patient is a Completer that wants to know that Done is not near: the disk is
// full, and the call goes on when there is room. Late is called between the call
// and its Done, as Done is, and again while this lasts. The call is neither
// refused nor accepted by it.
type Patient interface {
	Completer
	Late(tok uint64)
}

// ClaimReq asks for the session of a client identifier.
type ClaimReq struct {
	ClientID string
	Clean    bool   // discard what is stored
	Expiry   uint32 // seconds after the connection's end; 0: no new session is stored, and the answer carries no Session where there was none
	Will     *Will
}

// Will is a will message with its delay in seconds.
type Will struct {
	Msg   *packet.Publish
	Delay uint32
}

// Sink is the broker's end of a claimed session. Its methods are called
// without the engine's locks and must not block.
type Sink interface {
	// Claimed answers Claim. s is nil where nothing is stored; st is nil for a
	// new session.
	Claimed(s Session, st *State, err error)
	// Ready says that Next has something. It is not repeated until Next has
	// returned more == false.
	Ready()
}

// State is what a session is resumed from after a restart.
type State struct {
	Inbound []uint16 // QoS 2: PUBLISH seen, PUBREL not
	Out     []Outbound
	Queued  int
}

// Sub is one stored subscription.
type Sub struct {
	Filter  string
	ID      uint32
	Options packet.SubOptions
	// Owed: retained messages that it brings are still to be queued. Settle
	// takes it back.
	Owed bool
}

// Outbound is a QoS 2 message in flight to the subscriber. Next does not hand
// it out again.
type Outbound struct {
	LSN      uint64
	ID       uint16
	Recorded bool // its PUBREC was seen
	// Delivery is the message, unless it is Recorded.
	Delivery Delivery
}

// Stored is a session as it was stored when the engine was opened.
type Stored struct {
	ClientID string
	Session  Session
	Expiry   uint32 // seconds after Detached, 0xFFFFFFFF: never
	Detached int64  // the end of its last connection in Unix seconds; for one that was connected at a crash the time of Recover
	Will     *Will  // nil: none, or it was published
	// WillArmed: the will is due its delay after Detached. A session that was
	// connected at a crash has its will armed.
	WillArmed bool
	Subs      []Sub
	Inbound   []uint16   // QoS 2: PUBLISH seen, PUBREL not
	Out       []Outbound // in the order of sending
}

// Reason says why a message was dropped.
type Reason uint8

// The reasons of a drop.
const (
	QueueFull Reason = iota
	Expired
	RetainedFull
	SessionEnded
	// DiskFull: a QoS 0 message was not retained, since there is no room.
	DiskFull
	// Unreadable: the disk does not give it.
	Unreadable
)

// Session is a stored session. A method with a Completer reports done when it
// need not be waited for, and does not call the Completer then.
type Session interface {
	// Subscribe and Unsubscribe make a change of the subscriptions durable.
	Subscribe(subs []Sub, c Completer, tok uint64) (done bool)
	Unsubscribe(filters []string, c Completer, tok uint64) (done bool)
	// Settle records that what a subscription was owed has been queued. Nobody
	// waits for it, and no other call for the filter may be under way.
	Settle(sub Sub)
	// Next takes waiting messages in their order, at most len(buf): the caller
	// asks for as many as its window has room for. Expired ones are skipped;
	// now is in Unix seconds. more says that some are left.
	Next(buf []Delivery, now uint32) (n int, more bool)
	// Retained queues the retained message of a topic as it is now, in its place
	// among the messages that are published to the topic: t says how, but for
	// To. false: there is none.
	Retained(name string, t Target) bool
	// Ack ends deliveries: acknowledged, expired or dropped.
	Ack(lsn ...uint64)
	// Sent2 records a QoS 2 identifier before the PUBLISH leaves, Received2 a
	// PUBREC before the PUBREL leaves, Release2 a PUBREL before the PUBCOMP
	// leaves.
	Sent2(lsn uint64, id uint16, c Completer, tok uint64) (done bool)
	Received2(id uint16, c Completer, tok uint64) (done bool)
	Release2(id uint16, c Completer, tok uint64) (done bool)
	// Detach ends a connection: the session lives for expiry more seconds, and
	// its will, if armed, is due after its delay. Without one it is discarded.
	// The session may be claimed at once, whether this is done or not. c may be
	// nil, where nobody waits.
	Detach(expiry uint32, armed bool, c Completer, tok uint64) (done bool)
	// Shared are the messages that came through shared subscriptions and were
	// not handed out. Who gives them to others before End does not lose them at
	// a crash between the two.
	Shared() []Delivery
	// End discards the session with all that waits for it, and returns what
	// came through shared subscriptions and was not handed out. c may be nil,
	// where nobody waits.
	End(c Completer, tok uint64) (shared []Delivery, done bool)
	// Queued counts the messages that Next has not handed out, and their bytes.
	Queued() (messages, bytes int)
}

// Delivery is a message that Next hands out.
type Delivery struct {
	Msg   *packet.Publish
	More  *[]uint32
	LSN   uint64
	Sub   uint32
	QoS   packet.QoS
	Flags uint8
}

// Stats counts what an engine holds.
type Stats struct {
	Sessions         int // stored, connected or not
	Queued           int // messages that wait for a session
	QueuedBytes      int64
	Retained         int
	RetainedBytes    int64
	Dropped, Expired uint64 // messages of queues, by limit and by expiry
	State            Health
	// Free is the room on the disk in bytes, -1: not known. Without a disk it
	// is -1.
	Free int64
}

// Health says what an engine can do.
type Health uint8

const (
	// Healthy: everything.
	Healthy Health = iota
	// Full: the disk is full. Messages that would have to be stored are
	// refused until there is room.
	Full
	// Failed: nothing that would have to be durable is acknowledged any more.
	Failed
)

// String names it as the $SYS topic does.
func (h Health) String() string {
	return [...]string{"ok", "full", "failed"}[min(h, Failed)]
}
