package dial

import (
	"io"
	"net"
	"strconv"
	"testing"
)

// BenchmarkWrite writes packets of some sizes to a server that reads them away.
func BenchmarkWrite(b *testing.B) {
	for _, scheme := range []string{"tcp", "ws"} {
		ln := serve(b, listen(b, "tcp", "127.0.0.1:0"), func(c net.Conn) {
			if scheme == "ws" {
				acceptRaw(c)
			}
			silent(c)
		})
		conn, err := parse(b, scheme+"://"+ln.Addr().String()).Dial(b.Context(), Options{})
		if err != nil {
			b.Fatal(err)
		}
		for _, n := range []int{100, 4000, 64 << 10} {
			b.Run(scheme+"/"+strconv.Itoa(n), func(b *testing.B) {
				p := make([]byte, n)
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := conn.Write(p); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		_ = conn.Close()
	}
}

// BenchmarkRead reads messages of some sizes as they come.
func BenchmarkRead(b *testing.B) {
	for _, scheme := range []string{"tcp", "ws"} {
		for _, n := range []int{100, 4000, 64 << 10} {
			b.Run(scheme+"/"+strconv.Itoa(n), func(b *testing.B) {
				stop := make(chan bool)
				ln := serve(b, listen(b, "tcp", "127.0.0.1:0"), func(c net.Conn) {
					frame := make([]byte, n)
					if scheme == "ws" {
						acceptRaw(c)
						frame = append([]byte{0x82, 127, 0, 0, 0, 0, 0, 0, byte(n >> 8), byte(n)}, frame...)
						frame[7] = byte(n >> 16)
					}
					many := make([]byte, 0, 200_000)
					for len(many)+len(frame) < cap(many) {
						many = append(many, frame...)
					}
					for {
						select {
						case <-stop:
							return
						default:
						}
						if _, err := c.Write(many); err != nil {
							return
						}
					}
				})
				conn, err := parse(b, scheme+"://"+ln.Addr().String()).Dial(b.Context(), Options{})
				if err != nil {
					b.Fatal(err)
				}
				p := make([]byte, n)
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := io.ReadFull(conn, p); err != nil {
						b.Fatal(err)
					}
				}
				close(stop)
				_ = conn.Close()
			})
		}
	}
}
