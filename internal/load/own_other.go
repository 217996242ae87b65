//go:build !unix

package load

import "time"

// ownCPU is what this process has used, 0: unknown.
func ownCPU() time.Duration { return 0 }
