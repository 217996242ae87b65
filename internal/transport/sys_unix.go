//go:build unix && (!linux || race)

package transport

import "golang.org/x/sys/unix"

// vec has no use here.
type vec struct{}

func sysRead(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Read(fd, p)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

func sysWritev(fd int, bufs [][]byte, _ *Turn) (total int, err error) {
	for _, p := range bufs {
		n, err := unix.Write(fd, p)
		if n > 0 {
			total += n
		}
		if err == unix.EINTR {
			return total, nil
		}
		if n < len(p) || err != nil {
			if total > 0 {
				return total, nil
			}
			return 0, err
		}
	}
	return total, nil
}
