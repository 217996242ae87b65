package broker

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"strconv"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// sysTopic is one topic below $SYS/broker.
type sysTopic struct {
	name  string
	value func(b *Broker, s *Stats) string
}

func number[T int | int64 | uint64](v T) string { return fmt.Sprint(v) }

// sysTopics have the names that Mosquitto's users know. One without a value is
// not published.
var sysTopics = []sysTopic{
	{"version", func(b *Broker, _ *Stats) string { return b.opt().Version }},
	{"uptime", func(b *Broker, _ *Stats) string {
		return number(int64(time.Since(b.started)/time.Second)) + " seconds"
	}},
	{"clients/connected", func(_ *Broker, s *Stats) string { return number(s.Connected) }},
	{"clients/active", func(_ *Broker, s *Stats) string { return number(s.Connected) }},
	{"clients/disconnected", func(_ *Broker, s *Stats) string { return number(max(int64(s.Sessions)-s.Connected, 0)) }},
	{"clients/inactive", func(_ *Broker, s *Stats) string { return number(max(int64(s.Sessions)-s.Connected, 0)) }},
	{"clients/total", func(_ *Broker, s *Stats) string { return number(s.Sessions) }},
	{"clients/maximum", func(_ *Broker, s *Stats) string { return number(s.ConnectedMax) }},
	{"clients/expired", func(_ *Broker, s *Stats) string { return number(s.SessionsExpired) }},
	{"messages/received", func(_ *Broker, s *Stats) string { return number(s.PacketsIn) }},
	{"messages/sent", func(_ *Broker, s *Stats) string { return number(s.PacketsOut) }},
	{"messages/stored", func(_ *Broker, s *Stats) string { return number(s.Retained + s.Queued) }},
	{"store/messages/count", func(_ *Broker, s *Stats) string { return number(s.Retained + s.Queued) }},
	{"store/messages/bytes", func(_ *Broker, s *Stats) string { return number(s.RetainedBytes + s.QueuedBytes) }},
	{"store/state", func(_ *Broker, s *Stats) string { return s.Store }},
	{"store/free", func(_ *Broker, s *Stats) string { // bytes on the disk
		if s.DiskFree < 0 {
			return ""
		}
		return number(s.DiskFree)
	}},
	{"tls/days_left", func(b *Broker, s *Stats) string { // whole days to the end of the first certificate
		if s.CertificateEnd.IsZero() {
			return ""
		}
		return number(int64(math.Floor(time.Until(s.CertificateEnd).Hours() / 24)))
	}},
	{"publish/messages/received", func(_ *Broker, s *Stats) string { return number(s.PublishIn) }},
	{"publish/messages/sent", func(_ *Broker, s *Stats) string { return number(s.PublishOut) }},
	{"publish/messages/dropped", func(_ *Broker, s *Stats) string {
		var n uint64
		for _, d := range s.Dropped {
			n += d
		}
		return number(n)
	}},
	{"authorization/denied/publish", func(_ *Broker, s *Stats) string { return number(s.DeniedPublishes) }},
	{"authorization/denied/subscribe", func(_ *Broker, s *Stats) string { return number(s.DeniedSubscriptions) }},
	{"authorization/revoked", func(_ *Broker, s *Stats) string { return number(s.Revoked) }},
	{"publish/bytes/received", func(_ *Broker, s *Stats) string { return number(s.PayloadIn) }},
	{"publish/bytes/sent", func(_ *Broker, s *Stats) string { return number(s.PayloadOut) }},
	{"bytes/received", func(_ *Broker, s *Stats) string { return number(s.BytesIn) }},
	{"bytes/sent", func(_ *Broker, s *Stats) string { return number(s.BytesOut) }},
	{"retained messages/count", func(_ *Broker, s *Stats) string { return number(s.Retained) }},
	{"subscriptions/count", func(_ *Broker, s *Stats) string { return number(s.Subscriptions) }},
	{"shared_subscriptions/count", func(_ *Broker, s *Stats) string { return number(s.Shared) }},
	{"heap/maximum", func(*Broker, *Stats) string {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return number(m.HeapSys)
	}},
	{"heap/current", func(*Broker, *Stats) string {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return number(m.HeapAlloc)
	}},
}

// rate is a counter whose averages over 1, 5 and 15 minutes are published
// under load/NAME, per minute.
type rate struct {
	name    string
	counter func(s *Stats) uint64
	last    uint64
	avg     [3]float64
}

func sysRates() []*rate {
	return []*rate{
		{name: "messages/received", counter: func(s *Stats) uint64 { return s.PacketsIn }},
		{name: "messages/sent", counter: func(s *Stats) uint64 { return s.PacketsOut }},
		{name: "publish/received", counter: func(s *Stats) uint64 { return s.PublishIn }},
		{name: "publish/sent", counter: func(s *Stats) uint64 { return s.PublishOut }},
		{name: "publish/dropped", counter: func(s *Stats) (n uint64) {
			for _, d := range s.Dropped {
				n += d
			}
			return n
		}},
		{name: "bytes/received", counter: func(s *Stats) uint64 { return s.BytesIn }},
		{name: "bytes/sent", counter: func(s *Stats) uint64 { return s.BytesOut }},
		{name: "connections", counter: func(s *Stats) uint64 { return s.Connects }},
		{name: "sockets", counter: func(s *Stats) uint64 { return s.Connects + s.Refused }},
	}
}

// add takes the counter after an interval: an exponentially weighted average
// of what a minute brings.
func (r *rate) add(s *Stats, interval time.Duration) {
	now := r.counter(s)
	perMinute := float64(now-r.last) * float64(time.Minute) / float64(interval)
	r.last = now
	for i, minutes := range []float64{1, 5, 15} {
		keep := math.Exp(-interval.Minutes() / minutes)
		r.avg[i] = r.avg[i]*keep + perMinute*(1-keep)
	}
}

// publishSys keeps the $SYS topics, and publishes those that changed to who
// subscribes to them.
func (b *Broker) publishSys(ctx context.Context) {
	interval := b.opt().SysInterval
	if interval < 0 {
		return
	}
	rates := sysRates()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		b.refreshSys(rates)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s := b.Stats()
		for _, r := range rates {
			r.add(&s, interval)
		}
	}
}

// refreshSys computes the topics once.
func (b *Broker) refreshSys(rates []*rate) {
	s := b.Stats()
	t := b.borrow()
	defer b.give(t)
	for _, x := range sysTopics {
		if v := x.value(b, &s); v != "" {
			t.setSys("$SYS/broker/"+x.name, v)
		}
	}
	for _, r := range rates {
		for i, span := range []string{"1min", "5min", "15min"} {
			t.setSys("$SYS/broker/load/"+r.name+"/"+span, strconv.FormatFloat(r.avg[i], 'f', 2, 64))
		}
	}
}

// setSys keeps one value, and publishes it where it changed. It is no client's
// message, and not counted as one.
func (t *turn) setSys(name, value string) {
	b := t.b
	if old, ok := b.sys.Get(name); ok && string(old.Payload()) == value {
		return
	}
	p, err := packet.NewPublish(&packet.Message{Topic: name, Payload: []byte(value), Retain: true}, t.now)
	if err != nil {
		b.log.Error("make $SYS message", "topic", name, "err", err)
		return
	}
	b.sys.Set(name, p)
	e := t.routes.Find(p.Topic())
	t.enc.Reset(p, 0)
	t.expiry = 0
	for i := range e.Subs { // past the store, whatever the options: the next value is not far
		t.deliver(&e.Subs[i], e.More[e.Subs[i].To], p, p, 0)
	}
}
