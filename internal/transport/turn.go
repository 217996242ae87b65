package transport

import "time"

const (
	readSize   = 64 << 10 // the most that is read from one connection in a turn
	tailCopied = 16 << 10 // a shorter unconsumed tail is moved in front of the next read, a longer one is read into
	earlySize  = 48 << 10 // a connection with more queued than this does not wait for the end of the turn
	writeSize  = 256 << 10
	waitSize   = 64 << 10 // where a write waits for the peer: its progress is seen when it returns
	writeMost  = 1 << 20  // what one flush writes at most, so that one fast reader does not hold up a turn
	maxPieces  = 64
	awayMin    = 64 // dirty connections of other loops from which on those write them
	maxFree    = 64
)

// Turn is the state of what one goroutine does between two waits. A loop has one for life; others borrow one from the
// Server. It is never shared.
type Turn struct {
	// Now is the time in Unix nanoseconds, read once at the begin of the turn.
	Now int64
	// Local is what Handler.NewLocal made for this Turn.
	Local any

	s     *Server
	l     *loop   // nil: borrowed
	tick  uint32  // Now in ticks since the server started, by the monotonic clock
	dirty []*Conn // have output that nobody is writing
	early []*Conn // of these, the ones that have much
	away  [][]*Conn

	buf  []byte // tailCopied + readSize; taken on the first read
	bufs [][]byte
	vec  vec    // system's form of bufs
	ctl  []byte // answers of a WebSocket reader
	raw  []byte // what was read from a TLS connection; taken on the first read
	seal []byte // what is to be encrypted
	wire []byte // and then to be sent

	block   bool // writes may wait
	free    *chunk
	nfree   int
	in, out uint64 // bytes since the last end
}

func newTurn(s *Server, l *loop) *Turn {
	return &Turn{s: s, l: l, Local: s.h.NewLocal(), bufs: make([][]byte, 0, maxPieces), away: make([][]*Conn, s.o.Loops)}
}

// begin reads the clock.
func (t *Turn) begin() {
	now := time.Now()
	t.Now = now.UnixNano()
	t.tick = tickAt(t.s.start, now)
}

// end writes what the turn produced.
func (t *Turn) end() {
	t.flush()
	if t.in|t.out != 0 {
		t.s.in.Add(t.in)
		t.s.out.Add(t.out)
		t.in, t.out = 0, 0
	}
}

// Flush writes what was appended with this Turn. The driver does so at the end of each turn, and Server.Return for a
// borrowed one; it is only needed by who borrows a Turn and goes on for long.
func (t *Turn) Flush() { t.flush() }

func (t *Turn) flush() {
	clear(t.early)
	t.early = t.early[:0]
	if len(t.dirty) == 0 {
		return
	}
	mine := t.dirty
	if len(mine) > awayMin {
		mine = t.sendAway(mine)
	}
	for i, c := range mine {
		c.flush(t)
		if i&255 == 255 {
			yield()
		}
	}
	clear(t.dirty)
	t.dirty = t.dirty[:0]
}

// sendAway hands the connections of other loops to those if they are many, so that all loops write a large fan-out
// together; a few are written faster than handed over. It returns what is left to write.
func (t *Turn) sendAway(dirty []*Conn) []*Conn {
	n := 0
	for _, c := range dirty {
		if c.l != t.l {
			n++
		}
	}
	if n <= awayMin {
		return dirty
	}
	mine := dirty[:0]
	for _, c := range dirty {
		if c.l == t.l {
			mine = append(mine, c)
		} else {
			t.away[c.l.id] = append(t.away[c.l.id], c)
		}
	}
	for i, a := range t.away {
		if len(a) > 0 {
			t.s.loops[i].mail.putAll(a, doFlush)
			clear(a)
			t.away[i] = a[:0]
		}
	}
	return mine
}

// flushEarly writes the connections whose queues have grown long during a call of the Handler.
func (t *Turn) flushEarly() {
	if len(t.early) == 0 {
		return
	}
	for _, c := range t.early {
		c.flush(t)
	}
	clear(t.early)
	t.early = t.early[:0]
}

func (t *Turn) buffer() []byte {
	if t.buf == nil {
		t.buf = make([]byte, tailCopied+readSize)
	}
	return t.buf
}

func (t *Turn) rawBuffer() []byte {
	if t.raw == nil {
		t.raw = make([]byte, readSize)
	}
	return t.raw
}

func (t *Turn) chunk() *chunk {
	if k := t.free; k != nil {
		t.free, k.next = k.next, nil
		t.nfree--
		return k
	}
	return t.s.pools.chunk()
}

func (t *Turn) release(k *chunk) {
	k.reset()
	if t.nfree < maxFree {
		k.next, t.free = t.free, k
		t.nfree++
		return
	}
	t.s.pools.chunks.Put(k)
}
