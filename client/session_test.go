package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/myelin-mqtt/myelin/broker"
	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
)

// memory is a Store that another client can read again.
type memory struct {
	s       client.State
	commits int
	err     error
}

func (m *memory) Load() (client.State, error) { return m.s, nil }
func (m *memory) Close() error                { return nil }
func (m *memory) Commit(rs []client.Record) error {
	if m.err != nil {
		return m.err
	}
	m.commits++
	for _, r := range rs {
		r.Packet = slices.Clone(r.Packet)
		m.s.Apply(r)
	}
	return nil
}

// TestStore: a client that dies leaves its messages, handshakes and what it has
// received to the next.
func TestStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &memory{}
		o := client.Options{ClientID: "c", SessionExpiry: time.Hour, Store: s}
		h, got := inbox()
		o.OnMessage = h
		_, c, p := fixed(t, o, packet.Connack{ReceiveMax: ptr(uint16(3))})
		for i, q := range []packet.QoS{1, 2, 2, 1, 2} {
			m := client.Message{Topic: "x", Payload: []byte{byte(i)}, QoS: q, Retain: i == 0}
			if err := c.PublishAsync(t.Context(), &m, nil); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			expect[*packet.Publish](p)
		}
		p.send(&packet.Ack{Kind: packet.PUBREC, ID: 2})
		expect[*packet.Ack](p)
		p.sendMessage(client.Message{Topic: "in", QoS: 2}, packet.PublishOpts{ID: 9})
		<-got
		expect[*packet.Ack](p)
		c.Close() // it dies

		o.OnMessage = h
		o.Store = &memory{s: s.s}
		_, c, p = fixed(t, o, packet.Connack{SessionPresent: true})
		if a := expect[*packet.Ack](p); a.Kind != packet.PUBREL || a.ID != 2 {
			t.Errorf("%s", a)
		}
		for i, want := range []struct {
			id      uint16
			dup     bool
			payload byte
		}{{1, true, 0}, {3, true, 2}, {4, false, 3}, {5, false, 4}} {
			m := expect[*packet.Publish](p)
			if m.ID != want.id || m.Dup() != want.dup || m.Payload()[0] != want.payload || m.Retain() != (i == 0) {
				t.Errorf("%s, want %+v", m, want)
			}
		}
		p.sendMessage(client.Message{Topic: "in", QoS: 2}, packet.PublishOpts{ID: 9, Dup: true})
		if a := expect[*packet.Ack](p); a.Kind != packet.PUBREC || a.ID != 9 {
			t.Errorf("%s", a)
		}
		none(t, got)
		for id, q := range []packet.Type{packet.PUBACK, 0, packet.PUBREC, packet.PUBACK, packet.PUBREC} {
			if q != 0 {
				p.send(&packet.Ack{Kind: q, ID: uint16(id + 1)})
			}
		}
		for _, id := range []uint16{3, 5} {
			if a := expect[*packet.Ack](p); a.Kind != packet.PUBREL || a.ID != id {
				t.Errorf("%s", a)
			}
		}
		for _, id := range []uint16{2, 3, 5} {
			p.send(&packet.Ack{Kind: packet.PUBCOMP, ID: id})
		}
		p.send(&packet.Ack{Kind: packet.PUBREL, ID: 9})
		expect[*packet.Ack](p)
		synctest.Wait()
		c.Close()
		if k := o.Store.(*memory).s; len(k.Out) != 0 || len(k.In) != 0 || k.Next != 6 || k.ClientID != "c" {
			t.Errorf("%+v is left", k)
		}
	})
}

// TestStoreFails: nothing leaves that could not be kept, and the client ends.
func TestStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &memory{}
		_, c, p := fixed(t, client.Options{ClientID: "c", SessionExpiry: time.Hour, Store: s}, packet.Connack{})
		synctest.Wait()
		s.err = errors.New("disk is full")
		if err := c.PublishAsync(t.Context(), &client.Message{Topic: "x", QoS: 1}, nil); !errors.Is(err, s.err) || !errors.Is(err, client.ErrClosed) {
			t.Errorf("%v", err)
		}
		if x := p.next(); x != nil {
			t.Errorf("%s came", x)
		}
		<-c.Done()
		if !errors.Is(c.Err(), s.err) {
			t.Errorf("ended by %v", c.Err())
		}
	})
}

