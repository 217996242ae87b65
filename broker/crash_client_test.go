package broker

import (
	"hash/fnv"
	"net"
	"slices"
	"strings"

	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/topic"
)

// client is one client identifier: what it is in the middle of, and what it
// was promised. Its methods are called with the ledger's lock held.
type client struct {
	l    *ledger
	id   string
	v    packet.Version
	keen bool // a subscriber that never ends its session
	link *link

	be, notBe bool // what may be true: the broker has a session, has none
	transient bool // the session that it is in ends with the connection
	lost      bool // it has asked for a new session, and does not know whether it has one
	gen       int  // counts the moments at which the session may have ended
	subs      map[string]*sub
	asked     map[string]int // SUBSCRIBEs by filter
	brings    []bring
	wills     []*msg // that may still come, or be discarded

	out     []*flight         // published and not finished, in their order
	seq     map[string]int    // publishes by topic
	inbound map[uint16]string // QoS 2 messages whose PUBREL has not come
	owed    map[string]*msg   // to come, and to be acknowledged
	done    map[string]bool   // acknowledged
	got     map[string]int    // deliveries
	got2    map[string]int    // those of QoS 2 in this session
	newest  map[order]int     // the last place in an order
}

// order is what a publisher's messages are in order within.
type order struct {
	from, topic string
	qos         packet.QoS
}

// sub is a subscription: what it may be. The first value is what it was when
// nothing was under way, those behind it were asked for since.
type sub struct {
	vals []value
	gen  int // counts the moments at which it may have ended
}

type value struct {
	on  bool
	qos packet.QoS
	req int // the clock of the request
}

// certain tells whether messages are queued for it, whatever has been done.
func (s *sub) certain() bool {
	return !slices.ContainsFunc(s.vals, func(v value) bool { return !v.on || v.qos == 0 })
}

// bring is a retained message that a subscription is to bring, unless another
// replaces it.
type bring struct {
	m   *msg
	sub *sub
	gen [2]int
}

// flight is a message of QoS 1 or 2 on its way to the broker.
type flight struct {
	m    *msg
	id   uint16
	rec  bool // its PUBREC has come
	rels int  // PUBRELs sent
	held bool // the PUBREL is withheld
}

// link is one connection of a client.
type link struct {
	c       *client
	conn    net.Conn
	life    int
	online  bool
	closed  bool // by the broker
	left    bool // a DISCONNECT was sent
	ends    bool // with the session
	clean   bool
	expiry  uint32
	prior   [2]bool // be and notBe before the CONNECT
	req     int
	will    *msg
	asks    map[uint16]ask // SUBSCRIBE and UNSUBSCRIBE that are not answered
	next    uint16
	seen    map[string]bool
	held    []reply
	pongs   int
	packets int
}

type ask struct {
	filters []string
	req     int
	off     bool
}

// reply is an acknowledgement that the client withholds.
type reply struct {
	p    packet.Packet
	done string
}

func newClient(l *ledger, id string, v packet.Version) *client {
	c := &client{l: l, id: id, v: v, notBe: true, subs: map[string]*sub{}, asked: map[string]int{}, seq: map[string]int{},
		inbound: map[uint16]string{}, owed: map[string]*msg{}, done: map[string]bool{}, got: map[string]int{},
		got2: map[string]int{}, newest: map[order]int{}}
	l.clients = append(l.clients, c)
	return c
}

// lives tells whether the broker certainly has a session that outlives
// whatever comes.
func (c *client) lives() bool { return c.be && !c.notBe }

func (c *client) gens(s *sub) [2]int { return [2]int{c.gen, s.gen} }

// mayEnd: from now on the session may be gone, and nothing is owed to it.
func (c *client) mayEnd() {
	c.gen++
	c.owed = map[string]*msg{}
}

func (c *client) sub(filter string) *sub {
	s := c.subs[filter]
	if s == nil {
		s = &sub{vals: []value{{}}}
		c.subs[filter] = s
	}
	return s
}

// ask notes a change of a subscription that was asked for.
func (c *client) ask(filter string, v value) {
	s := c.sub(filter)
	s.vals = append(s.vals, v)
	if !v.on || v.qos == 0 {
		s.gen++
	}
}

