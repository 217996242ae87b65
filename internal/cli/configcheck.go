package cli

import (
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"
)

func configCommand(p Process) *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Work with the configuration",
		RunE:  group,
		Args:  cobra.ArbitraryArgs,
	}
	c.AddCommand(checkCommand(p))
	return c
}

func checkCommand(p Process) *cobra.Command {
	var s settings
	c := &cobra.Command{
		Use:     "check",
		Short:   "Report everything that is wrong with the configuration, and do nothing else",
		Long:    "Read the configuration file, the environment and the certificates of listeners as `myelin serve` does, and report every fault with its place and what to try.",
		Example: "  myelin config check --config myelin.yaml",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := s.load()
			if err != nil {
				return err
			}
			if _, err := loadRules(cfg); err != nil {
				return err
			}
			warn := slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
			if _, err := openCerts(cfg, warn); err != nil {
				return err
			}
			g, err := openGate(cfg, slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			closeGate(g)
			what := s.file
			if what == "" {
				what = "no file given; defaults and environment"
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: ok\n", what)
			return err
		},
	}
	s.withFile(c, p)
	return c
}
