package certs

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

// maxFile bounds what is read of one file. The authorities that the world trusts
// are a twentieth of it; revocation lists grow large.
const maxFile = 32 << 20

// soon is how long before the end of a certificate it is warned of.
const soon = 14 * 24 * time.Hour

// loader reads one set.
type loader struct {
	o        Options
	now      time.Time
	seen     marks
	faults   Faults
	warnings []string
}

// load reads and checks a whole set. Where there are faults, there is no
// snapshot. seen is of all files, as they were before they were read.
func load(o Options, now time.Time) (p *snapshot, seen marks, faults Faults) {
	l := loader{o: o, now: now, seen: marks{}}
	p = &snapshot{}
	c := &tls.Config{
		MinVersion: max(o.MinVersion, tls.VersionTLS12), MaxVersion: o.MaxVersion, NextProtos: o.Protocols,
		// A peer that waits for a whole message gains nothing by small records.
		DynamicRecordSizingDisabled: true,
	}
	if c.MaxVersion != 0 && c.MaxVersion < c.MinVersion {
		l.fault("", "the newest TLS version is below the oldest", "")
	}
	for _, pair := range o.Certificates {
		cert, until := l.pair(pair)
		if cert.Leaf == nil {
			continue // a fault
		}
		c.Certificates = append(c.Certificates, cert)
		p.server = append(p.server, Certificate{File: pair.Cert, Name: name(cert.Leaf), NotAfter: cert.Leaf.NotAfter})
		if !until.IsZero() && (p.until.IsZero() || until.Before(p.until)) {
			p.until = until
		}
	}
	if len(o.Certificates) == 0 {
		l.fault("", "there is no certificate", "")
	}
	p.trust = l.clients(c)
	p.user, p.id = l.template("user name", o.Username), l.template("client identifier", o.ClientID)
	if len(l.faults) > 0 {
		return nil, l.seen, l.faults
	}
	p.config, p.warnings = c, l.warnings
	return p, l.seen, nil
}

func (l *loader) fault(file, what, hint string) {
	l.faults = append(l.faults, Fault{file, what, hint})
}

func (l *loader) warn(format string, args ...any) {
	l.warnings = append(l.warnings, fmt.Sprintf(format, args...))
}

// read gives the text of a file, nil after a fault.
func (l *loader) read(file string) []byte {
	l.seen.look(file)
	f, err := os.Open(file)
	if err != nil {
		l.fault(file, "cannot read it: "+cause(err).Error(), hintOf(err))
		return nil
	}
	defer f.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		l.fault(file, "cannot read it: "+cause(err).Error(), "")
		return nil
	case len(text) > maxFile:
		l.fault(file, "it is larger than 32 MiB", "is it the right file?")
		return nil
	case len(text) == 0:
		l.fault(file, "it is empty", "")
		return nil
	}
	return text
}

func cause(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err // the file is told already
	}
	return err
}

func hintOf(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "check the path: in a configuration file it counts from that file's folder"
	case errors.Is(err, fs.ErrPermission):
		return "let the user that runs myelin read it"
	}
	return ""
}

// blocks are the PEM blocks of a text; ok is false after a fault. A damaged block
// is a fault: the decoder would skip it.
func (l *loader) blocks(file string, text []byte) (all []*pem.Block, ok bool) {
	begins := bytes.Count(text, []byte("-----BEGIN "))
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			break
		}
		all = append(all, b)
	}
	if len(all) != begins {
		l.fault(file, fmt.Sprintf("only %d of its %d PEM blocks can be read", len(all), begins), "was it cut, or edited by hand? Copy it once more")
		return nil, false
	}
	return all, true
}

// certificates are those of a PEM file, nil after a fault.
func (l *loader) certificates(file string, text []byte) []*x509.Certificate {
	blocks, ok := l.blocks(file, text)
	if !ok {
		return nil
	}
	var all []*x509.Certificate
	for _, b := range blocks {
		if b.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			l.fault(file, fmt.Sprintf("certificate %d: %v", len(all)+1, err), "")
			return nil
		}
		all = append(all, c)
	}
	if all == nil {
		hint := "`openssl x509 -in FILE -text` shows what is in a certificate"
		if _, err := x509.ParseCertificate(text); err == nil {
			hint = "it is DER: `openssl x509 -inform der -in FILE -out NEW` writes PEM"
		}
		l.fault(file, "there is no certificate in PEM form in it", hint)
	}
	return all
}

// pair reads a certificate with its key and its stapled answer, which ends at
// until. There is no leaf after a fault.
func (l *loader) pair(p Pair) (cert tls.Certificate, until time.Time) {
	text := l.read(p.Cert)
	var chain []*x509.Certificate
	if text != nil {
		chain = l.certificates(p.Cert, text)
	}
	keyFile, keyText := p.Key, text
	if keyFile == "" {
		keyFile = p.Cert
	} else {
		keyText = l.read(keyFile)
	}
	if keyText == nil {
		return cert, until
	}
	key := l.key(keyFile, keyText)
	if chain == nil || key == nil {
		return cert, until
	}
	leaf := chain[0]
	if pub, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(key.Public()) {
		hint := "they were made for each other, or not at all: give the key from which the certificate was requested"
		for _, c := range chain[1:] {
			if pub, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); ok && pub.Equal(key.Public()) {
				hint = "it fits another certificate of that file: the server's own comes first"
			}
		}
		l.fault(keyFile, "the key does not fit the certificate in "+p.Cert, hint)
		return cert, until
	}
	l.judge(p.Cert, chain)
	cert = tls.Certificate{PrivateKey: key, Leaf: leaf}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	if p.OCSP != "" {
		cert.OCSPStaple, until = l.staple(p.OCSP, leaf)
	}
	return cert, until
}

