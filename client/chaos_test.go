package client_test

import (
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/myelin-mqtt/myelin/broker"
	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/test/chaos"
	"github.com/myelin-mqtt/myelin/test/fault"
)

// The tests of this file break connections, with the seeds and lengths that
// package chaos tells.

func TestChaosCuts(t *testing.T) {
	for _, l := range []chaos.Load{
		{Name: "5.0", Version: packet.V5, QoS: 2},
		{Name: "3.1.1", Version: packet.V311, QoS: 2},
		{Name: "at least once", Version: packet.V5, QoS: 1},
		{Name: "at least once 3.1.1", Version: packet.V311, QoS: 1},
	} {
		l.Mix, l.Faults = chaos.Cuts(), 100
		t.Run(l.Name, func(t *testing.T) { l.Test(t, inMemory) })
	}
}

func TestChaosCutsStored(t *testing.T) {
	for _, l := range []chaos.Load{
		{Name: "5.0", Version: packet.V5, QoS: 2},
		{Name: "at least once 3.1.1", Version: packet.V311, QoS: 1},
	} {
		l.Mix, l.Faults = chaos.Cuts(), 50
		t.Run(l.Name, func(t *testing.T) { l.Test(t, onDisk) })
	}
}

// Clients die without a word, and others open their Stores.
func TestChaosDeaths(t *testing.T) {
	for _, l := range []chaos.Load{
		{Name: "5.0", Version: packet.V5, QoS: 2},
		{Name: "3.1.1", Version: packet.V311, QoS: 2},
		{Name: "at least once", Version: packet.V5, QoS: 1},
	} {
		l.Mix, l.Faults, l.Graves = chaos.Cuts(), 60, 60
		t.Run(l.Name, func(t *testing.T) { l.Test(t, inMemory) })
	}
}

// Packets come twice.
func TestChaosDuplicates(t *testing.T) {
	for _, l := range []chaos.Load{
		{Name: "5.0", Version: packet.V5, QoS: 2},
		{Name: "3.1.1", Version: packet.V311, QoS: 2},
		{Name: "at least once", Version: packet.V5, QoS: 1},
	} {
		l.Mix = fault.Mix{Kinds: []fault.Kind{fault.Duplicate, fault.Duplicate, fault.Duplicate, fault.Cut}, Every: 1000}
		l.Faults = 100
		t.Run(l.Name, func(t *testing.T) { l.Test(t, inMemory) })
	}
}

// A direction falls silent: the keep-alive has to notice.
func TestChaosStalls(t *testing.T) {
	for _, l := range []chaos.Load{
		{Name: "5.0", Version: packet.V5, QoS: 2},
		{Name: "3.1.1", Version: packet.V311, QoS: 2},
	} {
		l.Mix = fault.Mix{Kinds: []fault.Kind{fault.Stall, fault.Cut}, Every: 10_000}
		l.Faults, l.Most, l.KeepAlive = 6, 60, time.Second
		t.Run(l.Name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			l.Test(t, inMemory)
		})
	}
}

// Bytes change. Nothing can be promised of the messages then, not even that
// those that come are whole: a payload has no checksum. But the clients live,
// take no more memory than their limits, come back, and when the bytes are
// right again, so is what they send.
func TestChaosDamage(t *testing.T) {
	for _, l := range []chaos.Load{
		{Name: "5.0", Version: packet.V5, QoS: 2},
		{Name: "3.1.1", Version: packet.V311, QoS: 1},
	} {
		l.Mix = fault.Mix{Kinds: []fault.Kind{fault.Corrupt, fault.Corrupt, fault.Corrupt, fault.Cut}, Every: 1500}
		l.Faults, l.KeepAlive, l.Damaged = 40, time.Second, true
		t.Run(l.Name, func(t *testing.T) {
			t.Parallel() // they wait now and then
			l.Test(t, inMemory)
		})
	}
}

// inMemory starts a broker that has everything in memory.
func inMemory(t *testing.T) (url string) {
	_, url = serve(t, broker.Options{Queue: broker.QueueOptions{MaxMessages: -1, MaxBytes: -1}})
	return url
}

// onDisk starts a broker with a data directory.
func onDisk(t *testing.T) (url string) {
	_, url = serve(t, broker.Options{
		DataDir: filepath.Join(t.TempDir(), "data"), Queue: broker.QueueOptions{MaxMessages: -1, MaxBytes: -1},
	})
	return url
}

// A message that comes twice before its handler has ended is acknowledged once,
// and holds nothing back behind it.
func TestTwiceBeforeAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, got := inbox()
		_, c, p := fixed(t, client.Options{ManualAck: true, OnMessage: h}, packet.Connack{})
		first := client.Message{Topic: "x", QoS: 2}
		p.sendMessage(first, packet.PublishOpts{ID: 1})
		p.sendMessage(first, packet.PublishOpts{ID: 1})
		p.sendMessage(client.Message{Topic: "y", QoS: 2}, packet.PublishOpts{ID: 2})
		(<-got).Ack()
		(<-got).Ack()
		synctest.Wait()
		none(t, got)
		for id := uint16(1); id <= 2; id++ {
			if a := expect[*packet.Ack](p); a.Kind != packet.PUBREC || a.ID != id {
				t.Errorf("%s came, want the PUBREC of %d", a, id)
			}
		}
		c.Close()
	})
}
