package dial

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"software.sslmate.com/src/go-pkcs12"
)

// store is a folder with what a client may have.
type store struct {
	folder             string
	a, between         *authority
	own                tls.Certificate
	ca, cert, key, p12 string
	both, otherKey     string
}

func newStore(t *testing.T) *store {
	t.Helper()
	s := &store{folder: t.TempDir(), a: newAuthority(t, "test authority")}
	s.between = &authority{key: newKey(t)}
	s.between.cert = s.a.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "between"}, IsCA: true, BasicConstraintsValid: true}, s.between.key)
	s.own = s.between.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "client"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	s.ca = write(t, s.folder, "ca.pem", "a comment\n"+certPEM(s.a.cert))
	s.cert = write(t, s.folder, "cert.pem", certPEM(s.own.Leaf, s.between.cert))
	s.key = write(t, s.folder, "key.pem", keyPEM(t, s.own.PrivateKey))
	s.both = write(t, s.folder, "both.pem", keyPEM(t, s.own.PrivateKey)+certPEM(s.own.Leaf, s.between.cert))
	s.otherKey = write(t, s.folder, "other.pem", keyPEM(t, newKey(t)))
	p12, err := pkcs12.Modern.Encode(s.own.PrivateKey, s.own.Leaf, []*x509.Certificate{s.between.cert}, "päss")
	if err != nil {
		t.Fatal(err)
	}
	s.p12 = write(t, s.folder, "client.p12", string(p12))
	return s
}

