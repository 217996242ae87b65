package qos

// Receiver is the receiving half: the identifiers of QoS 2 messages whose
// PUBREL has not come, and the count of what is in flight on this connection.
// The zero value with Max set is ready for use.
type Receiver struct {
	set  []uint32 // open addressing, length a power of two; 0 is empty, else identifier and flags
	n    int      // identifiers held
	used int      // messages in flight on this connection: held and current, or QoS 1 not acknowledged yet
	// Max is the own Receive Maximum, 0: no limit.
	Max uint16
}

// current marks an identifier whose PUBLISH came on this connection.
const current = 1 << 16

// Publish takes the PUBLISH of a QoS 2 message. dup: its identifier is held,
// and the message was delivered before [MQTT-4.3.3-10]. ok is false where the
// peer exceeds the Receive Maximum [MQTT-3.3.4-7].
func (r *Receiver) Publish(id uint16) (dup, ok bool) {
	if i, held := r.find(id); held {
		if r.set[i]&current == 0 { // sent again on a new connection
			if !r.Begin() {
				return true, false
			}
			r.set[i] |= current
		}
		return true, true
	}
	if !r.Begin() {
		return false, false
	}
	if 2*(r.n+1) > len(r.set) {
		r.resize(max(8, 2*len(r.set)))
	}
	i, _ := r.find(id)
	r.set[i] = uint32(id) | current
	r.n++
	return false, true
}

// Begin counts a message in flight, and reports false where the peer exceeds
// the Receive Maximum. QoS 1 messages use it with End; Publish calls it.
func (r *Receiver) Begin() bool {
	if r.Max != 0 && r.used >= int(r.Max) {
		return false
	}
	r.used++
	return true
}

// End uncounts a QoS 1 message whose PUBACK leaves.
func (r *Receiver) End() {
	if r.used > 0 {
		r.used--
	}
}

// Release takes a PUBREL, or forgets a message that was refused: the
// identifier is free. held is false for an unknown one [MQTT-4.3.3-11].
func (r *Receiver) Release(id uint16) (held bool) {
	i, held := r.find(id)
	if !held {
		return false
	}
	if r.set[i]&current != 0 {
		r.End()
	}
	r.remove(i)
	r.n--
	if r.n == 0 && len(r.set) > 64 {
		r.set = nil
	}
	return true
}

// Held reports whether the identifier's PUBREL is awaited.
func (r *Receiver) Held(id uint16) bool { _, ok := r.find(id); return ok }

// Len is the number of identifiers held.
func (r *Receiver) Len() int { return r.n }

// Resume begins a new connection: nothing is in flight on it yet, and the
// held identifiers stay held.
func (r *Receiver) Resume() {
	r.used = 0
	for i := range r.set {
		r.set[i] &^= current
	}
}

// IDs yields the identifiers held, in no order.
func (r *Receiver) IDs(yield func(id uint16) bool) {
	for _, e := range r.set {
		if e != 0 && !yield(uint16(e)) {
			return
		}
	}
}

// Restore adds an identifier that the store kept.
func (r *Receiver) Restore(id uint16) {
	if r.Held(id) {
		return
	}
	if 2*(r.n+1) > len(r.set) {
		r.resize(max(8, 2*len(r.set)))
	}
	i, _ := r.find(id)
	r.set[i] = uint32(id)
	r.n++
}

func (r *Receiver) hash(id uint16) int { return int(uint32(id)*40503>>4) & (len(r.set) - 1) }

// find is the place of an identifier, or the empty one where it belongs.
func (r *Receiver) find(id uint16) (i int, held bool) {
	if len(r.set) == 0 || id == 0 {
		return 0, false
	}
	for i = r.hash(id); r.set[i] != 0; i = (i + 1) & (len(r.set) - 1) {
		if uint16(r.set[i]) == id {
			return i, true
		}
	}
	return i, false
}

// remove empties place i and closes the gap, so that no search stops early.
func (r *Receiver) remove(i int) {
	mask := len(r.set) - 1
	for j := i; ; {
		r.set[i] = 0
		for {
			j = (j + 1) & mask
			if r.set[j] == 0 {
				return
			}
			if h := r.hash(uint16(r.set[j])); (j-h)&mask >= (j-i)&mask {
				break
			}
		}
		r.set[i] = r.set[j]
		i = j
	}
}

func (r *Receiver) resize(n int) {
	old := r.set
	r.set = make([]uint32, n)
	for _, e := range old {
		if e != 0 {
			i, _ := r.find(uint16(e))
			r.set[i] = e
		}
	}
}
