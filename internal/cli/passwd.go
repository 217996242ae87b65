package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/myelin-mqtt/myelin/internal/auth"
)

// passwdFlags are the flags of `myelin passwd`.
type passwdFlags struct {
	remove, batch, scram bool
	file                 string
}

func passwdCommand(p Process) *cobra.Command {
	var f passwdFlags
	c := &cobra.Command{
		Use:   "passwd FILE USER",
		Short: "Create, change and delete the users of a password file",
		Long: "Create or change a user of a password file, or delete one. The file is made, with mode 0600, if it is not there.\n\n" +
			"The password is read twice from the terminal, or from the first line of standard input where that is no terminal,\n" +
			"or from a file; never from the command line, which other users of the machine can see.\n" +
			"The file is exchanged in one step. A running broker takes it within seconds.",
		Example: "  myelin passwd users kitchen\n" +
			"  myelin passwd users kitchen --password-file secret\n" +
			"  myelin passwd users kitchen --delete\n" +
			"  myelin passwd users --batch < users-and-passwords",
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.check(args); err != nil {
				return err
			}
			changes, err := f.changes(c, args)
			if err != nil {
				return err
			}
			created, err := auth.Edit(args[0], changes)
			if errors.Is(err, auth.ErrNoUser) {
				return &hinted{err: fmt.Errorf("%s: %w", args[0], err), hint: "names are written as in the file, up to the colon", code: exitFailure}
			}
			if err == nil && created {
				_, err = fmt.Fprintf(c.ErrOrStderr(), "myelin: %s was not there and is made\n", args[0])
			}
			return err
		},
	}
	c.Flags().BoolVarP(&f.remove, "delete", "D", false, "delete the user")
	c.Flags().BoolVar(&f.batch, "batch", false, "read lines USER:PASSWORD from standard input instead, and take all of them or none")
	c.Flags().BoolVar(&f.scram, "scram", false, "keep what SCRAM-SHA-256 needs; such a user can log in with the password, too")
	c.Flags().StringVar(&f.file, "password-file", "", "read the password from this `file`; - is standard input")
	return c
}

func (f passwdFlags) check(args []string) error {
	const hint = "`myelin passwd --help` shows how"
	switch {
	case f.batch && (f.remove || f.file != ""):
		return usage("--batch reads users and passwords from standard input, and goes with neither --delete nor --password-file", hint)
	case f.remove && (f.file != "" || f.scram):
		return usage("--delete needs no password", hint)
	case f.batch && len(args) != 1:
		return usage("--batch wants the file, and nothing else", hint)
	case !f.batch && len(args) > 2:
		return usage("passwd wants a file and a user, and nothing else", "a password is not written on the command line, where other users of the machine can see it")
	case !f.batch && len(args) != 2:
		return usage("passwd wants a file and a user", hint)
	}
	return nil
}

func (f passwdFlags) changes(c *cobra.Command, args []string) ([]auth.Change, error) {
	switch {
	case f.batch:
		return f.lines(c.InOrStdin())
	case f.remove:
		return []auth.Change{{User: args[1], Delete: true}}, nil
	}
	password, err := f.password(c)
	if err != nil {
		return nil, err
	}
	return []auth.Change{{User: args[1], Password: password, SCRAM: f.scram}}, nil
}

// lines reads USER:PASSWORD from each line.
func (f passwdFlags) lines(r io.Reader) ([]auth.Change, error) {
	var changes []auth.Change
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxSecret)
	for n := 1; s.Scan(); n++ {
		line := strings.TrimSuffix(s.Text(), "\r")
		if line == "" {
			continue
		}
		user, password, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("line %d of standard input: wants USER:PASSWORD, and there is no colon", n)
		}
		changes = append(changes, auth.Change{User: user, Password: []byte(password), SCRAM: f.scram})
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	if len(changes) == 0 {
		return nil, errors.New("no users on standard input")
	}
	return changes, nil
}

// password of one user.
func (f passwdFlags) password(c *cobra.Command) ([]byte, error) {
	if f.file != "" && f.file != "-" {
		s, err := readSecret(f.file)
		return []byte(s), err
	}
	in := c.InOrStdin()
	if t, ok := in.(*os.File); ok && f.file == "" && term.IsTerminal(int(t.Fd())) {
		return askTwice(t, c.ErrOrStderr())
	}
	line, err := bufio.NewReader(io.LimitReader(in, maxSecret)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	return []byte(strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")), nil
}

// askTwice reads a password from the terminal without showing it.
func askTwice(t *os.File, w io.Writer) ([]byte, error) {
	var read [2][]byte
	for i, prompt := range []string{"Password: ", "Again: "} {
		fmt.Fprint(w, prompt)
		b, err := term.ReadPassword(int(t.Fd()))
		fmt.Fprintln(w)
		if err != nil {
			return nil, fmt.Errorf("read password: %w", err)
		}
		read[i] = b
	}
	if string(read[0]) != string(read[1]) {
		return nil, errors.New("the two passwords differ")
	}
	return read[0], nil
}
