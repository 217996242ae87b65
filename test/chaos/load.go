package chaos

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/test/fault"
)

// Load is what a test does.
type Load struct {
	Name    string
	Version packet.Version
	QoS     packet.QoS // 1 or 2
	// Mix is what happens to the connections, and Faults how many of it, in a
	// short test.
	Mix    fault.Mix
	Faults int
	// Most are the faults of a long test, where each takes its time; 0: as many
	// as it is told.
	Most int
	// Graves are messages between two deaths of each client, on average; 0:
	// nobody dies. Clients that die have a Store.
	Graves int
	// KeepAlive is 0 where only an end of the connection is to be noticed.
	KeepAlive time.Duration
	// Damaged: bytes change on their way, so that nothing is promised of the messages.
	Damaged bool
}

// Cuts are connections that end at any byte, and are slow at times.
func Cuts() fault.Mix {
	return fault.Mix{
		Kinds: []fault.Kind{fault.Cut, fault.Cut, fault.Cut, fault.Reset, fault.Reset, fault.Halve, fault.Delay, fault.Refuse},
		Every: 3000, Pause: 10 * time.Millisecond,
	}
}

// Test runs the load against the brokers that serve starts, tcp://HOST:PORT,
// which end with the test they are started for. It is short, unless MYELIN_CHAOS
// tells the number of faults, such as 1000; they are split over some seeds.
// MYELIN_CHAOS_SEED is one to run alone.
func (l Load) Test(t *testing.T, serve func(t *testing.T) (url string)) {
	total := number(t, "MYELIN_CHAOS", l.Faults)
	if l.Most > 0 {
		total = min(total, l.Most)
	}
	most := max(l.Faults, 100) // of one seed
	if seed := number(t, "MYELIN_CHAOS_SEED", 0); seed != 0 {
		l.run(t, serve(t), uint64(seed), min(most, total))
		return
	}
	for seed, done := 1, 0; done < total && !t.Failed(); seed++ {
		more := min(most, total-done)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { l.run(t, serve(t), uint64(seed), more) })
		done += more
	}
}

// number is a variable of the environment.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil || n <= 0 {
		t.Fatalf("%s=%s is no number above 0", name, s)
	}
	return n
}
