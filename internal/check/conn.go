package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// conn is one connection of a check. Nothing is sent or acknowledged by itself,
// and packets are read when they are asked for. It belongs to one goroutine.
type conn struct {
	t        *trial
	number   int // of the trial's, from 1
	nc       net.Conn
	id       string // client identifier
	v        packet.Version
	ack      packet.Connack
	patience time.Duration

	buf     []byte          // read, from off on not looked at
	off     int             //
	got     []packet.Packet // read while another one was awaited
	aliases map[uint16]string
	next    uint16             // last packet identifier
	bye     *packet.Disconnect // the server's DISCONNECT
	at      time.Time          // when the last read returned
	left    bool               // closed by us

	reads chan chunk    // from listen
	ended chan struct{} // closed when listen is over
	over  chan struct{} // closed by cut
}

// most is how many packets that nobody asked for are kept.
const most = 20_000

// errLate says that nothing came in time.
var errLate = errors.New("no packet came")

// endError says that the server ended the connection.
type endError struct {
	after string             // what was awaited
	bye   *packet.Disconnect // nil: there was none
}

func (e *endError) Error() string {
	s := "the server closed the connection"
	if e.bye != nil {
		s += fmt.Sprintf(" with DISCONNECT %v", e.bye.Code)
		if e.bye.ReasonString != "" {
			s += ": " + e.bye.ReasonString
		}
	}
	if e.after != "" {
		s += " where " + e.after + " was expected"
	}
	return s
}

// how says how the connection ended, in a word or two.
func (e *endError) how() string {
	if e.bye == nil {
		return "closed"
	}
	return "DISCONNECT " + e.bye.Code.String()
}

// send writes a packet.
func (c *conn) send(ctx context.Context, p packet.Packet) error {
	return c.write(ctx, p.Append(nil, c.v))
}

// write writes bytes. That the server does not take them is not told here but by
// the next read, which may find out why.
func (c *conn) write(ctx context.Context, b []byte) error {
	c.t.note(c, true, time.Now(), b)
	deadline, _ := ctx.Deadline()
	_ = c.nc.SetWriteDeadline(deadline) // a connection that is closed tells so by the write
	stop := context.AfterFunc(ctx, func() { _ = c.nc.SetWriteDeadline(time.Unix(1, 0)) })
	_, err := c.nc.Write(b)
	stop()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return broken("the server does not read: %d bytes could not be written", len(b))
	}
	return nil
}

// fetch reads the next packet. It is errLate where ctx ends first, an *endError
// where the connection does, which may be behind a DISCONNECT.
func (c *conn) fetch(ctx context.Context) (packet.Packet, error) {
	for {
		p, err := c.parse()
		if err != nil {
			return nil, err
		}
		if bye, ok := p.(*packet.Disconnect); ok {
			c.bye = bye
			continue
		}
		if p != nil {
			return p, nil
		}
		if err := c.fill(ctx); err != nil {
			return nil, err
		}
	}
}

// fill waits for more bytes.
func (c *conn) fill(ctx context.Context) error {
	select {
	case r := <-c.reads:
		if c.off > 0 {
			c.buf, c.off = append(c.buf[:0], c.buf[c.off:]...), 0
		}
		c.buf, c.at = append(c.buf, r.b...), r.at
		return nil
	case <-c.ended:
		c.t.noteEnd(c, false)
		return &endError{bye: c.bye}
	case <-ctx.Done():
		return errLate
	}
}

// chunk is what one read brought.
type chunk struct {
	b  []byte
	at time.Time // when it returned
}

