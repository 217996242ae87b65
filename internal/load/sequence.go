package load

import (
	"cmp"
	"slices"
)

// verdict is what a message is in its stream.
type verdict uint8

const (
	inOrder verdict = iota // the first time, and none that was sent after it came before
	late                   // the first time, but others overtook it
	again                  // a duplicate
)

// sequence follows the messages of one stream, which are numbered from 0, at a
// receiver. The zero value is ready.
type sequence struct {
	next      uint64 // above every number that came
	gaps      []span // below next, and have not come; ascending
	forgotten uint64 // have not come, and gaps has no room for them
}

// span is the numbers from, from+1 … to-1.
type span struct{ from, to uint64 }

// maxGaps bounds what is remembered of one stream. The older half of more is
// lost for good: one that comes after all counts as a duplicate, too.
const maxGaps = 1 << 12

// see notes that number n came. skipped is how many numbers it jumped over.
func (s *sequence) see(n uint64) (v verdict, skipped uint64) {
	if n >= s.next {
		skipped = n - s.next
		if skipped > 0 {
			s.gap(span{s.next, n})
		}
		s.next = n + 1
		return inOrder, skipped
	}
	i, found := slices.BinarySearchFunc(s.gaps, n, func(g span, n uint64) int {
		if g.from <= n && n < g.to {
			return 0
		}
		return cmp.Compare(g.from, n)
	})
	if !found {
		return again, 0
	}
	g := s.gaps[i]
	switch {
	case g.from+1 == g.to:
		s.gaps = slices.Delete(s.gaps, i, i+1)
	case n == g.from:
		s.gaps[i].from++
	case n == g.to-1:
		s.gaps[i].to--
	default:
		s.gaps[i].to = n
		s.gaps = slices.Insert(s.gaps, i+1, span{n + 1, g.to})
		s.bound()
	}
	return late, 0
}

func (s *sequence) gap(g span) {
	s.gaps = append(s.gaps, g)
	s.bound()
}

func (s *sequence) bound() {
	if len(s.gaps) <= maxGaps {
		return
	}
	old := s.gaps[:maxGaps/2]
	s.forgotten += missing(old)
	s.gaps = slices.Delete(s.gaps, 0, len(old))
}

// lost is how many of the first sent messages have not come.
func (s *sequence) lost(sent uint64) uint64 {
	n := s.forgotten + missing(s.gaps)
	if sent > s.next {
		n += sent - s.next
	}
	return n
}

func missing(gaps []span) (n uint64) {
	for _, g := range gaps {
		n += g.to - g.from
	}
	return n
}
