package client_test

import (
	"fmt"
	"testing"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
)

// BenchmarkPublish is what the client does for a message, up to the network and
// from it: with a callback for each acknowledgement, and waiting for each.
func BenchmarkPublish(b *testing.B) {
	m := client.Message{Topic: "bench/some/topic", Payload: make([]byte, 64)}
	for _, v := range versions {
		for q := packet.QoS(0); q <= 2; q++ {
			m.QoS = q
			b.Run(fmt.Sprintf("async/v%s/q%d", v, q), func(b *testing.B) {
				c, _ := connectEcho(b, client.Options{Version: v})
				bg := b.Context()
				last := make(chan error, 1)
				n := 0 // done is called in order
				done := func(_ client.Receipt, err error) {
					if n++; n == b.N || err != nil {
						last <- err
					}
				}
				b.ReportAllocs()
				b.ResetTimer()
				for range b.N {
					if err := c.PublishAsync(bg, &m, done); err != nil {
						b.Fatal(err)
					}
				}
				if err := <-last; err != nil {
					b.Fatal(err)
				}
			})
			b.Run(fmt.Sprintf("wait/v%s/q%d", v, q), func(b *testing.B) {
				c, _ := connectEcho(b, client.Options{Version: v})
				bg := b.Context()
				b.ReportAllocs()
				for b.Loop() {
					if _, err := c.Publish(bg, &m); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkReceive is what the client does for a message that comes, up to the
// handler's call and the acknowledgement.
func BenchmarkReceive(b *testing.B) {
	for _, inline := range []bool{false, true} {
		for _, v := range versions {
			for q := packet.QoS(0); q <= 1; q++ {
				b.Run(fmt.Sprintf("inline=%t/v%s/q%d", inline, v, q), func(b *testing.B) {
					c, f := connectEcho(b, client.Options{Version: v, Inline: inline})
					last := make(chan bool, 1)
					n := 0
					subscribe(b, c, func(*client.Received) {
						if n++; n == b.N {
							last <- true
						}
					}, client.Filter("bench/#", 1))
					const batch = 100
					block := publishes(b, v, q, batch)
					b.ReportAllocs()
					b.ResetTimer()
					for sent := 0; sent < b.N; sent += batch {
						if q > 0 { // the Receive Maximum is 256
							f.until(func() bool { return f.acks >= sent-batch })
						}
						f.send(block)
					}
					<-last
				})
			}
		}
	}
}

// publishes are n PUBLISH packets as a server sends them.
func publishes(t testing.TB, v packet.Version, q packet.QoS, n int) (b []byte) {
	m, err := packet.NewPublish(&packet.Message{Topic: "bench/some/topic", Payload: make([]byte, 64)}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		o := packet.PublishOpts{QoS: q, ID: uint16(i + 1)}
		if v >= packet.V5 {
			o.SubIDs = []uint32{1}
		}
		b = packet.AppendPublish(b, m, v, o)
	}
	return b
}
