package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func docsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "docs",
		Short: "Write the documentation of the commands",
		RunE:  group,
		Args:  cobra.ArbitraryArgs,
	}
	c.AddCommand(
		&cobra.Command{
			Use:     "man DIR",
			Short:   "Write man pages, one for each command",
			Example: "  myelin docs man man1",
			Args:    oneDir,
			RunE: func(c *cobra.Command, args []string) error {
				return writeMan(c.Root(), args[0])
			},
		},
		&cobra.Command{
			Use:     "markdown",
			Short:   "Print docs/cli.md",
			Example: "  myelin docs markdown",
			Args:    noArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				_, err := fmt.Fprint(c.OutOrStdout(), markdown())
				return err
			},
		})
	return c
}

func oneDir(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usage(fmt.Sprintf("%s takes one directory", c.CommandPath()), "such as `myelin docs man man1`")
	}
	return nil
}

// documented are the commands that do something, each before those below it.
func documented(c *cobra.Command) []*cobra.Command {
	var all []*cobra.Command
	if c.Runnable() && !c.HasAvailableSubCommands() {
		all = append(all, c)
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "help" && sub.Name() != "completion" {
			all = append(all, documented(sub)...)
		}
	}
	return all
}

// markdown is docs/cli.md.
func markdown() string {
	var b strings.Builder
	b.WriteString("<!-- Written by internal/cli from the commands: change those, then run make docs. -->\n# Commands\n\n")
	root := rootCommand(Process{})
	all := documented(root)
	b.WriteString("| command | what it does |\n| --- | --- |\n")
	for _, c := range all {
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", c.CommandPath(), strings.ReplaceAll(c.CommandPath(), " ", "-"), c.Short)
	}
	b.WriteString("\n`myelin completion bash`, `zsh` or `fish` prints a script that completes commands and flags: `source <(myelin completion bash)`.\n" +
		"`myelin docs man DIR` writes man pages. Colours are used on a terminal only, and not where NO_COLOR is set.\n\n" +
		"Results go to standard output, everything else to standard error. An error is a line `myelin: error: ...`, mostly followed by a line `myelin: hint: ...`.\n")
	for _, c := range all {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n```sh\n%s\n```\n", c.CommandPath(), long(c), c.UseLine())
		if c.Example != "" {
			fmt.Fprintf(&b, "\nExamples:\n\n```sh\n%s\n```\n", unindent(c.Example))
		}
		if c.Name() == "serve" {
			b.WriteString("\nIts flags are the settings of [configuration.md](configuration.md).\n")
			continue
		}
		markdownFlags(&b, c, func(f *pflag.Flag) bool { return f.Annotations[annotShared] == nil })
		if isClient(c) {
			b.WriteString("\nAnd the [flags that all client commands have](#flags-of-all-client-commands).\n")
		}
	}
	b.WriteString("\n## Flags of all client commands\n")
	markdownFlags(&b, clientCommands(Process{})[0], func(f *pflag.Flag) bool { return f.Annotations[annotShared] != nil })
	b.WriteString("\n## Exit codes of the client commands\n\nWhere Mosquitto's clients have a code for a class of failure it is the same. `myelin serve`, `config` and `store` end with 0, 1 or 2.\n\n| code | |\n| --- | --- |\n")
	for _, e := range exitCodes() {
		fmt.Fprintf(&b, "| %d | %s |\n", e.code, e.what)
	}
	b.WriteString("\n## What -F, --json and --jq print\n\n" + blocks(formatText, "text") + "\n")
	b.WriteString("\n## The environment and the configuration file of the client commands\n\n" + blocks(settingsText, "yaml") + "\n")
	return b.String()
}

func markdownFlags(b *strings.Builder, c *cobra.Command, want func(*pflag.Flag) bool) {
	titles, of := groups(c)
	for _, t := range titles {
		head := fmt.Sprintf("\n%s:\n\n| flag | value | default | what it does |\n| --- | --- | --- | --- |\n", t)
		of[t].VisitAll(func(f *pflag.Flag) {
			if f.Hidden || f.Name == "help" || !want(f) {
				return
			}
			arg, doc := pflag.UnquoteUsage(f)
			names := "`--" + f.Name + "`"
			if f.Shorthand != "" {
				names = "`-" + f.Shorthand + "`, " + names
			}
			def := f.DefValue
			if def == "0" || def == "false" || def == "[]" {
				def = ""
			}
			fmt.Fprintf(b, "%s| %s | %s | %s | %s |\n", head, names, pipes(arg), pipes(def), pipes(doc))
			head = ""
		})
	}
}