// answered: the request was done, and with it all before.
func (c *client) answered(filter string, req int) {
	s := c.sub(filter)
	if i := slices.IndexFunc(s.vals, func(v value) bool { return v.req == req }); i > 0 {
		s.vals = s.vals[i:]
	}
}

// connect is CONNECT on a new connection; an older one is not listened to any
// more. A client that does not know whether its session is there has to begin a
// new one: of a session that it knows nothing of it could not go on.
func (c *client) connect(conn net.Conn, p packet.Connect) *link {
	l := c.l
	if c.transient && !c.be { // its session has ended with the connection
		c.fresh()
	}
	p.CleanStart = p.CleanStart || c.be && c.notBe || c.lost
	c.lost = p.CleanStart
	k := &link{c: c, conn: conn, life: l.life, clean: p.CleanStart, expiry: p.SessionExpiry, prior: [2]bool{c.be, c.notBe},
		asks: map[uint16]ask{}, seen: map[string]bool{}}
	if c.v < packet.V5 {
		if k.expiry = neverExpires; p.CleanStart {
			k.expiry = 0
		}
	}
	p.ClientID, p.Version = c.id, c.v
	if w := p.Will; w != nil {
		k.will = &msg{name: string(w.Payload), from: "will", topic: w.Topic, qos: w.QoS, will: &will{delay: w.Delay, expiry: k.expiry}}
		l.msgs[k.will.name] = k.will
	}
	k.req = l.note(c.id, "connects:", &p)
	for _, m := range c.wills {
		if m.will.ended = m.will.ended || p.CleanStart; !p.CleanStart && m.will.delay > 0 && !l.last {
			m.will.maybe = true
		}
	}
	switch {
	case k.expiry > 0:
		c.be = true
	default:
		c.notBe = true
	}
	if p.CleanStart {
		for f := range c.subs {
			c.ask(f, value{req: k.req})
		}
	}
	if p.CleanStart || k.expiry == 0 {
		c.mayEnd()
	}
	for _, f := range c.out {
		f.held = false
	}
	c.link = k
	k.write(&p)
	l.readers.Go(k.read)
	return k
}

func (k *link) write(all ...packet.Packet) {
	var b []byte
	for _, x := range all {
		b = x.Append(b, k.c.v)
	}
	k.conn.Write(b) // what fails was not received
}

// send sends a packet and notes it.
func (k *link) send(x packet.Packet) {
	k.c.l.note(k.c.id, ">", x)
	k.write(x)
}

// read hands what comes to the client, until the connection ends.
func (k *link) read() {
	l := k.c.l
	var buf []byte
	chunk := make([]byte, 32<<10)
	for {
		n, err := k.conn.Read(chunk)
		buf = append(buf, chunk[:n]...)
		l.mu.Lock()
		for {
			x, n, bad := packet.Parse(buf, 0, k.c.v)
			if bad != nil {
				l.fault("%s receives rubbish: %v", k.c.id, bad)
				buf = nil
			}
			if n == 0 {
				break
			}
			buf = buf[n:]
			if k.listens() {
				k.packets++
				if x.Type() != packet.PINGRESP {
					l.note(k.c.id, "<", x)
				}
				k.receive(x)
				l.news.Broadcast()
			}
		}
		if err != nil {
			k.closed = true
			if k.listens() {
				k.end()
			}
			l.news.Broadcast()
			l.mu.Unlock()
			k.conn.Close()
			return
		}
		l.mu.Unlock()
	}
}

// listens: the client still uses the connection, and its broker still counts.
func (k *link) listens() bool { return k.c.link == k && !k.c.l.cut && k.life == k.c.l.life }

// end: the broker has closed the connection.
func (k *link) end() {
	c := k.c
	c.l.note(c.id, "is disconnected")
	c.link = nil
	switch {
	case k.left:
		if !c.l.faulty { // the disk has what the DISCONNECT brought about
			if k.will != nil && k.will.will.away {
				k.will.will.never = true
			}
			if k.ends {
				c.be, c.notBe = false, true
			}
		}
	case !c.l.faulty:
		c.l.fault("%s: the broker closes the connection", c.id)
	}
}

