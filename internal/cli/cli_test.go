package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/myelin-mqtt/myelin/internal/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestReport(t *testing.T) {
	f := func(err error, code int, want string) {
		t.Helper()
		var b bytes.Buffer
		if got := report(&b, nil, err); got != code || b.String() != want {
			t.Errorf("%v: exit code %d, %q; want %d, %q", err, got, b.String(), code, want)
		}
	}
	f(nil, 0, "")
	f(errors.New("no"), 1, "myelin: error: no\n")
	f(usage("what", "try"), 2, "myelin: error: what\nmyelin: hint: try\n")
	f(fmt.Errorf("outside: %w", usage("what", "")), 2, "myelin: error: outside: what\n")
	f(config.Faults{{Where: "a:1", What: "x", Hint: "h"}, {Where: "b", What: "y"}}, 1,
		"myelin: error: a:1: x\nmyelin: hint: h\nmyelin: error: b: y\n")
}

func TestListenHints(t *testing.T) {
	for err, want := range map[error]string{
		syscall.EADDRINUSE:      "another program",
		syscall.EACCES:          "1024",
		syscall.EADDRNOTAVAIL:   "no such address",
		syscall.ENOENT:          "directory",
		&net.DNSError{Err: "x"}: "check the host's name",
		errors.New("other"):     "",
	} {
		var b bytes.Buffer
		code := report(&b, nil, withListenHint(fmt.Errorf("listen on tcp://x:1: %w", err)))
		_, hint, _ := strings.Cut(b.String(), "hint: ")
		if code != 1 || (want == "") != (hint == "") || !strings.Contains(hint, want) {
			t.Errorf("%v: exit code %d, %s", err, code, b.String())
		}
	}
}

// TestEveryKeyHasAFlag: `myelin serve --help` shows each setting.
func TestEveryKeyHasAFlag(t *testing.T) {
	var out bytes.Buffer
	if code := Run(context.Background(), Process{Args: []string{"serve", "--help"}, Stdout: &out, Stderr: &out}); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	for _, k := range config.Keys() {
		if !strings.Contains(out.String(), "--"+k.Flag+" ") {
			t.Errorf("no flag --%s in:\n%s", k.Flag, out.String())
		}
	}
}

// TestServeEndsWithItsContext also shows, through goleak, that nothing is left
// running.
func TestServeEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out bytes.Buffer
	args := []string{"serve", "--listen", "tcp://127.0.0.1:0", "--pprof", "127.0.0.1:0", "--data", t.TempDir(), "--log-format", "json"}
	if code := Run(ctx, Process{Args: args, Stdout: &out, Stderr: &out}); code != 0 {
		t.Fatalf("exit code %d: %s", code, out.String())
	}
	if !strings.Contains(out.String(), `"msg":"stopped"`) {
		t.Error(out.String())
	}
}

// TestColour: only terminals get colours.
func TestColour(t *testing.T) {
	var b bytes.Buffer
	if report(&b, nil, errors.New("x")); strings.Contains(b.String(), "\x1b") {
		t.Errorf("%q", b.String())
	}
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no terminal: ", err)
	}
	defer tty.Close()
	for env, want := range map[string]bool{"": true, "NO_COLOR=": true, "NO_COLOR=1": false, "NO_COLOR=0": false, "TERM=dumb": false} {
		if got := colour(tty, []string{env}); got != want {
			t.Errorf("%q: %t", env, got)
		}
	}
}
