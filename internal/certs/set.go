// Package certs turns files of certificates, keys and revocation lists into the
// TLS configuration of a listener, and follows the files while connections live.
//
// A Set is all files of one listener. They are read and checked together
// (load.go): certificates with their keys and stapled answers (staple.go), the
// authorities of clients and their revocation lists (crl.go). A set with a fault
// is refused as a whole and the one before it stays. watch.go looks at the files.
// identity.go makes a user name or client identifier of a client's certificate.
//
// The package does not listen and does not know MQTT. Start reading at Open.
package certs

import (
	"crypto/rand"
	"crypto/tls"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Clients says whether clients show a certificate.
type Clients uint8

// What is asked of clients.
const (
	None     Clients = iota // nothing
	Optional                // one that is shown must be good
	Required                // a good one
)

// Options say which files make a set, and what else a TLS configuration has.
type Options struct {
	// Certificates of the server; the first is for clients that ask for no name,
	// or for one that none has. There is at least one.
	Certificates []Pair
	// ClientCA is a file of the authorities, PEM, whose certificates clients may
	// show. It is needed unless Clients is None.
	ClientCA string
	Clients  Clients
	// CRL are files of revocation lists, PEM or DER, each signed by one of
	// ClientCA. None: nothing is revoked.
	CRL []string
	// Lenient lets a client in although the list of its authority is missing or
	// out of date. What a list names is refused in any case.
	Lenient bool
	// MinVersion and MaxVersion are versions of package tls; 0: TLS 1.2, and the
	// newest.
	MinVersion, MaxVersion uint16
	// Protocols are what ALPN may agree on. A client that knows nothing of it is
	// served; one that offers others only is not.
	Protocols []string
	// Username and ClientID are templates, see ParseTemplate; "": a certificate
	// says nothing about them.
	Username, ClientID string
	// Interval is the time between two looks at the files, 0: never, but at
	// Reload.
	Interval time.Duration
	// Logger takes what happens, with Name as the attribute listener; nil:
	// slog.Default().
	Logger *slog.Logger
	Name   string
}

// Pair is a certificate with what belongs to it.
type Pair struct {
	// Cert is a PEM file: the certificate, then those between it and its
	// authority. Key is one with its private key; "": it is in Cert, too.
	Cert, Key string
	// OCSP is a file with the authority's answer that it is not revoked, DER; "":
	// nothing is stapled.
	OCSP string
}

// Certificate is a certificate of a set and its end.
type Certificate struct {
	File     string
	Name     string // of its subject
	NotAfter time.Time
}

// Stats are the figures of a set.
type Stats struct {
	Reloads, Refused uint64        // sets that took effect after the first, and those with a fault
	Faulty           bool          // the files as they are now are not in effect
	Certificates     []Certificate // the server's, in their order
}

// Set is the files of one listener. Its methods may be called from any goroutine.
type Set struct {
	now    atomic.Pointer[snapshot]
	config *tls.Config

	reloads, refused atomic.Uint64
	faulty           atomic.Bool

	mu      sync.Mutex // one reload at a time; guards what follows
	o       Options
	log     *slog.Logger
	seen    marks  // the files of o as the last try has seen them
	changed bool   // and they are others since
	told    string // the last faults that were logged
}

// snapshot is a set that was found good; it does not change.
type snapshot struct {
	config   *tls.Config // for one handshake after the other
	user, id *Template
	server   []Certificate
	warnings []string
	until    time.Time // the first end of a stapled answer; zero: there is none
	trust    [32]byte  // digest of what clients are judged by
	keys     [][32]byte
	keyed    time.Time // when the first of them was made
}

const (
	keyLife = 24 * time.Hour // a key for session tickets encrypts for so long
	keyMost = 2              // and so many of them decrypt
)

// Open reads the files. The error is a Faults with everything that is wrong.
func Open(o Options) (*Set, error) {
	s := &Set{}
	s.put(o)
	p, seen, faults := load(o, time.Now())
	if len(faults) > 0 {
		return nil, faults
	}
	s.seen = seen
	p.freshKeys(time.Now(), nil)
	s.now.Store(p)
	s.config = &tls.Config{
		MinVersion: tls.VersionTLS12, // the answer below has its own
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return s.now.Load().config, nil
		},
	}
	s.warn(p)
	return s, nil
}

func (s *Set) put(o Options) {
	s.o, s.log = o, o.Logger
	if s.log == nil {
		s.log = slog.Default()
	}
	s.log = s.log.With("listener", o.Name)
}

