//go:build conformance

package conformance

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"
)

// patience is how long an expected packet may take; on a busy machine it is never the measure of anything.
const patience = 10 * time.Second

// client is one raw connection. Its expectations end the case when they are not met.
type client struct {
	e      *env
	v      byte
	nc     net.Conn
	r      *bufio.Reader
	id     string
	limit  int // the maximum packet size it announced, 0 for none
	nextID uint16
	hello  *packet // the CONNACK

	inbox   []*packet         // PUBLISH packets that arrived while something else was awaited
	aliases map[uint16]string // of the server
}

func newClient(e *env, v byte, nc net.Conn) *client {
	e.Cleanup(func() { nc.Close() })
	return &client{e: e, v: v, nc: nc, r: bufio.NewReader(nc), aliases: map[uint16]string{}}
}

// send writes packets, or any bytes, in one piece.
func (c *client) send(parts ...[]byte) {
	c.e.Helper()
	if err := c.write(parts...); err != nil {
		c.e.Fatalf("%s: send: %v", c.id, err)
	}
}

func (c *client) write(parts ...[]byte) error {
	c.nc.SetWriteDeadline(time.Now().Add(patience))
	_, err := c.nc.Write(cat(parts...))
	return err
}

// read gives the next packet; io.EOF when the server has closed.
func (c *client) read(wait time.Duration) (*packet, error) {
	c.nc.SetReadDeadline(time.Now().Add(wait))
	first, err := c.r.ReadByte()
	if err != nil {
		return nil, gone(err)
	}
	n := 0
	for i := 0; ; i++ {
		d, err := c.r.ReadByte()
		if err != nil {
			return nil, fmt.Errorf("inside a packet: %w", err)
		}
		n |= int(d&0x7f) << (7 * i)
		if d < 0x80 && (d > 0 || i == 0) {
			break
		}
		if d < 0x80 || i == 3 {
			return nil, errLength
		}
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return nil, fmt.Errorf("inside a packet of %d bytes: %w", n, err)
	}
	p, err := decode(c.v, first, body)
	p.size = 1 + len(varint(n)) + n
	if c.limit > 0 && p.size > c.limit && err == nil {
		err = fmt.Errorf("%s of %d bytes, more than the maximum packet size %d", p, p.size, c.limit) // [MQTT-3.1.2-24]
	}
	return p, err
}

// gone makes io.EOF of every way in which the other side can end a connection.
func gone(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return io.EOF
}

// next is the next packet, whatever it is.
func (c *client) next() *packet {
	c.e.Helper()
	p, err := c.read(patience)
	if err != nil {
		c.e.Fatalf("%s: waiting for a packet: %v", c.id, err)
	}
	c.resolve(p)
	return p
}

// resolve puts the topic for the alias into a PUBLISH.
func (c *client) resolve(p *packet) {
	c.e.Helper()
	q, ok := p.prop(pAlias)
	if p.typ != tPUBLISH || !ok {
		return
	}
	a := uint16(q.num)
	if p.topic != "" {
		c.aliases[a] = p.topic
	} else if p.topic = c.aliases[a]; p.topic == "" {
		c.e.Fatalf("%s: the topic alias %d stands for nothing", c.id, a)
	}
}

// expect is the next packet, which must be of this type. PUBLISH packets before it are kept for message.
func (c *client) expect(typ byte) *packet {
	c.e.Helper()
	for {
		p := c.next()
		if p.typ == typ {
			return p
		}
		if p.typ != tPUBLISH {
			c.e.Fatalf("%s: got %s, want %s", c.id, p, typeNames[typ])
		}
		c.inbox = append(c.inbox, p)
	}
}

// ackFor is the next packet, which must be of this type with this identifier.
func (c *client) ackFor(typ byte, id uint16) *packet {
	c.e.Helper()
	p := c.expect(typ)
	if p.id != id {
		c.e.Fatalf("%s: got %s, want it for the identifier %d", c.id, p, id)
	}
	return p
}

// message is the next PUBLISH, not acknowledged.
func (c *client) message() *packet {
	c.e.Helper()
	if len(c.inbox) > 0 {
		p := c.inbox[0]
		c.inbox = c.inbox[1:]
		return p
	}
	p := c.next()
	if p.typ != tPUBLISH {
		c.e.Fatalf("%s: got %s, want PUBLISH", c.id, p)
	}
	return p
}

// receive is the next PUBLISH, acknowledged to the end, and must have this payload.
func (c *client) receive(payload string) *packet {
	c.e.Helper()
	p := c.message()
	c.finish(p)
	if p.payload != payload {
		c.e.Fatalf("%s: got %s, want the payload %.60q", c.id, p, payload)
	}
	return p
}

// receiveOf takes messages with these payloads and acknowledges them. Those of the same topic and quality of service come in this order
// [MQTT-4.6.0-5]; others need not, for one of QoS 2 may have to wait for the disk while the next of QoS 1 is on its way.
func (c *client) receiveOf(payloads ...string) map[string]*packet {
	c.e.Helper()
	got, last := map[string]*packet{}, map[string]int{}
	for range payloads {
		p := c.message()
		c.finish(p)
		i, kind := 1+slices.Index(payloads, p.payload), fmt.Sprint(p.topic, p.qos())
		if i <= last[kind] || got[p.payload] != nil {
			c.e.Fatalf("%s: got %s, want once each of %q", c.id, p, payloads)
		}
		got[p.payload], last[kind] = p, i
	}
	return got
}

// finish acknowledges a PUBLISH to the end.
func (c *client) finish(p *packet) {
	c.e.Helper()
	switch p.qos() {
	case 1:
		c.send(ack(tPUBACK, p.id))
	case 2:
		c.send(ack(tPUBREC, p.id))
		c.ackFor(tPUBREL, p.id)
		c.send(ack(tPUBCOMP, p.id))
	}
}

