// Package broker is the MQTT broker: versions 3.1, 3.1.1 and 5.0, every
// quality of service, over the connections that internal/transport brings. A
// Go program embeds it with New and Serve, and publishes and subscribes in
// process.
//
// The package is the shell around pure parts: packet reads and writes bytes,
// session says what a packet does to a client's state, route finds who gets a
// message, store keeps what must survive. Here these are put together, in one
// order: match, commit, acknowledge, deliver.
//
// Start reading with conn.go, a connection and its packets; then connect.go,
// publish.go (the order above), deliver.go, subscribe.go, and registry.go for
// who owns a session. Options are in options.go.
package broker
