package check

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/myelin-mqtt/myelin/internal/dial"
	"github.com/myelin-mqtt/myelin/packet"
)

// Status is what came of a check.
type Status string

// What comes of a check.
const (
	// Kept: the server does what the standard or its CONNACK promises.
	Kept Status = "kept"
	// Broken: it does not.
	Broken Status = "broken"
	// Absent: it is an optional feature, and the server says that it has it not.
	Absent Status = "absent"
	// Unknown: it could not be found out, such as where access is denied.
	Unknown Status = "unknown"
	// Skipped: it does not apply, or was not asked for.
	Skipped Status = "skipped"
)

// Finding is what one check found.
type Finding struct {
	// Name and Group are those of List.
	Name, Group string
	Status      Status
	// Detail is a few words for a person: what was measured, or what was wrong.
	Detail string
	// Values are numbers and names out of Detail, for a program; nil: none.
	Values map[string]any
	// Packets are the last packets of a check that found a broken promise.
	Packets []Packet
	// Took is how long the check ran, without its tidying up.
	Took time.Duration
}

// Options say which server is checked and how.
type Options struct {
	// Server is where it is, and Net how to get there.
	Server dial.Target
	Net    dial.Options
	// Username and Password go into each CONNECT; nil Password: none.
	Username string
	Password []byte
	// Version is the protocol that checks use where they do not say; 0: the best
	// that the server has.
	Version packet.Version
	// Prefix is in front of every topic, and ends with a slash; empty:
	// myelin-check/ and a part that no two runs share.
	Prefix string
	// MaxPayload is the longest payload to try, in bytes. 0: 1 MiB.
	MaxPayload int
	// IDPrefix is in front of every client identifier, for a server that lets in
	// only such; empty: mc.
	IDPrefix string
	// ConnectTimeout limits the making of a connection below MQTT. 0: 10 s.
	ConnectTimeout time.Duration
	// Timeout ends a check. 0: 60 s.
	Timeout time.Duration
	// Patience is how long an answer is awaited. 0: 5 s.
	Patience time.Duration
	// Quiet is how long to listen for what must not come. 0: 250 ms, or four
	// times a PINGREQ's way there and back where that is longer.
	Quiet time.Duration
	// Parallel is how many checks run at a time, those that measure times
	// excepted. 0: 4.
	Parallel int
	// Only and Skip are names of checks and groups. Empty Only: all.
	Only, Skip []string
}

// Report is all findings about a server.
type Report struct {
	// Version is the best protocol that it has, or the one that was asked for.
	Version packet.Version
	// Connack is its answer to a CONNECT of that version without wishes.
	Connack packet.Connack
	// Prefix is where the checks' topics were.
	Prefix string
	// Findings are in the order of List.
	Findings []Finding
}

// Count is how many findings have the status.
func (r *Report) Count(s Status) (n int) {
	for _, f := range r.Findings {
		if f.Status == s {
			n++
		}
	}
	return n
}

// Broken are the names of the checks that found a broken promise.
func (r *Report) Broken() (names []string) {
	for _, f := range r.Findings {
		if f.Status == Broken {
			names = append(names, f.Name)
		}
	}
	return names
}

// RefusedError is a server's refusal of every connection.
type RefusedError struct {
	Code   packet.Reason
	Reason string // its Reason String, may be empty
}

// Error is such as "CONNACK: Not authorized (0x87)".
func (e *RefusedError) Error() string {
	s := fmt.Sprintf("CONNACK: %s", e.Code)
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

// Run makes the checks, and calls each, unless it is nil, with every finding
// when it and all before it are there. Where the server cannot be reached, or
// refuses every connection, there are no findings but an error, which may be a
// *RefusedError. When ctx ends, so do the checks; the report then has what was
// found until then.
func Run(ctx context.Context, o Options, each func(Finding)) (*Report, error) {
	rows, err := choose(o.Only, o.Skip)
	if err != nil {
		return nil, err
	}
	o.setDefaults()
	e := &env{o: o, nonce: strings.ToLower(rand.Text()[:8])}
	e.prefix = o.Prefix
	if e.prefix == "" {
		e.prefix = "myelin-check/" + e.nonce + "/"
	}
	if err := e.look(ctx); err != nil {
		return nil, err
	}
	r := &Report{Version: e.version, Connack: e.connack, Prefix: e.prefix}
	r.Findings = e.all(ctx, rows, each)
	return r, ctx.Err()
}

func (o *Options) setDefaults() {
	if o.MaxPayload == 0 {
		o.MaxPayload = 1 << 20
	}
	if o.IDPrefix == "" {
		o.IDPrefix = "mc"
	}
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = 10 * time.Second
	}
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	if o.Patience == 0 {
		o.Patience = 5 * time.Second
	}
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
}

// env is what the checks of a run share.
type env struct {
	o       Options
	nonce   string
	prefix  string
	version packet.Version
	connack packet.Connack
	ids     atomic.Uint64 // client identifiers given
}

