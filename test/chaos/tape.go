package chaos

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
)

// tape keeps a client's last packets, to be read where a run fails.
type tape struct {
	mu   sync.Mutex
	n    int
	last [60]client.PacketEvent
	ends map[string]int // errors that ended connections
}

// ports are what differs in errors that are the same.
var ports = regexp.MustCompile(`127\.0\.0\.1:\d+(->)?`)

// add is a client.Trace's Packet.
func (t *tape) add(e client.PacketEvent) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := &t.last[t.n%len(t.last)]
	b := append(x.Bytes[:0], e.Bytes...)
	*x = e
	x.Bytes = b
	t.n++
}

// state is a client.Options' OnState.
func (t *tape) state(e client.StateEvent) {
	if e.State != client.Waiting || e.Err == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ends == nil {
		t.ends = map[string]int{}
	}
	t.ends[ports.ReplaceAllString(e.Err.Error(), "")]++
}

// breaks tells why the connections ended, and how often.
func (t *tape) breaks() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var s strings.Builder
	for _, why := range slices.Sorted(maps.Keys(t.ends)) {
		fmt.Fprintf(&s, "\n%4d %s", t.ends[why], why)
	}
	return s.String()
}

func (t *tape) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var s strings.Builder
	for i := max(0, t.n-len(t.last)); i < t.n; i++ {
		e := &t.last[i%len(t.last)]
		way := "<-"
		if e.Sent {
			way = "->"
		}
		p, _, err := packet.Parse(e.Bytes, 0, e.Version)
		if err != nil {
			fmt.Fprintf(&s, "\n%s %s %v", e.At.Format(time.StampMicro), way, err)
			continue
		}
		text := fmt.Sprint(p)
		fmt.Fprintf(&s, "\n%s %s %s", e.At.Format(time.StampMicro), way, text[:min(len(text), 200)])
	}
	return s.String()
}
