package client_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
)

// fake is a server that does what a test says, packet by packet, over pipes: the
// clock of a synctest bubble rules it.
type fake struct {
	t     *testing.T
	conns chan net.Conn
}

func newFake(t *testing.T) *fake { return &fake{t, make(chan net.Conn, 10)} }

// options are those that connect to it.
func (f *fake) options(o client.Options) client.Options {
	o.Servers = []string{"tcp://fake"}
	o.Dial = func(context.Context, string, string) (net.Conn, error) {
		a, b := net.Pipe()
		f.conns <- b
		return a, nil
	}
	return o
}

// peer is a connection of it.
type peer struct {
	t   *testing.T
	c   net.Conn
	v   packet.Version
	buf []byte
}

// accept takes a connection and answers its CONNECT.
func (f *fake) accept(ack packet.Connack) (*peer, *packet.Connect) {
	f.t.Helper()
	p := &peer{t: f.t, c: <-f.conns, v: packet.V5}
	c := expect[*packet.Connect](p)
	p.v = c.Version
	p.send(&ack)
	synctest.Wait() // until the client knows
	return p, c
}

func (p *peer) send(x packet.Packet) {
	p.t.Helper()
	if _, err := p.c.Write(x.Append(nil, p.v)); err != nil {
		p.t.Fatalf("send %s: %v", x, err)
	}
}

// sendMessage sends a PUBLISH.
func (p *peer) sendMessage(m client.Message, o packet.PublishOpts) {
	p.t.Helper()
	x, err := packet.NewPublish(&m, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	o.QoS = m.QoS
	if _, err := p.c.Write(packet.AppendPublish(nil, x, p.v, o)); err != nil {
		p.t.Fatalf("send a message: %v", err)
	}
}

// next is the next packet, nil at the end of the connection.
func (p *peer) next() packet.Packet {
	p.t.Helper()
	for {
		x, n, err := packet.Parse(p.buf, 0, p.v)
		if err != nil {
			p.t.Fatalf("parse %x: %v", p.buf, err)
		}
		if n > 0 {
			p.buf = append([]byte(nil), p.buf[n:]...) // x may be a view of what it was
			return x
		}
		b := make([]byte, 4096)
		k, err := p.c.Read(b)
		if err != nil {
			return nil
		}
		p.buf = append(p.buf, b[:k]...)
	}
}

// expect is the next packet, which must be a T.
func expect[T packet.Packet](p *peer) T {
	p.t.Helper()
	x := p.next()
	want, ok := x.(T)
	if !ok {
		p.t.Fatalf("%v came, want %T", x, want)
	}
	return want
}

// dialing connects in the background.
func dialing(t *testing.T, o client.Options) (*client.Client, chan error) {
	t.Helper()
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Connect(t.Context()) }()
	return c, done
}

// fixed is a client connected to a fake server.
func fixed(t *testing.T, o client.Options, ack packet.Connack) (*fake, *client.Client, *peer) {
	t.Helper()
	f := newFake(t)
	c, done := dialing(t, f.options(o))
	p, _ := f.accept(ack)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return f, c, p
}

func ptr[T any](x T) *T { return &x }