func (k *link) receive(x packet.Packet) {
	c, l := k.c, k.c.l
	if _, ok := x.(*packet.Connack); !ok && !k.online {
		l.fault("%s gets %v before its CONNACK", c.id, x)
		return
	}
	switch x := x.(type) {
	case *packet.Connack:
		k.connected(x)
	case *packet.Suback:
		a := k.asks[x.ID]
		delete(k.asks, x.ID)
		for i, f := range a.filters {
			if !x.Codes[i].Failed() {
				c.answered(f, a.req)
				c.expect(f, x.Codes[i])
			} else if !l.faulty {
				l.fault("%s: subscription to %s is refused", c.id, f)
			}
		}
	case *packet.Unsuback:
		a := k.asks[x.ID]
		delete(k.asks, x.ID)
		for _, f := range a.filters {
			c.answered(f, a.req)
		}
	case *packet.Publish:
		k.onPublish(x)
	case *packet.Ack:
		k.onAck(x)
	case *packet.Pingresp:
		k.pongs++
		k.packets--
	case *packet.Disconnect:
		if !l.faulty {
			l.fault("%s: %v", c.id, x)
		}
	}
}

// expect notes the retained messages that a subscription is to bring.
func (c *client) expect(filter string, granted packet.Reason) {
	s := c.subs[filter]
	if !c.lives() || !s.certain() || granted == 0 {
		return
	}
	for name, all := range c.l.kept {
		m := all[len(all)-1]
		if topic.Match(filter, name) && m.name != "" && m.acked != 0 && m.acked < s.vals[0].req && m.qos > 0 && c.l.retained(m) {
			c.brings = append(c.brings, bring{m, s, c.gens(s)})
		}
	}
}

// connected takes the CONNACK.
func (k *link) connected(a *packet.Connack) {
	c, l := k.c, k.c.l
	if a.Code.Failed() {
		if !l.faulty {
			l.fault("%s: %v", c.id, a)
		}
		c.link = nil
		return
	}
	switch present := a.SessionPresent; {
	case present && k.clean:
		l.fault("%s: a session is present after a clean start", c.id)
	case present && !k.prior[0]:
		l.fault("%s: a session is present that has ended", c.id)
	case !present && !k.clean && !k.prior[1]:
		l.fault("%s: the session is gone", c.id)
	}
	if !a.SessionPresent {
		c.fresh()
	}
	c.transient = k.expiry == 0
	c.be, c.notBe = !c.transient, c.transient
	k.online, c.lost = true, false
	for _, m := range c.wills {
		w := m.will
		if a.SessionPresent && w.delay > 0 && w.expiry > 0 && !w.ended && !l.last {
			w.never = true // [MQTT-3.1.3-9]
		}
	}
	c.wills = nil
	if m := k.will; m != nil {
		m.will.stored = k.expiry > 0 || a.SessionPresent
		m.sent = l.clock
		m.cands = l.candidates(m.topic, m.qos)
		c.wills = append(c.wills, m)
	}
	for _, f := range c.out {
		if f.rec {
			k.pubrel(f)
		} else {
			k.sendPublish(f, true)
		}
	}
}

// fresh begins a session of which the broker knows nothing.
func (c *client) fresh() {
	c.mayEnd()
	for _, s := range c.subs {
		s.vals = []value{{}}
		s.gen++
	}
	c.inbound = map[uint16]string{}
	c.out = nil
	if c.transient {
		c.got2 = map[string]int{}
	}
}

// decides whether the client does something at once: the same in each run of a seed.
func (c *client) decides(about string) bool {
	h := fnv.New64a()
	h.Write([]byte(c.id + " " + about))
	return c.l.last || (h.Sum64()^c.l.seed*0x9E3779B97F4A7C15)%4 != 0
}

// answer acknowledges at once, or withholds it.
func (k *link) answer(typ packet.Type, id uint16, name, done string) {
	h := reply{&packet.Ack{Kind: typ, ID: id}, done}
	if len(k.held) > 0 && typ == k.held[len(k.held)-1].p.Type() || !k.c.decides(typ.String()+name) { // in the order of the messages [MQTT-4.6.0-2]
		k.held = append(k.held, h)
		return
	}
	k.give(h)
}

