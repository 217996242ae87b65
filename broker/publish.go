package broker

import (
	"bytes"
	"errors"
	"slices"

	"github.com/myelin-mqtt/myelin/internal/qos"
	"github.com/myelin-mqtt/myelin/internal/route"
	sess "github.com/myelin-mqtt/myelin/internal/session"
	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/store/disk"
	"github.com/myelin-mqtt/myelin/packet"
)

var sysPrefix = []byte("$SYS/")

// onPublish takes a PUBLISH of a client.
func (c *conn) onPublish(t *turn, b []byte, hdr int) error {
	p := &t.pub
	if err := p.Parse(b, hdr, c.ver); err != nil {
		return c.bad(t, b, err)
	}
	if p.HasSubID() { // [MQTT-3.3.4-6]
		return c.fail(t, packet.ProtocolError, "PUBLISH with a subscription identifier")
	}
	if p.Alias != 0 {
		if code := c.receiver().Resolve(p); code != packet.Success {
			return c.fail(t, code, "topic alias")
		}
	}
	if n := t.o.MaxTopicLevels; n > 0 && levels(p.Topic()) > n {
		return c.fail(t, packet.TopicNameInvalid, "topic has too many levels")
	}
	if p.Retain() && t.o.Retain.Disabled && c.ver >= packet.V5 { // [MQTT-3.2.2-14]
		return c.fail(t, packet.RetainNotSupported, "PUBLISH with RETAIN")
	}
	e := t.find(p.Topic())
	allowed := !bytes.HasPrefix(p.Topic(), sysPrefix) // the broker's own
	if allowed && t.o.Authorizer != nil {
		d := c.mayPublish(t, p, e)
		if d == Later {
			c.flags |= flagPaused | flagAccess
			return errAgain
		}
		allowed = d == Allow
	} else if !allowed {
		t.access.Rule = "topics of the broker's own"
	}
	v := sess.Verdict{Route: true}
	if p.QoS() > 0 {
		v = c.receiver().Publish(p)
		if v.Code.Failed() {
			return c.fail(t, v.Code, "too many messages in flight")
		}
	}
	t.n.pubIn[p.QoS()]++
	t.n.pubBytesIn += uint64(len(p.Payload()))
	switch {
	case !v.Route: // [MQTT-4.3.3-10]
		if tok, pending := c.s.in.Behind(p.ID); pending {
			c.s.in.WaitOn(v.Ack, p.ID, tok)
		} else {
			c.ack(t, v.Ack, p.ID, packet.Success)
		}
		return nil
	case !allowed:
		return c.denied(t, p, v)
	}
	return c.apply(t, p, e, v)
}

// apply is the order of a message: match was done; commit, acknowledge,
// deliver.
func (c *conn) apply(t *turn, p *packet.Publish, e *route.Entry[*session], v sess.Verdict) error {
	var tok uint64
	var in store.Inbound
	var comp store.Completer = nobody{}
	if v.Ack != 0 {
		comp = c.s
		tok = c.s.in.Token()
		if v.Ack == packet.PUBREC && c.s.store != nil {
			in = store.Inbound{From: c.s.store, ID: p.ID}
		}
	}
	done, matched, err := t.route(e, p, nil, c.s, in, comp, tok)
	switch {
	case err != nil && done:
		t.b.dropped(t.b.blamed(c.s, err), p, DropRefused)
		return c.refusePublish(t, p, v, err)
	case v.Ack == 0:
	case !done:
		c.s.in.Wait(v.Ack, p.ID)
	case matched || c.ver < packet.V5:
		c.ack(t, v.Ack, p.ID, packet.Success)
	default:
		c.ack(t, v.Ack, p.ID, packet.NoMatchingSubscribers)
	}
	return nil
}

// blamed is the session because of which a message was refused: the one with the
// full queue, where the store says so.
func (b *Broker) blamed(from *session, err error) *session {
	var q *store.QuotaError
	if errors.As(err, &q) {
		if s := b.registry.lookup(q.ClientID); s != nil {
			return s
		}
	}
	return from
}

// ack acknowledges a PUBLISH, behind those that still wait for their commit.
func (c *conn) ack(t *turn, typ packet.Type, id uint16, code packet.Reason) {
	in := c.s.in
	if in.Waiting() > 0 {
		tok := in.Token()
		in.Wait(typ, id)
		in.Commit(tok, code)
		return
	}
	c.sendAck(t, typ, id, code)
}

func (c *conn) sendAck(t *turn, typ packet.Type, id uint16, code packet.Reason) {
	c.s.in.Acked(typ, id, code)
	t.own = packet.AppendAck(t.own, typ, c.ver, id, code)
	t.n.packetsOut++
}

