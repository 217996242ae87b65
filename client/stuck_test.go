package client_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
)

// TestServerTakesNothing: a server that does not read is given up, although
// PINGREQ cannot leave.
func TestServerTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c, _ := fixed(t, client.Options{KeepAlive: 10 * time.Second, MinBackoff: time.Millisecond}, packet.Connack{})
		if err := c.PublishAsync(t.Context(), &client.Message{Topic: "x", QoS: 1}, nil); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		p, _ := f.accept(packet.Connack{})
		if d := time.Since(begin); d > 40*time.Second {
			t.Errorf("given up after %s", d)
		}
		expect[*packet.Publish](p)
		c.Close()
	})
}

// TestSlowServer: a server that takes a long packet slowly, but takes it, is not
// given up.
func TestSlowServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c, p := fixed(t, client.Options{KeepAlive: 10 * time.Second, MinBackoff: time.Millisecond}, packet.Connack{})
		m := &client.Message{Topic: "x", QoS: 1, Payload: make([]byte, 4<<20)}
		if err := c.PublishAsync(t.Context(), m, nil); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 20<<10)
		for left := len(m.Payload); left > 0; {
			time.Sleep(time.Second)
			n, err := p.c.Read(b)
			if err != nil {
				t.Fatalf("%d bytes before the end: %v", left, err)
			}
			left -= n
		}
		c.Close()
	})
}

// TestLongWrite: what the client publishes does not keep it from reading, which
// the server may wait for.
func TestLongWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, got := inbox()
		_, c, p := fixed(t, client.Options{KeepAlive: -1, OnMessage: h}, packet.Connack{})
		for range 2 { // one is being written, the other waits
			m := &client.Message{Topic: "x", QoS: 1, Payload: make([]byte, 8<<20)}
			if err := c.PublishAsync(t.Context(), m, nil); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		for range 100 {
			p.sendMessage(client.Message{Topic: "y"}, packet.PublishOpts{})
			next(t, got)
		}
		c.Close()
	})
}

// TestFlood: a server that asks for answers without end and does not read them
// is not read any more. It costs no more memory than that.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c, p := fixed(t, client.Options{Version: packet.V311, KeepAlive: -1}, packet.Connack{})
		b := bytes.Repeat(packet.AppendAck(nil, packet.PUBREL, packet.V311, 7, 0), 1<<14)
		taken := 0
		if err := p.c.SetWriteDeadline(time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		for taken < 64<<20 {
			n, err := p.c.Write(b)
			if taken += n; err != nil {
				break
			}
		}
		if taken > 8<<20 {
			t.Errorf("the client took %d bytes", taken)
		}
		c.Close()
	})
}
