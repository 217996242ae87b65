package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// clientCmds are the commands of scripts about the client commands:
//
//	captured VAR REGEXP      wait until the log has a line like it, and put what its parentheses hold into $VAR
//	examples COMMAND CODE... run every example of `myelin COMMAND --help` in a shell; each ends with 0 or one of the codes.
//	                         localhost in a URL is $ADDR, and port 8883 $TLSPORT
//	unread CODE PROGRAM ARG...  run it with a standard output that nobody reads
//	tlsfront VAR ADDRESS     a TLS server in front of an address; its port is in $VAR, its authority in ca.pem
//	authority                make root.crt with below it localhost.crt and device.crt, their keys, and none.crl, which revokes nothing;
//	                         root.crt stays if it is there, and device.crt, too
//	revoke FILE              write a list that revokes device.crt
func clientCmds() map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	return map[string]func(ts *testscript.TestScript, neg bool, args []string){
		"authority": makeAuthority,
		"revoke":    revoke,
		"captured":  captured,
		"examples":  examples,
		"unread":    unread,
		"tlsfront":  tlsfront,
	}
}

func captured(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: captured VAR REGEXP")
	}
	await(ts, false, args[1:])
	m := regexp.MustCompile("(?m)" + args[1]).FindStringSubmatch(ts.ReadFile("log"))
	ts.Setenv(args[0], m[1])
}

func examples(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: examples COMMAND CODE...")
	}
	ts.Check(ts.Exec("myelin", append(strings.Fields(args[0]), "--help")...))
	// The examples are indented, and end with an empty line.
	_, text, _ := strings.Cut(ts.ReadFile("stdout"), "\nExamples:\n")
	text, _, _ = strings.Cut(text, "\n\n")
	text = strings.Trim(text, "\n")
	n := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		run := strings.NewReplacer("://localhost:1884", "://"+ts.Getenv("ADDR2"), "://localhost", "://"+ts.Getenv("ADDR"), "-p 8883", "-p "+ts.Getenv("TLSPORT")).Replace(line)
		code := 0
		if exit, ok := errors.AsType[*exec.ExitError](ts.Exec("sh", "-c", run)); ok {
			code = exit.ExitCode()
		}
		if code != 0 && !slices.Contains(args[1:], fmt.Sprint(code)) {
			ts.Fatalf("exit code %d: %s", code, line)
		}
		n++
	}
	if n == 0 {
		ts.Fatalf("myelin %s has no examples", args[0])
	}
}

func unread(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: unread CODE PROGRAM ARG...")
	}
	name, err := lookPath(args[1], ts.Getenv("PATH"))
	ts.Check(err)
	r, w, err := os.Pipe()
	ts.Check(err)
	ts.Check(r.Close())
	var said strings.Builder
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args[2:]...)
	cmd.Stdout, cmd.Stderr = w, &said
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = []string{"MYELIN_HOST=127.0.0.1", "MYELIN_PORT=" + ts.Getenv("MYELIN_PORT")}
	err = cmd.Run()
	_ = w.Close()
	if cmd.ProcessState == nil {
		ts.Check(err)
	}
	if got := fmt.Sprint(cmd.ProcessState.ExitCode()); got != args[0] || said.Len() > 0 {
		ts.Fatalf("exit code %s, want %s; it says %q, want nothing", got, args[0], said.String())
	}
}

func tlsfront(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tlsfront VAR ADDRESS")
	}
	cert, authority := certificates(ts)
	ts.Check(os.WriteFile(ts.MkAbs("ca.pem"), authority, 0o600))
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	ts.Check(err)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", args[1])
			if err != nil {
				_ = c.Close()
				continue
			}
			mu.Lock()
			open = append(open, c, up)
			mu.Unlock()
			relay := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				_ = to.Close()
			}
			wg.Go(func() { relay(up, c) })
			wg.Go(func() { relay(c, up) })
		}
	})
	ts.Defer(func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	_, port, err := net.SplitHostPort(ln.Addr().String())
	ts.Check(err)
	ts.Setenv(args[0], port)
}

// certificates makes an authority, as PEM, and a certificate of it for localhost.
func certificates(ts *testscript.TestScript) (tls.Certificate, []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	authority, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	ts.Check(err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
	ts.Check(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority})
}

// TestExamplesRun: a script runs the examples of each command.
func TestExamplesRun(t *testing.T) {
	docs, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir("testdata/script")
	if err != nil {
		t.Fatal(err)
	}
	var scripts strings.Builder
	for _, f := range files {
		text, err := os.ReadFile("testdata/script/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		scripts.Write(text)
	}
	for _, m := range regexp.MustCompile(`(?m)^## myelin (.+)$`).FindAllStringSubmatch(string(docs), -1) {
		switch m[1] {
		case "serve", "version", "bench", "check", "sub", "rr", "store backup", "store check", "store dump", "store queues", "passwd", "acl explain":
			continue // scripts of their own: their examples need other brokers, times, folders or input
		}
		if !regexp.MustCompile(`(?m)^examples '?` + m[1] + `'?( \d+)*$`).MatchString(scripts.String()) {
			t.Errorf("no script runs the examples of `myelin %s`", m[1])
		}
	}
}
