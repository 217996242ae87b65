package interop

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/session"
	"github.com/eclipse/paho.golang/paho/session/state"
)

// client5 is a client of paho.golang, MQTT 5.0 over TCP.
type client5 struct {
	*paho.Client
	in   inbox[*paho.Publish]
	ack  *paho.Connack
	bye  chan *paho.Disconnect // what the broker said when it ended the connection
	conn net.Conn
}

// open5 connects a client; set changes the CONNECT, sess may be nil.
func open5(t *testing.T, b *broker, sess session.SessionManager, set func(*paho.Connect)) *client5 {
	t.Helper()
	conn, err := net.DialTimeout("tcp", b.tcp, patience)
	if err != nil {
		t.Fatal(err)
	}
	c := &client5{in: newInbox[*paho.Publish](), bye: make(chan *paho.Disconnect, 1), conn: conn}
	c.Client = paho.NewClient(paho.ClientConfig{
		Conn:               packets.NewThreadSafeConn(newCalm(conn)),
		Session:            sess,
		PacketTimeout:      patience,
		OnServerDisconnect: func(d *paho.Disconnect) { c.bye <- d },
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
			c.in <- r.Packet
			return true, nil
		}},
	})
	cp := &paho.Connect{ClientID: unique("p5x"), CleanStart: true, KeepAlive: 60}
	if set != nil {
		set(cp)
	}
	if c.ack, err = c.Connect(limit(t), cp); err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = c.Disconnect(&paho.Disconnect{}) })
	return c
}

func limit(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func (c *client5) sub(t *testing.T, id int, subs ...paho.SubscribeOptions) {
	t.Helper()
	s := &paho.Subscribe{Subscriptions: subs}
	if id > 0 {
		s.Properties = &paho.SubscribeProperties{SubscriptionIdentifier: &id}
	}
	ack, err := c.Subscribe(limit(t), s)
	if err != nil {
		t.Fatalf("subscribe: %v", err)
	}
	for i, r := range ack.Reasons {
		if r != subs[i].QoS {
			t.Fatalf("subscribe %s: reason %#x, want %#x", subs[i].Topic, r, subs[i].QoS)
		}
	}
}

func (c *client5) pub(t *testing.T, p *paho.Publish) {
	t.Helper()
	if _, err := c.Publish(limit(t), p); err != nil {
		t.Fatalf("publish %s: %v", p.Topic, err)
	}
}

func text(topic, payload string, qos byte) *paho.Publish {
	return &paho.Publish{Topic: topic, QoS: qos, Payload: []byte(payload)}
}

func plain(ps []*paho.Publish) []message {
	ms := make([]message, len(ps))
	for i, p := range ps {
		ms[i] = message{p.Topic, string(p.Payload), p.QoS, p.Retain}
	}
	return ms
}

func TestPaho5QoS(t *testing.T) {
	each(t, func(t *testing.T, b *broker) {
		for qos := byte(0); qos <= 2; qos++ {
			topic := unique("t")
			sub, pub := open5(t, b, nil, nil), open5(t, b, nil, nil)
			sub.sub(t, 0, paho.SubscribeOptions{Topic: topic + "/#", QoS: qos})
			want := numbered(200)
			for _, p := range want {
				if _, err := pub.PublishWithOptions(limit(t), text(topic+"/a", p, qos), paho.PublishOptions{Method: paho.PublishMethod_AsyncSend}); err != nil {
					t.Fatalf("publish: %v", err)
				}
			}
			got := plain(sub.in.take(t, len(want)))
			equal(t, "payloads at QoS "+strconv.Itoa(int(qos)), payloads(got), want)
			for _, m := range got {
				if m.qos != qos || m.retain {
					t.Fatalf("got %v at QoS %d", m, qos)
				}
			}
			un, err := sub.Unsubscribe(limit(t), &paho.Unsubscribe{Topics: []string{topic + "/#", topic + "/never"}})
			if err != nil || len(un.Reasons) != 2 || un.Reasons[0] != 0 || un.Reasons[1] != 0x11 {
				t.Fatalf("unsubscribe: %v, %v; want reasons 0 and 0x11", un, err)
			}
		}
	})
}

func TestPaho5Properties(t *testing.T) {
	each(t, func(t *testing.T, b *broker) {
		topic := unique("t")
		sub, pub := open5(t, b, nil, nil), open5(t, b, nil, nil)
		sub.sub(t, 268_435_455, paho.SubscribeOptions{Topic: topic, QoS: 1})
		props := &paho.PublishProperties{
			CorrelationData: []byte{0, 1, 0xff, 'x'},
			ContentType:     "application/json; π",
			ResponseTopic:   topic + "/reply",
			PayloadFormat:   paho.Byte(1),
			MessageExpiry:   paho.Uint32(3600),
			User:            paho.UserProperties{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}, {Key: "b", Value: "0"}, {Key: "", Value: ""}},
		}
		p := text(topic, `{"n":1}`, 1)
		p.Properties = props
		pub.pub(t, p)
		got := sub.in.take(t, 1)[0].Properties
		if string(got.CorrelationData) != string(props.CorrelationData) || got.ContentType != props.ContentType || got.ResponseTopic != props.ResponseTopic {
			t.Errorf("got correlation %q, content type %q, response topic %q", got.CorrelationData, got.ContentType, got.ResponseTopic)
		}
		if got.PayloadFormat == nil || *got.PayloadFormat != 1 {
			t.Errorf("payload format is %v, want 1", got.PayloadFormat)
		}
		if got.MessageExpiry == nil || *got.MessageExpiry > 3600 || *got.MessageExpiry < 3590 {
			t.Errorf("message expiry is %v, want about 3600", got.MessageExpiry)
		}
		if got.SubscriptionIdentifier == nil || *got.SubscriptionIdentifier != 268_435_455 {
			t.Errorf("subscription identifier is %v, want 268435455", got.SubscriptionIdentifier)
		}
		equal(t, "user properties", got.User, props.User)
	})
}

