package client_test

import (
	"io"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
)

// TestIdleMemory: a connected client that is idle has at most 15 KB of heap, and
// two goroutines.
func TestIdleMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory of its own")
	}
	const clients = 200
	url := greet(t, clients+1)
	all := make([]*client.Client, clients)
	one := connect(t, url, client.Options{}) // what the first one needs, the others share
	heap, routines := heapNow()
	for i := range all {
		all[i] = connect(t, url, client.Options{})
	}
	after, now := heapNow()
	each := (after - heap) / clients
	t.Logf("%d bytes of heap", each)
	if each > 15_000 {
		t.Errorf("an idle client has %d bytes of heap, want at most 15,000", each)
	}
	if now-routines > 2*clients {
		t.Errorf("%d clients have %d goroutines, want at most 2 each", clients, now-routines)
	}
	runtime.KeepAlive(all)
	runtime.KeepAlive(one)
}

// TestIdleMemoryAfterMuch: what a client took for many messages it gives back
// when it has been silent for a while.
func TestIdleMemoryAfterMuch(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory of its own")
	}
	synctest.Test(t, func(t *testing.T) {
		const clients, messages = 20, 2000
		heap, _ := heapNow()
		all := make([]*client.Client, clients)
		echoes := make([]*echo, clients)
		for i := range all {
			got := make(chan bool, messages)
			c, e := connectEcho(t, client.Options{Inline: i%2 == 0})
			all[i], echoes[i] = c, e
			subscribe(t, c, func(*client.Received) { got <- true }, client.Filter("#", 1))
			e.send(publishes(t, packet.V5, 0, messages))
			for range messages {
				<-got
			}
			for n := range messages {
				m := client.Message{Topic: "t", Payload: make([]byte, 100), QoS: packet.QoS(n % 3)}
				if err := c.PublishAsync(t.Context(), &m, func(client.Receipt, error) { got <- true }); err != nil {
					t.Fatal(err)
				}
			}
			for range messages {
				<-got
			}
		}
		time.Sleep(2 * time.Minute)
		for _, e := range echoes {
			e.mu.Lock()
			e.buf, e.spare = nil, nil
			e.mu.Unlock()
		}
		after, _ := heapNow()
		each := (after - heap) / clients
		t.Logf("%d bytes of heap", each)
		if each > 15_000 {
			t.Errorf("a client that is idle again has %d bytes of heap, want at most 15,000", each)
		}
		for _, c := range all {
			c.Close()
		}
	})
}

// heapNow is the heap in use, and the number of goroutines.
func heapNow() (bytes int64, goroutines int) {
	var m runtime.MemStats
	for range 3 { // what was pooled goes with the second
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), runtime.NumGoroutine()
}

// greet is a server that answers the CONNECT of each of n clients, and then does
// nothing, at next to no cost.
func greet(t *testing.T, n int) (url string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	conns := make([]net.Conn, 0, n)
	go func() {
		ended <- func() error {
			buf := make([]byte, 4096)
			ack := (&packet.Connack{}).Append(nil, packet.V5)
			for len(conns) < n {
				c, err := l.Accept()
				if err != nil {
					return err
				}
				conns = append(conns, c)
				if _, err := io.ReadFull(c, buf[:2]); err != nil { // a CONNECT of less than 130 bytes
					return err
				}
				if _, err := io.ReadFull(c, buf[:buf[1]]); err != nil {
					return err
				}
				if _, err := c.Write(ack); err != nil {
					return err
				}
			}
			return nil
		}()
	}()
	t.Cleanup(func() {
		l.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for _, c := range conns {
			c.Close()
		}
	})
	return "tcp://" + l.Addr().String()
}

// TestAllocations: what a message costs in allocations, until it is acknowledged.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	const n = 20_000
	for _, v := range versions {
		for q, most := range []float64{0: 0.5, 1: 2.5, 2: 2.5} {
			c, _ := connectEcho(t, client.Options{Version: v})
			m := client.Message{Topic: "some/topic/that/is/longer/than/a/small/buffer", Payload: make([]byte, 64), QoS: packet.QoS(q)}
			last := make(chan error, 1)
			left := 0
			done := func(_ client.Receipt, err error) {
				if left--; left == 0 || err != nil {
					last <- err
				}
			}
			send := func() {
				left = n
				for range n {
					if err := c.PublishAsync(t.Context(), &m, done); err != nil {
						t.Fatal(err)
					}
				}
				if err := <-last; err != nil {
					t.Fatal(err)
				}
			}
			send() // what grows has grown
			allocs := testing.AllocsPerRun(1, send) / n
			t.Logf("v%s QoS %d: %.2f allocations to publish", v, q, allocs)
			if allocs > most {
				t.Errorf("v%s QoS %d: %.2f allocations to publish, want at most %.1f", v, q, allocs, most)
			}
		}
	}
}

// TestAllocationsReceived: a message that comes costs its payload and itself.
func TestAllocationsReceived(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	const n = 20_000
	for _, v := range versions {
		c, e := connectEcho(t, client.Options{Version: v})
		got := make(chan bool)
		left := 0
		subscribe(t, c, func(*client.Received) {
			if left--; left == 0 {
				got <- true
			}
		}, client.Filter("#", 0))
		block := publishes(t, v, 0, 100)
		flood := func() {
			left = n
			for range n / 100 {
				e.send(block)
			}
			<-got
		}
		flood()
		if allocs := testing.AllocsPerRun(1, flood) / n; allocs > 2.1 {
			t.Errorf("v%s: %.2f allocations to receive, want 2", v, allocs)
		}
	}
}
