package packet

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestHostile is bad input that has broken other brokers: each is refused with the code that the standard names.
func TestHostile(t *testing.T) {
	for _, c := range []struct {
		name string
		v    Version
		b    string
		max  int
		code Reason
	}{
		{"CONNECT that announces 256 MB", V311, `10 ffffff7f 0004 'MQTT' 04`, 64 << 10, PacketTooLarge},
		{"first packet of 256 MB that is no CONNECT", V311, `30 ffffff7f`, 64 << 10, PacketTooLarge},
		{"remaining length of five bytes", V5, `30 ffffffff01`, 0, MalformedPacket},
		{"property length of five bytes", V5, `10 {"MQTT" 05 02 003c 8080808001 "id"}`, 0, MalformedPacket},
		{"subscription identifier of five bytes", V5, `82 {0005 {0b 8080808001} "a" 00}`, 0, MalformedPacket},
		{"property length beyond the packet", V5, `30 {"a" ffffff7f}`, 0, MalformedPacket},
		{"string length beyond the packet", V5, `82 {0005 {} ffff 'a' 00}`, 0, MalformedPacket},
		{"string length beyond the properties", V5, `30 {"a" {26 "k" 0005 'v'} 'payload'}`, 0, MalformedPacket},
		{"empty topic", V311, `30 {"" 'x'}`, 0, ProtocolError},
		{"empty topic without an alias", V5, `30 {"" {} 'x'}`, 0, ProtocolError},
		{"wildcard topic", V5, `30 {"$SYS/#" {} 'x'}`, 0, TopicNameInvalid},
		{"wildcard will topic", V5, `10 {"MQTT" 05 04 003c {} "id" {} "+" ""}`, 0, TopicNameInvalid},
		{"will with properties of something else", V5, `10 {"MQTT" 05 04 003c {} "id" {21 0001} "t" ""}`, 0, MalformedPacket},
		{"will that is cut off", V5, `10 {"MQTT" 05 04 003c {} "id" {26 "k" "v"} "t"}`, 0, MalformedPacket},
		{"will flags without a will", V5, `10 {"MQTT" 05 38 003c {} "id"}`, 0, MalformedPacket},
		{"NUL in a client identifier", V5, `10 {"MQTT" 05 02 003c {} 0003 610062}`, 0, MalformedPacket},
		{"surrogates in a user property", V5, `30 {"a" {26 0003 eda080 "v"} 'x'}`, 0, MalformedPacket},
		{"overlong slash in a topic", V311, `30 {0003 61c0af 'x'}`, 0, MalformedPacket},
		{"identifier 0", V5, `32 {"a" 0000 {} 'x'}`, 0, ProtocolError},
		{"PUBREL of nothing", V311, `62 {}`, 0, MalformedPacket},
		{"SUBSCRIBE of nothing", V311, `82 {0001}`, 0, ProtocolError},
		{"filter without options", V311, `82 {0001 "a" 00 "b"}`, 0, MalformedPacket},
		{"PINGREQ with a body", V311, `c0 {00}`, 0, MalformedPacket},
		{"packet type 15 in 3.1.1", V311, `f0 {}`, 0, MalformedPacket},
		{"receive maximum 0", V5, `10 {"MQTT" 05 02 003c {21 0000} "id"}`, 0, ProtocolError},
	} {
		b, err := assemble(c.b)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = Parse(b, c.max, c.v)
		var e *Error
		if !errors.As(err, &e) || e.Code != c.code {
			t.Errorf("%s: %v, want %v", c.name, err, c.code)
		}
	}
}

// densePackets are packets of about n bytes in which as much as possible is said per byte.
func densePackets(n int) map[string][]byte {
	repeat := func(s string, each int) string { return strings.Repeat(s+" ", n/each) }
	dense := map[string]string{
		"CONNECT user properties":   fmt.Sprintf(`10 {"MQTT" 05 02 003c {%s} "id"}`, repeat(`26 0000 0000`, 5)),
		"CONNECT will properties":   fmt.Sprintf(`10 {"MQTT" 05 06 003c {} "id" {%s} "t" ""}`, repeat(`26 0000 0000`, 5)),
		"PUBLISH user properties":   fmt.Sprintf(`30 {"a" {%s} 'x'}`, repeat(`26 0000 0000`, 5)),
		"PUBLISH identifiers":       fmt.Sprintf(`30 {"a" {%s} 'x'}`, repeat(`0b 01`, 2)),
		"PUBACK user properties":    fmt.Sprintf(`40 {0005 00 {%s}}`, repeat(`26 0000 0000`, 5)),
		"SUBSCRIBE filters":         fmt.Sprintf(`82 {0005 {} %s}`, repeat(`0000 00`, 3)),
		"SUBSCRIBE short filters":   fmt.Sprintf(`82 {0005 {} %s}`, repeat(`"ab" 00`, 5)),
		"UNSUBSCRIBE filters":       fmt.Sprintf(`a2 {0005 {} %s}`, repeat(`0000`, 2)),
		"UNSUBSCRIBE short filters": fmt.Sprintf(`a2 {0005 {} %s}`, repeat(`"ab"`, 4)),
		"SUBACK codes":              fmt.Sprintf(`90 {0005 {} %s}`, repeat(`00`, 1)),
		"UNSUBACK codes":            fmt.Sprintf(`b0 {0005 {} %s}`, repeat(`00`, 1)),
		"DISCONNECT properties":     fmt.Sprintf(`e0 {00 {%s}}`, repeat(`26 0001 61 0001 62`, 7)),
	}
	out := map[string][]byte{}
	for name, s := range dense {
		b, err := assemble(s)
		if err != nil {
			panic(err)
		}
		out[name] = b
	}
	return out
}

