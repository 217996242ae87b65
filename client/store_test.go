package client

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// memStore is a Store that survives nothing but its own Close.
type memStore struct {
	s      State
	closed bool
}

func (m *memStore) Load() (State, error) {
	s := m.s
	s.In, s.Out = slices.Clone(s.In), slices.Clone(s.Out)
	for i, k := range s.Out {
		s.Out[i].Packet = bytes.Clone(k.Packet)
	}
	return s, nil
}

func (m *memStore) Commit(rs []Record) error {
	for _, r := range rs {
		r.Packet = bytes.Clone(r.Packet)
		m.s.Apply(r)
	}
	return nil
}

func (m *memStore) Close() error { m.closed = true; return nil }

// stateModel says plainly what a State is.
type stateModel struct {
	client string
	next   uint64
	out    map[uint64]Kept
	in     map[uint16]bool
}

func newModel() *stateModel {
	return &stateModel{out: map[uint64]Kept{}, in: map[uint16]bool{}}
}

func (m *stateModel) apply(rs ...Record) {
	for _, r := range rs {
		k, found := m.out[r.Seq]
		switch r.Kind {
		case RecordMessage:
			if !found {
				m.out[r.Seq] = Kept{Seq: r.Seq, Packet: bytes.Clone(r.Packet), At: r.At}
				m.next = max(m.next, r.Seq+1)
			}
		case RecordSent:
			if k.ID = r.ID; found {
				m.out[r.Seq] = k
			}
		case RecordReleased:
			if k.Released, k.Packet = true, nil; found {
				m.out[r.Seq] = k
			}
		case RecordDone:
			delete(m.out, r.Seq)
		case RecordReceived:
			m.in[r.ID] = true
		case RecordForgotten:
			delete(m.in, r.ID)
		case RecordSession:
			m.client = r.ClientID
			clear(m.in)
			for seq, k := range m.out {
				if k.ID = 0; k.Released {
					delete(m.out, seq)
				} else {
					m.out[seq] = k
				}
			}
		}
	}
}

func (m *stateModel) state() State {
	s := State{ClientID: m.client, Next: m.next, In: slices.Sorted(maps.Keys(m.in))}
	for _, seq := range slices.Sorted(maps.Keys(m.out)) {
		s.Out = append(s.Out, m.out[seq])
	}
	return s
}

// diffState is empty where both are the same.
func diffState(want, got State) string {
	if want.ClientID == got.ClientID && want.Next == got.Next && slices.Equal(want.In, got.In) &&
		slices.EqualFunc(want.Out, got.Out, func(a, b Kept) bool {
			return a.Seq == b.Seq && a.ID == b.ID && a.Released == b.Released && a.At == b.At && bytes.Equal(a.Packet, b.Packet)
		}) {
		return ""
	}
	short := func(s State) State {
		s.Out = slices.Clone(s.Out)
		for i, k := range s.Out {
			if len(k.Packet) > 100 {
				s.Out[i].Packet = fmt.Appendf(nil, "%d bytes, checksum %x", len(k.Packet), checksum(0, k.Packet))
			}
		}
		return s
	}
	return "(-want +got) " + cmp.Diff(short(want), short(got), cmpopts.EquateEmpty())
}

// drawRecord draws a record of a small world, so that records are often about
// the same message.
func drawRecord(t *rapid.T) Record {
	r := Record{Kind: RecordKind(rapid.IntRange(int(RecordMessage), int(RecordSession)).Draw(t, "kind"))}
	if r.Kind == RecordSession && rapid.IntRange(0, 3).Draw(t, "rare") > 0 {
		r.Kind = RecordMessage
	}
	has := r.Kind.fields()
	if has&hasID != 0 {
		r.ID = rapid.Uint16Range(0, 9).Draw(t, "id")
	}
	if has&hasSeq != 0 {
		r.Seq = rapid.OneOf(rapid.Uint64Range(0, 20), rapid.Uint64Range(1<<40, 1<<40+5)).Draw(t, "seq")
	}
	if has&hasPacket != 0 {
		r.At = rapid.OneOf(rapid.Uint32Range(0, 300), rapid.Uint32()).Draw(t, "at")
		r.Packet = rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "packet")
	}
	if has&hasClient != 0 {
		r.ClientID = rapid.SampledFrom([]string{"", "a", "sensor-7"}).Draw(t, "client")
	}
	return r
}

