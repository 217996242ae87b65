package broker

import (
	"testing"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// silent expects that nothing comes while the store keeps its word back: no
// packet, and not the end of the connection.
func (p *peer) silent() {
	p.t.Helper()
	p.c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	var b [1]byte
	if n, err := p.c.Read(b[:]); n > 0 || len(p.buf) > 0 {
		p.t.Fatalf("0x%x came before the store was done", b[0])
	} else if ne, ok := err.(interface{ Timeout() bool }); !ok || !ne.Timeout() {
		p.t.Fatalf("the connection ended before the store was done: %v", err)
	}
}

// kind is what came, as its packet type; 0: the connection was closed.
func (p *peer) kind() packet.Type {
	p.t.Helper()
	x, err := p.read()
	if err == errClosed {
		return 0
	}
	if err != nil {
		p.t.Fatalf("read: %v", err)
	}
	return x.Type()
}

// promise is one packet of a client, and what answers it when the store is done.
type promise struct {
	name   string
	who    packet.Connect
	before func(r *running, p *peer) // ends with nothing on its way
	send   packet.Packet
	calls  []string
	answer packet.Type // 0: the end of the connection
	failed packet.Type // where the store fails
}

func forget(id string) packet.Connect {
	return packet.Connect{ClientID: id, CleanStart: true, RequestProblemInfo: true}
}

func old(id string) packet.Connect { return packet.Connect{Version: packet.V311, ClientID: id} }

func promises() []promise {
	sub := &packet.Subscribe{ID: 1, Filters: []packet.Subscription{{Filter: "s", Options: 1}}}
	unsub := &packet.Unsubscribe{ID: 1, Filters: []string{"s"}}
	bye := &packet.Disconnect{}
	// taken is a QoS 2 message whose PUBREC has come; given one that waits for
	// the client's PUBREC.
	taken := func(_ *running, p *peer) {
		p.send(message("nobody", "x", 2, 9))
		expect[*packet.Ack](p)
	}
	given := func(r *running, p *peer) {
		p.subscribe("g", 2)
		giver := r.client("giver")
		giver.acked(message("g", "x", 2, 1))
		giver.leave(r)
		if m := expect[*packet.Publish](p); m.ID != 1 {
			p.t.Fatalf("got identifier %d", m.ID)
		}
	}
	resumed := func(r *running, p *peer) { r.away("x", "s") }
	retained := pub(packet.Message{Topic: "r", Payload: []byte("x"), QoS: 1, Retain: true}, 1)
	offline := func(r *running, p *peer) { r.away("off", "off") }
	return []promise{
		{"PUBACK", forget("p"), offline, message("off", "x", 1, 1), []string{"publish"}, packet.PUBACK, packet.PUBACK},
		{"PUBACK 3.1.1", packet.Connect{Version: packet.V311, ClientID: "p", CleanStart: true}, offline, message("off", "x", 1, 1), []string{"publish"}, packet.PUBACK, 0},
		{"PUBACK of a retained message", forget("p"), nil, retained, []string{"publish"}, packet.PUBACK, packet.PUBACK},
		{"PUBREC", forget("p"), offline, message("off", "x", 2, 1), []string{"publish"}, packet.PUBREC, packet.PUBREC},
		{"PUBREC of a durable publisher", durable("p"), nil, message("nobody", "x", 2, 1), []string{"publish"}, packet.PUBREC, packet.PUBREC},
		{"PUBREL", durable("p"), given, pubrec(1), []string{"received2"}, packet.PUBREL, 0},
		{"PUBCOMP", durable("p"), taken, pubrel(9), []string{"release2"}, packet.PUBCOMP, packet.DISCONNECT},
		{"PUBCOMP 3.1.1", old("p"), taken, pubrel(9), []string{"release2"}, packet.PUBCOMP, 0},
		{"SUBACK", durable("p"), nil, sub, []string{"subscribe"}, packet.SUBACK, packet.SUBACK},
		{"SUBACK 3.1.1", old("p"), nil, sub, []string{"subscribe"}, packet.SUBACK, packet.SUBACK},
		{"UNSUBACK", durable("p"), nil, unsub, []string{"unsubscribe"}, packet.UNSUBACK, packet.DISCONNECT},
		{"DISCONNECT", durable("p"), nil, bye, []string{"detach"}, 0, 0},
		{"DISCONNECT 3.1.1", old("p"), nil, bye, []string{"detach"}, 0, 0},
		{"DISCONNECT that ends", durable("p"), nil, &packet.Disconnect{HasSessionExpiry: true}, []string{"end"}, 0, 0},
		{"DISCONNECT with a new expiry", durable("p"), nil, &packet.Disconnect{HasSessionExpiry: true, SessionExpiry: 7}, []string{"detach"}, 0, 0},
		{"CONNACK of a new session", packet.Connect{}, nil, &packet.Connect{Version: packet.V5, ClientID: "x", SessionExpiry: 9}, []string{"claim"}, packet.CONNACK, packet.CONNACK},
		{"CONNACK of a resumed session", packet.Connect{}, resumed, &packet.Connect{Version: packet.V5, ClientID: "x", SessionExpiry: 9}, []string{"claim"}, packet.CONNACK, packet.CONNACK},
		{"CONNACK of a session that is to end", packet.Connect{}, resumed, &packet.Connect{Version: packet.V5, ClientID: "x"}, []string{"claim"}, packet.CONNACK, packet.CONNACK},
		{"CONNACK of a clean start", packet.Connect{}, resumed, &packet.Connect{Version: packet.V5, ClientID: "x", CleanStart: true, SessionExpiry: 9}, []string{"end", "claim"}, packet.CONNACK, packet.CONNACK},
		{"CONNACK where a session is discarded", packet.Connect{}, resumed, &packet.Connect{Version: packet.V5, ClientID: "x", CleanStart: true}, []string{"end", "claim"}, packet.CONNACK, packet.CONNACK},
	}
}

// TestPromise: what promises that something is on disk leaves when it is, and
// not before; and where it never will be, it says so.
func TestPromise(t *testing.T) {
	for _, x := range promises() {
		t.Run(x.name, func(t *testing.T) {
			each(t, func(t *testing.T, io string) {
				n := len(x.calls)
				for last := range n { // the store's answers in each order, but for the middle
					x.run(t, io, last, nil)
					x.run(t, io, last, errDisk)
				}
			})
		})
	}
}

// run keeps back the calls, and the one at place last longest, which ends with err.
func (x *promise) run(t *testing.T, io string, last int, err error) {
	r, s := startScripted(t, Options{IO: io, ShutdownGrace: time.Millisecond})
	defer r.stop()
	var p *peer
	if x.who.ClientID != "" {
		p, _ = r.connect(x.who)
	} else {
		p = r.dial(packet.V5)
	}
	if x.before != nil {
		x.before(r, p)
	}
	s.keep(x.calls...)
	p.send(x.send)
	ends := s.await(t, x.calls...)
	p.silent()
	for i, end := range ends {
		if i != last {
			end(nil)
			p.silent()
		}
	}
	want := x.answer
	if err != nil {
		want = x.failed
	}
	ends[last](err)
	if got := p.kind(); got != want {
		t.Errorf("got %v, want %v (error %v)", got, want, err)
	}
	if want == 0 {
		p.c.Close()
		eventually(t, "the connection is forgotten", func() bool { return r.net.Stats().Sockets == 0 })
	}
}

// TestPromiseNothing: what promises nothing does not ask the disk.
func TestPromiseNothing(t *testing.T) {
	r, s := startScripted(t, Options{})
	r.away("off", "off")
	w := r.client("w")
	w.subscribe("t/#", 2)
	p, _ := r.connect(packet.Connect{Version: packet.V311, ClientID: "p", CleanStart: true})
	s.keep("publish", "claim", "subscribe", "unsubscribe", "release2", "sent2", "received2", "detach", "end")
	p.acked(message("nobody", "x", 1, 1))
	p.acked(message("nobody", "x", 2, 2))
	p.acked(message("t/1", "x", 1, 3))
	p.acked(message("t/2", "x", 2, 4))
	p.send(message("off", "x", 0, 0)) // QoS 0 is not queued
	p.send(&packet.Subscribe{ID: 1, Filters: []packet.Subscription{{Filter: "s"}}})
	expect[*packet.Suback](p)
	p.send(&packet.Unsubscribe{ID: 1, Filters: []string{"s"}})
	expect[*packet.Unsuback](p)
	p.send(&packet.Disconnect{})
	p.closed()
	if m := expect[*packet.Publish](w); string(m.Topic()) != "t/1" {
		t.Errorf("got %v", m)
	}
}

// TestPromiseDelivery: who is connected gets a message before it is on disk,
// and its publisher the acknowledgement behind it.
func TestPromiseDelivery(t *testing.T) {
	r, s := startScripted(t, Options{})
	r.away("off", "t")
	w := r.client("w")
	w.subscribe("t", 2)
	p := r.client("p")
	s.keep("publish")
	for q := packet.QoS(1); q <= 2; q++ {
		p.send(message("t", "x", q, uint16(q)))
		end := s.await(t, "publish")[0]
		if m := expect[*packet.Publish](w); m.QoS() != q {
			t.Errorf("got %v", m)
		}
		p.silent()
		end(nil)
		expect[*packet.Ack](p)
	}
}

// TestPromiseTakeover: the next connection gets the session while the
// DISCONNECT of the last one is not on disk, whoever comes first.
func TestPromiseTakeover(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		for _, clean := range []bool{false, true} {
			for _, ends := range []bool{false, true} {
				testPromiseTakeover(t, io, clean, ends)
			}
		}
	})
}