// committed takes the store's word on messages that had to wait, and sends the
// acknowledgements that may leave.
func (c *conn) committed(t *turn) error {
	done := c.s.committed()
	if done == nil || c.s.in == nil { // it is about messages that an earlier connection published, and forgot
		return nil
	}
	var leave error
	for _, d := range done {
		code := packet.Success
		switch {
		case d.err == errLate:
			if c.late(t, d.tok) {
				leave = store.ErrQuota
			}
			continue
		case errors.Is(d.err, store.ErrQuota):
			code = packet.QuotaExceeded
		case errors.Is(d.err, disk.ErrFailed) && c.unknown(d.tok):
			leave = d.err
			continue
		case d.err != nil:
			code = packet.UnspecifiedError
		}
		if d.err != nil {
			t.b.stats.drops[DropRefused].Add(1)
		}
		c.s.in.Commit(d.tok, code)
	}
	switch err := c.acks(t); {
	case err != nil || leave == nil:
		return err
	case leave == store.ErrQuota:
		return c.fail(t, packet.QuotaExceeded, "disk is full: what becomes of a message is not known yet")
	}
	return c.fail(t, packet.UnspecifiedError, "whether a message is stored is not known: "+leave.Error())
}

// unknown tells whether a write that failed may have stored a QoS 2 message with
// its identifier all the same. It cannot be refused then, as in late.
func (c *conn) unknown(tok uint64) bool {
	typ, waits := c.s.in.Awaits(tok)
	return waits && typ == packet.PUBREC && c.s.store != nil
}

// late takes word that a message waits for room on the disk. At QoS 1 it is
// refused, and may be delivered nevertheless. At QoS 2 it cannot be: refused,
// its identifier would be free for another message, while this one may still
// come, also after a crash [MQTT-4.3.3-9]. So the connection has to end (leave),
// and the client sends it again under its identifier, which is held.
func (c *conn) late(t *turn, tok uint64) (leave bool) {
	switch typ, waits := c.s.in.Awaits(tok); {
	case !waits:
		return false
	case typ == packet.PUBREC:
		return true
	}
	t.b.stats.drops[DropRefused].Add(1)
	c.s.in.Commit(tok, packet.QuotaExceeded)
	return false
}

// acks sends what is no longer waited for, in the order of the publishes.
func (c *conn) acks(t *turn) error {
	if c.s.in == nil {
		return nil
	}
	for {
		a, ok := c.s.in.Next()
		if !ok {
			return nil
		}
		if a.Code.Failed() && c.ver < packet.V5 {
			c.s.in.Acked(a.Type, a.ID, a.Code)
			return c.fail(t, a.Code, "message cannot be stored")
		}
		c.sendAck(t, a.Type, a.ID, a.Code)
	}
}

// refusePublish tells the publisher that its message was taken for nobody.
// 3.x has no word for it: no acknowledgement, and the connection is closed.
func (c *conn) refusePublish(t *turn, p *packet.Publish, v sess.Verdict, err error) error {
	code := packet.UnspecifiedError
	if errors.Is(err, store.ErrQuota) {
		code = packet.QuotaExceeded
	}
	switch {
	case v.Ack == 0:
		return nil // QoS 0: dropped and counted
	case c.ver < packet.V5:
		c.s.in.Acked(v.Ack, p.ID, code) // sent again, it is a new message
		return c.fail(t, code, "message cannot be stored: "+err.Error())
	}
	c.ack(t, v.Ack, p.ID, code)
	return nil
}

// denied answers a PUBLISH that the access rules forbid. [MQTT3-3.3.5-2]
func (c *conn) denied(t *turn, p *packet.Publish, v sess.Verdict) error {
	t.b.stats.deniedPubs.Add(1)
	t.b.droppedBy(c.s, p, DropDenied, t.rule())
	switch {
	case v.Ack == 0:
	case c.ver < packet.V5: // 3.x: as if it had been taken
		c.ack(t, v.Ack, p.ID, packet.Success)
	default:
		c.ack(t, v.Ack, p.ID, packet.NotAuthorized)
	}
	return nil
}

// mayPublish asks the access rules. An allowed topic is remembered as the
// address of its route entry, as long as the rules stand.
func (c *conn) mayPublish(t *turn, p *packet.Publish, e *route.Entry[*session]) Decision {
	a := t.o.Authorizer
	epoch := a.Epoch()
	if c.allowed == e && e != nil && e.Cached() && c.policy == epoch && p.QoS() <= c.most && !p.Retain() {
		return Allow
	}
	name := e.Name()
	if name == "" {
		name = string(p.Topic())
	}
	q := t.question(c.known(), Publish, name, p.QoS())
	q.Retain = p.Retain()
	d := a.Access(q, q.Client.asked)
	if d == Allow && !q.Once && e.Cached() && !p.Retain() {
		c.allowed, c.policy, c.most = e, epoch, p.QoS()
	}
	return d
}

