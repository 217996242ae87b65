package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/test/pki"
)

// logged is the standard error of a server in the test's process.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// await waits for a line of the log, and returns what its first group matches.
func (l *logged) await(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for end := time.Now().Add(20 * time.Second); ; <-time.After(2 * time.Millisecond) {
		if m := re.FindStringSubmatch(l.String()); m != nil {
			return m[len(m)-1]
		}
		if time.Now().After(end) {
			t.Fatalf("no %s in the log:\n%s", pattern, l)
		}
	}
}

// TestServeTLS: the server that a configuration with certificates describes: who has
// one is who it says, who has none stays out, and a new one is served without an end
// to the connections that stand.
func TestServeTLS(t *testing.T) {
	for _, io := range []string{"auto", "goroutine"} {
		t.Run(io, func(t *testing.T) { serveTLS(t, io) })
	}
}

func serveTLS(t *testing.T, io string) {
	dir := t.TempDir()
	ca, other := pki.New(dir, "ca"), pki.New(dir, "other")
	server := ca.Server("localhost", "127.0.0.1")
	file := filepath.Join(dir, "myelin.yaml")
	text := "durability: memory\nio: " + io + "\ntls:\n  cert: [" + server.Cert + "]\n  key: [" + server.Key + "]\n  client_ca: " + ca.File +
		"\n  client_certs: required\n  username_from: cn\n  reload: 1s\nlisteners:\n  - url: tls://127.0.0.1:0\n  - url: wss://127.0.0.1:0/mqtt\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stop, end := context.WithCancel(ctx)
	var log logged
	code := make(chan int, 1)
	go func() {
		code <- Run(stop, Process{Args: []string{"serve", "--config", file}, Stdout: &log, Stderr: &log})
	}()
	defer func() {
		end()
		if c := <-code; c != 0 {
			t.Errorf("serve ended with %d:\n%s", c, &log)
		}
	}()
	urls := []string{log.await(t, `url=(tls://[0-9.:]+)`), log.await(t, `url=(wss://[0-9.:]+/mqtt)`)}
	dial := func(url string, f client.TLSFiles) (*client.Client, error) {
		conf, err := client.LoadTLS(f)
		if err != nil {
			t.Fatal(err)
		}
		return client.Dial(ctx, url, client.Options{TLS: conf, NoReconnect: true})
	}
	anna, eve := ca.Client("anna"), other.Client("eve")
	var standing []*client.Client
	for _, url := range urls {
		for _, bad := range []client.TLSFiles{
			{CAs: []string{ca.File}}, // no certificate
			{CAs: []string{ca.File}, Cert: eve.Cert, Key: eve.Key},
			{CAs: []string{other.File}, Cert: anna.Cert, Key: anna.Key}, // does not trust the server
		} {
			if c, err := dial(url, bad); err == nil {
				c.Close()
				t.Errorf("%s: %+v is let in", url, bad)
			}
		}
		c, err := dial(url, client.TLSFiles{CAs: []string{ca.File}, Cert: anna.Cert, Key: anna.Key})
		if err != nil {
			t.Fatalf("%s: %v\n%s", url, err, &log)
		}
		defer c.Close()
		standing = append(standing, c)
	}
	got := make(chan string, 10)
	if _, err := standing[1].Subscribe(ctx, func(m *client.Received) { got <- string(m.Payload) }, client.Filter("a", 1)); err != nil {
		t.Fatal(err)
	}
	say := func(payload string) {
		t.Helper()
		if _, err := standing[0].Publish(ctx, &client.Message{Topic: "a", Payload: []byte(payload), QoS: packet.QoS(1)}); err != nil {
			t.Fatal(err)
		}
		if m := <-got; m != payload {
			t.Errorf("%q came", m)
		}
	}
	say("before")
	say(strings.Repeat("x", 300_000))

	fresh := ca.Server("localhost", "127.0.0.1") // in the same files
	for old := true; old; {
		c, err := dial(urls[0], client.TLSFiles{CAs: []string{ca.File}, Cert: anna.Cert, Key: anna.Key})
		if err != nil {
			t.Fatalf("%v\n%s", err, &log)
		}
		s, _ := c.Session()
		old = s.TLS == nil || s.TLS.PeerCertificates[0].SerialNumber.Cmp(fresh.X509.SerialNumber) != 0
		c.Close()
	}
	say("after")
}
