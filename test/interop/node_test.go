package interop

import (
	"context"
	"os/exec"
	"strings"
	"testing"
)

// TestNode runs the cases of js/cases.js, which has npm's mqtt as its client, over both transports.
func TestNode(t *testing.T) {
	each(t, func(t *testing.T, b *broker) {
		for name, addr := range b.urls() {
			for _, version := range []string{"4", "5"} {
				t.Run(name+"-"+version, func(t *testing.T) {
					t.Parallel()
					runNode(t, addr, version)
				})
			}
		}
	})
}

// cases tells how many outcomes a run must tell, by version, so that none can get lost in silence.
var cases = map[string]int{"4": 6, "5": 8}

func runNode(t *testing.T, addr, version string) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "cases.js", addr, version)
	cmd.Dir = "js"
	out, err := cmd.CombinedOutput()
	n := 0
	for line := range strings.Lines(string(out)) {
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, why, _ := strings.Cut(rest, ": ")
		switch kind {
		case "ok", "failed":
			n++
			t.Run(name, func(t *testing.T) {
				if kind == "failed" {
					t.Error(why)
				}
			})
		}
	}
	if n != cases[version] {
		t.Errorf("%d outcomes, want %d; node: %v\n%s", n, cases[version], err, out)
	} else if err != nil && !t.Failed() {
		t.Errorf("node: %v\n%s", err, out)
	}
}
