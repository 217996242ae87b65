package transport

// wheelSize is how many ticks ahead an entry can stand; what is due later is looked at in between.
const wheelSize = 512

// wheel holds when to look at which connection: slot and generation, eight bytes each. It is not exact: an entry is only
// a reason to look, and the connection knows whether its time is over. The zero value is ready.
type wheel struct {
	now     uint32 // ticks up to this one are done
	n       int
	buckets [wheelSize][]uint64
	spare   []uint64
}

// clamp returns the nearest tick to at that an entry can have.
func (w *wheel) clamp(at uint32) uint32 {
	switch ahead := int32(at - w.now); {
	case ahead < 1:
		return w.now + 1
	case ahead >= wheelSize:
		return w.now + wheelSize - 1
	}
	return at
}

// catchUp moves an empty wheel to the present, so that an entry is not clamped to a tick that is long over.
func (w *wheel) catchUp(tick uint32) {
	if w.n == 0 && int32(tick-w.now) > 1 {
		w.now = tick - 1
	}
}

// add puts id at a clamped tick.
func (w *wheel) add(at uint32, id uint64) {
	b := &w.buckets[at%wheelSize]
	*b = append(*b, id)
	w.n++
}

// next returns the first tick that has entries, 0 if none has.
func (w *wheel) next() uint32 {
	if w.n == 0 {
		return 0
	}
	for i := uint32(1); i < wheelSize; i++ {
		if len(w.buckets[(w.now+i)%wheelSize]) > 0 {
			return w.now + i
		}
	}
	return 0
}

// step goes on by one tick, unless that is after to, and returns the entries of it. They are valid until the next step.
func (w *wheel) step(to uint32) (ids []uint64, ok bool) {
	behind := int32(to - w.now)
	if behind <= 0 {
		return nil, false
	}
	if behind > wheelSize {
		w.now = to - wheelSize
	}
	w.now++
	b := &w.buckets[w.now%wheelSize]
	ids = *b
	*b = w.spare[:0]
	w.n -= len(ids)
	w.spare = nil
	if cap(ids) <= 256 {
		w.spare = ids
	}
	return ids, true
}
