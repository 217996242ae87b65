package broker

import (
	"crypto/rand"
	"encoding/binary"
	"sync/atomic"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// counts are what one turn counts, without atomics.
type counts struct {
	packetsIn, packetsOut uint64
	pubIn, pubOut         [3]uint64 // by QoS
	pubBytesIn            uint64    // payloads
	pubBytesOut           uint64
}

// stats are the broker's counters.
type stats struct {
	packetsIn, packetsOut   atomic.Uint64
	pubIn, pubOut           [3]atomic.Uint64
	pubBytesIn, pubBytesOut atomic.Uint64
	drops                   [dropReasons]atomic.Uint64
	told                    [dropReasons]atomic.Int64 // when a class without session was last logged
	refusedConns            atomic.Uint64             // no successful CONNACK
	badPackets              atomic.Uint64             // malformed packets and protocol errors
	connected               atomic.Int64
	connectedMax            atomic.Int64
	connects                atomic.Uint64 // successful CONNACKs
	takeovers               atomic.Uint64
	sessionsExpired         atomic.Uint64
	deniedPubs, deniedSubs  atomic.Uint64
	revoked                 atomic.Uint64
}

func (s *stats) add(n *counts) {
	if n.packetsIn != 0 {
		s.packetsIn.Add(n.packetsIn)
	}
	if n.packetsOut != 0 {
		s.packetsOut.Add(n.packetsOut)
	}
	for q := range n.pubIn {
		if n.pubIn[q] != 0 {
			s.pubIn[q].Add(n.pubIn[q])
		}
		if n.pubOut[q] != 0 {
			s.pubOut[q].Add(n.pubOut[q])
		}
	}
	if n.pubBytesIn != 0 {
		s.pubBytesIn.Add(n.pubBytesIn)
	}
	if n.pubBytesOut != 0 {
		s.pubBytesOut.Add(n.pubBytesOut)
	}
}

// Stats are the broker's figures at one moment.
type Stats struct {
	Connected, ConnectedMax int64  // clients now, and at most so far
	Connects, Refused       uint64 // CONNACKs with success, and connections without
	Takeovers               uint64
	Sessions                int    // with or without a connection
	Subscriptions, Shared   int    // all, and memberships of shared ones
	Retained, Queued        int    // messages
	RetainedBytes           int64  // topics and payloads
	QueuedBytes             int64  // topics and payloads
	PacketsIn, PacketsOut   uint64 // control packets
	PublishIn, PublishOut   uint64 // PUBLISH packets
	PayloadIn, PayloadOut   uint64 // bytes
	BytesIn, BytesOut       uint64 // on the connections
	BadPackets              uint64 // malformed, and protocol errors
	Dropped                 map[string]uint64
	SessionsExpired         uint64
	// DeniedPublishes and DeniedSubscriptions are what the Authorizer refused:
	// messages and wills, and topic filters. Revoked are subscriptions that it
	// allowed once and no more.
	DeniedPublishes, DeniedSubscriptions, Revoked uint64
	// Store is "ok"; "full": the disk is full, and messages that would have to
	// be stored are refused; or "failed": nothing is acknowledged any more that
	// would have to be stored, until a restart.
	Store string
	// CertificateEnd is when the first certificate of a listener ends; zero: there
	// is none, or it is not known.
	CertificateEnd time.Time
	// DiskFree is the room on the disk of the data directory in bytes, -1: not
	// known, or everything is in memory.
	DiskFree int64
}

// Stats reads the broker's figures.
func (b *Broker) Stats() Stats {
	s, st, net, tab := &b.stats, b.store.Stats(), b.net.Stats(), b.table.Stats()
	sessions, _ := b.registry.count()
	r := Stats{
		Connected: s.connected.Load(), ConnectedMax: s.connectedMax.Load(), Connects: s.connects.Load(),
		Refused: s.refusedConns.Load(), Takeovers: s.takeovers.Load(), Sessions: sessions,
		Subscriptions: tab.Subscriptions, Shared: tab.Shared, Retained: st.Retained, RetainedBytes: st.RetainedBytes,
		Queued: st.Queued, QueuedBytes: st.QueuedBytes, PacketsIn: s.packetsIn.Load(), PacketsOut: s.packetsOut.Load(),
		PayloadIn: s.pubBytesIn.Load(), PayloadOut: s.pubBytesOut.Load(), BytesIn: net.BytesIn, BytesOut: net.BytesOut,
		DeniedPublishes: s.deniedPubs.Load(), DeniedSubscriptions: s.deniedSubs.Load(), Revoked: s.revoked.Load(),
		BadPackets: s.badPackets.Load(), SessionsExpired: s.sessionsExpired.Load(), Dropped: map[string]uint64{},
		Store: st.State.String(), DiskFree: st.Free, CertificateEnd: b.certificateEnd(),
	}
	for q := range s.pubIn {
		r.PublishIn += s.pubIn[q].Load()
		r.PublishOut += s.pubOut[q].Load()
	}
	for d := range s.drops {
		if n := s.drops[d].Load(); n > 0 {
			r.Dropped[DropReason(d).String()] = n
		}
	}
	return r
}

// certificateEnd is the first end of a listener's certificate.
func (b *Broker) certificateEnd() (first time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ln := range b.listeners {
		l, _ := ln.Data().(*Listener)
		if l == nil || l.CertificateEnd == nil {
			continue
		}
		if end := l.CertificateEnd(); first.IsZero() || end.Before(first) {
			first = end
		}
	}
	return first
}

// dropped counts a message that is lost, tells the events, and writes one log
// line for each class and connection, or, where no session is meant (s is nil),
// one a minute for each class. Any lock may be held.
func (b *Broker) dropped(s *session, m *packet.Publish, why DropReason) { b.droppedBy(s, m, why, "") }

// droppedBy is dropped with the access rule that is to blame, for the log.
func (b *Broker) droppedBy(s *session, m *packet.Publish, why DropReason, rule string) {
	b.stats.drops[why].Add(1)
	name, q := "", packet.QoS(0) // of a message that is on the disk alone
	if m != nil {
		name, q = string(m.Topic()), m.QoS()
	}
	if s == nil {
		if f := b.opt().Events.Dropped; f != nil {
			f("", name, why)
		}
		last, now := b.stats.told[why].Load(), b.clock()
		if (last == 0 || now-last > int64(time.Minute)) && b.stats.told[why].CompareAndSwap(last, now) {
			b.log.Warn("message dropped; more of this class are only counted for a minute",
				"why", why.String(), "code", why.code().String(), "topic", name, "qos", q)
		}
		return
	}
	if f := b.opt().Events.Dropped; f != nil {
		f(s.id, name, why)
	}
	if s.told.Load()&(1<<why) == 0 && s.told.Or(1<<why)&(1<<why) == 0 {
		var about []any
		if rule != "" {
			about = append(about, "rule", rule)
		}
		b.log.Warn("message dropped; more of this class for this client are only counted",
			append(about, "client", s.id, "address", b.registry.address(s), "why", why.String(), "code", why.code().String(), "topic", name, "qos", q)...)
	}
}

// nonce makes assigned client identifiers of two runs differ.
func nonce() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:])
}