// TestMemory: what a packet costs to parse is a small multiple of its bytes, however they are spent. The factor is that of
// an empty string in a growing slice.
func TestMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	const factor = 48
	for name, b := range densePackets(100_000) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		p, n, err := Parse(b, 0, V5)
		runtime.ReadMemStats(&after)
		if err != nil || n != len(b) {
			t.Errorf("%s: %d of %d bytes, %v", name, n, len(b), err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > factor*uint64(len(b)) {
			t.Errorf("%s: %d bytes of packet took %d bytes of memory, want at most %d times as much", name, len(b), got, factor)
		}
		runtime.KeepAlive(p)
	}
	// A packet that announces what it does not have takes nothing.
	lie, _ := assemble(`82 {0005 {} ffff 'a' 00}`)
	if got := testing.AllocsPerRun(100, func() { _, _, _ = Parse(lie, 0, V5) }); got > 3 {
		t.Errorf("a cut filter took %v allocations", got)
	}
}

// TestLinearTime: ten times the bytes take about ten times as long, not a hundred times.
func TestLinearTime(t *testing.T) {
	if raceEnabled || testing.Short() {
		t.Skip("measures time")
	}
	const small, times = 6_000, 16
	best := func(b []byte) time.Duration {
		least := time.Hour
		for range 15 {
			start := time.Now()
			if _, _, err := Parse(b, 0, V5); err != nil {
				t.Fatal(err)
			}
			least = min(least, time.Since(start))
		}
		return least
	}
	long := densePackets(small * times)
	for name, b := range densePackets(small) {
		// Collections and a busy machine are no reason to fail; a square of the bytes is.
		if one, many := best(b), best(long[name]); many > one*times*8+2*time.Millisecond {
			t.Errorf("%s: %d bytes take %v, %d bytes take %v", name, len(b), one, len(long[name]), many)
		}
	}
}

// TestLongTopics: 65,535 bytes of one character each, in every place that has a topic.
func TestLongTopics(t *testing.T) {
	for _, c := range []string{"/", "a", "$", "+/", "é"} {
		topic := strings.Repeat(c, maxField/len(c))
		good := !strings.Contains(c, "+")
		for _, v := range versions {
			body := writer{}
			body.text(topic)
			if v >= V5 {
				body.u8(0)
			}
			b := append(appendVarint([]byte{0x30}, body.n), body.b...)
			if p, _, err := Parse(b, 0, v); (err == nil) != good || good && string(p.(*Publish).Topic()) != topic {
				t.Errorf("PUBLISH to %d of %q in %v: %v", maxField, c, v, err)
			}
			checkPacket(t, (&Subscribe{ID: 1, Filters: []Subscription{{Filter: topic}}}).Append(nil, v), v)
			checkPacket(t, (&Connect{Version: v, Will: &Will{Message: Message{Topic: topic}}}).Append(nil, v), v)
		}
	}
}

// TestShared: a kept message is read by many at once. The race detector watches.
func TestShared(t *testing.T) {
	kept := publish(t, V5, everyProp).Keep(5)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			var e Encoder
			for n := range 50 {
				e.Reset(kept, uint32(n))
				for f := range Form(forms) {
					e.Frame(f)
				}
				o := PublishOpts{QoS: 1, ID: uint16(i + 1), SubIDs: []uint32{uint32(i + 1)}, Expiry: 9}
				if b := AppendPublish(nil, kept, V5, o); len(b) != SizePublish(kept, V5, o) {
					t.Error("size")
				}
				_ = kept.String()
				kept.Left(uint32(n))
				kept.Keep(7)
			}
		})
	}
	wg.Wait()
}
