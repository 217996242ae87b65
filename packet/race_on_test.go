//go:build race

package packet

// raceEnabled says that allocations and sizes are not those of the real program.
const raceEnabled = true
