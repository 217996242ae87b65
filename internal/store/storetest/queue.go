package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
)

func testClaim(k *kit) {
	if c := k.claim(store.ClaimReq{ClientID: "a"}); c.s != nil || c.st != nil {
		k.Errorf("without expiry: session %v, state %v, want none", c.s, c.st)
	}
	k.stats("nothing is stored", store.Stats{})
	a := k.session("a")
	if a.st != nil {
		k.Errorf("a new session has a state: %+v", a.st)
	}
	k.must(k.message("t/1", 0), a.target())
	a.s.Detach(100, false, nil, 0)
	k.must(k.message("t/2", 0), a.target())
	b := k.session("b")
	if b.st != nil {
		k.Errorf("another client's session has a state: %+v", b.st)
	}
	k.stats("two sessions", store.Stats{Sessions: 2, Queued: 2, QueuedBytes: 8})
	for _, expiry := range []uint32{100, 0} {
		a = k.claim(store.ClaimReq{ClientID: "a", Expiry: expiry})
		if a.s == nil || a.st == nil || a.st.Queued != 2 {
			k.Fatalf("resumed with expiry %d: %+v %+v, want two messages waiting", expiry, a.s, a.st)
		}
		if n, bytes := a.s.Queued(); n != 2 || bytes != 8 {
			k.Errorf("resumed: %d messages of %d bytes, want 2 of 8", n, bytes)
		}
		a.s.Detach(100, false, nil, 0)
	}
	a = k.session("a")
	a.expect("resumed", 0, "t/1", "t/2")
	b.expect("another", 0)
}

func testClaimClean(k *kit) {
	old := k.session("a")
	k.must(k.message("t/1", 0), old.target())
	old.s.Detach(100, false, nil, 0)
	fresh := k.claim(store.ClaimReq{ClientID: "a", Clean: true, Expiry: 100})
	if fresh.s == nil || fresh.st != nil {
		k.Fatalf("clean: session %v, state %v", fresh.s, fresh.st)
	}
	k.stats("discarded", store.Stats{Sessions: 1})
	// Who still has the old one can do nothing with it.
	k.must(k.message("t/2", 0), old.target())
	old.expect("discarded", 0)
	k.must(k.message("t/3", 0), fresh.target())
	old.s.Detach(100, false, nil, 0)
	old.s.End(nil, 0)
	fresh.expect("clean", 0, "t/3")
	k.stats("the old one has ended", store.Stats{Sessions: 1})
	fresh.s.Detach(100, false, nil, 0)
	if c := k.claim(store.ClaimReq{ClientID: "a", Clean: true}); c.s != nil || c.st != nil {
		k.Errorf("clean, without expiry: session %v, state %v", c.s, c.st)
	}
	k.stats("clean, without expiry", store.Stats{})
}

// testTakeover: the second connection claims after the first was detached, and
// gets what comes from then on.
func testTakeover(k *kit) {
	first := k.session("a")
	k.must(k.message("t/1", 0), first.target())
	first.expect("first", 0, "t/1")
	k.must(k.message("t/2", 0), first.target())
	first.s.Detach(100, false, nil, 0)
	second := k.session("a")
	k.must(k.message("t/3", 0), first.target()) // routed before the takeover was known
	k.must(k.message("t/4", 0), second.target())
	await(k, "Ready of the second connection", second.ready)
	second.expect("second", 0, "t/2", "t/3", "t/4")
	k.must(k.message("t/5", 0), second.target())
	await(k, "Ready of the second connection, again", second.ready)
	second.expect("second", 0, "t/5")
}

