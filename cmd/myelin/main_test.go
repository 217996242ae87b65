package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"myelin": main})
}

// TestScripts runs the real main from testdata/script. Besides testscript's own
// commands the scripts have:
//
//	exits CODE PROGRAM ARG...  run it to its end and check the exit code
//	start ARG...    run myelin in the background, its standard error in the file log
//	await REGEXP    wait until the log has a line like it
//	signal NAME     send TERM, INT or HUP to it
//	finish CODE     wait for its end and check the exit code; KILLED: by a signal
//	occupy VAR      listen on a free port of 127.0.0.1 and put host:port into $VAR
//	connected NET ADDRESS  connect as an MQTT client, over tcp or unix, and stay
//	queue ADDRESS CLIENT N  publish N messages, acknowledged, to the topic t, to which CLIENT has a durable subscription and is away;
//	                        over unix
//	port VAR        put the host:port of the program's first TCP or TLS listener into $VAR, after await
//	until PROGRAM ARG...  run it again and again, until it ends with 0
//	flip FILE...    change a byte in the middle of files
//	same A B        two directories have the same files with the same contents
//
// and those of client_test.go.
func TestScripts(t *testing.T) {
	cmds := clientCmds()
	maps.Copy(cmds, map[string]func(ts *testscript.TestScript, neg bool, args []string){
		"exits":     exits,
		"start":     start,
		"await":     await,
		"signal":    signalTo,
		"finish":    finish,
		"occupy":    occupy,
		"connected": connected,
		"queue":     queue,
		"port":      port,
		"until":     until,
		"flip":      flip,
		"same":      same,
	})
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Values[daemonKey{}] = &daemon{}
			e.Values[authorityKey{}] = &authority{}
			return nil
		},
		Cmds: cmds,
	})
}

// patience is how long a script waits for what must come.
const patience = 20 * time.Second

type daemonKey struct{}

// daemon is the program that a script runs in the background.
type daemon struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

func of(ts *testscript.TestScript) *daemon {
	return ts.Value(daemonKey{}).(*daemon)
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

func start(ts *testscript.TestScript, neg bool, args []string) {
	d := of(ts)
	if neg || d.cmd != nil {
		ts.Fatalf("usage: start ARG..., one at a time")
	}
	path := ts.Getenv("PATH")
	name, err := lookPath("myelin", path)
	ts.Check(err)
	d.log = ts.MkAbs("log")
	log, err := os.Create(d.log)
	ts.Check(err)
	d.cmd = exec.Command(name, args...)
	d.cmd.Stderr = log
	d.cmd.Dir = ts.MkAbs(".")
	d.cmd.Env = []string{"PATH=" + path}
	for _, v := range []string{"MYELIN_CPUPROFILE", "MYELIN_CONFIG", "GOCOVERDIR"} {
		if s := ts.Getenv(v); s != "" {
			d.cmd.Env = append(d.cmd.Env, v+"="+s)
		}
	}
	d.done = make(chan struct{})
	ts.Check(d.cmd.Start())
	cmd, done := d.cmd, d.done
	go func() {
		_ = cmd.Wait() // its state is looked at below
		_ = log.Close()
		close(done)
	}()
	ts.Defer(func() {
		_ = cmd.Process.Kill()
		<-done
	})
}

func lookPath(name, path string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("no %s in %s", name, path)
}

func await(ts *testscript.TestScript, neg bool, args []string) {
	d := of(ts)
	if neg || len(args) != 1 || d.cmd == nil {
		ts.Fatalf("usage: await REGEXP, after start")
	}
	want := regexp.MustCompile("(?m)" + args[0])
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ended := false; ; {
		log, err := os.ReadFile(d.log)
		ts.Check(err)
		if want.Match(log) {
			return
		}
		if ended || ctx.Err() != nil {
			ts.Fatalf("the log has no %s:\n%s", args[0], log)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		case <-d.done:
			ended = true
		}
	}
}

func signalTo(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]os.Signal{"TERM": syscall.SIGTERM, "INT": os.Interrupt, "HUP": syscall.SIGHUP}
	if neg || len(args) != 1 || signals[args[0]] == nil {
		ts.Fatalf("usage: signal TERM|INT|HUP")
	}
	ts.Check(of(ts).cmd.Process.Signal(signals[args[0]]))
}

