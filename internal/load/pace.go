package load

import "math"

// pace says when the messages of an open loop are due. Times are nanoseconds on
// the run's clock.
type pace struct {
	rate  float64 // messages a second
	first int64   // when message 0 is due
}

// due is when message i is due. It is counted from the first and not from the
// one before, so that nothing adds up.
func (p pace) due(i uint64) int64 {
	return p.first + int64(math.Round(float64(i)*1e9/p.rate))
}

// count is how many messages are due by now.
func (p pace) count(now int64) uint64 {
	if now < p.first {
		return 0
	}
	n := uint64(float64(now-p.first)*p.rate/1e9) + 1
	// What was divided above and multiplied in due may be off by one.
	for n > 0 && p.due(n-1) > now {
		n--
	}
	for p.due(n) <= now {
		n++
	}
	return n
}

// part is the pace of one of several workers, which have owns of all publishers,
// the first of which is number start: together they send evenly.
func (p pace) part(start, owns, all int) pace {
	return pace{
		rate:  p.rate * float64(owns) / float64(all),
		first: p.first + int64(float64(start)*1e9/p.rate),
	}
}
