package interop

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait of these tests: long enough for a loaded machine, short enough to end.
const patience = 15 * time.Second

// broker is a running program under test.
type broker struct {
	name string // for the names of subtests
	tcp  string // host:port
	ws   string // ws://host:port/path, or "" if it has no such listener

	data string // its data directory
	cmd  *exec.Cmd
	log  *logBuffer
	done chan error // yields what Wait returned
}

// under lists the brokers that every test runs against. TestMain fills it once, before any test runs.
var under []*broker

func TestMain(m *testing.M) {
	// Pdeathsig counts from the thread that started the child, so this one has to stay.
	runtime.LockOSThread()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Getenv(echoEnv) != "" {
		return echoMain()
	}
	stop, err := startEcho()
	if err == nil {
		defer stop()
		err = startAll()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		stopAll(true)
		return 1
	}
	code := m.Run()
	if !stopAll(code != 0) {
		code = 1
	}
	return code
}

func startAll() error {
	if tcp := os.Getenv("MYELIN_TCP"); tcp != "" {
		under = []*broker{{name: "external", tcp: tcp, ws: os.Getenv("MYELIN_WS")}}
		return nil
	}
	bin := os.Getenv("MYELIN_BIN")
	if bin == "" {
		bin = filepath.Join("..", "..", "bin", "myelin")
	}
	if _, err := os.Stat(bin); err != nil {
		return fmt.Errorf("find the program under test: %w (build it first, or set MYELIN_BIN)", err)
	}
	drivers := os.Getenv("MYELIN_IO")
	if drivers == "" {
		drivers = "reactor,goroutine"
	}
	for _, d := range strings.Split(drivers, ",") {
		b, err := start(bin, d)
		if b != nil {
			under = append(under, b)
		}
		if err != nil {
			return fmt.Errorf("start myelin with io %s: %w", d, err)
		}
	}
	return nil
}

// start runs one broker on free ports and waits until it accepts connections on both.
func start(bin, driver string) (*broker, error) {
	tcp, err := freePort()
	if err != nil {
		return nil, err
	}
	ws, err := freePort()
	if err != nil {
		return nil, err
	}
	b := &broker{name: driver, tcp: tcp, ws: "ws://" + ws + "/mqtt", log: new(logBuffer), done: make(chan error, 1)}
	if b.data, err = os.MkdirTemp("", "interop"); err != nil {
		return nil, err
	}
	b.cmd = exec.Command(bin, "serve", "--data", b.data, "--io", driver, "--listen", "tcp://"+tcp, "--listen", b.ws)
	b.cmd.Stdout, b.cmd.Stderr = b.log, b.log
	// The tests' own variables are no settings of the broker, and nothing else should configure it.
	b.cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "MYELIN_") })
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { b.done <- b.cmd.Wait() }()
	for _, addr := range []string{tcp, ws} {
		if err := b.accepts(addr); err != nil {
			return b, err
		}
	}
	return b, nil
}

// accepts waits until the broker takes a connection at addr, or has ended.
func (b *broker) accepts(addr string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return c.Close()
		}
		select {
		case err := <-b.done:
			b.done <- err
			return fmt.Errorf("the program ended before it listened on %s (%v)", addr, err)
		case <-late:
			return fmt.Errorf("nothing listens on %s after %v", addr, patience)
		case <-tick.C:
		}
	}
}

// stopAll asks every broker that was started to end and reports whether all ended well. It prints their logs if loud
// or if one did not.
func stopAll(loud bool) bool {
	ok := true
	for _, b := range under {
		if b.cmd == nil {
			continue
		}
		err := b.stop()
		_ = os.RemoveAll(b.data)
		if err != nil {
			ok = false
			fmt.Fprintf(os.Stderr, "interop: stop broker %s: %v\n", b.name, err)
		}
		if loud || err != nil {
			fmt.Fprintf(os.Stderr, "interop: log of broker %s:\n%s\n", b.name, b.log)
		}
	}
	return ok
}

func (b *broker) stop() error {
	_ = b.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-b.done:
		return err
	case <-time.After(patience):
		_ = b.cmd.Process.Kill()
		<-b.done
		return fmt.Errorf("it did not end within %v of SIGTERM", patience)
	}
}

// freePort returns a loopback address that nothing listens on. Another program may take it before it is used; that
// shows as an error of the broker.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// each runs f once for every broker under test, in parallel with everything else.
func each(t *testing.T, f func(t *testing.T, b *broker)) {
	t.Helper()
	t.Parallel()
	for _, b := range under {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			f(t, b)
		})
	}
}

// urls lists the addresses of b for clients that speak both transports, by name.
func (b *broker) urls() map[string]string {
	u := map[string]string{"tcp": "tcp://" + b.tcp}
	if b.ws != "" {
		u["ws"] = b.ws
	}
	return u
}

// logBuffer keeps the last part of what a program wrote; the program's writer and the tests may use it at once.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const logKept = 64 << 10

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.buf.Len() + len(p) - logKept; n > 0 {
		l.buf.Next(n)
	}
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