func TestStoreOfAnother(t *testing.T) {
	s := &memory{s: client.State{ClientID: "a"}}
	if _, err := client.New(client.Options{Servers: []string{"x"}, ClientID: "b", Store: s}); err == nil || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("%v", err)
	}
}

// TestRefused: the reason code and string of the server are in the error, in all
// versions, and a server without 5.0 is spoken to in 3.1.1.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		_, done := dialing(t, f.options(client.Options{}))
		f.accept(packet.Connack{Code: packet.NotAuthorized, ReasonString: "not you"})
		var r *client.ReasonError
		if err := <-done; !errors.As(err, &r) || r.Code != packet.NotAuthorized || r.Reason != "not you" || r.Packet != packet.CONNACK {
			t.Errorf("%v", err)
		}
		// 5.0 is refused in its form and in that of 3.1.1.
		for i := range 2 {
			c, done := dialing(t, f.options(client.Options{ClientID: "c"}))
			if i == 0 {
				f.accept(packet.Connack{Code: packet.UnsupportedProtocolVersion})
			} else {
				p := &peer{t: t, c: <-f.conns, v: packet.V311}
				expect[*packet.Connect](p)
				p.send(&packet.Connack{Code: packet.UnsupportedProtocolVersion})
			}
			_, x := f.accept(packet.Connack{})
			if err := <-done; err != nil || x.Version != packet.V311 {
				t.Errorf("%v, version %s", err, x.Version)
			}
			c.Close()
		}
		_, done = dialing(t, f.options(client.Options{Version: packet.V5}))
		f.accept(packet.Connack{Code: packet.UnsupportedProtocolVersion})
		if err := <-done; !errors.As(err, &r) || r.Code != packet.UnsupportedProtocolVersion {
			t.Errorf("%v", err)
		}
	})
}

func TestTakenOver(t *testing.T) {
	_, url := serve(t, broker.Options{})
	a := connect(t, url, client.Options{ClientID: "one"})
	connect(t, url, client.Options{ClientID: "one"})
	select {
	case <-a.Done():
	case <-time.After(patience):
		t.Fatal("the first client goes on")
	}
	var r *client.ReasonError
	if !errors.As(a.Err(), &r) || r.Code != packet.SessionTakenOver {
		t.Errorf("ended by %v", a.Err())
	}
	if _, err := a.Publish(ctx(t), &client.Message{Topic: "x"}); !errors.Is(err, client.ErrClosed) || !errors.As(err, &r) {
		t.Errorf("publish: %v", err)
	}
	if _, err := a.Subscribe(ctx(t), func(*client.Received) {}, client.Filter("x", 0)); !errors.Is(err, client.ErrClosed) {
		t.Errorf("subscribe: %v", err)
	}
}

// TestServers: they are tried in order; each attempt and its end are told.
func TestServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tried []string
		var states []string
		f := newFake(t)
		o := f.options(client.Options{
			RetryConnect: true, MinBackoff: time.Second, MaxBackoff: 4 * time.Second,
			OnState: func(e client.StateEvent) {
				states = append(states, fmt.Sprint(e.State, e.Server, e.Attempt, e.Err != nil))
			},
		})
		pipe := o.Dial
		o.Servers = []string{"tcp://a", "tcp://b:99"}
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if tried = append(tried, address); len(tried) < 6 {
				return nil, errors.New("nobody is there")
			}
			return pipe(ctx, network, address)
		}
		begin := time.Now()
		c, done := dialing(t, o)
		f.accept(packet.Connack{})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		// Two waits, of 1 s and 2 s, each shortened by a half at most.
		if d := time.Since(begin); d < 1500*time.Millisecond || d > 3*time.Second {
			t.Errorf("took %s", d)
		}
		c.Close()
		if got, want := strings.Join(tried, " "), strings.TrimSpace(strings.Repeat("a:1883 b:99 ", 3)); got != want {
			t.Errorf("tried %s, want %s", got, want)
		}
		if len(states) != 10 || states[9] != fmt.Sprint(client.Closed, "", 0, false) {
			t.Errorf("states %q", states)
		}
		// Without RetryConnect one round is all.
		o.RetryConnect, tried = false, nil
		_, done = dialing(t, o)
		if err := <-done; err == nil || len(tried) != 2 {
			t.Errorf("%v after %d attempts", err, len(tried))
		}
		// And it ends with the context of Connect.
		o.RetryConnect, tried = true, nil
		o.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("nobody is there") }
		c, err := client.New(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.Connect(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "nobody is there") {
			t.Errorf("%v", err)
		}
	})
}

