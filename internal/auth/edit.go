package auth

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/myelin-mqtt/myelin/internal/scram"
)

// Change is what is to become of one user of a password file.
type Change struct {
	User     string
	Password []byte
	Delete   bool
	SCRAM    bool // keep what SCRAM-SHA-256 needs, which serves both ways to log in
}

// ErrNoUser: the user to be deleted is not in the file.
var ErrNoUser = errors.New("no such user")

// Edit changes a password file: all changes, or, with an error, none. A file that
// is not there is made with mode 0600; one that is there keeps its mode, its
// comments and its order. It is exchanged in one step, and others who edit it with
// this function wait.
func Edit(file string, changes []Change) (created bool, err error) {
	lines := make([]string, len(changes)) // hash before the file is locked: it takes time
	for i, c := range changes {
		if lines[i], err = c.line(); err != nil {
			return false, fmt.Errorf("user %s: %w", quote(c.User), err)
		}
	}
	if real, err := filepath.EvalSymlinks(file); err == nil {
		file = real // a link stays one
	}
	f, created, err := lockFile(file)
	if err != nil {
		return false, fmt.Errorf("lock password file: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read, and held the lock
	fi, err := f.Stat()
	if err != nil {
		return created, err
	}
	old, err := readFile(file)
	if err != nil {
		return created, fmt.Errorf("read password file: %w", err)
	}
	if _, faults := parseUsers(file, old, nil); len(faults) > 0 {
		return created, faults
	}
	text := strings.SplitAfter(string(old), "\n")
	for i, c := range changes {
		if text, err = replace(text, c, lines[i]); err != nil {
			return created, fmt.Errorf("user %s: %w", quote(c.User), err)
		}
	}
	next := []byte(strings.Join(text, ""))
	if bytes.Equal(next, old) {
		return created, nil
	}
	return created, exchange(file, next, fi)
}

// line is the line of the user, "" for one who is deleted.
func (c Change) line() (string, error) {
	if err := checkUser(c.User); err != nil {
		return "", err
	}
	if c.Delete {
		return "", nil
	}
	switch {
	case len(c.Password) == 0:
		return "", errors.New("the password is empty")
	case len(c.Password) > maxPassword:
		return "", fmt.Errorf("the password is longer than %d bytes", maxPassword)
	}
	if !c.SCRAM {
		return c.User + ":" + newHash(c.Password) + "\n", nil
	}
	v, err := scram.New(c.Password, scram.DefaultIterations)
	if err != nil {
		return "", err
	}
	return c.User + ":" + v.String() + "\n", nil
}

// replace puts a user's line in the place of the old one, or at the end.
func replace(text []string, c Change, line string) ([]string, error) {
	for i, l := range text {
		if user, _, ok := strings.Cut(l, ":"); ok && user == c.User {
			text[i] = line
			return text, nil
		}
	}
	if c.Delete {
		return nil, ErrNoUser
	}
	if n := len(text); n > 0 && text[n-1] != "" && !strings.HasSuffix(text[n-1], "\n") {
		text[n-1] += "\n"
	}
	return append(text, line), nil
}

// exchange puts a new file with the mode and the owner of the old one in its
// place.
func exchange(file string, text []byte, old fs.FileInfo) (err error) {
	dir := filepath.Dir(file)
	f, err := os.CreateTemp(dir, "."+filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("write password file: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // nobody has seen it
			err = fmt.Errorf("write password file: %w", err)
		}
	}()
	keepOwner(f, old)
	_, werr := f.Write(text)
	if err := errors.Join(werr, f.Chmod(old.Mode().Perm()), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return err
	}
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync() // some file systems cannot; the file itself is whole in any case
		_ = d.Close()
	}
	return nil
}
