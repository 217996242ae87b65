package dial

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// fails dials the server, which must fail in the phase, with text and hint; -
// is no hint.
func fails(t *testing.T, address string, o Options, phase Phase, text, hint string) (Event, error) {
	t.Helper()
	var last Event
	o.Phase = func(e Event) { last = e }
	conn, err := parse(t, address).Dial(testContext(t), o)
	if err == nil {
		_ = conn.Close()
		t.Fatalf("%s: no error", address)
	}
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Phase != phase || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: error %q, want %q of phase %v", address, err, text, phase)
	}
	if h := Hint(err); hint == "-" && h != "" || hint != "-" && (h == "" || !strings.Contains(h, hint)) {
		t.Errorf("%s: hint %q, want %q", address, h, hint)
	}
	if last.Phase != phase || last.Err == nil {
		t.Errorf("%s: last event %+v", address, last)
	}
	return last, err
}

func secure(t *testing.T, c *tls.Config) string {
	ln := tls.NewListener(listen(t, "tcp", "127.0.0.1:0"), c)
	return "mqtts://" + serve(t, ln, echo).Addr().String()
}

func TestCertificates(t *testing.T) {
	a, other := newAuthority(t, "test authority"), newAuthority(t, "another")
	trust := Options{TLS: &tls.Config{RootCAs: a.pool()}}
	f := func(name string, own tls.Certificate, text, hint string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			last, _ := fails(t, secure(t, &tls.Config{Certificates: []tls.Certificate{own}}), trust, TLS, text, hint)
			if last.State == nil || len(last.State.PeerCertificates) != 1 || !last.State.PeerCertificates[0].Equal(own.Leaf) {
				t.Errorf("state %+v", last.State)
			}
		})
	}
	loopback := []net.IP{net.IPv4(127, 0, 0, 1)}
	day := 24 * time.Hour
	f("unknown authority", other.server(t), "signed by an authority that is not known here", "(CA)")
	f("other name", a.issue(t, &x509.Certificate{DNSNames: []string{"a.example", "b.example"}}),
		"not for 127.0.0.1, but for a.example, b.example", "server name")
	f("other names", a.issue(t, &x509.Certificate{DNSNames: strings.Fields("a b c d e f g")}), "but for a, b, c, d, e and 2 more", "server name")
	f("common name", a.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "127.0.0.1"}}), "its common name 127.0.0.1 does not count", "subject alternative name")
	f("no name", a.issue(t, &x509.Certificate{}), "no name", "subject alternative name")
	f("expired", a.issue(t, &x509.Certificate{IPAddresses: loopback, NotBefore: time.Now().Add(-2 * day), NotAfter: time.Now().Add(-day)}),
		"the certificate expired at "+time.Now().Add(-day).UTC().Format(time.DateOnly), "new certificate")
	f("not yet", a.issue(t, &x509.Certificate{IPAddresses: loopback, NotBefore: time.Now().Add(day), NotAfter: time.Now().Add(2 * day)}),
		"not valid before "+time.Now().Add(day).UTC().Format(time.DateOnly), "clock")
	f("of a client", a.issue(t, &x509.Certificate{IPAddresses: loopback, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}), "certificate", "another certificate")
}

