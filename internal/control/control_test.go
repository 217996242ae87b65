package control

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/myelin-mqtt/myelin/broker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a broker with a control socket on a data directory.
func serve(t *testing.T, dir string) (*broker.Broker, *Server) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("modes and links of files")
	}
	log := slog.New(slog.DiscardHandler)
	b, err := broker.New(broker.Options{NoListeners: true, DataDir: dir, SysInterval: -1, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	s, err := Serve(b, Options{Dir: dir, Durability: "fsync", Version: "v1", Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return b, s
}

func TestCalls(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	b, s := serve(t, dir)
	ctx, c := t.Context(), NewClient(dir)
	if err := b.Publish(ctx, broker.Message{Topic: "t", Payload: []byte("kept"), QoS: 1, Retain: true}); err != nil {
		t.Fatal(err)
	}
	st, err := c.State(ctx)
	if err != nil || st.PID != os.Getpid() || st.Data != dir || st.Durability != "fsync" || st.Version != "v1" || st.Retained != 1 || st.Store != "ok" {
		t.Errorf("%+v %v", st, err)
	}
	q, err := c.Queues(ctx, 5, "messages")
	if err != nil || q.Top == nil || q.Holders != 0 {
		t.Errorf("%+v %v", q, err)
	}
	to := filepath.Join(t.TempDir(), "copy")
	if a, err := c.Backup(ctx, to); err != nil || a.Dir != to {
		t.Errorf("%+v %v", a, err)
	}
	if _, err := c.Backup(ctx, to); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("again: %v", err)
	}
	for _, bad := range []struct{ limit, sort string }{{"x", "bytes"}, {"-1", "bytes"}, {"20000", "bytes"}, {"1", "age"}} {
		err := c.call(ctx, http.MethodGet, pathQueues+"?limit="+bad.limit+"&sort="+bad.sort, nil, &q)
		if err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
	for what, body := range map[string]any{"relative": BackupRequest{Dir: "x"}, "unknown field": map[string]string{"to": "/x"}, "large": strings.Repeat("x", maxRequest)} {
		if err := c.call(ctx, http.MethodPost, pathBackup, body, &Backup{}); err == nil {
			t.Errorf("%s: it is taken", what)
		}
	}
	if err := c.call(ctx, http.MethodGet, "/v1/nothing", nil, &q); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("no such path: %v", err)
	}
	s.Close()
	if _, err := c.State(ctx); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, SocketName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	entries, _ := filepath.Glob(filepath.Join(dir, ".control*"))
	if len(entries) > 0 {
		t.Errorf("%v is left", entries)
	}
}

// TestSocket: its mode, one that a killed broker has left, and a directory whose
// path is longer than an address of a socket may be.
func TestSocket(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if runtime.GOOS == "linux" {
		dir = filepath.Join(dir, strings.Repeat("long", 50))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	at, done, err := short(dir)
	if err != nil {
		t.Fatal(err)
	}
	left, err := net.Listen("unix", filepath.Join(at, SocketName))
	if err != nil {
		t.Fatal(err)
	}
	done()
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	left.Close()
	if _, err := NewClient(dir).State(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("with a socket that nobody listens on: %v", err)
	}
	_, s := serve(t, dir)
	if fi, err := os.Lstat(filepath.Join(dir, SocketName)); err != nil || fi.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("%v %v", fi.Mode(), err)
	}
	if _, err := NewClient(dir).State(t.Context()); err != nil {
		t.Error(err)
	}
	// A socket that has taken its place stays.
	next, err := Serve(s.b, s.o)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	s.Close()
	if _, err := NewClient(dir).State(t.Context()); err != nil {
		t.Errorf("of the next server: %v", err)
	}
}

func TestNoSocket(t *testing.T) {
	dir := t.TempDir()
	_, s := serve(t, dir)
	s.Close()
	if err := os.WriteFile(filepath.Join(dir, SocketName), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Serve(s.b, s.o); err == nil {
		t.Error("a file is replaced")
	}
	for _, none := range []string{dir, filepath.Join(dir, "gone"), filepath.Join(dir, SocketName)} {
		if _, err := NewClient(none).State(context.Background()); !errors.Is(err, ErrNotRunning) {
			t.Errorf("%s: %v", none, err)
		}
	}
}
