package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/store/storetest"
)

// TestLogTail: the log is larger than what was written to it, and a copy of it
// as a crash would leave it has everything; with a record that was cut, all
// before it.
func TestLogTail(t *testing.T) {
	dir := t.TempDir()
	e := open(t, Options{Dir: dir}, storetest.Limits{})
	defer func() { shut(e) }()
	s := claim(t, e, store.ClaimReq{ClientID: "a", Expiry: 100}).s
	for i := range 5 {
		if err := do(t, func(c store.Completer) (bool, error) {
			return e.Publish(message(t, "t", fmt.Sprint("message ", i), 1, false), []store.Target{{To: s, QoS: 1}}, store.Inbound{}, c, 0)
		}); err != nil {
			t.Fatal(err)
		}
	}
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("%v, %v", logs, err)
	}
	b, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	if len(b) < 16<<20 {
		t.Skipf("the log has %d bytes: this file system cannot allocate", len(b))
	}
	end := len(b)
	for end > 0 && b[end-1] == 0 {
		end--
	}
	for name, c := range map[string]struct {
		spoil func(log []byte)
		want  int
	}{
		"whole":   {func([]byte) {}, 5},
		"cut":     {func(log []byte) { clear(log[end-3 : end]) }, 4},
		"garbled": {func(log []byte) { log[end-1], log[end-2] = log[end-2]+3, 0xD5 }, 4}, // more than a bit
	} {
		t.Run(name, func(t *testing.T) {
			crashed := t.TempDir()
			if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			log := filepath.Join(crashed, filepath.Base(logs[0]))
			spoiled := append([]byte(nil), b...)
			c.spoil(spoiled)
			if err := os.WriteFile(log, spoiled, 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time after a regular end
				e := open(t, Options{Dir: crashed}, storetest.Limits{})
				s := claim(t, e, store.ClaimReq{ClientID: "a", Expiry: 100}).s
				if n, _ := s.Queued(); n != c.want {
					t.Errorf("%d messages are left, want %d", n, c.want)
				}
				shut(e)
			}
		})
	}
}
