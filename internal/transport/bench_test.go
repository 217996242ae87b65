package transport

import (
	"io"
	"net"
	"testing"
)

// BenchmarkEcho sends messages of 256 bytes to and fro over one connection, window at a time. The client is part of what
// is measured.
func BenchmarkEcho(b *testing.B) {
	for _, driver := range drivers() {
		b.Run(driver, func(b *testing.B) {
			for _, window := range []int{1, 32, 200} {
				b.Run(map[int]string{1: "window=1", 32: "window=32", 200: "window=200"}[window], func(b *testing.B) {
					_, ln := serve(b, &echo{}, "tcp", Options{Driver: driver})
					nc := dial(b, ln)
					one := frame(1, 256)
					var all []byte
					for range window {
						all = append(all, one...)
					}
					got := make([]byte, len(all))
					b.ReportAllocs()
					b.SetBytes(256)
					for i := 0; i < b.N; i += window {
						if _, err := nc.Write(all); err != nil {
							b.Fatal(err)
						}
						if _, err := io.ReadFull(nc, got); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		})
	}
}

// BenchmarkFanOut appends a message of 64 bytes to 200 connections in one borrowed turn.
func BenchmarkFanOut(b *testing.B) {
	for _, driver := range drivers() {
		b.Run(driver, func(b *testing.B) {
			const n = 200
			opened := make(chan *Conn, n)
			h := &echo{open: func(_ *Turn, c *Conn) { opened <- c }}
			s, ln := serve(b, h, "tcp", Options{Driver: driver})
			var cs []*Conn
			for range n {
				nc := dial(b, ln)
				_ = nc.SetDeadline(noDeadline)
				send(b, nc, []byte{0})
				cs = append(cs, await(b, opened, "Open"))
				go io.Copy(io.Discard, struct{ net.Conn }{nc})
			}
			p := frame(1, 64)
			b.ReportAllocs()
			for i := 0; i < b.N; i += n {
				t := s.Borrow()
				for _, c := range cs {
					for c.Queued() > 1<<20 {
						yield()
					}
					c.Append(t, p)
				}
				s.Return(t)
			}
		})
	}
}

// BenchmarkWake wakes one connection from a foreign goroutine.
func BenchmarkWake(b *testing.B) {
	for _, driver := range drivers() {
		b.Run(driver, func(b *testing.B) {
			opened, woken := make(chan *Conn, 1), make(chan struct{}, 1)
			h := &echo{
				open:  func(_ *Turn, c *Conn) { opened <- c },
				woken: func(*Turn, *Conn) error { woken <- struct{}{}; return nil },
			}
			_, ln := serve(b, h, "tcp", Options{Driver: driver})
			send(b, dial(b, ln), []byte{0})
			c := <-opened
			b.ReportAllocs()
			for b.Loop() {
				c.Wake()
				<-woken
			}
		})
	}
}
