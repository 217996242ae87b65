package transport

import (
	"errors"
	"io"
	"testing"
	"time"
)

// A peer that reads slowly gets all of what was said before the end, however long it takes; one that does not read is
// given up soon.
func TestLingerWhileThePeerReads(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		const size = 512 << 10
		h := &echo{feed: func(turn *Turn, c *Conn, b []byte) (int, error) {
			c.Append(turn, make([]byte, size))
			return len(b), errors.New("bye")
		}}
		s, ln := serve(t, h, "tcp", Options{Driver: driver, SndBuf: 32 << 10, Linger: 500 * time.Millisecond})
		slow, stalled := dial(t, ln), dial(t, ln)
		for _, nc := range []interface{ SetReadBuffer(int) error }{slow.(interface{ SetReadBuffer(int) error }), stalled.(interface{ SetReadBuffer(int) error })} {
			_ = nc.SetReadBuffer(16 << 10)
		}
		for _, nc := range []io.Writer{slow, stalled} {
			if _, err := nc.Write([]byte{1}); err != nil {
				t.Fatal(err)
			}
		}
		tick := time.NewTicker(30 * time.Millisecond)
		defer tick.Stop()
		n, buf := 0, make([]byte, 48<<10)
		begin := time.Now()
		for {
			m, err := slow.Read(buf)
			n += m
			if err != nil {
				break
			}
			<-tick.C
		}
		if n != size {
			t.Errorf("%d of %d bytes in %v", n, size, time.Since(begin))
		}
		slow.Close()
		for s.Stats().Sockets > 0 { // the stalled one goes, though it never reads
			if time.Since(begin) > 20*time.Second {
				t.Fatal("a peer that does not read is waited for")
			}
			<-tick.C
		}
	})
}
