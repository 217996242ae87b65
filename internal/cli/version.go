package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Build says what this program was made from. The Makefile's linker flags set
// it; what is empty is taken from what the Go tool knows.
type Build struct {
	Version string // "v1.2.3"
	Commit  string // of the source, shortened
}

func (b Build) withDefaults() Build {
	info, ok := debug.ReadBuildInfo()
	if ok && b.Version == "" && info.Main.Version != "" && info.Main.Version != "(devel)" {
		b.Version = info.Main.Version
	}
	if ok && b.Commit == "" {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Commit = s.Value[:min(12, len(s.Value))]
			}
		}
	}
	if b.Version == "" {
		b.Version = "devel"
	}
	if b.Commit == "" {
		b.Commit = "unknown"
	}
	return b
}

func versionCommand(p Process) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print version, commit and the Go that built it",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			b := p.Build.withDefaults()
			_, err := fmt.Fprintf(c.OutOrStdout(), "myelin %s\ncommit %s\n%s %s/%s\n", b.Version, b.Commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
