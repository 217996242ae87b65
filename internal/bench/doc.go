// Package bench measures MQTT brokers side by side: it starts each as a process of its own on one core, loads it from
// another, and counts what arrives, what that cost the broker in CPU time, and what the broker keeps in memory.
//
// The load generator is one thread with one epoll that writes and reads the few packets it needs by itself and batches
// both ways, so that it is not what is measured. It shares no code with the product: a mistake in the product's packets
// cannot hide here. Every message carries its publisher, a sequence number and the time at which it was due; a message
// that is lost, comes twice or comes in the wrong order fails the run.
//
// Start reading at loads.go (what is measured), then run.go (in which order), flow.go (a load with messages), hold.go (a
// load that only holds connections and subscriptions) and trial.go (what outlives connections and the process: kill -9,
// restarts; offline.go has the sessions that are away, retained.go the retained messages), on top of loop.go and
// wire.go. broker.go starts the brokers, proc.go reads /proc, report.go writes the tables. The program is cmd. All of it
// is for Linux only.
package bench
