package main

import (
	"strings"
	"testing"

	"github.com/myelin-mqtt/myelin/packet"
)

// book is a ledger with one stream of each QoS and one reader of each, who expect both.
type book struct {
	*ledger
	t       *testing.T
	streams [3]int // by QoS
	readers [3]int
}

func newBook(t *testing.T) *book {
	b := &book{ledger: newLedger(), t: t}
	for q := packet.AtLeastOnce; q <= packet.ExactlyOnce; q++ {
		b.streams[q] = b.addStream("topic/"+q.String(), q, false, nil)
		b.readers[q] = b.addReader("reader "+q.String(), q, true)
	}
	for _, r := range b.readers[1:] {
		for _, s := range b.streams[1:] {
			b.expect(r, s)
		}
	}
	return b
}

// exchange sends n messages of this QoS, all acknowledged.
func (b *book) exchange(q packet.QoS, n int) {
	for range n {
		b.ack(b.streams[q], b.send(b.streams[q]))
	}
}

// get delivers messages of the stream of QoS q to the reader of QoS at.
func (b *book) get(q, at packet.QoS, seqs ...uint64) {
	for _, seq := range seqs {
		b.receive(b.readers[at], []byte(b.ledger.streams[b.streams[q]].topic), appendBody(nil, b.streams[q], seq, 100))
	}
}

// want compares the counts; every fault that is not named must be 0.
func (b *book) want(counts map[fault]int) {
	b.t.Helper()
	b.close()
	for f := range faults {
		if b.counts[f] != counts[f] {
			b.t.Errorf("%v: %d, want %d: %q", f, b.counts[f], counts[f], b.told[f])
		}
		if counts[f] > 0 && len(b.told[f]) == 0 {
			b.t.Errorf("%v: nothing is told of it", f)
		}
	}
}

func TestLedgerFindsNothing(t *testing.T) {
	b := newBook(t)
	for q := packet.AtLeastOnce; q <= packet.ExactlyOnce; q++ {
		b.exchange(q, 200)
		for seq := range uint64(200) {
			b.get(q, 1, seq+1)
			b.get(q, 2, seq+1)
		}
	}
	if owed, receipts := b.missing(); owed != 0 || receipts != 800 {
		t.Errorf("owed %d after %d receipts", owed, receipts)
	}
	b.want(nil)
	sent, acked, rows := b.rows()
	if sent[1] != 200 || acked[2] != 200 {
		t.Errorf("sent %v, acknowledged %v", sent, acked)
	}
	if r := rows[[2]packet.QoS{1, 1}]; r != (row{owed: 400, delivered: 400}) {
		t.Errorf("QoS 1 to both: %+v", r)
	}
	if r := rows[[2]packet.QoS{2, 2}]; r != (row{owed: 200, delivered: 200}) {
		t.Errorf("QoS 2 to QoS 2: %+v", r)
	}
}

func TestLedgerFindsLoss(t *testing.T) {
	b := newBook(t)
	b.exchange(1, 3)
	b.exchange(2, 130)
	b.get(1, 1, 1, 2, 3)
	b.get(1, 2, 1, 3) // 2 is lost
	for seq := uint64(1); seq <= 130; seq++ {
		if seq != 64 {
			b.get(2, 1, seq)
		}
		if seq != 1 && seq != 130 {
			b.get(2, 2, seq)
		}
	}
	if owed, _ := b.missing(); owed != 4 {
		t.Errorf("owed %d", owed)
	}
	b.want(map[fault]int{lost: 4})
	if _, _, rows := b.rows(); rows[[2]packet.QoS{2, 2}].lost != 2 || rows[[2]packet.QoS{1, 1}].lost != 1 {
		t.Errorf("rows %+v", rows)
	}
}

// TestLedgerUnacknowledged: what was sent and not acknowledged may come or not.
func TestLedgerUnacknowledged(t *testing.T) {
	b := newBook(t)
	b.exchange(2, 1)
	b.send(b.streams[2])
	b.send(b.streams[2])
	b.get(2, 1, 1, 2)
	b.get(2, 2, 1, 3)
	b.want(nil)
}

