package dial

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"software.sslmate.com/src/go-pkcs12"
)

// maxFile is the longest file that LoadTLS reads, in bytes: ten times the
// authorities that the world trusts.
const maxFile = 4 << 20

// TLSFiles say what a TLS configuration is made of. The zero value trusts the
// system's authorities and shows no certificate.
type TLSFiles struct {
	// CAs are files with certificates of authorities, PEM or DER, or folders of
	// such files. Only these are trusted then. Empty: those of the system.
	CAs []string
	// Cert is the file with the client's certificate and those between it and
	// its authority, PEM; Key the one with its private key, not encrypted.
	// Empty Key: it is in Cert, too.
	Cert, Key string
	// PKCS12 is a file with all of that (.p12, .pfx), in place of Cert and Key,
	// and Password is what it is encrypted with.
	PKCS12, Password string
	// ServerName is the name that the server's certificate must have, and that
	// the server is asked for. Empty: the host in the address.
	ServerName string
	// ALPN are the protocols to offer, the preferred first, such as "mqtt".
	ALPN []string
	// Insecure takes any certificate of any server: whoever is between may read
	// and write everything.
	Insecure bool
	// MinVersion and MaxVersion are "1.2" or "1.3", and for old servers "1.0" or
	// "1.1". Empty: 1.2, and the newest.
	MinVersion, MaxVersion string
}

// LoadTLS reads the files. An error names the file; Hint tells what to try.
func LoadTLS(f TLSFiles) (*tls.Config, error) {
	c := &tls.Config{ServerName: f.ServerName, NextProtos: f.ALPN, InsecureSkipVerify: f.Insecure}
	for _, p := range f.ALPN {
		if p == "" || len(p) > 255 {
			return nil, fmt.Errorf("ALPN protocol %q: it has 1 to 255 bytes", shorten(p))
		}
	}
	var err error
	if c.MinVersion, err = version(f.MinVersion, tls.VersionTLS12); err != nil {
		return nil, err
	}
	if c.MaxVersion, err = version(f.MaxVersion, 0); err != nil {
		return nil, err
	}
	if c.MaxVersion != 0 && c.MaxVersion < c.MinVersion {
		if f.MinVersion != "" {
			return nil, fmt.Errorf("highest TLS version %s is below the lowest, %s", f.MaxVersion, f.MinVersion)
		}
		c.MinVersion = c.MaxVersion
	}
	if len(f.CAs) > 0 {
		if c.RootCAs, err = authorities(f.CAs); err != nil {
			return nil, err
		}
	}
	var own tls.Certificate
	switch {
	case f.PKCS12 != "" && (f.Cert != "" || f.Key != ""):
		return nil, errors.New("client certificate is given as PEM and as PKCS#12: it is one of both")
	case f.PKCS12 != "":
		own, err = loadPKCS12(f.PKCS12, f.Password)
	case f.Cert != "":
		own, err = loadPEM(f.Cert, f.Key)
	case f.Key != "":
		return nil, errors.New("private key is given without the client certificate")
	default:
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	c.Certificates = []tls.Certificate{own}
	return c, nil
}

func version(s string, none uint16) (uint16, error) {
	switch strings.TrimPrefix(strings.ToLower(s), "tlsv") {
	case "":
		return none, nil
	case "1.0", "1":
		return tls.VersionTLS10, nil
	case "1.1":
		return tls.VersionTLS11, nil
	case "1.2":
		return tls.VersionTLS12, nil
	case "1.3":
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf("TLS version %q: it is 1.0, 1.1, 1.2 or 1.3", shorten(s))
}

// fileError is what is wrong with a file, and what to try.
type fileError struct {
	what, name string
	err        error
	hint       string
}

func (e *fileError) Error() string {
	text := e.err.Error()
	if p, ok := errors.AsType[*fs.PathError](e.err); ok {
		text = p.Err.Error() // it has the name, too
	}
	return fmt.Sprintf("read %s %s: %s", e.what, e.name, text)
}

func (e *fileError) Unwrap() error { return e.err }

// Hint is what to try.
func (e *fileError) Hint() string {
	switch {
	case e.hint != "":
		return e.hint
	case errors.Is(e.err, fs.ErrNotExist):
		return "look at the path: it is relative to the folder that the program was started in"
	case errors.Is(e.err, fs.ErrPermission):
		return "this user may not read that file"
	}
	return ""
}

// read reads a file that is not endless.
func read(what, name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, &fileError{what: what, name: name, err: err}
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("it is longer than %d MiB", maxFile>>20)
	}
	if err != nil {
		return nil, &fileError{what: what, name: name, err: err}
	}
	return b, nil
}

const whatCA = "CA certificate"

// authorities reads the certificates to trust.
func authorities(names []string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for _, name := range names {
		fi, err := os.Stat(name)
		if err != nil {
			return nil, &fileError{what: whatCA, name: name, err: err}
		}
		if fi.IsDir() {
			err = addFolder(pool, name)
		} else {
			err = addFile(pool, name)
		}
		if err != nil {
			return nil, err
		}
	}
	return pool, nil
}

func addFile(pool *x509.CertPool, name string) error {
	b, err := read(whatCA, name)
	if err != nil {
		return err
	}
	certs, err := certificates(b)
	if err != nil {
		return &fileError{what: whatCA, name: name, err: err}
	}
	if len(certs) == 0 {
		return &fileError{what: whatCA, name: name, err: errors.New("there is no certificate in it"),
			hint: "a PEM file has a line -----BEGIN CERTIFICATE-----"}
	}
	for _, c := range certs {
		pool.AddCert(c)
	}
	return nil
}

// addFolder takes the certificates of all files in the folder, and leaves out
// files that have none.
func addFolder(pool *x509.CertPool, folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return &fileError{what: whatCA + "s", name: folder, err: err}
	}
	found := false
	for _, d := range entries {
		name := filepath.Join(folder, d.Name())
		if fi, err := os.Stat(name); err != nil || !fi.Mode().IsRegular() || fi.Size() > maxFile {
			continue
		}
		b, err := read(whatCA, name)
		if err != nil {
			return err
		}
		certs, err := certificates(b)
		if err != nil {
			continue // such as a private key, or a text
		}
		for _, c := range certs {
			pool.AddCert(c)
			found = true
		}
	}
	if !found {
		return &fileError{what: whatCA + "s", name: folder, err: errors.New("no file in it has a certificate")}
	}
	return nil
}

