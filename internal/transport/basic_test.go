package transport

import (
	"testing"
)

func TestEcho(t *testing.T) {
	eachTransport(t, func(t *testing.T, driver, scheme string) {
		_, ln := serve(t, &echo{}, scheme, Options{Driver: driver})
		nc := dial(t, ln)
		for i, n := range []int{4, 5, 100, 8000, 8192, 40000, 70000, 1 << 20} {
			b := frame(i, n)
			go nc.Write(b)
			expect(t, nc, b)
		}
	})
}
