//go:build linux && race

package transport

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Under the race detector every use of a descriptor is checked before and after: that it is still the connection's. A
// descriptor that was closed too early is soon another connection's, and nothing else would show it.

var owners sync.Map // descriptor -> *Conn

func ownFD(c *Conn) {
	if other, had := owners.Swap(c.fd, c); had {
		panic(fmt.Sprintf("descriptor %d is %p's and %p's", c.fd, other, c))
	}
}

func checkFD(c *Conn) {
	if is, _ := owners.Load(c.fd); is != c {
		panic(fmt.Sprintf("descriptor %d is not %p's but %v's", c.fd, c, is))
	}
}

func disownFD(c *Conn) {
	checkFD(c)
	owners.Delete(c.fd)
}

// epollWait returns how many events there are, without waiting.
func epollWait(epfd int, events []unix.EpollEvent) int {
	for {
		n, err := unix.EpollWait(epfd, events, 0)
		if err == nil {
			return n
		}
		if err != unix.EINTR {
			return 0
		}
	}
}
