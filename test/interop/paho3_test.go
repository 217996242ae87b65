package interop

import (
	"net"
	"net/url"
	"strconv"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// client3 is a client of paho.mqtt.golang, MQTT 3.1.1 and 3.1, over TCP or WebSocket.
type client3 struct {
	mqtt.Client
	in      inbox[message]
	present bool // the broker had a session
	conn    net.Conn
}

// open3 connects a client. Everything that it receives lands in its inbox.
func open3(t *testing.T, addr string, set func(*mqtt.ClientOptions)) *client3 {
	t.Helper()
	c := &client3{in: newInbox[message]()}
	o := mqtt.NewClientOptions().AddBroker(addr).SetClientID(unique("p3x")).SetProtocolVersion(4).
		SetAutoReconnect(false).SetConnectTimeout(patience).SetKeepAlive(60 * time.Second).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			c.in <- message{topic: m.Topic(), payload: string(m.Payload()), qos: m.Qos(), retain: m.Retained()}
		}).
		SetCustomOpenConnectionFn(func(u *url.URL, o mqtt.ClientOptions) (net.Conn, error) {
			var err error
			if u.Scheme == "ws" {
				c.conn, err = mqtt.NewWebsocket(u.String(), nil, patience, nil, nil)
			} else {
				c.conn, err = net.DialTimeout("tcp", u.Host, patience)
			}
			if err != nil {
				return nil, err
			}
			return newCalm(c.conn), nil
		})
	if set != nil {
		set(o)
	}
	c.Client = mqtt.NewClient(o)
	token := c.Connect().(*mqtt.ConnectToken)
	done3(t, "connect", token)
	c.present = token.SessionPresent()
	t.Cleanup(func() { c.Client.Disconnect(0) })
	return c
}

func done3(t *testing.T, what string, k mqtt.Token) {
	t.Helper()
	if !k.WaitTimeout(patience) {
		t.Fatalf("%s: nothing for %v", what, patience)
	}
	if err := k.Error(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func (c *client3) sub(t *testing.T, filter string, qos byte) {
	t.Helper()
	k := c.Subscribe(filter, qos, nil).(*mqtt.SubscribeToken)
	done3(t, "subscribe", k)
	for _, got := range k.Result() { // its key is the filter without a share's name
		if got != qos {
			t.Fatalf("subscribe %s: granted %d, want %d", filter, got, qos)
		}
	}
}

func (c *client3) pub(t *testing.T, topic, payload string, qos byte, retain bool) {
	t.Helper()
	done3(t, "publish", c.Publish(topic, qos, retain, payload))
}

// each3 runs f for every broker over every transport that paho.mqtt.golang speaks.
func each3(t *testing.T, f func(t *testing.T, addr string)) {
	each(t, func(t *testing.T, b *broker) {
		for name, addr := range b.urls() {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f(t, addr)
			})
		}
	})
}

func TestPaho3QoS(t *testing.T) {
	each3(t, func(t *testing.T, addr string) {
		for qos := byte(0); qos <= 2; qos++ {
			for _, version := range []uint{3, 4} {
				topic := unique("t")
				as := func(o *mqtt.ClientOptions) { o.SetProtocolVersion(version) }
				sub, pub := open3(t, addr, as), open3(t, addr, as)
				sub.sub(t, topic+"/+", qos)
				want := numbered(200)
				tokens := make([]mqtt.Token, len(want))
				for i, p := range want {
					tokens[i] = pub.Publish(topic+"/a", qos, false, p)
				}
				for _, k := range tokens {
					done3(t, "publish", k)
				}
				got := sub.in.take(t, len(want))
				equal(t, "payloads at QoS "+strconv.Itoa(int(qos)), payloads(got), want)
				for _, m := range got {
					if m.qos != qos || m.topic != topic+"/a" || m.retain {
						t.Fatalf("got %v at QoS %d", m, qos)
					}
				}
			}
		}
	})
}

func TestPaho3LargePayload(t *testing.T) {
	each3(t, func(t *testing.T, addr string) {
		topic := unique("t")
		c := open3(t, addr, nil)
		c.sub(t, topic, 1)
		big := make([]byte, 200_000)
		for i := range big {
			big[i] = byte(i * 7)
		}
		done3(t, "publish", c.Publish(topic, 1, false, big))
		if got := c.in.take(t, 1)[0]; got.payload != string(big) {
			t.Fatalf("the payload of %d bytes arrived changed (%d bytes)", len(big), len(got.payload))
		}
	})
}