// pipes escapes what would end the cell of a table.
func pipes(s string) string { return strings.ReplaceAll(s, "|", "\\|") }

func long(c *cobra.Command) string {
	if c.Long != "" {
		return c.Long
	}
	return c.Short + "."
}

func unindent(s string) string {
	return strings.TrimPrefix(strings.ReplaceAll(s, "\n  ", "\n"), "  ")
}

// blocks makes code of the paragraphs of a text that are indented.
func blocks(text, language string) string {
	paragraphs := strings.Split(text, "\n\n")
	for i, p := range paragraphs {
		if strings.HasPrefix(p, "  ") {
			paragraphs[i] = "```" + language + "\n" + unindent(p) + "\n```"
		}
	}
	return strings.Join(paragraphs, "\n\n")
}

// writeMan writes a page for each command into the folder dir.
func writeMan(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the folder: %w", err)
	}
	all := append([]*cobra.Command{root}, documented(root)...)
	for _, c := range all {
		name := filepath.Join(dir, page(c)+".1")
		if err := os.WriteFile(name, []byte(manPage(c, all)), 0o644); err != nil {
			return fmt.Errorf("write a man page: %w", err)
		}
	}
	return nil
}

func page(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// manPage is the page of a command in roff, with the macros of man(7).
func manPage(c *cobra.Command, all []*cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"myelin\" \"Myelin\"\n", strings.ToUpper(page(c)))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n.SH SYNOPSIS\n.B %s\n.SH DESCRIPTION\n", page(c), roff(c.Short), roff(c.UseLine()))
	manText(&b, long(c))
	if c == all[0] {
		b.WriteString(".SH COMMANDS\n")
		for _, x := range all[1:] {
			fmt.Fprintf(&b, ".TP\n.BR %s (1)\n%s\n", roff(page(x)), roff(x.Short))
		}
	}
	titles, of := groups(c)
	for _, t := range titles {
		head := ".SH " + strings.ToUpper(roff(t)) + "\n"
		of[t].VisitAll(func(f *pflag.Flag) {
			if f.Hidden {
				return
			}
			arg, doc := pflag.UnquoteUsage(f)
			names := "\\fB\\-\\-" + roff(f.Name) + "\\fR"
			if f.Shorthand != "" {
				names = "\\fB\\-" + roff(f.Shorthand) + "\\fR, " + names
			}
			if arg != "" {
				names += " \\fI" + roff(arg) + "\\fR"
			}
			fmt.Fprintf(&b, "%s.TP\n%s\n%s\n", head, names, roff(doc))
			head = ""
		})
	}
	if c.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(unindent(c.Example)))
	}
	if c.Flags().Lookup("jq") != nil {
		b.WriteString(".SH FORMATS\n")
		manText(&b, formatText)
	}
	if isClient(c) {
		b.WriteString(".SH ENVIRONMENT AND CONFIGURATION FILE\n")
		manText(&b, settingsText)
		b.WriteString(".SH EXIT STATUS\n")
		for _, e := range exitCodes() {
			fmt.Fprintf(&b, ".TP\n%d\n%s\n", e.code, roff(e.what))
		}
	}
	if c != all[0] {
		fmt.Fprintf(&b, ".SH SEE ALSO\n.BR %s (1)\n", page(all[0]))
	}
	return b.String()
}

// manText writes paragraphs, those that are indented as they stand.
func manText(b *strings.Builder, text string) {
	for _, p := range strings.Split(text, "\n\n") {
		if strings.HasPrefix(p, "  ") {
			fmt.Fprintf(b, ".PP\n.nf\n%s\n.fi\n", roff(p))
			continue
		}
		fmt.Fprintf(b, ".PP\n%s\n", roff(p))
	}
}

// roff escapes text: backslashes, dashes, and what would be a request at the
// start of a line.
func roff(s string) string {
	s = strings.NewReplacer("\\", "\\e", "-", "\\-").Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = "\\&" + l
		}
	}
	return strings.Join(lines, "\n")
}
