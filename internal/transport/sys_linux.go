//go:build linux && !race

package transport

import (
	"syscall"
	"unsafe"
)

// The non-blocking calls are made with RawSyscall: with Syscall the scheduler's monitor would take the processor away
// during the microseconds that a loopback write takes.

// vec is the iovec array of a Turn.
type vec [maxPieces]syscall.Iovec

func sysRead(fd int, p []byte) (int, error) {
	for {
		n, _, e := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		switch e {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, e
		}
	}
}

func sysWritev(fd int, bufs [][]byte, t *Turn) (int, error) {
	for {
		var n uintptr
		var e syscall.Errno
		if len(bufs) == 1 {
			p := bufs[0]
			n, _, e = syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		} else {
			for i, p := range bufs {
				t.vec[i].Base = &p[0]
				t.vec[i].SetLen(len(p))
			}
			n, _, e = syscall.RawSyscall(syscall.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&t.vec[0])), uintptr(len(bufs)))
			clear(t.vec[:len(bufs)])
		}
		switch e {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, e
		}
	}
}
