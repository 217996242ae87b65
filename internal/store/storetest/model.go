package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/myelin-mqtt/myelin/internal/store"
)

// model is an engine as lists.
type model struct {
	k        *kit
	r        *rand.Rand
	l        Limits
	now      uint32
	made     int
	sessions []*peer
	retained map[string]string
	stats    store.Stats // Dropped and Expired
}

// peer is one client identifier.
type peer struct {
	id     string
	c      *client // the last one that claimed; nil: no session
	online bool
	queue  []waiting
}

type waiting struct {
	name   string
	size   int
	until  uint32 // 0: never
	shared bool
}

func (p *peer) bytes() (n int) {
	for _, w := range p.queue {
		n += w.size
	}
	return n
}

// testModel does random things, and compares with a model after each.
func testModel(k *kit, l Limits, seed uint64) {
	m := &model{k: k, r: rand.New(rand.NewPCG(seed, uint64(l.Policy))), l: l, now: 1000, retained: map[string]string{}}
	for i := range 4 {
		m.sessions = append(m.sessions, &peer{id: fmt.Sprint("c", i)})
	}
	for range 300 {
		p := m.sessions[m.r.IntN(len(m.sessions))]
		switch do := m.r.IntN(20); {
		case do < 10:
			m.publish()
		case do < 14:
			m.next(p)
		case do < 16:
			m.claim(p)
		case do < 18:
			m.detach(p)
		case do < 19:
			m.now += uint32(m.r.IntN(3))
		default:
			m.end(p)
		}
		m.check()
		if k.Failed() {
			return
		}
	}
}

func (m *model) full(p *peer, size int) bool {
	n := len(p.queue)
	return m.l.Messages > 0 && n >= m.l.Messages || m.l.Bytes > 0 && n > 0 && p.bytes()+size > m.l.Bytes
}

func (m *model) publish() {
	m.made++
	w := waiting{name: fmt.Sprint("t/", m.made)}
	body := fmt.Sprintf("%0*d", 1+m.r.IntN(20), m.made)
	opts := []opt{payload(body)}
	if m.r.IntN(4) == 0 {
		sec := uint32(m.r.IntN(5))
		opts, w.until = append(opts, expiry(sec)), m.now+sec
	}
	isRetained := m.r.IntN(5) == 0
	if isRetained {
		opts, w.name = append(opts, retain), fmt.Sprint("r/", m.r.IntN(5))
		if m.r.IntN(3) == 0 {
			body = ""
			opts = append(opts, payload(body))
		}
	}
	w.size = len(w.name) + len(body)
	var to []store.Target
	var peers []*peer
	refused := false
	for _, p := range m.sessions {
		if p.c == nil || m.r.IntN(2) == 0 {
			continue
		}
		t := p.c.target()
		if w.shared = m.r.IntN(4) == 0; w.shared {
			t.Flags = store.Shared
		}
		to, peers = append(to, t), append(peers, p)
		refused = refused || m.l.Policy == Refuse && !p.online && m.full(p, w.size)
	}
	err := m.k.publish(m.k.message(w.name, m.now, opts...), store.Inbound{}, to...)
	if refused != errors.Is(err, store.ErrQuota) || err != nil && !refused {
		m.k.Fatalf("publish %s: %v, refused by the model: %v", w.name, err, refused)
	}
	if refused {
		return
	}
	for i, p := range peers {
		w.shared = to[i].Flags == store.Shared
		m.put(p, w)
	}
	switch {
	case isRetained && body == "":
		delete(m.retained, w.name)
	case isRetained:
		m.retained[w.name] = body
	}
}

func (m *model) put(p *peer, w waiting) {
	for m.full(p, w.size) {
		m.stats.Dropped++
		if m.l.Policy != DropOldest {
			return
		}
		p.queue = p.queue[1:]
	}
	p.queue = append(p.queue, w)
}

func (m *model) next(p *peer) {
	if p.c == nil || !p.online {
		return
	}
	n := m.r.IntN(5)
	var want []string
	for len(want) < n && len(p.queue) > 0 {
		w := p.queue[0]
		p.queue = p.queue[1:]
		if w.until != 0 && w.until <= m.now {
			m.stats.Expired++
			continue
		}
		want = append(want, w.name)
	}
	before := p.c.empty
	if got := topics(p.c.next(n, m.now)); !slices.Equal(got, want) {
		m.k.Errorf("%s: Next gives %q, want %q", p.id, got, want)
	}
	if more := p.c.empty == before; more != (len(p.queue) > 0) {
		m.k.Errorf("%s: more is %v, and %d wait", p.id, more, len(p.queue))
	}
}

func (m *model) claim(p *peer) {
	if p.online {
		return
	}
	r := store.ClaimReq{ClientID: p.id, Clean: m.r.IntN(5) == 0, Expiry: uint32(m.r.IntN(4))}
	present := p.c != nil && !r.Clean
	c := m.k.claim(r)
	if (c.st != nil) != present || (c.s != nil) != (present || r.Expiry > 0) {
		m.k.Fatalf("%+v: session %v, state %v, present: %v", r, c.s != nil, c.st, present)
	}
	if !present {
		p.queue = nil
	} else if c.st.Queued != len(p.queue) {
		m.k.Errorf("%s: %d wait, want %d", p.id, c.st.Queued, len(p.queue))
	}
	if p.c, p.online = nil, c.s != nil; p.online {
		p.c = c
	}
}

func (m *model) detach(p *peer) {
	if p.online {
		p.c.s.Detach(100, false, nil, 0)
		p.online = false
	}
}

func (m *model) end(p *peer) {
	if p.c == nil {
		return
	}
	var want []string
	for _, w := range p.queue {
		if w.shared {
			want = append(want, w.name)
		}
	}
	shared, _ := p.c.s.End(nil, 0)
	if got := topics(shared); !slices.Equal(got, want) {
		m.k.Errorf("%s: End returns %q, want %q", p.id, got, want)
	}
	p.c, p.online, p.queue = nil, false, nil
}

func (m *model) check() {
	want := m.stats
	for _, p := range m.sessions {
		if p.c == nil {
			continue
		}
		want.Sessions++
		want.Queued += len(p.queue)
		want.QueuedBytes += int64(p.bytes())
		if n, bytes := p.c.s.Queued(); n != len(p.queue) || bytes != p.bytes() {
			m.k.Errorf("%s: %d messages of %d bytes wait, want %d of %d", p.id, n, bytes, len(p.queue), p.bytes())
		}
	}
	for name, body := range m.retained {
		want.Retained++
		want.RetainedBytes += int64(len(name) + len(body))
	}
	m.k.stats("model", want)
	m.k.wantRetained("model", "r/+", list(m.retained))
}
