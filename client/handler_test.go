package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/myelin-mqtt/myelin/broker"
	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
)

// granted answers the next SUBSCRIBE, whose identifiers it tells.
func granted(p *peer) *packet.Subscribe {
	p.t.Helper()
	s := expect[*packet.Subscribe](p)
	a := packet.Suback{ID: s.ID}
	for _, f := range s.Filters {
		a.Codes = append(a.Codes, packet.Reason(f.Options.QoS()))
	}
	p.send(&a)
	return s
}

// TestRoute: a message goes to the handlers of its Subscription Identifiers, each
// once, and without one to those of all filters that match.
func TestRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log string
		name := func(s string) client.Handler { return func(m *client.Received) { log += s + " " } }
		_, c, p := fixed(t, client.Options{OnMessage: name("other")}, packet.Connack{})
		ids := map[string]uint32{}
		for s, fs := range map[string][]client.Subscription{
			"A": {client.Filter("a/+", 1), client.Filter("b/#", 0)}, "S": {client.Filter("$share/g/a/+", 2)}, "X": {client.Filter("a/x", 0)},
		} {
			go c.Subscribe(t.Context(), name(s), fs...)
			ids[s] = granted(p).SubID
			synctest.Wait()
		}
		for _, x := range []struct {
			topic string
			ids   []uint32
			want  []string
		}{
			{"a/x", []uint32{ids["A"]}, []string{"A "}},
			{"a/x", []uint32{ids["A"], ids["X"], ids["A"]}, []string{"A X ", "X A "}},
			{"a/y", []uint32{ids["S"]}, []string{"S "}},
			{"b", []uint32{ids["A"]}, []string{"A "}},
			{"c", []uint32{ids["A"]}, []string{"other "}}, // an identifier of an earlier program
			{"a/x", []uint32{99}, []string{"A S X ", "A X S ", "S A X ", "S X A ", "X A S ", "X S A "}},
			{"a/y", nil, []string{"A S ", "S A "}},
			{"z", nil, []string{"other "}},
		} {
			log = ""
			p.sendMessage(client.Message{Topic: x.topic}, packet.PublishOpts{SubIDs: x.ids})
			synctest.Wait()
			found := false
			for _, w := range x.want {
				found = found || w == log
			}
			if !found {
				t.Errorf("%s with %v went to %q, want %q", x.topic, x.ids, log, x.want)
			}
		}
		// A filter that is asked again belongs to the new handler.
		go c.Subscribe(t.Context(), name("N"), client.Filter("a/x", 0))
		granted(p)
		log = ""
		p.sendMessage(client.Message{Topic: "a/x"}, packet.PublishOpts{SubIDs: []uint32{ids["X"]}})
		synctest.Wait()
		if len(log) == 0 || log == "X " {
			t.Errorf("after a new subscription: %q", log)
		}
		// One that is refused belongs to nobody.
		done := make(chan error, 1)
		go func() {
			codes, err := c.Subscribe(t.Context(), name("R"), client.Filter("r", 1), client.Filter("q", 1))
			var s *client.SubscribeError
			if !errors.As(err, &s) || len(codes) != 2 || codes[1] != packet.NotAuthorized || s.Codes[0] != 1 || s.Reason != "no" {
				t.Errorf("%v, %v", codes, err)
			}
			done <- err
		}()
		s := expect[*packet.Subscribe](p)
		p.send(&packet.Suback{ID: s.ID, Codes: []packet.Reason{1, packet.NotAuthorized}, ReasonString: "no"})
		<-done
		log = ""
		p.sendMessage(client.Message{Topic: "q"}, packet.PublishOpts{})
		p.sendMessage(client.Message{Topic: "r"}, packet.PublishOpts{})
		synctest.Wait()
		if log != "other R " {
			t.Errorf("%q", log)
		}
		c.Close()
	})
}

