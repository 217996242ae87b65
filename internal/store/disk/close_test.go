package disk

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/store/storetest"
)

// answers counts completions.
type answers struct{ n atomic.Int64 }

func (a *answers) Done(uint64, error) { a.n.Add(1) }

// TestCloseAnswers: who publishes while the store is closed is answered at once
// or later, but answered.
func TestCloseAnswers(t *testing.T) {
	for range 100 {
		e := open(t, Options{Dir: "data", FS: vfs.NewMem()}, storetest.Limits{})
		c := claim(t, e, store.ClaimReq{ClientID: "a", Expiry: 100})
		m := message(t, "t", "x", 1, false)
		var a answers
		var taken atomic.Int64
		var begun, over sync.WaitGroup
		for range 4 {
			begun.Add(1)
			over.Go(func() {
				for i := 0; ; i++ {
					done, err := e.Publish(m, []store.Target{{To: c.s, QoS: 1}}, store.Inbound{}, &a, 0)
					switch {
					case errors.Is(err, ErrClosed):
						return
					case !done:
						taken.Add(1)
					}
					if i == 0 {
						begun.Done()
					}
				}
			})
		}
		begun.Wait()
		if err := e.Close(timeoutContext()); err != nil {
			t.Fatal(err)
		}
		over.Wait()
		if got := a.n.Load(); got != taken.Load() {
			t.Fatalf("%d of %d are answered", got, taken.Load())
		}
	}
}
