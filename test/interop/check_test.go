package interop

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// program is the program under test.
func program(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("MYELIN_BIN")
	if bin == "" {
		bin = filepath.Join("..", "..", "bin", "myelin")
	}
	if _, err := os.Stat(bin); err != nil {
		t.Skipf("there is no program to check with: %v", err)
	}
	return bin
}

// TestCheckOwn: `myelin check` finds that our broker keeps its promises, over TCP and WebSocket, in 5.0 and 3.1.1.
func TestCheckOwn(t *testing.T) {
	each(t, func(t *testing.T, b *broker) {
		for name, url := range b.urls() {
			for _, v := range []string{"5", "311"} {
				t.Run(name+"/"+v, func(t *testing.T) {
					t.Parallel()
					if broken := runCheck(t, url, v); len(broken) > 0 {
						t.Errorf("broken: %q", broken)
					}
				})
			}
		}
	})
}

// TestCheckMosquitto: of Mosquitto it finds the same, but for what Mosquitto is known for: 2.0 closes the connection of
// a client that is taken over without a DISCONNECT, and acknowledges more than 20 QoS 2 messages that a 3.1.1 client has
// in flight, but delivers only the first 20.
func TestCheckMosquitto(t *testing.T) {
	t.Parallel()
	bin, err := exec.LookPath("mosquitto")
	if err != nil {
		if bin = "/usr/sbin/mosquitto"; !exists(bin) {
			t.Skip("mosquitto is not installed: deps.sh does it")
		}
	}
	addr, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(addr, ":")
	config := filepath.Join(t.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, "listener %s 127.0.0.1\nallow_anonymous true\npersistence false\n", port), 0o644); err != nil {
		t.Fatal(err)
	}
	m := &broker{name: "mosquitto", tcp: addr, log: new(logBuffer), done: make(chan error, 1)}
	m.cmd = exec.Command(bin, "-c", config)
	m.cmd.Stdout, m.cmd.Stderr = m.log, m.log
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { m.done <- m.cmd.Wait() }()
	t.Cleanup(func() { _ = m.stop() })
	if err := m.accepts(addr); err != nil {
		t.Fatalf("%v:\n%s", err, m.log)
	}
	for v, known := range map[string][]string{"5": {"takeover"}, "311": {"order"}} {
		for _, name := range runCheck(t, "tcp://"+addr, v) {
			if !slices.Contains(known, name) {
				t.Errorf("version %s: %s is broken", v, name)
			}
		}
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// runCheck runs `myelin check` and returns the names of what is broken. Its exit code must say whether anything is.
func runCheck(t *testing.T, url, version string) (broken []string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), program(t), "check", "--json", url, "-V", version)
	c.WaitDelay = time.Second
	var out, faults bytes.Buffer
	c.Stdout, c.Stderr = &out, &faults
	err := c.Run()
	kept := 0
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		var f struct{ Name, Status, Detail string }
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%q: %v; %s", line, err, faults.String())
		}
		switch f.Status {
		case "kept":
			kept++
		case "broken":
			t.Logf("%s, version %s: %s: %s", url, version, f.Name, f.Detail)
			broken = append(broken, f.Name)
		case "unknown":
			t.Errorf("%s, version %s: %s is not known: %s", url, version, f.Name, f.Detail)
		}
	}
	exit, failed := errors.AsType[*exec.ExitError](err)
	if err != nil && !failed || kept < 30 || failed != (len(broken) > 0) || failed && exit.ExitCode() != 1 {
		t.Errorf("%s, version %s: %d kept, %d broken, and it ended with %v: %s", url, version, kept, len(broken), err, faults.String())
	}
	return broken
}