func TestPaho5Retained(t *testing.T) {
	each(t, func(t *testing.T, b *broker) {
		topic := unique("t")
		pub := open5(t, b, nil, nil)
		kept := text(topic, "kept", 1)
		kept.Retain = true
		kept.Properties = &paho.PublishProperties{User: paho.UserProperties{{Key: "k", Value: "v"}}, MessageExpiry: paho.Uint32(1000)}
		pub.pub(t, kept)

		c := open5(t, b, nil, nil)
		at := func(handling byte) {
			c.sub(t, 0, paho.SubscribeOptions{Topic: topic, QoS: 1, RetainHandling: handling, RetainAsPublished: true})
		}
		at(2) // never
		at(1) // only with a new subscription, which this is not
		pub.pub(t, text(topic, "live", 1))
		equal(t, "first", plain(c.in.take(t, 1)), []message{{topic, "live", 1, false}})
		at(0) // always
		got := c.in.take(t, 1)
		equal(t, "at retain handling 0", plain(got), []message{{topic, "kept", 1, true}})
		equal(t, "its user properties", got[0].Properties.User, kept.Properties.User)
		if e := got[0].Properties.MessageExpiry; e == nil || *e > 1000 || *e < 990 {
			t.Errorf("message expiry of the retained message is %v, want about 1000", e)
		}
		pub.pub(t, kept) // retain as published: live, and the flag stays
		equal(t, "retain as published", plain(c.in.take(t, 1)), []message{{topic, "kept", 1, true}})

		clear5 := text(topic, "", 1)
		clear5.Retain = true
		pub.pub(t, clear5)
		late := open5(t, b, nil, nil)
		late.sub(t, 0, paho.SubscribeOptions{Topic: topic, QoS: 1})
		pub.pub(t, text(topic, "end", 1))
		equal(t, "after the clearing", plain(late.in.take(t, 1)), []message{{topic, "end", 1, false}})
	})
}

func TestPaho5NoLocal(t *testing.T) {
	each(t, func(t *testing.T, b *broker) {
		topic := unique("t")
		a, other := open5(t, b, nil, nil), open5(t, b, nil, nil)
		a.sub(t, 0, paho.SubscribeOptions{Topic: topic, QoS: 1, NoLocal: true})
		a.pub(t, text(topic, "own", 1))
		other.pub(t, text(topic, "foreign", 1))
		equal(t, "with no local", payloads(plain(a.in.take(t, 1))), []string{"foreign"})
	})
}

