package disk

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/store/storetest"
)

func TestX(t *testing.T) {
	fs := vfs.NewCrashableMem()
	var b bytes.Buffer
	o := Options{Dir: "data", FS: fs, Logger: slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	e := open(t, o, storetest.Limits{})
	c := claim(t, e, store.ClaimReq{ClientID: "a", Expiry: 100})
	for i := range 5 {
		do(t, func(w store.Completer) (bool, error) {
			return e.Publish(message(t, "t", fmt.Sprint("message ", i), 1, false), []store.Target{{To: c.s, QoS: 1}}, store.Inbound{}, w, 0)
		})
	}
	clone := fs.CrashClone(vfs.CrashCloneCfg{})
	shut(e)
	for _, f := range []vfs.FS{clone, fs} {
		names, _ := f.List("data")
		for _, n := range names {
			st, _ := f.Stat("data/" + n)
			t.Log(n, st.Size())
			if strings.HasSuffix(n, ".log") {
				x, _ := f.Open("data/" + n)
				buf := make([]byte, st.Size())
				x.Read(buf)
				var num uint32
				fmt.Sscanf(n, "%d", &num)
				s := &logScan{num: num}
				for off := 0; off < len(buf); {
					c, ok := s.own(buf, off)
					t.Logf("%+v %v type %d", c, ok, typeAt(buf, off))
					if !ok || c.end {
						break
					}
					off += c.size
				}
			}
		}
	}
	// torn first record, twice
	for range 3 {
		o.FS = clone
		e = open(t, o, storetest.Limits{})
		next := clone.CrashClone(vfs.CrashCloneCfg{})
		shut(e)
		names, _ := next.List("data")
		last := ""
		for _, n := range names {
			if strings.HasSuffix(n, ".log") {
				last = n
			}
		}
		f, _ := next.OpenReadWrite("data/"+last, vfs.WriteCategoryUnspecified)
		junk := make([]byte, 100)
		for i := range junk {
			junk[i] = byte(rand.Uint32())
		}
		f.Write(junk)
		f.Sync()
		f.Close()
		clone = next
		t.Log(names, last)
	}
	for _, l := range strings.Split(b.String(), "\n") {
		if strings.Contains(l, "WARN") || strings.Contains(l, "stopped") || strings.Contains(l, "WAL") {
			t.Log(l)
		}
	}
}