// look finds the version to use.
func (e *env) look(ctx context.Context) error {
	versions := []packet.Version{packet.V5, packet.V311, packet.V31}
	if e.o.Version != 0 {
		versions = []packet.Version{e.o.Version}
	}
	var last error
	for _, v := range versions {
		t := e.trial(row{name: "look"})
		c, err := t.connect(ctx, packet.Connect{Version: v, CleanStart: true})
		if err == nil {
			e.version, e.connack = v, c.ack
			e.near(ctx, c)
		}
		t.tidy(ctx)
		if err == nil {
			return nil
		}
		refusal, refused := errors.AsType[*RefusedError](err)
		_, ended := errors.AsType[*endError](err)
		if !ended && (!refused || refusal.Code != packet.UnsupportedProtocolVersion) {
			return err
		}
		last = err
	}
	return last
}

// near finds out how near the server is, and how long silence is to be listened
// to.
func (e *env) near(ctx context.Context, c *conn) {
	if e.o.Quiet > 0 {
		return
	}
	e.o.Quiet = 250 * time.Millisecond
	began := time.Now()
	if c.ping(ctx) == nil { // that it is answered is for a check to say
		e.o.Quiet = max(e.o.Quiet, 4*time.Since(began))
	}
}

// all runs the rows: those that measure one after the other, then the others,
// Parallel at a time.
func (e *env) all(ctx context.Context, rows []row, each func(Finding)) []Finding {
	found := make([]Finding, len(rows))
	done := make([]chan struct{}, len(rows))
	work := make(chan int, len(rows))
	for i := range rows {
		done[i] = make(chan struct{})
	}
	run := func(i int) {
		found[i] = e.run(ctx, rows[i])
		close(done[i])
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i, r := range rows {
			if r.alone {
				run(i)
			}
		}
		for i, r := range rows {
			if !r.alone {
				work <- i
			}
		}
		close(work)
		for range e.o.Parallel {
			wg.Go(func() {
				for i := range work {
					run(i)
				}
			})
		}
	})
	n := 0
	for i := range rows {
		<-done[i]
		if ctx.Err() != nil {
			break
		}
		if n++; each != nil {
			each(found[i])
		}
	}
	wg.Wait()
	return found[:n]
}

// longDetail bounds what a server's words can make of a finding, in bytes.
const longDetail = 400

// run makes one check.
func (e *env) run(ctx context.Context, r row) Finding {
	if ctx.Err() != nil {
		return Finding{}
	}
	t := e.trial(r)
	limited, cancel := context.WithTimeout(ctx, e.o.Timeout)
	defer cancel()
	err := r.f(limited, t)
	f := Finding{Name: r.name, Group: r.group, Status: Kept, Detail: t.detail, Values: t.values, Took: time.Since(t.began)}
	if err != nil {
		f.Status, f.Detail = judge(err)
		if limited.Err() != nil {
			f.Status, f.Detail = Unknown, fmt.Sprintf("not done after %v", e.o.Timeout)
		}
	}
	if f.Status == Broken {
		f.Packets = t.trace.story()
	}
	if left := t.tidy(ctx); left != nil {
		text := strings.ReplaceAll(left.Error(), "\n", ", ")
		f.Detail = strings.TrimPrefix(f.Detail+"; could not tidy up: "+text, "; ")
	}
	if len(f.Detail) > longDetail {
		f.Detail = strings.ToValidUTF8(f.Detail[:longDetail], "") + "..."
	}
	return f
}

// verdict is an error that says what came of a check.
type verdict struct {
	status Status
	text   string
}

func (v *verdict) Error() string { return v.text }

func broken(format string, args ...any) error {
	return &verdict{Broken, fmt.Sprintf(format, args...)}
}

func absent(format string, args ...any) error {
	return &verdict{Absent, fmt.Sprintf(format, args...)}
}

func unknown(format string, args ...any) error {
	return &verdict{Unknown, fmt.Sprintf(format, args...)}
}

func skipped(format string, args ...any) error {
	return &verdict{Skipped, fmt.Sprintf(format, args...)}
}

// judge says what an error means: a server that breaks off where it should not
// has broken a promise, unless it says that somebody forbade it.
func judge(err error) (Status, string) {
	if v, ok := errors.AsType[*verdict](err); ok {
		return v.status, err.Error()
	}
	if e, ok := errors.AsType[*endError](err); ok {
		if e.bye != nil && forbidden(e.bye.Code) {
			return Unknown, err.Error()
		}
		return Broken, err.Error()
	}
	return Unknown, err.Error()
}

// forbidden says whether a refusal is a matter of the server's rules for its
// clients, or of its load.
func forbidden(c packet.Reason) bool {
	return slices.Contains([]packet.Reason{
		packet.UnspecifiedError, packet.ImplementationSpecificError, packet.BadUserNameOrPassword, packet.NotAuthorized,
		packet.ServerUnavailable, packet.ServerBusy, packet.Banned, packet.ServerShuttingDown, packet.MessageRateTooHigh,
		packet.QuotaExceeded, packet.AdministrativeAction, packet.UseAnotherServer, packet.ServerMoved, packet.ConnectionRateExceeded,
		packet.MaximumConnectTime,
	}, c)
}

// refused is the verdict on a packet that says no.
func refused(t packet.Type, c packet.Reason, reason string) error {
	text := fmt.Sprintf("%v: %v", t, c)
	if reason != "" {
		text += ": " + reason
	}
	if forbidden(c) {
		return unknown("%s", text)
	}
	return broken("%s", text)
}
