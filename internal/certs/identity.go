package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxIdentity bounds a user name or client identifier from a certificate, in
// bytes.
const maxIdentity = 1024

// Template makes a text of a certificate.
type Template struct {
	parts []part
	seams string // signs that stand between fields, and thus in none of them
}

// part is a field, or literal text where its name is "".
type part struct{ field, text string }

// Fields are the names that a template may have in braces: of the subject cn, o,
// ou, uid and sn (its serialNumber), of the alternative names san.dns, san.email,
// san.uri and san.ip, and of the certificate serial (hexadecimal) and fingerprint
// (SHA-256, hexadecimal).
func Fields() []string {
	return []string{"cn", "o", "ou", "uid", "sn", "san.dns", "san.email", "san.uri", "san.ip", "serial", "fingerprint"}
}

// ParseTemplate reads a template: one of Fields alone, or a text with fields in
// braces, "{ou}-{cn}". Two fields have something between them.
func ParseTemplate(s string) (*Template, error) {
	known := func(f string) bool { return slices.Contains(Fields(), f) }
	if known(s) {
		return &Template{parts: []part{{field: s}}}, nil
	}
	t := &Template{}
	fields := 0
	for rest := s; rest != ""; {
		text, after, open := strings.Cut(rest, "{")
		if strings.Contains(text, "}") {
			return nil, errors.New("a } without its {")
		}
		if fields > 0 && open {
			signs := strings.Map(func(r rune) rune {
				if unicode.IsLetter(r) || unicode.IsDigit(r) {
					return -1
				}
				return r
			}, text)
			if signs == "" {
				return nil, errors.New("two fields with no sign between them, such as - or /: whose is which letter?")
			}
			t.seams += signs
		}
		if text != "" {
			t.parts = append(t.parts, part{text: text})
		}
		if !open {
			break
		}
		f, more, closed := strings.Cut(after, "}")
		switch {
		case !closed:
			return nil, errors.New("a { without its }")
		case !known(f):
			return nil, fmt.Errorf("there is no field %q: it is one of %s", f, strings.Join(Fields(), ", "))
		}
		fields++
		t.parts = append(t.parts, part{field: f})
		rest = more
	}
	if fields == 0 {
		return nil, fmt.Errorf("there is no field in %q: write one of %s, or a text with them in braces", s, strings.Join(Fields(), ", "))
	}
	return t, nil
}

// Of makes the text of a certificate. A field that the certificate has not, has
// with signs that are no text, or that could pass for a part of another is an
// error.
func (t *Template) Of(c *x509.Certificate) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.field == "" {
			b.WriteString(p.text)
			continue
		}
		v, err := value(c, p.field)
		switch {
		case err != nil:
			return "", err
		case v == "":
			return "", fmt.Errorf("the certificate has no %s", p.field)
		case !utf8.ValidString(v) || strings.ContainsFunc(v, func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }):
			return "", fmt.Errorf("%s of the certificate is not plain text: %q", p.field, cut(v))
		case t.seams != "" && strings.ContainsAny(v, t.seams):
			return "", fmt.Errorf("%s of the certificate has a sign that stands between fields: %q", p.field, cut(v))
		}
		b.WriteString(v)
	}
	if b.Len() > maxIdentity {
		return "", fmt.Errorf("it would be longer than %d bytes: %q", maxIdentity, cut(b.String()))
	}
	return b.String(), nil
}

func cut(v string) string { return v[:min(len(v), 60)] }

// value is the first value of a field, "": there is none.
func value(c *x509.Certificate, field string) (string, error) {
	switch field {
	case "cn":
		return subject(c, asn1.ObjectIdentifier{2, 5, 4, 3})
	case "o":
		return subject(c, asn1.ObjectIdentifier{2, 5, 4, 10})
	case "ou":
		return subject(c, asn1.ObjectIdentifier{2, 5, 4, 11})
	case "sn":
		return subject(c, asn1.ObjectIdentifier{2, 5, 4, 5})
	case "uid":
		return subject(c, asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1})
	case "serial":
		return c.SerialNumber.Text(16), nil
	case "fingerprint":
		sum := sha256.Sum256(c.Raw)
		return hex.EncodeToString(sum[:]), nil
	case "san.dns":
		return first(c.DNSNames), nil
	case "san.email":
		return first(c.EmailAddresses), nil
	case "san.uri":
		if len(c.URIs) > 0 {
			return c.URIs[0].String(), nil
		}
	case "san.ip":
		if len(c.IPAddresses) > 0 {
			return c.IPAddresses[0].String(), nil
		}
	}
	return "", nil
}

func first(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return all[0]
}

// subject is the only value of an attribute of the subject. Of two, programs
// differ which one counts.
func subject(c *x509.Certificate, oid asn1.ObjectIdentifier) (string, error) {
	found := ""
	for _, a := range c.Subject.Names {
		if !a.Type.Equal(oid) {
			continue
		}
		v, ok := a.Value.(string)
		switch {
		case !ok:
			return "", fmt.Errorf("attribute %v of the subject is not text", oid)
		case found != "":
			return "", fmt.Errorf("attribute %v of the subject is there twice", oid)
		}
		found = v
	}
	return found, nil
}

// Identify gives the user name and the client identifier that the certificate of
// a connection's client says, as the templates have it. "" is what they leave to
// the client, and all of it for a client that shows no certificate where none is
// required.
func (s *Set) Identify(cs *tls.ConnectionState) (username, clientID string, err error) {
	p := s.now.Load()
	if p.user == nil && p.id == nil || cs == nil || len(cs.VerifiedChains) == 0 {
		return "", "", nil
	}
	leaf := cs.PeerCertificates[0]
	if p.user != nil {
		if username, err = p.user.Of(leaf); err != nil {
			return "", "", fmt.Errorf("user name: %w", err)
		}
	}
	if p.id != nil {
		if clientID, err = p.id.Of(leaf); err != nil {
			return "", "", fmt.Errorf("client identifier: %w", err)
		}
	}
	return username, clientID, nil
}
