package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"
)

// verified remembers for a while which passwords were right, so that many
// clients that come back at a time do not each cost a hash. It keeps no password:
// only a keyed digest over the user, the hash and the password, so that another
// hash in the file makes it forget.
//
// What is remembered is in one of two generations. When the young one is full, or
// old enough, it becomes the old one, and what was there is forgotten.
type verified struct {
	key [32]byte
	ttl time.Duration // at most so long since it was hashed; 0: nothing is remembered

	mu         sync.Mutex
	young, old map[[32]byte]struct{}
	since      time.Time // of the young generation
}

// maxVerified bounds a generation.
const maxVerified = 16 << 10

func newVerified(ttl time.Duration) *verified {
	v := &verified{ttl: ttl}
	_, _ = rand.Read(v.key[:]) // it never fails
	return v
}

// digest is what is remembered of a right password.
func (v *verified) digest(user, hash string, password []byte) (d [32]byte) {
	m := hmac.New(sha256.New, v.key[:])
	var n [8]byte
	for _, part := range [][]byte{[]byte(user), []byte(hash), password} {
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		m.Write(n[:])
		m.Write(part)
	}
	m.Sum(d[:0])
	return d
}

// has tells whether it is remembered.
func (v *verified) has(d [32]byte) bool {
	if v.ttl == 0 {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.age()
	if _, ok := v.young[d]; ok {
		return true
	}
	_, ok := v.old[d]
	return ok
}

// add remembers it.
func (v *verified) add(d [32]byte) {
	if v.ttl == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.age()
	if len(v.young) >= maxVerified {
		v.turn()
	}
	if v.young == nil {
		v.young = map[[32]byte]struct{}{}
	}
	v.young[d] = struct{}{}
}

// age forgets what is too old: each generation is filled for half of the time.
func (v *verified) age() {
	switch past := time.Since(v.since); {
	case past >= v.ttl:
		v.turn()
		v.turn()
	case past >= v.ttl/2:
		v.turn()
	}
}

func (v *verified) turn() { v.old, v.young, v.since = v.young, nil, time.Now() }