func testDelivery(k *kit) {
	a := k.session("a")
	ids := []uint32{3, 4}
	want := []store.Target{
		{To: a.s, QoS: 1},
		{To: a.s, QoS: 2, Sub: 7, Flags: store.Retain},
		{To: a.s, QoS: 1, More: &ids, Flags: store.Shared},
		{To: a.s, QoS: 0},
	}
	for i, to := range want {
		k.must(k.message(fmt.Sprint("t/", i), 0, payload(fmt.Sprint("p", i))), to)
	}
	got := a.drain(0)
	if len(got) != len(want) {
		k.Fatalf("%d deliveries, want %d", len(got), len(want))
	}
	for i, d := range got {
		w := want[i]
		switch {
		case string(d.Msg.Topic()) != fmt.Sprint("t/", i) || string(d.Msg.Payload()) != fmt.Sprint("p", i):
			k.Errorf("delivery %d is %v", i, d.Msg)
		case d.QoS != w.QoS || d.Sub != w.Sub || d.Flags != w.Flags:
			k.Errorf("delivery %d: %+v, want %+v", i, d, w)
		case (d.More == nil) != (w.More == nil) || d.More != nil && !slices.Equal(*d.More, *w.More):
			k.Errorf("delivery %d: identifiers %v, want %v", i, d.More, w.More)
		case i > 0 && d.LSN <= got[i-1].LSN:
			k.Errorf("delivery %d has number %d after %d", i, d.LSN, got[i-1].LSN)
		}
	}
}

func testFanOut(k *kit) {
	const n = 1000
	var all []*client
	var to []store.Target
	for i := range n {
		all = append(all, k.session(fmt.Sprint(i)))
		to = append(to, store.Target{To: all[i].s, QoS: 1, Sub: uint32(i)})
	}
	k.must(k.message("t", 0, payload("hello")), to...)
	clear(to) // the engine has copied it
	k.stats("waiting", store.Stats{Sessions: n, Queued: n, QueuedBytes: 6 * n})
	for i, c := range all {
		d := c.drain(0)
		if len(d) != 1 || d[0].Sub != uint32(i) || string(d[0].Msg.Payload()) != "hello" {
			k.Fatalf("%d gets %+v", i, d)
		}
	}
	k.stats("delivered", store.Stats{Sessions: n})
}

// testOrder: messages of one publisher stay in order, though nobody waits for
// completions, others publish, and the session comes and goes. [MQTT-4.6.0-6]
func testOrder(k *kit) {
	const publishers, each = 4, 300
	a := k.session("a")
	to := []store.Target{a.target()}
	var calls [publishers][]*call
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range each {
				calls[p] = append(calls[p], k.start(k.message(fmt.Sprintf("%d/%d", p, i), 0), store.Inbound{}, to))
			}
		})
	}
	var got []store.Delivery
	for i := range 50 {
		got = append(got, a.next(7, 0)...)
		if i%10 == 9 {
			a.s.Detach(100, false, nil, 0)
			a = k.session("a")
		}
	}
	wg.Wait()
	for p := range calls {
		for _, c := range calls[p] {
			if err := await(k, "the completion of a Publish", c.c); err != nil {
				k.Fatal(err)
			}
		}
	}
	got = append(got, a.drain(0)...)
	var next [publishers]int
	for _, name := range topics(got) {
		var p, i int
		fmt.Sscanf(name, "%d/%d", &p, &i)
		if i != next[p] {
			k.Fatalf("%s, want message %d of publisher %d", name, next[p], p)
		}
		next[p]++
	}
	if len(got) != publishers*each {
		k.Errorf("%d messages, want %d", len(got), publishers*each)
	}
}

// testExpiry: an expired message is not handed out, and counts once. [MQTT-3.3.2-5]
func testExpiry(k *kit) {
	a := k.session("a")
	k.must(k.message("never", 1000), a.target())
	k.must(k.message("long", 1000, expiry(60)), a.target())
	k.must(k.message("short", 1000, expiry(5)), a.target())
	k.must(k.message("last", 1000, expiry(7)), a.target())
	if got := topics(a.next(1, 1004)); !slices.Equal(got, []string{"never"}) {
		k.Errorf("the first is %q", got)
	}
	a.s.Detach(100, false, nil, 0)
	a = k.session("a")
	a.expect("after 6 seconds", 1006, "long", "last")
	k.must(k.message("gone", 1000, expiry(1)), a.target())
	a.expect("expired before it came", 2000)
	k.stats("expired", store.Stats{Sessions: 1, Expired: 2})
}