// TestKeepAlive: PINGREQ comes when this end was quiet, and when the other was;
// it does not while there is traffic both ways; a server that does not answer is
// given up.
func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c, p := fixed(t, client.Options{KeepAlive: 100 * time.Second, MinBackoff: time.Millisecond}, packet.Connack{})
		begin := time.Now()
		expect[*packet.Pingreq](p)
		if d := time.Since(begin); d < 90*time.Second || d > 100*time.Second {
			t.Errorf("the first PINGREQ after %s", d)
		}
		p.send(&packet.Pingresp{})
		// Traffic both ways for a while.
		subscribed := make(chan error, 1)
		h, got := inbox()
		go func() { _, err := c.Subscribe(t.Context(), h, client.Filter("x", 0)); subscribed <- err }()
		s := expect[*packet.Subscribe](p)
		p.send(&packet.Suback{ID: s.ID, Codes: []packet.Reason{0}})
		if err := <-subscribed; err != nil {
			t.Fatal(err)
		}
		for range 10 {
			time.Sleep(50 * time.Second)
			go c.Publish(t.Context(), &client.Message{Topic: "y"})
			expect[*packet.Publish](p)
			p.sendMessage(client.Message{Topic: "x"}, packet.PublishOpts{})
			<-got
		}
		// It publishes, and hears nothing: that must be noticed.
		for range 2 {
			time.Sleep(45 * time.Second)
			go c.Publish(t.Context(), &client.Message{Topic: "y"})
			expect[*packet.Publish](p)
		}
		expect[*packet.Pingreq](p)
		begin = time.Now()
		if x := p.next(); x != nil {
			t.Fatalf("%s came", x)
		}
		if d := time.Since(begin); d != 10*time.Second {
			t.Errorf("given up after %s", d)
		}
		f.accept(packet.Connack{})
		c.Close()
	})
}

// TestServerKeepAlive: the server's word counts, and 0 is none.
func TestServerKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c, p := fixed(t, client.Options{}, packet.Connack{ServerKeepAlive: ptr(uint16(10))})
		begin := time.Now()
		expect[*packet.Pingreq](p)
		if d := time.Since(begin); d != 9*time.Second {
			t.Errorf("PINGREQ after %s", d)
		}
		c.Close()
		_, c, p = fixed(t, client.Options{KeepAlive: -1}, packet.Connack{})
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		c.Close()
		if x := p.next(); x != nil {
			t.Errorf("%s came", x)
		}
	})
}

// TestAckOrder: acknowledgements leave in the order of the messages, whatever the
// order of the handlers' words. [MQTT-4.6.0-2]
func TestAckOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, got := inbox()
		_, c, p := fixed(t, client.Options{ManualAck: true, OnMessage: h}, packet.Connack{})
		var ms []*client.Received
		for id := range uint16(4) {
			q := packet.QoS(1 + id%2)
			p.sendMessage(client.Message{Topic: "x", QoS: q}, packet.PublishOpts{ID: id + 1})
			ms = append(ms, <-got)
		}
		for _, i := range []int{3, 1, 0, 0, 2} {
			ms[i].Ack()
		}
		for id := range uint16(4) {
			a := expect[*packet.Ack](p)
			if want := []packet.Type{packet.PUBACK, packet.PUBREC}[id%2]; a.ID != id+1 || a.Kind != want {
				t.Errorf("%s %d, want %s %d", a.Kind, a.ID, want, id+1)
			}
		}
		c.Close()
	})
}

// TestExactlyOnceIn: a QoS 2 message that comes again, on the same connection or
// the next, is handed out once and acknowledged; not before its handler says so.
func TestExactlyOnceIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, got := inbox()
		f, c, p := fixed(t, client.Options{
			ClientID: "c", SessionExpiry: time.Hour, ManualAck: true, OnMessage: h, MinBackoff: time.Millisecond,
		}, packet.Connack{})
		m := client.Message{Topic: "x", QoS: 2}
		p.sendMessage(m, packet.PublishOpts{ID: 7})
		first := <-got
		p.c.Close()
		p, _ = f.accept(packet.Connack{SessionPresent: true})
		p.sendMessage(m, packet.PublishOpts{ID: 7, Dup: true})
		p.send(&packet.Pingresp{}) // behind it
		synctest.Wait()
		none(t, got)
		first.Ack()
		if a := expect[*packet.Ack](p); a.Kind != packet.PUBREC || a.ID != 7 {
			t.Errorf("%s", a)
		}
		p.sendMessage(m, packet.PublishOpts{ID: 7, Dup: true})
		if a := expect[*packet.Ack](p); a.Kind != packet.PUBREC || a.ID != 7 {
			t.Errorf("%s", a)
		}
		p.send(&packet.Ack{Kind: packet.PUBREL, ID: 7})
		if a := expect[*packet.Ack](p); a.Kind != packet.PUBCOMP || a.Code != packet.Success {
			t.Errorf("%s", a)
		}
		p.send(&packet.Ack{Kind: packet.PUBREL, ID: 7})
		if a := expect[*packet.Ack](p); a.Kind != packet.PUBCOMP || a.Code != packet.PacketIdentifierNotFound {
			t.Errorf("%s", a)
		}
		p.sendMessage(m, packet.PublishOpts{ID: 7}) // another message
		(<-got).Ack()
		expect[*packet.Ack](p)
		if s := c.Stats(); s.Duplicates != 2 {
			t.Errorf("%+v", s)
		}
		c.Close()
	})
}

