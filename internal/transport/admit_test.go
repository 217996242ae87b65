package transport

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func prefixes(s ...string) (ps []netip.Prefix) {
	for _, x := range s {
		ps = append(ps, netip.MustParsePrefix(x))
	}
	return ps
}

func TestGateAddresses(t *testing.T) {
	g := gate{o: &Access{Allow: prefixes("10.0.0.0/8", "2001:db8::/32"), Deny: prefixes("10.1.0.0/16", "2001:db8:1::/48")}}
	for addr, want := range map[string]bool{
		"10.2.3.4": true, "::ffff:10.2.3.4": true, "10.1.3.4": false, "11.0.0.1": false, "::ffff:10.1.0.1": false,
		"2001:db8::1": true, "2001:db8:1::1": false, "2001:db9::1": false, "::1": false,
	} {
		if got := g.enter(netip.MustParseAddr(addr), time.Now()) == nil; got != want {
			t.Errorf("%s: %t", addr, got)
		}
	}
	if g = (gate{o: &Access{}}); !g.allows(netip.MustParseAddr("203.0.113.9")) {
		t.Error("without rules an address is refused")
	}
}

func TestGateCounts(t *testing.T) {
	g := gate{o: &Access{MaxConnsPerAddr: 2}}
	now := time.Now()
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2") // one network
	c := netip.MustParseAddr("2001:db8:0:1::1")
	for i, x := range []struct {
		a    netip.Addr
		want error
	}{{a, nil}, {b, nil}, {a, ErrTooManyOfAddress}, {c, nil}} {
		if err := g.enter(x.a, now); err != x.want {
			t.Errorf("%d: %v, want %v", i, err, x.want)
		}
	}
	g.leave(b)
	if err := g.enter(a, now); err != nil {
		t.Error(err)
	}
	for _, x := range []netip.Addr{a, a, c} {
		g.leave(x)
	}
	if len(g.addrs) != 0 {
		t.Errorf("%d addresses are left", len(g.addrs))
	}
}

func TestGateRates(t *testing.T) {
	g := gate{o: &Access{Rate: 3, RatePerAddr: 0.5}}
	now := time.Now()
	a := netip.MustParseAddr("192.0.2.1")
	for i, x := range []struct {
		after time.Duration
		want  error
	}{{0, nil}, {0, ErrTooFast}, {time.Second, ErrTooFast}, {time.Second, nil}, {time.Hour, nil}, {0, ErrTooFast}} {
		now = now.Add(x.after)
		err := g.enter(a, now)
		if err != x.want {
			t.Errorf("%d: %v, want %v", i, err, x.want)
		}
		if err == nil {
			g.leave(a)
		}
	}
	got := ""
	for range 5 {
		got += fmt.Sprint(g.fast(now), " ")
	}
	if got != "false false false true true " {
		t.Errorf("fast: %s", got)
	}
	if g.fast(now.Add(time.Second)) {
		t.Error("a second later it is too fast")
	}
	// Addresses that are quiet are forgotten, however many come.
	for i := range 3 * maxOrigins {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(i))
		now = now.Add(time.Millisecond)
		if err := g.enter(netip.AddrFrom4(b), now); err != nil {
			t.Fatal(err)
		}
		g.leave(netip.AddrFrom4(b))
	}
	if n := len(g.addrs); n > maxOrigins {
		t.Errorf("%d addresses are remembered", n)
	}
}