func TestPaho5Will(t *testing.T) {
	each(t, func(t *testing.T, b *broker) {
		topic := unique("t")
		watch := open5(t, b, nil, nil)
		watch.sub(t, 0, paho.SubscribeOptions{Topic: topic, QoS: 2})
		will := func(delay uint32) func(*paho.Connect) {
			return func(cp *paho.Connect) {
				cp.Properties = &paho.ConnectProperties{SessionExpiryInterval: paho.Uint32(60), RequestProblemInfo: true}
				cp.WillMessage = &paho.WillMessage{Topic: topic, Payload: []byte("gone"), QoS: 2}
				// This client sends no more of a will's properties than these two.
				cp.WillProperties = &paho.WillProperties{
					WillDelayInterval: paho.Uint32(delay), User: paho.UserProperties{{Key: "z", Value: "1"}, {Key: "a", Value: "2"}},
				}
			}
		}
		cut := open5(t, b, nil, will(0))
		_ = cut.conn.Close()
		got := watch.in.take(t, 1)
		equal(t, "after a cut", plain(got), []message{{topic, "gone", 2, false}})
		equal(t, "its user properties", got[0].Properties.User, paho.UserProperties{{Key: "z", Value: "1"}, {Key: "a", Value: "2"}})

		from := time.Now()
		slow := open5(t, b, nil, will(1))
		_ = slow.conn.Close()
		watch.in.take(t, 1)
		if d := time.Since(from); d < 900*time.Millisecond {
			t.Errorf("a will with a delay of a second came after %v", d)
		}

		asked := open5(t, b, nil, will(0))
		_ = asked.Disconnect(&paho.Disconnect{ReasonCode: 0x04}) // disconnect with will message
		equal(t, "after DISCONNECT 0x04", payloads(plain(watch.in.take(t, 1))), []string{"gone"})

		polite := open5(t, b, nil, will(0))
		_ = polite.Disconnect(&paho.Disconnect{})
		watch.pub(t, text(topic, "end", 2))
		equal(t, "after DISCONNECT 0", payloads(plain(watch.in.take(t, 1))), []string{"end"})
	})
}

func TestPaho5Resume(t *testing.T) {
	each(t, func(t *testing.T, b *broker) {
		topic, id := unique("t"), unique("p5r")
		keep := func(cp *paho.Connect) {
			cp.ClientID, cp.CleanStart = id, false
			cp.Properties = &paho.ConnectProperties{SessionExpiryInterval: paho.Uint32(300), RequestProblemInfo: true}
		}
		sess := state.NewInMemory()
		first := open5(t, b, sess, keep)
		if first.ack.SessionPresent {
			t.Error("a session is there before the first connect")
		}
		first.sub(t, 7, paho.SubscribeOptions{Topic: topic + "/1", QoS: 1}, paho.SubscribeOptions{Topic: topic + "/2", QoS: 2})
		_ = first.Disconnect(&paho.Disconnect{})

		pub := open5(t, b, nil, nil)
		want := numbered(50)
		for i, s := range want {
			qos := 1 + i%2
			p := text(topic+"/"+strconv.Itoa(qos), s, byte(qos))
			p.Properties = &paho.PublishProperties{User: paho.UserProperties{{Key: "i", Value: s}}}
			pub.pub(t, p)
		}
		again := open5(t, b, sess, keep)
		if !again.ack.SessionPresent {
			t.Fatal("the session is gone")
		}
		got := again.in.take(t, len(want))
		equal(t, "kept while away", alternating(payloads(plain(got))), alternating(want))
		for _, p := range got {
			if p.Properties.User.Get("i") != string(p.Payload) || p.Properties.SubscriptionIdentifier == nil || *p.Properties.SubscriptionIdentifier != 7 {
				t.Fatalf("the properties of a kept message are wrong: %v", p)
			}
		}
		_ = again.Disconnect(&paho.Disconnect{Properties: &paho.DisconnectProperties{SessionExpiryInterval: paho.Uint32(0)}})
		last := open5(t, b, nil, keep)
		if last.ack.SessionPresent {
			t.Error("the session outlived the expiry of 0 at DISCONNECT")
		}
	})
}

