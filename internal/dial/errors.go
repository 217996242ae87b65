package dial

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Error is why a phase of making a connection failed.
type Error struct {
	Phase Phase
	// Address is the name that was looked up, the address and port, or for
	// WebSocket the URL.
	Address string
	// Err is the cause. When the context ended it is the context's.
	Err error
}

// Error is such as `connect to 127.0.0.1:1883: connection refused`.
func (e *Error) Error() string {
	verb := "connect to"
	switch e.Phase {
	case DNS:
		verb = "look up"
	case TLS:
		verb = "TLS handshake with"
	case WebSocket:
		verb = "WebSocket upgrade at"
	}
	return fmt.Sprintf("%s %s: %s", verb, e.Address, reason(e.Err))
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Timeout tells whether time was up.
func (e *Error) Timeout() bool { return isTimeout(e.Err) }

// PhaseOf is the phase of making a connection that an error is of, 0: it is of
// none. What TLS says later is of TLS, too: with TLS 1.3 a server refuses a
// client's certificate after the handshake.
func PhaseOf(err error) Phase {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Phase
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return DNS
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && (e.Op == "remote error" || e.Op == "local error") {
		return TLS
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return TLS
	}
	return 0
}

// fail makes an Error; where the context has ended, that is the cause, whatever
// came of it.
func fail(ctx context.Context, p Phase, address string, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return &Error{Phase: p, Address: address, Err: err}
}

// failure is what came of the attempt at one address, failures of several.
type (
	failure struct {
		address string
		err     error
	}
	failures []failure
)

// Error says it of each address, the first few at least.
func (f failures) Error() string {
	var b strings.Builder
	for i, x := range f {
		if i == 4 {
			fmt.Fprintf(&b, "; and %d addresses more", len(f)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(x.address + ": " + reason(x.err))
	}
	return b.String()
}

// Unwrap gives the causes.
func (f failures) Unwrap() []error {
	all := make([]error, len(f))
	for i, x := range f {
		all[i] = x.err
	}
	return all
}

// ErrSubprotocol: the server speaks WebSocket, and did not choose the
// subprotocol mqtt.
var ErrSubprotocol = errors.New("the server does not speak MQTT there: it did not choose the subprotocol mqtt")

// StatusError is an HTTP answer to the WebSocket upgrade that is not 101.
type StatusError struct {
	Code int
	// Location is where a redirection leads to.
	Location string
	// Text is how the body begins, if it is plain text.
	Text string
}

// Error is such as `HTTP 404 Not Found`.
func (e *StatusError) Error() string {
	s := strings.TrimSpace(fmt.Sprintf("HTTP %d %s", e.Code, http.StatusText(e.Code)))
	if e.Location != "" {
		s += " to " + e.Location
	}
	if e.Text != "" {
		s += ": " + e.Text
	}
	return s
}

func statusError(a *http.Response) error {
	e := &StatusError{Code: a.StatusCode}
	if a.StatusCode/100 == 3 {
		e.Location = printable(a.Header.Get("Location"), 200)
	}
	if kind := a.Header.Get("Content-Type"); kind == "" || strings.HasPrefix(kind, "text/plain") {
		b := make([]byte, 400)
		n, _ := io.ReadFull(a.Body, b)
		first, _, _ := strings.Cut(strings.TrimSpace(string(b[:n])), "\n")
		if e.Text = printable(first, 120); strings.EqualFold(e.Text, http.StatusText(e.Code)) || strings.HasPrefix(e.Text, fmt.Sprintf("%d ", e.Code)) {
			e.Text = ""
		}
	}
	return e
}

// printable is the beginning of what somebody else wrote, fit for a line.
func printable(s string, most int) string {
	s = strings.ToValidUTF8(strings.TrimSpace(s), "?")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F || r >= 0x80 && r < 0xA0 {
			return '?'
		}
		return r
	}, s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// notHTTP is an answer to the WebSocket upgrade that is none.
type notHTTP struct{ head string }

// Error says what it looks like.
func (e *notHTTP) Error() string {
	if e.tls() {
		return "the server speaks TLS there"
	}
	return fmt.Sprintf("the answer is not HTTP: it begins with %q", e.head)
}

// tls tells whether it is an alert of TLS.
func (e *notHTTP) tls() bool { return strings.HasPrefix(e.head, "\x15\x03") }

// reason is what an error says, without what the layers above have said too.
func reason(err error) string {
	for {
		switch e := err.(type) {
		case *net.OpError:
			if isTimeout(e) {
				return "no answer in time"
			}
			if e.Op == "remote error" { // an alert of TLS
				return "the server refused it: " + strings.TrimPrefix(e.Err.Error(), "tls: ")
			}
			err = e.Err
			continue
		case *url.Error:
			err = e.Err
			continue
		case *os.SyscallError:
			err = e.Err
			continue
		case *net.DNSError:
			if e.Server != "" {
				return fmt.Sprintf("%s (says %s)", e.Err, e.Server)
			}
			return e.Err
		case *tls.CertificateVerificationError:
			err = e.Err
			continue
		case x509.HostnameError:
			return fmt.Sprintf("the certificate is not for %s, but for %s", e.Host, names(e.Certificate))
		case x509.UnknownAuthorityError:
			return "the certificate is signed by an authority that is not known here"
		case x509.CertificateInvalidError:
			if e.Reason == x509.Expired && e.Cert != nil {
				return validity(e.Cert, time.Now())
			}
		case tls.RecordHeaderError:
			return fmt.Sprintf("the server does not speak TLS there: its answer begins with %q", e.RecordHeader[:])
		}
		switch {
		case errors.Is(err, context.Canceled):
			return "cancelled"
		case isTimeout(err):
			return "no answer in time"
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return "the server closed the connection"
		}
		// Such as what the TLS library keeps a connection's error in.
		if inner := errors.Unwrap(err); inner != nil && inner.Error() == err.Error() {
			err = inner
			continue
		}
		return err.Error()
	}
}

func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

// names are those that a certificate is for, the first few.
func names(c *x509.Certificate) string {
	if c == nil {
		return "others"
	}
	all := c.DNSNames
	for _, ip := range c.IPAddresses {
		all = append(all[:len(all):len(all)], ip.String())
	}
	switch {
	case len(all) == 0 && c.Subject.CommonName != "":
		return fmt.Sprintf("no name (its common name %s does not count)", printable(c.Subject.CommonName, 80))
	case len(all) == 0:
		return "no name"
	case len(all) > 5:
		return printable(strings.Join(all[:5], ", "), 400) + fmt.Sprintf(" and %d more", len(all)-5)
	}
	return printable(strings.Join(all, ", "), 400)
}

// validity says that a certificate has expired, or is not valid yet.
func validity(c *x509.Certificate, now time.Time) string {
	who := "the certificate"
	if c.IsCA {
		who = "the certificate of the authority " + printable(c.Subject.CommonName, 80)
	}
	if now.Before(c.NotBefore) {
		return fmt.Sprintf("%s is not valid before %s", who, c.NotBefore.UTC().Format(time.DateTime+" UTC"))
	}
	return fmt.Sprintf("%s expired at %s", who, c.NotAfter.UTC().Format(time.DateTime+" UTC"))
}
