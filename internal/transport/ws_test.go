package transport

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// dialWS upgrades nc and returns it as a stream of binary messages.
func dialWS(t testing.TB, nc net.Conn) net.Conn {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nc, nil }}
	wc, _, err := websocket.Dial(ctx, "ws://"+nc.RemoteAddr().String()+"/mqtt", &websocket.DialOptions{
		HTTPClient:   &http.Client{Transport: tr},
		Subprotocols: []string{"mqtt"},
	})
	if err != nil {
		t.Fatal(err)
	}
	wc.SetReadLimit(-1)
	t.Cleanup(func() {
		_ = wc.CloseNow()
		cancel()
		tr.CloseIdleConnections()
	})
	return websocket.NetConn(ctx, wc, websocket.MessageBinary)
}

const upgradeRequest = "GET /mqtt HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: other, mqtt\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// clientFrame makes a masked frame; first is its first byte.
func clientFrame(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = append(b, 0x80|126, byte(n>>8), byte(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := [4]byte{0x12, 0x34, 0x56, 0x78 ^ first}
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i&3])
	}
	return b
}

// rawWS is a WebSocket client that can do wrong.
type rawWS struct {
	t  testing.TB
	nc net.Conn
	r  *bufio.Reader
}

func newRawWS(t testing.TB, ln *Listener) *rawWS {
	t.Helper()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &rawWS{t, nc, bufio.NewReader(nc)}
}

func (w *rawWS) upgrade(more ...[]byte) *rawWS {
	w.t.Helper()
	send(w.t, w.nc, append([]byte(upgradeRequest), bytes.Join(more, nil)...))
	resp, err := http.ReadResponse(w.r, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-Websocket-Protocol") != "mqtt" {
		w.t.Fatalf("upgrade: %s, %v", resp.Status, resp.Header)
	}
	return w
}

// frame reads a frame, io.EOF if there is none.
func (w *rawWS) frame() (op byte, payload []byte, err error) {
	var h [10]byte
	if _, err = io.ReadFull(w.r, h[:2]); err != nil {
		return 0, nil, err
	}
	n := uint64(h[1])
	switch n {
	case 126:
		_, err = io.ReadFull(w.r, h[2:4])
		n = uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		_, err = io.ReadFull(w.r, h[2:10])
		n = binary.BigEndian.Uint64(h[2:])
	}
	if err == nil {
		payload = make([]byte, n)
		_, err = io.ReadFull(w.r, payload)
	}
	return h[0], payload, err
}

// expectClose reads a close frame with the status, and the end.
func (w *rawWS) expectClose(status uint16) {
	w.t.Helper()
	op, p, err := w.frame()
	if err != nil || op != 0x88 {
		w.t.Fatalf("got frame %x %q, %v, want a close frame", op, p, err)
	}
	got := uint16(0)
	if len(p) >= 2 {
		got = binary.BigEndian.Uint16(p)
	}
	if got != status {
		w.t.Errorf("closed with %d, want %d", got, status)
	}
	if op, p, err = w.frame(); err != io.EOF {
		w.t.Errorf("after the close frame: %x %q, %v, want EOF", op, p, err)
	}
}

