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
	"net/http"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Hint says what a person may try after the error of Target.Dial, LoadTLS, or of
// a connection that Target.Dial made; empty: nothing is known.
func Hint(err error) string {
	if h, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok {
		return h.Hint()
	}
	if errors.Is(err, context.Canceled) {
		return ""
	}
	if h := hintTLS(err); h != "" {
		return h
	}
	if h := hintWebSocket(err); h != "" {
		return h
	}
	if h := hintNetwork(err); h != "" {
		return h
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return ""
	}
	hungUp := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || isErrno(err, syscall.ECONNRESET, 10054) || isErrno(err, syscall.EPIPE, 10053)
	switch e.Phase {
	case TLS:
		switch {
		case hungUp:
			return "does that port speak TLS? mqtt:// and ws:// are without; or the broker wants a client certificate"
		case e.Timeout():
			return "does that port speak TLS? mqtt:// and ws:// are without"
		}
	case WebSocket:
		switch {
		case hungUp:
			return "does that port speak WebSocket? mqtt:// and mqtts:// are without; wss:// is with TLS"
		case e.Timeout():
			return "does that port speak WebSocket? mqtt:// and mqtts:// are without"
		}
	}
	return ""
}

// Advise gives a Hint to the error of a server that took the connection and
// ended it, or said nothing or nonsense, before it spoke MQTT: where the port is
// one that mostly has another protocol.
func (t Target) Advise(err error) error {
	if hint := t.other(); hint != "" && Hint(err) == "" && !errors.Is(err, context.Canceled) {
		return &advised{err, hint}
	}
	return err
}

// other says what the port mostly has in place of what the scheme says.
func (t Target) other() string {
	to := Target{Host: t.Host, Port: t.Port, Path: "/mqtt"}
	switch t.Scheme + ":" + t.Port {
	case "tcp:8883", "tcp:8884":
		to.Scheme, to.Path = "tls", ""
		return fmt.Sprintf("port %s mostly is for TLS: try %s", t.Port, to)
	case "tcp:80", "tcp:8080", "tcp:8083", "tcp:9001":
		to.Scheme = "ws"
		return fmt.Sprintf("port %s mostly is for WebSocket: try %s", t.Port, to)
	case "tcp:443", "tcp:8084", "tls:443", "tls:8084":
		to.Scheme = "wss"
		return fmt.Sprintf("port %s mostly is for WebSocket with TLS: try %s", t.Port, to)
	}
	return ""
}

// advised is an error with a hint.
type advised struct {
	error
	hint string
}

func (e *advised) Unwrap() error { return e.error }

// Hint is what to try.
func (e *advised) Hint() string { return e.hint }

// NotMQTT is err, the fault in the first bytes of a server's answer, or says
// that they are of another protocol.
func NotMQTT(answer []byte, err error) error {
	switch head := string(answer[:min(len(answer), 5)]); {
	case strings.HasPrefix(head, "\x15\x03"): // an alert of TLS
		return &advised{fmt.Errorf("the server speaks TLS there: %w", err), "try mqtts:// for mqtt://"}
	case head == "HTTP/":
		return &advised{fmt.Errorf("the server speaks HTTP there: %w", err), "try ws:// for mqtt://, or wss:// for mqtts://"}
	}
	return err
}

// hintNetwork is for names and addresses.
func hintNetwork(err error) string {
	e, _ := errors.AsType[*Error](err)
	dns, isDNS := errors.AsType[*net.DNSError](err)
	switch {
	case isDNS && dns.IsNotFound:
		return "is the name spelled right? `nslookup " + printable(dns.Name, 100) + "` asks for it outside of this program"
	case isDNS, e != nil && e.Phase == DNS && e.Timeout():
		return "the name server does not answer: is this machine on the network?"
	case isErrno(err, syscall.ECONNREFUSED, 10061):
		return "nothing listens there: does the broker run, and is it this port? (mqtt 1883, mqtts 8883)"
	case isErrno(err, syscall.ENETUNREACH, 10051), isErrno(err, syscall.EHOSTUNREACH, 10065):
		return "this machine has no way there: is it on the network, and does it have IPv6 where the address is IPv6?"
	case isErrno(err, syscall.EMFILE, 10024), isErrno(err, syscall.ENFILE, 10024):
		return "this process has as many connections and files open as it may: `ulimit -n` raises the limit"
	case isErrno(err, syscall.EADDRNOTAVAIL, 10049):
		return "every local port has a connection to that address already, or this machine has no address like it"
	case e == nil || e.Phase != TCP:
		return ""
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such socket: does the broker run, and does it listen on that path?"
	case errors.Is(err, fs.ErrPermission):
		return "this user may not connect there: look at the permissions of the socket and its folder"
	case e.Timeout():
		return "nothing answers there: is it the right host and port, and does a firewall stand between?"
	}
	return ""
}

