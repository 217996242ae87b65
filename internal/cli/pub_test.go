package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/myelin-mqtt/myelin/packet"
)

// fakeBroker lets every client in and hands its other packets to f, which
// answers on the connection. It tells its address.
func fakeBroker(t *testing.T, f func(p packet.Packet, c net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { speak(c, f) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

func speak(c net.Conn, f func(p packet.Packet, c net.Conn)) {
	defer c.Close()
	var b []byte
	chunk := make([]byte, 4096)
	for {
		n, err := c.Read(chunk)
		b = append(b, chunk[:n]...)
		for {
			p, n, bad := packet.Parse(b, 0, packet.V5)
			if bad != nil || n == 0 {
				break
			}
			if p.Type() == packet.CONNECT {
				_, _ = c.Write((&packet.Connack{}).Append(nil, packet.V5))
			} else {
				f(p, c)
			}
			b = b[n:]
		}
		if err != nil {
			return
		}
	}
}

// ran runs a command line to its end.
func ran(ctx context.Context, stdin io.Reader, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = Run(ctx, Process{Args: args, Stdin: stdin, Stdout: &out, Stderr: &errs})
	return code, out.String(), errs.String()
}

func swallow(packet.Packet, net.Conn) {}

// acknowledge answers a PUBLISH of QoS 1.
func acknowledge(p packet.Packet, c net.Conn) {
	if m, ok := p.(*packet.Publish); ok && m.QoS() == packet.AtLeastOnce {
		_, _ = c.Write(packet.AppendAck(nil, packet.PUBACK, packet.V5, m.ID, packet.Success))
	}
}

// TestPubTimeout: an acknowledgement that does not come ends it with 27.
func TestPubTimeout(t *testing.T) {
	at := fakeBroker(t, swallow)
	code, _, stderr := ran(t.Context(), nil, "pub", "-L", "mqtt://"+at+"/t", "-m", "x", "-q", "1", "-W", "0.05")
	if code != exitTimeout || !strings.Contains(stderr, "1 of 1 messages are not acknowledged within 50ms") || !strings.Contains(stderr, "hint: ") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// counted counts what is read of it.
type counted struct {
	io.Reader
	n atomic.Int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// endless is the same line for ever.
type endless string

func (e endless) Read(b []byte) (int, error) {
	n := 0
	for n+len(e) <= len(b) {
		n += copy(b[n:], e)
	}
	return n, nil
}

// TestPubBackPressure: standard input is read only as the server acknowledges.
func TestPubBackPressure(t *testing.T) {
	var got atomic.Int64
	at := fakeBroker(t, func(p packet.Packet, _ net.Conn) {
		if p.Type() == packet.PUBLISH {
			got.Add(1)
		}
	})
	line := endless(strings.Repeat("x", 127) + "\n")
	in := &counted{Reader: line}
	code, _, stderr := ran(t.Context(), in, "pub", "-L", "mqtt://"+at+"/t", "-l", "-q", "1", "-W", "0.2", "-M", "1000")
	if code != exitTimeout {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if n, most := in.n.Load(), int64(inFlight*len(line)+2*64<<10); got.Load() != inFlight || n > most {
		t.Errorf("%d messages sent, %d bytes read, want at most %d", got.Load(), n, most)
	}
}

// TestPubEndsWithoutInput: what ends the connection, or the program, ends a pub
// that waits for its standard input.
func TestPubEndsWithoutInput(t *testing.T) {
	f := func(name string, want int, broker func(p packet.Packet, c net.Conn), signal func(cancel func())) {
		t.Run(name, func(t *testing.T) {
			in, line := io.Pipe()
			defer line.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			seen := make(chan struct{}, 1)
			at := fakeBroker(t, func(p packet.Packet, c net.Conn) {
				broker(p, c)
				if p.Type() == packet.PUBLISH {
					seen <- struct{}{}
				}
			})
			go func() {
				fmt.Fprintln(line, "first")
				<-seen
				signal(cancel)
			}()
			code, _, stderr := ran(ctx, in, "pub", "-L", "mqtt://"+at+"/t", "-l", "-q", "1")
			if code != want || !strings.HasPrefix(stderr, "myelin: error: ") {
				t.Errorf("exit code %d, want %d: %s", code, want, stderr)
			}
		})
	}
	nothing := func(func()) {}
	f("signal", exitInterrupted, acknowledge, func(cancel func()) { cancel() })
	f("signal while unacknowledged", exitInterrupted, swallow, func(cancel func()) { cancel() })
	f("closed", exitLost, func(p packet.Packet, c net.Conn) { _ = c.Close() }, nothing)
	f("disconnected", exitLost, func(p packet.Packet, c net.Conn) {
		_, _ = c.Write((&packet.Disconnect{Code: packet.SessionTakenOver}).Append(nil, packet.V5))
	}, nothing)
	f("nonsense", exitProtocol, func(p packet.Packet, c net.Conn) { _, _ = c.Write([]byte{0xFF, 0xFF}) }, nothing)
}

// TestNoBroker: what takes the connection is no MQTT server.
func TestNoBroker(t *testing.T) {
	f := func(want int, hint string, serve func(c net.Conn), args ...string) {
		t.Helper()
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		go func() {
			if c, err := ln.Accept(); err == nil {
				serve(c)
			}
		}()
		code, _, stderr := ran(t.Context(), nil, append([]string{"pub", "-L", "mqtt://" + ln.Addr().String() + "/t", "-m", "x"}, args...)...)
		if code != want || !strings.Contains(stderr, "myelin: hint: "+hint) {
			t.Errorf("exit code %d, want %d and the hint %q: %s", code, want, hint, stderr)
		}
	}
	f(exitTimeout, "does an MQTT server listen there?", func(c net.Conn) {
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	}, "--connect-timeout", "0.05")
	f(exitLost, "does an MQTT server listen there, and is it without TLS?", func(c net.Conn) { _ = c.Close() })
	f(exitProtocol, "does an MQTT server listen there", func(c net.Conn) {
		_, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.7\r\n")
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	})
}

// TestFlagsOfMosquitto: one that is not here has a hint of its own.
func TestFlagsOfMosquitto(t *testing.T) {
	for _, n := range []string{"tls-use-os-certs", "nodelay", "quiet", "ciphers", "keyform", "psk", "proxy"} {
		if code, _, stderr := ran(t.Context(), nil, "pub", "--"+n, "x"); code != exitUsage || !strings.Contains(stderr, "hint: "+mosquittoOnly(n)) {
			t.Errorf("--%s: exit code %d, %s", n, code, stderr)
		}
	}
	if code, _, stderr := ran(t.Context(), nil, "serve", "--quiet"); code != exitUsage || strings.Contains(stderr, "/dev/null") {
		t.Errorf("serve --quiet: exit code %d, %s", code, stderr)
	}
}

// TestPubInput: what is wrong with standard input, and a standard output that
// nobody reads.
func TestPubInput(t *testing.T) {
	at := fakeBroker(t, acknowledge)
	f := func(want int, said string, in io.Reader, args ...string) {
		t.Helper()
		code, _, stderr := ran(t.Context(), in, append([]string{"pub", "-L", "mqtt://" + at + "/t", "-q", "1"}, args...)...)
		if code != want || !strings.Contains(stderr, said) {
			t.Errorf("%v: exit code %d, want %d: %s", args, code, want, stderr)
		}
	}
	f(exitFailure, "read standard input: broken", iotest.ErrReader(errors.New("broken")), "-l")
	f(exitFailure, "read standard input: broken", iotest.ErrReader(errors.New("broken")), "-s")
	f(exitLimit, "a line of standard input is longer than", endless("x"), "-l")
	f(exitOK, "", strings.NewReader(""), "-l")
	f(exitOK, "", strings.NewReader(""), "-s")

	var errs bytes.Buffer
	p := Process{Args: []string{"pub", "-L", "mqtt://" + at + "/t", "-m", "x", "-q", "1", "--json"}, Stdout: unwritable{}, Stderr: &errs}
	if code := Run(t.Context(), p); code != exitPipe || errs.Len() > 0 {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
}

type unwritable struct{}

func (unwritable) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestLineReader(t *testing.T) {
	long := strings.Repeat("long", 50_000)
	for in, want := range map[string][]string{
		"":                   nil,
		"a":                  {"a"},
		"a\n":                {"a"},
		"a\n\nb\n":           {"a", "", "b"},
		"a\r\nb":             {"a\r", "b"},
		"\n":                 {""},
		long + "\n" + "a\n":  {long, "a"},
		"a\n" + long:         {"a", long},
		"a\x00b\n\xff\xfe\n": {"a\x00b", "\xff\xfe"},
	} {
		next := lineReader(iotest.HalfReader(strings.NewReader(in)))
		var got []string
		var err error
		for err == nil {
			var line []byte
			if line, err = next(); err == nil {
				got = append(got, string(line))
			}
		}
		if err != io.EOF || strings.Join(got, "|") != strings.Join(want, "|") || len(got) != len(want) {
			t.Errorf("%.20q: %.40q, %v", in, got, err)
		}
	}
}

// TestPubDebug: -d tells of packets and steps, on standard error only.
func TestPubDebug(t *testing.T) {
	at := fakeBroker(t, acknowledge)
	code, stdout, stderr := ran(t.Context(), nil, "pub", "-L", "mqtt://"+at+"/t", "-m", "x", "-q", "1", "-d")
	if code != 0 || stdout != "" {
		t.Errorf("exit code %d: %s", code, stdout)
	}
	for _, want := range []string{"tcp " + at + " took", "-> CONNECT", "<- CONNACK", "connected to tcp://" + at, "-> PUBLISH", "<- PUBACK", "-> DISCONNECT"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("it does not tell of %q:\n%s", want, stderr)
		}
	}
}
