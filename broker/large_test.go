package broker

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/myelin-mqtt/myelin/packet"
)

// Payloads that are queued by reference must be the kept ones: a subscriber
// that does not read for a while still gets the bytes that were sent.
func TestLargePayloadsToASlowReader(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		for _, q := range []packet.QoS{0, 1, 2} {
			r := start(t, Options{IO: io, SysInterval: -1, MaxOutboundBytes: 64 << 20, MaxInflightBytes: 64 << 20})
			s, u, p := r.client("s"), r.client("u"), r.client("p")
			s.subscribe("t", packet.SubOptions(q))
			u.subscribe("t", packet.SubOptions(q)) // two targets: by reference at QoS 0, too
			u.drain()
			const n, size = 500, 16 << 10
			for i := range n {
				m := packet.Message{Topic: "t", QoS: q, Payload: bytes.Repeat([]byte{byte(i)}, size)}
				p.send(pub(m, uint16(i+1)))
				if q == 2 {
					p.send(&packet.Ack{Kind: packet.PUBREL, ID: uint16(i + 1)})
				}
			}
			p.send(&packet.Pingreq{})
			for {
				if p.next().Type() == packet.PINGRESP {
					break
				}
			}
			for i := range n {
				x := expect[*packet.Publish](s)
				if want := bytes.Repeat([]byte{byte(i)}, size); !bytes.Equal(x.Payload(), want) {
					t.Fatalf("QoS %d: message %d came with other bytes: %s", q, i, fmt.Sprintf("%.20x", x.Payload()))
				}
			}
			r.stop()
		}
	})
}
