package certs

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/myelin-mqtt/myelin/test/pki"
)

// log is what a set logs.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// world is a folder with an authority, and the options of a set with one server
// certificate.
type world struct {
	t      *testing.T
	dir    string
	ca     *pki.Authority
	server *pki.Leaf
	o      Options
	log    *log
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, dir: t.TempDir(), log: &log{}}
	w.ca = pki.New(w.dir, "root")
	w.server = w.ca.Server("localhost")
	w.o = Options{
		Certificates: []Pair{{Cert: w.server.Cert, Key: w.server.Key}}, Protocols: []string{"mqtt"}, Name: "test",
		Logger: slog.New(slog.NewTextHandler(w.log, nil)), Interval: 5 * time.Second,
	}
	return w
}

func (w *world) open() *Set {
	w.t.Helper()
	s, err := Open(w.o)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, text string) string {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return w.path(name)
}

// client is a client that trusts the authority and shows a certificate, nil: none.
func (w *world) client(show *pki.Leaf) *tls.Config {
	c := &tls.Config{RootCAs: pki.Pool(w.ca), ServerName: "localhost"}
	if show != nil {
		c.Certificates = []tls.Certificate{show.TLS}
	}
	return c
}

// shake makes a handshake, and gives what both ends say about it.
func shake(t *testing.T, s *Set, client *tls.Config) (server, peer tls.ConnectionState, refused, failed error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	defer b.Close()
	_, _ = a.SetDeadline(time.Now().Add(20*time.Second)), b.SetDeadline(time.Now().Add(20*time.Second))
	done := make(chan struct{})
	go func() {
		defer close(done)
		sc := tls.Server(a, s.Config())
		if refused = sc.Handshake(); refused != nil {
			a.Close()
			return
		}
		server = sc.ConnectionState()
		_, _ = sc.Write([]byte("x")) // behind the tickets
		_, _ = io.Copy(io.Discard, sc)
	}()
	cc := tls.Client(b, client)
	if failed = cc.Handshake(); failed == nil {
		_, failed = cc.Read(make([]byte, 1))
	}
	peer = cc.ConnectionState()
	b.Close()
	<-done
	return server, peer, refused, failed
}

func TestServerName(t *testing.T) {
	w := newWorld(t)
	other := w.ca.Server("other.example", "*.wild.example")
	w.o.Certificates = append(w.o.Certificates, Pair{Cert: other.Cert, Key: other.Key})
	s := w.open()
	for name, want := range map[string]string{
		"": "localhost", "localhost": "localhost", "other.example": "other.example", "a.wild.example": "other.example", "unknown.example": "localhost",
	} {
		c := &tls.Config{ServerName: name, InsecureSkipVerify: true}
		_, peer, refused, failed := shake(t, s, c)
		if refused != nil || failed != nil || peer.PeerCertificates[0].Subject.CommonName != want {
			t.Errorf("%q: %v, %v, %v", name, peer.PeerCertificates, refused, failed)
		}
	}
}

func TestProtocolsAndVersions(t *testing.T) {
	w := newWorld(t)
	s := w.open()
	for _, x := range []struct {
		offer []string
		got   string
		good  bool
	}{{nil, "", true}, {[]string{"mqtt"}, "mqtt", true}, {[]string{"x", "mqtt"}, "mqtt", true}, {[]string{"h2"}, "", false}} {
		c := w.client(nil)
		c.NextProtos = x.offer
		server, _, refused, failed := shake(t, s, c)
		if (refused == nil && failed == nil) != x.good || server.NegotiatedProtocol != x.got {
			t.Errorf("%v: %q, %v, %v", x.offer, server.NegotiatedProtocol, refused, failed)
		}
	}
	versions := func(low, high uint16, want ...bool) {
		t.Helper()
		w.o.MinVersion, w.o.MaxVersion = low, high
		s := w.open()
		for i, v := range []uint16{tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13} {
			c := w.client(nil)
			c.MinVersion, c.MaxVersion = v, v
			if _, _, refused, failed := shake(t, s, c); (refused == nil && failed == nil) != want[i] {
				t.Errorf("%s of %x to %x: %v, %v", tls.VersionName(v), low, high, refused, failed)
			}
		}
	}
	versions(0, 0, false, true, true)
	versions(tls.VersionTLS13, 0, false, false, true)
	versions(0, tls.VersionTLS12, false, true, false)
}