func testPromiseTakeover(t *testing.T, io string, clean, ends bool) {
	r, s := startScripted(t, Options{IO: io, ShutdownGrace: time.Millisecond})
	defer r.stop()
	p, _ := r.connect(durable("x"))
	p.subscribe("t", 1)
	s.keep("detach", "end")
	call := "detach"
	if ends {
		call = "end"
	}
	p.send(&packet.Disconnect{HasSessionExpiry: true, SessionExpiry: map[bool]uint32{false: 7, true: 0}[ends]})
	settle := s.await(t, call)[0]
	s.keep()
	c := durable("x")
	c.CleanStart = clean
	q, a := r.connect(c)
	if want := !clean && !ends; a.SessionPresent != want {
		t.Errorf("session present %v, want %v", a.SessionPresent, want)
	}
	p.silent()
	if n := r.Stats().Connected; n != 1 {
		t.Errorf("%d connected", n)
	}
	q.subscribe("t", 1)
	r.client("pub").publish(packet.Message{Topic: "t", Payload: []byte("x")})
	expect[*packet.Publish](q)
	p.raw([]byte{byte(packet.PINGREQ) << 4, 0}) // nothing is taken after a DISCONNECT
	p.silent()
	settle(nil)
	p.closed()
	q.quiet()
	if r.registry.lookup("x").expiry != c.SessionExpiry {
		t.Error("the session lives by the word of the connection before")
	}
}