func (k *kit) four(opts ...opt) (a *client, errs []error) {
	a = k.session("a")
	a.s.Detach(100, false, nil, 0)
	for i := range 4 {
		errs = append(errs, k.publish(k.message(fmt.Sprint("t/", i), 0, opts...), store.Inbound{}, a.target()))
	}
	return k.session("a"), errs
}

func testDropOldest(k *kit) {
	a, errs := k.four()
	if err := errors.Join(errs...); err != nil {
		k.Error(err)
	}
	k.stats("full", store.Stats{Sessions: 1, Queued: 3, QueuedBytes: 12, Dropped: 1})
	a.expect("full", 0, "t/1", "t/2", "t/3")
}

func testDropOldestBytes(k *kit) {
	a, _ := k.four(payload("1234567")) // 10 bytes each
	a.s.Detach(100, false, nil, 0)
	k.stats("full", store.Stats{Sessions: 1, Queued: 3, QueuedBytes: 30, Dropped: 1})
	k.must(k.message("large", 0, payload("twelve bytes")), a.target())
	k.stats("a larger one", store.Stats{Sessions: 1, Queued: 2, QueuedBytes: 27, Dropped: 3})
	k.must(k.message("huge", 0, payload("far beyond the limit of thirty bytes")), a.target())
	a = k.session("a")
	a.expect("one is always let in", 0, "huge")
}

func testDropNew(k *kit) {
	a, errs := k.four()
	if err := errors.Join(errs...); err != nil {
		k.Error(err)
	}
	k.stats("full", store.Stats{Sessions: 1, Queued: 3, QueuedBytes: 12, Dropped: 1})
	a.expect("full", 0, "t/0", "t/1", "t/2")
	k.must(k.message("t/4", 0), a.target())
	a.expect("room again", 0, "t/4")
}

// testRefuse: a message that one of its sessions has no room for is taken for
// nobody, and not retained; a connected session refuses none.
func testRefuse(k *kit) {
	b := k.session("b")
	a, errs := k.four()
	if err := errors.Join(errs[:3]...); err != nil {
		k.Error(err)
	}
	if !errors.Is(errs[3], store.ErrQuota) {
		k.Errorf("the fourth: %v, want %v", errs[3], store.ErrQuota)
	}
	a.s.Detach(100, false, nil, 0)
	if err := k.publish(k.message("r", 0, retain), store.Inbound{}, b.target(), a.target()); !errors.Is(err, store.ErrQuota) {
		k.Errorf("one of two is full: %v, want %v", err, store.ErrQuota)
	}
	b.expect("taken for nobody", 0)
	if got := k.retained("r"); len(got) != 0 {
		k.Errorf("retained %v", got)
	}
	k.stats("full", store.Stats{Sessions: 2, Queued: 3, QueuedBytes: 12})
	a = k.session("a")
	k.must(k.message("t/5", 0), b.target(), a.target())
	k.stats("connected and slow", store.Stats{Sessions: 2, Queued: 4, QueuedBytes: 16, Dropped: 1})
	a.expect("connected and slow", 0, "t/0", "t/1", "t/2")
	b.expect("the other", 0, "t/5")
}

// hog makes two sessions, of which one holds all that all may hold and is away.
func (k *kit) hog() (hog, small *client) {
	hog, small = k.session("hog"), k.session("small")
	hog.s.Detach(100, false, nil, 0)
	for i := range 40 {
		k.must(k.message(fmt.Sprint("t/", i), 0), hog.target())
	}
	return hog, small
}

// testTotalDropOldest: who holds most pays for all.
func testTotalDropOldest(k *kit) {
	hog, small := k.hog()
	k.must(k.message("s/1", 0), small.target())
	k.must(k.message("s/2", 0), small.target())
	k.must(k.message("both", 0), small.target(), hog.target())
	small.expect("spared", 0, "s/1", "s/2", "both")
	hog = k.session("hog")
	got := topics(hog.drain(0))
	if len(got) != 37 || got[0] != "t/4" || got[36] != "both" {
		k.Errorf("the hog has %q", got)
	}
	k.stats("all", store.Stats{Sessions: 2, Dropped: 4})
}