// route sends one message to everyone who is to have it: it is committed for
// durable sessions and as retained message first, and then delivered to the
// others. kept is p where p may be kept as it is, else nil. done: nothing is
// left to wait for. matched: somebody gets it.
func (t *turn) route(e *route.Entry[*session], p, kept *packet.Publish, from *session, in store.Inbound, c store.Completer, tok uint64) (done, matched bool, err error) {
	q, retain := p.QoS(), p.Retain()
	expiry, _ := p.Expiry()
	if kept != nil {
		expiry = t.left(kept)
	} else if retain || q > 0 && len(e.Subs)+len(e.Groups) > 0 || len(p.Payload()) >= byRef && len(e.Subs) > 1 {
		kept = p.Keep(t.now)
	}
	t.enc.Reset(p, expiry)
	t.expiry = expiry
	t.targets, t.picked = t.targets[:0], t.picked[:0]
	for _, g := range e.Groups {
		t.pick(g, p, from)
	}
	if t.o.Queue.QoS0 {
		t.queuedTargets(e, p, &kept, from)
	} else if q > 0 && e.Durable > 0 {
		t.durableTargets(e, p, from)
	}
	done = true
	past := false // what the store should deliver is delivered at once
	if retain || len(t.targets) > 0 || in.From != nil || in.Fired != nil {
		if kept == nil {
			kept = p.Keep(t.now)
		}
		epoch := t.epoch
		done, err = t.b.store.Publish(kept, t.targets, in, c, tok)
		switch {
		case !done || err == nil:
		case q == 0 && errors.Is(err, store.ErrFull): // it goes on past the store
			past = true
		default:
			clear(t.targets)
			return true, false, err
		}
		if retain && t.b.table.Epoch() != epoch {
			e = t.missed(p, kept, from)
		}
		clear(t.targets)
	}
	matched = retain || len(t.targets) > 0
	for i := range e.Subs {
		if t.toSub(e, &e.Subs[i], p, kept, from, past) {
			matched = true
		}
	}
	for i := range t.picked {
		if t.toMember(&t.picked[i], p, kept, from) {
			matched = true
		}
	}
	return done, matched, nil
}

// missed matches again for a retained message: a subscription that came between
// the match and the retaining would get it neither way. Durable sessions that
// are new are served at once.
func (t *turn) missed(p, kept *packet.Publish, from *session) *route.Entry[*session] {
	e := t.find(p.Topic())
	if !t.o.Queue.QoS0 && (p.QoS() == 0 || e.Durable == 0) {
		return e
	}
	n := len(t.targets)
	served := make(map[store.Session]bool, n)
	for _, x := range t.targets {
		if x.Flags&qos.Shared == 0 {
			served[x.To] = true
		}
	}
	if t.o.Queue.QoS0 {
		t.queuedTargets(e, p, &kept, from)
	} else {
		t.durableTargets(e, p, from)
	}
	fresh := slices.DeleteFunc(t.targets[n:], func(x store.Target) bool { return served[x.To] })
	if len(fresh) > 0 {
		t.b.store.Publish(kept, fresh, store.Inbound{Again: true}, nobody{}, 0)
	}
	return e
}

// byRef is the size from which a payload is queued by reference, except that
// of a QoS 0 message with one target.
const byRef = 4096

// durableTargets collects the sessions of e that the store has to serve.
func (t *turn) durableTargets(e *route.Entry[*session], p *packet.Publish, from *session) {
	for i := range e.Subs {
		s := &e.Subs[i]
		if s.Opts&route.Durable == 0 || s.QoS == 0 {
			continue
		}
		s, more, ok := own(e, s, from)
		if !ok || s.QoS == 0 || s.To.ended() {
			continue
		}
		t.target(s, more, p)
	}
}

// queuedTargets collects the durable sessions where QoS 0 messages are queued
// for them by configuration. All of them, connected or not: what goes
// past the queue would overtake what waits in it.
func (t *turn) queuedTargets(e *route.Entry[*session], p *packet.Publish, kept **packet.Publish, from *session) {
	for i := range e.Subs {
		if e.Subs[i].Opts&route.Durable == 0 {
			continue
		}
		s, more, ok := own(e, &e.Subs[i], from)
		if !ok || s.To.ended() {
			continue
		}
		if *kept == nil {
			*kept = p.Keep(t.now)
		}
		t.target(s, more, p)
	}
}

