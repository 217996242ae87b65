// Package control is the way to a running broker for the commands of the same
// program: JSON over HTTP on a Unix socket in the data directory, which the file
// system guards. It knows the broker's public package only, opens nothing that
// the network reaches, and decides nothing about the store.
//
// Start reading at Serve in server.go; Client is the other end, and api.go what
// goes between them.
package control
