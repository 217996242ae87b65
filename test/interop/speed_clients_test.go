package interop

import (
	"context"
	"net"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
)

// Each library is used as its documentation shows, with its defaults, but for what is said here.

type myelin struct{ c *client.Client }

func dialMyelin(t testing.TB, tcp string, v packet.Version) driver {
	c, err := client.Dial(context.Background(), "tcp://"+tcp, client.Options{ClientID: speedID(), CleanStart: true, Version: v})
	if err != nil {
		t.Fatal(err)
	}
	return myelin{c}
}

func (m myelin) publish(topic string, qos byte, payload []byte) error {
	_, err := m.c.Publish(context.Background(), &client.Message{Topic: topic, QoS: packet.QoS(qos), Payload: payload})
	return err
}

func (m myelin) async(topic string, qos byte, payload []byte) error {
	return m.c.PublishAsync(context.Background(), &client.Message{Topic: topic, QoS: packet.QoS(qos), Payload: payload}, m.done)
}

func (m myelin) done(_ client.Receipt, err error) {
	if err != nil {
		panic(err)
	}
}

func (m myelin) subscribe(filter string, qos byte, f func()) error {
	_, err := m.c.Subscribe(context.Background(), func(*client.Received) { f() }, client.Filter(filter, packet.QoS(qos)))
	return err
}

func (m myelin) close() { m.c.Close() }

// paho3 waits for the token of the message before the last speedWindow: the library itself has no window.
type paho3 struct {
	c      mqtt.Client
	tokens [speedWindow]mqtt.Token
	n      int
}

func dialPaho3(t testing.TB, tcp string) driver {
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + tcp).SetClientID(speedID()).SetProtocolVersion(4))
	if k := c.Connect(); k.Wait() && k.Error() != nil {
		t.Fatal(k.Error())
	}
	return &paho3{c: c}
}

func (p *paho3) publish(topic string, qos byte, payload []byte) error {
	k := p.c.Publish(topic, qos, false, payload)
	k.Wait()
	return k.Error()
}

func (p *paho3) async(topic string, qos byte, payload []byte) error {
	at := &p.tokens[p.n%speedWindow]
	p.n++
	if *at != nil {
		(*at).Wait()
		if err := (*at).Error(); err != nil {
			return err
		}
	}
	*at = p.c.Publish(topic, qos, false, payload)
	return nil
}

func (p *paho3) subscribe(filter string, qos byte, f func()) error {
	k := p.c.Subscribe(filter, qos, func(mqtt.Client, mqtt.Message) { f() })
	k.Wait()
	return k.Error()
}

func (p *paho3) close() { p.c.Disconnect(0) }

// paho5 has a Receive Maximum as our client has it: with the library's own, 65535, each client begins with half a
// megabyte. Its window is the server's Receive Maximum.
type paho5 struct {
	c *paho.Client
	f func()
}

func dialPaho5(t testing.TB, tcp string) driver {
	conn, err := net.Dial("tcp", tcp)
	if err != nil {
		t.Fatal(err)
	}
	p := &paho5{}
	p.c = paho.NewClient(paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(conn),
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(paho.PublishReceived) (bool, error) {
			p.f()
			return true, nil
		}},
	})
	window := uint16(256)
	_, err = p.c.Connect(context.Background(), &paho.Connect{
		ClientID: speedID(), CleanStart: true, KeepAlive: 60, Properties: &paho.ConnectProperties{ReceiveMaximum: &window},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *paho5) publish(topic string, qos byte, payload []byte) error {
	_, err := p.c.Publish(context.Background(), &paho.Publish{Topic: topic, QoS: qos, Payload: payload})
	return err
}

func (p *paho5) async(topic string, qos byte, payload []byte) error {
	_, err := p.c.PublishWithOptions(context.Background(), &paho.Publish{Topic: topic, QoS: qos, Payload: payload},
		paho.PublishOptions{Method: paho.PublishMethod_AsyncSend})
	return err
}

func (p *paho5) subscribe(filter string, qos byte, f func()) error {
	p.f = f
	_, err := p.c.Subscribe(context.Background(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: qos}}})
	return err
}

func (p *paho5) close() { _ = p.c.Disconnect(&paho.Disconnect{}) }
