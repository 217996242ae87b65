package disk

import (
	"reflect"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/myelin-mqtt/myelin/packet"
)

// TestBacklog compares with a slice.
func TestBacklog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l backlog
		var want []ref
		lsn, bytes := uint64(0), 0
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			if rapid.IntRange(0, 2).Draw(t, "do") > 0 {
				lsn += rapid.Uint64Range(1, 1<<rapid.IntRange(0, 40).Draw(t, "gap")).Draw(t, "far")
				r := ref{lsn: lsn, size: rapid.Uint32().Draw(t, "size")}
				r.qos, r.flags = packet.QoS(rapid.IntRange(0, 2).Draw(t, "qos")), uint8(rapid.IntRange(0, 3).Draw(t, "flags"))
				switch rapid.IntRange(0, 3).Draw(t, "subs") {
				case 0:
					r.sub = rapid.Uint32Range(1, 268_435_455).Draw(t, "sub")
				case 1:
					ids := rapid.SliceOfN(rapid.Uint32(), 2, 40).Draw(t, "more")
					r.more = &ids
				}
				l.push(&r)
				want = append(want, r)
				bytes += int(r.size)
			} else if len(want) > 0 {
				if got := l.head(); got != want[0].lsn {
					t.Fatalf("the first is %d, want %d", got, want[0].lsn)
				}
				if got := l.pop(); !reflect.DeepEqual(got, want[0]) {
					t.Fatalf("%+v comes out, want %+v", got, want[0])
				}
				bytes -= int(want[0].size)
				want = want[1:]
			}
			if l.n != len(want) || l.n > 0 && l.bytes != bytes {
				t.Fatalf("%d messages of %d bytes, want %d of %d", l.n, l.bytes, len(want), bytes)
			}
		}
		i := 0
		for p := l.walk(); p.left > 0; i++ {
			if got := p.next(); !reflect.DeepEqual(got, want[i]) {
				t.Fatalf("%+v at %d, want %+v", got, i, want[i])
			}
		}
		if i != len(want) {
			t.Fatalf("%d are walked over, want %d", i, len(want))
		}
	})
}

// TestBacklogSize: a reference takes few bytes, and what was taken out none.
func TestBacklogSize(t *testing.T) {
	var l backlog
	count := func() (n int) {
		for c := l.first; c != nil; c = c.next {
			n += cap(c.b) + int(unsafe.Sizeof(*c))
		}
		return n
	}
	for i := range uint64(10_000) {
		r := ref{lsn: 1 + 1000*i, size: 300, how: how{qos: 1}}
		l.push(&r)
	}
	if got := count(); got > 6*10_000 {
		t.Errorf("10,000 references take %d bytes", got)
	}
	for range 9_990 {
		l.pop()
	}
	if got := count(); got > 3*maxChunk {
		t.Errorf("10 references take %d bytes", got)
	}
	if n := unsafe.Sizeof(queue{}); n > 96 {
		t.Errorf("a session takes %d bytes", n)
	}
}
