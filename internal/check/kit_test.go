package check

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/myelin-mqtt/myelin/broker"
	"github.com/myelin-mqtt/myelin/internal/dial"
	"github.com/myelin-mqtt/myelin/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// own starts our broker on a free port.
func own(t testing.TB, o broker.Options) (b *broker.Broker, address string) {
	t.Helper()
	o.NoListeners = true
	o.Logger = slog.New(slog.DiscardHandler)
	o.SysInterval = -1
	b, err := broker.New(o)
	if err != nil {
		t.Fatal(err)
	}
	address, err = b.Listen(broker.Listener{URL: "tcp://127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = b.Serve(ctx) })
	t.Cleanup(func() {
		cancel()
		b.Close()
		wg.Wait()
	})
	return b, address
}

// options are for a server that is near.
func options(t testing.TB, address string, only ...string) Options {
	t.Helper()
	target, err := dial.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return Options{Server: target, Only: only, Patience: 2 * time.Second, Quiet: 50 * time.Millisecond, Parallel: 16}
}

// judged runs the checks.
func judged(t testing.TB, o Options) map[string]Finding {
	t.Helper()
	r, err := Run(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]Finding{}
	for _, f := range r.Findings {
		t.Logf("%-14s %-22s %-8s %-60s %v", f.Group, f.Name, f.Status, f.Detail, f.Took.Round(time.Millisecond))
		found[f.Name] = f
	}
	return found
}

// far puts a line in front of a broker that takes its time each way.
func far(t testing.TB, address string, delay time.Duration) string {
	t.Helper()
	type piece struct {
		b   []byte
		due time.Time
	}
	return proxy(t, address, func(client, server net.Conn) {
		pass := func(from, to net.Conn) {
			pieces := make(chan piece, 10_000)
			var wg sync.WaitGroup
			wg.Go(func() {
				defer to.Close()
				for p := range pieces {
					<-time.After(time.Until(p.due))
					if _, err := to.Write(p.b); err != nil {
						_ = from.Close()
					}
				}
			})
			for {
				b := make([]byte, 32<<10)
				n, err := from.Read(b)
				if n > 0 {
					pieces <- piece{b[:n], time.Now().Add(delay)}
				}
				if err != nil {
					break
				}
			}
			close(pieces)
			wg.Wait()
		}
		var both sync.WaitGroup
		both.Go(func() { pass(client, server) })
		both.Go(func() { pass(server, client) })
		both.Wait()
	})
}

// wire is one connection of a meddler, as its fault sees it. Its fields are the
// fault's to use; calls come one at a time.
type wire struct {
	mu    sync.Mutex
	v     packet.Version
	count int
	held  []byte
	back  bool
}

// fault changes a packet of a connection: what it returns goes on in its place.
// A packet is whole, with its fixed header.
type fault func(w *wire, fromServer bool, b []byte) [][]byte

// meddle is a server that misbehaves: a broker with a fault in front of it.
func meddle(t testing.TB, address string, f fault) string {
	t.Helper()
	return proxy(t, address, func(client, server net.Conn) {
		w := new(wire)
		var both sync.WaitGroup
		both.Go(func() { w.pass(client, server, false, f) })
		both.Go(func() { w.pass(server, client, true, f) })
		both.Wait()
	})
}

// proxy has pass connect each client with the broker.
func proxy(t testing.TB, address string, pass func(client, server net.Conn)) string {
	t.Helper()
	target, err := dial.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
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
				defer server.Close()
				pass(client, server)
			})
		}
	})
	return "tcp://" + ln.Addr().String()
}

// pass copies packets one way until an end breaks off. What is no packet is
// passed as it is.
func (w *wire) pass(from, to net.Conn, fromServer bool, f fault) {
	defer from.Close()
	defer to.Close()
	var buf []byte
	in := make([]byte, 32<<10)
	for {
		n, err := from.Read(in)
		buf = append(buf, in[:n]...)
		for {
			n, hdr, bad := packet.Frame(buf, 0)
			if bad != nil {
				n = len(buf)
			}
			if n == 0 {
				break
			}
			b := bytes.Clone(buf[:n])
			buf = buf[n:]
			w.mu.Lock()
			if packet.FrameType(b) == packet.CONNECT && bad == nil {
				var k packet.Connect
				_ = k.Parse(b, hdr, 0)
				w.v = k.Version
			}
			out := [][]byte{b}
			if bad == nil {
				out = f(w, fromServer, b)
			}
			w.mu.Unlock()
			if _, err := to.Write(slices.Concat(out...)); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
