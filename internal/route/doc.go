// Package route answers who gets a message: the subscriptions of all sessions (Table), the answers one loop remembers (Cache), shared subscriptions
// (Group), and the retained messages that a new subscription asks for (Retained). It is generic over the session's handle and the message, so it knows neither.
// It does no I/O, starts no goroutine, reads no clock, and decides nothing about access, quality of service downgrades or queues.
package route