// TestSubscribeAgain: on a server without the session, everything is asked again,
// and what was not answered; on one with it, only that.
func TestSubscribeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c, p := fixed(t, client.Options{ClientID: "c", SessionExpiry: time.Hour, MinBackoff: time.Millisecond}, packet.Connack{})
		h, got := inbox()
		go c.Subscribe(t.Context(), h, client.Filter("a", 1), client.Subscription{Filter: "b", QoS: 2, NoLocal: true, RetainHandling: 2})
		first := granted(p)
		synctest.Wait()
		done := make(chan error, 1)
		go func() { _, err := c.Subscribe(t.Context(), h, client.Filter("c", 0)); done <- err }()
		expect[*packet.Subscribe](p)
		p.c.Close()
		p, _ = f.accept(packet.Connack{SessionPresent: true})
		if s := expect[*packet.Subscribe](p); len(s.Filters) != 1 || s.Filters[0].Filter != "c" {
			t.Errorf("%s", s)
		}
		p.c.Close()
		p, _ = f.accept(packet.Connack{})
		filters := map[string]packet.SubOptions{}
		for range 2 {
			s := granted(p)
			for _, f := range s.Filters {
				filters[f.Filter] = f.Options
				if (s.SubID == first.SubID) != (f.Filter != "c") {
					t.Errorf("%s", s)
				}
			}
		}
		if len(filters) != 3 || filters["a"] != 1 || filters["b"] != 2|packet.NoLocal|2<<packet.RetainHandlingShift {
			t.Errorf("%v", filters)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		p.sendMessage(client.Message{Topic: "b"}, packet.PublishOpts{SubIDs: []uint32{first.SubID}})
		<-got
		// One that nobody waits for any more is not asked.
		p.c.Close()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		synctest.Wait()
		if err := c.Unsubscribe(ctx, "a"); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		p, _ = f.accept(packet.Connack{SessionPresent: true})
		c.Close()
		if x := p.next(); x != nil {
			t.Errorf("%s came", x)
		}
	})
}

// TestBackPressure: while handlers are busy the client stops reading, and is not
// given up for it; and a handler may publish and wait for the acknowledgement.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan bool)
		var handled atomic.Int32
		f, c, p := fixed(t, client.Options{Inbox: 4, KeepAlive: 10 * time.Second, OnMessage: func(*client.Received) { <-hold; handled.Add(1) }}, packet.Connack{})
		var sent atomic.Int32
		go func() {
			for range 100 {
				p.sendMessage(client.Message{Topic: "x"}, packet.PublishOpts{})
				sent.Add(1)
			}
		}()
		synctest.Wait()
		if n := sent.Load(); n < 4 || n > 8 {
			t.Errorf("%d were taken", n)
		}
		go func() { // the server goes on reading
			for {
				if p.next() == nil {
					return
				}
			}
		}()
		time.Sleep(time.Hour)
		for range 100 {
			hold <- true
		}
		synctest.Wait()
		if n := handled.Load(); n != 100 || len(f.conns) > 0 || c.State() != client.Connected {
			t.Errorf("%d handled, %d more connections, %v", n, len(f.conns), c.State())
		}
		c.Close()
	})
	_, url := serve(t, broker.Options{})
	c := connect(t, url, client.Options{Inbox: 2})
	var n atomic.Int32
	all := make(chan bool)
	subscribe(t, c, func(m *client.Received) {
		if _, err := c.Publish(ctx(t), &client.Message{Topic: "answer", QoS: 2}); err != nil {
			t.Error(err)
		}
		if n.Add(1) == 200 {
			close(all)
		}
	}, client.Filter("ask", 1))
	d := connect(t, url, client.Options{})
	for range 200 {
		publish(t, d, "ask", "", 1)
	}
	select {
	case <-all:
	case <-time.After(patience):
		t.Fatalf("%d handled", n.Load())
	}
}

// TestCloseInHandler: a handler may close the client that calls it.
func TestCloseInHandler(t *testing.T) {
	_, url := serve(t, broker.Options{})
	for i, end := range []func(c *client.Client){
		func(c *client.Client) { c.Close() },
		func(c *client.Client) { c.Disconnect(ctx(t)) },
	} {
		c := connect(t, url, client.Options{})
		subscribe(t, c, func(*client.Received) { end(c) }, client.Filter(fmt.Sprint(i), 1))
		_ = c.PublishAsync(ctx(t), &client.Message{Topic: fmt.Sprint(i), QoS: 1}, nil)
		select {
		case <-c.Done():
		case <-time.After(patience):
			t.Fatal("it goes on")
		}
	}
}

