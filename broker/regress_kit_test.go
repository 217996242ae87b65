package broker

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/packet"
)

// scripted is a store whose completions a test keeps back, and gives in the
// order and with the result that it wants. What is kept back was not done.
type scripted struct {
	store.Engine
	mu   sync.Mutex
	hold map[string]bool // the names of the calls that are kept back
	kept []kept
	stop *stop

	onEnd func() // called before the end of a session
}

// stop halts one retained message before the store sees it.
type stop struct {
	reached, proceed chan struct{}
}

// kept is a call that was kept back.
type kept struct {
	name string
	end  func(err error) // does it, unless err says that it failed
}

var errDisk = errors.New("disk full")

// startScripted starts a broker on a scripted store.
func startScripted(t *testing.T, o Options) (*running, *scripted) {
	x := &scripted{hold: map[string]bool{}}
	o.SysInterval = -1
	o.wrapStore = func(e store.Engine) store.Engine { x.Engine = e; return x }
	return start(t, o), x
}

// keep keeps back the calls of these names from now on, and no others.
func (x *scripted) keep(names ...string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	clear(x.hold)
	for _, name := range names {
		x.hold[name] = true
	}
}

// halt halts the next retained message.
func (x *scripted) halt() *stop {
	s := &stop{make(chan struct{}), make(chan struct{})}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stop = s
	return s
}

// await waits until calls were kept back, and takes them out.
func (x *scripted) await(t *testing.T, names ...string) (ends []func(err error)) {
	t.Helper()
	var all []kept
	eventually(t, "store asked", func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		if len(x.kept) < len(names) {
			return false
		}
		all, x.kept = x.kept, nil
		return true
	})
	for i, k := range all {
		if i >= len(names) || k.name != names[i] {
			t.Fatalf("the store was asked for %s, want %v", k.name, names)
		}
		ends = append(ends, k.end)
	}
	return ends
}

// held keeps the call back, if it is to be.
func (x *scripted) held(name string, end func(err error)) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.hold[name] {
		x.kept = append(x.kept, kept{name, end})
	}
	return x.hold[name]
}

// unwrap is the inner engine's session.
func unwrap(s store.Session) store.Session {
	if s == nil {
		return nil
	}
	return s.(*scriptedSession).Session
}

// Publish implements store.Engine.
func (x *scripted) Publish(m *packet.Publish, to []store.Target, in store.Inbound, c store.Completer, tok uint64) (bool, error) {
	x.mu.Lock()
	s := x.stop
	if s != nil && m.Retain() {
		x.stop = nil
	}
	x.mu.Unlock()
	if s != nil && m.Retain() {
		close(s.reached)
		<-s.proceed
	}
	own := slices.Clone(to)
	for i := range own {
		own[i].To = unwrap(own[i].To)
	}
	in.From = unwrap(in.From)
	if x.held("publish", func(err error) {
		if err == nil {
			_, err = x.Engine.Publish(m, own, in, nobody{}, 0)
		}
		c.Done(tok, err)
	}) {
		return false, nil
	}
	return x.Engine.Publish(m, own, in, c, tok)
}

// Claim implements store.Engine.
func (x *scripted) Claim(r store.ClaimReq, s store.Sink) {
	x.Engine.Claim(r, &scriptedSink{s, x})
}

type scriptedSink struct {
	store.Sink
	x *scripted
}

// Claimed implements store.Sink.
func (k *scriptedSink) Claimed(s store.Session, st *store.State, err error) {
	if s != nil {
		s = &scriptedSession{s, k.x}
	}
	answer := func(error) { k.Sink.Claimed(s, st, err) }
	if !k.x.held("claim", answer) {
		answer(nil)
	}
}

type scriptedSession struct {
	store.Session
	x *scripted
}

func (s *scriptedSession) call(name string, c store.Completer, tok uint64, do func()) bool {
	if s.x.held(name, func(err error) {
		if err == nil {
			do()
		}
		c.Done(tok, err)
	}) {
		return false
	}
	do()
	return true
}

// The store in memory is always done at once, so that the completer is not
// needed any more.

// Subscribe implements store.Session.
func (s *scriptedSession) Subscribe(subs []store.Sub, c store.Completer, tok uint64) bool {
	return s.call("subscribe", c, tok, func() { s.Session.Subscribe(subs, nobody{}, 0) })
}