func TestPaho3Retained(t *testing.T) {
	each3(t, func(t *testing.T, addr string) {
		topic := unique("t")
		pub := open3(t, addr, nil)
		pub.pub(t, topic+"/a", "one", 1, true)
		pub.pub(t, topic+"/b", "two", 1, true)
		pub.pub(t, topic+"/a", "three", 1, true)

		late := open3(t, addr, nil)
		late.sub(t, topic+"/#", 1)
		got := map[message]bool{}
		for _, m := range late.in.take(t, 2) {
			got[m] = true
		}
		for _, m := range []message{{topic + "/a", "three", 1, true}, {topic + "/b", "two", 1, true}} {
			if !got[m] {
				t.Errorf("retained: %v is missing in %v", m, got)
			}
		}
		pub.pub(t, topic+"/a", "live", 1, true)
		equal(t, "live", late.in.take(t, 1), []message{{topic + "/a", "live", 1, false}})

		pub.pub(t, topic+"/a", "", 1, true)
		pub.pub(t, topic+"/b", "", 1, true)
		later := open3(t, addr, nil)
		later.sub(t, topic+"/#", 1)
		pub.pub(t, topic+"/c", "end", 1, false)
		equal(t, "after the clearing", later.in.take(t, 1), []message{{topic + "/c", "end", 1, false}})
	})
}

func TestPaho3Will(t *testing.T) {
	each3(t, func(t *testing.T, addr string) {
		topic := unique("t")
		watch := open3(t, addr, nil)
		watch.sub(t, topic, 2)
		will := func(o *mqtt.ClientOptions) { o.SetWill(topic, "gone", 2, true) }

		polite := open3(t, addr, will)
		polite.Client.Disconnect(250)
		watch.pub(t, topic, "between", 2, false)
		equal(t, "after a DISCONNECT", watch.in.take(t, 1), []message{{topic, "between", 2, false}})

		cut := open3(t, addr, will)
		_ = cut.conn.Close()
		equal(t, "after a cut", watch.in.take(t, 1), []message{{topic, "gone", 2, false}})
		late := open3(t, addr, nil)
		late.sub(t, topic, 2)
		equal(t, "retained", late.in.take(t, 1), []message{{topic, "gone", 2, true}})
		late.pub(t, topic, "", 1, true)
	})
}

func TestPaho3Resume(t *testing.T) {
	each3(t, func(t *testing.T, addr string) {
		topic, id := unique("t"), unique("p3r")
		keep := func(o *mqtt.ClientOptions) { o.SetClientID(id).SetCleanSession(false) }
		first := open3(t, addr, keep)
		if first.present {
			t.Error("a session is there before the first connect")
		}
		first.sub(t, topic+"/1", 1)
		first.sub(t, topic+"/2", 2)
		first.Client.Disconnect(250)

		pub := open3(t, addr, nil)
		want := numbered(50)
		for i, p := range want {
			qos := byte(1 + i%2)
			pub.pub(t, topic+"/"+strconv.Itoa(int(qos)), p, qos, false)
		}
		again := open3(t, addr, keep)
		if !again.present {
			t.Fatal("the session is gone")
		}
		equal(t, "kept while away", alternating(payloads(again.in.take(t, len(want)))), alternating(want))
		pub.pub(t, topic+"/1", "live", 1, false)
		equal(t, "live", payloads(again.in.take(t, 1)), []string{"live"})
		again.Client.Disconnect(250)

		clean := open3(t, addr, func(o *mqtt.ClientOptions) { o.SetClientID(id).SetCleanSession(true) })
		if clean.present {
			t.Error("a clean session tells that one is present")
		}
		pub.pub(t, topic+"/1", "lost", 1, false)
		clean.sub(t, topic+"/end", 1)
		pub.pub(t, topic+"/end", "end", 1, false)
		equal(t, "after a clean session", payloads(clean.in.take(t, 1)), []string{"end"})
	})
}

func TestPaho3Shared(t *testing.T) {
	each3(t, func(t *testing.T, addr string) {
		topic := unique("t")
		a, b, all, pub := open3(t, addr, nil), open3(t, addr, nil), open3(t, addr, nil), open3(t, addr, nil)
		a.sub(t, "$share/g/"+topic+"/#", 1)
		b.sub(t, "$share/g/"+topic+"/#", 1)
		all.sub(t, topic+"/#", 1)
		want := numbered(100)
		for _, p := range want {
			pub.pub(t, topic+"/x", p, 1, false)
		}
		equal(t, "without a share", payloads(all.in.take(t, len(want))), want)
		seen := map[string]int{}
		counts := [2]int{}
		late := time.After(patience)
		for range want {
			var m message
			select {
			case m = <-a.in:
				counts[0]++
			case m = <-b.in:
				counts[1]++
			case <-late:
				t.Fatalf("the group got %d of %d", counts[0]+counts[1], len(want))
			}
			seen[m.payload]++
		}
		if len(seen) != len(want) || counts[0] == 0 || counts[1] == 0 {
			t.Errorf("the group got %d different messages, %v by member; want %d, each member some", len(seen), counts, len(want))
		}
	})
}
