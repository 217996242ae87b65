package dial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func wsAddress(url string) string { return "ws" + strings.TrimPrefix(url, "http") }

// pair is a connection and the server's end of it, which stays open until the
// test ends.
func pair(t testing.TB) (net.Conn, *websocket.Conn) {
	t.Helper()
	ends, over := make(chan *websocket.Conn, 1), make(chan bool)
	s := web(t, nil, func(_ context.Context, c *websocket.Conn) {
		ends <- c
		<-over
	})
	t.Cleanup(func() { close(over) })
	conn, err := parse(t, wsAddress(s.URL)).Dial(testContext(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, await(t, ends, "server's end")
}

func TestUpgradeRefused(t *testing.T) {
	f := func(name, text, hint string, h http.HandlerFunc) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			s := webHandler(t, nil, h)
			_, err := fails(t, wsAddress(s.URL)+"/x?token=1", Options{}, WebSocket, text, hint)
			if want := "WebSocket upgrade at " + wsAddress(s.URL) + "/x?...: "; !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%v does not begin with %s", err, want)
			}
		})
	}
	status := func(code int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Error(w, text, code) }
	}
	f("404", ": HTTP 404 Not Found", "/mqtt", http.NotFound)
	f("403", ": HTTP 403 Forbidden: go away? now", "refuses it", status(403, "go away\x07 now\nsecond line"))
	f("400", ": HTTP 400 Bad Request: ", "wss://", status(400, "plain HTTP request was sent to HTTPS port"))
	f("502", ": HTTP 502 Bad Gateway", "behind it", status(502, ""))
	f("429", "HTTP 429", "later", status(429, ""))
	f("200", ": HTTP 200 OK", "/mqtt", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>") })
	f("599", ": HTTP 599", "/mqtt", status(599, "x"))
	f("301", ": HTTP 301 Moved Permanently to http://other.invalid/mqtt", "not followed", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://other.invalid/mqtt", http.StatusMovedPermanently)
	})
	f("no subprotocol", "did not choose the subprotocol mqtt", "/mqtt", func(w http.ResponseWriter, r *http.Request) {
		if c, err := websocket.Accept(w, r, nil); err == nil {
			_ = c.CloseNow()
		}
	})
	f("other subprotocol", "did not choose the subprotocol", "path", func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Sec-WebSocket-Protocol", "mqttv3.1")
		if c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"mqttv3.1"}}); err == nil {
			_ = c.CloseNow()
		}
	})
	f("no key", "Sec-WebSocket-Accept", "-", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Sec-WebSocket-Protocol", "mqtt")
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		w.WriteHeader(101)
	})
}

// TestUpgradeNonsense: what is there is no web server.
func TestUpgradeNonsense(t *testing.T) {
	f := func(answer, text, hint string) {
		t.Helper()
		ln := serve(t, listen(t, "tcp", "127.0.0.1:0"), func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4000))
			_, _ = io.WriteString(c, answer)
		})
		fails(t, "ws://"+ln.Addr().String(), Options{}, WebSocket, text, hint)
	}
	f("", "the server closed the connection", "speak WebSocket")
	f("\x20\x02\x00\x01", `begins with " \x02\x00\x01"`, "mqtt://")
	f("\x15\x03\x01\x00\x02\x02\x46", "speaks TLS", "wss://")
	f("SSH-2.0-OpenSSH\r\n", `begins with "SSH-2.0-"`, "mqtt://")
	f("HTTP/1.1 404 ", "closed", "speak WebSocket")
	f("HTTP/1.1 200 OK\r\n"+strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 1000), "exceeded", "-")
}

func TestUpgradeRequest(t *testing.T) {
	requests := make(chan *http.Request, 1)
	s := webHandler(t, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests <- r
		http.Error(w, "", 500)
	}))
	f := func(path string, header http.Header, host string) {
		t.Helper()
		_, err := parse(t, wsAddress(s.URL)+path).Dial(testContext(t), Options{Header: header})
		r := await(t, requests, "request")
		if r.Header.Get("Sec-WebSocket-Protocol") != "mqtt" || r.Header.Get("X-Token") != header.Get("X-Token") || r.Host != host || r.RequestURI != path || r.Header.Get("Authorization") != "" {
			t.Errorf("%s %s %v, then %v", r.Host, r.RequestURI, r.Header, err)
		}
	}
	own := strings.TrimPrefix(s.URL, "http://")
	f("/a%2Fb/c?d=e%20f&g", nil, own)
	f("/", http.Header{"X-Token": {"t"}, "Host": {"other.example"}}, "other.example")

	h := func(address, want string) {
		t.Helper()
		if got := parse(t, address).hostHeader(); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
	h("ws://a", "a")
	h("ws://a:443", "a:443")
	h("wss://a:443", "a")
	h("ws://[::1]", "[::1]")
	h("ws://[fe80::1%25eth0]:81", "[fe80::1]:81")
}