// TestWSViolations: each is answered with its status, after what was sent before it was fed and echoed.
func TestWSViolations(t *testing.T) {
	big := make([]byte, 200)
	eachDriver(t, func(t *testing.T, driver string) {
		gone := make(chan error, 1)
		_, ln := serve(t, &echo{gone: func(_ *Conn, err error) { gone <- err }}, "ws", Options{Driver: driver})
		for _, x := range []struct {
			name   string
			bytes  []byte
			status uint16
			err    string
		}{
			{"text", clientFrame(0x81, []byte("hello")), 1003, "text message"},
			{"not masked", []byte{0x82, 2, 'h', 'i'}, 1002, "not masked"},
			{"reserved bit", clientFrame(0xC2, nil), 1002, "reserved bit"},
			{"unknown opcode", clientFrame(0x84, nil), 1002, "unknown opcode"},
			{"unknown control opcode", clientFrame(0x8F, nil), 1002, "unknown opcode"},
			{"continuation of nothing", clientFrame(0x80, nil), 1002, "continuation"},
			{"message in a message", append(clientFrame(0x02, nil), clientFrame(0x82, nil)...), 1002, "inside of another"},
			{"fragmented control frame", clientFrame(0x09, nil), 1002, "fragmented"},
			{"long control frame", clientFrame(0x89, big), 1002, "too long"},
			{"length not minimal", []byte{0x82, 0xFE, 0, 5, 0, 0, 0, 0}, 1002, "shortest form"},
			{"length of 2^63", []byte{0x82, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 1002, "out of range"},
			{"close of one byte", clientFrame(0x88, []byte{1}), 1002, "one byte"},
			{"close with a bad status", clientFrame(0x88, []byte{0, 1}), 1002, "invalid status"},
			{"close with bad UTF-8", clientFrame(0x88, []byte{3, 0xE8, 0xFF}), 1007, "UTF-8"},
			{"close", clientFrame(0x88, []byte{3, 0xE8, 'b', 'y', 'e'}), 1000, "EOF"},
			{"close with own status", clientFrame(0x88, []byte{0x0F, 0xA1}), 4001, "EOF"},
			{"close without status", clientFrame(0x88, nil), 0, "EOF"},
		} {
			t.Run(x.name, func(t *testing.T) {
				w := newRawWS(t, ln).upgrade()
				w.t = t
				first := frame(1, 50)
				send(t, w.nc, append(clientFrame(0x82, first), x.bytes...))
				if op, p, err := w.frame(); op != 0x82 || !bytes.Equal(p, first) {
					t.Fatalf("got frame %x %q, %v, want the echo", op, p, err)
				}
				w.expectClose(x.status)
				if err := await(t, gone, "Gone"); !strings.Contains(err.Error(), x.err) {
					t.Errorf("gone with %v", err)
				}
			})
		}
	})
}

func TestWSBadUpgrades(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		refused := make(chan error, 1)
		s, ln := serve(t, &echo{refused: func(why error) { refused <- why }}, "ws", Options{Driver: driver})
		for _, x := range []struct {
			name, request, status string
		}{
			{"path", strings.Replace(upgradeRequest, "/mqtt", "/", 1), "404 "},
			{"version", strings.Replace(upgradeRequest, "13", "12", 1), "426 "},
			{"protocol", strings.Replace(upgradeRequest, "mqtt\r\n", "amqp\r\n", 1), "400 "},
			{"plain GET", "GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n", "426 "},
			{"POST", "POST /mqtt HTTP/1.1\r\nHost: x\r\n\r\n", "405 "},
			{"MQTT", "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", "400 "},
			{"endless head", upgradeRequest[:len(upgradeRequest)-2] + strings.Repeat("X: y\r\n", 3000), "431 "},
		} {
			t.Run(x.name, func(t *testing.T) {
				w := newRawWS(t, ln)
				send(t, w.nc, []byte(x.request))
				all, err := io.ReadAll(w.nc)
				if err != nil || !strings.HasPrefix(string(all), "HTTP/1.1 "+x.status) {
					t.Errorf("got %q, %v", all, err)
				}
				if err := await(t, refused, "Refused"); !strings.Contains(err.Error(), x.status[:3]) {
					t.Errorf("refused with %v", err)
				}
			})
		}
		if n := s.Stats().RefusedUpgrade; n != 7 {
			t.Errorf("%d counted", n)
		}
	})
}

