//go:build linux

package transport

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestInherited: what is set on the listening socket reaches the connection.
func TestInherited(t *testing.T) {
	opened := make(chan *Conn, 1)
	_, ln := serve(t, &echo{open: func(_ *Turn, c *Conn) { opened <- c }}, "tcp", Options{Driver: "reactor", SndBuf: 100_000})
	send(t, dial(t, ln), frame(1, 4))
	fd := int(await(t, opened, "Open").fd)
	for _, x := range []struct {
		name          string
		level, option int
		want          int
	}{
		{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{"SO_SNDBUF", unix.SOL_SOCKET, unix.SO_SNDBUF, 200_000}, // Linux doubles it
	} {
		if v, err := unix.GetsockoptInt(fd, x.level, x.option); v != x.want || err != nil {
			t.Errorf("%s is %d, %v, want %d", x.name, v, err, x.want)
		}
	}
	fl, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil || fl&unix.O_NONBLOCK == 0 {
		t.Errorf("flags %x, %v", fl, err)
	}
}
