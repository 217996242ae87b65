//go:build race

package route

// raceEnabled tells that the race detector multiplies memory and time.
const raceEnabled = true
