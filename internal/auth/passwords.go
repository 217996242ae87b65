package auth

import (
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/myelin-mqtt/myelin/packet"
)

// passwords is the method of the password file.
type passwords struct {
	file     string
	key      []byte // see users
	pool     *pool
	verified *verified
	log      *slog.Logger
	now      atomic.Pointer[users]

	mu   sync.Mutex  // of reload and look
	seen os.FileInfo // the file when it was last read or tried; nil: it was not there
	next os.FileInfo // the file at the last look, when it had changed
}

func (p *passwords) name() string     { return PasswordFile }
func (p *passwords) enhanced() string { return "" }

func (p *passwords) check(r *request, done func(answer)) {
	if r.user == "" || len(r.Password) == 0 {
		done(answer{})
		return
	}
	if len(r.Password) > maxPassword {
		done(answer{verdict: no, why: "the password is too long"})
		return
	}
	h, known := p.now.Load().find(r.user)
	if h == nil {
		done(answer{why: "no such user"})
		return
	}
	d := p.verified.digest(r.user, h.text, r.Password)
	if p.verified.has(d) && known {
		done(answer{verdict: yes})
		return
	}
	queued := p.pool.try(func() {
		right := h.matches(r.Password)
		switch {
		case right && known:
			p.verified.add(d)
			done(answer{verdict: yes})
		case known:
			done(answer{verdict: no, why: "wrong password"})
		default:
			done(answer{why: "no such user"})
		}
	})
	if !queued {
		done(answer{verdict: failed, code: packet.ServerBusy, why: "too many passwords wait to be checked"})
	}
}

// load reads the file. A file with a fault changes nothing.
func (p *passwords) load() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.loadLocked()
}

func (p *passwords) loadLocked() error {
	p.seen, p.next = stat(p.file), nil
	u, err := loadUsers(p.file, p.key)
	if err != nil {
		return err
	}
	p.now.Store(u)
	if p.seen != nil && p.seen.Mode().Perm()&0o007 != 0 && p.seen.Mode().IsRegular() {
		p.log.Warn("the password file can be read by every user of this machine", "file", p.file, "mode", p.seen.Mode().Perm().String())
	}
	p.log.Info("password file read", "file", p.file, "users", len(u.all))
	return nil
}

// look reads the file again if it has changed, and then not for one look: who
// writes it may not be done.
func (p *passwords) look() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	is := stat(p.file)
	switch {
	case same(is, p.seen):
		p.next = nil
		return nil
	case is == nil || !same(is, p.next):
		p.next = is
		return nil
	}
	return p.loadLocked()
}

func stat(file string) os.FileInfo {
	fi, err := os.Stat(file)
	if err != nil {
		return nil
	}
	return fi
}

func same(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && a.Mode() == b.Mode()
}
