package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// step is a run of a command line tool: with the same arguments Mosquitto's and ours do the same.
type step struct {
	tool  string // pub or sub
	args  string // separated by blanks; TOPIC and CLIENT are this run's own
	stdin string
	out   string
	code  int
	// theirs is the exit code of Mosquitto's tool, where that is another.
	theirs int
}

// steps run one after the other. What is not printed is not awaited long.
func steps() []step {
	return []step{
		// Retained messages, and what is printed of them.
		{tool: "pub", args: "-t TOPIC/a -m hello -r -q 1"},
		{tool: "sub", args: "-t TOPIC/a -C 1 -W 10", out: "hello\n"},
		{tool: "sub", args: "-t TOPIC/+ -v -C 1 -W 10", out: "TOPIC/a hello\n"},
		{tool: "sub", args: "-t TOPIC/a -q 1 -F %t|%p|%q|%r|%l|%x|%X|%% -C 1 -W 10", out: "TOPIC/a|hello|1|1|5|68656c6c6f|68656C6C6F|%\n"},
		{tool: "sub", args: `-t TOPIC/a -F [%3.3t][%8p][%-8p][%08l]\t\\@@ -C 1 -W 10`, out: "[TOP][   hello][hello   ][00000005]\t\\@\n"},
		{tool: "sub", args: "-t TOPIC/a -N -C 1 -W 10", out: "hello"},
		{tool: "sub", args: "-t TOPIC/a -R -W 1", code: 27},
		{tool: "sub", args: "-t TOPIC/# -T TOPIC/b -C 2 -W 1", out: "hello\n", code: 27},
		{tool: "sub", args: "-t TOPIC/# --retained-only -C 1 -W 10", out: "hello\n"},
		{tool: "pub", args: "-t TOPIC/a -r -q 2 -s", stdin: "two\nlines"},
		{tool: "sub", args: "-t TOPIC/a -N -C 1 -W 10", out: "two\nlines"},
		// Theirs does not notice here that there are no more.
		{tool: "sub", args: "-t TOPIC/# --remove-retained --retained-only -W 2", out: "two\nlines\n", theirs: 27},
		{tool: "sub", args: "-t TOPIC/a -W 1", code: 27},
		{tool: "pub", args: "-t TOPIC/a -m again -r -q 1"},
		{tool: "pub", args: "-t TOPIC/a -n -r -q 1"},
		{tool: "sub", args: "-t TOPIC/a -W 1", code: 27},

		// A session that waits.
		{tool: "sub", args: "-t TOPIC/q -q 2 -c -i CLIENT -E"},
		{tool: "pub", args: "-t TOPIC/q -q 1 -l", stdin: "1\n2\n3\n"},
		{tool: "pub", args: "-t TOPIC/q -q 2 -m 4"},
		{tool: "pub", args: "-t TOPIC/q -q 0 -m 5 --repeat 2"},
		{tool: "sub", args: "-t TOPIC/q -q 2 -c -i CLIENT -C 4 -W 10", out: "1\n2\n3\n4\n"},
		{tool: "sub", args: "-t TOPIC/q -U TOPIC/q -q 2 -c -i CLIENT -W 1", code: 27},
		{tool: "pub", args: "-t TOPIC/q -q 1 -m 6"},
		{tool: "sub", args: "-t TOPIC/other -q 2 -c -i CLIENT -W 1", code: 27},
	}
}

// TestCommands runs Mosquitto's tools and ours from one list, each with the other's messages, against our broker and
// Debian's.
func TestCommands(t *testing.T) {
	bin := binary(t)
	debian := strings.TrimPrefix(mosquitto(t), "tcp://")
	t.Run("all", func(t *testing.T) { // Debian's broker stays until its tests have ended
		for _, b := range []*broker{under[0], {name: "mosquitto", tcp: debian}} {
			for _, version := range []string{"mqttv311", "mqttv5"} {
				for _, who := range [][2]string{{"ours", "ours"}, {"ours", "theirs"}, {"theirs", "ours"}} {
					if b == under[0] && who[0] == who[1] {
						continue // the program's own scripts have that
					}
					t.Run(fmt.Sprintf("%s/%s/pub-%s-sub-%s", b.name, version, who[0], who[1]), func(t *testing.T) {
						t.Parallel()
						by := map[string]string{"pub": who[0], "sub": who[1]}
						names := strings.NewReplacer("TOPIC", unique("TOPIC"), "CLIENT", unique("client"))
						for _, s := range steps() {
							s.check(t, bin, by[s.tool], b, version, names)
						}
					})
				}
			}
		}
	})
}

// binary is the program under test.
func binary(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("MYELIN_BIN")
	if bin == "" {
		bin = filepath.Join("..", "..", "bin", "myelin")
	}
	if _, err := os.Stat(bin); err != nil {
		t.Skip("there is no program to run: ", err)
	}
	return bin
}

func (s step) check(t *testing.T, bin, whose string, b *broker, version string, names *strings.Replacer) {
	t.Helper()
	args := strings.Fields(names.Replace(s.args))
	out, errs, code := runTool(t, bin, whose, s.tool, b, version, s.stdin, args)
	want := s.code
	if whose == "theirs" && s.theirs != 0 {
		want = s.theirs
	}
	if text := names.Replace(s.out); out != text || code != want {
		t.Fatalf("%s %s %q: %q, exit code %d, want %q, %d; it says %s", whose, s.tool, args, out, code, text, want, errs)
	}
}

// runTool runs a tool of ours or of Mosquitto's to its end.
func runTool(t *testing.T, bin, whose, tool string, b *broker, version, stdin string, args []string) (out, errs string, code int) {
	t.Helper()
	host, port, err := net.SplitHostPort(b.tcp)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	args = append([]string{"-h", host, "-p", port, "-V", version}, args...)
	cmd := exec.CommandContext(ctx, "mosquitto_"+tool, args...)
	if whose == "ours" {
		cmd = exec.CommandContext(ctx, bin, append([]string{tool}, args...)...)
	}
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "MYELIN_") })
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %s: %v", cmd, err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// TestCommandsRequest: Mosquitto's tool asks us, and we ask through its broker.
func TestCommandsRequest(t *testing.T) {
	bin := binary(t)
	for _, b := range append(slices.Clone(under), &broker{name: "mosquitto", tcp: strings.TrimPrefix(mosquitto(t), "tcp://")}) {
		topic := unique("echo")
		host, port, err := net.SplitHostPort(b.tcp)
		if err != nil {
			t.Fatal(err)
		}
		echo := exec.Command(bin, "rr", "-h", host, "-p", port, "-t", topic, "--echo", "-q", "1")
		said, err := echo.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		echo.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := echo.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := said.Read(make([]byte, 100)); err != nil { // it answers
			t.Fatal(err)
		}
		for _, whose := range []string{"ours", "theirs"} {
			args := []string{"-t", topic, "-e", unique("answer"), "-m", "hello", "-q", "1"}
			out, errs, code := runTool(t, bin, whose, "rr", b, "mqttv5", "", args)
			if out != "hello\n" || code != 0 {
				t.Errorf("%s through %s: %q, exit code %d, %s", whose, b.name, out, code, errs)
			}
		}
		if err := echo.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := echo.Wait(); err != nil {
			t.Errorf("the one who answers: %v", err)
		}
	}
}
