package client_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/myelin-mqtt/myelin/broker"
	"github.com/myelin-mqtt/myelin/client"
)

// A client that publishes, and hears what it publishes, with a broker in the
// same program.
func Example() {
	b, err := broker.New(broker.Options{NoListeners: true, Logger: quiet()})
	if err != nil {
		log.Fatal(err)
	}
	go b.Serve(context.Background())
	defer b.Close()
	url, err := b.Listen(broker.Listener{URL: "tcp://127.0.0.1:0"})
	if err != nil {
		log.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, url, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	got := make(chan *client.Received)
	if _, err := c.Subscribe(ctx, func(m *client.Received) { got <- m }, client.Filter("heater/+/temperature", 1)); err != nil {
		log.Fatal(err)
	}
	if _, err := c.Publish(ctx, &client.Message{Topic: "heater/7/temperature", Payload: []byte("21.5"), QoS: 2}); err != nil {
		log.Fatal(err)
	}
	m := <-got
	fmt.Printf("%s: %s, at %s\n", m.Topic, m.Payload, m.QoS)
	if err := c.Disconnect(ctx); err != nil {
		log.Fatal(err)
	}
	// Output: heater/7/temperature: 21.5, at q1
}

// A device that answers requests, and somebody who asks it.
func ExampleClient_Request() {
	b, err := broker.New(broker.Options{NoListeners: true, Logger: quiet()})
	if err != nil {
		log.Fatal(err)
	}
	go b.Serve(context.Background())
	defer b.Close()
	url, err := b.Listen(broker.Listener{URL: "tcp://127.0.0.1:0"})
	if err != nil {
		log.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	device, err := client.Dial(ctx, url, client.Options{ClientID: "heater"})
	if err != nil {
		log.Fatal(err)
	}
	defer device.Close()
	err = device.Respond(ctx, client.Filter("heater/ask", 1), func(m *client.Received) *client.Message {
		return &client.Message{Payload: []byte("21.5"), QoS: 1}
	})
	if err != nil {
		log.Fatal(err)
	}

	c, err := client.Dial(ctx, url, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	answer, err := c.Request(ctx, &client.Message{Topic: "heater/ask", QoS: 1})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(answer.Payload))
	// Output: 21.5
}

// A publisher whose messages survive the death of the program: what was not
// acknowledged is sent when it runs again.
func ExampleOpenFile() {
	dir, err := os.MkdirTemp("", "session")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	session, err := client.OpenFile(dir, client.FileOptions{})
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.New(client.Options{
		Servers:  []string{"mqtts://broker.example"},
		ClientID: "meter-7", SessionExpiry: 24 * time.Hour,
		Store:        session,
		RetryConnect: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	// It is on disk when PublishAsync returns, whether there is a connection or not.
	if err := c.PublishAsync(context.Background(), &client.Message{Topic: "meter/7", Payload: []byte("42"), QoS: 2}, nil); err != nil {
		log.Fatal(err)
	}
	// Here the program would call c.Connect. This one ends.
	c.Close()
	session.Close()

	if session, err = client.OpenFile(dir, client.FileOptions{}); err != nil {
		log.Fatal(err)
	}
	defer session.Close()
	kept, err := session.Load()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(kept.Out), "message waits for its acknowledgement")
	// Output: 1 message waits for its acknowledgement
}
