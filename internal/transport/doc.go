// Package transport moves bytes between sockets and a [Handler]: listeners, connections, output queues, deadlines and the
// goroutines that drive them. It knows nothing of MQTT and imports nothing of this module but its own sub-package ws.
//
// A connection has one owner at a time, the one goroutine that may call the Handler for it. Two drivers decide who that is.
// The reactor (Linux) runs a few loops, each with an epoll of its own whose descriptor is parked in Go's netpoller, so that
// neither a thread nor a goroutine waits for any one connection. The goroutine driver (everywhere) parks one goroutine per
// connection. Everything else is common to both.
//
// A turn is what an owner does between two waits: read, feed, run what others posted, and then write each connection that
// got output once. [Turn] carries its state; whoever holds one may append to any connection.
//
// Where to start reading: handler.go (the contract), conn.go (a connection's public half), input.go and output.go (the two
// directions), end.go (how it ends), loop.go (mailbox and turn), reactor_linux.go and goroutine.go (the drivers),
// server.go and listen.go (how it all starts and stops).
package transport
