package dial

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// handshake puts TLS on the connection, which it closes if that fails.
func (t Target) handshake(ctx context.Context, below net.Conn, o Options) (net.Conn, error) {
	begin := time.Now()
	conn := tls.Client(&frail{Conn: below}, t.tlsConfig(o.TLS))
	err := conn.HandshakeContext(ctx)
	var state *tls.ConnectionState
	if s := conn.ConnectionState(); err == nil || s.Version != 0 {
		state = &s
		if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && s.PeerCertificates == nil {
			s.PeerCertificates = bad.UnverifiedCertificates
		}
	}
	o.tell(TLS, begin, remote(below, t), state, err)
	if err != nil {
		_ = below.Close()
		return nil, fail(ctx, TLS, t.Address(), err)
	}
	return conn, nil
}

// tlsConfig completes what the caller gave.
func (t Target) tlsConfig(c *tls.Config) *tls.Config {
	if c == nil {
		c = &tls.Config{}
	} else {
		c = c.Clone()
	}
	if c.ServerName == "" {
		// A zone is this machine's affair, and no certificate has a dot at the end.
		host, _, _ := strings.Cut(t.Host, "%")
		c.ServerName = strings.TrimSuffix(host, ".")
	}
	if c.MinVersion == 0 {
		c.MinVersion = tls.VersionTLS12
	}
	return c
}

// frail is a connection on which nothing is written after a write that failed:
// the stream has a gap. Otherwise Close would wait to say goodbye over it.
type frail struct {
	net.Conn
	broken atomic.Pointer[error]
}

func (f *frail) Write(p []byte) (int, error) {
	if err := f.broken.Load(); err != nil {
		return 0, *err
	}
	n, err := f.Conn.Write(p)
	if err != nil {
		f.broken.Store(&err)
	}
	return n, err
}

// remote is the address that the connection has at its other end.
func remote(c net.Conn, t Target) string {
	if a := c.RemoteAddr(); a != nil && a.String() != "" {
		return a.String()
	}
	return t.Address()
}
