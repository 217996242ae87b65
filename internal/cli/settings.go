package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/myelin-mqtt/myelin/internal/config"
)

// settings are the sources of the configuration on one command line. They can
// be read again, which is what a reload does.
type settings struct {
	file  string
	env   []string
	flags []config.Flag
}

// withFile adds the flag --config, which the environment can give, too.
func (s *settings) withFile(c *cobra.Command, p Process) {
	s.env = serverEnv(p)
	for _, e := range p.Env {
		if v, ok := strings.CutPrefix(e, "MYELIN_CONFIG="); ok {
			s.file = v
		}
	}
	c.Flags().StringVar(&s.file, "config", s.file, "configuration `file`, YAML (environment: MYELIN_CONFIG)")
}

// withKeys adds a flag for every setting.
func (s *settings) withKeys(c *cobra.Command) {
	for _, k := range config.Keys() {
		usage := strings.ReplaceAll(k.Doc, "`", "")
		if first, _, more := strings.Cut(usage, ". "); more {
			usage = first
		}
		f := c.Flags().VarPF(&setting{key: k, to: s}, k.Flag, "", strings.TrimSuffix(usage, "."))
		if k.Kind == config.Switch {
			f.NoOptDefVal = "true"
		}
	}
}

func (s *settings) load() (config.Config, error) {
	c, faults := config.Load(s.file, s.env, s.flags)
	if len(faults) > 0 {
		return c, faults
	}
	return c, nil
}

// setting is one flag. It only notes what was written: package config reads
// the value, so that a wrong one is reported with all the others.
type setting struct {
	key config.Key
	to  *settings
}

func (v *setting) String() string { return v.key.Default() }

func (v *setting) Set(s string) error {
	v.to.flags = append(v.to.flags, config.Flag{Name: v.key.Flag, Value: s})
	return nil
}

func (v *setting) Type() string {
	switch v.key.Kind {
	case config.URLs:
		return "URL"
	case config.Texts:
		return "text"
	case config.Words:
		return "words"
	case config.Word:
		return strings.Join(v.key.Values, "|")
	case config.Switch:
		return "bool" // how pflag is told to print no type
	}
	return v.key.Kind.String()
}