// judge warns of what clients will not like.
func (l *loader) judge(file string, chain []*x509.Certificate) {
	leaf := chain[0]
	switch left := leaf.NotAfter.Sub(l.now); {
	case left < 0:
		l.warn("%s: %s has ended at %s", file, name(leaf), leaf.NotAfter.Format(time.RFC3339))
	case left < soon:
		l.warn("%s: %s ends in %d days, at %s", file, name(leaf), left/(24*time.Hour), leaf.NotAfter.Format(time.RFC3339))
	case l.now.Before(leaf.NotBefore):
		l.warn("%s: %s is not valid before %s", file, name(leaf), leaf.NotBefore.Format(time.RFC3339))
	}
	if len(leaf.DNSNames)+len(leaf.IPAddresses) == 0 {
		l.warn("%s: %s has no host name or address among its alternative names: most clients will refuse it", file, name(leaf))
	}
	for i, c := range chain[:len(chain)-1] {
		if c.CheckSignatureFrom(chain[i+1]) != nil {
			l.warn("%s: certificate %d (%s) was not issued by the next one (%s): clients may not find the way to their authority", file, i+1, name(c), name(chain[i+1]))
			break
		}
	}
}

// key is the private key of a PEM file, nil after a fault.
func (l *loader) key(file string, text []byte) crypto.Signer {
	blocks, ok := l.blocks(file, text)
	if !ok {
		return nil
	}
	for _, b := range blocks {
		if !strings.HasSuffix(b.Type, "PRIVATE KEY") {
			continue
		}
		if b.Type == "ENCRYPTED PRIVATE KEY" || b.Headers["DEK-Info"] != "" {
			l.fault(file, "the private key is encrypted", "`openssl pkey -in FILE -out NEW` writes one that is not; keep others from reading it")
			return nil
		}
		k, err := parseKey(b)
		if err != nil {
			l.fault(file, "private key: "+err.Error(), "")
			return nil
		}
		s, ok := k.(crypto.Signer)
		if !ok {
			l.fault(file, fmt.Sprintf("private key: a %T cannot sign", k), "use RSA, ECDSA or Ed25519")
			return nil
		}
		return s
	}
	l.fault(file, "there is no private key in PEM form in it", "name the file that has it as key")
	return nil
}

func parseKey(b *pem.Block) (any, error) {
	switch b.Type {
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(b.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(b.Bytes)
	}
	return x509.ParsePKCS8PrivateKey(b.Bytes)
}

// clients sets how clients' certificates are checked, and gives the digest of
// what they are checked by.
func (l *loader) clients(c *tls.Config) [32]byte {
	h := sha256.New()
	fmt.Fprintln(h, l.o.Clients, l.o.Lenient)
	if l.o.Clients == None {
		return [32]byte(h.Sum(nil))
	}
	c.ClientAuth = tls.VerifyClientCertIfGiven
	if l.o.Clients == Required {
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if l.o.ClientCA == "" {
		l.fault("", "clients' certificates are to be checked, and no authority is named", "give a file with the authorities")
		return [32]byte{}
	}
	text := l.read(l.o.ClientCA)
	if text == nil {
		return [32]byte{}
	}
	fmt.Fprintf(h, "%d %s", len(text), text)
	authorities := l.certificates(l.o.ClientCA, text)
	lists := l.lists(authorities, h)
	c.ClientCAs = x509.NewCertPool()
	for _, a := range authorities {
		switch {
		case lists.revoked(a, authorities):
			l.warn("%s: %s is revoked, and not an authority any more", l.o.ClientCA, name(a))
			continue
		case l.now.After(a.NotAfter):
			l.warn("%s: %s has ended at %s", l.o.ClientCA, name(a), a.NotAfter.Format(time.RFC3339))
		case !a.IsCA:
			l.warn("%s: %s is not the certificate of an authority: it stands for itself only", l.o.ClientCA, name(a))
		}
		c.ClientCAs.AddCert(a)
	}
	if lists != nil {
		c.VerifyConnection = func(s tls.ConnectionState) error { return lists.check(&s, time.Now()) }
	}
	return [32]byte(h.Sum(nil))
}

func (l *loader) template(what, text string) *Template {
	if text == "" {
		return nil
	}
	t, err := ParseTemplate(text)
	switch {
	case err != nil:
		l.fault("", what+": "+err.Error(), "")
	case l.o.Clients == None:
		l.fault("", what+" from certificates that no client is asked for", "ask for them, optional or required")
	}
	return t
}

// name is what a certificate is called for people.
func name(c *x509.Certificate) string {
	switch {
	case c.Subject.CommonName != "":
		return c.Subject.CommonName
	case len(c.DNSNames) > 0:
		return c.DNSNames[0]
	case len(c.IPAddresses) > 0:
		return c.IPAddresses[0].String()
	case len(c.Subject.Names) > 0:
		return c.Subject.String()
	}
	return "serial number " + c.SerialNumber.Text(16)
}
