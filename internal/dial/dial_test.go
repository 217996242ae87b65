package dial

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// where starts an echo for each scheme and tells its address.
func where(t *testing.T, a *authority, scheme string) (address string) {
	own := a.server(t)
	switch scheme {
	case "tcp":
		return "mqtt://" + serve(t, listen(t, "tcp", "127.0.0.1:0"), echo).Addr().String()
	case "tls":
		ln := tls.NewListener(listen(t, "tcp", "127.0.0.1:0"), &tls.Config{Certificates: []tls.Certificate{own}})
		return "mqtts://" + serve(t, ln, echo).Addr().String()
	case "ws":
		return "ws" + strings.TrimPrefix(web(t, nil, echoWeb).URL, "http")
	case "wss":
		return "wss" + strings.TrimPrefix(web(t, &own, echoWeb).URL, "https")
	}
	path := filepath.Join(t.TempDir(), "s")
	serve(t, listen(t, "unix", path), echo)
	return Target{Scheme: "unix", Path: path}.String()
}

func TestSchemes(t *testing.T) {
	a := newAuthority(t, "test authority")
	f := func(scheme string, phases ...Phase) {
		t.Helper()
		t.Run(scheme, func(t *testing.T) {
			if scheme == "unix" && runtime.GOOS == "windows" {
				t.Skip("sockets are for others")
			}
			target := parse(t, where(t, a, scheme))
			if target.Host == "127.0.0.1" {
				target.Host = "localhost"
			}
			var got []Phase
			end := time.Now()
			var state *tls.ConnectionState
			conn, err := target.Dial(testContext(t), Options{
				TLS:     &tls.Config{RootCAs: a.pool()},
				Network: "tcp4",
				Phase: func(e Event) {
					got = append(got, e.Phase)
					if e.Begin.Before(end) || e.End.Before(e.Begin) {
						t.Errorf("%v from %v to %v, and the one before ended at %v", e.Phase, e.Begin, e.End, end)
					}
					if e.Err != nil {
						t.Errorf("%v: %v", e.Phase, e.Err)
					}
					want := map[bool]string{true: "localhost", false: "127.0.0.1:" + target.Port}[e.Phase == DNS]
					if scheme != "unix" && e.Address != want {
						t.Errorf("%v: address %s", e.Phase, e.Address)
					}
					if e.State != nil {
						state = e.State
					}
					end = e.End
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if !slices.Equal(got, phases) {
				t.Errorf("phases %v, want %v", got, phases)
			}
			secure := scheme == "tls" || scheme == "wss"
			if secure != (state != nil) || secure != (State(conn) != nil) {
				t.Errorf("TLS state %v and %v", state, State(conn))
			}
			if secure && (!state.HandshakeComplete || state.ServerName != "localhost" || len(state.VerifiedChains) == 0) {
				t.Errorf("TLS state %+v", state)
			}
			exchange(t, conn)
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("read after Close: %v", err)
			}
			if _, err := conn.Write(make([]byte, 1)); !errors.Is(err, net.ErrClosed) && !secure {
				t.Errorf("write after Close: %v", err)
			}
		})
	}
	f("tcp", DNS, TCP)
	f("tls", DNS, TCP, TLS)
	f("ws", DNS, TCP, WebSocket)
	f("wss", DNS, TCP, TLS, WebSocket)
	f("unix", TCP)
}

// exchange writes in many sizes and reads it all back.
func exchange(t *testing.T, conn net.Conn) {
	t.Helper()
	var want []byte
	sizes := []int{1, 2, 125, 126, 127, 4000, chunk - 1, chunk, chunk + 1, 4096, 65535, 65536, gathered + chunk, 3 << 20, 5, 70_000, 10}
	for i, n := range sizes {
		want = append(want, bytes.Repeat([]byte{byte(i), 7, 9}, n/3+1)[:n]...)
	}
	var writer sync.WaitGroup
	writer.Go(func() {
		b := want
		for _, n := range sizes {
			if m, err := conn.Write(b[:n]); m != n || err != nil {
				t.Errorf("wrote %d of %d: %v", m, n, err)
				return
			}
			b = b[n:]
		}
	})
	got := make([]byte, len(want))
	if n, err := io.ReadFull(conn, got); err != nil {
		t.Errorf("read %d of %d: %v", n, len(want), err)
	} else if !bytes.Equal(got, want) {
		t.Error("what came back is not what was sent")
	}
	writer.Wait()
}

// TestCancel: in each phase the server accepts, and then says nothing.
func TestCancel(t *testing.T) {
	a := newAuthority(t, "test authority")
	own := a.server(t)
	f := func(scheme string, phase Phase) {
		t.Helper()
		t.Run(scheme, func(t *testing.T) {
			for _, cause := range []error{context.Canceled, context.DeadlineExceeded} {
				reached := make(chan bool, 1)
				ln := serve(t, listen(t, "tcp", "127.0.0.1:0"), func(c net.Conn) {
					if scheme == "wss" {
						s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{own}})
						if s.Handshake() != nil {
							return
						}
						c = s
					}
					// It has heard the client, and does not answer.
					_, _ = c.Read(make([]byte, 1))
					reached <- true
					silent(c)
				})
				ctx, cancel := context.WithCancel(testContext(t))
				if cause == context.DeadlineExceeded {
					ctx, cancel = context.WithTimeout(testContext(t), 200*time.Millisecond)
				} else {
					go func() {
						<-reached
						cancel()
					}()
				}
				var last Event
				target := parse(t, scheme+"://"+ln.Addr().String())
				conn, err := target.Dial(ctx, Options{TLS: &tls.Config{RootCAs: a.pool()}, Phase: func(e Event) { last = e }})
				cancel()
				e, ok := errors.AsType[*Error](err)
				if conn != nil || !ok || e.Phase != phase || !errors.Is(err, cause) || e.Timeout() != (cause == context.DeadlineExceeded) {
					t.Errorf("%v: %v, %v", cause, conn, err)
				}
				if last.Phase != phase || last.Err == nil {
					t.Errorf("%v: last event %+v", cause, last)
				}
				if h := Hint(err); (h == "") != (cause == context.Canceled) {
					t.Errorf("%v: hint %q", cause, h)
				}
			}
		})
	}
	f("tls", TLS)
	f("ws", WebSocket)
	f("wss", WebSocket)
}

