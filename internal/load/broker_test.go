package load

import (
	"context"
	"log/slog"
	"testing"

	"github.com/myelin-mqtt/myelin/broker"
	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
)

// serve runs a broker, and tells its URL.
func serve(t testing.TB) string {
	t.Helper()
	b, err := broker.New(broker.Options{NoListeners: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := b.Serve(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		b.Close()
		<-done
	})
	url, err := b.Listen(broker.Listener{URL: "tcp://127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// TestBroker: every load against our broker, with nothing lost, duplicated or out
// of order, at each quality of service and version.
func TestBroker(t *testing.T) {
	url := serve(t)
	for _, v := range []packet.Version{packet.V311, packet.V5} {
		target := Target{Name: url, Dial: Dial, Options: client.Options{Servers: []string{url}, Version: v}}
		for _, words := range []string{
			"load=p2p clients=10 count=5000 qos=0", "load=p2p clients=10 count=5000 qos=1", "load=p2p clients=10 count=5000 qos=2 topics=3",
			"load=fan-out subscribers=20 count=200 qos=0", "load=fan-out subscribers=20 count=200 qos=1",
			"load=fan-in clients=20 subscribers=3 count=2000 qos=1", "load=shared clients=5 count=2000 qos=2 window=10",
			"load=publish clients=5 count=2000 qos=0", "load=publish clients=5 count=2000 qos=1",
			"load=request clients=5 subscribers=2 count=500 qos=0", "load=request clients=5 subscribers=2 count=500 qos=1",
			"load=offline subscribers=10 publishers=2 count=1000",
			"load=connect clients=5 count=50", "load=subscribe clients=5 count=200", "load=idle clients=20 topics=2 duration=50ms",
			"load=p2p clients=5 rate=2000 duration=300ms qos=1",
		} {
			p := plan(t, words+" warm-up=0s")
			r := (&Runner{Target: target}).Run(t.Context(), p)
			if err := r.Failed(); err != nil || r.Faults != (Faulty{}) {
				t.Errorf("%s, %s: %v, %+v", words, v, err, r.Faults)
			}
			if n := p.Count * uint64(max(p.receivers(), 1)); p.Messages() && p.Count > 0 && r.counted() != n {
				t.Errorf("%s, %s: counted %d, want %d", words, v, r.counted(), n)
			}
			if p.Load == Offline && (r.Return == nil || r.Return.Received != p.Count) {
				t.Errorf("%s, %s: returned %+v", words, v, r.Return)
			}
			t.Logf("%s\n%s", v, Summary(r))
		}
	}
}
