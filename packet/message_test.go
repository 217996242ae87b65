package packet

import (
	"strings"
	"testing"
)

// TestMessageAllocations: a message that is only sent costs none, and one that
// is kept its bytes and its view.
func TestMessageAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	long := strings.Repeat("level/", 20)
	m := Message{Topic: long, Payload: []byte(long), QoS: 1, ContentType: long, ResponseTopic: long, User: []UserProperty{{long, long}}}
	buf := make([]byte, 0, 2048)
	if n := testing.AllocsPerRun(100, func() {
		if m.Check() != nil {
			t.Fatal("refused")
		}
		buf = AppendMessage(buf[:0], &m, V5, PublishOpts{QoS: 1, ID: 1, Alias: 2, OmitTopic: true})
	}); n != 0 {
		t.Errorf("%v allocations to send, want none", n)
	}
	var p *Publish
	if n := testing.AllocsPerRun(100, func() { p, _ = NewPublish(&m, 0) }); n != 2 {
		t.Errorf("%v allocations to keep %v, want 2", n, p)
	}
}
