package disk

import "fmt"

// FormatError refuses a directory whose keys and records this program does not
// know.
type FormatError struct {
	Version int // the directory's; -1: it has none, and holds something
}

// Error implements error.
func (e *FormatError) Error() string {
	if e.Version < 0 {
		return "it holds data without a format version, so this program did not make it"
	}
	return fmt.Sprintf("it has format version %d, and this program knows version %d only", e.Version, format)
}

// Hint says what to try.
func (e *FormatError) Hint() string {
	switch {
	case e.Version > format:
		return "a newer myelin wrote it: run that one, or name another directory with --data"
	case e.Version < 0:
		return "name another directory with --data"
	}
	return "an older myelin wrote it: run that one, or name another directory with --data"
}

// checkVersion looks at the record of the format version.
func checkVersion(v []byte) error {
	switch {
	case len(v) != 1:
		return errShort
	case v[0] != format:
		return &FormatError{Version: int(v[0])}
	}
	return nil
}