func TestClients(t *testing.T) {
	w := newWorld(t)
	w.o.ClientCA = w.ca.File
	good := w.ca.Client("good")
	foreign := pki.New(w.dir, "foreign").Client("foreign client")
	serverOnly := w.ca.Server("only a server")
	for _, x := range []struct {
		clients                  Clients
		none, good, foreign, use bool
	}{{None, true, true, true, true}, {Optional, true, true, false, false}, {Required, false, true, false, false}} {
		w.o.Clients = x.clients
		s := w.open()
		for _, show := range []struct {
			leaf *pki.Leaf
			want bool
		}{{nil, x.none}, {good, x.good}, {foreign, x.foreign}, {serverOnly, x.use}} {
			c := w.client(nil)
			if show.leaf != nil { // also if the server did not ask for one of that authority
				c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &show.leaf.TLS, nil }
			}
			if _, _, refused, failed := shake(t, s, c); (refused == nil && failed == nil) != show.want {
				t.Errorf("%d: %+v: %v, %v", x.clients, show.leaf, refused, failed)
			}
		}
	}
}

// TestRevocation: what a list names is refused, and so is who cannot be looked up,
// unless the set is lenient.
func TestRevocation(t *testing.T) {
	w := newWorld(t)
	sub := w.ca.Sub("sub")
	good, bad, below := w.ca.Client("good"), w.ca.Client("bad"), sub.Client("below")
	w.o.Clients, w.o.ClientCA = Required, w.ca.File
	later, before := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	bundle := pki.Join(w.path("bundle.crt"), w.ca.File, sub.File)
	for _, x := range []struct {
		name             string
		ca               string
		crl              []string
		lenient          bool
		good, bad, below string // why it is refused
	}{
		{"no list", w.ca.File, nil, false, "", "", ""},
		{"root's", w.ca.File, []string{w.ca.Revoke("a.crl", later, bad.X509)}, false, "", "is revoked", "no revocation list of sub"},
		{"root's, lenient", w.ca.File, []string{w.path("a.crl")}, true, "", "is revoked", ""},
		{"out of date", w.ca.File, []string{w.ca.Revoke("b.crl", before, bad.X509)}, false, "out of date", "is revoked", "no revocation list of sub"},
		{"out of date, lenient", w.ca.File, []string{w.path("b.crl")}, true, "", "is revoked", ""},
		{"both", bundle, []string{w.path("a.crl"), sub.Revoke("c.crl", later)}, false, "", "is revoked", ""},
		{"both, the lower says so", bundle, []string{w.path("a.crl"), sub.Revoke("d.crl", later, below.X509)}, false, "", "is revoked", "is revoked"},
		{"both in one file", bundle, []string{pki.Join(w.path("ac.crl"), w.path("a.crl"), w.path("c.crl"))}, false, "", "is revoked", ""},
		{"the lower authority is revoked", bundle, []string{w.ca.Revoke("e.crl", later, sub.Cert), w.path("c.crl")}, false, "", "", "is revoked"},
		{"and does not stand in the bundle", w.ca.File, []string{w.path("e.crl")}, false, "", "", ": "},
	} {
		w.o.ClientCA, w.o.CRL, w.o.Lenient = x.ca, x.crl, x.lenient
		s := w.open()
		for _, c := range []struct {
			leaf *pki.Leaf
			why  string
		}{{good, x.good}, {bad, x.bad}, {below, x.below}} {
			_, _, refused, failed := shake(t, s, w.client(c.leaf))
			if c.why == "" && (refused != nil || failed != nil) || c.why != "" && (refused == nil || failed == nil || !strings.Contains(refused.Error(), c.why)) {
				t.Errorf("%s: %s: %v, %v; want %q", x.name, c.leaf.X509.Subject.CommonName, refused, failed, c.why)
			}
		}
	}
}