func (t *turn) target(s *route.Sub[*session], more []uint32, p *packet.Publish) {
	x := store.Target{To: s.To.store, Sub: s.ID, QoS: min(p.QoS(), packet.QoS(s.QoS))}
	if len(more) > 1 {
		x.More = several(more)
	}
	if p.Retain() && s.Opts&route.RetainAsPublished != 0 { // [MQTT-3.3.1-13]
		x.Flags |= qos.Retain
	}
	t.targets = append(t.targets, x)
}

// own is the subscription by which a session gets a message, with all its
// identifiers: for the publisher itself without those that have No Local.
// [MQTT-3.8.3-3]
func own(e *route.Entry[*session], s *route.Sub[*session], from *session) (*route.Sub[*session], []uint32, bool) {
	if s.To != from {
		return s, e.More[s.To], true
	}
	if s.Opts&route.NoLocal != 0 {
		return nil, nil, false
	}
	if o, ok := e.Own[from]; ok {
		return &o.Sub, o.IDs, true
	}
	return s, e.More[s.To], true
}

// toSub delivers to one session, unless the store does; past: it does not, for
// the disk is full, and who is away gets nothing.
func (t *turn) toSub(e *route.Entry[*session], s *route.Sub[*session], p, kept *packet.Publish, from *session, past bool) bool {
	var more []uint32
	if s.To == from || e.More != nil {
		var ok bool
		if s, more, ok = own(e, s, from); !ok {
			return false
		}
	}
	if s.Opts&route.Durable != 0 && !past && (s.QoS > 0 && p.QoS() > 0 || t.o.Queue.QoS0) {
		return true // through store.Session.Next
	}
	ok := t.deliver(s, more, p, kept, 0)
	if past && !ok && s.Opts&route.Durable != 0 {
		t.b.dropped(s.To, p, DropDiskFull)
	}
	return ok
}

// pick chooses the member of a shared subscription: where the store has to
// serve it, it becomes a target, else it is delivered to after the commit.
func (t *turn) pick(g *route.Group[*session], p *packet.Publish, from *session) {
	m, ok := g.Pick(t.o.Shared, t.key(from, g), rank)
	switch {
	case !ok:
	case p.QoS() > 0 && m.QoS > 0 && m.To.durable():
		t.target(&m, nil, p)
		t.targets[len(t.targets)-1].Flags |= qos.Shared
		if l := m.To.load.Load(); l >= 0 { // until its own loop says better
			m.To.load.CompareAndSwap(l, l+1)
		}
		return
	}
	t.picked = append(t.picked, picked{g, m, ok})
}

// picked is a member that was chosen.
type picked struct {
	g  *route.Group[*session]
	m  route.Sub[*session]
	ok bool
}

// toMember delivers to a chosen member, or to another where it has just left.
func (t *turn) toMember(k *picked, p, kept *packet.Publish, from *session) bool {
	stored := func() bool { return k.ok && kept != nil && k.m.To.durable() && p.QoS() > 0 && k.m.QoS > 0 }
	for range 3 { // Pick prefers who is online: one that is not means that nobody is
		if !k.ok || stored() {
			break
		}
		if t.deliver(&k.m, nil, p, kept, qos.Shared) {
			return true
		}
		k.m, k.ok = k.g.Pick(t.o.Shared, t.random(), rank)
	}
	if stored() {
		t.target(&k.m, nil, p)
		last := &t.targets[len(t.targets)-1]
		last.Flags |= qos.Shared
		if _, err := t.b.store.Publish(kept, t.targets[len(t.targets)-1:], store.Inbound{Again: true}, nobody{}, 0); err == nil {
			return true
		}
	}
	t.b.dropped(nil, p, DropNoMember)
	return false
}

// toGroup gives a message that a member left behind to another.
func (t *turn) toGroup(g *route.Group[*session], p, kept *packet.Publish, from *session) bool {
	m, ok := g.Pick(t.o.Shared, t.random(), rank)
	t.targets = t.targets[:0]
	return t.toMember(&picked{g, m, ok}, p, kept, from)
}

// key is what Random and Sticky choose by: a random number, or the publisher.
func (t *turn) key(from *session, g *route.Group[*session]) uint64 {
	if t.o.Shared == Sticky && from != nil {
		return t.b.hash(from.id)
	}
	return t.random()
}

// random is a xorshift step: it only spreads load.
func (t *turn) random() uint64 {
	t.seed ^= t.seed << 13
	t.seed ^= t.seed >> 7
	t.seed ^= t.seed << 17
	return t.seed
}

// levels counts the levels of a topic.
func levels[S string | []byte](name S) int {
	n := 1
	for i := range len(name) {
		if name[i] == '/' {
			n++
		}
	}
	return n
}

// nobody completes what nobody waits for.
type nobody struct{}

// Done implements store.Completer.
func (nobody) Done(uint64, error) {}
