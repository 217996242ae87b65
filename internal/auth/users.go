package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxFile bounds a file that is read, in bytes.
const maxFile = 64 << 20

// Fault is one thing that is wrong with a file.
type Fault struct {
	File string
	Line int // 0: the file as a whole
	What string
	Hint string // what to try; may be empty
}

// Error gives the fault on one line, without its hint.
func (f Fault) Error() string {
	if f.Line == 0 {
		return f.File + ": " + f.What
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.What)
}

// Faults is everything that is wrong with a file, at most maxFaults of them. It
// is an error when it is not empty.
type Faults []Fault

const maxFaults = 50

// Error gives one line for each fault.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// advice is an error with something to try.
type advice struct{ what, hint string }

func (a *advice) Error() string { return a.what }

func hinted(what, hint string) error { return &advice{what, hint} }

// users are the users of a password file.
type users struct {
	byName map[string]*hash
	all    []*hash // in the order of the file
	key    []byte  // chooses who stands for a user that does not exist
}

// parseUsers reads a password file: lines USER:HASH, empty ones and those that
// begin with #.
func parseUsers(name string, text, key []byte) (*users, Faults) {
	u := &users{byName: map[string]*hash{}, key: key}
	var faults Faults
	lines := map[string]int{}
	n := 0
	for len(text) > 0 && len(faults) < maxFaults {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte("\n"))
		n++
		user, h, err := parseLine(strings.TrimSuffix(string(line), "\r"))
		if err == nil && h == nil {
			continue
		}
		if first, twice := lines[user]; err == nil && twice {
			err = hinted("user "+quote(user)+" is there twice", fmt.Sprintf("first given at line %d", first))
		}
		if err != nil {
			f := Fault{File: name, Line: n, What: err.Error()}
			var a *advice
			if errors.As(err, &a) {
				f.Hint = a.hint
			}
			faults = append(faults, f)
			continue
		}
		lines[user] = n
		u.byName[user] = h
		u.all = append(u.all, h)
	}
	return u, faults
}

// parseLine reads one line; nil, nil: there is nothing on it.
func parseLine(line string) (user string, h *hash, err error) {
	if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
		return "", nil, nil
	}
	user, text, ok := strings.Cut(line, ":")
	if !ok {
		return "", nil, hinted("wants USER:HASH, and there is no colon", "`myelin passwd` writes such lines")
	}
	if err := checkUser(user); err != nil {
		return "", nil, err
	}
	if h, err = parseHash(strings.TrimRight(text, " \t")); err != nil {
		return "", nil, err
	}
	return user, h, nil
}

// maxUser is the longest user name that a file holds, in bytes.
const maxUser = 1 << 10

// checkUser says why a name cannot stand in a password file.
func checkUser(name string) error {
	switch {
	case name == "":
		return errors.New("the user name is empty")
	case len(name) > maxUser:
		return fmt.Errorf("the user name is longer than %d bytes", maxUser)
	case !utf8.ValidString(name):
		return errors.New("the user name is not UTF-8")
	case strings.ContainsRune(name, ':'):
		return errors.New("a user name cannot have a colon")
	case strings.HasPrefix(name, "#"):
		return errors.New("a user name cannot begin with #, which begins a comment")
	case strings.TrimSpace(name) != name:
		return errors.New("the user name begins or ends with a space")
	case strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("the user name has a control character")
	}
	return nil
}

// find is the hash to hold a password against. For a user who is not there it is
// another user's, always the same one for a name, so that the answer takes as
// long; nil only where the file has nobody.
func (u *users) find(name string) (h *hash, known bool) {
	if h := u.byName[name]; h != nil {
		return h, true
	}
	return u.standIn(name), false
}

func (u *users) standIn(name string) *hash {
	if len(u.all) == 0 {
		return nil
	}
	m := hmac.New(sha256.New, u.key)
	m.Write([]byte(name))
	return u.all[binary.BigEndian.Uint64(m.Sum(nil))%uint64(len(u.all))]
}

// readFile reads a file of bounded size.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d MiB", name, maxFile>>20)
	}
	return b, nil
}

// loadUsers reads a password file from the disk.
func loadUsers(name string, key []byte) (*users, error) {
	text, err := readFile(name)
	if err != nil {
		return nil, fmt.Errorf("read password file: %w", err)
	}
	u, faults := parseUsers(name, text, key)
	if len(faults) > 0 {
		return nil, faults
	}
	return u, nil
}

// quote shows a name that somebody gave, cut where it is too long to read.
func quote(name string) string { return fmt.Sprintf("%q", clip(name)) }

func clip(name string) string {
	if len(name) > 64 {
		return strings.ToValidUTF8(name[:61], "") + "..."
	}
	return name
}