// TestCleanStart: below 5.0 a session that lives on is begun anew in two steps,
// and only at the first connection.
func TestCleanStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		o := client.Options{Version: packet.V311, ClientID: "c", CleanStart: true, SessionExpiry: -1, MinBackoff: time.Millisecond}
		c, done := dialing(t, f.options(o))
		p, x := f.accept(packet.Connack{})
		if !x.CleanStart {
			t.Error("the first does not begin anew")
		}
		expect[*packet.Disconnect](p)
		p, x = f.accept(packet.Connack{})
		if x.CleanStart {
			t.Error("the second begins anew")
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		p.c.Close()
		if _, x = f.accept(packet.Connack{SessionPresent: true}); x.CleanStart {
			t.Error("it begins anew when it comes back")
		}
		c.Close()
		o.Version = packet.V5
		c, done = dialing(t, f.options(o))
		if p, x = f.accept(packet.Connack{}); !x.CleanStart || x.SessionExpiry != 0xFFFFFFFF {
			t.Errorf("%s", x)
		}
		<-done
		p.c.Close()
		if _, x = f.accept(packet.Connack{SessionPresent: true}); x.CleanStart {
			t.Error("it begins anew when it comes back")
		}
		c.Close()
	})
}

// TestConnectPacket: everything that Options say is in the CONNECT.
func TestConnectPacket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		asked := 0
		o := f.options(client.Options{
			ClientID: "c", KeepAlive: 90 * time.Second, SessionExpiry: time.Minute, ReceiveMaximum: 7, MaxPacket: 5000, TopicAliasMaximum: -1,
			Will: &packet.Will{Message: packet.Message{Topic: "w", Payload: []byte("gone"), QoS: 1, Retain: true}, Delay: 5},
			User: []packet.UserProperty{{Key: "a", Value: "b"}},
			Credentials: func(context.Context) (string, []byte, error) {
				asked++
				return "anna", fmt.Append(nil, "secret", asked), nil
			},
			MinBackoff: time.Millisecond,
		})
		c, done := dialing(t, o)
		for i := 1; i <= 2; i++ {
			p, x := f.accept(packet.Connack{AssignedClientID: "other"})
			if x.ClientID != "c" || x.KeepAlive != 90 || x.SessionExpiry != 60 || x.ReceiveMax != 7 || x.MaxPacket != 5000 || x.AliasMax != 0 ||
				x.Will == nil || x.Will.Topic != "w" || x.Will.Delay != 5 || x.Will.QoS != 1 || !x.Will.Retain ||
				x.Username != "anna" || string(x.Password) != fmt.Sprint("secret", i) || len(x.User) != 1 {
				t.Errorf("%s", x)
			}
			if i == 1 {
				<-done
			}
			p.c.Close()
		}
		c.Close()
	})
	// A user and password of the URL, and none below 5.0 without a user name.
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		o := f.options(client.Options{Version: packet.V311})
		o.Servers = []string{"mqtt://a%40b:c%3Ad@host"}
		c, done := dialing(t, o)
		if _, x := f.accept(packet.Connack{}); x.Username != "a@b" || string(x.Password) != "c:d" || x.ClientID == "" {
			t.Errorf("%s", x)
		}
		<-done
		c.Close()
	})
}

