//go:build linux

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Broker is a program to measure.
type Broker struct {
	Name    string
	Version string
	// Command tells how to start it so that it listens on addr without asking who connects and without keeping
	// anything on disk. dir is empty and the broker's own.
	Command func(addr netip.AddrPort, dir string) (argv []string, err error)
}

// Myelin is the broker at path.
func Myelin(path string) Broker {
	return Broker{
		Name:    product,
		Version: versionOf(path, "version"),
		Command: func(addr netip.AddrPort, _ string) ([]string, error) {
			return []string{path, "serve", "--listen", "tcp://" + addr.String()}, nil
		},
	}
}

// Mosquitto is the broker at path. Its limits on messages under way and on queues are off, and so is Nagle's
// algorithm, as the others have it.
func Mosquitto(path string) Broker {
	return Broker{
		Name:    "mosquitto",
		Version: versionOf(path, "-h"),
		Command: func(addr netip.AddrPort, dir string) ([]string, error) {
			lines := []string{
				fmt.Sprintf("listener %d %s", addr.Port(), addr.Addr()),
				"allow_anonymous true",
				"persistence false",
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
			file := filepath.Join(dir, "mosquitto.conf")
			err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600)
			return []string{path, "-c", file}, err
		},
	}
}

// Mochi is the program built from the folder mochi.
func Mochi(path string) Broker {
	return Broker{
		Name:    "mochi",
		Version: versionOf(path, "-version"),
		Command: func(addr netip.AddrPort, _ string) ([]string, error) {
			return []string{path, "-listen", addr.String()}, nil
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
	cmd  *exec.Cmd
	addr netip.AddrPort
	dir  string
	log  *os.File
	done chan struct{} // closed when it has ended
	err  error         // of its end
}

// startWithin bounds the time from the start of a broker to its first connection.
const startWithin = 10 * time.Second

// launch starts b on core (any, if negative) and waits until it listens. The caller has to stop it.
func launch(ctx context.Context, b Broker, core int) (_ *process, err error) {
	dir, err := os.MkdirTemp("", "myelin-bench-")
	if err != nil {
		return nil, err
	}
	p := &process{dir: dir, done: make(chan struct{})}
	defer func() {
		if err != nil {
			err = fmt.Errorf("start %s: %w%s", b.Name, err, p.said())
			p.stop()
		}
	}()
	if p.addr, err = freePort(); err != nil {
		return nil, err
	}
	argv, err := b.Command(p.addr, dir)
	if err != nil {
		return nil, err
	}
	if p.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	if core >= 0 {
		argv = append([]string{"taskset", "-c", strconv.Itoa(core)}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = p.log, p.log, dir
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	// A session of its own is what Linux gives a fair share of a busy core to; in the generator's it would get what
	// the generator, which never sleeps with a pace, leaves of theirs.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p.cmd = cmd
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, p.listens(ctx)
}

func (p *process) listens(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := net.DialTimeout("tcp", p.addr.String(), time.Second)
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.done:
			return fmt.Errorf("it ended (%v)", p.err)
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
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
			_ = p.cmd.Process.Kill()
			<-p.done
		}
	}
	if p.log != nil {
		_ = p.log.Close()
	}
	_ = os.RemoveAll(p.dir)
}

// alive returns an error if the broker has ended by itself.
func (p *process) alive() error {
	select {
	case <-p.done:
		return fmt.Errorf("the broker has ended (%v)", p.err)
	default:
		return nil
	}
}

func freePort() (netip.AddrPort, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, err
	}
	return l.Addr().(*net.TCPAddr).AddrPort(), l.Close()
}

// tick is the unit of the times in /proc, which is the same on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// cpu tells the user and system time of all threads of the broker, ended ones too.
func (p *process) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	return parseStat(b)
}

// parseStat reads the sum of utime and stime from the text of a /proc/PID/stat.
func parseStat(b []byte) (time.Duration, error) {
	// The second field is the program's name in brackets, and may hold anything.
	i := bytes.LastIndexByte(b, ')')
	f := strings.Fields(string(b[i+1:]))
	const utime, stime = 14 - 3, 15 - 3
	if i < 0 || len(f) <= stime {
		return 0, errors.New("read CPU time: too few fields in stat")
	}
	u, err := strconv.ParseInt(f[utime], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	s, err := strconv.ParseInt(f[stime], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	return time.Duration(u+s) * tick, nil
}

// rss tells the bytes of memory that the broker has resident.
func (p *process) rss() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	return parseStatus(b)
}

// parseStatus reads VmRSS from the text of a /proc/PID/status.
func parseStatus(b []byte) (int64, error) {
	for line := range strings.Lines(string(b)) {
		rest, ok := strings.CutPrefix(line, "VmRSS:")
		if !ok {
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read resident memory: %w", err)
		}
		return kb << 10, nil
	}
	return 0, errors.New("read resident memory: no VmRSS in status")
}
