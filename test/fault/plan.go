package fault

import (
	"fmt"
	"time"
)

// Direction is where bytes go.
type Direction uint8

// The directions of a connection.
const (
	Up   Direction = iota // from the client to the broker
	Down                  // from the broker to the client
)

func (d Direction) String() string { return [...]string{"up", "down"}[d] }

// Kind is a kind of fault.
type Kind uint8

// The kinds of faults.
const (
	// None: nothing happens any more.
	None Kind = iota
	// Cut ends the connection after At bytes, in an orderly way: both ends see
	// the end (FIN) behind what was passed on. At 0 it ends as soon as it was
	// accepted, and the broker never hears of it.
	Cut
	// Reset ends the connection after At bytes with RST, which may overtake the
	// last of them.
	Reset
	// Refuse is Cut, and for Pause the port is closed, so that connections are
	// refused.
	Refuse
	// Delay holds what comes after At bytes for Pause.
	Delay
	// Stall holds what comes after At bytes until the other direction ends the
	// connection: the end of this one is held too.
	Stall
	// Halve ends a write after At bytes, and sends the next Size bytes one by one,
	// with Pause before each.
	Halve
	// Duplicate sends the control packet that has the byte at offset At twice.
	Duplicate
	// Corrupt changes the byte at offset At: the bits of Mask, 0: all.
	Corrupt

	kinds
)

func (k Kind) String() string {
	names := [kinds]string{"none", "cut", "reset", "refuse", "delay", "stall", "halve", "duplicate", "corrupt"}
	if k < kinds {
		return names[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Fault is something that happens in one direction of one connection.
type Fault struct {
	Kind Kind
	// At is an offset in the bytes as they came from the sender, from 0.
	At    int64
	Pause time.Duration
	Size  int
	Mask  byte
}

// Plan tells the first fault at or after the offset, in one direction of the
// connection of this number (from 0), or one whose Kind is None. It is called
// from many goroutines, and answers the same question in the same way.
type Plan func(conn int, d Direction, offset int64) Fault

// Step is a fault of a Script.
type Step struct {
	Conn int
	Dir  Direction
	Fault
}

// Script is the plan of the steps, in any order, one an offset and direction.
// Every other connection passes through.
func Script(steps ...Step) Plan {
	return func(conn int, d Direction, offset int64) (first Fault) {
		for _, s := range steps {
			if s.Conn == conn && s.Dir == d && s.At >= offset && (first.Kind == None || s.At < first.At) {
				first = s.Fault
			}
		}
		return first
	}
}

// Mix says what Seeded makes.
type Mix struct {
	// Kinds are chosen from with equal chances: name one twice for twice as many.
	Kinds []Kind
	// Every is how many bytes lie between two faults of one direction, on
	// average. How many they are for one connection differs, between a quarter of
	// it and four times as many.
	Every int64
	// Pause is the longest pause of a fault that has one.
	Pause time.Duration
	// Spare is how many bytes at the beginning of each direction are left alone.
	Spare int64
}

// Seeded is a plan in which chance, started with the seed, decides. The same
// seed and mix make the same plan.
func Seeded(seed uint64, m Mix) Plan {
	return func(conn int, d Direction, offset int64) Fault {
		if len(m.Kinds) == 0 || m.Every <= 0 {
			return Fault{}
		}
		// The bytes are cut into blocks; each has one fault, somewhere.
		c := (chance(seed).next() ^ chance(conn)<<1 ^ chance(d)).next()
		block := max(m.Every>>2<<(c%5), 1)
		for i := max(offset-m.Spare, 0) / block; ; i++ {
			f := m.fault(chance(uint64(c)^uint64(i)), i, block)
			if f.At >= offset {
				return f
			}
		}
	}
}

// fault is the fault of the block i.
func (m *Mix) fault(c chance, i, block int64) Fault {
	draw := func(n int64) int64 {
		c = c.next()
		return int64(uint64(c) % uint64(n))
	}
	f := Fault{Kind: m.Kinds[draw(int64(len(m.Kinds)))], At: m.Spare + i*block + draw(block)}
	switch f.Kind {
	case Halve:
		f.Size = int(draw(16))
		f.Pause = time.Duration(draw(int64(m.Pause)/8 + 1))
	case Refuse, Delay:
		f.Pause = time.Duration(draw(int64(m.Pause) + 1))
	case Corrupt:
		f.Mask = 1 << draw(8)
	}
	return f
}

// chance is a generator of numbers that has no state but its last number
// (SplitMix64's mixing).
type chance uint64

func (c chance) next() chance {
	c += 0x9E3779B97F4A7C15
	c = (c ^ c>>30) * 0xBF58476D1CE4E5B9
	c = (c ^ c>>27) * 0x94D049BB133111EB
	return c ^ c>>31
}
