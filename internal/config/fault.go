package config

import (
	"slices"
	"strings"
)

// Fault is one thing that is wrong with the settings.
type Fault struct {
	Where string // "myelin.yaml:12", "MYELIN_QUEUE_POLICY" or "--queue-policy"
	What  string // what is wrong, lower case
	Hint  string // what to try; may be empty

	source source
	line   int
}

// String gives the fault on one line, without its hint.
func (f Fault) String() string { return f.Where + ": " + f.What }

// Faults is everything that is wrong: the file's faults by line, then the
// environment's by name, then the flags' in their order. It is an error when it
// is not empty.
type Faults []Fault

// Error gives one line for each fault.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

func (fs Faults) sort() {
	slices.SortStableFunc(fs, func(a, b Fault) int {
		if a.source != b.source {
			return int(a.source) - int(b.source)
		}
		return a.line - b.line
	})
}

// source says where a setting comes from; a later one beats an earlier one.
type source uint8

const (
	fromDefault source = iota
	fromFile
	fromEnv
	fromFlag
)

// Nearest returns the name that someone who wrote word most likely meant, ""
// if none is near.
func Nearest(word string, names []string) string {
	if len(word) > 100 {
		return ""
	}
	best, least := "", 1+max(2, len(word)/4)
	for _, n := range names {
		if d := distance(word, n); d < least {
			best, least = n, d
		}
	}
	if least >= len(word) {
		return ""
	}
	return best
}

// distance counts the letters to insert, delete, replace or swap with their
// neighbour to make a into b.
func distance(a, b string) int {
	before := make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row
		row = make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			change := 1
			if a[i] == b[j] {
				change = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+change)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before = last
	}
	return row[len(b)]
}
