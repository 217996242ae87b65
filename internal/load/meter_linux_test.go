package load

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	fields := "S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 8 0 100 12345 77"
	cpu, rss, err := parseStat([]byte("12 (a) b (c)) "+fields), 4096)
	if err != nil || cpu != 2*time.Second || rss != 77*4096 {
		t.Error(cpu, rss, err)
	}
	for _, bad := range []string{"", "12 (a", "12 (a) S 1 2", "12 (a) " + strings.Replace(fields, "150", "x", 1)} {
		if _, _, err := parseStat([]byte(bad), 4096); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func TestProcessMeter(t *testing.T) {
	m, err := ProcessMeter(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if _, rss, err := m(); err != nil || rss < 1<<20 {
		t.Error(rss, err)
	}
	if _, err := ProcessMeter(1 << 29); err == nil || !strings.Contains(err.Error(), "no process") {
		t.Error(err)
	}
}