// testTotalDropNew: who is away gets nothing more; who is connected does.
func testTotalDropNew(k *kit) {
	hog, small := k.hog()
	k.must(k.message("s/1", 0), small.target(), hog.target())
	small.expect("connected", 0, "s/1")
	k.stats("full", store.Stats{Sessions: 2, Queued: 40, QueuedBytes: 40*4 + 30, Dropped: 1})
	small.s.Detach(100, false, nil, 0)
	k.must(k.message("s/2", 0), small.target())
	k.stats("both away", store.Stats{Sessions: 2, Queued: 40, QueuedBytes: 40*4 + 30, Dropped: 2})
}

// testTotalRefuse: the publisher is refused for who is away.
func testTotalRefuse(k *kit) {
	hog, small := k.hog()
	if err := k.publish(k.message("s/1", 0), store.Inbound{}, small.target(), hog.target()); !errors.Is(err, store.ErrQuota) {
		k.Errorf("%v, want %v", err, store.ErrQuota)
	}
	k.must(k.message("s/2", 0), small.target())
	small.expect("connected", 0, "s/2")
	small.s.Detach(100, false, nil, 0)
	if err := k.publish(k.message("s/3", 0), store.Inbound{}, small.target()); !errors.Is(err, store.ErrQuota) {
		k.Errorf("%v, want %v", err, store.ErrQuota)
	}
	hog = k.session("hog")
	hog.next(1, 0)
	k.must(k.message("s/4", 0), small.target())
	k.stats("room", store.Stats{Sessions: 2, Queued: 40, QueuedBytes: 39*4 + 30 + 4})
}

// testReady: Ready comes when there is something, and not again before Next
// has run empty.
func testReady(k *kit) {
	a := k.session("a")
	a.expect("new", 0)
	for i := range 20 {
		for j := range 5 {
			k.must(k.message(fmt.Sprint("t/", i, "/", j), 0), a.target())
		}
		await(k, "Ready", a.ready)
		a.next(2, 0) // not empty
		k.must(k.message("one more", 0), a.target())
		a.drain(0)
	}
	a.s.Detach(100, false, nil, 0)
	k.must(k.message("while away", 0), a.target())
	k.close() // what is late has come
	if n := int(a.readies.Load()); n > a.said {
		k.Errorf("Ready came %d times, and Next ran empty %d times", n, a.said)
	}
}

// testNoLostWakeUp: who waits for Ready after Next ran empty gets everything.
func testNoLostWakeUp(k *kit) {
	const publishers, each = 3, 700
	a := k.session("a")
	to := []store.Target{a.target()}
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range each {
				k.start(k.message(fmt.Sprintf("%d/%d", p, i), 0), store.Inbound{}, to)
			}
		})
	}
	defer wg.Wait()
	got := a.drain(0)
	for len(got) < publishers*each {
		await(k, fmt.Sprintf("Ready after %d messages of %d", len(got), publishers*each), a.ready)
		got = append(got, a.drain(0)...)
	}
	wg.Wait()
	k.close()
	if n := int(a.readies.Load()); n > a.said+1 {
		k.Errorf("Ready came %d times, and Next ran empty %d times", n, a.said)
	}
}

// testEnd: what waits is discarded, but what came through shared subscriptions
// and was not handed out comes back, in order.
func testEnd(k *kit) {
	a := k.session("a")
	for i := range 6 {
		to := a.target()
		if i%2 == 0 {
			to.Flags = store.Shared
		}
		k.must(k.message(fmt.Sprint("t/", i), 0), to)
	}
	a.next(1, 0)
	if got := topics(a.s.Shared()); !slices.Equal(got, []string{"t/2", "t/4"}) {
		k.Errorf("Shared returns %q, want t/2 and t/4", got)
	}
	shared, _ := a.s.End(nil, 0)
	if got := topics(shared); !slices.Equal(got, []string{"t/2", "t/4"}) {
		k.Errorf("End returns %q, want t/2 and t/4", got)
	}
	k.stats("ended", store.Stats{})
	k.must(k.message("t/7", 0), a.target())
	k.stats("nothing waits for it", store.Stats{})
	a.expect("ended", 0)
	if got, _ := a.s.End(nil, 0); len(got) != 0 {
		k.Errorf("a second End returns %q", topics(got))
	}
	if c := k.session("a"); c.st != nil {
		k.Errorf("the next session has a state: %+v", c.st)
	}
	a.s.End(nil, 0)
	k.stats("the old one ends, not the new one", store.Stats{Sessions: 1})
}

