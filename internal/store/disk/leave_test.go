package disk

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/store/storetest"
)

// word is a Completer that is waited for.
type word chan error

func (w word) Done(_ uint64, err error) { w <- err }

// TestLeave: what a Detach or an End says is true after a crash when it is
// completed: the expiry, the will that is gone, the session that is gone.
func TestLeave(t *testing.T) {
	fs := vfs.NewCrashableMem()
	e := open(t, Options{Dir: "data", FS: fs}, storetest.Limits{})
	will := &store.Will{Msg: message(t, "will", "x", 1, false), Delay: 5}
	stored := func() map[string]*store.Stored {
		again := open(t, Options{Dir: "data", FS: fs.CrashClone(vfs.CrashCloneCfg{})}, storetest.Limits{})
		defer shut(again)
		all := map[string]*store.Stored{}
		if err := again.Recover(func(s *store.Stored) bool { all[s.ClientID] = s; return true }); err != nil {
			t.Fatal(err)
		}
		return all
	}
	for i := range 20 { // whatever group it is in
		id := fmt.Sprint("detach", i)
		c := claim(t, e, store.ClaimReq{ClientID: id, Expiry: 100, Will: will})
		w := make(word, 1)
		if !c.s.Detach(7, i%2 == 0, w, 0) {
			if err := <-w; err != nil {
				t.Fatal(err)
			}
		}
		if s := stored()[id]; s == nil || s.Expiry != 7 || s.WillArmed != (i%2 == 0) || (s.Will != nil) != (i%2 == 0) {
			t.Errorf("%d: after the crash %+v", i, s)
		}
		id = fmt.Sprint("end", i)
		c = claim(t, e, store.ClaimReq{ClientID: id, Expiry: 100})
		if stored()[id] == nil {
			t.Errorf("%d: a claimed session is not there", i)
		}
		if _, done := c.s.End(w, 0); !done {
			if err := <-w; err != nil {
				t.Fatal(err)
			}
		}
		if stored()[id] != nil {
			t.Errorf("%d: an ended session is there after the crash", i)
		}
	}
	shut(e)
}