// Unsubscribe implements store.Session.
func (s *scriptedSession) Unsubscribe(filters []string, c store.Completer, tok uint64) bool {
	return s.call("unsubscribe", c, tok, func() { s.Session.Unsubscribe(filters, nobody{}, 0) })
}

// Sent2 implements store.Session.
func (s *scriptedSession) Sent2(lsn uint64, id uint16, c store.Completer, tok uint64) bool {
	return s.call("sent2", c, tok, func() { s.Session.Sent2(lsn, id, nobody{}, 0) })
}

// Received2 implements store.Session.
func (s *scriptedSession) Received2(id uint16, c store.Completer, tok uint64) bool {
	return s.call("received2", c, tok, func() { s.Session.Received2(id, nobody{}, 0) })
}

// Release2 implements store.Session.
func (s *scriptedSession) Release2(id uint16, c store.Completer, tok uint64) bool {
	return s.call("release2", c, tok, func() { s.Session.Release2(id, nobody{}, 0) })
}

// Detach implements store.Session: it is done at once, and told of later.
func (s *scriptedSession) Detach(expiry uint32, armed bool, c store.Completer, tok uint64) bool {
	s.Session.Detach(expiry, armed, nil, 0)
	return c == nil || s.call("detach", c, tok, func() {})
}

// End implements store.Session, as Detach.
func (s *scriptedSession) End(c store.Completer, tok uint64) ([]store.Delivery, bool) {
	s.x.mu.Lock()
	f := s.x.onEnd
	s.x.mu.Unlock()
	if f != nil {
		f()
	}
	shared, _ := s.Session.End(nil, 0)
	return shared, c == nil || s.call("end", c, tok, func() {})
}

// accessFunc is an Authorizer.
type accessFunc func(r *AccessRequest, done func()) Decision

func (f accessFunc) Access(r *AccessRequest, done func()) Decision { return f(r, done) }
func (accessFunc) Epoch() uint32                                   { return 1 }

// durable is the CONNECT of a client whose session stays.
func durable(id string) packet.Connect {
	return packet.Connect{ClientID: id, SessionExpiry: 100, RequestProblemInfo: true}
}

// away connects, subscribes and leaves: the session stays.
func (r *running) away(id string, filters ...string) {
	r.t.Helper()
	p, _ := r.connect(durable(id))
	for _, f := range filters {
		p.subscribe(f, 2)
	}
	p.leave(r)
}

// leave closes the connection, and waits until the broker knows.
func (p *peer) leave(r *running) {
	p.t.Helper()
	n := r.Stats().Connected
	p.c.Close()
	eventually(p.t, "connection gone", func() bool { return r.Stats().Connected < n })
}

// payloads reads PUBLISHes until the answer to a ping, acknowledges them, and
// pings again until nothing comes any more.
func (p *peer) payloads(r *running) (all []string) {
	p.t.Helper()
	for quiet := false; !quiet; {
		eventually(p.t, "quiet", r.quiet)
		quiet = true
		p.send(&packet.Pingreq{})
		for x := p.next(); x.Type() != packet.PINGRESP; x = p.next() {
			switch x := x.(type) {
			case *packet.Publish:
				all = append(all, string(x.Payload()))
				switch x.QoS() {
				case 1:
					p.send(&packet.Ack{Kind: packet.PUBACK, ID: x.ID})
				case 2:
					p.send(&packet.Ack{Kind: packet.PUBREC, ID: x.ID})
				}
			case *packet.Ack:
				if x.Kind == packet.PUBREL {
					p.send(&packet.Ack{Kind: packet.PUBCOMP, ID: x.ID})
				}
			}
			quiet = false
		}
	}
	return all
}

// publish sends a message with QoS 1 and expects its PUBACK.
func (p *peer) publish(m packet.Message) packet.Reason {
	p.t.Helper()
	m.QoS = 1
	p.send(pub(m, 1))
	return expect[*packet.Ack](p).Code
}

// retain retains n messages below prefix.
func (p *peer) retain(prefix string, n int) {
	p.t.Helper()
	for i := range n {
		p.publish(packet.Message{Topic: prefix + string(rune('a'+i%26)) + "/" + string(rune('0'+i/26)), Payload: []byte("kept"), Retain: true})
	}
}
