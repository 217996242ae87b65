package interop

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The benchmarks below put our client library beside Eclipse Paho's two, with the same payloads, windows and servers:
// the echo of echo_test.go, which answers at once so that the client is what is measured, and the broker. Run them with
// `make bench-client`.

// speedWindow is how many messages are under way at once: a client's own limit where it has one.
const speedWindow = 1024

const speedTopic = "speed/some/topic"

// subject is one library.
type subject struct {
	name string
	dial func(t testing.TB, tcp string) driver
}

// driver is a connected client of a library.
type driver interface {
	// publish returns when the library says that the message is through.
	publish(topic string, qos byte, payload []byte) error
	// async returns earlier, with up to speedWindow messages under way.
	async(topic string, qos byte, payload []byte) error
	// subscribe has f called with each message.
	subscribe(filter string, qos byte, f func()) error
	close()
}

var subjects = []subject{
	{"myelin_v5", func(t testing.TB, tcp string) driver { return dialMyelin(t, tcp, 5) }},
	{"myelin_v3", func(t testing.TB, tcp string) driver { return dialMyelin(t, tcp, 4) }},
	{"paho.golang_v5", dialPaho5},
	{"paho.mqtt.golang_v3", dialPaho3},
}

// speedServers are where the clients connect to.
func speedServers() map[string]string {
	m := map[string]string{"echo": echoAddr}
	for _, b := range under[:min(1, len(under))] {
		m["broker"] = b.tcp
	}
	return m
}

// BenchmarkClient measures messages a second (ns/op) and the processor time that this process, the client, has for each.
func BenchmarkClient(b *testing.B) {
	servers := speedServers()
	payload, large := make([]byte, 64), make([]byte, 64<<10)
	for _, server := range []string{"echo", "broker"} {
		for qos := byte(0); qos <= 1; qos++ {
			for _, s := range subjects {
				name := func(what string) string { return fmt.Sprintf("%s/%s/q%d/%s", server, what, qos, s.name) }
				addr := servers[server]
				b.Run(name("publish-async"), func(b *testing.B) { stream(b, s.dial(b, addr), qos, payload) })
				b.Run(name("publish-wait"), func(b *testing.B) {
					measure(b, s.dial(b, addr), func(d driver) {
						for range b.N {
							check(b, d.publish(speedTopic, qos, payload))
						}
					})
				})
				b.Run(name("publish-wait-100"), func(b *testing.B) {
					measure(b, s.dial(b, addr), func(d driver) { together(b, d, qos, payload) })
				})
				if server == "echo" {
					b.Run(name("receive"), func(b *testing.B) { flood(b, s.dial(b, addr), qos, len(payload)) })
					b.Run(name("publish-async-64K"), func(b *testing.B) { stream(b, s.dial(b, addr), qos, large) })
					b.Run(name("receive-64K"), func(b *testing.B) { flood(b, s.dial(b, addr), qos, len(large)) })
				} else {
					b.Run(name("to-itself"), func(b *testing.B) { toItself(b, s.dial(b, addr), qos, payload) })
				}
			}
		}
	}
}

func check(b *testing.B, err error) {
	if err != nil {
		b.Fatal(err)
	}
}

// measure runs f, and reports the processor time that it took.
func measure(b *testing.B, d driver, f func(driver)) {
	b.ReportAllocs()
	runtime.GC()
	cpu := cpuTime()
	b.ResetTimer()
	f(d)
	b.StopTimer()
	b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
	d.close()
}

// stream publishes as fast as the library takes messages.
func stream(b *testing.B, d driver, qos byte, payload []byte) {
	measure(b, d, func(d driver) {
		for range b.N {
			check(b, d.async(speedTopic, qos, payload))
		}
		// Everything before it has arrived when this one is acknowledged.
		check(b, d.publish(speedTopic, 1, payload))
	})
}