// Config is what a listener takes: it stays the same, and its answers change
// with the files.
func (s *Set) Config() *tls.Config { return s.config }

// Reload reads the files again. A set with a fault changes nothing; it is
// counted and logged, and the error is a Faults.
func (s *Set) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reload(true)
}

// Use is Reload with other options, which count from then on, unless there is a
// fault. Watch takes a new Interval after its next look.
func (s *Set) Use(o Options) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, seen, faults := load(o, time.Now())
	if len(faults) > 0 {
		s.refuse(faults)
		return faults
	}
	s.put(o)
	s.take(p, seen)
	return nil
}

// reload takes the files as they are now if they are good. Where nobody asked for
// it, faults that were logged already are not logged again. The caller holds mu.
func (s *Set) reload(asked bool) error {
	p, seen, faults := load(s.o, time.Now())
	if len(faults) > 0 {
		s.faulty.Store(true)
		if text := faults.Error(); asked || text != s.told {
			s.told = text
			s.refuse(faults)
		}
		s.seen, s.changed = seen, false
		return faults
	}
	s.take(p, seen)
	return nil
}

func (s *Set) refuse(faults Faults) {
	s.refused.Add(1)
	for _, f := range faults {
		s.log.Error("certificates not reloaded, those before stay in use", "err", f.String(), "hint", f.Hint)
	}
}

func (s *Set) take(p *snapshot, seen marks) {
	now, old := time.Now(), s.now.Load()
	p.freshKeys(now, old)
	s.now.Store(p)
	s.seen, s.changed, s.told = seen, false, ""
	s.faulty.Store(false)
	s.reloads.Add(1)
	s.log.Info("certificates reloaded", "names", names(p.server), "days_left", days(p.server, now), "sessions_kept", p.trust == old.trust)
	s.warn(p)
}

// freshKeys gives a snapshot the keys of session tickets. Those of the one
// before it go on, unless clients are judged by something else now: a ticket
// carries the identity of its client past the check of the certificate. The keys
// stand in the configuration that a handshake gets, beside what it checks by, so
// that no ticket is made by one set and taken by another.
func (p *snapshot) freshKeys(now time.Time, old *snapshot) {
	var keys [][32]byte
	if old != nil && old.trust == p.trust {
		keys, p.keyed = old.keys, old.keyed
	}
	if len(keys) == 0 || now.Sub(p.keyed) >= keyLife {
		var k [32]byte
		rand.Read(k[:]) // never fails
		keys = append([][32]byte{k}, keys[:min(len(keys), keyMost-1)]...)
		p.keyed = now
	}
	p.keys = keys
	p.config.SetSessionTicketKeys(keys)
}

// turnKeys replaces the snapshot by one with a new key. The caller holds mu.
func (s *Set) turnKeys(now time.Time) {
	old := s.now.Load()
	p := *old
	p.config = old.config.Clone()
	p.freshKeys(now, old)
	s.now.Store(&p)
}

func (s *Set) warn(p *snapshot) {
	for _, w := range p.warnings {
		s.log.Warn("certificates", "warning", w)
	}
}

// Stats reads the figures.
func (s *Set) Stats() Stats {
	return Stats{Reloads: s.reloads.Load(), Refused: s.refused.Load(), Faulty: s.faulty.Load(), Certificates: s.now.Load().server}
}

// NotAfter is when the first certificate of the server ends.
func (s *Set) NotAfter() time.Time { return firstEnd(s.now.Load().server) }

func firstEnd(cs []Certificate) (first time.Time) {
	for i, c := range cs {
		if i == 0 || c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	return first
}

// days is how many whole days are left until the first end.
func days(cs []Certificate, now time.Time) int { return int(firstEnd(cs).Sub(now) / (24 * time.Hour)) }

func names(cs []Certificate) string {
	all := make([]string, len(cs))
	for i, c := range cs {
		all[i] = c.Name
	}
	return strings.Join(all, ", ")
}

// Fault is one thing that is wrong with a set.
type Fault struct {
	File string // "": with the options
	What string // lower case
	Hint string // what to try; may be empty
}

// String gives the fault on one line, without its hint.
func (f Fault) String() string {
	if f.File == "" {
		return f.What
	}
	return f.File + ": " + f.What
}

// Faults is everything that is wrong with a set, in the order of the files.
type Faults []Fault

// Error gives one line for each fault.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}