// hintTLS is for certificates and for what the other end says of them.
func hintTLS(err error) string {
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "that port speaks without TLS: try mqtt:// for mqtts://, or ws:// for wss://"
	}
	if _, ok := errors.AsType[x509.SystemRootsError](err); ok {
		return "this machine has no list of authorities: name the file with the certificate of the broker's authority (CA)"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "name the file with the certificate of the broker's authority (CA); if the broker sends an incomplete chain, it lacks the intermediate certificate"
	}
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		if e.Certificate != nil && len(e.Certificate.DNSNames)+len(e.Certificate.IPAddresses) == 0 {
			return "the broker needs a certificate with its name as subject alternative name"
		}
		return "connect by a name that the certificate has, or give that as the server name"
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if e.Reason == x509.Expired && e.Cert != nil && time.Now().Before(e.Cert.NotBefore) {
			return "is the clock of this machine right?"
		}
		if e.Reason == x509.Expired {
			return "the broker needs a new certificate; or is the clock of this machine wrong?"
		}
		return "the broker needs another certificate"
	}
	switch alert(err) { // RFC 8446, section 6
	case 116: // certificate_required
		return "the broker wants a client certificate: name the files with certificate and key"
	case 40: // handshake_failure
		return "broker and client have no version or cipher in common, or the broker wants a client certificate"
	case 42, 43, 44, 45, 46, 48, 49: // bad, unsupported, revoked, expired, unknown certificate, unknown CA, access denied
		return "the broker does not take this client's certificate: has it expired, and is it of the authority that the broker trusts?"
	case 70: // protocol_version
		return "the broker has another version of TLS: look at the minimum and maximum version"
	case 112: // unrecognized_name
		return "the broker does not have that name: look at host and server name"
	case 120: // no_application_protocol
		return "the broker does not have that protocol: look at the list for ALPN"
	}
	return ""
}

// alert is the TLS alert that came from the other end, 0 if it is none of those
// that there is a hint for.
func alert(err error) tls.AlertError {
	e, ok := errors.AsType[*net.OpError](err)
	if !ok || e.Op != "remote error" {
		return 0
	}
	// The library gives it as a type of its own with the same text.
	for a := tls.AlertError(40); a <= 120; a++ {
		if e.Err.Error() == a.Error() {
			return a
		}
	}
	return 0
}

// hintWebSocket is for what a web server says.
func hintWebSocket(err error) string {
	if e, ok := errors.AsType[*notHTTP](err); ok {
		if e.tls() {
			return "try wss:// for ws://"
		}
		return "does that port speak WebSocket? mqtt:// and mqtts:// are without"
	}
	if errors.Is(err, ErrSubprotocol) {
		return "is it the right path? most brokers have /mqtt"
	}
	e, ok := errors.AsType[*StatusError](err)
	if !ok {
		return ""
	}
	switch e.Code {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return "the web server refuses it before MQTT begins: does it want a header, or another origin?"
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return "the web server is there, and the broker behind it is not"
	case http.StatusTooManyRequests:
		return "too many connections: try again later"
	case http.StatusBadRequest:
		return "is that port with TLS? then it is wss://"
	}
	if e.Code/100 == 3 && e.Location != "" {
		return "redirections are not followed: give the address that it leads to, with ws:// or wss://"
	}
	return "is it the right path? most brokers have /mqtt"
}

// isErrno tells whether the cause is that error of the system. Windows has
// numbers of its own for the network.
func isErrno(err error, no syscall.Errno, windows uintptr) bool {
	if runtime.GOOS == "windows" {
		no = syscall.Errno(windows)
	}
	return errors.Is(err, no)
}
