package client_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/myelin-mqtt/myelin/broker"
	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long anything may take that is expected to come.
const patience = 20 * time.Second

func ctx(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return c
}

// serve runs a broker, and tells its URL.
func serve(t testing.TB, o broker.Options) (b *broker.Broker, url string) {
	t.Helper()
	o.NoListeners = true
	if o.Logger == nil {
		o.Logger = quiet()
	}
	b, err := broker.New(o)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := b.Serve(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { b.Close(); <-done })
	url, err = b.Listen(broker.Listener{URL: "tcp://127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	return b, url
}

// connect is a connected client, closed with the test.
func connect(t testing.TB, url string, o client.Options) *client.Client {
	t.Helper()
	if o.MaxBackoff == 0 {
		o.MinBackoff, o.MaxBackoff = time.Millisecond, 20*time.Millisecond
	}
	c, err := client.Dial(ctx(t), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// inbox is a handler that keeps what comes.
func inbox() (client.Handler, <-chan *client.Received) {
	ch := make(chan *client.Received, 1<<16)
	return func(m *client.Received) { ch <- m }, ch
}

func subscribe(t testing.TB, c *client.Client, h client.Handler, subs ...client.Subscription) {
	t.Helper()
	if _, err := c.Subscribe(ctx(t), h, subs...); err != nil {
		t.Fatal(err)
	}
}

func publish(t testing.TB, c *client.Client, topic, payload string, q packet.QoS) client.Receipt {
	t.Helper()
	r, err := c.Publish(ctx(t), &client.Message{Topic: topic, Payload: []byte(payload), QoS: q})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// next is the next message.
func next(t testing.TB, ch <-chan *client.Received) *client.Received {
	t.Helper()
	select {
	case m := <-ch:
		return m
	case <-time.After(patience):
		t.Fatal("no message came")
		return nil
	}
}

// none fails if there is a message. What might have come must have been waited for.
func none(t testing.TB, ch <-chan *client.Received) {
	t.Helper()
	select {
	case m := <-ch:
		t.Fatalf("%s came: %s", m.Topic, m.Payload)
	default:
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
