// Package client is an MQTT client for 5.0 and 3.1.1: it connects, comes back
// when the connection breaks, publishes at each quality of service, subscribes,
// and asks and answers. It holds one client's session; it is not a broker, and
// it does not print.
//
//	c, err := client.Dial(ctx, "mqtt://localhost:1883", client.Options{})
//	if err != nil { ... }
//	defer c.Close()
//	_, err = c.Subscribe(ctx, func(m *client.Received) { fmt.Println(m.Topic, string(m.Payload)) },
//		client.Filter("sensors/#", 1))
//	_, err = c.Publish(ctx, &client.Message{Topic: "sensors/7", Payload: []byte("21.5"), QoS: 1})
//
// A client has two goroutines as long as it lives, one that connects and reads
// and one that writes, and a third while there are messages for its handlers.
//
// Start with Options in options.go and Client in client.go. Then run.go (the
// life of connections), write.go (what leaves), read.go (what arrives),
// publish.go, subscribe.go, dispatch.go (handlers), request.go, and store.go,
// with the file that keeps a session across the death of the program in
// file.go.
package client