// publish sends a message, completes its flow, and gives the reason code of the last acknowledgement.
func (c *client) publish(m message) byte {
	c.e.Helper()
	if m.qos > 0 && m.id == 0 {
		m.id = c.free()
	}
	c.send(m.bytes(c.v))
	switch m.qos {
	case 1:
		return c.ackFor(tPUBACK, m.id).code
	case 2:
		if p := c.ackFor(tPUBREC, m.id); p.code >= 0x80 {
			return p.code
		}
		c.send(ack(tPUBREL, m.id))
		return c.ackFor(tPUBCOMP, m.id).code
	}
	return 0
}

// free is a packet identifier that is not in use.
func (c *client) free() uint16 {
	c.nextID++
	return c.nextID
}

// subscribe sends a SUBSCRIBE and gives the SUBACK.
func (c *client) subscribe(props [][]byte, filters ...filter) *packet {
	c.e.Helper()
	id := c.free()
	c.send(subscribe(c.v, id, props, filters...))
	p := c.ackFor(tSUBACK, id)
	if len(p.codes) != len(filters) {
		c.e.Fatalf("%s: got %s for %d filters", c.id, p, len(filters))
	}
	return p
}

// want subscribes to one filter, which must be granted.
func (c *client) want(name string, options byte, props ...[]byte) {
	c.e.Helper()
	if p := c.subscribe(props, filter{name, options}); p.codes[0] != options&3 {
		c.e.Fatalf("%s: subscribing to %.60q: got %s", c.id, name, p)
	}
}

// unsubscribe sends an UNSUBSCRIBE and gives the UNSUBACK.
func (c *client) unsubscribe(names ...string) *packet {
	c.e.Helper()
	id := c.free()
	c.send(unsubscribe(c.v, id, names...))
	return c.ackFor(tUNSUBACK, id)
}

// alive proves that the connection is served, and that the server has sent nothing but PUBLISH packets before the answer.
func (c *client) alive() {
	c.e.Helper()
	c.send(pingreq())
	c.expect(tPINGRESP)
}

// quiet proves that nothing at all is under way to the client from what it did itself.
func (c *client) quiet() {
	c.e.Helper()
	c.send(pingreq())
	if p := c.next(); p.typ != tPINGRESP || len(c.inbox) > 0 {
		c.e.Fatalf("%s: got %s %v, want nothing", c.id, p, c.inbox)
	}
}

// nothing proves that no message from another client is under way: one more message of the same quality of service, sent after all that
// from has sent, comes first.
func (c *client) nothing(from *client, qos byte) {
	c.e.Helper()
	topic := c.fence()
	c.want(topic, qos)
	from.publish(message{topic: topic, payload: "fence", qos: qos})
	if p := c.message(); p.topic != topic {
		c.e.Fatalf("%s: got %s, want nothing", c.id, p)
	} else {
		c.finish(p)
	}
	c.unsubscribe(topic)
}

// fence is a topic that no wildcard of a case matches.
func (c *client) fence() string { return "fence/" + c.e.prefix + "/" + c.id }

// closed waits for the end of the connection. In 5.0, when codes are given, a DISCONNECT with one of them must come before it.
func (c *client) closed(codes ...byte) {
	c.e.Helper()
	if c.v < v5 {
		codes = nil
	}
	c.drain(codes)
}

// drain reads to the end of the connection: PUBLISH packets are let pass, one DISCONNECT must come last if codes are given.
func (c *client) drain(codes []byte) {
	c.e.Helper()
	var last *packet
	for {
		p, err := c.read(patience)
		switch {
		case err == io.EOF:
			if last == nil && len(codes) > 0 {
				c.e.Fatalf("%s: closed, want DISCONNECT % x first", c.id, codes)
			}
			return
		case err != nil:
			c.e.Fatalf("%s: waiting for the end: %v", c.id, err)
		case last != nil:
			c.e.Fatalf("%s: got %s behind DISCONNECT", c.id, p) // [MQTT-3.14.4-1]
		case p.typ == tDISCONNECT && slices.Contains(codes, p.code):
			last = p
		case p.typ != tPUBLISH:
			c.e.Fatalf("%s: got %s, want the end (% x)", c.id, p, codes)
		}
	}
}

// refused waits for a CONNACK with one of the codes, and for the end behind it.
func (c *client) refused(codes ...byte) *packet {
	c.e.Helper()
	p := c.next()
	if p.typ != tCONNACK || !slices.Contains(codes, p.code) {
		c.e.Fatalf("%s: got %s, want CONNACK % x", c.id, p, codes)
	}
	c.drain(nil)
	return p
}

// disconnect leaves normally and waits until the server has taken note.
func (c *client) disconnect() {
	c.e.Helper()
	c.leave(disconnect())
}

// leave sends a last packet and waits until the server has closed.
func (c *client) leave(last []byte) {
	c.e.Helper()
	c.send(last)
	for {
		if _, err := c.read(patience); err == io.EOF {
			break
		} else if err != nil {
			c.e.Fatalf("%s: after its last packet: %v", c.id, err)
		}
	}
	c.nc.Close()
}

// drop ends the connection without a word, and waits until the server has taken note.
func (c *client) drop() {
	c.e.Helper()
	if h, ok := c.nc.(interface{ CloseWrite() error }); ok {
		h.CloseWrite()
		for {
			if _, err := c.read(patience); err == io.EOF {
				break
			} else if err != nil {
				c.e.Fatalf("%s: after the end of its stream: %v", c.id, err)
			}
		}
	}
	c.nc.Close()
}
