//go:build !unix

package transport

// vec has no use here.
type vec struct{}
