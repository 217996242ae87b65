package broker

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/myelin-mqtt/myelin/internal/store/disk"
	"github.com/myelin-mqtt/myelin/packet"
)

// crashSeeds are the workloads that are run: few, or as many as MYELIN_CRASH
// says, beginning with MYELIN_CRASH_FROM.
func crashSeeds(few int) (seeds []uint64) {
	from, _ := strconv.ParseUint(os.Getenv("MYELIN_CRASH_FROM"), 10, 64)
	if n, err := strconv.Atoi(os.Getenv("MYELIN_CRASH")); err == nil {
		few = n
	}
	for i := range few {
		seeds = append(seeds, from+uint64(i))
	}
	return seeds
}

// unsyncedPart is how much of what was not synced is there after a crash.
func unsyncedPart(at int64) int { return []int{0, 50, 100, 0, 20}[at%5] }

// shapes are the sizes that the store is run with.
var shapes = []struct {
	name string
	make func(w *world)
}{
	{"Shipped", func(w *world) {}},
	{"Small", func(w *world) { // tables are written, segments deleted, messages read back all the time
		w.steps, w.large = 90, 4000
		w.o.tuneDisk = func(o *disk.Options) { o.MemTableBytes, o.SegmentMessages, o.CacheBytes = 64<<10, 5, 2000 }
	}},
}

// everyShape runs a test for each shape and seed.
func everyShape(t *testing.T, few int, f func(t *testing.T, seed uint64, fresh func(t testing.TB) *world)) {
	for _, s := range shapes {
		for _, seed := range crashSeeds(few) {
			t.Run(fmt.Sprint(s.name, seed), func(t *testing.T) {
				t.Parallel()
				f(t, seed, func(t testing.TB) *world {
					w := newWorld(t, seed)
					s.make(w)
					return w
				})
			})
		}
	}
}

// TestCrashEverywhere cuts the power before each operation of the file system
// that changes something: what was acknowledged by then is there.
func TestCrashEverywhere(t *testing.T) {
	everyShape(t, 1, func(t *testing.T, _ uint64, fresh func(testing.TB) *world) {
		for at, cut := int64(1), true; cut; at++ { // the last has no crash but that at the end
			w := fresh(t)
			_, cut = w.live(at, unsyncedPart(at))
			w.finish()
			if !w.report(fmt.Sprint("crash before operation ", at)) {
				return
			}
			if !cut {
				t.Log(at-1, "operations")
			}
		}
	})
}

// TestCrashAgain cuts the power a second time: before each operation of a
// restart, and of what comes after it.
func TestCrashAgain(t *testing.T) {
	everyShape(t, 1, func(t *testing.T, seed uint64, fresh func(testing.TB) *world) {
		for at, cut := int64(1), true; cut; at++ {
			w := fresh(t)
			w.steps /= 2
			first := 60 + int64(seed*31+uint64(at)*7)%80
			w.live(first, unsyncedPart(at+1))
			_, cut = w.live(at, unsyncedPart(at))
			w.finish()
			if !w.report(fmt.Sprint("crash before operation ", first, ", and again before operation ", at)) {
				return
			}
			if !cut {
				t.Log(at-1, "operations")
			}
		}
	})
}

// TestCrashChain crashes many times in a row, at random moments.
func TestCrashChain(t *testing.T) {
	everyShape(t, 4, func(t *testing.T, seed uint64, fresh func(testing.TB) *world) {
		w := fresh(t)
		w.steps /= 2
		for range 12 {
			at := int64(1 + w.r.IntN(200))
			if w.live(at, unsyncedPart(at)); len(w.faults) > 0 {
				break
			}
		}
		w.finish()
		w.report("a chain of crashes")
	})
}

// TestDiskErrorEverywhere has each operation that changes something fail once:
// no acknowledgement after it that does not hold, and the broker goes on.
func TestDiskErrorEverywhere(t *testing.T) {
	everyShape(t, 1, func(t *testing.T, _ uint64, fresh func(testing.TB) *world) {
		if !apart(t) {
			return
		}
		for at, hit := int64(1), true; hit; at++ {
			w := fresh(t)
			w.steps /= 2
			hit = w.failing(at, unsyncedPart(at))
			w.finish()
			if !w.report(fmt.Sprint("operation ", at, " fails")) {
				return
			}
			if !hit {
				t.Log(at-1, "operations")
			}
		}
	})
}

// failing is a life in which operation at fails. The power is cut at its end.
// It returns whether there were so many operations.
func (w *world) failing(at int64, percent int) bool {
	ok := w.boot(percent, func(n int64, op errorfs.Op) error {
		if n != at {
			return nil
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.faulty = true
		w.note("DISK", fmt.Sprint("operation ", n, " fails: ", op.Kind, " ", op.Path))
		return errInjected
	})
	if ok {
		w.work()
		w.goesOn()
	}
	w.mu.Lock()
	hit := w.faulty
	w.mu.Unlock()
	w.crash("at the end of the workload", func() { w.disk = w.plug.after(percent, w.seed+uint64(at)) })
	w.stop()
	return hit
}

// goesOn: the broker takes clients that need no disk, and QoS 0 flows.
func (w *world) goesOn() {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := newClient(w.ledger, "zero", packet.V5)
	defer func() { w.clients = w.clients[:len(w.clients)-1] }()
	w.mu.Unlock()
	conn, err := net.Dial("tcp", w.b.addr)
	w.mu.Lock()
	if err != nil {
		w.fault("dial: %v", err)
		return
	}
	k := c.connect(conn, packet.Connect{CleanStart: true, RequestProblemInfo: true})
	if !w.wait("CONNACK without a disk", func() bool { return k.online }) {
		return
	}
	k.subscribe("zero", 0)
	k.publish("zero", 0, false, false, 1)
	w.wait("QoS 0 without a disk", func() bool { return len(k.seen) > 0 })
}

// TestCrashSuiteSeesLoss: a disk that does not sync what it says it has synced
// is found out.
func TestCrashSuiteSeesLoss(t *testing.T) {
	for _, suffix := range []string{".log", ""} {
		found := 0
		for at := int64(20); at < 200; at += 7 {
			w := newWorld(t, 1)
			w.under = func(m *vfs.MemFS) vfs.FS { return liar{m, suffix} }
			w.live(at, 0)
			w.under = func(m *vfs.MemFS) vfs.FS { return m }
			w.finish()
			if len(w.faults) > 0 {
				found++
			}
		}
		if found == 0 {
			t.Errorf("a disk that does not sync files %q is not noticed", "*"+suffix)
		}
		t.Logf("*%s: noticed %d times", suffix, found)
	}
}