func (k *link) give(h reply) {
	if h.done != "" {
		k.c.done[h.done] = true
		delete(k.c.owed, h.done)
	}
	k.send(h.p)
}

func (k *link) onPublish(p *packet.Publish) {
	c, l := k.c, k.c.l
	name, _, _ := strings.Cut(string(p.Payload()), "|")
	m := l.msgs[name]
	if m == nil && name != "" {
		l.fault("%s gets %s, which nobody has sent", c.id, name)
		return
	}
	done := name
	if p.Retain() {
		done = ""
	}
	switch p.QoS() {
	case 1:
		c.delivered(k, m, p)
		k.answer(packet.PUBACK, p.ID, name, done)
	case 2:
		held, again := c.inbound[p.ID]
		switch {
		case again && held != name:
			l.fault("%s gets %s under identifier %d, which stands for %s: it is swallowed", c.id, name, p.ID, held)
		case !again:
			c.inbound[p.ID] = name
			c.delivered(k, m, p)
		}
		k.answer(packet.PUBREC, p.ID, name, done)
	default:
		c.delivered(k, m, p)
	}
}

// delivered takes a message that is no repetition for all that the client knows.
func (c *client) delivered(k *link, m *msg, p *packet.Publish) {
	if m == nil { // it clears a retained message
		return
	}
	l := c.l
	if m.topic != string(p.Topic()) {
		l.fault("%s gets %s with topic %s", c.id, m.name, p.Topic())
	}
	if p.QoS() > m.qos {
		l.fault("%s gets %s with QoS %d", c.id, m.name, p.QoS())
	}
	key := m.name
	if p.Retain() {
		key = "retained " + key
		if c.got[key]++; p.QoS() < 2 {
			return
		}
		n := 0
		for f, k := range c.asked {
			if topic.Match(f, m.topic) {
				n += k * l.life // those that had not come before a crash begin again
			}
		}
		if c.got2[key]++; c.got2[key] > n {
			l.fault("%s gets the retained %s %d times for %d subscriptions", c.id, m.name, c.got2[key], n)
		}
		return
	}
	first := c.got[key] == 0
	c.got[key]++
	switch p.QoS() {
	case 0:
		if m.qos == 0 && c.got[key] > 1 {
			l.fault("%s gets %s twice at QoS 0", c.id, m.name)
		}
	case 1:
		if c.got2[key] > 0 || k.seen[key] && m.lo == m.hi {
			l.fault("%s gets %s twice", c.id, m.name)
		}
	case 2:
		if c.got2[key]++; c.got2[key] > 1 {
			l.fault("%s gets %s twice at QoS 2", c.id, m.name)
		}
	}
	k.seen[key] = true
	if m.will != nil {
		if m.will.never {
			l.fault("%s gets the will %s, which was discarded", c.id, m.name)
		}
		return
	}
	o := order{m.from, m.topic, p.QoS()}
	if first && m.hi < c.newest[o] {
		l.fault("%s gets %s, number %d of %s on %s, after number %d", c.id, m.name, m.hi, m.from, m.topic, c.newest[o])
	}
	c.newest[o] = max(c.newest[o], m.lo)
}

func (k *link) onAck(a *packet.Ack) {
	c, l := k.c, k.c.l
	if a.Kind == packet.PUBREL {
		name := c.inbound[a.ID]
		delete(c.inbound, a.ID)
		k.answer(packet.PUBCOMP, a.ID, name, "")
		return
	}
	i := slices.IndexFunc(c.out, func(f *flight) bool { return f.id == a.ID })
	if i < 0 {
		l.fault("%s gets %v for nothing", c.id, a)
		return
	}
	f := c.out[i]
	if a.Code.Failed() && !(a.Kind == packet.PUBCOMP && a.Code == packet.PacketIdentifierNotFound) {
		if !l.faulty {
			l.fault("%s: %s: %v", c.id, f.m.name, a)
		}
		c.out = slices.Delete(c.out, i, i+1)
		return
	}
	if a.Code == packet.PacketIdentifierNotFound && f.rels == 1 && !l.faulty {
		l.fault("%s: the identifier of %s, %d, is forgotten", c.id, f.m.name, f.id)
	}
	if a.Code == packet.NoMatchingSubscribers && slices.ContainsFunc(f.m.cands, func(x cand) bool { return x.gen == x.c.gens(x.sub) }) {
		l.fault("%s is told that nobody gets %s", c.id, f.m.name)
	}
	switch a.Kind {
	case packet.PUBREC:
		f.rec = true
		l.acked(f.m)
		if f.held = !c.decides("PUBREL" + f.m.name); !f.held {
			k.pubrel(f)
		}
	case packet.PUBACK:
		l.acked(f.m)
		fallthrough
	default:
		c.out = slices.Delete(c.out, i, i+1)
	}
}

