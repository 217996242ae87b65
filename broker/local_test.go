package broker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/myelin-mqtt/myelin/packet"
)

func TestInProcess(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		r := start(t, Options{IO: io, SysInterval: -1})
		ctx := context.Background()
		if err := r.Publish(ctx, Message{Topic: "a/kept", Payload: []byte("retained"), Retain: true, QoS: 1}); err != nil {
			t.Fatal(err)
		}
		got := make(chan *Message, 10)
		s, err := r.Subscribe("a/#", SubscribeOptions{}, func(m *Message) { got <- m })
		if err != nil {
			t.Fatal(err)
		}
		if m := <-got; string(m.Payload) != "retained" || !m.Retain {
			t.Errorf("got %+v", m)
		}
		p := r.client("p")
		p.send(pub(packet.Message{Topic: "a/b", Payload: []byte("x"), QoS: 2, ContentType: "text", User: []packet.UserProperty{{Key: "k", Value: "v"}}}, 1))
		if x := expect[*packet.Ack](p); x.Code != packet.Success {
			t.Errorf("an in-process subscriber counts: %v", x)
		}
		if m := <-got; m.Topic != "a/b" || m.QoS != 2 || m.ContentType != "text" || len(m.User) != 1 {
			t.Errorf("got %+v", m)
		}
		p.subscribe("b", 1)
		if err := r.Publish(ctx, Message{Topic: "b", Payload: []byte("y"), QoS: 1}); err != nil {
			t.Fatal(err)
		}
		if x := expect[*packet.Publish](p); string(x.Payload()) != "y" || x.QoS() != 1 {
			t.Errorf("got %v", x)
		}
		s.Close()
		if err := r.Publish(ctx, Message{Topic: "a/b"}); err != nil {
			t.Fatal(err)
		}
		select {
		case m := <-got:
			t.Errorf("after Close: %+v", m)
		default:
		}
		if err := r.Publish(ctx, Message{Topic: "a/+"}); err == nil {
			t.Error("a wildcard was published to")
		}
		if _, err := r.Subscribe("a/#/b", SubscribeOptions{}, nil); err == nil {
			t.Error("a bad filter was subscribed to")
		}
		r.stop()
		if err := r.Publish(ctx, Message{Topic: "a"}); !errors.Is(err, ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// What an in-process subscriber does not take in time is counted.
func TestSlowInProcessSubscriber(t *testing.T) {
	var dropped atomic.Int32
	r := start(t, Options{SysInterval: -1, Events: Events{Dropped: func(_, _ string, why DropReason) {
		if why == DropSubscriber {
			dropped.Add(1)
		}
	}}})
	block, taken := make(chan struct{}), make(chan struct{}, 100)
	s, err := r.Subscribe("t", SubscribeOptions{Queue: 2}, func(*Message) { taken <- struct{}{}; <-block })
	if err != nil {
		t.Fatal(err)
	}
	publish := func(i int) {
		if err := r.Publish(context.Background(), Message{Topic: "t", Payload: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	publish(0)
	<-taken
	for i := range 5 {
		publish(i)
	}
	if n := dropped.Load(); n != 3 {
		t.Errorf("%d dropped, want 3", n)
	}
	close(block)
	s.Close()
}