// TestInline: handlers run where the connection is read, in order, and their
// messages are acknowledged after them.
func TestInline(t *testing.T) {
	_, url := serve(t, broker.Options{})
	c := connect(t, url, client.Options{Inline: true})
	h, got := inbox()
	subscribe(t, c, h, client.Filter("i", 2))
	for q := range packet.QoS(3) {
		for i := range 50 {
			publish(t, c, "i", fmt.Sprint(i), q)
			if m := next(t, got); string(m.Payload) != fmt.Sprint(i) || m.QoS != q {
				t.Fatalf("%+v", m)
			}
		}
	}
}

// TestTrace: every packet is told, as it is on the wire and in its order, and
// each phase.
func TestTrace(t *testing.T) {
	_, url := serve(t, broker.Options{})
	var log []string
	last := time.Now()
	events := make(chan client.PacketEvent, 100)
	phases := make(chan client.PhaseEvent, 100)
	c := connect(t, url, client.Options{Trace: client.Trace{
		Packet: func(e client.PacketEvent) { e.Bytes = append([]byte(nil), e.Bytes...); events <- e },
		Phase:  func(e client.PhaseEvent) { phases <- e },
	}})
	publish(t, c, "x", "hello", 2)
	if err := c.Disconnect(ctx(t)); err != nil {
		t.Fatal(err)
	}
	close(events)
	for e := range events {
		p, n, err := packet.Parse(e.Bytes, 0, e.Version)
		if err != nil || n != len(e.Bytes) || e.At.Before(last) {
			t.Fatalf("%x: %v", e.Bytes, err)
		}
		last = e.At
		log = append(log, fmt.Sprint(e.Sent, p.Type()))
	}
	want := []string{"true CONNECT", "false CONNACK", "true PUBLISH", "false PUBREC", "true PUBREL", "false PUBCOMP", "true DISCONNECT"}
	if fmt.Sprint(log) != fmt.Sprint(want) {
		t.Errorf("%q, want %q", log, want)
	}
	if e := <-phases; e.Phase != client.PhaseTCP || e.Err != nil || !e.End.After(e.Begin) {
		t.Errorf("%+v", e)
	}
}

// TestWill: Close leaves the will to the server, Disconnect does not.
func TestWill(t *testing.T) {
	_, url := serve(t, broker.Options{})
	w := connect(t, url, client.Options{})
	h, got := inbox()
	subscribe(t, w, h, client.Filter("will/#", 1))
	o := client.Options{Will: &packet.Will{Message: client.Message{Topic: "will/a", Payload: []byte("gone"), QoS: 1}}}
	if err := connect(t, url, o).Disconnect(ctx(t)); err != nil {
		t.Fatal(err)
	}
	o.Will = &packet.Will{Message: client.Message{Topic: "will/b"}}
	connect(t, url, o).Close()
	if m := next(t, got); m.Topic != "will/b" {
		t.Errorf("%s", m.Topic)
	}
	o.Will = &packet.Will{Message: client.Message{Topic: "will/c"}}
	if err := connect(t, url, o).DisconnectWith(ctx(t), &packet.Disconnect{Code: packet.DisconnectWithWillMessage}); err != nil {
		t.Fatal(err)
	}
	if m := next(t, got); m.Topic != "will/c" {
		t.Errorf("%s", m.Topic)
	}
}

// proof is an authentication that says what the test wants.
type proof struct {
	heard []string
}

func (p *proof) Method() string                        { return "PROOF" }
func (p *proof) Start(context.Context) ([]byte, error) { return []byte("start"), nil }
func (p *proof) Finish(_ context.Context, data []byte) error {
	p.heard = append(p.heard, "fin:"+string(data))
	return nil
}
func (p *proof) Continue(_ context.Context, data []byte) ([]byte, error) {
	p.heard = append(p.heard, string(data))
	return []byte("re:" + string(data)), nil
}

