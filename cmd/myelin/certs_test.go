package main

import (
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/myelin-mqtt/myelin/test/pki"
)

type authorityKey struct{}

// authority is the authority of a script, and a client's certificate.
type authority struct {
	ca     *pki.Authority
	device *pki.Leaf
}

func makeAuthority(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: authority")
	}
	a := ts.Value(authorityKey{}).(*authority)
	if a.ca == nil {
		a.ca = pki.New(ts.MkAbs("."), "root")
		a.device = a.ca.Client("device")
		a.ca.Revoke("none.crl", time.Now().Add(time.Hour))
	}
	a.ca.Server("localhost", "127.0.0.1")
}

func revoke(ts *testscript.TestScript, neg bool, args []string) {
	a := ts.Value(authorityKey{}).(*authority)
	if neg || len(args) != 1 || a.ca == nil {
		ts.Fatalf("usage: revoke FILE, after authority")
	}
	a.ca.Revoke(args[0], time.Now().Add(time.Hour), a.device.X509)
}