// certificates reads PEM, or one certificate in DER.
func certificates(b []byte) ([]*x509.Certificate, error) {
	if !bytes.Contains(b, []byte("-----BEGIN ")) {
		if c, err := x509.ParseCertificate(b); err == nil {
			return []*x509.Certificate{c}, nil
		}
		return nil, nil
	}
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return all, nil
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of it: %w", len(all)+1, err)
		}
		all = append(all, c)
	}
}

// loadPEM reads a certificate and its key.
func loadPEM(certFile, keyFile string) (tls.Certificate, error) {
	if keyFile == "" {
		keyFile = certFile
	}
	cert, err := read("client certificate", certFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := read("private key", keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	if !bytes.Contains(cert, []byte("-----BEGIN CERTIFICATE-----")) {
		e := &fileError{what: "client certificate", name: certFile, err: errors.New("there is no PEM certificate in it")}
		if _, err := x509.ParseCertificate(cert); err == nil {
			e.hint = fmt.Sprintf("it is DER: `openssl x509 -inform der -in %s` makes PEM of it", certFile)
		}
		return tls.Certificate{}, e
	}
	if err := checkKey(keyFile, key); err != nil {
		return tls.Certificate{}, err
	}
	own, err := tls.X509KeyPair(cert, key)
	if err != nil {
		// The library has said whose fault it is.
		e := &fileError{what: "client certificate", name: certFile, err: errors.New(strings.TrimPrefix(err.Error(), "tls: "))}
		if strings.Contains(err.Error(), "does not match") {
			e.hint = fmt.Sprintf("%s is the key of another certificate; the client's certificate comes first in its file", keyFile)
		}
		return tls.Certificate{}, e
	}
	return own, nil
}

// checkKey says what is wrong with a file that has no key that can be read.
func checkKey(name string, b []byte) error {
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return &fileError{what: "private key", name: name, err: errors.New("there is no PEM key in it"),
				hint: "a PEM key has a line -----BEGIN PRIVATE KEY-----"}
		}
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return &fileError{what: "private key", name: name, err: errors.New("it is encrypted"),
				hint: fmt.Sprintf("`openssl pkey -in %s -out plain.key` decrypts it; or use a PKCS#12 file with its password", name)}
		}
		if block.Type == "OPENSSH PRIVATE KEY" {
			return &fileError{what: "private key", name: name, err: errors.New("it is a key of OpenSSH"),
				hint: "TLS needs the key that the certificate was made with"}
		}
		return nil
	}
}

// loadPKCS12 reads certificate, chain and key from one file.
func loadPKCS12(name, password string) (tls.Certificate, error) {
	const what = "PKCS#12 file"
	b, err := read(what, name)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, cert, chain, err := pkcs12.DecodeChain(b, password)
	if err != nil {
		e := &fileError{what: what, name: name, err: errors.New(strings.TrimPrefix(err.Error(), "pkcs12: "))}
		switch {
		case errors.Is(err, pkcs12.ErrIncorrectPassword) && password == "":
			e.err, e.hint = errors.New("it needs a password"), "give the password that it was encrypted with"
		case errors.Is(err, pkcs12.ErrIncorrectPassword):
			e.err, e.hint = errors.New("the password is wrong"), "give the password that it was encrypted with"
		case bytes.HasPrefix(b, []byte("-----BEGIN ")):
			e.err, e.hint = errors.New("it is PEM"), "give PEM files as certificate and key"
		default:
			e.hint = "it has one private key and its certificate: `openssl pkcs12 -info -in " + name + "` shows what is in it"
		}
		return tls.Certificate{}, e
	}
	own := tls.Certificate{PrivateKey: key, Leaf: cert, Certificate: [][]byte{cert.Raw}}
	for _, c := range chain {
		own.Certificate = append(own.Certificate, c.Raw)
	}
	return own, nil
}
