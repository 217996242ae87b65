package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/myelin-mqtt/myelin/broker"
	"github.com/myelin-mqtt/myelin/packet"
)

// benchBroker runs a broker, and tells its address.
func benchBroker(t *testing.T) string {
	t.Helper()
	b, err := broker.New(broker.Options{NoListeners: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := b.Serve(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		b.Close()
		<-done
	})
	url, err := b.Listen(broker.Listener{URL: "tcp://127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(url, "tcp://")
}

// dropper is a proxy that loses one message on its way from the broker.
type dropper struct {
	upstream string
	nth      int64 // which, from 1
	seen     atomic.Int64
	ln       net.Listener
	wg       sync.WaitGroup
}

func newDropper(t *testing.T, upstream string, nth int64) *dropper {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &dropper{upstream: upstream, nth: nth, ln: ln}
	d.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", upstream)
			if err != nil {
				c.Close()
				continue
			}
			d.wg.Go(func() {
				_, _ = io.Copy(up, c)
				up.Close()
			})
			d.wg.Go(func() {
				d.copy(c, up)
				c.Close()
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		d.wg.Wait()
	})
	return d
}

// copy passes packet after packet, but for one PUBLISH.
func (d *dropper) copy(to io.Writer, from io.Reader) {
	var b []byte
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		b = append(b, buf[:n]...)
		var out []byte
		for {
			n, _, bad := packet.Frame(b, 0)
			if n == 0 || bad != nil {
				break
			}
			if packet.FrameType(b) != packet.PUBLISH || d.seen.Add(1) != d.nth {
				out = append(out, b[:n]...)
			}
			b = b[n:]
		}
		if _, bad := to.Write(out); bad != nil || err != nil {
			return
		}
	}
}

// TestBenchLost: one message that is lost on its way, of a thousand, ends
// `myelin bench` with 1 where its quality of service forbids it.
func TestBenchLost(t *testing.T) {
	upstream := benchBroker(t)
	for qos, want := range map[string]struct {
		code int
		says string
	}{
		"0": {0, ""},
		"1": {1, "myelin: error: p2p: 1 messages of QoS 1 were lost\n"},
		"2": {1, "myelin: error: p2p: 1 messages of QoS 2 were lost\n"},
	} {
		d := newDropper(t, upstream, 700)
		name := filepath.Join(t.TempDir(), "out.json")
		var out, errs bytes.Buffer
		code := Run(t.Context(), Process{
			Args:   []string{"bench", "p2p", "-L", "mqtt://" + d.ln.Addr().String(), "-n", "4", "--count", "1000", "--warm-up", "0s", "--grace", "300ms", "-q", qos, "--json", name},
			Stdout: &out, Stderr: &errs,
		})
		if first, _, _ := strings.Cut(errs.String(), "myelin: hint"); code != want.code || first != want.says {
			t.Errorf("QoS %s: exit code %d, %q; want %d, %q\n%s", qos, code, errs.String(), want.code, want.says, out.String())
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Results []struct{ Sent, Received, Lost, Duplicated, Unacknowledged uint64 }
		}
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if r := got.Results[0]; r.Sent != 1000 || r.Received != 999 || r.Lost != 1 || r.Duplicated != 0 || r.Unacknowledged != 0 {
			t.Errorf("QoS %s: %+v", qos, r)
		}
		if !strings.Contains(out.String(), "  lost          1\n") {
			t.Error(out.String())
		}
	}
}

// TestBenchInterrupted: the end of the context ends it at once, with what was
// measured so far.
func TestBenchInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &cancelling{cancel: cancel}
	args := []string{"bench", "p2p", "-L", "mqtt://" + benchBroker(t), "-n", "2", "--rate", "100", "--duration", "1h", "--progress", "--csv", filepath.Join(t.TempDir(), "x.csv")}
	var words bytes.Buffer
	if code := Run(ctx, Process{Args: args, Stdout: &words, Stderr: out}); code != exitInterrupted {
		t.Errorf("exit code %d\n%s%s", code, words.String(), out.String())
	}
	if w := words.String(); !strings.Contains(w, "\n  failed        context canceled\n") || strings.Contains(w, "lost          0") {
		t.Error(words.String())
	}
	text, err := os.ReadFile(args[len(args)-1])
	if err != nil || strings.Count(string(text), "\n") < 3 {
		t.Errorf("%v: %s", err, text)
	}
}

// cancelling is standard error of a program that is interrupted when the first
// message was sent.
type cancelling struct {
	bytes.Buffer
	cancel func()
}

func (c *cancelling) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("p2p warm-up")) {
		c.cancel()
	}
	return c.Buffer.Write(b)
}