// testHandshakes: every call is completed exactly once.
func testHandshakes(k *kit) {
	a := k.session("a")
	if err := k.publish(k.message("t", 0), store.Inbound{From: a.s, ID: 9}, store.Target{To: a.s, QoS: 2}); err != nil {
		k.Error(err)
	}
	d := a.drain(0)
	if len(d) != 1 {
		k.Fatalf("%d messages", len(d))
	}
	for name, f := range map[string]func(c *call) bool{
		"Subscribe": func(c *call) bool {
			return a.s.Subscribe([]store.Sub{{Filter: "t", ID: 1}, {Filter: "u/#", Options: packet.SubOptions(1)}}, c, c.tok)
		},
		"Unsubscribe": func(c *call) bool { return a.s.Unsubscribe([]string{"t", "unknown"}, c, c.tok) },
		"Release2":    func(c *call) bool { return a.s.Release2(9, c, c.tok) },
		"outgoing": func(c *call) bool {
			sent := k.call()
			if a.s.Sent2(d[0].LSN, 1, sent, sent.tok) {
				sent.finish(nil)
			}
			if err := await(k, "the completion of Sent2", sent.c); err != nil {
				k.Error(err)
			}
			return a.s.Received2(1, c, c.tok)
		},
	} {
		c := k.call()
		if f(c) {
			c.finish(nil)
		}
		if err := await(k, "the completion of "+name, c.c); err != nil {
			k.Errorf("%s: %v", name, err)
		}
	}
	a.s.Ack(d[0].LSN)
	k.leave(a)
	k.close() // a second completion would have come
}

// leave detaches a session that is claimed again before it is done, and then
// ends it, twice.
func (k *kit) leave(a *client) {
	k.Helper()
	left := k.call()
	if a.s.Detach(100, false, left, left.tok) {
		left.finish(nil)
	}
	b := k.session(a.id)
	if b.st == nil {
		k.Error("the session is gone")
	}
	if err := await(k, "the completion of Detach", left.c); err != nil {
		k.Errorf("Detach: %v", err)
	}
	k.must(k.message("t", 0), b.target())
	b.expect("detached before it was claimed", 0, "t")
	for range 2 {
		ended := k.call()
		if _, done := b.s.End(ended, ended.tok); done {
			ended.finish(nil)
		}
		if err := await(k, "the completion of End", ended.c); err != nil {
			k.Errorf("End: %v", err)
		}
	}
	left = k.call()
	if b.s.Detach(100, false, left, left.tok) {
		left.finish(nil)
	}
	if err := await(k, "the completion of Detach after End", left.c); err != nil {
		k.Errorf("Detach after End: %v", err)
	}
}

// testChurn: sessions come and go while all publish; at the end nothing is
// left over.
func testChurn(k *kit) {
	const clients, rounds = 6, 60
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for r := range rounds {
				c := k.claim(store.ClaimReq{ClientID: fmt.Sprint(i), Clean: r%7 == 6, Expiry: 10})
				for j := range 5 {
					k.start(k.message(fmt.Sprintf("%d/%d", i, j), 0), store.Inbound{}, []store.Target{c.target()})
				}
				c.next(r%8, 0)
				if r%3 == 0 {
					c.s.End(nil, 0)
				} else {
					c.s.Detach(10, false, nil, 0)
				}
			}
		})
	}
	wg.Wait()
	for i := range clients {
		k.session(fmt.Sprint(i)).s.End(nil, 0)
	}
	got := k.e.Stats()
	got.Dropped, got.Free = 0, 0
	if got != (store.Stats{}) {
		k.Errorf("nothing is left, and the engine counts %+v", got)
	}
}
