package transport

import (
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// TestNoDescriptors: accept fails for want of a descriptor. The listener must neither spin nor give up.
func TestNoDescriptors(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		s, ln := serve(t, &echo{}, "tcp", Options{Driver: driver})
		warm := dial(t, ln) // what is opened only once is open after this
		send(t, warm, frame(1, 4))
		expect(t, warm, frame(1, 4))
		// The client takes the lowest descriptor that is free, and accept wants the next.
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		lowest := f.Fd()
		_ = f.Close()
		var old syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
			t.Fatal(err)
		}
		low := old
		low.Cur = uint64(lowest) + 1
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
			t.Fatal(err)
		}
		restore := func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old) }
		defer restore()
		nc, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		eventually(t, func() bool { return s.Stats().AcceptErrors > 0 })
		<-time.After(200 * time.Millisecond)
		if n := s.Stats().AcceptErrors; n > 10 {
			t.Errorf("%d attempts in 200 ms", n)
		}
		send(t, warm, frame(1, 4)) // the others go on
		expect(t, warm, frame(1, 4))
		restore()
		send(t, nc, frame(2, 4))
		_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
		expect(t, nc, frame(2, 4))
	})
}
