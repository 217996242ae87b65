package load

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDocs: docs/bench.md has every load and every key, and its scenarios are
// right.
func TestDocs(t *testing.T) {
	b, err := os.ReadFile("../../docs/bench.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, k := range Kinds() {
		if !strings.Contains(text, "\n| `"+string(k)+"` |") {
			t.Errorf("no load %s", k)
		}
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(text, -1)
	if len(blocks) == 0 {
		t.Fatal("no scenario")
	}
	for _, m := range blocks {
		if _, faults := read(m[1]); len(faults) > 0 {
			t.Error(faults)
		}
	}
	for _, k := range Keys() {
		if !strings.Contains(text, k.Name+": ") {
			t.Errorf("no key %s", k.Name)
		}
	}
}
