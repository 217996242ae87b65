package chaos

import (
	"fmt"
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
}

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