// TestAliases: topics are sent once, also by the server, and wrong aliases end
// the connection with the code for them.
func TestAliases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, got := inbox()
		f, c, p := fixed(t, client.Options{OnMessage: h, MinBackoff: time.Millisecond}, packet.Connack{AliasMax: ptr(uint16(2))})
		send := func(topic string) *packet.Publish {
			if err := c.PublishAsync(t.Context(), &client.Message{Topic: topic}, nil); err != nil {
				t.Fatal(err)
			}
			return expect[*packet.Publish](p)
		}
		for _, x := range []struct {
			topic, sent string
			alias       uint16
		}{{"long/1", "long/1", 1}, {"long/1", "", 1}, {"long/2", "long/2", 2}, {"long/3", "long/3", 0}, {"long/2", "", 2}, {"x", "x", 0}} {
			if m := send(x.topic); string(m.Topic()) != x.sent || m.Alias != x.alias {
				t.Errorf("%s: sent as %q, alias %d", x.topic, m.Topic(), m.Alias)
			}
		}
		for i := range 100 { // one that is not used gives way
			send(fmt.Sprint("other/", i))
		}
		if m := send("other/99"); len(m.Topic()) > 0 && m.Alias == 0 {
			send("other/99")
		}
		p.sendMessage(client.Message{Topic: "from/server"}, packet.PublishOpts{Alias: 16})
		p.sendMessage(client.Message{Topic: "from/server"}, packet.PublishOpts{Alias: 16, OmitTopic: true})
		for range 2 {
			if m := <-got; m.Topic != "from/server" {
				t.Errorf("%q", m.Topic)
			}
		}
		for _, x := range []struct {
			o    packet.PublishOpts
			code packet.Reason
		}{
			{packet.PublishOpts{Alias: 17}, packet.TopicAliasInvalid},
			{packet.PublishOpts{Alias: 3, OmitTopic: true}, packet.ProtocolError},
		} {
			p.sendMessage(client.Message{Topic: "from/server"}, x.o)
			if d := expect[*packet.Disconnect](p); d.Code != x.code {
				t.Errorf("%+v: %s", x.o, d)
			}
			p, _ = f.accept(packet.Connack{AliasMax: ptr(uint16(2))})
			if m := send("long/1"); string(m.Topic()) != "long/1" || m.Alias != 1 {
				t.Errorf("on the next connection: %s", m)
			}
		}
		c.Close()
	})
}

// TestLimitsOfServer: what the CONNACK forbids is refused here.
func TestLimitsOfServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c, done := dialing(t, f.options(client.Options{}))
		var early []error // of messages that were taken before the limits were known
		for _, m := range []client.Message{{Topic: "x", QoS: 2}, {Topic: "x", QoS: 1, Payload: make([]byte, 200)}, {Topic: "x", QoS: 1, HasExpiry: true, Expiry: 1}} {
			if err := c.PublishAsync(t.Context(), &m, func(_ client.Receipt, err error) { early = append(early, err) }); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Second)
		p, _ := f.accept(packet.Connack{
			MaxQoS: ptr(packet.QoS(1)), RetainAvailable: ptr(false), MaxPacket: ptr(uint32(100)), SharedAvailable: ptr(false), WildcardAvailable: ptr(false),
		})
		<-done
		h, _ := inbox()
		if _, err := c.Publish(t.Context(), &client.Message{Topic: "x", QoS: 2}); !errors.Is(err, client.ErrUnsupported) {
			t.Errorf("QoS 2: %v", err)
		}
		if _, err := c.Publish(t.Context(), &client.Message{Topic: "x", Retain: true}); !errors.Is(err, client.ErrUnsupported) {
			t.Errorf("retain: %v", err)
		}
		for q := range packet.QoS(2) {
			if _, err := c.Publish(t.Context(), &client.Message{Topic: "x", Payload: make([]byte, 96), QoS: q}); !errors.Is(err, client.ErrTooLong) {
				t.Errorf("too long at QoS %d: %v", q, err)
			}
		}
		for _, filter := range []string{"a/#", "$share/g/a"} {
			if _, err := c.Subscribe(t.Context(), h, client.Filter(filter, 0)); !errors.Is(err, client.ErrUnsupported) {
				t.Errorf("%s: %v", filter, err)
			}
		}
		if _, err := c.Subscribe(t.Context(), h, client.Filter(strings.Repeat("x", 200), 0)); !errors.Is(err, client.ErrTooLong) {
			t.Errorf("long filter: %v", err)
		}
		synctest.Wait()
		for i, want := range []error{client.ErrUnsupported, client.ErrTooLong, client.ErrExpired} {
			if i >= len(early) || !errors.Is(early[i], want) {
				t.Errorf("early message %d: %v, want %v", i, early, want)
			}
		}
		c.Close()
		if x := p.next(); x != nil {
			t.Errorf("%s was sent", x)
		}
	})
}
