package client_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/myelin-mqtt/myelin/broker"
	"github.com/myelin-mqtt/myelin/client"
)

// TestTransports: a message goes each way over each transport.
func TestTransports(t *testing.T) {
	b, tcp := serve(t, broker.Options{})
	ws, err := b.Listen(broker.Listener{URL: "ws://127.0.0.1:0/mqtt"})
	if err != nil {
		t.Fatal(err)
	}
	own, trust := certificate()
	f := func(name, url string, phases ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			var got []string
			c := connect(t, url, client.Options{
				TLS:   &tls.Config{RootCAs: trust},
				Trace: client.Trace{Phase: func(e client.PhaseEvent) { got = append(got, e.Phase.String()) }},
			})
			h, ch := inbox()
			subscribe(t, c, h, client.Filter("#", 2))
			for _, n := range []int{0, 100, 300_000} {
				publish(t, c, "a", strings.Repeat("x", n), 2)
				if m := next(t, ch); !bytes.Equal(m.Payload, bytes.Repeat([]byte("x"), n)) {
					t.Errorf("%d bytes came, want %d", len(m.Payload), n)
				}
			}
			s, _ := c.Session()
			if secure := slices.Contains(phases, "tls"); secure != (s.TLS != nil) {
				t.Errorf("TLS state %v", s.TLS)
			}
			if err := c.Disconnect(ctx(t)); err != nil {
				t.Error(err)
			}
			if !slices.Equal(got, phases) {
				t.Errorf("phases %v, want %v", got, phases)
			}
		})
	}
	f("tcp", tcp, "tcp")
	f("ws", ws, "tcp", "websocket")
	f("tls", "tls://"+secured(t, own, tcp), "tcp", "tls")
	f("wss", "wss://"+secured(t, own, ws), "tcp", "tls", "websocket")
	if runtime.GOOS != "windows" {
		unix, err := b.Listen(broker.Listener{URL: "unix://" + filepath.Join(t.TempDir(), "s")})
		if err != nil {
			t.Fatal(err)
		}
		f("unix", unix, "tcp")
	}
}

// TestNotMQTT: a server with another protocol is told from one that is broken.
func TestNotMQTT(t *testing.T) {
	b, _ := serve(t, broker.Options{})
	ws, err := b.Listen(broker.Listener{URL: "ws://127.0.0.1:0/mqtt"})
	if err != nil {
		t.Fatal(err)
	}
	own, _ := certificate()
	web := httptest.NewServer(nil)
	defer web.Close()
	safe := httptest.NewUnstartedServer(nil)
	safe.Config.ErrorLog = log.New(io.Discard, "", 0)
	safe.StartTLS()
	defer safe.Close()
	f := func(url, text, hint string) {
		t.Helper()
		_, err := client.Dial(ctx(t), url, client.Options{})
		if err == nil || !strings.Contains(err.Error(), text) || !strings.Contains(client.Hint(err), hint) {
			t.Errorf("%s: %v, hint %q, want %s, %s", url, err, client.Hint(err), text, hint)
		}
	}
	says := func(answer string) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer ln.Close()
			if c, err := ln.Accept(); err == nil {
				_, _ = io.WriteString(c, answer)
				_ = c.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			}
		}()
		return "mqtt://" + ln.Addr().String()
	}
	f(says("HTTP/1.1 400 Bad Request\r\n\r\n"), "wait for CONNACK: the server speaks HTTP there", "try ws://")
	f(says("\x15\x03\x01\x00\x02\x02\x46"), "wait for CONNACK: the server speaks TLS there", "try mqtts://")
	f("mqtt"+strings.TrimPrefix(safe.URL, "https"), "CONNACK", "")
	f("mqtt://"+secured(t, own, ws), "CONNACK", "")
	f("ws"+strings.TrimPrefix(web.URL, "http")+"/x", "HTTP 404 Not Found", "path")
	f("ws"+strings.TrimPrefix(safe.URL, "https"), "HTTP 400 Bad Request: Client sent an HTTP request to an HTTPS server", "wss://")
}

// certificate is one for loopback, and who trusts it.
func certificate() (tls.Certificate, *x509.CertPool) {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	trust := x509.NewCertPool()
	trust.AddCert(s.Certificate())
	return s.TLS.Certificates[0], trust
}

// secured has TLS in front of the server, and tells where.
func secured(t *testing.T, own tls.Certificate, url string) (address string) {
	t.Helper()
	_, to, _ := strings.Cut(url, "://")
	to, _, _ = strings.Cut(to, "/")
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{own}})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer near.Close()
				far, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer far.Close()
				all.Go(func() {
					_, _ = io.Copy(far, near)
					_ = far.Close()
				})
				_, _ = io.Copy(near, far)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		all.Wait()
	})
	return ln.Addr().String()
}
