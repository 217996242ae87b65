// Package chaos has two clients, a publisher and a subscriber, send messages
// through connections that break at bytes that a seed decides, and holds what
// came against what was given. It knows the client library from outside, and no
// broker but its address. It is for tests.
//
// Start with Load in load.go, then run.go, a run from its first message to its
// account; actor.go is a client with its lives, mortal.go a store that ends one.
package chaos