// TestWSFragments sends one message in many frames with pings in between, all in the same segment as the upgrade.
func TestWSFragments(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		_, ln := serve(t, &echo{}, "ws", Options{Driver: driver})
		want := frame(5, 3000)
		var all []byte
		var pongs int
		for i, rest := 0, want; ; i++ {
			n := min(1+i*3, len(rest))
			first := byte(0)
			if i == 0 {
				first = 2
			}
			if n == len(rest) {
				first |= 0x80
			}
			all = append(all, clientFrame(first, rest[:n])...)
			if rest = rest[n:]; len(rest) == 0 {
				break
			}
			if i%5 == 0 {
				all = append(all, clientFrame(0x89, []byte{'p', byte(pongs)})...)
				pongs++
			}
		}
		w := newRawWS(t, ln).upgrade(all)
		var got []byte
		for pong := 0; len(got) < len(want) || pong < pongs; {
			switch op, p, err := w.frame(); {
			case err != nil:
				t.Fatal(err)
			case op == 0x8A:
				if string(p) != string([]byte{'p', byte(pong)}) {
					t.Fatalf("pong %d is %q", pong, p)
				}
				pong++
			case op == 0x82:
				got = append(got, p...)
			}
		}
		if !bytes.Equal(got, want) {
			t.Error("got another message")
		}
		send(t, w.nc, clientFrame(0x88, []byte{3, 0xE8}))
		w.expectClose(1000)
	})
}

// TestWSPingFlood pings without reading. What is kept to answer is bounded, and the connection goes on.
func TestWSPingFlood(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		opened := make(chan *Conn, 1)
		_, ln := serve(t, &echo{open: func(_ *Turn, c *Conn) { opened <- c }}, "ws", Options{Driver: driver})
		w := newRawWS(t, ln).upgrade(clientFrame(0x82, frame(1, 4)))
		c := await(t, opened, "Open")
		ping := bytes.Repeat(clientFrame(0x89, make([]byte, 125)), 1000)
		for range 100 {
			send(t, w.nc, ping)
		}
		c.mu.Lock()
		if n := len(c.x.ws.ctl); n > maxControl+readSize {
			t.Errorf("%d bytes of pongs", n)
		}
		c.mu.Unlock()
		go w.nc.Write(clientFrame(0x82, frame(2, 5)))
		for {
			op, p, err := w.frame()
			if err != nil {
				t.Fatal(err)
			}
			if op == 0x82 && len(p) == 5 {
				return
			}
		}
	})
}

// TestWSPausedClose: a close frame, or a violation, that comes during a pause is acted on after what came before it.
func TestWSPausedClose(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		opened, paused := make(chan *Conn, 1), make(chan struct{}, 10)
		_, ln := serve(t, pauser(opened, paused), "ws", Options{Driver: driver})
		w := newRawWS(t, ln).upgrade()
		all := append(clientFrame(0x82, append(frame(1, 20), frame(2, 30)...)), clientFrame(0x88, []byte{3, 0xE8})...)
		send(t, w.nc, all)
		c := await(t, opened, "Open")
		for _, want := range [][]byte{frame(1, 20), frame(2, 30)} {
			await(t, paused, "pause")
			if op, p, err := w.frame(); op != 0x82 || !bytes.Equal(p, want) {
				t.Fatalf("got %x %q, %v", op, p, err)
			}
			c.Wake()
		}
		w.expectClose(1000)
	})
}

func TestWSServerCloses(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		for _, x := range []struct {
			err    error
			status uint16
		}{{io.EOF, 1000}, {ErrServerClosed, 1001}, {errors.New("other"), 1008}} {
			opened := make(chan *Conn, 1)
			_, ln := serve(t, &echo{open: func(_ *Turn, c *Conn) { opened <- c }}, "ws", Options{Driver: driver})
			w := newRawWS(t, ln).upgrade(clientFrame(0x82, []byte{0xFF}))
			await(t, opened, "Open").Close(x.err)
			w.expectClose(x.status)
		}
	})
}

// TestWSLargeQueue: output that is longer than a frame leaves as several, each whole.
func TestWSLargeQueue(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		_, ln := serve(t, &echo{}, "ws", Options{Driver: driver})
		want := frame(1, 3<<20)
		w := newRawWS(t, ln).upgrade()
		go w.nc.Write(clientFrame(0x82, want))
		var got []byte
		for len(got) < len(want) {
			op, p, err := w.frame()
			if err != nil || op != 0x82 || len(p) > maxFrame {
				t.Fatalf("frame %x of %d bytes, %v", op, len(p), err)
			}
			got = append(got, p...)
		}
		if !bytes.Equal(got, want) {
			t.Error("got other bytes")
		}
	})
}