func TestEnded(t *testing.T) {
	ln := serve(t, listen(t, "tcp", "127.0.0.1:0"), silent)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, s := range []string{"mqtt://" + ln.Addr().String(), "mqtt://localhost:" + port(ln), "ws://" + ln.Addr().String(), "unix:///none"} {
		if conn, err := parse(t, s).Dial(ctx, Options{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, %v", s, conn, err)
		}
	}
}

func TestOwnDial(t *testing.T) {
	a := newAuthority(t, "test authority")
	refused := errors.New("no such route")
	for _, scheme := range []string{"tcp", "tls", "ws", "wss", "unix"} {
		to := parse(t, where(t, a, scheme))
		asked := to
		if scheme != "unix" {
			asked.Host, asked.Port = "far.invalid", "7"
		}
		var phases []Phase
		o := Options{TLS: &tls.Config{RootCAs: a.pool(), ServerName: "localhost"}, Phase: func(e Event) { phases = append(phases, e.Phase) }}
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			want := "far.invalid:7"
			if scheme == "unix" {
				want = to.Path
			}
			if address != want || network != map[bool]string{true: "unix", false: "tcp"}[scheme == "unix"] {
				t.Errorf("%s: asked for %s %s", scheme, network, address)
			}
			return new(net.Dialer).DialContext(ctx, network, to.Address())
		}
		conn, err := asked.Dial(testContext(t), o)
		if err != nil {
			t.Errorf("%s: %v", scheme, err)
			continue
		}
		exchange(t, conn)
		_ = conn.Close()
		if phases[0] != TCP {
			t.Errorf("%s: %v", scheme, phases)
		}

		o.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, refused }
		_, err = asked.Dial(testContext(t), o)
		if e, ok := errors.AsType[*Error](err); !ok || e.Phase != TCP || !errors.Is(err, refused) || !strings.HasSuffix(e.Error(), ": no such route") {
			t.Errorf("%s: %v", scheme, err)
		}
	}
}

func TestRefused(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0")
	_ = ln.Close()
	_, err := parse(t, ln.Addr().String()).Dial(testContext(t), Options{})
	if want := "connect to " + ln.Addr().String() + ": connection refused"; err == nil || err.Error() != want && runtime.GOOS != "windows" {
		t.Errorf("error %v, want %s", err, want)
	}
	if !isErrno(err, syscall.ECONNREFUSED, 10061) || !strings.Contains(Hint(err), "nothing listens there") {
		t.Errorf("hint %q", Hint(err))
	}
	_, err = parse(t, "unix:///no/such/socket").Dial(testContext(t), Options{})
	if want := "connect to /no/such/socket: no such file or directory"; err == nil || err.Error() != want && runtime.GOOS != "windows" {
		t.Errorf("error %v, want %s", err, want)
	}
	if h := Hint(err); !strings.Contains(h, "no such socket") {
		t.Errorf("hint %q", h)
	}
}

// TestBadTarget: a program may fill in a Target itself.
func TestBadTarget(t *testing.T) {
	f := func(target Target, o Options, want string) {
		t.Helper()
		if _, err := target.Dial(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", target, err, want)
		}
	}
	f(Target{}, Options{}, "unknown scheme")
	f(Target{Scheme: "mqtt", Host: "h", Port: "1"}, Options{}, "unknown scheme")
	f(Target{Scheme: "tcp", Port: "1"}, Options{}, "without host")
	f(Target{Scheme: "tcp", Host: "h"}, Options{}, "without host or port")
	f(Target{Scheme: "tcp", Host: "::1", Port: "x"}, Options{}, "port")
	f(Target{Scheme: "unix"}, Options{}, "without a path")
	f(Target{Scheme: "tcp", Host: "h", Port: "1"}, Options{Network: "udp"}, "udp")
}

func TestPhaseString(t *testing.T) {
	var all []string
	for p := range WebSocket + 1 {
		all = append(all, p.String())
	}
	if got := strings.Join(all, " "); got != "none dns tcp tls websocket" {
		t.Error(got)
	}
}