func TestTLSErrors(t *testing.T) {
	a := newAuthority(t, "test authority")
	own := []tls.Certificate{a.server(t)}
	trust := Options{TLS: &tls.Config{RootCAs: a.pool()}}
	plain := serve(t, listen(t, "tcp", "127.0.0.1:0"), func(c net.Conn) {
		_, _ = c.Read(make([]byte, 100))
		_, _ = c.Write([]byte("220 hello, this is not TLS"))
	})
	last, _ := fails(t, "mqtts://"+plain.Addr().String(), trust, TLS, `begins with "220 h"`, "mqtt:// for mqtts://")
	if last.State != nil {
		t.Errorf("state %+v", last.State)
	}
	for i, text := range []string{"reset", "the server closed the connection"} {
		closer := serve(t, listen(t, "tcp", "127.0.0.1:0"), func(c net.Conn) { _, _ = c.Read(make([]byte, 1+9999*i)) })
		fails(t, "mqtts://"+closer.Addr().String(), trust, TLS, text, "speak TLS")
	}
	fails(t, "wss"+strings.TrimPrefix(web(t, nil, echoWeb).URL, "http"), trust, TLS, "does not speak TLS", "ws:// for wss://")

	old := secure(t, &tls.Config{Certificates: own, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
	fails(t, old, trust, TLS, "protocol version", "version")
	alpn := trust.TLS.Clone()
	alpn.NextProtos = []string{"x"}
	fails(t, secure(t, &tls.Config{Certificates: own, NextProtos: []string{"mqtt"}}), Options{TLS: alpn}, TLS, "no application protocol", "ALPN")
	// Below 1.3 a missing certificate ends the handshake.
	fails(t, secure(t, &tls.Config{Certificates: own, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}), trust, TLS, "the server refused it: handshake failure", "client certificate")
}

// TestNoClientCertificate: with TLS 1.3 the refusal comes after the handshake,
// from the connection.
func TestNoClientCertificate(t *testing.T) {
	a := newAuthority(t, "test authority")
	address := secure(t, &tls.Config{Certificates: []tls.Certificate{a.server(t)}, ClientAuth: tls.RequireAnyClientCert})
	conn, err := parse(t, address).Dial(testContext(t), Options{TLS: &tls.Config{RootCAs: a.pool()}})
	if err == nil {
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1))
	}
	if h := Hint(err); !strings.Contains(h, "wants a client certificate") || PhaseOf(err) != TLS {
		t.Errorf("error %v of phase %v, hint %q", err, PhaseOf(err), h)
	}
}

// TestCloseAfterFailedWrite does not wait to say goodbye over TLS to a server
// that does not read.
func TestCloseAfterFailedWrite(t *testing.T) {
	a := newAuthority(t, "test authority")
	own := a.server(t)
	// On a pipe, what nobody reads is not written.
	near, far := net.Pipe()
	defer far.Close()
	go tls.Server(far, &tls.Config{Certificates: []tls.Certificate{own}, SessionTicketsDisabled: true}).Handshake()
	conn, err := parse(t, "mqtts://localhost").Dial(testContext(t), Options{
		TLS:  &tls.Config{RootCAs: a.pool()},
		Dial: func(context.Context, string, string) (net.Conn, error) { return near, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err = conn.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
	begin := time.Now()
	_ = conn.Close()
	if d := time.Since(begin); d > 3*time.Second {
		t.Errorf("close took %v", d)
	}
}

func TestServerName(t *testing.T) {
	f := func(host, own, want string) {
		t.Helper()
		var c *tls.Config
		if own != "" {
			c = &tls.Config{ServerName: own, MinVersion: tls.VersionTLS13}
		}
		got := Target{Host: host}.tlsConfig(c)
		if got.ServerName != want || got == c {
			t.Errorf("%s, %s: %s, want %s", host, own, got.ServerName, want)
		}
		if min := got.MinVersion; min != tls.VersionTLS12 && own == "" || min != tls.VersionTLS13 && own != "" {
			t.Errorf("%s, %s: version %x", host, own, min)
		}
	}
	f("a.example", "", "a.example")
	f("a.example.", "", "a.example")
	f("fe80::1%eth0", "", "fe80::1")
	f("a.example", "b.example", "b.example")
}

// TestDialOptionsStay: the caller's configuration and headers are not changed.
func TestDialOptionsStay(t *testing.T) {
	a := newAuthority(t, "test authority")
	c := &tls.Config{RootCAs: a.pool()}
	header := map[string][]string{"X-A": {"b"}}
	conn, err := parse(t, where(t, a, "wss")).Dial(context.Background(), Options{TLS: c, Header: header})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if c.ServerName != "" || c.MinVersion != 0 || len(header) != 1 {
		t.Errorf("%+v, %v", c, header)
	}
}
