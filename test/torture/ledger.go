package main

import (
	"fmt"
	"math/bits"
	"slices"
	"sync"

	"github.com/myelin-mqtt/myelin/packet"
)

// fault is a kind of thing that must not happen.
type fault int

// The faults, in the order of the report.
const (
	lost       fault = iota // acknowledged, and not delivered to who had subscribed
	duplicate               // a message of QoS 2 that came twice
	order                   // a message that came first after one that had been sent behind it
	stranger                // a message that was never sent, or not to this reader, or is not as it was sent
	session                 // a session whose CONNACK had come is not there any more, or one that was ended is
	retention               // a retained message older than the last acknowledged one, or none
	subscribed              // a subscription that did not come or go as acknowledged
	protocol                // an answer that the standard does not allow, a connection that the broker ended
	faults
)

func (f fault) String() string {
	return [faults]string{"lost", "duplicated at QoS 2", "out of order", "never sent, or damaged", "sessions wrong",
		"retained messages wrong", "subscriptions wrong", "protocol"}[f]
}

// examples is how many faults of a kind are told in full; all of them are counted.
const examples = 8

// ledger accounts for every message: sent, acknowledged, received by whom. It is safe for use by many goroutines.
//
// A stream is what one publisher sends to one topic; its messages have the sequence numbers 1, 2, 3, ... A reader is
// who must get each acknowledged message of the streams that it expects: a session, or all members of a shared
// subscription together.
type ledger struct {
	mu      sync.Mutex
	streams []stream
	readers []reader
	pairs   map[[2]int]*pair // by reader and stream
	round   int
	counts  [faults]int
	told    [faults][]string
	resumed int // sessions that were there, as they must be
	receipt int // receipts of any kind; grows as long as something comes
}

type stream struct {
	topic    string
	qos      packet.QoS
	retain   bool
	erases   func(seq uint64) bool // messages that delete the retained one; nil: none
	sent     uint64
	acked    set
	last     uint64   // the highest acknowledged
	ackedN   int      // how many
	newRound []uint64 // the first sequence number of each round
}

type reader struct {
	name string
	qos  packet.QoS
	// ordered is false where the standard promises no order: shared subscriptions.
	ordered bool
}

// pair is what a reader has got of a stream.
type pair struct {
	got       set
	firsts    int // messages that came, each counted once
	again     int // receipts of one that had come already
	high      uint64
	disorders int
}

func newLedger() *ledger { return &ledger{pairs: map[[2]int]*pair{}} }

// addStream makes a stream and returns its number.
func (g *ledger) addStream(topic string, qos packet.QoS, retain bool, erases func(uint64) bool) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.streams = append(g.streams, stream{topic: topic, qos: qos, retain: retain, erases: erases})
	return len(g.streams) - 1
}

// addReader makes a reader that subscribes with this QoS and returns its number.
func (g *ledger) addReader(name string, qos packet.QoS, ordered bool) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.readers = append(g.readers, reader{name, qos, ordered})
	return len(g.readers) - 1
}

// expect says that the reader must get every message of the stream.
func (g *ledger) expect(reader, stream int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pairs[[2]int{reader, stream}] = &pair{}
}

// setRound notes which run of the broker this is, for the examples.
func (g *ledger) setRound(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.round = n
}

// send gives the next message of a stream its number, before it is written.
func (g *ledger) send(id int) (seq uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := &g.streams[id]
	s.sent++
	for len(s.newRound) <= g.round {
		s.newRound = append(s.newRound, s.sent)
	}
	return s.sent
}

// ack notes that the broker has taken the responsibility: PUBACK or PUBREC came.
func (g *ledger) ack(id int, seq uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := &g.streams[id]
	if s.acked.add(seq) {
		s.ackedN++
		s.last = max(s.last, seq)
	}
}

// receive notes a message that came to a reader. At QoS 2 the caller has sorted out the copies with a packet identifier
// that it knows: each receipt is one that an application sees.
func (g *ledger) receive(rd int, topic []byte, body []byte) (id int, seq uint64) {
	id, seq, err := parseBody(body)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.receipt++
	name := g.readers[rd].name
	if err != nil {
		g.fault(stranger, "%s got on %s: %v", name, topic, err)
		return -1, 0
	}
	if id >= len(g.streams) || seq == 0 || seq > g.streams[id].sent {
		g.fault(stranger, "%s got on %s message %d of stream %d, which was never sent", name, topic, seq, id)
		return -1, 0
	}
	s := &g.streams[id]
	if s.topic != string(topic) {
		g.fault(stranger, "%s got on %s what was sent to %s", name, topic, s.topic)
	}
	p := g.pairs[[2]int{rd, id}]
	if p == nil {
		g.fault(stranger, "%s got message %d of %s, to which it has not subscribed", name, seq, s.topic)
		return id, seq
	}
	if !p.got.add(seq) {
		p.again++
		if g.deliveredAt(rd, id) == packet.ExactlyOnce {
			g.fault(duplicate, "%s got message %d of %s again, sent in round %d", name, seq, s.topic, s.roundOf(seq))
		}
		return id, seq
	}
	p.firsts++
	if seq < p.high && g.readers[rd].ordered {
		p.disorders++
		g.fault(order, "%s got message %d of %s first after message %d, sent in round %d", name, seq, s.topic, p.high, s.roundOf(seq))
	}
	p.high = max(p.high, seq)
	return id, seq
}