// TestClientCertificate shows the certificate to a server that wants it.
func TestClientCertificate(t *testing.T) {
	s := newStore(t)
	server := &tls.Config{Certificates: []tls.Certificate{s.a.server(t)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: s.a.pool(), NextProtos: []string{"other", "mqtt"}}
	address := secure(t, server)
	f := func(name string, files TLSFiles) {
		t.Helper()
		files.CAs, files.ALPN, files.ServerName = []string{s.ca}, []string{"mqtt"}, "localhost"
		c, err := LoadTLS(files)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		conn, err := parse(t, address).Dial(testContext(t), Options{TLS: c})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		defer conn.Close()
		exchange(t, conn)
		if st := State(conn); st.NegotiatedProtocol != "mqtt" || st.ServerName != "localhost" {
			t.Errorf("%s: %q with %q", name, st.ServerName, st.NegotiatedProtocol)
		}
	}
	f("PEM", TLSFiles{Cert: s.cert, Key: s.key})
	f("both in one", TLSFiles{Cert: s.both})
	f("PKCS#12", TLSFiles{PKCS12: s.p12, Password: "päss"})
}

func TestAuthorities(t *testing.T) {
	s := newStore(t)
	f := func(name string, want string, cas ...string) {
		t.Helper()
		c, err := LoadTLS(TLSFiles{CAs: cas})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		_, err = s.between.cert.Verify(x509.VerifyOptions{Roots: c.RootCAs})
		if got := fmt.Sprint(err == nil); got != want {
			t.Errorf("%s: trusted is %s (%v), want %s", name, got, err, want)
		}
	}
	f("PEM", "true", s.ca)
	f("DER", "true", write(t, s.folder, "ca.der", string(s.a.cert.Raw)))
	f("several", "true", s.cert, s.ca)
	f("folder with other files", "true", s.folder)
	other := t.TempDir()
	write(t, other, "1.pem", certPEM(newAuthority(t, "x").cert))
	f("folder without it", "false", other)
	write(t, other, "link", "")
	if runtime.GOOS != "windows" {
		if err := os.Symlink(s.ca, filepath.Join(other, "0a1b2c3d.0")); err != nil {
			t.Fatal(err)
		}
		f("folder with a link", "true", other)
	}
	if c, err := LoadTLS(TLSFiles{}); err != nil || c.RootCAs != nil || c.InsecureSkipVerify || c.MinVersion != tls.VersionTLS12 || c.MaxVersion != 0 {
		t.Errorf("nothing: %+v, %v", c, err)
	}
}

func TestLoadTLSErrors(t *testing.T) {
	s := newStore(t)
	f := func(name string, files TLSFiles, text, hint string) {
		t.Helper()
		_, err := LoadTLS(files)
		if err == nil || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %s", name, err, text)
		}
		if h := Hint(err); !strings.Contains(h, hint) || (h == "") != (hint == "") {
			t.Errorf("%s: hint %q, want %q", name, h, hint)
		}
	}
	none := filepath.Join(s.folder, "none.pem")
	f("no CA file", TLSFiles{CAs: []string{none}}, "read CA certificate "+none+": ", "path")
	f("no certificate", TLSFiles{CAs: []string{s.key}}, s.key+": there is no certificate", "BEGIN CERTIFICATE")
	f("no certificate at all", TLSFiles{CAs: []string{write(t, s.folder, "text", "hello")}}, "there is no certificate", "BEGIN CERTIFICATE")
	f("broken certificate", TLSFiles{CAs: []string{write(t, s.folder, "broken", certPEM(s.a.cert)+"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")}}, "certificate 2 of it: x509", "")
	f("empty folder", TLSFiles{CAs: []string{t.TempDir()}}, "no file in it has a certificate", "")
	f("endless", TLSFiles{CAs: []string{write(t, s.folder, "long", strings.Repeat("x", maxFile+1))}}, "longer than 4 MiB", "")

	f("no cert file", TLSFiles{Cert: none, Key: s.key}, "read client certificate "+none, "path")
	f("no key file", TLSFiles{Cert: s.cert, Key: none}, "read private key "+none, "path")
	f("key alone", TLSFiles{Key: s.key}, "without the client certificate", "")
	f("cert alone", TLSFiles{Cert: s.cert}, s.cert+": there is no PEM key", "BEGIN PRIVATE KEY")
	f("swapped", TLSFiles{Cert: s.key, Key: s.cert}, "there is no PEM certificate", "")
	f("DER", TLSFiles{Cert: write(t, s.folder, "c.der", string(s.own.Leaf.Raw)), Key: s.key}, "there is no PEM certificate", "openssl x509 -inform der")
	f("other key", TLSFiles{Cert: s.cert, Key: s.otherKey}, "private key does not match", "another certificate")
	block := func(kind string, headers map[string]string) string {
		b := string(pem.EncodeToMemory(&pem.Block{Type: kind, Headers: headers, Bytes: []byte("x")}))
		return write(t, s.folder, "block", b)
	}
	f("encrypted", TLSFiles{Cert: s.cert, Key: block("ENCRYPTED PRIVATE KEY", nil)}, "block: it is encrypted", "openssl pkey -in")
	f("encrypted as of old", TLSFiles{Cert: s.cert, Key: block("RSA PRIVATE KEY", map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "x"})}, "it is encrypted", "PKCS#12")
	f("ssh", TLSFiles{Cert: s.cert, Key: block("OPENSSH PRIVATE KEY", nil)}, "OpenSSH", "TLS needs")
	f("broken key", TLSFiles{Cert: s.cert, Key: block("PRIVATE KEY", nil)}, "failed to parse private key", "")

	f("no p12", TLSFiles{PKCS12: none}, "read PKCS#12 file "+none, "path")
	f("p12 without password", TLSFiles{PKCS12: s.p12}, "needs a password", "give the password")
	f("p12 with another password", TLSFiles{PKCS12: s.p12, Password: "pass"}, "password is wrong", "give the password")
	f("p12 is PEM", TLSFiles{PKCS12: s.both, Password: "x"}, "it is PEM", "give PEM files")
	f("p12 is nothing", TLSFiles{PKCS12: write(t, s.folder, "x.p12", "hello"), Password: "x"}, "x.p12: ", "openssl pkcs12")
	f("both ways", TLSFiles{PKCS12: s.p12, Cert: s.cert}, "one of both", "")

	f("version", TLSFiles{MinVersion: "1.4"}, `TLS version "1.4"`, "")
	f("version", TLSFiles{MaxVersion: "ssl3"}, `TLS version "ssl3"`, "")
	f("versions", TLSFiles{MinVersion: "1.3", MaxVersion: "1.2"}, "below the lowest", "")
	f("ALPN", TLSFiles{ALPN: []string{"mqtt", ""}}, "ALPN", "")

	_, err := LoadTLS(TLSFiles{CAs: []string{none}})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not of a file that does not exist", err)
	}
	if os.Getuid() > 0 {
		_ = os.Chmod(s.ca, 0)
		f("forbidden", TLSFiles{CAs: []string{s.ca}}, "permission denied", "may not read")
	}
}

func TestVersions(t *testing.T) {
	f := func(low, high string, want ...uint16) {
		t.Helper()
		c, err := LoadTLS(TLSFiles{MinVersion: low, MaxVersion: high, Insecure: true, ServerName: "n"})
		if err != nil || !slices.Equal(want, []uint16{c.MinVersion, c.MaxVersion}) || !c.InsecureSkipVerify || c.ServerName != "n" {
			t.Errorf("%s to %s: %+v, %v", low, high, c, err)
		}
	}
	f("", "", tls.VersionTLS12, 0)
	f("1.3", "", tls.VersionTLS13, 0)
	f("tlsv1.2", "TLSv1.3", tls.VersionTLS12, tls.VersionTLS13)
	f("", "1.1", tls.VersionTLS11, tls.VersionTLS11)
	f("1", "1.2", tls.VersionTLS10, tls.VersionTLS12)
}

// TestInsecure: who asks for it connects to anybody.
func TestInsecure(t *testing.T) {
	c, err := LoadTLS(TLSFiles{Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	own := newAuthority(t, "x").issue(t, &x509.Certificate{DNSNames: []string{"other"}})
	conn, err := parse(t, secure(t, &tls.Config{Certificates: []tls.Certificate{own}})).Dial(testContext(t), Options{TLS: c})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}