// TestGateListens: each refusal closes the socket, is told with its reason, and is counted; what has gone makes room.
func TestGateListens(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		for _, x := range []struct {
			o    Access
			want error
		}{
			{Access{Deny: prefixes("127.0.0.0/8")}, ErrDenied},
			{Access{Allow: prefixes("192.0.2.0/24")}, ErrDenied},
			{Access{MaxConnsPerAddr: 1}, ErrTooManyOfAddress},
			{Access{Rate: 1e-6}, ErrTooFast},
			{Access{RatePerAddr: 1e-6}, ErrTooFast},
		} {
			refused := make(chan error, 10)
			s, _ := serve(t, &echo{refused: func(why error) { refused <- why }}, "tcp", Options{Driver: driver})
			ln, err := s.Listen("tcp://127.0.0.1:0", ListenOptions{Access: x.o})
			if err != nil {
				t.Fatal(err)
			}
			if x.want != ErrDenied {
				first := dial(t, ln)
				send(t, first, frame(1, 40))
				expect(t, first, frame(1, 40))
				defer first.Close()
			}
			if n, err := dial(t, ln).Read(make([]byte, 1)); err == nil {
				t.Errorf("%v: %d bytes came", x.want, n)
			}
			if err := await(t, refused, "refusal"); err != x.want {
				t.Errorf("%v, want %v", err, x.want)
			}
			if n := s.Stats().RefusedAddress; n != 1 {
				t.Errorf("%v: %d counted", x.want, n)
			}
		}
		s, _ := serve(t, &echo{}, "tcp", Options{Driver: driver})
		ln, err := s.Listen("tcp://127.0.0.1:0", ListenOptions{Access: Access{MaxConnsPerAddr: 1}})
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			nc := dial(t, ln)
			send(t, nc, frame(1, 40))
			expect(t, nc, frame(1, 40))
			_ = nc.Close()
			eventually(t, func() bool { return s.Stats().Sockets == 0 })
		}
	})
}

// header2 is a PROXY header of version 2.
func header2(command, family byte, body ...byte) string {
	b := append([]byte(proxyV2), 0x20|command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return string(append(b, body...))
}

func TestProxyHeader(t *testing.T) {
	v4 := []byte{192, 0, 2, 7, 192, 0, 2, 1, 0x9c, 0x40, 7, 91}
	v6 := append(netip.MustParseAddr("2001:db8::7").AsSlice(), append(netip.MustParseAddr("2001:db8::1").AsSlice(), 0x9c, 0x40, 7, 91)...)
	for header, want := range map[string]string{
		"PROXY TCP4 192.0.2.7 192.0.2.1 40000 1883\r\n":     "192.0.2.7:40000",
		"PROXY TCP6 2001:db8::7 2001:db8::1 40000 1883\r\n": "[2001:db8::7]:40000",
		"PROXY UNKNOWN\r\n":                         "invalid AddrPort",
		"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n":     "invalid AddrPort",
		header2(1, 0x11, v4...):                     "192.0.2.7:40000",
		header2(1, 0x11, append(v4, 4, 0, 1, 9)...): "192.0.2.7:40000",
		header2(1, 0x21, v6...):                     "[2001:db8::7]:40000",
		header2(0, 0x11, v4...):                     "invalid AddrPort",
		header2(0, 0):                               "invalid AddrPort",
		header2(1, 0x31, make([]byte, 216)...):      "invalid AddrPort", // a Unix socket's
		header2(1, 0):                               "invalid AddrPort",
	} {
		b := header + "\x10\x00"
		from, n, err := proxyHeader([]byte(b))
		if err != nil || n != len(header) || from.String() != want {
			t.Errorf("%q: %s, %d of %d, %v", header, from, n, len(header), err)
		}
		for i := range len(header) {
			if _, n, err := proxyHeader([]byte(header[:i])); n != 0 || err != nil {
				t.Fatalf("%q: %d, %v", header[:i], n, err)
			}
		}
	}
	for _, bad := range []string{
		"\x10\x0c\x00\x04MQTT", "GET / HTTP/1.1\r\n", "PROXY\r\n", "PROXY \r\n", "PROXY TCP4 192.0.2.7\r\n",
		"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n", "PROXY TCP6 192.0.2.7 192.0.2.1 1 2\r\n", "PROXY TCP4 192.0.2.7 192.0.2.1 65536 2\r\n",
		"PROXY TCP4 192.0.2.7 192.0.2.1 01 2\r\n", "PROXY TCP4 192.0.2.7 192.0.2.1 1 2 3\r\n", "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
		"PROXY " + strings.Repeat("x", 200), header2(2, 0x11, v4...), header2(1, 0x11, v4[:11]...), header2(1, 0x21, v6[:35]...),
		header2(1, 0x11, make([]byte, maxProxy2)...), strings.Replace(header2(1, 0x11, v4...), "\x21\x11", "\x31\x11", 1),
	} {
		if from, n, err := proxyHeader([]byte(bad)); err != ErrProxy {
			t.Errorf("%q: %s, %d, %v", bad, from, n, err)
		}
	}
}

func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.7 192.0.2.1 40000 1883\r\n"))
	f.Add([]byte(header2(1, 0x11, make([]byte, 12)...)))
	f.Fuzz(func(t *testing.T, b []byte) {
		from, n, err := proxyHeader(b)
		if n > len(b) || n < 0 || n > maxProxy2 || err != nil && (n != 0 || from.IsValid()) {
			t.Fatalf("%s, %d of %d, %v", from, n, len(b), err)
		}
		if n == 0 && err == nil && len(b) > maxProxy2 {
			t.Fatalf("%d bytes are no header yet", len(b))
		}
		if n > 0 { // what follows does not matter
			if from2, n2, err := proxyHeader(append(b[:n:n], "more"...)); from2 != from || n2 != n || err != nil {
				t.Fatalf("%s, %d, %v", from2, n2, err)
			}
		}
	})
}

