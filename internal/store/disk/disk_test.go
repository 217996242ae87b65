package disk

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/myelin-mqtt/myelin/internal/session"
	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/store/storetest"
)

func open(t testing.TB, o Options, l storetest.Limits) *Engine {
	t.Helper()
	o.Limits = session.Limits{Messages: l.Messages, Bytes: l.Bytes, Policy: session.Policy(l.Policy)}
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t testing.TB, l storetest.Limits) store.Engine { return open(t, Options{Dir: t.TempDir()}, l) })
}

// TestContractMem runs the contract in memory, without a cache of messages.
func TestContractMem(t *testing.T) {
	storetest.Run(t, func(t testing.TB, l storetest.Limits) store.Engine {
		return open(t, Options{Dir: "data", FS: vfs.NewMem(), CacheBytes: 1}, l)
	})
}

// TestContractLate runs the contract with completions that come later still.
func TestContractLate(t *testing.T) {
	storetest.Run(t, func(t testing.TB, l storetest.Limits) store.Engine {
		return storetest.Async(open(t, Options{Dir: "data", FS: vfs.NewMem(), Durability: Async}, l), 1)
	})
}