// together has a hundred goroutines publish and wait.
func together(b *testing.B, d driver, qos byte, payload []byte) {
	var wg sync.WaitGroup
	var n atomic.Int64
	for range 100 {
		wg.Go(func() {
			for n.Add(1) <= int64(b.N) {
				if err := d.publish(speedTopic, qos, payload); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// flood has the echo send messages as fast as the client takes them.
func flood(b *testing.B, d driver, qos byte, size int) {
	last := make(chan bool, 1)
	n := 0
	check(b, d.subscribe("speed/#", qos, func() {
		if n++; n == b.N {
			last <- true
		}
	}))
	measure(b, d, func(d driver) {
		check(b, d.publish(floodTopic, 1, fmt.Append(nil, b.N, qos, size)))
		await(b, last, &n)
	})
}

// toItself has a client get its own messages back from the broker, with a hundred under way.
func toItself(b *testing.B, d driver, qos byte, payload []byte) {
	last, window := make(chan bool, 1), make(chan bool, 100)
	n := 0
	check(b, d.subscribe("speed/some/+", qos, func() {
		<-window
		if n++; n == b.N {
			last <- true
		}
	}))
	measure(b, d, func(d driver) {
		for range b.N {
			window <- true
			check(b, d.async(speedTopic, qos, payload))
		}
		await(b, last, &n)
	})
}

func await(b *testing.B, last <-chan bool, n *int) {
	select {
	case <-last:
	case <-time.After(time.Minute):
		b.Fatalf("%d of %d messages came within a minute", *n, b.N)
	}
}

// cpuTime is the processor time of this process, in nanoseconds.
func cpuTime() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}

// idleClients is how many are connected to see what one costs.
const idleClients = 1000

// TestIdleMemory: one of our clients that is connected and idle has at most 15 KB of heap and two goroutines, and not
// more heap than one of the other libraries.
func TestIdleMemory(t *testing.T) {
	costs := map[string]cost{}
	for _, s := range subjects {
		c := idle(t, s)
		costs[s.name] = c
		t.Logf("%s: %.0f bytes of heap, %.0f of stacks, %.1f goroutines each", s.name, c.heap, c.stack, c.goroutines)
	}
	for _, ours := range []string{"myelin_v5", "myelin_v3"} {
		c := costs[ours]
		if c.heap > 15_000 || c.goroutines > 2.01 {
			t.Errorf("%s: %.0f bytes of heap and %.2f goroutines each, want at most 15,000 and 2", ours, c.heap, c.goroutines)
		}
		for _, other := range []string{"paho.golang_v5", "paho.mqtt.golang_v3"} {
			if c.heap > costs[other].heap {
				t.Errorf("%s has %.0f bytes of heap, %s has %.0f", ours, c.heap, other, costs[other].heap)
			}
		}
	}
}

// BenchmarkIdle reports the cost of a connected client.
func BenchmarkIdle(b *testing.B) {
	for _, s := range subjects {
		b.Run("echo/idle/q0/"+s.name, func(b *testing.B) {
			var c cost
			for range b.N {
				c = idle(b, s)
			}
			b.ReportMetric(c.heap, "heap-B")
			b.ReportMetric(c.stack, "stack-B")
			b.ReportMetric(c.goroutines, "goroutines")
		})
	}
}

// cost is that of one client.
type cost struct{ heap, stack, goroutines float64 }

func idle(t testing.TB, s subject) cost {
	first := s.dial(t, echoAddr) // what all share
	defer first.close()
	var before, after runtime.MemStats
	settle(&before)
	n := runtime.NumGoroutine()
	all := make([]driver, idleClients)
	for i := range all {
		all[i] = s.dial(t, echoAddr)
	}
	settle(&after)
	c := cost{
		float64(after.HeapAlloc) - float64(before.HeapAlloc), float64(after.StackInuse) - float64(before.StackInuse),
		float64(runtime.NumGoroutine() - n),
	}
	for _, d := range all {
		d.close()
	}
	return cost{c.heap / idleClients, c.stack / idleClients, c.goroutines / idleClients}
}

// settle collects what is no longer used.
func settle(m *runtime.MemStats) {
	for range 3 { // a pool keeps things for two
		runtime.GC()
	}
	runtime.ReadMemStats(m)
}

// speedID is a client identifier.
func speedID() string { return fmt.Sprintf("speed%d", speedIDs.Add(1)) }

var speedIDs atomic.Int64
