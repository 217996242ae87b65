package fault

import (
	"io"
	"net"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// maxHeld is the longest packet that can be sent twice. The bytes behind a longer
// one pass, too, without packets.
const maxHeld = 16 << 20

// flow is one direction of a connection. Its goroutine has it alone.
type flow struct {
	link *link
	n    int // the connection's number
	dir  Direction
	src  *net.TCPConn
	dst  *net.TCPConn
	over chan struct{} // closed at its end

	offset int64 // of the next byte
	next   Fault // the first that has not happened
	again  bool  // the packet is sent twice
	mask   byte  // changes the next byte
	crumbs int   // so many bytes go one by one
	pause  time.Duration

	held    []byte // the packet under way, as far as it has come
	noFrame bool   // what comes is no packet
}

// run passes bytes on until the end.
func (f *flow) run() {
	defer close(f.over)
	f.next = f.link.p.plan(f.n, f.dir, 0)
	buf := make([]byte, 16<<10)
	for f.due() {
		n, err := f.src.Read(buf)
		if n > 0 && !f.pass(buf[:n]) {
			break
		}
		if err == io.EOF {
			// The other direction may have something to say still.
			f.dst.CloseWrite()
			return
		}
		if err != nil {
			f.broken()
			return
		}
	}
	// A connection that was cut is read to its end, so that it ends with FIN.
	drain(f.src)
}

// broken passes on that an end was torn off, unless it is over anyway.
func (f *flow) broken() {
	select {
	case <-f.link.over:
	default:
		f.link.drop()
	}
}

// pass passes bytes on, packet by packet, fault by fault; false: it is over.
func (f *flow) pass(b []byte) bool {
	for len(b) > 0 {
		n, whole := f.frame(b)
		for seg := b[:n]; len(seg) > 0; {
			if !f.due() {
				return false
			}
			step := len(seg)
			if f.next.Kind != None {
				step = int(min(int64(step), f.next.At-f.offset))
			}
			if f.crumbs > 0 {
				step = 1
				f.crumbs--
				if !f.wait(f.pause) {
					return false
				}
			}
			seg[0] ^= f.mask
			f.mask = 0
			if !f.write(seg[:step]) {
				return false
			}
			f.offset += int64(step)
			seg = seg[step:]
		}
		if whole && !f.packetEnds() {
			return false
		}
		b = b[n:]
	}
	return f.due()
}

// frame tells how many of the bytes belong to the packet under way, and whether
// it ends with them.
func (f *flow) frame(b []byte) (n int, whole bool) {
	if f.noFrame {
		return len(b), false
	}
	before := len(f.held)
	if before == 0 {
		n, _, err := packet.Frame(b, maxHeld)
		if err != nil {
			f.noFrame = true
			return len(b), false
		}
		if n > 0 {
			f.held = append(f.held, b[:n]...)
			return n, true
		}
	}
	f.held = append(f.held, b...)
	n, _, err := packet.Frame(f.held, maxHeld)
	if err != nil {
		f.noFrame, f.held = true, nil
		return len(b), false
	}
	if n == 0 {
		return len(b), false
	}
	f.held = f.held[:n]
	return n - before, true
}

// packetEnds is called behind the last byte of a packet.
func (f *flow) packetEnds() bool {
	ok := true
	if f.again {
		f.again = false
		f.link.p.happened(Duplicate)
		ok = f.write(f.held)
	}
	if f.held = f.held[:0]; cap(f.held) > 64<<10 {
		f.held = nil
	}
	return ok
}

// due does what is to happen at the offset; false: the connection is over.
func (f *flow) due() bool {
	for f.next.Kind != None && f.next.At <= f.offset {
		fault := f.next
		f.next = f.link.p.plan(f.n, f.dir, fault.At+1)
		switch fault.Kind {
		case Cut, Reset, Refuse:
			f.link.end(fault.Kind, fault.Pause)
			return false
		case Delay:
			f.link.p.happened(Delay)
			if !f.wait(fault.Pause) {
				return false
			}
		case Stall:
			f.link.p.happened(Stall)
			select {
			case <-f.link.flows[1-f.dir].over:
				f.link.fade()
			case <-f.link.over:
			}
			return false
		case Halve:
			f.link.p.happened(Halve)
			f.crumbs, f.pause = fault.Size, fault.Pause
			if f.crumbs == 0 && !f.wait(f.pause) {
				return false
			}
		case Duplicate:
			f.again = true
		case Corrupt:
			f.link.p.happened(Corrupt)
			if f.mask = fault.Mask; f.mask == 0 {
				f.mask = 0xFF
			}
		}
	}
	select {
	case <-f.link.over:
		return false
	default:
		return true
	}
}

// write sends; false: it is over.
func (f *flow) write(b []byte) bool {
	n, err := f.dst.Write(b)
	f.link.p.passed(f.dir, n)
	if err != nil {
		f.broken()
		return false
	}
	return true
}

// wait waits; false: the connection is over.
func (f *flow) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-f.link.over:
		return false
	}
}
