//go:build linux && !race

package transport

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
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

// epollWait returns how many events there are, without waiting.
func epollWait(epfd int, events []unix.EpollEvent) int {
	for {
		n, _, e := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(epfd), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
		if e == 0 {
			return int(n)
		}
		if e != syscall.EINTR {
			return 0
		}
	}
}

// Only a build with the race detector keeps account of descriptors.

func ownFD(*Conn)    {}
func checkFD(*Conn)  {}
func disownFD(*Conn) {}
