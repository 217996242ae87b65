package qos

// ring is a deque of slots that grows by doubling and gives its memory back
// when it has run empty.
type ring struct {
	b    []Slot // length a power of two, or 0
	head int32
	n    int32
}

const (
	ringFirst = 4  // slots of a first allocation
	ringKeep  = 64 // an empty ring keeps no more than this
)

// at is the i-th slot from the front.
func (r *ring) at(i int) *Slot { return &r.b[(int(r.head)+i)&(len(r.b)-1)] }

func (r *ring) push(x Slot) {
	if int(r.n) == len(r.b) {
		r.grow()
	}
	r.n++
	*r.at(int(r.n) - 1) = x
}

// drop removes the front, and does not shrink.
func (r *ring) drop() {
	*r.at(0) = Slot{}
	r.head = int32((int(r.head) + 1) & (len(r.b) - 1))
	r.n--
}

func (r *ring) grow() {
	b := make([]Slot, max(ringFirst, 2*len(r.b)))
	k := copy(b, r.b[r.head:])
	copy(b[k:], r.b[:r.head])
	r.b, r.head = b, 0
}

func (r *ring) shrink() {
	if r.n == 0 && len(r.b) > ringKeep {
		r.b, r.head = nil, 0
	}
}