// TestProxyIsNotUsed: the environment of the program does not matter.
func TestProxyIsNotUsed(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	s := web(t, nil, echoWeb)
	conn, err := parse(t, wsAddress(s.URL)).Dial(testContext(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

// TestStream: messages of any size, in pieces, empty or not, are a stream.
func TestStream(t *testing.T) {
	conn, server := pair(t)
	ctx := testContext(t)
	go func() {
		_ = server.Write(ctx, websocket.MessageBinary, []byte("one"))
		_ = server.Write(ctx, websocket.MessageBinary, nil)
		go server.Ping(ctx) // in between, it is answered and not seen
		w, err := server.Writer(ctx, websocket.MessageBinary)
		if err != nil {
			return
		}
		for _, s := range []string{"two", "", "three"} {
			_, _ = io.WriteString(w, s)
		}
		_ = w.Close()
		_ = server.Close(websocket.StatusNormalClosure, "")
	}()
	var got []byte
	b := make([]byte, 2)
	for {
		n, err := conn.Read(b)
		got = append(got, b[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil || n == 0 {
			t.Fatalf("%d, %v", n, err)
		}
	}
	if string(got) != "onetwothree" {
		t.Errorf("read %q", got)
	}
	if n, err := conn.Read(b); n != 0 || err != io.EOF {
		t.Errorf("after the end: %d, %v", n, err)
	}
	if conn.RemoteAddr().Network() != "tcp" || conn.LocalAddr().String() == conn.RemoteAddr().String() {
		t.Errorf("from %v to %v", conn.LocalAddr(), conn.RemoteAddr())
	}
}

func TestWritesAreMessages(t *testing.T) {
	conn, server := pair(t)
	for _, n := range []int{1, chunk, chunk + 1, 300_000, 2} {
		want := bytes.Repeat([]byte{byte(n)}, n)
		go conn.Write(want)
		kind, got, err := server.Read(testContext(t))
		if err != nil || kind != websocket.MessageBinary || !bytes.Equal(got, want) {
			t.Fatalf("%v of %d bytes, %v, want %d bytes", kind, len(got), err, n)
		}
	}
	if n, err := conn.Write(nil); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if b := conn.(*wsConn).link.buf; b != nil {
		t.Errorf("a buffer of %d bytes stays", cap(b))
	}
}

// TestServerEnds: how the server may end a WebSocket.
func TestServerEnds(t *testing.T) {
	f := func(name, want string, end func(*websocket.Conn)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			conn, server := pair(t)
			go end(server)
			n, err := conn.Read(make([]byte, 10))
			if n != 0 || err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%d, %v, want %s", n, err, want)
			}
			if _, again := conn.Read(make([]byte, 10)); again == nil {
				t.Error("the next read has no error")
			}
		})
	}
	f("goodbye", "EOF", func(c *websocket.Conn) { _ = c.Close(websocket.StatusGoingAway, "") })
	f("no code", "EOF", func(c *websocket.Conn) { _ = c.Close(websocket.StatusNoStatusRcvd, "") })
	f("code", `code 1008 "no such thing"`, func(c *websocket.Conn) { _ = c.Close(websocket.StatusPolicyViolation, "no such thing") })
	f("cut", "EOF", func(c *websocket.Conn) { _ = c.CloseNow() })
	f("text", "MQTT is binary", func(c *websocket.Conn) { // [MQTT-6.0.0-1]
		_ = c.Write(context.Background(), websocket.MessageText, []byte("hello"))
	})
}

// TestCutWithin: the connection ends within a message.
func TestCutWithin(t *testing.T) {
	conn, server := pair(t)
	w, err := server.Writer(testContext(t), websocket.MessageBinary)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(w, strings.Repeat("x", 5000))
	_ = server.CloseNow()
	if n, err := io.Copy(io.Discard, conn); n == 0 || err != io.ErrUnexpectedEOF {
		t.Errorf("read %d, %v", n, err)
	}
}

func TestReadDeadline(t *testing.T) {
	conn, server := pair(t)
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	_, err := conn.Read(make([]byte, 1))
	if e, ok := err.(net.Error); !ok || !e.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	// Writing goes on.
	go conn.Write([]byte("x"))
	if _, b, err := server.Read(testContext(t)); err != nil || string(b) != "x" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestReadDeadlineMoves: one that is far away, and one that is taken back.
func TestReadDeadlineMoves(t *testing.T) {
	conn, server := pair(t)
	for range 3 {
		_ = conn.SetDeadline(time.Now().Add(time.Hour))
		_ = server.Write(testContext(t), websocket.MessageBinary, []byte("x"))
		if n, err := conn.Read(make([]byte, 10)); n != 1 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		_ = conn.SetDeadline(time.Unix(1, 0))
		_ = conn.SetDeadline(time.Time{})
	}
}

func TestWriteDeadline(t *testing.T) {
	conn, _ := pair(t) // the server does not read
	_ = conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	var err error
	for b := make([]byte, 1<<20); err == nil; {
		_, err = conn.Write(b)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
	_ = conn.SetWriteDeadline(time.Time{})
	if _, err := conn.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write behind half a message: %v", err)
	}
}

// TestClose ends a Read and a Write that wait, at once, and twice is no harm.
func TestClose(t *testing.T) {
	conn, _ := pair(t) // the server neither reads nor writes
	errs := make(chan error, 2)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		errs <- err
	}()
	writing := make(chan bool)
	go func() {
		b := make([]byte, 8<<20)
		close(writing)
		for {
			if _, err := conn.Write(b); err != nil {
				errs <- err
				return
			}
		}
	}()
	<-writing
	begin := time.Now()
	if err := conn.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	for range 2 {
		if err := await(t, errs, "end"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("ended with %v", err)
		}
	}
	if d := time.Since(begin); d > goodbye+4*time.Second {
		t.Errorf("took %v", d)
	}
	if err := conn.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("close again: %v", err)
	}
	if err := conn.SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("deadline: %v", err)
	}
}

