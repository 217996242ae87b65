package cli

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

var rewrite = flag.Bool("rewrite", false, "write docs/cli.md anew; read the diff before you commit it")

const docsFile = "../../docs/cli.md"

// TestDocs: docs/cli.md is what the commands say.
func TestDocs(t *testing.T) {
	want := markdown()
	if *rewrite {
		if err := os.WriteFile(docsFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the commands say: run make docs and read the difference", docsFile)
	}
}

// TestManPages: there is one for each command, it names each flag, and no line
// is a request of roff by accident.
func TestManPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man1")
	var out bytes.Buffer
	if code := Run(context.Background(), Process{Args: []string{"docs", "man", dir}, Stdout: &out, Stderr: &out}); code != 0 {
		t.Fatalf("exit code %d: %s", code, out.String())
	}
	request := regexp.MustCompile(`(?m)^[.'](.*)$`)
	known := regexp.MustCompile(`^(TH [A-Z-]+ 1 "" "myelin" "Myelin"|SH [A-Z0-9 ,:\\-]+|TP|PP|nf|fi|B .*|BR \S+ \(1\))$`)
	root := rootCommand(Process{})
	for _, c := range documented(root) {
		text, err := os.ReadFile(filepath.Join(dir, page(c)+".1"))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, m := range request.FindAllStringSubmatch(string(text), -1) {
			if !known.MatchString(m[1]) {
				t.Errorf("%s: %q", page(c), m[0])
			}
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if name := `\-\-` + roff(f.Name) + `\fR`; !f.Hidden && !strings.Contains(string(text), name) {
				t.Errorf("%s does not tell of %s", page(c), f.Name)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(dir, "myelin.1")); err != nil {
		t.Error(err)
	}
	if code := Run(context.Background(), Process{Args: []string{"docs", "man", filepath.Join(dir, "myelin.1")}, Stdout: &out, Stderr: &out}); code != exitFailure {
		t.Errorf("a file as the folder: exit code %d", code)
	}
}

func TestRoff(t *testing.T) {
	for in, want := range map[string]string{
		"a-b\\c": `a\-b\ec`, ".x\n'y\nz": "\\&.x\n\\&'y\nz",
	} {
		if got := roff(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
