package broker

import (
	"hash/maphash"
	"slices"
	"sync"

	"github.com/myelin-mqtt/myelin/internal/ids"
)

// registry knows every session by its client identifier, and who owns it. A
// session has at most one owner; a connection that wants an owned one waits in
// line, and the owner is told to leave. So there is never a moment in which
// two connections work on one session. [MQTT-3.1.4-3]
type registry struct {
	seed   maphash.Seed
	shards [64]shard
}

type shard struct {
	mu       sync.Mutex
	sessions *ids.Set[*session]
	owned    int                  // of sessions
	lines    map[*session][]*conn // who waits for a session that another owns
}

func (r *registry) init() {
	r.seed = maphash.MakeSeed()
	for i := range r.shards {
		r.shards[i].sessions = ids.New[*session](r.seed)
		r.shards[i].lines = map[*session][]*conn{}
	}
}

// reserve makes room for about n sessions, where there are none yet.
func (r *registry) reserve(n int) {
	for i := range r.shards {
		r.shards[i].sessions.Reserve(n / len(r.shards))
	}
}

// hash spreads names.
func (b *Broker) hash(name string) uint64 { return maphash.String(b.registry.seed, name) }

func (r *registry) shard(id string) *shard {
	return &r.shards[maphash.String(r.seed, id)%uint64(len(r.shards))]
}

// acquire makes o the owner of the client identifier's session. nil: it has
// another owner, who was told to leave, and o will be granted the session.
func (r *registry) acquire(id string, o *conn, fresh func(id string) *session) *session {
	sh := r.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.sessions.Get(id)
	switch {
	case s == nil:
		s = fresh(id)
		sh.sessions.Put(s)
		sh.own(s, o)
		return s
	case s.owner == nil:
		sh.own(s, o)
		return s
	}
	sh.lines[s] = append(sh.lines[s], o)
	if len(sh.lines[s]) == 1 {
		s.owner.evict()
	}
	return nil
}

// try makes o the owner of s if s is current and nobody owns it.
func (r *registry) try(s *session, o *conn) bool {
	sh := r.shard(s.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.sessions.Get(s.id) != s || s.owner != nil {
		return false
	}
	sh.own(s, o)
	return true
}

// replace puts a fresh session in the place of one that ended, with the same
// owner and the same line.
func (r *registry) replace(old, s *session) {
	sh := r.shard(old.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s.owner, old.owner = old.owner, nil
	sh.line(s, sh.lines[old])
	sh.line(old, nil)
	sh.sessions.Put(s)
}

// own says who owns a session, nil: nobody.
func (sh *shard) own(s *session, o *conn) {
	if s.owner != nil {
		sh.owned--
	}
	if s.owner = o; o != nil {
		sh.owned++
	}
}

// line says who waits for a session.
func (sh *shard) line(s *session, line []*conn) {
	if len(line) > 0 {
		sh.lines[s] = line
	} else {
		delete(sh.lines, s)
	}
}

// release ends an ownership. ended: the session is over, and the next in line
// gets a fresh one.
func (r *registry) release(s *session, ended bool, fresh func(id string) *session) {
	sh := r.shard(s.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	line := sh.lines[s]
	sh.own(s, nil)
	if len(line) == 0 {
		if ended {
			sh.sessions.Delete(s.id)
		}
		return
	}
	next := s
	if ended {
		next = fresh(s.id)
		sh.sessions.Put(next)
		sh.line(s, nil)
	}
	sh.own(next, line[0])
	sh.line(next, line[1:])
	next.owner.granted(next)
	if len(line) > 1 {
		next.owner.evict()
	}
}

// leave takes o out of the line. false: it is not there, for it was granted
// the session.
func (r *registry) leave(id string, o *conn) bool {
	sh := r.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.sessions.Get(id)
	i := slices.Index(sh.lines[s], o)
	if i < 0 {
		return false
	}
	sh.line(s, slices.Delete(sh.lines[s], i, i+1))
	return true
}

// add enters a session that nobody owns.
func (r *registry) add(s *session) {
	sh := r.shard(s.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.sessions.Put(s)
}

// lookup finds a session.
func (r *registry) lookup(id string) *session {
	sh := r.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.sessions.Get(id)
}

// address is where the session's client is connected from, "" if it is not.
func (r *registry) address(s *session) string {
	sh := r.shard(s.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s.owner == nil || s.owner.io == nil {
		return ""
	}
	return s.owner.io.RemoteAddr()
}

// connected is the connection that owns the session, nil: none does.
func (r *registry) connected(id string) *conn {
	sh := r.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s := sh.sessions.Get(id); s != nil && s.owner != nil && s.owner.io != nil {
		return s.owner
	}
	return nil
}

// each calls f for every connection that owns a session. f must not call the
// registry.
func (r *registry) each(f func(c *conn)) {
	for i := range r.shards {
		sh := &r.shards[i]
		sh.mu.Lock()
		for s := range sh.sessions.All() {
			if s.owner != nil && s.owner.io != nil {
				f(s.owner)
			}
		}
		sh.mu.Unlock()
	}
}

// sessions calls f for every session, with no lock held: one that ends meanwhile
// may be among them.
func (r *registry) sessions(f func(s *session)) {
	var all []*session
	for i := range r.shards {
		sh := &r.shards[i]
		sh.mu.Lock()
		all = slices.AppendSeq(all[:0], sh.sessions.All())
		sh.mu.Unlock()
		for _, s := range all {
			f(s)
		}
	}
}

// resting calls f for every session that nobody owns. f must not call the
// registry, and the session is not another's meanwhile.
func (r *registry) resting(f func(s *session)) {
	for i := range r.shards {
		sh := &r.shards[i]
		sh.mu.Lock()
		for s := range sh.sessions.All() {
			if s.owner == nil {
				f(s)
			}
		}
		sh.mu.Unlock()
	}
}

// count is the number of sessions, and of those that a connection owns.
func (r *registry) count() (sessions, owned int) {
	for i := range r.shards {
		sh := &r.shards[i]
		sh.mu.Lock()
		sessions += sh.sessions.Len()
		owned += sh.owned
		sh.mu.Unlock()
	}
	return sessions, owned
}