// TestCloseSaysGoodbye: the server sees an orderly end.
func TestCloseSaysGoodbye(t *testing.T) {
	for range 20 {
		conn, server := pair(t)
		_, _ = conn.Write([]byte("bye"))
		_ = conn.Close()
		if _, b, err := server.Read(testContext(t)); err != nil || string(b) != "bye" {
			t.Fatalf("%q, %v", b, err)
		}
		if _, _, err := server.Read(testContext(t)); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
			t.Fatalf("ended with %v", err)
		}
	}
}

// deadlineless is a connection through something that has no deadlines.
type deadlineless struct{ net.Conn }

func (deadlineless) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (deadlineless) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

// TestCloseIsPrompt although the server does not answer, whatever is below.
func TestCloseIsPrompt(t *testing.T) {
	for _, below := range []func(net.Conn) net.Conn{
		func(c net.Conn) net.Conn { return c },
		func(c net.Conn) net.Conn { return deadlineless{c} },
	} {
		ln := serve(t, listen(t, "tcp", "127.0.0.1:0"), func(c net.Conn) {
			acceptRaw(c)
			silent(c)
		})
		conn, err := parse(t, "ws://"+ln.Addr().String()).Dial(testContext(t), Options{
			Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := new(net.Dialer).DialContext(ctx, network, address)
				return below(c), err
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		if d := time.Since(begin); d > 2*time.Second {
			t.Errorf("took %v", d)
		}
	}
}

// TestManyWriters: writes from many goroutines do not mix.
func TestManyWriters(t *testing.T) {
	conn, server := pair(t)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 20 {
				_, _ = conn.Write(bytes.Repeat([]byte{byte(i)}, 1+n*1000))
			}
		})
	}
	for range 4 * 20 {
		_, b, err := server.Read(testContext(t))
		if err != nil || len(bytes.Trim(b, string(b[0]))) != 0 {
			t.Fatalf("mixed: %v", err)
		}
	}
	all.Wait()
}

// TestIdleMemory holds what an idle WebSocket costs on the heap, its end of the
// network connection included.
func TestIdleMemory(t *testing.T) {
	const n = 200
	over := make(chan bool)
	held := make(chan bool, n)
	// The server is raw, so that its part is small.
	ln := serve(t, listen(t, "tcp", "127.0.0.1:0"), func(c net.Conn) {
		acceptRaw(c)
		held <- true
		<-over
	})
	t.Cleanup(func() { close(over) })
	target := parse(t, "ws://"+ln.Addr().String())
	dialAll := func(n int) (all []net.Conn) {
		for range n {
			c, err := target.Dial(testContext(t), Options{})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, c)
			await(t, held, "server's end")
		}
		return all
	}
	first := dialAll(10)
	before := heap()
	all := dialAll(n)
	each := int64(heap()-before) / n
	t.Logf("%d bytes for each connection, with the server's end", each)
	if each > 14<<10 {
		t.Errorf("%d bytes for each connection", each)
	}
	for _, c := range append(first, all...) {
		_ = c.Close()
	}
}

func heap() uint64 {
	var m runtime.MemStats
	for range 3 { // pools and finalizers need more than one
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