// TestExactlyOnceOut: PUBLISH is sent again with DUP and its identifier until the
// PUBREC has come, PUBREL after that.
func TestExactlyOnceOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c, p := fixed(t, client.Options{ClientID: "c", SessionExpiry: time.Hour, MinBackoff: time.Millisecond}, packet.Connack{})
		done := make(chan error, 1)
		go func() { _, err := c.Publish(t.Context(), &client.Message{Topic: "x", QoS: 2}); done <- err }()
		m := expect[*packet.Publish](p)
		p.c.Close()
		p, _ = f.accept(packet.Connack{SessionPresent: true})
		again := expect[*packet.Publish](p)
		if m.Dup() || !again.Dup() || again.ID != m.ID {
			t.Errorf("%s, then %s", m, again)
		}
		p.send(&packet.Ack{Kind: packet.PUBREC, ID: m.ID})
		if a := expect[*packet.Ack](p); a.Kind != packet.PUBREL || a.ID != m.ID {
			t.Errorf("%s", a)
		}
		p.c.Close()
		p, _ = f.accept(packet.Connack{SessionPresent: true})
		if a := expect[*packet.Ack](p); a.Kind != packet.PUBREL || a.ID != m.ID {
			t.Errorf("%s", a)
		}
		p.send(&packet.Ack{Kind: packet.PUBCOMP, ID: m.ID})
		if err := <-done; err != nil {
			t.Error(err)
		}
		// The server forgets the session while a message is in flight: it is new.
		go func() { _, err := c.Publish(t.Context(), &client.Message{Topic: "y", QoS: 2}); done <- err }()
		expect[*packet.Publish](p)
		p.c.Close()
		p, _ = f.accept(packet.Connack{})
		m = expect[*packet.Publish](p)
		if m.Dup() {
			t.Errorf("%s", m)
		}
		// And after the PUBREC: the server has taken the message over.
		p.send(&packet.Ack{Kind: packet.PUBREC, ID: m.ID})
		expect[*packet.Ack](p)
		p.c.Close()
		f.accept(packet.Connack{})
		if err := <-done; err != nil {
			t.Error(err)
		}
		c.Close()
	})
}

// TestIdentifiers: SUBSCRIBE never has the packet identifier of a message that is
// in flight, nor a message that of a SUBSCRIBE. [MQTT-2.2.1-3]
func TestIdentifiers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c, p := fixed(t, client.Options{}, packet.Connack{})
		h, _ := inbox()
		taken := map[uint16]string{}
		take := func(id uint16, by string) {
			if old, ok := taken[id]; ok || id == 0 {
				t.Fatalf("identifier %d of %s is that of %s", id, by, old)
			}
			taken[id] = by
		}
		for i := range 30 {
			if i%3 == 0 {
				go c.Subscribe(t.Context(), h, client.Filter("x", 0))
				take(expect[*packet.Subscribe](p).ID, "SUBSCRIBE")
				continue
			}
			if err := c.PublishAsync(t.Context(), &client.Message{Topic: "x", QoS: 1}, nil); err != nil {
				t.Fatal(err)
			}
			take(expect[*packet.Publish](p).ID, "PUBLISH")
		}
		c.Close()
	})
}

