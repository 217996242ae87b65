package qos

import (
	"testing"

	"github.com/myelin-mqtt/myelin/packet"
	"pgregory.net/rapid"
)

// TestSkip: what is skipped is between the messages' identifiers, and changes
// nothing of their order, window or acknowledgement.
func TestSkip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Sender{Max: 5}
		inflight := map[uint16]bool{}
		var last uint16
		sent := func(id uint16) {
			if id == 0 {
				return
			}
			if inflight[id] || last != 0 && id <= last {
				t.Fatalf("identifier %d after %d", id, last)
			}
			inflight[id], last = true, id
		}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				want := s.Upcoming()
				if id := s.Skip(); id == 0 || id != want || inflight[id] || id <= last {
					t.Fatalf("skip %d, upcoming %d, last %d", id, want, last)
				} else {
					last = id
				}
			case 1:
				sent(s.Send(Slot{QoS: 1}))
			case 2:
				for id := range inflight {
					if _, ok := s.Ack(packet.PUBACK, id); !ok {
						t.Fatalf("%d is not in flight", id)
					}
					delete(inflight, id)
					break
				}
				if id, _, ok := s.Next(); ok {
					sent(id)
				}
			case 3:
				s.Resume(5, func(uint16) {})
				var again []uint16
				for len(again) < len(inflight) {
					id, _, ok := s.Next()
					if !ok {
						t.Fatalf("%d of %d sent again", len(again), len(inflight))
					}
					again = append(again, id)
				}
			}
			if s.Live() != len(inflight) {
				t.Fatalf("%d live, want %d", s.Live(), len(inflight))
			}
		}
	})
}

// TestSkipAll: identifiers run out, and none is given twice.
func TestSkipAll(t *testing.T) {
	s := Sender{Max: 10}
	if s.Send(Slot{QoS: 1}) != 1 {
		t.Fatal("not the first identifier")
	}
	for want := 2; want <= maxID; want++ {
		if id := s.Skip(); int(id) != want {
			t.Fatalf("%d, want %d", id, want)
		}
	}
	if id := s.Skip(); id != 0 {
		t.Errorf("%d while all are taken", id)
	}
	if _, ok := s.Ack(packet.PUBACK, 1); !ok || s.Upcoming() != 1 {
		t.Errorf("upcoming %d after all ended, want 1", s.Upcoming())
	}
}