// listen reads until the connection ends. A read that is given up after a time,
// in place of this goroutine, would break a WebSocket.
func (c *conn) listen() {
	defer close(c.ended)
	for {
		b := make([]byte, 16<<10)
		n, err := c.nc.Read(b)
		at := time.Now()
		if n > 0 {
			select {
			case c.reads <- chunk{b[:n], at}:
			case <-c.over:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// parse takes a packet out of the buffer, nil: there is none yet.
func (c *conn) parse() (packet.Packet, error) {
	p, n, err := packet.Parse(c.buf[c.off:], c.t.o.MaxPayload+128<<10, c.v)
	if err != nil {
		c.t.note(c, false, c.at, bytes.Clone(c.buf[c.off:]))
		return nil, broken("the server sent what the standard forbids: %v", err)
	}
	if p == nil {
		return nil, nil
	}
	b := bytes.Clone(c.buf[c.off : c.off+n]) // the buffer will be used again
	c.off += n
	c.t.note(c, false, c.at, b)
	m, ok := p.(*packet.Publish)
	if !ok {
		return p, nil
	}
	if err := m.Parse(b, hdr(b), c.v); err != nil {
		return nil, err
	}
	if m.Alias != 0 {
		if len(m.Topic()) > 0 {
			if c.aliases == nil {
				c.aliases = map[uint16]string{}
			}
			c.aliases[m.Alias] = string(m.Topic())
		} else if name := c.aliases[m.Alias]; name != "" {
			m.SetTopic([]byte(name))
		} else {
			return nil, broken("the server used topic alias %d without saying what it stands for", m.Alias)
		}
	}
	return m, nil
}

// hdr is the length of the fixed header of the packet at the front of b.
func hdr(b []byte) int {
	_, n, _ := packet.Frame(b, 0)
	return n
}

// await is the next packet that f wants. Those that it does not stay for later.
func (c *conn) await(ctx context.Context, what string, f func(packet.Packet) bool) (packet.Packet, error) {
	if i := slices.IndexFunc(c.got, f); i >= 0 {
		p := c.got[i]
		c.got = slices.Delete(c.got, i, i+1)
		return p, nil
	}
	patient, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	for {
		p, err := c.fetch(patient)
		switch end, ended := errors.AsType[*endError](err); {
		case ended:
			end.after = what
			return nil, end
		case err == errLate && c.bye != nil:
			return nil, &endError{after: what, bye: c.bye}
		case err == errLate && ctx.Err() != nil:
			return nil, ctx.Err()
		case err == errLate:
			return nil, broken("%s did not come within %v", what, c.patience)
		case err != nil:
			return nil, err
		case f(p):
			return p, nil
		}
		if len(c.got) == most {
			return nil, unknown("%d packets came, and no %s", most, what)
		}
		c.got = append(c.got, p)
	}
}

// greeting reads the CONNACK. A server that does not have the version answers in
// the form of another one.
func (c *conn) greeting(ctx context.Context) error {
	patient, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	for {
		b := c.buf[c.off:]
		if n, hdr, err := packet.Frame(b, 0); err == nil && n > 0 && packet.FrameType(b) == packet.CONNACK {
			v := c.v
			if n == hdr+2 {
				v = min(v, packet.V311)
			}
			c.t.note(c, false, c.at, bytes.Clone(b[:n]))
			if err := c.ack.Parse(b[:n], hdr, v); err != nil {
				return broken("the server sent what the standard forbids: %v", err)
			}
			c.off += n
			return nil
		} else if n > 0 {
			return broken("%v where a CONNACK was expected", packet.FrameType(b))
		} else if err != nil {
			return fmt.Errorf("the answer is no MQTT: %w", err)
		}
		err := c.fill(patient)
		if end, ok := errors.AsType[*endError](err); ok {
			end.after = "a CONNACK"
		}
		if err == errLate && ctx.Err() == nil {
			return broken("CONNACK did not come within %v", c.patience)
		}
		if err != nil {
			return err
		}
	}
}

// ends waits until the server has closed the connection, and says how. what is
// what it had to do so for.
func (c *conn) ends(ctx context.Context, what string) (*endError, error) {
	patient, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	for {
		_, err := c.fetch(patient)
		if end, ok := errors.AsType[*endError](err); ok {
			return end, nil
		}
		switch {
		case err == errLate && ctx.Err() != nil:
			return nil, ctx.Err()
		case err == errLate && c.bye != nil:
			return nil, broken("%s: the connection stays open after DISCONNECT %v", what, c.bye.Code)
		case err == errLate:
			return nil, broken("%s: the connection stays open", what)
		case err != nil:
			return nil, err
		}
	}
}

// ping has a PINGREQ answered.
func (c *conn) ping(ctx context.Context) error {
	if err := c.send(ctx, &packet.Pingreq{}); err != nil {
		return err
	}
	_, err := c.await(ctx, "PINGRESP", func(p packet.Packet) bool { return p.Type() == packet.PINGRESP })
	return err
}

// packetID is one that is not in use, as long as no more than 65,534 are.
func (c *conn) packetID() uint16 {
	if c.next++; c.next == 0 {
		c.next = 1
	}
	return c.next
}

// subscribe subscribes, and demands that each filter is granted, with whatever
// quality of service.
func (c *conn) subscribe(ctx context.Context, q packet.QoS, filters ...string) ([]packet.Reason, error) {
	var s packet.Subscribe
	for _, f := range filters {
		s.Filters = append(s.Filters, packet.Subscription{Filter: f, Options: packet.SubOptions(q)})
	}
	return c.subscribeAs(ctx, s)
}

// subscribeAs is subscribe with options.
func (c *conn) subscribeAs(ctx context.Context, s packet.Subscribe) ([]packet.Reason, error) {
	a, err := c.ask(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, code := range a.Codes {
		if code.Failed() {
			return nil, refused(packet.SUBACK, code, a.ReasonString)
		}
	}
	return a.Codes, nil
}

// ask subscribes, and gives the answer, which has a code for each filter
// [MQTT-3.8.4-6].
func (c *conn) ask(ctx context.Context, s packet.Subscribe) (*packet.Suback, error) {
	s.ID = c.packetID()
	if err := c.send(ctx, &s); err != nil {
		return nil, err
	}
	p, err := c.await(ctx, "SUBACK", func(p packet.Packet) bool { return p.Type() == packet.SUBACK })
	if err != nil {
		return nil, err
	}
	a := p.(*packet.Suback)
	if a.ID != s.ID {
		return nil, broken("SUBACK has packet identifier %d, not the SUBSCRIBE's, %d", a.ID, s.ID) // [MQTT-3.8.4-2]
	}
	if len(a.Codes) != len(s.Filters) {
		return nil, broken("SUBACK has %d codes for %d filters", len(a.Codes), len(s.Filters))
	}
	return a, nil
}

// unsubscribe ends subscriptions, and gives the codes, none below 5.0.
func (c *conn) unsubscribe(ctx context.Context, filters ...string) ([]packet.Reason, error) {
	u := packet.Unsubscribe{ID: c.packetID(), Filters: filters}
	if err := c.send(ctx, &u); err != nil {
		return nil, err
	}
	p, err := c.await(ctx, "UNSUBACK", func(p packet.Packet) bool { return p.Type() == packet.UNSUBACK })
	if err != nil {
		return nil, err
	}
	a := p.(*packet.Unsuback)
	switch {
	case a.ID != u.ID: // [MQTT-3.10.4-5]
		return nil, broken("UNSUBACK has packet identifier %d, not the UNSUBSCRIBE's, %d", a.ID, u.ID)
	case c.v >= packet.V5 && len(a.Codes) != len(filters):
		return nil, broken("UNSUBACK has %d codes for %d filters", len(a.Codes), len(filters))
	}
	return a.Codes, nil
}

// publish sends a message and sees its handshake through. A refusal is an error.
func (c *conn) publish(ctx context.Context, m *packet.Message) error {
	code, reason, err := c.offer(ctx, m)
	switch {
	case err != nil:
		return err
	case code.Failed():
		return refused(packet.PUBACK+packet.Type(m.QoS-1), code, reason)
	}
	return nil
}

// offer is publish that leaves the judgement to the caller.
func (c *conn) offer(ctx context.Context, m *packet.Message) (code packet.Reason, reason string, err error) {
	id, err := c.start(ctx, m)
	if err != nil || m.QoS == 0 {
		return 0, "", err
	}
	if code, reason, err = c.answer(ctx, m.QoS, id); err != nil {
		return 0, "", err
	}
	if m.Retain && len(m.Payload) == 0 {
		delete(c.t.retained, m.Topic)
	}
	return code, reason, nil
}

// start sends a PUBLISH and no more.
func (c *conn) start(ctx context.Context, m *packet.Message) (id uint16, err error) {
	if m.QoS > 0 {
		id = c.packetID()
	}
	b, err := c.encode(m, packet.PublishOpts{ID: id})
	if err != nil {
		return 0, err
	}
	return id, c.write(ctx, b)
}

// encode makes a PUBLISH, and notes that there may be a retained message.
func (c *conn) encode(m *packet.Message, o packet.PublishOpts) ([]byte, error) {
	if m.Retain && len(m.Payload) > 0 && c.t.canRetain() == nil {
		c.t.retained[m.Topic] = true
	}
	p, err := packet.NewPublish(m, 0)
	if err != nil {
		return nil, fmt.Errorf("make a message: %w", err)
	}
	o.QoS, o.Retain, o.Expiry = m.QoS, m.Retain, m.Expiry
	return packet.AppendPublish(nil, p, c.v, o), nil
}

// answer sees the handshake of a PUBLISH through.
func (c *conn) answer(ctx context.Context, q packet.QoS, id uint16) (code packet.Reason, reason string, err error) {
	first := packet.PUBACK
	if q == packet.ExactlyOnce {
		first = packet.PUBREC
	}
	a, err := c.acked(ctx, first, id)
	if err != nil || q == packet.AtLeastOnce || a.Code.Failed() {
		if err != nil {
			return 0, "", err
		}
		return a.Code, a.ReasonString, nil
	}
	if err := c.release(ctx, id); err != nil {
		return 0, "", err
	}
	return a.Code, a.ReasonString, nil
}

// finish sees the handshakes of several messages through, all at a time.
func (c *conn) finish(ctx context.Context, q packet.QoS, ids []uint16) error {
	first := packet.PUBACK
	if q == packet.ExactlyOnce {
		first = packet.PUBREC
	}
	for _, id := range ids {
		a, err := c.acked(ctx, first, id)
		if err != nil {
			return err
		}
		if a.Code.Failed() {
			return refused(first, a.Code, a.ReasonString)
		}
		if q == packet.ExactlyOnce {
			if err := c.write(ctx, packet.AppendAck(nil, packet.PUBREL, c.v, id, packet.Success)); err != nil {
				return err
			}
		}
	}
	for _, id := range ids {
		if q < packet.ExactlyOnce {
			break
		}
		if _, err := c.acked(ctx, packet.PUBCOMP, id); err != nil {
			return err
		}
	}
	return nil
}

// collect receives n messages. Their handshakes are under way at the same time,
// and may be so still when it returns.
func (c *conn) collect(ctx context.Context, n int) (all []*packet.Publish, err error) {
	for len(all) < n {
		p, err := c.await(ctx, "a message", func(p packet.Packet) bool {
			a, ok := p.(*packet.Ack)
			return p.Type() == packet.PUBLISH || ok && a.Kind == packet.PUBREL
		})
		if err != nil {
			return all, err
		}
		var answer []byte
		switch p := p.(type) {
		case *packet.Ack:
			answer = packet.AppendAck(nil, packet.PUBCOMP, c.v, p.ID, packet.Success)
		case *packet.Publish:
			all = append(all, p)
			switch p.QoS() {
			case packet.AtLeastOnce:
				answer = packet.AppendAck(nil, packet.PUBACK, c.v, p.ID, packet.Success)
			case packet.ExactlyOnce:
				answer = packet.AppendAck(nil, packet.PUBREC, c.v, p.ID, packet.Success)
			}
		}
		if answer == nil {
			continue
		}
		if err := c.write(ctx, answer); err != nil {
			return all, err
		}
	}
	return all, nil
}

// release is the second half of a QoS 2 handshake.
func (c *conn) release(ctx context.Context, id uint16) error {
	if err := c.write(ctx, packet.AppendAck(nil, packet.PUBREL, c.v, id, packet.Success)); err != nil {
		return err
	}
	_, err := c.acked(ctx, packet.PUBCOMP, id)
	return err
}

// acked awaits an acknowledgement.
func (c *conn) acked(ctx context.Context, t packet.Type, id uint16) (*packet.Ack, error) {
	p, err := c.await(ctx, t.String(), func(p packet.Packet) bool {
		a, ok := p.(*packet.Ack)
		return ok && a.Kind == t && a.ID == id
	})
	if err != nil {
		return nil, err
	}
	return p.(*packet.Ack), nil
}

// take is the next message, which it does not acknowledge.
func (c *conn) take(ctx context.Context) (*packet.Publish, error) {
	p, err := c.await(ctx, "a message", func(p packet.Packet) bool { return p.Type() == packet.PUBLISH })
	if err != nil {
		return nil, err
	}
	return p.(*packet.Publish), nil
}

// thank acknowledges a message.
func (c *conn) thank(ctx context.Context, m *packet.Publish) error {
	switch m.QoS() {
	case packet.AtLeastOnce:
		return c.write(ctx, packet.AppendAck(nil, packet.PUBACK, c.v, m.ID, packet.Success))
	case packet.ExactlyOnce:
		if err := c.write(ctx, packet.AppendAck(nil, packet.PUBREC, c.v, m.ID, packet.Success)); err != nil {
			return err
		}
		if _, err := c.acked(ctx, packet.PUBREL, m.ID); err != nil {
			return err
		}
		return c.write(ctx, packet.AppendAck(nil, packet.PUBCOMP, c.v, m.ID, packet.Success))
	}
	return nil
}

// receive is the next message, acknowledged.
func (c *conn) receive(ctx context.Context) (*packet.Publish, error) {
	m, err := c.take(ctx)
	if err != nil {
		return nil, err
	}
	return m, c.thank(ctx, m)
}

// expect is receive of the message with this payload: no other must come first.
func (c *conn) expect(ctx context.Context, payload string) (*packet.Publish, error) {
	m, err := c.receive(ctx)
	if end, ok := errors.AsType[*endError](err); ok {
		end.after = fmt.Sprintf("the message %q", payload)
	} else if v, ok := errors.AsType[*verdict](err); ok && m == nil {
		return nil, &verdict{v.status, fmt.Sprintf("%s: %q", v.text, payload)}
	}
	if err != nil {
		return nil, err
	}
	if got := string(m.Payload()); got != payload {
		return nil, broken("the message %.40q of %.80q came where %q was expected", got, m.Topic(), payload)
	}
	return m, nil
}

// silence makes sure that no message comes for a moment. what says why none must.
func (c *conn) silence(ctx context.Context, what string) error {
	quiet, cancel := context.WithTimeout(ctx, c.t.o.Quiet)
	defer cancel()
	for {
		p, err := c.stray(quiet)
		if err == errLate {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		if m, ok := p.(*packet.Publish); ok {
			return broken("%s: %.40q of %.80q came", what, m.Payload(), m.Topic())
		}
	}
}

// drain is all messages that still come, acknowledged, until none does for a
// moment.
func (c *conn) drain(ctx context.Context) (all []*packet.Publish, err error) {
	for {
		quiet, cancel := context.WithTimeout(ctx, c.t.o.Quiet)
		p, err := c.stray(quiet)
		cancel()
		if err == errLate {
			return all, ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		m, ok := p.(*packet.Publish)
		if !ok {
			continue
		}
		if len(all) == most {
			return nil, unknown("more than %d messages came", most)
		}
		all = append(all, m)
		if err := c.thank(ctx, m); err != nil {
			return nil, err
		}
	}
}

// stray is the next packet of those kept, or of those to come.
func (c *conn) stray(ctx context.Context) (packet.Packet, error) {
	if len(c.got) > 0 {
		p := c.got[0]
		c.got = c.got[1:]
		return p, nil
	}
	return c.fetch(ctx)
}

// leave ends the connection as the standard wants it, if it still stands.
func (c *conn) leave(ctx context.Context) {
	if c.left {
		return
	}
	// A moment is enough: what the server does not read now it need not.
	brief, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = c.send(brief, &packet.Disconnect{})
	c.cut()
}

// bid sends a DISCONNECT and closes.
func (c *conn) bid(ctx context.Context, d *packet.Disconnect) error {
	err := c.send(ctx, d)
	c.cut()
	return err
}

// cut closes the connection without a word.
func (c *conn) cut() {
	if c.left {
		return
	}
	c.left = true
	c.t.noteEnd(c, true)
	close(c.over)
	_ = c.nc.Close() // there is nothing to be done about it
	<-c.ended
}