// TestResumed: a session goes on over a reload of the server's certificate, and
// not over one of what clients are judged by.
func TestResumed(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		w := newWorld(t)
		show := w.ca.Client("device")
		other := pki.New(w.dir, "other")
		w.o.Clients, w.o.ClientCA = Optional, w.ca.File
		s := w.open()
		c := w.client(show)
		c.MaxVersion, c.ClientSessionCache = version, tls.NewLRUClientSessionCache(1)
		connect := func(what string, resumed bool, user string) {
			t.Helper()
			server, _, refused, failed := shake(t, s, c)
			if refused != nil || failed != nil {
				t.Fatalf("%s: %v, %v", what, refused, failed)
			}
			got := ""
			if len(server.VerifiedChains) > 0 {
				got = server.PeerCertificates[0].Subject.CommonName
			}
			if server.DidResume != resumed || got != user {
				t.Errorf("%s, %s: resumed %v as %q; want %v, %q", tls.VersionName(version), what, server.DidResume, got, resumed, user)
			}
		}
		reload := func() {
			t.Helper()
			if err := s.Reload(); err != nil {
				t.Fatal(err)
			}
		}
		connect("first", false, "device")
		connect("second", true, "device")
		w.ca.Server("localhost")
		reload()
		connect("after a new certificate of the server", true, "device")
		pki.Join(w.ca.File, other.File, w.ca.File) // the same authority still counts
		reload()
		connect("after another authority more", false, "device")
		connect("and again", true, "device")
		w.o.CRL = []string{w.ca.Revoke("r.crl", time.Now().Add(time.Hour))}
		if err := s.Use(w.o); err != nil {
			t.Fatal(err)
		}
		connect("after a list", false, "device")
		connect("and again", true, "device")
		s.mu.Lock()
		s.turnKeys(time.Now().Add(keyLife))
		s.mu.Unlock()
		connect("after another key", true, "device")
		w.ca.Revoke("r.crl", time.Now().Add(time.Hour), show.X509)
		reload()
		if _, _, refused, _ := shake(t, s, c); refused == nil {
			t.Error("let in after its certificate was revoked")
		}
		pki.Join(w.o.ClientCA, other.File)
		w.o.CRL = nil
		if err := s.Use(w.o); err != nil {
			t.Fatal(err)
		}
		connect("after another authority", false, "") // the client has nothing to show that is asked for
	}
}

// TestFaults: every fault of a set is found in one go, and says where it is.
func TestFaults(t *testing.T) {
	w := newWorld(t)
	other := w.ca.Server("other")
	text, _ := os.ReadFile(w.server.Cert)
	key, _ := os.ReadFile(w.server.Key)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	w.write("cut.crt", string(text[:len(text)-100]))
	w.write("cut2.crt", string(text)+string(text[:len(text)-100]))
	w.write("wrong.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("nothing")})))
	w.write("der.crt", string(w.server.X509.Raw))
	w.write("empty.crt", "")
	w.write("encrypted.key", string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})))
	w.write("wrong.key", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte("x")})))
	w.write("rsa.key", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)})))
	w.write("both.pem", string(text)+string(key))
	forged := pki.New(t.TempDir(), "root") // of the same name, with another key
	later := time.Now().Add(time.Hour)
	f := func(o Options, want ...string) {
		t.Helper()
		_, err := Open(o)
		if err == nil {
			if len(want) > 0 {
				t.Errorf("no fault, want %q", want)
			}
			return
		}
		faults := err.(Faults)
		if len(faults) != len(want) {
			t.Errorf("got\n%v\nwant\n%s", err, strings.Join(want, "\n"))
			return
		}
		for i, x := range faults {
			if !strings.Contains(strings.ReplaceAll(x.String(), w.dir+"/", ""), want[i]) {
				t.Errorf("got %s, want %s", x, want[i])
			}
		}
	}
	pair := func(cert, key string) Options {
		o := w.o
		if key != "" {
			key = w.path(key)
		}
		o.Certificates = []Pair{{Cert: w.path(cert), Key: key}}
		return o
	}
	f(pair("localhost.crt", "localhost.key"))
	f(pair("both.pem", ""))
	f(pair("gone.crt", "gone.key"), "gone.crt: cannot read it: no such file or directory", "gone.key: cannot read it: no such")
	f(pair("empty.crt", "localhost.key"), "empty.crt: it is empty")
	f(pair("cut.crt", "localhost.key"), "cut.crt: only 0 of its 1 PEM blocks can be read")
	f(pair("cut2.crt", "localhost.key"), "cut2.crt: only 1 of its 2 PEM blocks can be read")
	f(pair("wrong.crt", "localhost.key"), "wrong.crt: certificate 1: x509: ")
	f(pair("der.crt", "localhost.key"), "der.crt: there is no certificate in PEM form in it")
	f(pair("localhost.key", "localhost.key"), "localhost.key: there is no certificate")
	f(pair("localhost.crt", ""), "localhost.crt: there is no private key in PEM form in it")
	f(pair("localhost.crt", "other.key"), "other.key: the key does not fit the certificate in localhost.crt")
	f(pair("localhost.crt", "rsa.key"), "rsa.key: the key does not fit")
	f(pair("localhost.crt", "encrypted.key"), "encrypted.key: the private key is encrypted")
	f(pair("localhost.crt", "wrong.key"), "wrong.key: private key: ")
	many := w.o
	many.Certificates = []Pair{{Cert: w.path("gone.crt"), Key: other.Key}, {Cert: other.Cert, Key: w.server.Key}}
	many.Clients, many.ClientCA, many.CRL = Required, w.path("wrong.crt"), []string{w.path("gone.crl")}
	many.Username = "{cx}"
	f(many, "gone.crt: cannot", "localhost.key: the key does not fit", "wrong.crt: certificate 1", "gone.crl: cannot", `user name: there is no field "cx"`)
	crl := func(files ...string) Options {
		o := w.o
		o.Clients, o.ClientCA, o.CRL = Required, w.ca.File, files
		return o
	}
	f(crl(w.ca.Revoke("ok.crl", later)))
	f(crl(forged.Revoke("forged.crl", later)), "revocation list: ")
	f(crl(pki.New(w.dir, "stranger").Revoke("stranger.crl", later)), "its issuer, CN=stranger, is none of")
	f(crl(w.server.Cert), "there is no revocation list in it")
	f(crl(w.write("junk.crl", "junk")), "revocation list: x509")
	f(crl(w.path("ok.crl"), w.ca.Revoke("ok2.crl", later)), "a second one of root")
	o := w.o
	o.Clients = Optional
	f(o, "no authority is named")
	o = w.o
	o.Username = "cn"
	f(o, "user name from certificates that no client is asked for")
	f(Options{}, "there is no certificate")
	o = w.o
	o.MinVersion, o.MaxVersion = tls.VersionTLS13, tls.VersionTLS12
	f(o, "the newest TLS version is below the oldest")
}

