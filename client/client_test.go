package client_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/myelin-mqtt/myelin/broker"
	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
)

var versions = []packet.Version{packet.V311, packet.V5}

func TestRoundTrip(t *testing.T) {
	_, url := serve(t, broker.Options{})
	for _, v := range versions {
		for q := packet.QoS(0); q <= 2; q++ {
			t.Run(fmt.Sprint(v, q), func(t *testing.T) {
				c := connect(t, url, client.Options{Version: v})
				h, got := inbox()
				codes, err := c.Subscribe(ctx(t), h, client.Filter("a/+", q))
				if err != nil || len(codes) != 1 || codes[0] != packet.Reason(q) {
					t.Fatalf("%v, %v", codes, err)
				}
				for i := range 100 {
					if r := publish(t, c, "a/b", fmt.Sprint(i), q); r.Code.Failed() || (r.PacketID == 0) != (q == 0) {
						t.Fatalf("%+v", r)
					}
				}
				for i := range 100 {
					if m := next(t, got); string(m.Payload) != fmt.Sprint(i) || m.Topic != "a/b" || m.QoS != q || m.Dup || m.At.IsZero() {
						t.Fatalf("message %d: %+v", i, m)
					}
				}
				if err := c.Unsubscribe(ctx(t), "a/+"); err != nil {
					t.Fatal(err)
				}
				publish(t, c, "a/b", "late", q)
				if err := c.Disconnect(ctx(t)); err != nil {
					t.Fatal(err)
				}
				none(t, got)
				if s := c.Stats(); s.Unhandled != 0 || s.Inflight != 0 || s.Unwanted != 0 || s.Arrived != 100 || s.Sent != 101 {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

func TestAsyncOrder(t *testing.T) {
	_, url := serve(t, broker.Options{Queue: broker.QueueOptions{MaxMessages: 1 << 20}})
	for q := packet.QoS(0); q <= 2; q++ {
		c := connect(t, url, client.Options{})
		h, got := inbox()
		subscribe(t, c, h, client.Filter("x", 2))
		const n = 20_000
		acked := make(chan error, n)
		for i := range n {
			m := client.Message{Topic: "x", Payload: []byte(fmt.Sprint(i)), QoS: q}
			if err := c.PublishAsync(ctx(t), &m, func(_ client.Receipt, err error) { acked <- err }); err != nil {
				t.Fatal(err)
			}
		}
		for i := range n {
			if m := next(t, got); string(m.Payload) != fmt.Sprint(i) {
				t.Fatalf("QoS %d: %s, want %d", q, m.Payload, i)
			}
		}
		for range n {
			if err := <-acked; err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestReconnect: what was in flight when the connection broke arrives, and
// subscriptions stand, whether the server had the session or not.
func TestReconnect(t *testing.T) {
	for _, v := range versions {
		for _, expiry := range []time.Duration{0, time.Hour} {
			t.Run(fmt.Sprint(v, expiry), func(t *testing.T) {
				b, url := serve(t, broker.Options{})
				states, back := make(chan client.StateEvent, 1000), make(chan bool, 1000)
				c := connect(t, url, client.Options{
					Version: v, ClientID: "dev", SessionExpiry: expiry, OnState: func(e client.StateEvent) {
						states <- e
						if e.State == client.Connected {
							back <- true
						}
					},
				})
				h, got := inbox()
				subscribe(t, c, h, client.Filter("r", 1))
				for i := range 5 {
					<-back
					for !b.Disconnect("dev", packet.AdministrativeAction) {
					}
					publish(t, c, "r", fmt.Sprint(i), 1)
					m := next(t, got)
					for m.Dup && string(m.Payload) == fmt.Sprint(i-1) { // its PUBACK was lost
						m = next(t, got)
					}
					if string(m.Payload) != fmt.Sprint(i) {
						t.Fatalf("%s, want %d", m.Payload, i)
					}
				}
				<-back
				c.Close()
				var lost *client.ReasonError
				connects, waits := 0, 0
				for len(states) > 0 {
					e := <-states
					switch e.State {
					case client.Connected:
						if e.SessionPresent != (connects > 0 && expiry > 0) {
							t.Errorf("connection %d: session present is %t", connects, e.SessionPresent)
						}
						connects++
					case client.Waiting:
						if v == packet.V5 && !errors.As(e.Err, &lost) {
							t.Errorf("why: %v", e.Err)
						}
						waits++
					}
				}
				if connects != 6 || waits != connects-1 {
					t.Errorf("%d connects, %d waits", connects, waits)
				}
			})
		}
	}
}

func TestRequests(t *testing.T) {
	_, url := serve(t, broker.Options{})
	for _, v := range versions {
		t.Run(v.String(), func(t *testing.T) {
			dev := connect(t, url, client.Options{Version: v})
			err := dev.Respond(ctx(t), client.Filter("heater/+", 1), func(m *client.Received) *client.Message {
				return &client.Message{Payload: append([]byte("re "), m.Payload...), QoS: 1}
			})
			if err != nil {
				t.Fatal(err)
			}
			c := connect(t, url, client.Options{Version: v})
			for i := range 20 {
				a, err := c.Request(ctx(t), &client.Message{Topic: "heater/7", Payload: []byte(fmt.Sprint(i)), QoS: 1})
				if err != nil || string(a.Payload) != fmt.Sprint("re ", i) {
					t.Fatalf("%v, %v", a, err)
				}
			}
		})
	}
	c := connect(t, url, client.Options{})
	var r *client.ReasonError
	if _, err := c.Request(ctx(t), &client.Message{Topic: "nobody", QoS: 1}); !errors.As(err, &r) || r.Code != packet.NoMatchingSubscribers {
		t.Errorf("nobody answers: %v", err)
	}
}
