package check

import (
	"context"
	"crypto/tls"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/myelin-mqtt/myelin/internal/dial"
)

// tlsDetails tells of the TLS connection and the certificates.
func tlsDetails(ctx context.Context, t *trial) error {
	if s := t.o.Server.Scheme; s != "tls" && s != "wss" {
		return skipped("no TLS")
	}
	state, err := handshake(ctx, t, nil)
	if err != nil {
		return err
	}
	if state == nil || len(state.PeerCertificates) == 0 {
		return unknown("no certificate came")
	}
	leaf := state.PeerCertificates[0]
	days := int(math.Floor(time.Until(leaf.NotAfter).Hours() / 24))
	t.tell("%s %s", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite))
	t.also("%s by %s, chain of %d, %d days left", leaf.Subject.CommonName, leaf.Issuer.CommonName, len(state.PeerCertificates), days)
	if len(state.VerifiedChains) == 0 {
		t.also("not verified")
	}
	t.value("version", tls.VersionName(state.Version))
	t.value("cipher", tls.CipherSuiteName(state.CipherSuite))
	t.value("verified", len(state.VerifiedChains) > 0)
	t.value("days_left", days)
	var chain []map[string]any
	for _, c := range state.PeerCertificates {
		chain = append(chain, map[string]any{"subject": c.Subject.String(), "issuer": c.Issuer.String(), "not_after": c.NotAfter, "dns_names": c.DNSNames})
	}
	t.value("chain", chain)
	if days < 0 {
		return broken("the certificate expired on %s", leaf.NotAfter.Format(time.DateOnly))
	}
	if t.o.Server.Scheme == "tls" {
		alpn(ctx, t)
	}
	oldVersions(ctx, t)
	return nil
}

// alpn tells what comes of offering the protocol mqtt.
func alpn(ctx context.Context, t *trial) {
	state, err := handshake(ctx, t, func(c *tls.Config) {
		if len(c.NextProtos) == 0 {
			c.NextProtos = []string{"mqtt"}
		}
	})
	chosen := "refused"
	if err == nil && state != nil {
		chosen = state.NegotiatedProtocol
	}
	t.value("alpn", chosen)
	if chosen == "" {
		chosen = "none"
	}
	t.also("ALPN %s", chosen)
}

// oldVersions tells of versions that nobody should have any more.
func oldVersions(ctx context.Context, t *trial) {
	var old []string
	for _, v := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
		if _, err := handshake(ctx, t, func(c *tls.Config) { c.MinVersion, c.MaxVersion = v, v }); err == nil {
			old = append(old, tls.VersionName(v))
		}
	}
	t.value("old_versions", old)
	if len(old) > 0 {
		t.also("also %s, which are obsolete", strings.Join(old, " and "))
	}
}

// handshake makes a network connection, and tells of its TLS.
func handshake(ctx context.Context, t *trial, change func(*tls.Config)) (*tls.ConnectionState, error) {
	o := t.o.Net
	o.TLS = o.TLS.Clone()
	if change != nil {
		if o.TLS == nil {
			o.TLS = new(tls.Config)
		}
		change(o.TLS)
	}
	nc, err := t.dial(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return dial.State(nc), nc.Close()
}
