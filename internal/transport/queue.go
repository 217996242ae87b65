package transport

import "sync"

// chunkSize makes a chunk 8 KiB with its header.
const chunkSize = 8192 - 64

// chunk is one link of an output queue: bytes that were copied in, and references to large payloads between them.
type chunk struct {
	next *chunk
	r, w int   // b[r:w] is not yet sent
	k    int   // refs[k:] are not yet sent
	off  int   // bytes of refs[k] that are sent
	refs []ref // in order of at; the array is kept when the chunk is pooled
	b    [chunkSize]byte
}

// ref is a payload that goes out after the bytes of its chunk before at.
type ref struct {
	p  []byte
	at int
}

// outq is a queue of output: a circular chain of chunks, so that one word finds both ends. The zero value is empty.
// A writer takes the chain and leaves n, which counts what the writer holds, too.
type outq struct {
	tail *chunk // tail.next is the head
	n    int    // bytes queued or in a writer's hands
}

// add copies p to the end.
func (q *outq) add(t *Turn, p []byte) {
	q.n += len(p)
	for len(p) > 0 {
		k := q.tail
		if k == nil || k.w == chunkSize {
			k = q.grow(t)
		}
		m := copy(k.b[k.w:], p)
		k.w += m
		p = p[m:]
	}
}

// addRef puts p itself at the end; it must never change.
func (q *outq) addRef(t *Turn, p []byte) {
	q.n += len(p)
	k := q.tail
	if k == nil {
		k = q.grow(t)
	}
	k.refs = append(k.refs, ref{p: p, at: k.w})
}

func (q *outq) grow(t *Turn) *chunk {
	k := t.chunk()
	if q.tail == nil {
		k.next = k
	} else {
		k.next = q.tail.next
		q.tail.next = k
	}
	q.tail = k
	return k
}

// take hands the chain to a writer.
func (q *outq) take() (tail *chunk) {
	tail, q.tail = q.tail, nil
	return tail
}

// putBack puts what a writer could not send before what was added since.
func (q *outq) putBack(tail *chunk) {
	switch {
	case tail == nil:
	case q.tail == nil:
		q.tail = tail
	default:
		head := tail.next
		tail.next = q.tail.next
		q.tail.next = head
	}
}

// gather appends the unsent pieces of a chain to bufs, at most max bytes and at most cap(bufs) pieces.
func gather(bufs [][]byte, tail *chunk, max int) [][]byte {
	if tail == nil {
		return bufs
	}
	piece := func(p []byte) bool {
		if len(p) > max {
			p = p[:max]
		}
		if len(p) > 0 {
			bufs = append(bufs, p)
			max -= len(p)
		}
		return max > 0 && len(bufs) < cap(bufs)
	}
	for k := tail.next; ; k = k.next {
		pos, off := k.r, k.off
		for _, x := range k.refs[k.k:] {
			if !piece(k.b[pos:x.at]) || !piece(x.p[off:]) {
				return bufs
			}
			pos, off = x.at, 0
		}
		if !piece(k.b[pos:k.w]) || k == tail {
			return bufs
		}
	}
}

// sent drops n bytes from the front of a chain and returns what is left of it.
func sent(t *Turn, tail *chunk, n int) *chunk {
	for tail != nil {
		k := tail.next
		for k.k < len(k.refs) {
			x := &k.refs[k.k]
			m := min(x.at-k.r, n)
			k.r += m
			n -= m
			if k.r < x.at {
				return tail
			}
			m = min(len(x.p)-k.off, n)
			k.off += m
			n -= m
			if k.off < len(x.p) {
				return tail
			}
			*x = ref{}
			k.k++
			k.off = 0
		}
		m := min(k.w-k.r, n)
		k.r += m
		n -= m
		if k.r < k.w {
			return tail
		}
		if k == tail {
			tail = nil
		} else {
			tail.next = k.next
		}
		t.release(k)
	}
	return nil
}

// drop releases a whole chain.
func drop(t *Turn, tail *chunk) {
	for tail != nil {
		k := tail.next
		if k == tail {
			tail = nil
		} else {
			tail.next = k.next
		}
		t.release(k)
	}
}

// pools hold the empty buffers of a Server.
type pools struct {
	chunks       sync.Pool
	small, large sync.Pool // tails
}

func (k *chunk) reset() {
	clear(k.refs)
	k.next, k.r, k.w, k.k, k.off, k.refs = nil, 0, 0, 0, 0, k.refs[:0]
}

// tail is the unconsumed end of a connection's input.
type tail struct{ b []byte }

// The capacities of pooled tails. A larger one is left to the garbage collector.
const (
	tailSmall = 8 << 10
	tailLarge = 80 << 10
)

func (p *pools) chunk() *chunk {
	if k, ok := p.chunks.Get().(*chunk); ok {
		return k
	}
	return new(chunk)
}

func (p *pools) tail(size int) *tail {
	pool := &p.small
	switch {
	case size > tailLarge:
		return &tail{make([]byte, 0, size)}
	case size > tailSmall:
		pool, size = &p.large, tailLarge
	default:
		size = tailSmall
	}
	if i, ok := pool.Get().(*tail); ok {
		return i
	}
	return &tail{make([]byte, 0, size)}
}

func (p *pools) putTail(i *tail) {
	i.b = i.b[:0]
	switch cap(i.b) {
	case tailSmall:
		p.small.Put(i)
	case tailLarge:
		p.large.Put(i)
	}
}
