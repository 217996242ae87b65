package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/myelin-mqtt/myelin/internal/config"
	"github.com/myelin-mqtt/myelin/internal/control"
	"github.com/myelin-mqtt/myelin/internal/store/disk"
)

func storeCommand(p Process) *cobra.Command {
	c := &cobra.Command{
		Use:   "store",
		Short: "Look at what is on the disk, check it, copy it",
		Long: "Look at the data directory of a broker, check it, copy it.\n\n" +
			"DIR is the data directory; without it that of the configuration, as `myelin serve` finds it.\n" +
			"Nothing is changed in it. While a broker runs on it, it is asked through the socket control.sock in it.",
		RunE: group,
		Args: cobra.ArbitraryArgs,
	}
	c.AddCommand(storeCheckCommand(p), storeDumpCommand(p), storeBackupCommand(p), storeQueuesCommand(p))
	return c
}

// dataDir is the data directory that a command is about.
type dataDir struct {
	settings
	data string // the flag, "": not given
}

// withData adds the flags that say where the directory is.
func (d *dataDir) withData(c *cobra.Command, p Process) {
	d.withFile(c, p)
	c.Flags().StringVar(&d.data, "data", "", "data `directory`, instead of the configuration's")
}

// find is the directory: the argument, or what the configuration says.
func (d *dataDir) find(args []string) (string, error) {
	switch {
	case len(args) > 0 && d.data != "":
		return "", usage(fmt.Sprintf("two data directories are named, %q and %q", args[0], d.data), "name one")
	case len(args) > 0:
		return args[0], nil
	}
	if d.data != "" {
		d.flags = append(d.flags, config.Flag{Name: "data", Value: d.data})
	}
	cfg, err := d.load()
	return cfg.Data, err
}

// oneArg refuses more than one argument.
func oneArg(c *cobra.Command, args []string) error {
	if len(args) <= 1 {
		return nil
	}
	return usage(fmt.Sprintf("%s takes one argument, got %d", c.CommandPath(), len(args)), fmt.Sprintf("`%s --help` shows how", c.CommandPath()))
}

// storeHint adds what to try to an error of a store command.
func storeHint(err error, dir string) error {
	hint := ""
	var used *disk.InUseError
	var format *disk.FormatError
	var damage *disk.DamageError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &used):
		hint = "a program uses the directory, and gives no control socket; stop it first"
	case errors.As(err, &format):
		hint = format.Hint()
	case errors.As(err, &damage):
		hint = damage.Hint()
	case errors.Is(err, disk.ErrNoStore):
		hint = "name the data directory of a broker"
	case errors.Is(err, disk.ErrNotEmpty):
		hint = "name a directory that does not exist yet"
	case errors.Is(err, fs.ErrPermission):
		hint = "run this as the user that the broker runs as"
	}
	if hint == "" {
		return err
	}
	return &hinted{err: err, hint: hint, code: exitFailure}
}

// running asks whether a broker answers on the directory.
func running(ctx context.Context, dir string) (*control.Client, bool, error) {
	c := control.NewClient(dir)
	_, err := c.State(ctx)
	switch {
	case err == nil:
		return c, true, nil
	case errors.Is(err, control.ErrNotRunning):
		return nil, false, nil
	}
	return nil, false, storeHint(err, dir)
}

// still calls f with a directory that no broker uses: the one that is named, or,
// where a broker runs on it, a copy that the broker makes and that goes again.
func still(ctx context.Context, dir string, notes io.Writer, f func(dir string) error) (err error) {
	c, is, err := running(ctx, dir)
	if err != nil {
		return err
	}
	if !is {
		return storeHint(f(dir), dir)
	}
	// Beside the data, so that tables are linked and not copied.
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(abs, ".look-")
	if err != nil {
		return storeHint(err, dir)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	copied := filepath.Join(tmp, "copy")
	if _, err := c.Backup(ctx, copied); err != nil {
		return fmt.Errorf("have the broker copy its store: %w", err)
	}
	fmt.Fprintf(notes, "myelin: note: a broker runs on %s; this is about a copy that it has just made\n", dir)
	return storeHint(f(copied), copied)
}

func storeBackupCommand(p Process) *cobra.Command {
	var d dataDir
	c := &cobra.Command{
		Use:   "backup TO",
		Short: "Copy the data directory, of a running broker or a stopped one",
		Long: "Copy the data directory into TO, which must not exist, or be empty; a broker can have the copy as its --data.\n\n" +
			"A running broker goes on meanwhile, and writes the copy itself: everything that was acknowledged before the command is in it.\n" +
			"On the disk of the data directory tables are linked, not copied. What is there as TO in the end is whole, or it is not there.",
		Example: "  myelin store backup /backup/monday --data /var/lib/myelin",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(c.CommandPath()+" wants one argument, the directory of the copy", fmt.Sprintf("`%s --help` shows how", c.CommandPath()))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := d.find(nil)
			if err != nil {
				return err
			}
			return backUp(c.Context(), dir, args[0], c.OutOrStdout())
		},
	}
	d.withData(c, p)
	return c
}

func backUp(ctx context.Context, dir, to string, out io.Writer) error {
	client, is, err := running(ctx, dir)
	if err != nil {
		return err
	}
	how := "of a stopped broker"
	if is {
		how = "of a running broker"
		if names, err := os.ReadDir(to); err == nil && len(names) > 0 { // the broker would say the same, without a hint
			return storeHint(fmt.Errorf("back up to %s: %w", to, disk.ErrNotEmpty), dir)
		}
		_, err = client.Backup(ctx, to)
	} else {
		err = copyStopped(ctx, dir, to)
	}
	if err != nil {
		return storeHint(err, dir)
	}
	_, err = fmt.Fprintf(out, "%s: backup %s on %s\n", to, how, dir)
	return err
}

func copyStopped(ctx context.Context, dir, to string) error {
	v, err := disk.OpenView(dir, nil)
	if err != nil {
		return err
	}
	return errors.Join(v.Backup(ctx, to), v.Close())
}

// lines writes JSON lines.
func lines(w io.Writer) func(line any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode
}
