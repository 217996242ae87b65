// Package cli is the command line of myelin: one file for each subcommand, and
// all wiring of the daemon in serve.go. Flags and the environment are read only
// here and in package config; everything below gets plain structs.
//
// Start reading at Run, then at serve in serve.go, or for the MQTT clients at
// newClient in client.go.
//
// What a person sees follows these rules: results go to standard output, errors
// and the log to standard error; an error is one line `myelin: error: what`,
// lower case and without a full stop, followed where it helps by
// `myelin: hint: what to try`. The exit code is 0, 1 for a failure, 2 for a
// command line that was not understood, or one of the client commands' (exit.go).
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/myelin-mqtt/myelin/internal/auth"
	"github.com/myelin-mqtt/myelin/internal/config"
)

// Process is what the program was started with.
type Process struct {
	Args           []string // without the program's name
	Env            []string // NAME=value
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Build          Build
}

// Run runs the command line until it is done or ctx ends, prints what went
// wrong, and returns the exit code.
func Run(ctx context.Context, p Process) int {
	root := rootCommand(p)
	root.SetArgs(words(root, p.Args))
	if p.Stdin != nil {
		root.SetIn(p.Stdin)
	}
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	return report(p.Stderr, p.Env, root.ExecuteContext(ctx))
}

// words are the arguments as the flags of the command take them.
func words(root *cobra.Command, args []string) []string {
	if len(args) == 0 {
		return args
	}
	for _, c := range root.Commands() {
		if c.Name() == args[0] {
			return append([]string{args[0]}, foldProperties(c, args[1:])...)
		}
	}
	return args
}

// report is the one place that prints errors.
func report(w io.Writer, env []string, err error) int {
	if err == nil {
		return exitOK
	}
	code, hint := exitFailure, ""
	var h *hinted
	if errors.As(err, &h) {
		code, hint = h.code, h.hint
	}
	if code == exitPipe {
		return code // whoever closed it knows
	}
	red, off := "", ""
	if colour(w, env) {
		red, off = "\x1b[1;31m", "\x1b[0m"
	}
	print := func(what, hint string) {
		fmt.Fprintf(w, "myelin: %serror:%s %s\n", red, off, what)
		if hint != "" {
			fmt.Fprintf(w, "myelin: hint: %s\n", hint)
		}
	}
	var faults config.Faults
	if errors.As(err, &faults) {
		for _, f := range faults {
			print(f.String(), f.Hint)
		}
		return code
	}
	var wrong auth.Faults
	if errors.As(err, &wrong) {
		for _, f := range wrong {
			print(f.Error(), f.Hint)
		}
		return code
	}
	print(err.Error(), hint)
	return code
}

// colour tells whether what is written to w may be coloured: on a terminal only,
// and not where somebody has set NO_COLOR to anything.
func colour(w io.Writer, env []string) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && !slices.ContainsFunc(env, func(e string) bool {
		return strings.HasPrefix(e, "NO_COLOR=") && e != "NO_COLOR=" || e == "TERM=dumb"
	})
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
		Short: "An MQTT broker, and clients",
		Long:  "Myelin is an MQTT broker for MQTT 3.1, 3.1.1 and 5.0, and clients for 3.1.1 and 5.0.",
		Example: "  myelin serve\n" +
			"  myelin pub -t home/kitchen -m 21.5\n" +
			"  myelin sub -t 'home/#' -v\n" +
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
	root.AddCommand(serveCommand(p), configCommand(p), aclCommand(), passwdCommand(p), storeCommand(p), versionCommand(p))
	root.AddCommand(clientCommands(p)...)
	root.AddCommand(docsCommand(), codesTopic(), settingsTopic(), formatTopic())
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
	var without *pflag.ValueRequiredError
	if errors.As(err, &without) && without.GetFlag().Name == "host" {
		hint = "-h is the host; " + hint
	}
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		if _, ours := invalid.GetFlag().Value.(*value); ours {
			return usage(fmt.Sprintf("%s: %v", dashed(invalid.GetFlag()), invalid.Unwrap()), hint)
		}
	}
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		var names []string
		c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if n := config.Nearest(unknown.GetSpecifiedName(), names); n != "" {
			hint = fmt.Sprintf("did you mean --%s?", n)
		}
		if h := mosquittoOnly(unknown.GetSpecifiedName()); h != "" && isClient(c) {
			hint = h
		}
	}
	return usage(err.Error(), hint)
}