func drawRecords(t *rapid.T) []Record {
	return rapid.SliceOfN(rapid.Custom(drawRecord), 0, 12).Draw(t, "records")
}

func TestStateApply(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s State
		m := newModel()
		for _, r := range rapid.SliceOfN(rapid.Custom(drawRecord), 0, 60).Draw(t, "records") {
			s.Apply(r)
			m.apply(r)
			if d := diffState(m.state(), s); d != "" {
				t.Fatalf("after %+v: %s", r, d)
			}
		}
	})
}

func TestDeleteAt(t *testing.T) {
	for n := 1; n < 8; n++ {
		for i := range n {
			s := make([]int, n)
			for j := range s {
				s[j] = j + 1
			}
			want := slices.Delete(slices.Clone(s), i, i+1)
			whole := s
			if got := deleteAt(s, i); !slices.Equal(got, want) {
				t.Errorf("without %d of %d: %v, want %v", i, n, got, want)
			}
			if whole[0] != 0 && whole[n-1] != 0 {
				t.Errorf("without %d of %d: %v still holds what is gone", i, n, whole)
			}
		}
	}
}

// BenchmarkStateApply is the life of one message, where n others are kept.
func BenchmarkStateApply(b *testing.B) {
	for _, n := range []int{0, 100_000} {
		b.Run(fmt.Sprintf("kept=%d", n), func(b *testing.B) {
			var s State
			for i := range n {
				s.Apply(Record{Kind: RecordMessage, Seq: uint64(i)})
			}
			b.ReportAllocs()
			for seq := uint64(n); b.Loop(); seq++ {
				s.Apply(Record{Kind: RecordMessage, Seq: seq})
				s.Apply(Record{Kind: RecordSent, Seq: seq - uint64(n), ID: 1})
				s.Apply(Record{Kind: RecordDone, Seq: seq - uint64(n)})
			}
		})
	}
}

func TestMemStoreContract(t *testing.T) {
	testStore(t, func(t *testing.T) (Store, func() Store) {
		m := &memStore{}
		return m, func() Store { m.closed = false; return m }
	})
}

