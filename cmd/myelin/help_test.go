package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/myelin-mqtt/myelin/internal/cli"
)

// TestExamples: each example in the help of these commands is run by a script,
// as it stands there. A script may add flags at its end, such as -C 1, names
// the port where the example has the usual one, and sets standard input before
// the command.
func TestExamples(t *testing.T) {
	run := regexp.MustCompile(`(?m)^(?:! )?(?:exec|until|exits \d+) (myelin .*)$`)
	var lines []string
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range run.FindAllStringSubmatch(string(text), -1) {
			lines = append(lines, strings.ReplaceAll(m[1], "$TCP", "localhost"))
		}
	}
	for _, command := range []string{"sub", "rr"} {
		examples := examplesOf(t, command)
		if len(examples) < 3 {
			t.Errorf("%s has %d examples", command, len(examples))
		}
		for _, x := range examples {
			x, _, _ = strings.Cut(x, " < ")
			found := false
			for _, l := range lines {
				found = found || l == x || strings.HasPrefix(l, x+" ")
			}
			if !found {
				t.Errorf("no script runs `%s`", x)
			}
		}
	}
}

// examplesOf are the examples in a command's help.
func examplesOf(t *testing.T, command string) []string {
	t.Helper()
	var out bytes.Buffer
	if code := cli.Run(t.Context(), cli.Process{Args: []string{command, "--help"}, Stdout: &out, Stderr: &out}); code != 0 {
		t.Fatalf("%s --help: %d", command, code)
	}
	_, rest, _ := strings.Cut(out.String(), "\nExamples:\n")
	text, _, _ := strings.Cut(rest, "\n\n")
	var all []string
	for line := range strings.Lines(text) {
		all = append(all, strings.TrimSpace(line))
	}
	return all
}