// deliveredAt is the QoS at which a reader gets a stream. The caller holds the lock.
func (g *ledger) deliveredAt(rd, id int) packet.QoS {
	return min(g.readers[rd].qos, g.streams[id].qos)
}

// note counts a fault that somebody else has found.
func (g *ledger) note(f fault, format string, args ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fault(f, format, args...)
}

// fault counts, and keeps the first ones. The caller holds the lock.
func (g *ledger) fault(f fault, format string, args ...any) {
	g.counts[f]++
	if len(g.told[f]) < examples {
		g.told[f] = append(g.told[f], fmt.Sprintf("round %d: %s", g.round, fmt.Sprintf(format, args...)))
	}
}

// present notes that a session was taken up again.
func (g *ledger) present() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.resumed++
}

// missing is how many deliveries are owed and have not come, and how many receipts there were so far.
func (g *ledger) missing() (owed, receipts int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for key, p := range g.pairs {
		owed += len(g.streams[key[1]].acked.without(p.got))
	}
	return owed, g.receipt
}

// window is the range in which the value of a stream's retained message must be: the highest acknowledged and the
// highest sent number. The first is good if it was asked for before the SUBSCRIBE, the second after the message came.
func (g *ledger) window(id int) (acked, sent uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.streams[id].last, g.streams[id].sent
}

// close counts what is lost: everything that was acknowledged and that a reader who expects it has not got. It is
// called once, at the end.
func (g *ledger) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	keys := make([][2]int, 0, len(g.pairs))
	for key := range g.pairs {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b [2]int) int { return slices.Compare(a[:], b[:]) })
	for _, key := range keys {
		s := &g.streams[key[1]]
		for _, seq := range s.acked.without(g.pairs[key].got) {
			g.fault(lost, "%s never got message %d of %s, sent at QoS %d in round %d and acknowledged",
				g.readers[key[0]].name, seq, s.topic, s.qos, s.roundOf(seq))
		}
	}
}

// row is the account of all pairs of reader and stream of one kind.
type row struct {
	owed      int // deliveries of acknowledged messages
	delivered int // messages that came, each counted once for each reader; also such as were not acknowledged
	lost      int
	again     int // came more than once
	disorders int
}

// rows is the account for each QoS of publishing and, beneath it, of delivery.
func (g *ledger) rows() (sent, acked map[packet.QoS]int, rows map[[2]packet.QoS]row) {
	g.mu.Lock()
	defer g.mu.Unlock()
	sent, acked, rows = map[packet.QoS]int{}, map[packet.QoS]int{}, map[[2]packet.QoS]row{}
	for i := range g.streams {
		s := &g.streams[i]
		sent[s.qos] += int(s.sent)
		acked[s.qos] += s.ackedN
	}
	for key, p := range g.pairs {
		s := &g.streams[key[1]]
		kind := [2]packet.QoS{s.qos, g.deliveredAt(key[0], key[1])}
		r := rows[kind]
		r.owed += s.ackedN
		r.delivered += p.firsts
		r.lost += len(s.acked.without(p.got))
		r.again += p.again
		r.disorders += p.disorders
		rows[kind] = r
	}
	return sent, acked, rows
}

// roundOf is the run of the broker in which a message was sent first.
func (s *stream) roundOf(seq uint64) int {
	i, found := slices.BinarySearch(s.newRound, seq)
	if !found {
		return i - 1
	}
	for i+1 < len(s.newRound) && s.newRound[i+1] == seq {
		i++
	}
	return i
}

// set is a set of sequence numbers.
type set []uint64

// add puts n in, and says whether it is new.
func (s *set) add(n uint64) bool {
	for uint64(len(*s)) <= n/64 {
		*s = append(*s, 0)
	}
	bit := uint64(1) << (n % 64)
	fresh := (*s)[n/64]&bit == 0
	(*s)[n/64] |= bit
	return fresh
}

// without lists what is in s and not in t.
func (s set) without(t set) (list []uint64) {
	for i, word := range s {
		if i < len(t) {
			word &^= t[i]
		}
		for ; word != 0; word &= word - 1 {
			list = append(list, uint64(i*64+bits.TrailingZeros64(word)))
		}
	}
	return list
}
