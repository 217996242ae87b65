package qos

import (
	"fmt"
	"slices"
	"testing"

	"github.com/myelin-mqtt/myelin/packet"
)

// TestRestore: what the store kept has its identifiers and its order, is sent
// again with DUP or by its PUBREL, and what is new comes behind.
func TestRestore(t *testing.T) {
	for _, first := range []uint16{1, 7, 65533} {
		t.Run(fmt.Sprint(first), func(t *testing.T) {
			id := func(n int) uint16 { return uint16((int(first)-1+n)%maxID + 1) }
			var s Sender
			a, b := message(t, "a", 10), message(t, "b", 20)
			for _, x := range []struct {
				n int
				x Slot
			}{
				{0, Slot{LSN: 1, Msg: a, QoS: 2, State: Sent, Flags: Durable}},
				{2, Slot{LSN: 2, QoS: 2, State: Released, Flags: Durable}},
				{5, Slot{LSN: 3, Msg: b, QoS: 2, State: Sent, Flags: Durable}},
			} {
				if !s.Restore(id(x.n), x.x) {
					t.Fatalf("%d is refused", x.n)
				}
			}
			if s.Restore(0, Slot{}) || s.Restore(id(2), Slot{}) {
				t.Error("0, or an identifier that is taken, is restored")
			}
			if s.Live() != 3 || s.Bytes != (&Slot{Msg: a}).size()+(&Slot{Msg: b}).size() {
				t.Errorf("%d in flight, %d bytes", s.Live(), s.Bytes)
			}
			var release []uint16
			s.Resume(10, func(id uint16) { release = append(release, id) })
			if !slices.Equal(release, []uint16{id(2)}) {
				t.Errorf("PUBREL for %d, want %d", release, id(2))
			}
			for _, want := range []int{0, 5} {
				got, x, ok := s.Next()
				if !ok || got != id(want) || x.Flags&Resend == 0 {
					t.Fatalf("Next: %d %+v %v, want %d", got, x, ok, id(want))
				}
			}
			if _, _, ok := s.Next(); ok {
				t.Error("there is one more")
			}
			if got := s.Send(Slot{Msg: a, QoS: 1}); got != id(6) {
				t.Errorf("a new one has %d, want %d", got, id(6))
			}
			if _, r := s.Record(id(0), false); r != Release {
				t.Errorf("PUBREC: %v", r)
			}
			for _, n := range []int{0, 2} {
				if x, ok := s.Ack(packet.PUBCOMP, id(n)); !ok || x.Flags&Durable == 0 {
					t.Errorf("PUBCOMP for %d: %+v %v", n, x, ok)
				}
			}
			if _, r := s.Record(id(5), false); r != Release {
				t.Errorf("PUBREC: %v", r)
			}
			s.Ack(packet.PUBCOMP, id(5))
			s.Ack(packet.PUBACK, id(6))
			if s.Live() != 0 || s.win.n != 0 || s.Bytes != 0 || s.out != 0 {
				t.Errorf("left: %+v", s)
			}
		})
	}
}
