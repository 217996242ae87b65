package main

import (
	"context"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// pipe is a link to a broker of the test, and what the client has sent to it.
func pipe(t *testing.T, v packet.Version) (*link, func() []packet.Packet) {
	t.Helper()
	here, there := net.Pipe()
	l := newLink(context.Background(), here, v)
	got := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(there)
		got <- b
	}()
	return l, func() (list []packet.Packet) {
		t.Helper()
		l.leave()
		b := <-got
		for len(b) > 0 {
			p, n, err := packet.Parse(b, 0, v)
			if err != nil || n == 0 {
				t.Fatalf("the client sent what is no packet: %v", err)
			}
			if p.Type() != packet.DISCONNECT {
				list = append(list, p)
			}
			b = b[n:]
		}
		return list
	}
}

func strs(list []packet.Packet) (s []string) {
	for _, p := range list {
		s = append(s, p.String())
	}
	return s
}

func TestOutbox(t *testing.T) {
	o := outbox{highest: 9}
	one := o.add(7, 1, packet.AtLeastOnce, 10)
	two := o.add(7, 2, packet.ExactlyOnce, 10)
	steps := []struct {
		kind         packet.Type
		id           uint16
		code         packet.Reason
		acked, reply bool
		fails        bool
	}{
		{packet.PUBACK, two.id, 0, false, false, true}, // of the wrong kind
		{packet.PUBCOMP, two.id, 0, false, false, true},
		{packet.PUBREC, 99, 0, false, false, true},
		{packet.PUBREC, two.id, packet.NoMatchingSubscribers, true, true, false},
		{packet.PUBREC, two.id, 0, false, true, false}, // once more: acknowledged already
		{packet.PUBACK, one.id, 0, true, false, false},
		{packet.PUBACK, one.id, 0, false, false, true},
		{packet.PUBCOMP, two.id, packet.PacketIdentifierNotFound, false, false, false},
	}
	for i, s := range steps {
		_, acked, reply, err := o.answer(s.kind, s.id, s.code)
		if acked != s.acked || reply != s.reply || (err != nil) != s.fails {
			t.Errorf("step %d: acknowledged %v, reply %v, %v", i, acked, reply, err)
		}
	}
	if len(o.list) != 0 {
		t.Errorf("left: %+v", o.list)
	}
	refused := o.add(7, 3, packet.AtLeastOnce, 10)
	if _, acked, _, err := o.answer(packet.PUBACK, refused.id, packet.QuotaExceeded); acked || err == nil {
		t.Error("a refusal counts as an acknowledgement")
	}
}

// TestOutboxIdentifiers: none is given twice at a time, and never 0.
func TestOutboxIdentifiers(t *testing.T) {
	o := outbox{highest: 5}
	var ids []uint16
	add := func() { ids = append(ids, o.add(0, 1, packet.AtLeastOnce, 0).id) }
	for range 4 {
		add()
	}
	o.answer(packet.PUBACK, 2, packet.Success)
	o.answer(packet.PUBACK, 4, packet.Success)
	for range 3 {
		add()
	}
	if want := []uint16{1, 2, 3, 4, 5, 2, 4}; !slices.Equal(ids, want) {
		t.Errorf("identifiers %v", ids)
	}
}

// TestPublisherResends: after a restart it sends what is not acknowledged with the same identifiers in the same order,
// PUBREL in place of a PUBLISH whose PUBREC has come.
func TestPublisherResends(t *testing.T) {
	g := newLedger()
	w := newWorld("", g)
	p := &publisher{client: client{w: w, id: "p", v: packet.V5}, wake: make(chan struct{}, 1)}
	p.box.highest = 9
	for n, q := range []packet.QoS{1, 2, 2, 1} {
		p.live = append(p.live, sending{id: g.addStream(q.String(), q, false, nil), topic: q.String(), qos: q})
		p.box.add(n, g.send(n), q, 20)
	}
	before, sent := pipe(t, packet.V5)
	p.handle(before, &packet.Ack{Kind: packet.PUBREC, ID: 2})
	p.handle(before, &packet.Ack{Kind: packet.PUBACK, ID: 1})
	if got := strs(sent()); !slices.Equal(got, []string{"PUBREL m2 Success (0x00)"}) {
		t.Errorf("sent %q", got)
	}
	after, sent := pipe(t, packet.V5)
	p.resume(after, true)
	if got, want := strs(sent()), []string{
		"PUBREL m2 Success (0x00)",
		`PUBLISH q2 r0 d1 m3 "q2" 20 B`,
		`PUBLISH q1 r0 d1 m4 "q1" 20 B`,
	}; !slices.Equal(got, want) {
		t.Errorf("sent again %q", got)
	}
	fresh, sent := pipe(t, packet.V5)
	p.resume(fresh, false)
	if got, want := strs(sent()), []string{
		`PUBLISH q2 r0 d0 m3 "q2" 20 B`,
		`PUBLISH q1 r0 d0 m4 "q1" 20 B`,
	}; !slices.Equal(got, want) {
		t.Errorf("sent to a new session %q", got)
	}
	if acked, _ := g.window(1); acked != 1 {
		t.Errorf("PUBREC does not count as the acknowledgement: %d", acked)
	}
}

