// Package pki makes authorities, certificates and revocation lists in files, for
// the tests of any package. Keys are ECDSA P-256, and everything is valid from an
// hour ago until tomorrow, unless a test says otherwise.
//
// It is for tests only, and panics where something fails. Start reading at New.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Authority signs certificates. Its own is in File.
type Authority struct {
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
	File string

	dir    string
	parent *Authority
	serial int64
}

// Leaf is a certificate with its files: Cert has those up to its root, without
// that.
type Leaf struct {
	X509      *x509.Certificate
	TLS       tls.Certificate
	Cert, Key string
}

// New makes a root in a folder, with files called after its name.
func New(dir, name string) *Authority {
	a := &Authority{Key: key(), File: filepath.Join(dir, name+".crt"), dir: dir}
	t := authority(name, 1)
	a.Cert = sign(t, t, a.Key.Public(), a.Key)
	write(a.File, "CERTIFICATE", a.Cert.Raw)
	return a
}

// Sub makes an authority under a.
func (a *Authority) Sub(name string) *Authority {
	s := &Authority{Key: key(), File: filepath.Join(a.dir, name+".crt"), dir: a.dir, parent: a}
	s.Cert = sign(authority(name, a.next()), a.Cert, s.Key.Public(), a.Key)
	write(s.File, "CERTIFICATE", s.Cert.Raw)
	return s
}

// Server makes a certificate for host names and addresses, in files called after
// the first.
func (a *Authority) Server(names ...string) *Leaf {
	return a.Leaf(names[0], func(c *x509.Certificate) {
		for _, n := range names {
			if ip := net.ParseIP(n); ip != nil {
				c.IPAddresses = append(c.IPAddresses, ip)
			} else {
				c.DNSNames = append(c.DNSNames, n)
			}
		}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})
}

// Client makes a client's certificate.
func (a *Authority) Client(cn string) *Leaf { return a.Leaf(cn, func(*x509.Certificate) {}) }

// Leaf makes a certificate for both ends after change had its say.
func (a *Authority) Leaf(cn string, change func(*x509.Certificate)) *Leaf {
	k := key()
	t := &x509.Certificate{
		SerialNumber: big.NewInt(a.next()), Subject: pkix.Name{CommonName: cn},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	change(t)
	l := &Leaf{X509: sign(t, a.Cert, k.Public(), a.Key), Cert: filepath.Join(a.dir, cn+".crt"), Key: filepath.Join(a.dir, cn+".key")}
	chain := [][]byte{l.X509.Raw}
	for at := a; at.parent != nil; at = at.parent {
		chain = append(chain, at.Cert.Raw)
	}
	l.TLS = tls.Certificate{Certificate: chain, PrivateKey: k, Leaf: l.X509}
	write(l.Cert, "CERTIFICATE", chain...)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	must(err)
	write(l.Key, "PRIVATE KEY", der)
	return l
}

// Revoke writes a list of revoked certificates, out of date at next, to a file of
// a's folder.
func (a *Authority) Revoke(file string, next time.Time, revoked ...*x509.Certificate) string {
	t := &x509.RevocationList{Number: big.NewInt(a.next()), ThisUpdate: time.Now().Add(-2 * time.Hour), NextUpdate: next}
	for _, c := range revoked {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, t, a.Cert, a.Key)
	must(err)
	file = filepath.Join(a.dir, file)
	write(file, "X509 CRL", der)
	return file
}

// Pool is the authorities that somebody trusts.
func Pool(as ...*Authority) *x509.CertPool {
	p := x509.NewCertPool()
	for _, a := range as {
		p.AddCert(a.Cert)
	}
	return p
}

// Join writes a file with what is in others.
func Join(file string, others ...string) string {
	var all []byte
	for _, o := range others {
		b, err := os.ReadFile(o)
		must(err)
		all = append(all, b...)
	}
	must(os.WriteFile(file, all, 0o600))
	return file
}

func (a *Authority) next() int64 {
	a.serial++
	return 100 + a.serial
}

func authority(name string, serial int64) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

func sign(t, parent *x509.Certificate, pub any, k *ecdsa.PrivateKey) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, k)
	must(err)
	c, err := x509.ParseCertificate(der)
	must(err)
	return c
}

func key() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	return k
}

// write puts a whole file in the place of another one, as programs that renew
// certificates do.
func write(file, kind string, ders ...[]byte) {
	var text []byte
	for _, der := range ders {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	must(os.WriteFile(file+".new", text, 0o600))
	must(os.Rename(file+".new", file))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
