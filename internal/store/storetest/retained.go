package storetest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/topic"
)

// wantRetained wants "topic=payload" lists.
func (k *kit) wantRetained(what, filter, want string) {
	k.Helper()
	if got := list(k.retained(filter)); got != want {
		k.Errorf("%s: %s has %q, want %q", what, filter, got, want)
	}
}

// testRetained: set, replace, clear. [MQTT-3.3.1-5], [MQTT-3.3.1-6], [MQTT-3.3.1-8]
func testRetained(k *kit) {
	a := k.session("a")
	k.must(k.message("a/1", 0, retain, payload("one")))
	k.must(k.message("a/2", 0, retain, payload("two")), a.target())
	k.must(k.message("a/1", 0, payload("not retained")), a.target())
	k.wantRetained("set", "a/+", "a/1=one a/2=two")
	k.must(k.message("a/1", 0, retain, payload("another")))
	k.wantRetained("replaced", "#", "a/1=another a/2=two")
	k.stats("replaced", store.Stats{Sessions: 1, Queued: 2, QueuedBytes: 6 + 15, Retained: 2, RetainedBytes: 10 + 6})
	k.must(k.message("a/2", 0, retain, payload("")), a.target())
	k.must(k.message("a/3", 0, retain, payload("")))
	k.wantRetained("cleared", "#", "a/1=another")
	k.wantRetained("cleared", "a/2", "")
	a.expect("retained is delivered as usual", 0, "a/2", "a/1", "a/2")
	k.must(k.message("a/1", 0, retain, payload("")))
	k.stats("all cleared", store.Stats{Sessions: 1})
}

func testRetainedAgain(k *kit) {
	a := k.session("a")
	k.must(k.message("t", 0, retain, payload("old")))
	k.must(k.message("t", 0, retain, payload("new")))
	if err := k.publish(k.message("t", 0, retain, payload("old")), store.Inbound{Again: true}, a.target()); err != nil {
		k.Error(err)
	}
	k.wantRetained("published again, to somebody else", "t", "t=new")
	a.expect("published again", 0, "t")
}

// testForget: only the very message is forgotten.
func testForget(k *kit) {
	find := func() (m *packet.Publish) {
		k.e.Retained("t").Next(1, func(_ string, p *packet.Publish) bool { m = p; return true })
		return m
	}
	k.must(k.message("t", 0, retain, expiry(1), payload("old")))
	old := find()
	if old == nil {
		k.Fatal("nothing is retained")
	}
	k.must(k.message("t", 0, retain, expiry(1), payload("new")))
	k.e.Forget(old)
	k.wantRetained("another has replaced it", "t", "t=new")
	k.e.Forget(find())
	k.wantRetained("forgotten", "t", "")
	k.e.Forget(old)
	if s := k.e.Stats(); s.Retained != 0 || s.RetainedBytes != 0 {
		k.Errorf("%+v", s)
	}
}

// testForgetRace: a message that comes while the old one is forgotten stays.
func testForgetRace(k *kit) {
	for i := range 200 {
		k.must(k.message("t", 0, retain, expiry(1)))
		var old *packet.Publish
		k.e.Retained("t").Next(1, func(_ string, p *packet.Publish) bool { old = p; return true })
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { k.e.Forget(old) })
		}
		want := fmt.Sprint(i)
		k.must(k.message("t", 0, retain, payload(want)))
		wg.Wait()
		k.wantRetained("the new one", "t", "t="+want)
		if s := k.e.Stats(); s.Retained != 1 || s.RetainedBytes != int64(1+len(want)) {
			k.Fatalf("%+v", s)
		}
	}
}

// testWildcards: what a filter finds is what a look at every topic finds.
func testWildcards(k *kit) {
	r := rand.New(rand.NewPCG(1, 2))
	level := func(from ...string) string { return from[r.IntN(len(from))] }
	path := func(from ...string) string {
		levels := make([]string, 1+r.IntN(4))
		for i := range levels {
			levels[i] = level(from...)
		}
		return strings.Join(levels, "/")
	}
	all := map[string]string{}
	for i := range 400 {
		name := path("a", "b", "", "$x", "ab")
		if name == "" {
			continue
		}
		m := k.message(name, 0, retain, payload(fmt.Sprint(i)))
		all[name] = fmt.Sprint(i)
		if r.IntN(5) == 0 {
			m = k.message(name, 0, retain, payload(""))
			delete(all, name)
		}
		k.must(m)
	}
	for range 300 {
		filter := path("a", "b", "", "$x", "+", "+")
		if r.IntN(3) == 0 {
			filter += "/#"
		}
		if r.IntN(20) == 0 {
			filter = "#"
		}
		if filter == "" {
			continue
		}
		want := map[string]string{}
		for name, p := range all {
			if topic.Match(filter, name) {
				want[name] = p
			}
		}
		k.wantRetained("random", filter, list(want))
	}
}
