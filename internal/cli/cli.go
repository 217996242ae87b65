// Package cli is the command line of myelin: one file for each subcommand, and
// all wiring of the daemon in serve.go. Flags and the environment are read only
// here and in package config; everything below gets plain structs.
//
// Start reading at Run, then at serve in serve.go.
//
// What a person sees follows these rules: results go to standard output, errors
// and the log to standard error; an error is one line `myelin: error: what`,
// lower case and without a full stop, followed where it helps by
// `myelin: hint: what to try`. The exit code is 0, 1 for a failure, or 2 for a
// command line that was not understood.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/myelin-mqtt/myelin/internal/config"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// Process is what the program was started with.
type Process struct {
	Args           []string // without the program's name
	Env            []string // NAME=value
	Stdout, Stderr io.Writer
	Build          Build
}

// Run runs the command line until it is done or ctx ends, prints what went
// wrong, and returns the exit code.
func Run(ctx context.Context, p Process) int {
	root := rootCommand(p)
	root.SetArgs(p.Args)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	return report(p.Stderr, root.ExecuteContext(ctx))
}

// report is the one place that prints errors.
func report(w io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	var faults config.Faults
	if errors.As(err, &faults) {
		for _, f := range faults {
			printError(w, f.String(), f.Hint)
		}
		return exitFailure
	}
	var h *hinted
	if errors.As(err, &h) {
		printError(w, err.Error(), h.hint)
		return h.code
	}
	printError(w, err.Error(), "")
	return exitFailure
}

func printError(w io.Writer, what, hint string) {
	fmt.Fprintf(w, "myelin: error: %s\n", what)
	if hint != "" {
		fmt.Fprintf(w, "myelin: hint: %s\n", hint)
	}
}

// hinted is an error with something to try, and its exit code.
type hinted struct {
	err  error
	hint string
	code int
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }

func usage(what, hint string) error {
	return &hinted{err: errors.New(what), hint: hint, code: exitUsage}
}

func rootCommand(p Process) *cobra.Command {
	root := &cobra.Command{
		Use:   "myelin",
		Short: "An MQTT broker",
		Long:  "Myelin is an MQTT broker for MQTT 3.1, 3.1.1 and 5.0.",
		Example: "  myelin serve\n" +
			"  myelin serve --listen tcp://:1883 --listen ws://:8083/mqtt\n" +
			"  myelin config check --config myelin.yaml\n" +
			"  myelin store backup /backup/monday",
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          group,
		Args:          cobra.ArbitraryArgs,
	}
	root.SetFlagErrorFunc(flagError)
	root.Version = p.Build.withDefaults().Version
	root.SetVersionTemplate("myelin {{.Version}}\n")
	root.AddCommand(serveCommand(p), configCommand(p), storeCommand(p), versionCommand(p))
	return root
}

// group is what a command does that only holds others: show its help, or name
// the command that was meant.
func group(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	hint := fmt.Sprintf("`%s --help` lists the commands", c.CommandPath())
	if n := config.Nearest(args[0], names); n != "" {
		hint = fmt.Sprintf("did you mean `%s %s`?", c.CommandPath(), n)
	}
	return usage(fmt.Sprintf("unknown command %q for %s", args[0], c.CommandPath()), hint)
}

// noArgs refuses arguments that are not flags.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usage(fmt.Sprintf("%s takes no argument, got %q", c.CommandPath(), args[0]), fmt.Sprintf("`%s --help` lists its flags", c.CommandPath()))
}

func flagError(c *cobra.Command, err error) error {
	hint := fmt.Sprintf("`%s --help` lists the flags", c.CommandPath())
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		var names []string
		c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if n := config.Nearest(unknown.GetSpecifiedName(), names); n != "" {
			hint = fmt.Sprintf("did you mean --%s?", n)
		}
	}
	return usage(err.Error(), hint)
}