func finish(ts *testscript.TestScript, neg bool, args []string) {
	d := of(ts)
	if neg || len(args) != 1 {
		ts.Fatalf("usage: finish CODE|KILLED")
	}
	select {
	case <-d.done:
	case <-time.After(patience):
		ts.Fatalf("it still runs:\n%s", ts.ReadFile("log"))
	}
	got := fmt.Sprint(d.cmd.ProcessState.ExitCode())
	if d.cmd.ProcessState.ExitCode() < 0 {
		got = "KILLED"
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s:\n%s", got, args[0], ts.ReadFile("log"))
	}
	d.cmd = nil // another one can be started
}

func occupy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: occupy VAR")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = ln.Close() })
	ts.Setenv(args[0], ln.Addr().String())
}

// connected sends a CONNECT of MQTT 3.1.1 and wants the CONNACK that lets it
// in. The connection stays until the script ends.
func connected(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: connected NETWORK ADDRESS")
	}
	network, address := args[0], args[1]
	if network == "unix" {
		address = ts.MkAbs(address)
	}
	c, err := net.DialTimeout(network, address, patience)
	ts.Check(err)
	ts.Defer(func() { _ = c.Close() })
	ts.Check(c.SetDeadline(time.Now().Add(patience)))
	_, err = c.Write([]byte("\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x"))
	ts.Check(err)
	var answer [4]byte
	_, err = io.ReadFull(c, answer[:])
	ts.Check(err)
	if !bytes.Equal(answer[:], []byte{0x20, 2, 0, 0}) {
		ts.Fatalf("CONNACK %x", answer)
	}
}

// queue fills the queue of a client that is away, in MQTT 3.1.1.
func queue(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: queue ADDRESS CLIENT N")
	}
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	dial := func(id string, clean byte) net.Conn {
		c, err := net.DialTimeout("unix", ts.MkAbs(args[0]), patience)
		ts.Check(err)
		ts.Check(c.SetDeadline(time.Now().Add(patience)))
		exchange(ts, c, fmt.Sprintf("\x10%c\x00\x04MQTT\x04%c\x00\x00\x00%c%s", 12+len(id), clean, len(id), id), 4)
		return c
	}
	c := dial(args[1], 0)
	exchange(ts, c, "\x82\x06\x00\x01\x00\x01t\x01", 5)
	_, err = c.Write([]byte("\xe0\x00"))
	ts.Check(err)
	_, _ = c.Read(make([]byte, 1)) // until the broker has closed
	_ = c.Close()
	c = dial("publisher", 2)
	defer c.Close()
	for i := range n {
		exchange(ts, c, fmt.Sprintf("\x32\x0d\x00\x01t%smessage%d", []byte{1, byte(i)}, i%10), 4)
	}
}

// exchange writes a packet and reads an answer of n bytes.
func exchange(ts *testscript.TestScript, c net.Conn, packet string, n int) {
	_, err := io.WriteString(c, packet)
	ts.Check(err)
	_, err = io.ReadFull(c, make([]byte, n))
	ts.Check(err)
}

func port(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: port VAR")
	}
	found := regexp.MustCompile(`url=(?:tcp|tls)://(\S+:\d+)`).FindStringSubmatch(ts.ReadFile("log"))
	if found == nil {
		ts.Fatalf("the log names no TCP or TLS listener:\n%s", ts.ReadFile("log"))
	}
	ts.Setenv(args[0], found[1])
}

// until is for what another program in the background brings about.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: until PROGRAM ARG...")
	}
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("it still fails: %v", err)
		}
	}
}

func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: flip FILE...")
	}
	for _, pattern := range args {
		files, err := filepath.Glob(ts.MkAbs(pattern))
		ts.Check(err)
		if len(files) == 0 {
			ts.Fatalf("no file %s", pattern)
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			ts.Check(err)
			text[len(text)/2] ^= 4
			ts.Check(os.WriteFile(name, text, 0o600))
		}
	}
}

func same(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: same A B")
	}
	contents := func(dir string) map[string]string {
		all := map[string]string{}
		entries, err := os.ReadDir(ts.MkAbs(dir))
		ts.Check(err)
		for _, x := range entries {
			text, err := os.ReadFile(filepath.Join(ts.MkAbs(dir), x.Name()))
			ts.Check(err)
			all[x.Name()] = string(text)
		}
		return all
	}
	a, b := contents(args[0]), contents(args[1])
	for name := range a {
		if text, there := b[name]; !there || text != a[name] {
			ts.Fatalf("%s differs", name)
		}
	}
	if len(a) != len(b) {
		ts.Fatalf("%d files and %d", len(a), len(b))
	}
}
