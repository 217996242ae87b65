package load

import (
	"syscall"
	"time"
)

// pause waits until a message is due, for a moment. Go's timers wake up to a
// millisecond late when nothing else runs, which at 10,000 messages a second
// would send them in batches of ten; the system's sleep is off by some 60 µs.
func pause(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil) // who was interrupted looks at the clock again
}
