package cli

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/myelin-mqtt/myelin/internal/control"
	"github.com/myelin-mqtt/myelin/internal/store/disk"
)

// TestFormatRefused: a directory of another version is refused by every command,
// with what to do.
func TestFormatRefused(t *testing.T) {
	for version, want := range map[byte]string{
		250: "format version 250, and this program knows version",
		0:   "format version 0, and this program knows version",
	} {
		dir := t.TempDir()
		e, err := disk.Open(disk.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		db, err := pebble.Open(dir, &pebble.Options{FormatMajorVersion: pebble.FormatNewest, Logger: quietDB{}})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Set([]byte("xformat"), []byte{version}, pebble.Sync); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		hint := "myelin: hint: a newer myelin wrote it: run that one, or name another directory with --data"
		if version == 0 {
			hint = "myelin: hint: an older myelin wrote it: run that one, or name another directory with --data"
		}
		for _, args := range [][]string{
			{"serve", "--listen", "tcp://127.0.0.1:0", "--data", dir}, {"store", "check", dir}, {"store", "dump", dir},
			{"store", "queues", dir}, {"store", "backup", t.TempDir(), "--data", dir},
		} {
			var out, errs bytes.Buffer
			code := Run(context.Background(), Process{Args: args, Stdout: &out, Stderr: &errs})
			if code != 1 || !strings.Contains(errs.String(), want) || !strings.Contains(errs.String(), hint) {
				t.Errorf("%v: exit code %d, %s", args, code, errs.String())
			}
			if strings.Contains(errs.String(), "--durability memory") {
				t.Errorf("%v: %s", args, errs.String())
			}
		}
	}
}

type quietDB struct{}

func (quietDB) Infof(string, ...any)  {}
func (quietDB) Errorf(string, ...any) {}
func (quietDB) Fatalf(f string, args ...any) {
	panic(fmt.Sprintf(f, args...))
}

func TestPrintQueues(t *testing.T) {
	var out bytes.Buffer
	q := control.Queues{Holders: 2, Messages: 12, Bytes: 345, Top: []control.Holder{{ClientID: "a b", Messages: 11, Bytes: 300, Connected: true}, {ClientID: "c", Messages: 1, Bytes: 45}}}
	if err := printQueues(&out, q, true); err != nil {
		t.Fatal(err)
	}
	want := "CLIENT          MESSAGES  BYTES  CONNECTED\n\"a b\"           11        300    yes\n\"c\"             1         45     no\nall 2 sessions  12        345    \n"
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}
