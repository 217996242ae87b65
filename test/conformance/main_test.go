//go:build conformance

package conformance

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	tableFile = flag.String("table", "", "write the statements and their results to this file as Markdown")
	rewrite   = flag.Bool("rewrite", false, "write testdata/malformed.tsv anew")
	overWS    = flag.Bool("ws", false, "run the cases over WebSocket")
	serveArgs = flag.String("serve", "", "more arguments for the program under test, such as \"--io goroutine\"")
)

// target is the server under test; TestMain sets it once, before the first test.
var target struct {
	tcp    string // host:port
	ws     string // host:port/path, or "" when there is none
	overWS bool
	run    string // random, part of every client identifier and topic
	bin    string // the program, when it is ours
	pid    int    // of the program, when it is ours
}

func TestMain(m *testing.M) {
	flag.Parse()
	// Most cases wait for something most of the time: far more of them than there are processors run at once.
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		f.Value.Set("48")
	}
	code, err := runAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		code = 1
	}
	os.Exit(code)
}

// runAll starts the program, runs the tests, and ends it.
func runAll(m *testing.M) (int, error) {
	target.overWS = *overWS
	target.run = "c" + strings.ToLower(rand.Text()[:5])
	if url := os.Getenv("MYELIN_URL"); url != "" {
		target.tcp, target.ws = url, os.Getenv("MYELIN_WS_URL")
		return m.Run(), nil
	}
	dir, err := os.MkdirTemp("", "conformance")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if target.bin, err = program(dir); err != nil {
		return 1, err
	}
	p, err := start(dir)
	if err != nil {
		return 1, err
	}
	target.tcp, target.ws, target.pid = p.tcp, p.ws, p.cmd.Process.Pid
	code := m.Run()
	if err := p.stop(); err != nil {
		return 1, err
	}
	return code, nil
}

// program is the path of the program under test; it is built if need be.
func program(dir string) (string, error) {
	if bin := os.Getenv("MYELIN_BIN"); bin != "" {
		return filepath.Abs(bin)
	}
	bin := filepath.Join(dir, "myelin")
	cmd := exec.Command("go", "build", "-o", bin, "./cmd/myelin")
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return bin, nil
}

// process is a running program.
type process struct {
	cmd     *exec.Cmd
	done    chan error
	tcp, ws string
	log     string
	over    bool // it was asked to end already
}

// start runs the program on free ports and waits until it listens; it tries again when somebody else was faster at a port.
func start(dir string, args ...string) (p *process, err error) {
	for range 3 {
		if p, err = startOnce(dir, args...); err == nil {
			return p, nil
		}
	}
	return nil, err
}

func startOnce(dir string, args ...string) (*process, error) {
	tcp, err := freePort()
	if err != nil {
		return nil, err
	}
	ws, err := freePort()
	if err != nil {
		return nil, err
	}
	p := &process{tcp: tcp, ws: ws + "/mqtt", done: make(chan error, 1), log: filepath.Join(dir, "log")}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	args = append([]string{"serve", "--listen", "tcp://" + tcp, "--listen", "ws://" + p.ws}, args...)
	args = append(args, strings.Fields(*serveArgs)...)
	p.cmd = exec.Command(target.bin, args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, log, log
	p.cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "MYELIN_") }) // they are settings
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the program: %w", err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, addr := range []string{tcp, ws} {
		if err := p.listening(ctx, addr); err != nil {
			p.cmd.Process.Kill()
			return nil, err
		}
	}
	return p, nil
}

// listening waits until the address accepts a connection.
func (p *process) listening(ctx context.Context, addr string) error {
	for {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err == nil {
			return c.Close()
		}
		select {
		case err := <-p.done:
			log, _ := os.ReadFile(p.log)
			return fmt.Errorf("the program ended at once (%v):\n%s", err, log)
		case <-ctx.Done():
			return fmt.Errorf("the program does not listen: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop asks the program to end, which it must do with exit code 0; it must not have ended before.
func (p *process) stop() error {
	select {
	case err := <-p.done:
		log, _ := os.ReadFile(p.log)
		return fmt.Errorf("the program ended during the tests (%v):\n%s", err, tail(log))
	default:
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.done:
		if err != nil {
			return fmt.Errorf("the program ended badly: %w", err)
		}
		return nil
	case <-time.After(40 * time.Second):
		p.cmd.Process.Kill()
		return fmt.Errorf("the program did not end when asked")
	}
}

func tail(b []byte) []byte { return b[max(0, len(b)-4000):] }

// freePort is a loopback address with a port that nobody listens on now. It is not one of those that the system gives to the many
// connections of the cases, which could take it before the program does.
func freePort() (addr string, err error) {
	for range 100 {
		addr = fmt.Sprintf("127.0.0.1:%d", 12000+mathrand.IntN(20000))
		var l net.Listener
		if l, err = net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", err
}
