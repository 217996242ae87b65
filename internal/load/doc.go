// Package load puts load on an MQTT broker with the client of package client,
// measures, and checks that every message came as its quality of service
// promises. It knows ten loads: connections, publishing, subscribing, point to
// point, fan-out, fan-in, shared subscriptions, idle connections, sessions that
// are away, and requests with responses. It neither prints nor reads flags, and
// the brokers are other people's processes: comparing brokers that it starts
// itself, with a generator that shares no code with the product, is package
// bench's.
//
// What is honest about it: a message carries its publisher, a number and the
// time at which it was due, so that waiting in the generator counts as latency
// (and is printed beside the latency without it); the generator's own lag is
// measured; percentiles come from merged histograms, never from averages.
//
// Start with Plan in plan.go, which keys.go reads from flags and scenario.go
// from YAML. Run in run.go runs one: flow.go sets up loads with messages,
// measure.go watches them, worker.go sends, receive.go receives, away.go has the
// sessions that are away; ops.go has connecting and subscribing, run.go idle
// connections. conn.go is what is needed of a client. pace.go
// (when a message is due), sequence.go (lost, duplicated, out of order) and
// stamp.go (what is in a payload) are pure. record.go holds the histograms,
// result.go what a run gave, report.go, output.go and compare.go put it in words
// and files.
package load
