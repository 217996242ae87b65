// Package storetest is the contract of package store as tests, for every
// implementation: Run. It also holds Async, which turns any engine into one
// whose completions come late and in random order, for tests of who uses an
// engine. It knows nothing of how an engine stores, and holds no test of
// crashes. Start with Run.
package storetest
