package transport

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestListenErrors(t *testing.T) {
	s, _ := serve(t, &echo{}, "tcp", Options{})
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		"":                            "unknown scheme",
		"localhost:1883":              "unknown scheme",
		"http://127.0.0.1:0":          "unknown scheme",
		"wss://127.0.0.1:0":           "certificate is missing",
		"tls://127.0.0.1:0/path":      "no path",
		"tcp://127.0.0.1":             "port is missing",
		"ws://127.0.0.1/mqtt":         "port is missing",
		"tcp://127.0.0.1:0/path":      "no path",
		"tcp://user@127.0.0.1:0":      "nothing but host and path",
		"ws://127.0.0.1:0/mqtt?x=1":   "nothing but host and path",
		"tcp://127.0.0.1:99999":       "invalid port",
		"tcp://192.0.2.1:0":           "cannot assign",
		"unix://":                     "wants a path",
		"unix://" + dir + "/no/where": "no such file",
		"unix://" + file:              "no socket is in the way",
		"::":                          "missing protocol scheme",
	} {
		ln, err := s.Listen(url, ListenOptions{})
		if err == nil {
			_ = ln.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "listen "+url) {
			t.Errorf("%q: got %v, want %q", url, err, want)
		}
	}
	if b, err := os.ReadFile(file); string(b) != "precious" {
		t.Errorf("a file that is no socket was touched: %v", err)
	}
}

func TestListenPaths(t *testing.T) {
	s, _ := serve(t, &echo{}, "tcp", Options{})
	for url, want := range map[string]string{
		"ws://127.0.0.1:0":       "/mqtt",
		"ws://127.0.0.1:0/":      "/",
		"ws://127.0.0.1:0/a/b":   "/a/b",
		"ws://127.0.0.1:0/a%20b": "/a%20b",
		"tcp://127.0.0.1:0":      "",
		"tcp://127.0.0.1:0/":     "",
	} {
		ln, err := s.Listen(url, ListenOptions{})
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if ln.path != want || ln.URL() != url {
			t.Errorf("%s: path is %q, want %q", url, ln.path, want)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		s, _ := serve(t, &echo{}, "tcp", Options{Driver: driver})
		path := filepath.Join(t.TempDir(), "s")
		url := "unix://" + path

		old, err := net.Listen("unix", path) // of a process that was killed
		if err != nil {
			t.Fatal(err)
		}
		old.(*net.UnixListener).SetUnlinkOnClose(false)
		_ = old.Close()

		ln, err := s.Listen(url, ListenOptions{Mode: 0o620})
		if err != nil {
			t.Fatalf("over a stale socket: %v", err)
		}
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o620 {
			t.Errorf("mode is %v, %v", fi.Mode(), err)
		}
		nc := dial(t, ln)
		send(t, nc, frame(1, 10))
		expect(t, nc, frame(1, 10))

		if _, err := s.Listen(url, ListenOptions{}); err == nil || !strings.Contains(err.Error(), "in use") {
			t.Errorf("over a living socket: %v", err)
		}
		send(t, nc, frame(1, 10))
		expect(t, nc, frame(1, 10))

		if err := ln.Close(); err != nil {
			t.Error(err)
		}
		if err := ln.Close(); err != nil {
			t.Errorf("closed twice: %v", err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
		send(t, nc, frame(1, 10)) // connections live on
		expect(t, nc, frame(1, 10))

		ln, err = s.Listen(url, ListenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		other, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("another's socket was removed: %v", err)
		}
	})
}

// TestUnixRace starts many listeners on one stale socket: one of them must get it.
func TestUnixRace(t *testing.T) {
	s, _ := serve(t, &echo{}, "tcp", Options{})
	for range 20 {
		path := filepath.Join(t.TempDir(), "s")
		old, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		old.(*net.UnixListener).SetUnlinkOnClose(false)
		_ = old.Close()
		got := make(chan *Listener, 8)
		var wg sync.WaitGroup
		for range cap(got) {
			wg.Go(func() {
				if ln, err := s.Listen("unix://"+path, ListenOptions{}); err == nil {
					got <- ln
				}
			})
		}
		wg.Wait()
		if n := len(got); n != 1 {
			t.Fatalf("%d listeners on one socket", n)
		}
		nc := dial(t, <-got)
		send(t, nc, frame(1, 10))
		expect(t, nc, frame(1, 10))
	}
}

func TestOptions(t *testing.T) {
	if _, err := New(&echo{}, Options{Driver: "steam"}); err == nil || !strings.Contains(err.Error(), "steam") {
		t.Errorf("got %v", err)
	}
	eachDriver(t, func(t *testing.T, driver string) {
		_, ln := serve(t, &echo{}, "tcp", Options{Driver: driver, SndBuf: 64 << 10, RcvBuf: 64 << 10, Loops: 1})
		nc := dial(t, ln)
		b := frame(1, 300_000)
		go nc.Write(b)
		expect(t, nc, b)
	})
}
