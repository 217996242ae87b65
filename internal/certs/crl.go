package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"hash"
	"slices"
	"time"
)

// lists are the revocation lists of a set by their issuers; nil: there are none.
type lists struct {
	by      map[issuer]*list
	lenient bool
}

// issuer is who signs: a name together with a key.
type issuer struct{ name, key string }

func issuerOf(c *x509.Certificate) issuer {
	return issuer{string(c.RawSubject), string(c.RawSubjectPublicKeyInfo)}
}

// list is one revocation list.
type list struct {
	file    string
	next    time.Time
	revoked map[string]bool // by serial number, its bytes
}

// lists reads the lists and adds them to the digest.
func (l *loader) lists(authorities []*x509.Certificate, h hash.Hash) *lists {
	if len(l.o.CRL) == 0 {
		return nil
	}
	ls := &lists{by: map[issuer]*list{}, lenient: l.o.Lenient}
	for _, file := range l.o.CRL {
		text := l.read(file)
		if text == nil {
			continue
		}
		fmt.Fprintf(h, "%d %s", len(text), text)
		for _, der := range l.listsIn(file, text) {
			l.list(ls, file, der, authorities)
		}
	}
	return ls
}

// listsIn are the lists in a file, DER.
func (l *loader) listsIn(file string, text []byte) (all [][]byte) {
	if !bytes.Contains(text, []byte("-----BEGIN ")) {
		return [][]byte{text}
	}
	blocks, _ := l.blocks(file, text)
	for _, b := range blocks {
		if b.Type == "X509 CRL" {
			all = append(all, b.Bytes)
		}
	}
	if blocks != nil && all == nil {
		l.fault(file, "there is no revocation list in it", "`openssl crl -in FILE -text` shows what is in one")
	}
	return all
}

// list reads one list and checks who has signed it.
func (l *loader) list(ls *lists, file string, der []byte, authorities []*x509.Certificate) {
	r, err := x509.ParseRevocationList(der)
	if err != nil {
		l.fault(file, "revocation list: "+err.Error(), "")
		return
	}
	var signer *x509.Certificate
	err = errors.New("its issuer, " + r.Issuer.String() + ", is none of " + l.o.ClientCA)
	for _, a := range authorities {
		if !bytes.Equal(a.RawSubject, r.RawIssuer) {
			continue
		}
		if err = r.CheckSignatureFrom(a); err == nil {
			signer = a
			break
		}
	}
	switch {
	case authorities == nil:
		return // told already
	case signer == nil:
		l.fault(file, "revocation list: "+err.Error(), "the authorities have the certificate of each list's issuer")
		return
	case hasCritical(r.Extensions) || slices.ContainsFunc(r.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return hasCritical(e.Extensions) }):
		l.fault(file, "revocation list: it is for a part of what its issuer has revoked only", "give the whole list: deltas, and lists by kind or for others, are not understood")
		return
	case ls.by[issuerOf(signer)] != nil:
		l.fault(file, "revocation list: a second one of "+name(signer), "the first is in "+ls.by[issuerOf(signer)].file)
		return
	case r.NextUpdate.IsZero() && !l.o.Lenient:
		l.fault(file, "revocation list: it does not say when the next one comes", "")
		return
	}
	if !r.NextUpdate.IsZero() && l.now.After(r.NextUpdate) {
		what := "clients with a certificate of " + name(signer) + " are refused until there is a newer one"
		if l.o.Lenient {
			what = "it is still used"
		}
		l.warn("%s: the revocation list is out of date since %s: %s", file, r.NextUpdate.Format(time.RFC3339), what)
	}
	x := &list{file: file, next: r.NextUpdate, revoked: make(map[string]bool, len(r.RevokedCertificateEntries))}
	for _, e := range r.RevokedCertificateEntries {
		x.revoked[string(e.SerialNumber.Bytes())] = true
	}
	ls.by[issuerOf(signer)] = x
}

// hasCritical: what must be understood, and is not, narrows what a list is for.
func hasCritical(extensions []pkix.Extension) bool {
	return slices.ContainsFunc(extensions, func(e pkix.Extension) bool { return e.Critical })
}

// revoked tells of an authority that another one has revoked.
func (ls *lists) revoked(c *x509.Certificate, authorities []*x509.Certificate) bool {
	if ls == nil {
		return false
	}
	return slices.ContainsFunc(authorities, func(a *x509.Certificate) bool {
		x := ls.by[issuerOf(a)]
		return x != nil && x.revoked[string(c.SerialNumber.Bytes())] && bytes.Equal(a.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(a) == nil
	})
}

// check refuses a client whose certificate is revoked on each way to an
// authority, or of which that cannot be known. It is asked in each handshake,
// also where a session is resumed.
func (ls *lists) check(s *tls.ConnectionState, now time.Time) error {
	if len(s.PeerCertificates) == 0 {
		return nil // there need not be one, or the handshake has failed before
	}
	err := errors.New("client certificate: there is no way to an authority")
	for _, chain := range s.VerifiedChains {
		if err = ls.chain(chain, now); err == nil {
			return nil
		}
	}
	return err
}

// chain checks everything below the authority.
func (ls *lists) chain(chain []*x509.Certificate, now time.Time) error {
	for i, c := range chain[:len(chain)-1] {
		x := ls.by[issuerOf(chain[i+1])]
		if x != nil && x.revoked[string(c.SerialNumber.Bytes())] {
			return fmt.Errorf("client certificate: %s, serial number %s, is revoked", name(c), c.SerialNumber.Text(16))
		}
		switch {
		case ls.lenient:
		case x == nil:
			return fmt.Errorf("client certificate: there is no revocation list of %s", name(chain[i+1]))
		case now.After(x.next):
			return fmt.Errorf("client certificate: the revocation list of %s is out of date since %s", name(chain[i+1]), x.next.Format(time.RFC3339))
		}
	}
	return nil
}
