package broker

import (
	"hash/maphash"
	"slices"
	"sync"
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
	sessions map[string]*session
}

func (r *registry) init() {
	r.seed = maphash.MakeSeed()
	for i := range r.shards {
		r.shards[i].sessions = map[string]*session{}
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
	s := sh.sessions[id]
	switch {
	case s == nil:
		s = fresh(id)
		sh.sessions[id] = s
		s.owner = o
		return s
	case s.owner == nil:
		s.owner = o
		return s
	}
	if s.line == nil {
		s.line = new([]*conn)
	}
	if *s.line = append(*s.line, o); len(*s.line) == 1 {
		s.owner.evict()
	}
	return nil
}

// try makes o the owner of s if s is current and nobody owns it.
func (r *registry) try(s *session, o *conn) bool {
	sh := r.shard(s.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.sessions[s.id] != s || s.owner != nil {
		return false
	}
	s.owner = o
	return true
}

// replace puts a fresh session in the place of one that ended, with the same
// owner and the same line.
func (r *registry) replace(old, s *session) {
	sh := r.shard(old.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s.owner, s.line = old.owner, old.line
	old.owner, old.line = nil, nil
	sh.sessions[s.id] = s
}

// release ends an ownership. ended: the session is over, and the next in line
// gets a fresh one.
func (r *registry) release(s *session, ended bool, fresh func(id string) *session) {
	sh := r.shard(s.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s.line == nil || len(*s.line) == 0 {
		s.owner, s.line = nil, nil
		if ended {
			delete(sh.sessions, s.id)
		}
		return
	}
	line := *s.line
	next := s
	if ended {
		next = fresh(s.id)
		sh.sessions[s.id] = next
		s.owner, s.line = nil, nil
	}
	next.owner, next.line = line[0], nil
	if line = line[1:]; len(line) > 0 {
		next.line = &line
	}
	next.owner.granted(next)
	if next.line != nil {
		next.owner.evict()
	}
}

// leave takes o out of the line. false: it is not there, for it was granted
// the session.
func (r *registry) leave(id string, o *conn) bool {
	sh := r.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.sessions[id]
	if s == nil || s.line == nil {
		return false
	}
	i := slices.Index(*s.line, o)
	if i < 0 {
		return false
	}
	*s.line = slices.Delete(*s.line, i, i+1)
	return true
}

// add enters a session that nobody owns.
func (r *registry) add(s *session) {
	sh := r.shard(s.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.sessions[s.id] = s
}

// lookup finds a session.
func (r *registry) lookup(id string) *session {
	sh := r.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.sessions[id]
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
	if s := sh.sessions[id]; s != nil && s.owner != nil && s.owner.io != nil {
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
		for _, s := range sh.sessions {
			if s.owner != nil && s.owner.io != nil {
				f(s.owner)
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
		sessions += len(sh.sessions)
		for _, s := range sh.sessions {
			if s.owner != nil {
				owned++
			}
		}
		sh.mu.Unlock()
	}
	return sessions, owned
}