func TestPaho5Takeover(t *testing.T) {
	each(t, func(t *testing.T, b *broker) {
		id := unique("p5t")
		same := func(cp *paho.Connect) { cp.ClientID = id }
		old := open5(t, b, nil, same)
		open5(t, b, nil, same)
		if d := wait(t, "DISCONNECT at the takeover", old.bye); d.ReasonCode != 0x8e {
			t.Errorf("the reason is %#x, want 0x8e", d.ReasonCode)
		}
	})
}

func TestPaho5AssignedID(t *testing.T) {
	each(t, func(t *testing.T, b *broker) {
		c := open5(t, b, nil, func(cp *paho.Connect) { cp.ClientID = "" })
		if c.ack.Properties == nil || c.ack.Properties.AssignedClientID == "" {
			t.Error("no client identifier was assigned")
		}
	})
}

func TestPaho5Shared(t *testing.T) {
	each(t, func(t *testing.T, b *broker) {
		topic := unique("t")
		pub := open5(t, b, nil, nil)
		var members [3]*client5
		for i := range members {
			members[i] = open5(t, b, nil, nil)
			members[i].sub(t, i+1, paho.SubscribeOptions{Topic: "$share/g/" + topic + "/+", QoS: 1})
		}
		want := numbered(150)
		for _, p := range want {
			pub.pub(t, text(topic+"/x", p, 1))
		}
		seen, counts := map[string]int{}, [3]int{}
		late := time.After(patience)
		for range want {
			var p *paho.Publish
			select {
			case p = <-members[0].in:
			case p = <-members[1].in:
			case p = <-members[2].in:
			case <-late:
				t.Fatalf("the group got %v of %d", counts, len(want))
			}
			seen[string(p.Payload)]++
			if id := p.Properties.SubscriptionIdentifier; id == nil || *id < 1 || *id > 3 {
				t.Fatalf("subscription identifier is %v", id)
			}
			counts[*p.Properties.SubscriptionIdentifier-1]++
		}
		if len(seen) != len(want) || counts[0] == 0 || counts[1] == 0 || counts[2] == 0 {
			t.Errorf("the group got %d different messages, %v by member; want %d, each member some", len(seen), counts, len(want))
		}
	})
}

func TestPaho5RequestResponse(t *testing.T) {
	each(t, func(t *testing.T, b *broker) {
		topic := unique("t")
		server, asker := open5(t, b, nil, nil), open5(t, b, nil, nil)
		server.sub(t, 0, paho.SubscribeOptions{Topic: topic + "/ask", QoS: 1})
		asker.sub(t, 0, paho.SubscribeOptions{Topic: topic + "/answer", QoS: 1})
		p := text(topic+"/ask", "2+2", 1)
		p.Properties = &paho.PublishProperties{ResponseTopic: topic + "/answer", CorrelationData: []byte("q1")}
		asker.pub(t, p)
		answer(t, server, "4")
		got := asker.in.take(t, 1)[0]
		if string(got.Payload) != "4" || string(got.Properties.CorrelationData) != "q1" {
			t.Errorf("got %v, want the answer 4 with its correlation data", got)
		}
	})
}

// answer waits for one request at c and replies to it.
func answer(t *testing.T, c *client5, payload string) {
	t.Helper()
	ask := c.in.take(t, 1)[0]
	r := text(ask.Properties.ResponseTopic, payload, 1)
	r.Properties = &paho.PublishProperties{CorrelationData: ask.Properties.CorrelationData}
	c.pub(t, r)
}

func TestPaho5Alias(t *testing.T) {
	each(t, func(t *testing.T, b *broker) {
		topic := unique("t")
		sub, pub := open5(t, b, nil, nil), open5(t, b, nil, nil)
		if m := pub.ack.Properties.TopicAliasMaximum; m == nil || *m == 0 {
			t.Skip("the broker takes no topic aliases")
		}
		sub.sub(t, 0, paho.SubscribeOptions{Topic: topic, QoS: 1})
		p := text(topic, "named", 1)
		p.Properties = &paho.PublishProperties{TopicAlias: paho.Uint16(1)}
		pub.pub(t, p)
		p = text("", "by alias", 1)
		p.Properties = &paho.PublishProperties{TopicAlias: paho.Uint16(1)}
		pub.pub(t, p)
		equal(t, "with an alias", plain(sub.in.take(t, 2)), []message{{topic, "named", 1, false}, {topic, "by alias", 1, false}})
	})
}
