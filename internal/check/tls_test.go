package check

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myelin-mqtt/myelin/broker"
	"github.com/myelin-mqtt/myelin/internal/dial"
)

// secured puts TLS in front of a broker, with a certificate of its own that is
// good until end.
func secured(t *testing.T, address string, end time.Time, change func(*tls.Config)) (url string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "broker.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-100 * time.Hour), NotAfter: end,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(leaf)
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	change(config)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	target, err := dial.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer client.Close()
				server, err := net.Dial("tcp", target.Address())
				if err != nil {
					return
				}
				wg.Go(func() {
					_, _ = io.Copy(client, server)
					_ = client.Close()
				})
				_, _ = io.Copy(server, client)
				_ = server.Close()
			})
		}
	})
	return "tls://" + ln.Addr().String(), roots
}

func TestTLS(t *testing.T) {
	_, address := own(t, broker.Options{})
	month := time.Now().Add(30*24*time.Hour + time.Hour)

	url, roots := secured(t, address, month, func(c *tls.Config) { c.NextProtos = []string{"mqtt"} })
	o := options(t, url, "tls", "qos-2")
	o.Net.TLS = &tls.Config{RootCAs: roots}
	found := judged(t, o)
	if f := found["qos-2"]; f.Status != Kept {
		t.Errorf("qos-2: %s: %s", f.Status, f.Detail)
	}
	f := found["tls"]
	if want := "TLS 1.3 TLS_AES_128_GCM_SHA256; broker.example by broker.example, chain of 1, 30 days left; ALPN mqtt"; f.Status != Kept || f.Detail != want {
		t.Errorf("got %s: %s; want %s", f.Status, f.Detail, want)
	}
	if f.Values["days_left"] != 30 || f.Values["verified"] != true || f.Values["alpn"] != "mqtt" {
		t.Errorf("got %v", f.Values)
	}

	// Nobody should speak these any more, and nobody verifies here.
	url, _ = secured(t, address, month, func(c *tls.Config) { c.MinVersion = tls.VersionTLS10 })
	o = options(t, url, "tls")
	o.Net.TLS = &tls.Config{InsecureSkipVerify: true}
	if f := judged(t, o)["tls"]; f.Status != Kept || !strings.HasSuffix(f.Detail, "; not verified; ALPN none; also TLS 1.0 and TLS 1.1, which are obsolete") {
		t.Errorf("got %s: %s", f.Status, f.Detail)
	}

	url, _ = secured(t, address, time.Now().Add(-50*time.Hour), func(*tls.Config) {})
	o = options(t, url, "tls")
	o.Net.TLS = &tls.Config{InsecureSkipVerify: true}
	if f := judged(t, o)["tls"]; f.Status != Broken || !strings.HasPrefix(f.Detail, "the certificate expired on ") {
		t.Errorf("got %s: %s", f.Status, f.Detail)
	}
}