func TestAuthentication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		a := &proof{}
		c, done := dialing(t, f.options(client.Options{Auth: a}))
		p := &peer{t: t, c: <-f.conns, v: packet.V5}
		if x := expect[*packet.Connect](p); x.AuthMethod != "PROOF" || string(x.AuthData) != "start" {
			t.Errorf("%s", x)
		}
		step := func(data string) {
			p.send(&packet.Auth{Code: packet.ContinueAuthentication, Method: "PROOF", Data: []byte(data)})
			if x := expect[*packet.Auth](p); string(x.Data) != "re:"+data || x.Code != packet.ContinueAuthentication || x.Method != "PROOF" {
				t.Errorf("%s", x)
			}
		}
		step("1")
		step("2")
		p.send(&packet.Connack{AuthMethod: "PROOF", AuthData: []byte("ok")})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		again := make(chan error, 1)
		go func() { again <- c.Reauthenticate(t.Context()) }()
		if x := expect[*packet.Auth](p); x.Code != packet.Reauthenticate || string(x.Data) != "start" {
			t.Errorf("%s", x)
		}
		step("3")
		p.send(&packet.Auth{Code: packet.Success, Method: "PROOF", Data: []byte("again")})
		if err := <-again; err != nil {
			t.Error(err)
		}
		if fmt.Sprint(a.heard) != "[1 2 fin:ok 3 fin:again]" {
			t.Errorf("%q", a.heard)
		}
		go func() { again <- c.Reauthenticate(t.Context()) }()
		expect[*packet.Auth](p)
		p.c.Close()
		if err := <-again; !errors.Is(err, client.ErrNotConnected) {
			t.Errorf("%v", err)
		}
		c.Close()
	})
}

// TestProtocolErrors: what a server must not send ends the connection, with the
// code where 5.0 has one, and the client comes back.
func TestProtocolErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last error
		f, c, p := fixed(t, client.Options{MinBackoff: time.Millisecond, MaxBackoff: time.Millisecond, MaxPacket: 1000, OnState: func(e client.StateEvent) {
			if e.State == client.Waiting {
				last = e.Err
			}
		}}, packet.Connack{})
		for _, x := range []struct {
			b    []byte
			code packet.Reason
		}{
			{[]byte{0xF0, 0}, packet.ProtocolError},              // AUTH that was not asked for
			{[]byte{0x00, 0}, packet.MalformedPacket},            // no type
			{[]byte{0x90, 4, 0, 9, 0, 0}, packet.ProtocolError},  // SUBACK of nothing
			{[]byte{0xB0, 4, 0, 9, 0, 0}, packet.ProtocolError},  // UNSUBACK of nothing
			{[]byte{0xC0, 0}, packet.ProtocolError},              // PINGREQ
			{[]byte{0x20, 3, 0, 0, 0}, packet.ProtocolError},     // another CONNACK
			{[]byte{0x30, 0xFF, 0xFF, 3}, packet.PacketTooLarge}, // longer than it takes
			{[]byte{0x30, 5, 0, 2, '+', '/', 0}, packet.TopicNameInvalid},
			{[]byte{0x36, 6, 0, 1, 'a', 0, 1, 0}, packet.MalformedPacket}, // QoS 3
		} {
			if _, err := p.c.Write(x.b); err != nil {
				t.Fatal(err)
			}
			d := expect[*packet.Disconnect](p)
			if d.Code != x.code {
				t.Errorf("%x: %s, want %s", x.b, d, x.code)
			}
			var e *packet.Error
			p, _ = f.accept(packet.Connack{})
			if !errors.As(last, &e) || e.Code != d.Code {
				t.Errorf("%x: %v", x.b, last)
			}
		}
		p.send(&packet.Disconnect{Code: packet.ServerMoved, ServerReference: "there:1883", ReasonString: "gone"})
		f.accept(packet.Connack{})
		var r *client.ReasonError
		if !errors.As(last, &r) || r.Server != "there:1883" || r.Reason != "gone" || r.Packet != packet.DISCONNECT {
			t.Errorf("%v", last)
		}
		c.Close()
	})
}