// publish sends a new message.
func (k *link) publish(name string, q packet.QoS, retain, empty bool, size int) {
	c, l := k.c, k.c.l
	m := l.publish(c.id, name, q, retain, empty)
	f := &flight{m: m}
	if q > 0 {
		for f.id = 1; slices.ContainsFunc(c.out, func(o *flight) bool { return o.id == f.id }); f.id++ {
		}
		c.out = append(c.out, f)
	}
	m.size = size
	k.sendPublish(f, false)
}

func (k *link) sendPublish(f *flight, dup bool) {
	c, m := k.c, f.m
	c.seq[m.topic]++
	if m.hi = c.seq[m.topic]; m.lo == 0 {
		m.lo = m.hi
	}
	var payload []byte
	if m.name != "" {
		payload = append([]byte(m.name+"|"), make([]byte, m.size)...)
	}
	p := pub(packet.Message{Topic: m.topic, Payload: payload, QoS: m.qos, Retain: m.retain}, f.id)
	c.l.note(c.id, ">", p)
	k.conn.Write(packet.AppendPublish(nil, p, c.v, packet.PublishOpts{QoS: m.qos, Retain: m.retain, ID: f.id, Dup: dup && m.qos > 0}))
}

func (k *link) pubrel(f *flight) {
	f.rels++
	k.send(&packet.Ack{Kind: packet.PUBREL, ID: f.id})
}

// id is the identifier of the next SUBSCRIBE or UNSUBSCRIBE.
func (k *link) id() uint16 {
	k.next++
	return 1000 + k.next
}

func (k *link) subscribe(filter string, q packet.QoS) {
	p := &packet.Subscribe{ID: k.id(), Filters: []packet.Subscription{{Filter: filter, Options: packet.SubOptions(q)}}}
	k.send(p)
	k.c.asked[filter]++
	k.c.ask(filter, value{on: true, qos: q, req: k.c.l.clock})
	k.asks[p.ID] = ask{filters: []string{filter}, req: k.c.l.clock}
}

func (k *link) unsubscribe(filter string) {
	p := &packet.Unsubscribe{ID: k.id(), Filters: []string{filter}}
	k.send(p)
	k.c.ask(filter, value{req: k.c.l.clock})
	k.asks[p.ID] = ask{filters: []string{filter}, req: k.c.l.clock, off: true}
}

// release sends what was withheld.
func (k *link) release() {
	all := k.held
	k.held = nil
	for _, h := range all {
		k.give(h)
	}
	for _, f := range k.c.out {
		if f.rec && f.held {
			f.held = false
			k.pubrel(f)
		}
	}
}

// disconnect says goodbye; the session goes on for expiry seconds, -1: as it was.
func (k *link) disconnect(code packet.Reason, expiry int) {
	c := k.c
	d := &packet.Disconnect{Code: code}
	if expiry >= 0 && k.expiry > 0 && c.v >= packet.V5 {
		d.SessionExpiry, d.HasSessionExpiry = uint32(expiry), true
	}
	k.left, k.ends = true, k.expiry == 0 || d.HasSessionExpiry && expiry == 0
	k.send(d)
	if k.will != nil && (code == packet.Success || c.v < packet.V5) {
		k.will.will.away = true
	}
	if k.ends {
		c.notBe = true
		c.mayEnd()
	}
}

// drop cuts the connection.
func (k *link) drop() {
	k.c.l.note(k.c.id, "cuts the connection")
	k.c.link = nil
	k.conn.Close()
}

// idle: the broker has answered everything.
func (k *link) idle() bool {
	return len(k.asks) == 0 && !slices.ContainsFunc(k.c.out, func(f *flight) bool { return !f.held })
}