func TestLedgerFindsDuplicates(t *testing.T) {
	b := newBook(t)
	b.exchange(1, 2)
	b.exchange(2, 2)
	b.get(1, 1, 1, 1, 2, 1, 2)
	b.get(1, 2, 1, 2, 1) // delivered at QoS 1: allowed
	b.get(2, 1, 1, 2, 2) // so, too
	b.get(2, 2, 1, 2, 1)
	b.want(map[fault]int{duplicate: 1})
	_, _, rows := b.rows()
	if a, c := rows[[2]packet.QoS{1, 1}].again, rows[[2]packet.QoS{2, 2}].again; a != 4 || c != 1 {
		t.Errorf("duplicates at QoS 1: %d, at QoS 2: %d", a, c)
	}
}

func TestLedgerFindsDisorder(t *testing.T) {
	b := newBook(t)
	b.exchange(1, 5)
	b.exchange(2, 3)
	b.get(1, 1, 1, 2, 3, 1, 2, 3, 4, 5) // the copies of a resent window are in no disorder
	b.get(1, 2, 1, 2, 4, 3, 5)
	b.get(2, 1, 1, 2, 3)
	b.get(2, 2, 3, 2, 1)
	b.want(map[fault]int{order: 3})

	shared := newBook(t)
	r := shared.addReader("shared", packet.ExactlyOnce, false)
	s := shared.addStream("s", packet.ExactlyOnce, false, nil)
	shared.expect(r, s)
	shared.ack(s, shared.send(s))
	shared.ack(s, shared.send(s))
	shared.receive(r, []byte("s"), appendBody(nil, s, 2, 0))
	shared.receive(r, []byte("s"), appendBody(nil, s, 1, 0))
	shared.want(nil)
}

func TestLedgerFindsStrangers(t *testing.T) {
	b := newBook(t)
	b.exchange(1, 1)
	b.get(1, 1, 1)
	b.get(1, 2, 1)
	body := appendBody(nil, b.streams[1], 1, 100)
	b.receive(b.readers[1], []byte("topic/q2"), body) // another topic than it was sent to
	b.get(1, 1, 2)                                    // not sent
	b.receive(b.readers[1], []byte("topic/q1"), appendBody(nil, 99, 1, 10))
	for _, at := range []int{0, 5, 13, 99} {
		bad := append([]byte(nil), body...)
		bad[at] ^= 4
		b.receive(b.readers[1], []byte("topic/q1"), bad)
	}
	b.receive(b.readers[1], []byte("topic/q1"), body[:99])
	b.receive(b.readers[1], []byte("topic/q1"), nil)
	other := b.addStream("other", packet.AtLeastOnce, false, nil)
	b.ack(other, b.send(other))
	b.receive(b.readers[1], []byte("other"), appendBody(nil, other, 1, 0)) // not subscribed to
	b.want(map[fault]int{stranger: 10})
}

func TestLedgerTellsTheRound(t *testing.T) {
	b := newBook(t)
	b.exchange(1, 2)
	b.setRound(3)
	b.exchange(1, 1)
	b.setRound(4)
	b.setRound(5)
	b.exchange(1, 2)
	for seq, want := range []int{0, 0, 3, 5, 5} {
		if got := b.ledger.streams[b.streams[1]].roundOf(uint64(seq + 1)); got != want {
			t.Errorf("message %d is of round %d, want %d", seq+1, got, want)
		}
	}
	b.get(1, 1, 1, 2, 3, 5)
	b.close()
	if told := strings.Join(b.told[lost], "\n"); !strings.Contains(told, "message 4 of topic/q1, sent at QoS 1 in round 5") {
		t.Errorf("told %s", told)
	}
}

// TestVerdict: a run fails for any fault, and one that expects loss for none.
func TestVerdict(t *testing.T) {
	for f := range faults {
		clean := &torture{ledger: newLedger()}
		if err := clean.verdict(); err != nil {
			t.Errorf("no fault: %v", err)
		}
		clean.ledger.note(f, "injected")
		if clean.verdict() == nil {
			t.Errorf("%v: no error", f)
		}
		clean.o.expectLoss = true
		if err := clean.verdict(); (err == nil) != (f == lost) {
			t.Errorf("%v where loss is expected: %v", f, err)
		}
	}
}