// TestProxy: whatever lies behind the header, cut anywhere, the address is the one that it tells, and the rules are for
// that one; the proxy's own does not count.
func TestProxy(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		for _, scheme := range []string{"tcp", "ws", "tls", "wss"} {
			t.Run(scheme, func(t *testing.T) {
				addrs, refused := make(chan string, 10), make(chan error, 10)
				h := &echo{open: func(_ *Turn, c *Conn) { addrs <- c.RemoteAddr() }, refused: func(why error) { refused <- why }}
				s, _ := serve(t, h, "tcp", Options{Driver: driver, ConnectTimeout: 500 * time.Millisecond})
				ln, err := s.Listen(scheme+"://127.0.0.1:0", ListenOptions{
					Access: Access{Proxies: prefixes("127.0.0.0/8"), Deny: prefixes("192.0.2.66/32"), MaxConnsPerAddr: 1}, TLS: serverTLS(),
				})
				if err != nil {
					t.Fatal(err)
				}
				connect := func(head string, cut int) net.Conn {
					nc, err := net.Dial("tcp", ln.Addr().String())
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { _ = nc.Close() })
					_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
					send(t, nc, []byte(head[:cut]))
					if cut < len(head) {
						<-time.After(2 * time.Millisecond) // so that it comes in two
						send(t, nc, []byte(head[cut:]))
					}
					return nc
				}
				head := "PROXY TCP4 192.0.2.7 192.0.2.1 40000 1883\r\n"
				var kept []net.Conn
				for i, head := range []string{head, strings.Replace(head, ".7", ".8", 1), header2(1, 0x11, 192, 0, 2, 9, 0, 0, 0, 0, 0x9c, 0x40, 0, 1)} {
					nc := layers(t, connect(head, (i*20+1)%len(head)), scheme)
					send(t, nc, frame(i, 5000))
					expect(t, nc, frame(i, 5000))
					if a := await(t, addrs, "connection"); a != fmt.Sprintf("192.0.2.%d:40000", 7+i) {
						t.Errorf("from %s", a)
					}
					kept = append(kept, nc)
				}
				for head, want := range map[string]error{
					head: ErrTooManyOfAddress, strings.Replace(head, ".7", ".66", 1): ErrDenied, "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00": ErrProxy, "PROXY ": ErrTimeout,
				} {
					connect(head, len(head))
					if err := await(t, refused, "refusal"); err != want {
						t.Errorf("%q: %v, want %v", head, err, want)
					}
				}
				_ = kept[0].Close()
				eventually(t, func() bool { return s.Stats().Sockets == 2 })
				nc := layers(t, connect(head, 3), scheme)
				send(t, nc, frame(1, 50))
				expect(t, nc, frame(1, 50))
			})
		}
	})
}
