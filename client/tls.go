package client

import (
	"crypto/tls"

	"github.com/myelin-mqtt/myelin/internal/dial"
)

// TLSFiles say what LoadTLS makes a TLS configuration of: authorities to trust,
// the client's certificate as PEM or PKCS#12, server name, ALPN, and versions.
type TLSFiles = dial.TLSFiles

// LoadTLS reads the files and makes what Options.TLS takes. An error names the
// file that it is about, and Hint tells what to try.
func LoadTLS(f TLSFiles) (*tls.Config, error) { return dial.LoadTLS(f) }

// DialError is why no connection came about, before MQTT began: its Phase is
// PhaseDNS, PhaseTCP, PhaseTLS or PhaseWebSocket.
type DialError = dial.Error

// StatusError is, within a DialError of PhaseWebSocket, the HTTP answer of a
// server that refused it.
type StatusError = dial.StatusError

// Hint says in a few words what a person may try after an error of LoadTLS or of
// connecting: a wrong port, an unknown authority, a certificate that expired.
// Empty: nothing is known.
func Hint(err error) string { return dial.Hint(err) }
