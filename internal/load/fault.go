package load

import (
	"slices"
	"strings"
)

// Fault is one thing that is wrong with the description of a load.
type Fault struct {
	Where string // "bench.yaml:12" or "--clients"
	What  string // what is wrong, lower case
	Hint  string // what to try; may be empty

	line int
}

// Faults is everything that is wrong. It is an error when it is not empty.
type Faults []Fault

// Error gives one line for each fault.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Where + ": " + f.What
	}
	return strings.Join(lines, "\n")
}

// sorted has the file's faults by line, then all others, each once: a default of
// the file that is wrong is wrong for every load.
func (fs Faults) sorted() Faults {
	slices.SortStableFunc(fs, func(a, b Fault) int {
		switch {
		case a.line == b.line:
			return 0
		case a.line == 0:
			return 1
		case b.line == 0:
			return -1
		}
		return a.line - b.line
	})
	var out Faults
	for _, f := range fs {
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}
