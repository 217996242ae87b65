package certs

import (
	"context"
	"io/fs"
	"os"
	"time"
)

const (
	settle = time.Second // files that change are left alone until they have not for so long
	chores = time.Hour   // how often there is a look at the clock where there is none at the files
)

// marks are files as they were when somebody looked. Links are followed: a folder
// that is exchanged as a whole by a link shows as other files.
type marks map[string]fs.FileInfo // nil: it could not be seen

func (m marks) look(file string) {
	fi, err := os.Stat(file)
	if err != nil {
		fi = nil
	}
	m[file] = fi
}

// again are the same files as they are now.
func (m marks) again() marks {
	now := make(marks, len(m))
	for file := range m {
		now.look(file)
	}
	return now
}

func (m marks) same(o marks) bool {
	for file, a := range m {
		b := o[file]
		if (a == nil) != (b == nil) {
			return false
		}
		if a != nil && (!os.SameFile(a, b) || a.Size() != b.Size() || !a.ModTime().Equal(b.ModTime())) {
			return false
		}
	}
	return true
}

// Watch looks at the files until ctx is done, and reloads the set when they have
// changed and then come to rest. A set that was refused is tried again at each
// look. It also changes the keys of session tickets, and leaves out stapled
// answers that are out of date.
func (s *Set) Watch(ctx context.Context) {
	timer := time.NewTimer(s.pause())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		timer.Reset(s.look())
	}
}

// pause is the time until the next look.
func (s *Set) pause() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.interval()
}

func (s *Set) interval() time.Duration {
	if s.o.Interval <= 0 {
		return chores
	}
	return min(s.o.Interval, chores)
}

// look does what is due, and says when to look again.
func (s *Set) look() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, p := time.Now(), s.now.Load()
	if now.Sub(p.keyed) >= keyLife {
		s.turnKeys(now)
		s.warn(p) // once a day
	}
	if s.o.Interval > 0 {
		if seen := s.seen.again(); !seen.same(s.seen) {
			s.seen, s.changed = seen, true
			return min(settle, s.interval())
		}
	}
	if s.changed || s.faulty.Load() && s.o.Interval > 0 || !p.until.IsZero() && now.After(p.until) {
		_ = s.reload(s.changed) // it logs its faults
	}
	return s.interval()
}