// TestSubscriberReceivesOnce: a PUBLISH with an identifier that is known is no second message, in whatever connection
// it comes; one with another identifier is.
func TestSubscriberReceivesOnce(t *testing.T) {
	g := newLedger()
	s := &subscriber{
		client: client{w: newWorld("", g), id: "s", v: packet.V5}, in: inbox{}, qos: packet.ExactlyOnce,
		reader: g.addReader("s", packet.ExactlyOnce, true),
	}
	stream := g.addStream("t", packet.ExactlyOnce, false, nil)
	g.expect(s.reader, stream)
	for range 2 {
		g.ack(stream, g.send(stream))
	}
	publish := func(l *link, id uint16, seq uint64) {
		t.Helper()
		m := &packet.Message{Topic: "t", QoS: packet.ExactlyOnce, Payload: appendBody(nil, stream, seq, 30)}
		p, err := packet.NewPublish(m, 0)
		if err != nil {
			t.Fatal(err)
		}
		p.ID = id
		if err := s.handle(l, p); err != nil {
			t.Fatal(err)
		}
	}
	before, sent := pipe(t, packet.V5)
	publish(before, 5, 1)
	publish(before, 5, 1)
	if got, want := strs(sent()), []string{"PUBREC m5 Success (0x00)", "PUBREC m5 Success (0x00)"}; !slices.Equal(got, want) {
		t.Errorf("answers %q", got)
	}
	after, sent := pipe(t, packet.V5)
	publish(after, 5, 1)
	s.handle(after, &packet.Ack{Kind: packet.PUBREL, ID: 5})
	if g.counts != [faults]int{} {
		t.Errorf("faults %v", g.told)
	}
	publish(after, 5, 1) // its PUBREL has come: the application sees it again
	if g.counts[duplicate] != 1 {
		t.Errorf("a duplicate is not seen: %v", g.told)
	}
	publish(after, 5, 2) // the identifier is in use
	if g.counts[stranger] != 1 {
		t.Errorf("an identifier for two messages is not seen: %v", g.told)
	}
	publish(after, 6, 2)
	if owed, _ := g.missing(); owed != 0 {
		t.Errorf("owed %d", owed)
	}
	if got := sent(); len(got) != 5 {
		t.Errorf("answers %q", strs(got))
	}
}

// TestKeeperJudges: a retained message may be newer than the last acknowledged one, not older, and may be missing only
// where it may have been deleted.
func TestKeeperJudges(t *testing.T) {
	g := newLedger()
	k := &keeper{w: newWorld("", g)}
	erases := func(seq uint64) bool { return seq == 3 }
	id := g.addStream("r", packet.AtLeastOnce, true, erases)
	for range 4 {
		g.send(id)
	}
	g.ack(id, 2)
	retained := func(seq uint64) *packet.Publish {
		m := &packet.Message{Topic: "r", QoS: packet.AtLeastOnce, Retain: true, Payload: appendBody(nil, id, seq, 30)}
		p, err := packet.NewPublish(m, 0)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	all := []due{{sending: sending{id: id, topic: "r", erases: erases}, acked: 2}}
	if len(k.missing(all)) != 0 {
		t.Error("message 3 may have deleted it")
	}
	for _, seq := range []uint64{2, 4} {
		if k.judge(all, retained(seq)); g.counts != [faults]int{} {
			t.Errorf("message %d: %v", seq, g.told)
		}
	}
	if k.judge(all, retained(1)); g.counts[retention] != 1 {
		t.Error("an old message passes")
	}
	if k.judge(all, retained(5)); g.counts[stranger] != 1 {
		t.Error("a message that was never sent passes")
	}
	all[0].seen, all[0].acked = false, 4
	if len(k.missing(all)) != 1 {
		t.Error("a message that is missing passes")
	}
}

// TestClientJudgesSessions: one whose CONNACK has come must be there the next time, and only a kill ends a connection.
func TestClientJudgesSessions(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	answers := make(chan *packet.Connack, 1)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if a := <-answers; a != nil {
				conn.Write(a.Append(nil, packet.V5))
			}
			io.CopyN(io.Discard, conn, 1)
			conn.Close()
		}
	}()
	g := newLedger()
	w := newWorld(listener.Addr().String(), g)
	w.set(3, true)
	c := &client{w: w, id: "c", v: packet.V5}
	connect := func(a *packet.Connack) {
		answers <- a
		if l, _ := c.connect(t.Context(), 3, nil); l != nil {
			l.close()
		}
	}
	connect(&packet.Connack{})
	connect(&packet.Connack{SessionPresent: true})
	if g.counts != [faults]int{} || g.resumed != 1 {
		t.Errorf("faults %v, resumed %d", g.told, g.resumed)
	}
	connect(&packet.Connack{})
	if g.counts[session] != 1 {
		t.Error("a session that is gone passes")
	}
	c.over = true
	if connect(&packet.Connack{SessionPresent: true}); g.counts[session] != 2 {
		t.Error("a session that was ended and is there passes")
	}
	connect(nil) // the connection is closed in place of an answer
	if g.counts[protocol] != 1 {
		t.Error("a connection that ends without a kill passes")
	}
	w.set(3, false)
	c.over = true
	connect(nil)
	if g.counts[protocol] != 1 {
		t.Errorf("a kill counts as a fault: %v", g.told)
	}
	if connect(&packet.Connack{SessionPresent: true}); g.counts[session] != 2 {
		t.Error("the session that an unanswered CONNECT has begun counts as the one that was ended")
	}
}

func TestParse(t *testing.T) {
	for _, bad := range [][]string{{"-kills", "1"}, {"-min", "2s", "-max", "1s"}, {"-window", "0"}, {"x"}, {"-size", "1"}, {"-nothing"}} {
		if _, err := parse(bad, io.Discard); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
	o, err := parse([]string{"-mosquitto", "-kills", "7"}, io.Discard)
	if err != nil || o.kills != 7 || !o.expectLoss || o.seed == 0 || o.longest < time.Second {
		t.Errorf("%+v, %v", o, err)
	}
}