func TestWarnings(t *testing.T) {
	w := newWorld(t)
	sub := w.ca.Sub("sub")
	ended := w.ca.Leaf("ended", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	below := sub.Server("below")
	pki.Join(w.path("twisted.crt"), below.Cert, w.server.Cert)
	w.o.Certificates = []Pair{{Cert: ended.Cert, Key: ended.Key}, {Cert: w.path("twisted.crt"), Key: below.Key}}
	w.open()
	for _, want := range []string{"ended has ended at", "ended has no host name", "below ends in 0 days", "certificate 2 (sub) was not issued by the next one (localhost)"} {
		if !strings.Contains(w.log.String(), want) {
			t.Errorf("no word of %q in\n%s", want, w.log)
		}
	}
	if strings.Contains(w.log.String(), "certificate 1 (below)") {
		t.Error(w.log)
	}
}

// TestBrokenSetIsRefused: the set before it stays, and the log and the figures say
// so.
func TestBrokenSetIsRefused(t *testing.T) {
	w := newWorld(t)
	s := w.open()
	before, key := w.server.X509.SerialNumber, w.path("localhost.key")
	old, _ := os.ReadFile(key)
	w.ca.Server("localhost") // new ones, but the old key comes back
	w.write("localhost.key", string(old))
	if err := s.Reload(); err == nil || !strings.Contains(err.Error(), "does not fit") {
		t.Fatalf("%v", err)
	}
	if _, peer, _, failed := shake(t, s, w.client(nil)); failed != nil || peer.PeerCertificates[0].SerialNumber.Cmp(before) != 0 {
		t.Errorf("%v, %v", peer.PeerCertificates[0].SerialNumber, failed)
	}
	if st := s.Stats(); st.Refused != 1 || st.Reloads != 0 || !st.Faulty || st.Certificates[0].Name != "localhost" || !s.NotAfter().Equal(w.server.X509.NotAfter) {
		t.Errorf("%+v", st)
	}
	if !strings.Contains(w.log.String(), "certificates not reloaded") {
		t.Error(w.log)
	}
	gone := w.o
	gone.Certificates = []Pair{{Cert: w.path("gone.crt")}}
	if s.Use(gone) == nil {
		t.Error("options with a fault are taken")
	}
	next := w.ca.Server("localhost")
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, peer, _, failed := shake(t, s, w.client(nil)); failed != nil || !peer.PeerCertificates[0].Equal(next.X509) {
		t.Errorf("%v", failed)
	}
	if st := s.Stats(); st.Refused != 2 || st.Reloads != 1 || st.Faulty {
		t.Errorf("%+v", st)
	}
}

// TestWatch: files that are written in place, replaced, or exchanged by a link are
// taken when they have come to rest; broken ones when they are whole.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for _, folder := range []string{"1", "2", "3"} {
			if err := os.Mkdir(w.path(folder), 0o700); err != nil {
				t.Fatal(err)
			}
			leaf := w.ca.Server("localhost")
			pki.Join(w.path(folder+"/tls.crt"), leaf.Cert)
			pki.Join(w.path(folder+"/tls.key"), leaf.Key)
		}
		link := func(to string) { // as Kubernetes does it
			if err := os.Symlink(to, w.path("new")); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(w.path("new"), w.path("data")); err != nil {
				t.Fatal(err)
			}
		}
		link("1")
		w.o.Certificates = []Pair{{Cert: w.path("data/tls.crt"), Key: w.path("data/tls.key")}}
		s := w.open()
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { s.Watch(ctx) })
		defer wg.Wait()
		defer stop()
		after := func(what string, d time.Duration, reloads, refused uint64, faulty bool) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if st := s.Stats(); st.Reloads != reloads || st.Refused != refused || st.Faulty != faulty {
				t.Errorf("%s: %+v", what, st)
			}
		}
		after("nothing has changed", time.Minute, 0, 0, false)
		link("2")
		after("another folder", 7*time.Second, 1, 0, false)
		link("3")
		after("and another", 7*time.Second, 2, 0, false)
		good, _ := os.ReadFile(w.path("3/tls.crt"))
		for range 20 { // somebody writes and writes
			f, err := os.OpenFile(w.path("3/tls.crt"), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = f.WriteString("-----BEGIN ")
			_ = f.Close()
			time.Sleep(time.Second / 2)
		}
		after("half a file", 0, 2, 0, false)
		after("and no more of it", time.Minute, 2, 1, true)
		pki.Join(w.path("3/tls.crt"), w.path("2/tls.crt"))
		after("of another key", time.Minute, 2, 2, true)
		w.write("3/tls.crt", string(good))
		after("whole again", 7*time.Second, 3, 2, false)
		_ = os.Remove(w.path("3/tls.crt"))
		after("gone", time.Minute, 3, 3, true)
		w.write("3/tls.crt", string(good))
		after("back", 7*time.Second, 4, 3, false)
		first := s.now.Load().keys[0]
		after("a day", 25*time.Hour, 4, 3, false)
		if keys := s.now.Load().keys; len(keys) != 2 || keys[0] == first || keys[1] != first {
			t.Error("the keys of session tickets are not changed once a day")
		}
	})
}

