package auth

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/myelin-mqtt/myelin/broker"
	"github.com/myelin-mqtt/myelin/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// logged is a log that a test reads.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// open makes a gate that logs into the log that it returns.
func open(t *testing.T, o Options) (*Gate, *logged) {
	t.Helper()
	log := new(logged)
	o.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	g, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g, log
}

// ask makes one attempt and waits for its answer.
func ask(g *Gate, r *broker.AuthRequest) broker.AuthAnswer {
	if r.Client.Address == "" {
		r.Client.Address = "192.0.2.1:5000"
	}
	done := make(chan broker.AuthAnswer, 2)
	g.Auth(r, func(a broker.AuthAnswer) { done <- a })
	return <-done
}

// login shows a user name and a password.
func login(g *Gate, user, password string) packet.Reason {
	r := &broker.AuthRequest{Client: &broker.Client{ID: "c", Username: user, Version: packet.V5}}
	if password != "" {
		r.Password = []byte(password)
	}
	return ask(g, r).Code
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	if !filepath.IsAbs(name) {
		name = filepath.Join(t.TempDir(), name)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
