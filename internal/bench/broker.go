//go:build linux

package bench

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Broker is a program to measure.
type Broker struct {
	Name    string
	Version string
	// Command tells how to start it so that it does as it is told without asking who connects.
	Command func(Setup) (argv []string, err error)
}

// Setup is how a broker is to run.
type Setup struct {
	Addr netip.AddrPort // where it listens
	Dir  string         // empty at the first start, and the broker's own
	// Keep: sessions and their messages have to outlive the process, as far as the broker can do that. Queues have no
	// limits.
	Keep bool
}

// Myelin is the broker at path. It has a data directory whatever it is to keep, and syncs it.
func Myelin(path string) Broker {
	return Broker{
		Name:    product,
		Version: versionOf(path, "version"),
		Command: func(s Setup) ([]string, error) {
			argv := []string{path, "serve", "--listen", "tcp://" + s.Addr.String(), "--data", filepath.Join(s.Dir, "data")}
			if s.Keep {
				argv = append(argv, "--queue-max-messages", "0", "--queue-max-bytes", "0")
			}
			return argv, nil
		},
	}
}

// Mosquitto is the broker at path. Its limits on messages under way and on queues are off, and so is Nagle's
// algorithm, as the others have it. What it has to keep it writes as it does by default: every half hour, and at its end.
func Mosquitto(path string) Broker {
	return Broker{
		Name:    "mosquitto",
		Version: versionOf(path, "-h"),
		Command: func(s Setup) ([]string, error) {
			lines := []string{
				fmt.Sprintf("listener %d %s", s.Addr.Port(), s.Addr.Addr()),
				"allow_anonymous true",
				fmt.Sprintf("persistence %t", s.Keep),
				"persistence_location " + s.Dir + "/",
				"max_inflight_messages 0",
				"max_queued_messages 0",
				"set_tcp_nodelay true",
				"log_dest stderr",
				"log_type error",
				"log_type warning",
			}
			if os.Getuid() == 0 {
				lines = append(lines, "user root")
			}
			file := filepath.Join(s.Dir, "mosquitto.conf")
			err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600)
			return []string{path, "-c", file}, err
		},
	}
}

// Mochi is the program built from the folder mochi. It keeps everything in memory.
func Mochi(path string) Broker {
	return Broker{
		Name:    "mochi",
		Version: versionOf(path, "-version"),
		Command: func(s Setup) ([]string, error) {
			return []string{path, "-listen", s.Addr.String()}, nil
		},
	}
}

// versionOf runs a program for the first line that it says of itself, whatever its exit code is.
func versionOf(path, arg string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, path, arg).CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

// process is a broker that runs.
type process struct {
	name  string
	argv  []string
	setup Setup
	addr  netip.AddrPort
	log   *os.File
	run   atomic.Pointer[running]
}

// running is one life of a process.
type running struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // of its end
}

// startWithin bounds the time from the first start of a broker to its first connection.
const startWithin = 10 * time.Second

// launch starts b on core (any, if negative) with a directory in root and waits until it listens. The caller has
// to stop it.
func launch(ctx context.Context, b Broker, keep bool, core int, root string) (_ *process, err error) {
	dir, err := os.MkdirTemp(root, "myelin-bench-")
	if err != nil {
		return nil, err
	}
	p := &process{name: b.Name}
	defer func() {
		if err != nil {
			err = fmt.Errorf("start %s: %w%s", b.Name, err, p.said())
			p.stop()
		}
	}()
	p.setup = Setup{Dir: dir, Keep: keep}
	if p.addr, err = freePort(); err != nil {
		return nil, err
	}
	p.setup.Addr = p.addr
	if p.argv, err = b.Command(p.setup); err != nil {
		return nil, err
	}
	if core >= 0 {
		p.argv = append([]string{"taskset", "-c", strconv.Itoa(core)}, p.argv...)
	}
	if p.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	return p, p.start(ctx, startWithin)
}

// start starts the program and waits until it listens.
func (p *process) start(ctx context.Context, within time.Duration) error {
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = p.log, p.log, p.setup.Dir
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	// A session of its own is what Linux gives a fair share of a busy core to; in the generator's it would get what
	// the generator, which never sleeps with a pace, leaves of theirs.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	r := &running{cmd: cmd, done: make(chan struct{})}
	p.run.Store(r)
	go func() {
		r.err = cmd.Wait()
		close(r.done)
	}()
	return p.listens(ctx, within)
}

// kill ends the program with SIGKILL: nothing that it has only in its memory survives.
func (p *process) kill() {
	if r := p.run.Load(); r != nil {
		_ = r.cmd.Process.Kill()
		<-r.done
	}
}

// again starts the program that was killed with what it has left in its directory, and tells how long it takes until
// it listens.
func (p *process) again(ctx context.Context, within time.Duration) (time.Duration, error) {
	from := time.Now()
	if err := p.start(ctx, within); err != nil {
		return 0, fmt.Errorf("restart %s: %w", p.name, err)
	}
	return time.Since(from), nil
}

func (p *process) listens(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	r := p.run.Load()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := net.DialTimeout("tcp", p.addr.String(), time.Second)
		if err == nil {
			return c.Close()
		}
		select {
		case <-r.done:
			return fmt.Errorf("it ended (%v)", r.err)
		case <-ctx.Done():
			return fmt.Errorf("nothing listens on %v: %w", p.addr, ctx.Err())
		case <-tick.C:
		}
	}
}

// said quotes the end of what the broker wrote, for errors.
func (p *process) said() string {
	if p.log == nil {
		return ""
	}
	b, _ := os.ReadFile(p.log.Name())
	b = bytes.TrimSpace(b)
	if len(b) == 0 {
		return ""
	}
	if len(b) > 500 {
		b = b[len(b)-500:]
	}
	return fmt.Sprintf("; it wrote: %s", b)
}

// stop ends the broker and takes its files away. It returns when the process is gone.
func (p *process) stop() {
	if r := p.run.Load(); r != nil {
		_ = r.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-r.done:
		case <-time.After(5 * time.Second):
			p.kill()
		}
	}
	if p.log != nil {
		_ = p.log.Close()
	}
	_ = os.RemoveAll(p.setup.Dir)
}

// alive returns an error if the broker has ended by itself.
func (p *process) alive() error {
	r := p.run.Load()
	select {
	case <-r.done:
		return fmt.Errorf("the broker has ended (%v)", r.err)
	default:
		return nil
	}
}

// freePort finds a port that nobody listens on, below those that Linux gives to connections: after many of them a
// connection to a port of theirs on which nobody listens yet may be given this very port, and connect to itself.
func freePort() (netip.AddrPort, error) {
	const first, last = 10_000, 32_000
	var faults error
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(last-first)))
		if err == nil {
			return l.Addr().(*net.TCPAddr).AddrPort(), l.Close()
		}
		faults = err
	}
	return netip.AddrPort{}, fmt.Errorf("find a free port: %w", faults)
}
