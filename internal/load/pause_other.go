//go:build !linux

package load

import "time"

// pause waits until a message is due, for a moment.
func pause(d time.Duration) { time.Sleep(d) }