// TestWatchOff: without an interval nothing but the clock has an effect.
func TestWatchOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.o.Interval = 0
		w.o.Certificates[0].OCSP = w.write("ocsp.der", string(answer(t, w.server.X509.SerialNumber, 0, time.Now().Add(90*time.Minute))))
		s := w.open()
		if len(s.now.Load().config.Certificates[0].OCSPStaple) == 0 {
			t.Fatal("nothing is stapled")
		}
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { s.Watch(ctx) })
		defer wg.Wait()
		defer stop()
		_ = os.Chtimes(w.server.Key, time.Now(), time.Now().Add(time.Hour))
		time.Sleep(80 * time.Minute)
		synctest.Wait()
		if st := s.Stats(); st.Reloads != 0 {
			t.Errorf("%+v", st)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if st := s.Stats(); st.Reloads != 1 || len(s.now.Load().config.Certificates[0].OCSPStaple) != 0 {
			t.Errorf("%+v: an answer that is out of date is still stapled", st)
		}
	})
}

// answer is an OCSP answer; 0 is good, 1 revoked.
func answer(t *testing.T, serial *big.Int, status int, next time.Time) []byte {
	t.Helper()
	var b ocspBasic
	b.Data.Responder = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, IsCompound: true, Bytes: []byte{4, 1, 0}}
	b.Data.Produced = time.Now().UTC()
	b.Algorithm = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}
	b.Signature = asn1.BitString{Bytes: []byte{1}, BitLength: 8}
	x := ocspSingle{This: time.Now().UTC(), Next: next.UTC(), Status: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: status}}
	x.ID.Hash, x.ID.Name, x.ID.Key, x.ID.Serial = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}}, []byte{1}, []byte{2}, serial
	b.Data.Single = []ocspSingle{x}
	inner, err := asn1.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	var r ocspResponse
	r.Bytes.Type, r.Bytes.Response = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}, inner
	der, err := asn1.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestStaple(t *testing.T) {
	w := newWorld(t)
	serial := w.server.X509.SerialNumber
	later := time.Now().Add(time.Hour)
	f := func(der []byte, fault, warning string, stapled bool) {
		t.Helper()
		w.o.Certificates[0].OCSP = w.write("ocsp.der", string(der))
		s, err := Open(w.o)
		if fault != "" {
			if err == nil || !strings.Contains(err.Error(), fault) {
				t.Errorf("%v, want %q", err, fault)
			}
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
		if warning != "" && !strings.Contains(w.log.String(), warning) {
			t.Errorf("no word of %q in %s", warning, w.log)
		}
		if _, peer, _, failed := shake(t, s, w.client(nil)); failed != nil || bytes.Equal(peer.OCSPResponse, der) != stapled {
			t.Errorf("stapled: %x, %v", peer.OCSPResponse, failed)
		}
	}
	f(answer(t, serial, 0, later), "", "", true)
	f(answer(t, serial, 0, time.Now().Add(-time.Minute)), "", "out of date", false)
	f(answer(t, serial, 1, later), "does not say that the certificate is good", "", false)
	f(answer(t, big.NewInt(1), 0, later), "about another certificate", "", false)
	f([]byte{0x30, 3, 0x0a, 1, 3}, "it is the refusal 3", "", false)
	f([]byte("junk"), "cannot be read", "", false)
}

func TestTemplates(t *testing.T) {
	w := newWorld(t)
	leaf := w.ca.Leaf("device-7", func(c *x509.Certificate) {
		c.Subject.Organization, c.Subject.OrganizationalUnit, c.Subject.SerialNumber = []string{"Works"}, []string{"a", "b"}, "S1"
		c.DNSNames, c.EmailAddresses = []string{"d.example", "e.example"}, []string{"d@example"}
		c.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)}
		c.SerialNumber = big.NewInt(0xabc)
	}).X509
	f := func(text, want, fault string) {
		t.Helper()
		p, err := ParseTemplate(text)
		got := ""
		if err == nil {
			got, err = p.Of(leaf)
		}
		if got != want || (err == nil) != (fault == "") || err != nil && !strings.Contains(err.Error(), fault) {
			t.Errorf("%q: %q, %v; want %q, %q", text, got, err, want, fault)
		}
	}
	f("cn", "device-7", "")
	f("{cn}", "device-7", "")
	f("x-{cn}.", "x-device-7.", "")
	f("{o}/{cn}", "Works/device-7", "")
	f("{o}-{cn}", "", "a sign that stands between fields")
	f("{san.dns} {san.email}", "d.example d@example", "")
	f("san.ip", "10.0.0.1", "")
	f("serial", "abc", "")
	f("sn", "S1", "")
	f("ou", "", "there twice")
	f("uid", "", "has no uid")
	f("san.uri", "", "has no san.uri")
	f("{o}{cn}", "", "no sign between them")
	f("{o} and{cn}", "Works anddevice-7", "")
	f("device", "", "no field in")
	f("", "", "no field in")
	f("{cn", "", "without its }")
	f("cn}", "", "without its {")
	f("{}", "", `no field ""`)
	f("{san.dns}{", "", "no sign between")
	if p, _ := ParseTemplate("fingerprint"); p == nil {
		t.Error("no fingerprint")
	} else if s, err := p.Of(leaf); err != nil || len(s) != 64 {
		t.Errorf("%q, %v", s, err)
	}
	odd := w.ca.Leaf("odd\nname", func(*x509.Certificate) {}).X509
	p, err := ParseTemplate("cn")
	if err != nil {
		t.Fatal(err)
	}
	if s, err := p.Of(odd); err == nil {
		t.Errorf("%q is taken", s)
	}
	long := w.ca.Leaf("long", func(c *x509.Certificate) { c.Subject.CommonName = strings.Repeat("n", maxIdentity+1) }).X509
	if _, err := p.Of(long); err == nil {
		t.Error("a name without end is taken")
	}
}

// FuzzParse: whatever is in the files, reading them ends.
func FuzzParse(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"), "{cn}-{o}")
	f.Add([]byte{0x30, 3, 0x0a, 1, 3}, "cn")
	f.Fuzz(func(t *testing.T, text []byte, template string) {
		l := loader{now: time.Now(), seen: marks{}}
		as := l.certificates("f", text)
		l.key("f", text)
		ls := &lists{by: map[issuer]*list{}}
		for _, der := range l.listsIn("f", text) {
			l.list(ls, "f", der, as)
		}
		_, _ = parseStaple(text, big.NewInt(1))
		if p, err := ParseTemplate(template); err == nil {
			for _, a := range as {
				_, _ = p.Of(a)
			}
		}
	})
}
