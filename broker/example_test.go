package broker_test

import (
	"context"
	"fmt"

	"github.com/myelin-mqtt/myelin/broker"
)

// A program with a broker of its own: it listens on a free port of the
// loopback, and the program publishes and subscribes in process.
func Example() {
	b, err := broker.New(broker.Options{Listeners: []broker.Listener{{URL: "tcp://127.0.0.1:0"}}})
	if err != nil {
		panic(err)
	}
	go b.Serve(context.Background())
	defer b.Close()

	got := make(chan string)
	b.Subscribe("home/+/temperature", broker.SubscribeOptions{}, func(m *broker.Message) { got <- string(m.Payload) })
	b.Publish(context.Background(), broker.Message{Topic: "home/heater/temperature", Payload: []byte("21.5")})
	fmt.Println(<-got)
	// Output: 21.5
}