// testStore is what each Store must do. open makes an empty one, and reopen
// opens it again after Close.
func testStore(t *testing.T, open func(*testing.T) (s Store, reopen func() Store)) {
	message := func(seq uint64, packet string) Record {
		return Record{Kind: RecordMessage, Seq: seq, At: uint32(1000 + seq), Packet: []byte(packet)}
	}
	cases := []struct {
		name    string
		commits [][]Record
		want    State
	}{
		{name: "nothing"},
		{name: "no records", commits: [][]Record{nil, {}}},
		{
			name:    "messages in their order",
			commits: [][]Record{{message(7, "a")}, {message(8, "b"), message(11, "")}},
			want:    State{Next: 12, Out: []Kept{{Seq: 7, At: 1007, Packet: []byte("a")}, {Seq: 8, At: 1008, Packet: []byte("b")}, {Seq: 11, At: 1011}}},
		},
		{
			name:    "an identifier, and another one",
			commits: [][]Record{{message(1, "a"), {Kind: RecordSent, Seq: 1, ID: 9}}, {{Kind: RecordSent, Seq: 1, ID: 65535}}},
			want:    State{Next: 2, Out: []Kept{{Seq: 1, At: 1001, ID: 65535, Packet: []byte("a")}}},
		},
		{
			name:    "released",
			commits: [][]Record{{message(1, "a")}, {{Kind: RecordSent, Seq: 1, ID: 9}, {Kind: RecordReleased, Seq: 1}}},
			want:    State{Next: 2, Out: []Kept{{Seq: 1, At: 1001, ID: 9, Released: true}}},
		},
		{
			name:    "done: the number is not used again",
			commits: [][]Record{{message(1, "a"), message(2, "b")}, {{Kind: RecordDone, Seq: 2}}, {{Kind: RecordDone, Seq: 1}}},
			want:    State{Next: 3},
		},
		{
			name:    "received, twice, and forgotten",
			commits: [][]Record{{{Kind: RecordReceived, ID: 5}, {Kind: RecordReceived, ID: 3}, {Kind: RecordReceived, ID: 5}, {Kind: RecordReceived, ID: 65535}}, {{Kind: RecordForgotten, ID: 5}}},
			want:    State{In: []uint16{3, 65535}},
		},
		{
			name: "another session",
			commits: [][]Record{
				{{Kind: RecordSession, ClientID: "old"}, {Kind: RecordReceived, ID: 1}, message(1, "a"), message(2, "b")},
				{{Kind: RecordSent, Seq: 1, ID: 1}, {Kind: RecordSent, Seq: 2, ID: 2}, {Kind: RecordReleased, Seq: 1}},
				{{Kind: RecordSession, ClientID: "new"}},
			},
			want: State{ClientID: "new", Next: 3, Out: []Kept{{Seq: 2, At: 1002, Packet: []byte("b")}}},
		},
		{
			name:    "what is not there",
			commits: [][]Record{{{Kind: RecordDone, Seq: 1}, {Kind: RecordSent, Seq: 2, ID: 3}, {Kind: RecordReleased, Seq: 2}, {Kind: RecordForgotten, ID: 4}}},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s, reopen := open(t)
			for _, rs := range c.commits {
				mustCommit(t, s, rs...)
			}
			for range 2 {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = reopen()
				if d := diffState(c.want, mustLoad(t, s)); d != "" {
					t.Error(d)
				}
			}
			_ = s.Close()
		})
	}
	t.Run("slices are the caller's", func(t *testing.T) {
		s, reopen := open(t)
		rs := []Record{message(1, "abc"), {Kind: RecordReceived, ID: 1}}
		mustCommit(t, s, rs...)
		copy(rs[0].Packet, "xyz")
		rs[1] = Record{}
		got := mustLoad(t, s)
		copy(got.Out[0].Packet, "xyz")
		got.In[0], got.Out[0] = 7, Kept{}
		_ = s.Close()
		s = reopen()
		want := State{Next: 2, In: []uint16{1}, Out: []Kept{{Seq: 1, At: 1001, Packet: []byte("abc")}}}
		if d := diffState(want, mustLoad(t, s)); d != "" {
			t.Error(d)
		}
		_ = s.Close()
	})
	t.Run("many messages", func(t *testing.T) {
		s, reopen := open(t)
		m := newModel()
		big := bytes.Repeat([]byte("0123456789"), 2000)
		for i := range uint64(400) {
			rs := []Record{message(i, string(big[i:])), {Kind: RecordSent, Seq: i, ID: uint16(i + 1)}, {Kind: RecordReceived, ID: uint16(i * 7)}}
			if i%3 != 0 {
				rs = append(rs, Record{Kind: RecordDone, Seq: i / 2})
			}
			m.apply(rs...)
			mustCommit(t, s, rs...)
		}
		_ = s.Close()
		s = reopen()
		if d := diffState(m.state(), mustLoad(t, s)); d != "" {
			t.Error(d)
		}
		_ = s.Close()
	})
}

func mustCommit(t testing.TB, s Store, rs ...Record) {
	t.Helper()
	if err := s.Commit(rs); err != nil {
		t.Fatal(err)
	}
}

func mustLoad(t testing.TB, s Store) State {
	t.Helper()
	st, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	return st
}
