package dial

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func TestHint(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("its errors have other numbers and texts")
	}
	f := func(err error, text, hint string) {
		t.Helper()
		if err.Error() != text {
			t.Errorf("error %q, want %q", err, text)
		}
		got := Hint(fmt.Errorf("connect: %w", err))
		if !strings.Contains(got, hint) || (got == "") != (hint == "") {
			t.Errorf("%v: hint %q, want %q", err, got, hint)
		}
	}
	errno := func(n syscall.Errno) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: &os.SyscallError{Syscall: "connect", Err: n}}
	}
	of := func(p Phase, err error) error { return &Error{Phase: p, Address: "h:1", Err: err} }

	f(of(DNS, &net.DNSError{Err: "no such host", Name: "h", Server: "9.9.9.9:53", IsNotFound: true}), "look up h:1: no such host (says 9.9.9.9:53)", "nslookup h")
	f(of(DNS, &net.DNSError{Err: "server misbehaving", Name: "h", IsTemporary: true}), "look up h:1: server misbehaving", "name server")
	f(of(DNS, context.DeadlineExceeded), "look up h:1: no answer in time", "name server")
	f(of(DNS, errors.New("x")), "look up h:1: x", "")

	f(of(TCP, errno(syscall.ECONNREFUSED)), "connect to h:1: connection refused", "nothing listens")
	f(of(TCP, errno(syscall.ENETUNREACH)), "connect to h:1: network is unreachable", "no way there")
	f(of(TCP, errno(syscall.EHOSTUNREACH)), "connect to h:1: no route to host", "no way there")
	f(of(TCP, errno(syscall.ETIMEDOUT)), "connect to h:1: no answer in time", "firewall")
	f(of(TCP, context.DeadlineExceeded), "connect to h:1: no answer in time", "firewall")
	f(of(TCP, context.Canceled), "connect to h:1: cancelled", "")
	f(of(TCP, failures{{"a", errno(syscall.ENETUNREACH)}, {"b", errno(syscall.ECONNREFUSED)}}),
		"connect to h:1: a: network is unreachable; b: connection refused", "nothing listens")
	f(of(TCP, errno(syscall.EMFILE)), "connect to h:1: too many open files", "ulimit")
	f(of(TCP, errno(syscall.EADDRNOTAVAIL)), "connect to h:1: cannot assign requested address", "local port")
	f(of(TLS, x509.SystemRootsError{}), "TLS handshake with h:1: x509: failed to load system roots and no roots provided", "(CA)")
	f(of(TCP, errno(syscall.EACCES)), "connect to h:1: permission denied", "permissions")
	f(of(TCP, fs.ErrNotExist), "connect to h:1: file does not exist", "no such socket")

	f(of(TLS, io.EOF), "TLS handshake with h:1: the server closed the connection", "speak TLS")
	f(of(TLS, context.DeadlineExceeded), "TLS handshake with h:1: no answer in time", "speak TLS")
	f(of(TLS, errno(syscall.ECONNRESET)), "TLS handshake with h:1: connection reset by peer", "speak TLS")
	f(of(TLS, errors.New("x")), "TLS handshake with h:1: x", "")
	f(of(WebSocket, io.EOF), "WebSocket upgrade at h:1: the server closed the connection", "speak WebSocket")
	f(of(WebSocket, &StatusError{Code: 302, Location: "x"}), "WebSocket upgrade at h:1: HTTP 302 Found to x", "redirections")
	f(of(WebSocket, &StatusError{Code: 799}), "WebSocket upgrade at h:1: HTTP 799", "path")

	for _, err := range []error{nil, io.EOF, errors.New("x")} {
		if h := Hint(err); h != "" {
			t.Errorf("%v: hint %q", err, h)
		}
	}
}

func TestPhaseOf(t *testing.T) {
	f := func(err error, want Phase) {
		t.Helper()
		if got := PhaseOf(fmt.Errorf("connect: %w", err)); got != want {
			t.Errorf("%v is of %v, want %v", err, got, want)
		}
	}
	f(&Error{Phase: WebSocket, Err: &net.DNSError{}}, WebSocket)
	f(&net.DNSError{}, DNS)
	f(&net.OpError{Op: "remote error", Err: errors.New("tls: x")}, TLS)
	f(&tls.CertificateVerificationError{Err: errors.New("x")}, TLS)
	f(&net.OpError{Op: "read", Err: errors.New("x")}, 0)
	f(io.EOF, 0)
}

// TestHintAlert: what the other end says of this client's certificate.
func TestHintAlert(t *testing.T) {
	f := func(text, hint string) {
		t.Helper()
		err := &net.OpError{Op: "remote error", Err: errors.New("tls: " + text)}
		if h := Hint(err); !strings.Contains(h, hint) || (h == "") != (hint == "") {
			t.Errorf("%s: hint %q, want %q", text, h, hint)
		}
	}
	f("certificate required", "wants a client certificate")
	f("handshake failure", "in common")
	f("bad certificate", "this client's certificate")
	f("expired certificate", "this client's certificate")
	f("unknown certificate authority", "this client's certificate")
	f("protocol version not supported", "version")
	f("unrecognized name", "server name")
	f("no application protocol", "ALPN")
	f("internal error", "")
	f("something else", "")
}

func TestAdvise(t *testing.T) {
	f := func(address string, err error, hint string) {
		t.Helper()
		advised := parse(t, address).Advise(err)
		if !errors.Is(advised, err) || advised.Error() != err.Error() {
			t.Errorf("%v became %v", err, advised)
		}
		if h := Hint(fmt.Errorf("x: %w", advised)); !strings.Contains(h, hint) || (h == "") != (hint == "") {
			t.Errorf("%s, %v: hint %q, want %q", address, err, h, hint)
		}
	}
	f("mqtt://h:8883", io.EOF, "try tls://h:8883")
	f("mqtt://u:secret@h:8083", context.DeadlineExceeded, "try ws://h:8083/mqtt")
	f("mqtt://h:443", io.EOF, "try wss://h:443/mqtt")
	f("mqtts://h:443", io.EOF, "try wss://h:443/mqtt")
	f("mqtt://h:8883", context.Canceled, "")
	f("mqtt://h:8883", &Error{Phase: TCP, Err: syscall.ECONNREFUSED}, "nothing listens")
	f("mqtt://h", io.EOF, "")
	f("mqtts://h", io.EOF, "")
}

func TestNotMQTT(t *testing.T) {
	bad := errors.New("bad packet")
	f := func(answer, text, hint string) {
		t.Helper()
		err := NotMQTT([]byte(answer), bad)
		if err.Error() != text || !errors.Is(err, bad) || Hint(err) != hint {
			t.Errorf("%q: %v, hint %q, want %s, hint %q", answer, err, Hint(err), text, hint)
		}
	}
	f("", "bad packet", "")
	f("\x15", "bad packet", "")
	f("\x15\x03\x03\x00\x02", "the server speaks TLS there: bad packet", "try mqtts:// for mqtt://")
	f("HTTP/1.1 400 Bad Request", "the server speaks HTTP there: bad packet", "try ws:// for mqtt://, or wss:// for mqtts://")
	f("HTTP", "bad packet", "")
}

func TestPrintable(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got := printable(in, 10); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	f(" a b ", "a b")
	f("a\nb\x1b[31m\u009b", "a?b?[31m?")
	f("a\xffb", "a?b")
	f("ääääääää", "äääää...")
	f("xääääääää", "xääää...")
}
