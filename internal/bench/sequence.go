//go:build linux

package bench

// sequence follows the messages of one publisher at one receiver, which have to come once each and in order.
type sequence struct {
	next    uint64              // the number that has to come next
	missing map[uint64]struct{} // numbers below next that have not come
}

// faults counts what went wrong with messages.
type faults struct {
	Lost       uint64 `json:"lost"`
	Duplicated uint64 `json:"duplicated"`
	Reordered  uint64 `json:"reordered"`
}

func (f faults) any() bool { return f != faults{} }

// most bounds the numbers remembered as missing; the ones beyond count as lost, whatever comes later.
const most = 1 << 16

// see notes that number n has come. It reports whether n came for the first time. f counts duplicates, messages that
// others had overtaken, and losses beyond those remembered.
func (s *sequence) see(n uint64, f *faults) bool {
	if n == s.next {
		s.next++
		return true
	}
	if n > s.next {
		if s.missing == nil {
			s.missing = make(map[uint64]struct{})
		}
		for m := s.next; m < n; m++ {
			if len(s.missing) == most {
				f.Lost += n - m
				break
			}
			s.missing[m] = struct{}{}
		}
		s.next = n + 1
		return true
	}
	if _, ok := s.missing[n]; ok {
		delete(s.missing, n)
		f.Reordered++
		return true
	}
	f.Duplicated++
	return false
}

// end counts as lost what has not come of the first sent messages.
func (s *sequence) end(sent uint64, f *faults) {
	f.Lost += uint64(len(s.missing))
	if sent > s.next {
		f.Lost += sent - s.next
	}
}
