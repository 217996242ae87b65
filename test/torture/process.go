package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// program is a broker that can be started again and again on one directory.
type program struct {
	name string
	dir  string // its data and its log
	addr string // host:port
	argv []string
}

// myelinProgram is the program at path, keeping everything in dir.
func myelinProgram(path, dir, addr, flags string) (*program, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	argv := []string{path, "serve", "--data", filepath.Join(dir, "data"), "--listen", "tcp://" + addr,
		"--queue-max-messages", "0", "--queue-max-bytes", "0"}
	return &program{"myelin", dir, addr, append(argv, strings.Fields(flags)...)}, nil
}

// mosquittoProgram is Mosquitto with persistence on, everything else as shipped, but without limits to its queues, and
// with Myelin's number of messages under way: it ends the connection of a 3.1.1 client that sends more.
func mosquittoProgram(path, dir, addr, flags string) (*program, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	conf := fmt.Sprintf("listener %s %s\nallow_anonymous true\npersistence true\npersistence_location %s/\n"+
		"max_queued_messages 0\nmax_queued_bytes 0\nmax_inflight_messages 1024\n", port, host, data)
	if os.Getuid() == 0 {
		conf += "user root\n"
	}
	name := filepath.Join(dir, "mosquitto.conf")
	if err := os.WriteFile(name, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	return &program{"mosquitto", dir, addr, append([]string{path, "-c", name}, strings.Fields(flags)...)}, nil
}

// version is the first line in which the program names its version.
func (p *program) version() string {
	args := []string{"version"}
	if p.name == "mosquitto" {
		args = []string{"-h"} // it ends with an error all the same
	}
	out, _ := exec.Command(p.argv[0], args...).Output()
	line, _, _ := bytes.Cut(out, []byte("\n"))
	return string(line)
}

// process is a running one.
type process struct {
	cmd     *exec.Cmd
	started time.Time
	done    chan error
}

// start runs the program. Its output goes to the end of the log.
func (p *program) start(round int) (*process, error) {
	log, err := os.OpenFile(p.logName(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	fmt.Fprintf(log, "--- round %d\n", round)
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, log, log
	// Those are settings, and would be in addition to ours.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "MYELIN_") })
	cmd.SysProcAttr = dieWithUs()
	r := &process{cmd: cmd, started: time.Now(), done: make(chan error, 1)}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the broker: %w", err)
	}
	go func() { r.done <- cmd.Wait() }()
	return r, nil
}

func (p *program) logName() string { return filepath.Join(p.dir, "log") }

// logTail is the end of what the program has said.
func (p *program) logTail() string {
	b, err := os.ReadFile(p.logName())
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-3000):])
}

// kill ends the process with SIGKILL, and waits for its end. That it had ended before is an error.
func (r *process) kill() error {
	select {
	case err := <-r.done:
		return fmt.Errorf("the broker has ended by itself (%v)", err)
	default:
	}
	if err := r.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the broker: %w", err)
	}
	<-r.done
	if s, ok := r.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && !s.Signaled() {
		return fmt.Errorf("the broker has ended by itself (%v)", r.cmd.ProcessState)
	}
	return nil
}

// stop asks the process to end, and waits.
func (r *process) stop(ctx context.Context) error {
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the broker: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case err := <-r.done:
		if err != nil {
			return fmt.Errorf("the broker did not stop well: %w", err)
		}
		return nil
	case <-ctx.Done():
		r.cmd.Process.Kill()
		<-r.done
		return errors.New("the broker did not end when it was asked to")
	}
}

// freeAddr is a loopback address that nobody listens on now. Its port is not one of those that the system gives to the
// clients' ends of connections: they would take it while the broker is down.
func freeAddr() (addr string, err error) {
	for range 100 {
		addr = fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(20000))
		var l net.Listener
		if l, err = net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", fmt.Errorf("find a free port: %w", err)
}

// findMosquitto looks where Debian puts it, too, which is not on everybody's path.
func findMosquitto() (string, error) {
	if path, err := exec.LookPath("mosquitto"); err == nil {
		return path, nil
	}
	path, err := exec.LookPath("/usr/sbin/mosquitto")
	if err != nil {
		return "", fmt.Errorf("find Mosquitto, which test/interop/deps.sh installs: %w", err)
	}
	return path, nil
}