// TestPromiseCut: who is cut off while its DISCONNECT is not on disk is gone;
// a cut of a connection that stands waits for nothing.
func TestPromiseCut(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		r, s := startScripted(t, Options{IO: io})
		s.keep("detach")
		p, _ := r.connect(durable("x"))
		p.leave(r)
		q, _ := r.connect(durable("y"))
		q.send(&packet.Disconnect{})
		end := s.await(t, "detach")[0]
		q.c.Close()
		eventually(t, "no sockets", func() bool { return r.net.Stats().Sockets == 0 })
		end(nil)
	})
}

// TestPromiseKeepAlive: a store that does not answer does not hold a socket
// for longer than the keep alive.
func TestPromiseKeepAlive(t *testing.T) {
	each(t, func(t *testing.T, io string) {
		r, s := startScripted(t, Options{IO: io})
		s.keep("detach")
		c := durable("x")
		c.KeepAlive = 1
		p, _ := r.connect(c)
		p.send(&packet.Disconnect{})
		s.await(t, "detach")
		p.closed()
	})
}

// TestPromiseReleasedTwice: a repeated PUBREL is not answered before the first
// is on disk: the client would use the identifier again. [MQTT-4.3.3-11]
func TestPromiseReleasedTwice(t *testing.T) {
	r, s := startScripted(t, Options{})
	p, _ := r.connect(durable("p"))
	p.send(message("nobody", "x", 2, 9))
	expect[*packet.Ack](p)
	s.keep("release2")
	p.send(pubrel(9))
	end := s.await(t, "release2")[0]
	s.keep()
	p.send(pubrel(9))
	p.silent()
	end(nil)
	for _, want := range []packet.Reason{packet.Success, packet.PacketIdentifierNotFound} {
		if a := expect[*packet.Ack](p); a.Kind != packet.PUBCOMP || a.Code != want {
			t.Errorf("got %v, want PUBCOMP %v", a, want)
		}
	}
}

// TestPromiseRecordedTwice: nor is a repeated PUBREC.
func TestPromiseRecordedTwice(t *testing.T) {
	r, s := startScripted(t, Options{})
	p, _ := r.connect(durable("p"))
	p.subscribe("g", 2)
	r.client("giver").acked(message("g", "x", 2, 1))
	m := expect[*packet.Publish](p)
	s.keep("received2")
	p.send(pubrec(m.ID))
	end := s.await(t, "received2")[0]
	s.keep()
	p.send(pubrec(m.ID))
	p.silent()
	end(nil)
	if a := expect[*packet.Ack](p); a.Kind != packet.PUBREL || a.Code.Failed() {
		t.Errorf("got %v", a)
	}
}