func TestReceiveMaximum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c, p := fixed(t, client.Options{ReceiveMaximum: 2, ManualAck: true}, packet.Connack{ReceiveMax: ptr(uint16(3))})
		for i := range 10 {
			if err := c.PublishAsync(t.Context(), &client.Message{Topic: "x", QoS: packet.QoS(1 + i%2)}, nil); err != nil {
				t.Fatal(err)
			}
		}
		for id := range uint16(3) {
			if m := expect[*packet.Publish](p); m.ID != id+1 {
				t.Errorf("%s", m)
			}
		}
		synctest.Wait()
		if s := c.Stats(); s.Sent != 3 || s.Queued != 7 || s.Inflight != 3 {
			t.Errorf("%+v", s)
		}
		p.send(&packet.Ack{Kind: packet.PUBACK, ID: 1})
		if m := expect[*packet.Publish](p); m.ID != 4 {
			t.Errorf("%s", m)
		}
		// A PUBREC gives no room, a PUBCOMP does. [MQTT-4.9.0-2]
		p.send(&packet.Ack{Kind: packet.PUBREC, ID: 2})
		if a := expect[*packet.Ack](p); a.Kind != packet.PUBREL {
			t.Errorf("%s", a)
		}
		synctest.Wait()
		if s := c.Stats(); s.Sent != 4 {
			t.Errorf("%+v", s)
		}
		p.send(&packet.Ack{Kind: packet.PUBCOMP, ID: 2})
		expect[*packet.Publish](p)
		// The server sends one too many.
		for id := range uint16(3) {
			p.sendMessage(client.Message{Topic: "y", QoS: 1}, packet.PublishOpts{ID: id + 1})
			if id < 2 {
				// Nobody wants them, and they are acknowledged; so use QoS 2 from here.
				expect[*packet.Ack](p)
			}
		}
		expect[*packet.Ack](p)
		for id := range uint16(3) {
			p.sendMessage(client.Message{Topic: "y", QoS: 2}, packet.PublishOpts{ID: id + 1})
			if id < 2 {
				expect[*packet.Ack](p)
			}
		}
		if d := expect[*packet.Disconnect](p); d.Code != packet.ReceiveMaximumExceeded {
			t.Errorf("%s", d)
		}
		c.Close()
	})
}

func TestQueue(t *testing.T) {
	for name, x := range map[string]struct {
		full client.QueueFull
		errs []error // of five messages for a queue of three
	}{
		"wait":   {client.Wait, []error{nil, nil, nil, context.DeadlineExceeded, context.DeadlineExceeded}},
		"refuse": {client.Refuse, []error{nil, nil, nil, client.ErrQueueFull, client.ErrQueueFull}},
		"drop":   {client.DropOldest, []error{client.ErrDropped, client.ErrDropped, nil, nil, nil}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				c, err := client.New(f.options(client.Options{QueueMessages: 3, QueueFull: x.full}))
				if err != nil {
					t.Fatal(err)
				}
				if err := c.PublishAsync(t.Context(), &client.Message{Topic: "x"}, nil); !errors.Is(err, client.ErrNotConnected) {
					t.Errorf("QoS 0: %v", err)
				}
				got := make([]error, 5)
				sent := 0
				for i := range got {
					got[i] = errors.New("nothing")
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					m := client.Message{Topic: "x", Payload: []byte{byte(i)}, QoS: 1}
					if err := c.PublishAsync(ctx, &m, func(_ client.Receipt, err error) { got[i] = err }); err != nil {
						got[i] = err
					} else {
						sent++
					}
					cancel()
				}
				done := make(chan error)
				go func() { done <- c.Connect(t.Context()) }()
				p, _ := f.accept(packet.Connack{})
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				for range 3 {
					m := expect[*packet.Publish](p)
					p.send(&packet.Ack{Kind: packet.PUBACK, ID: m.ID})
				}
				synctest.Wait()
				for i, want := range x.errs {
					if !errors.Is(got[i], want) {
						t.Errorf("message %d: %v, want %v", i, got[i], want)
					}
				}
				c.Close()
			})
		})
	}
}
