package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/myelin-mqtt/myelin/internal/config"
)

// The flags of a client command can also be set in the environment and in a
// file. A flag of the command line beats MYELIN_PUB_NAME, that MYELIN_NAME, that
// the command's section of the file, and that its section all. What excludes
// something stronger is left alone: -L beats a host of the file.

const (
	envPrefix  = "MYELIN_"
	allSection = "all"
	configFlag = "config"
)

// given is a value for a flag that does not come from the command line.
type given struct {
	where  string
	flag   *pflag.Flag
	values []string
}

// layer are the values of one strength.
type layer []given

// fill sets what the command line has left open from the environment and the
// file. Afterwards Changed tells of a flag whether anything has set it.
func fill(c *cobra.Command, p Process) error {
	if err := checkCommandLine(c); err != nil {
		return err
	}
	own, general, faults := envLayers(c, p.Env)
	layers := []layer{own, general}
	if name := clientFile(c, p.Env); name != "" {
		section, all, bad := fileLayers(c, p, name)
		layers = append(layers, section, all)
		faults = append(bad, faults...)
	}
	for _, l := range layers {
		faults = append(faults, l.apply(c)...)
	}
	if len(faults) > 0 {
		slices.SortStableFunc(faults, func(a, b config.Fault) int { return lineOf(a.Where) - lineOf(b.Where) })
		return &hinted{err: faults, code: exitUsage}
	}
	return nil
}

// lineOf is the line of a place in a file. What is not in a file comes after it.
func lineOf(where string) int {
	if strings.HasPrefix(where, envPrefix) {
		return math.MaxInt32
	}
	n, _ := strconv.Atoi(where[strings.LastIndexByte(where, ':')+1:])
	return n
}

// checkCommandLine refuses secrets, which every user of the machine could read
// there, and flags that exclude each other.
func checkCommandLine(c *cobra.Command) error {
	var err error
	c.Flags().Visit(func(f *pflag.Flag) {
		if err != nil {
			return
		}
		if v, ok := f.Value.(*value); ok && v.all != nil && f.Name == "url" && slices.ContainsFunc(v.all(), withPassword) {
			err = misuse("every user of this machine can see it; leave it out of the URL and "+secretHint(f.Name)+", or set MYELIN_URL", "--url: a password cannot be given on the command line")
		}
		if f.Annotations[annotSecret] != nil {
			err = misuse("every user of this machine can see it; "+secretHint(f.Name), "--%s: a secret cannot be given on the command line", f.Name)
		}
		for _, other := range f.Annotations[annotExcludes] {
			if o := c.Flags().Lookup(other); o != nil && o.Changed && err == nil {
				err = misuse("leave one of them out", "%s and %s exclude each other", dashed(f), dashed(o))
			}
		}
	})
	return err
}

func secretHint(flag string) string {
	if flag == "key-password" {
		return "use --key-password-file, or MYELIN_KEY_PASSWORD in the environment"
	}
	return "use --password-file, MYELIN_PASSWORD in the environment, or password in the client configuration file"
}

// dashed is how a person writes a flag: -q, or --retain.
func dashed(f *pflag.Flag) string {
	if f.Shorthand != "" {
		return "-" + f.Shorthand
	}
	return "--" + f.Name
}

// apply sets the flags of a layer that nothing stronger has set or excluded.
func (l layer) apply(c *cobra.Command) (faults config.Faults) {
	taken := map[string]bool{}
	c.Flags().Visit(func(f *pflag.Flag) { taken[f.Name] = true })
	free := func(f *pflag.Flag) bool {
		return !taken[f.Name] && !slices.ContainsFunc(f.Annotations[annotExcludes], func(n string) bool { return taken[n] })
	}
	here := map[string]string{}
	for _, g := range l {
		if !free(g.flag) {
			continue
		}
		for _, other := range g.flag.Annotations[annotExcludes] {
			if where := here[other]; where != "" {
				faults = append(faults, config.Fault{Where: g.where, What: fmt.Sprintf("it and %s exclude each other", where), Hint: "take one of them out"})
			}
		}
		here[g.flag.Name] = g.where
		if f := g.put(func(v string) error { return c.Flags().Set(g.flag.Name, v) }); f != nil {
			faults = append(faults, *f)
		}
	}
	return faults
}

// put hands the values to set, and says what is wrong with them.
func (g given) put(set func(v string) error) *config.Fault {
	if v, ok := g.flag.Value.(*value); len(g.values) > 1 && (!ok || !v.list) {
		return &config.Fault{Where: g.where, What: fileKey(g.flag) + ": wants one value, got a list", Hint: "write one"}
	}
	for _, v := range g.values {
		err := set(v)
		var invalid *pflag.InvalidValueError
		if errors.As(err, &invalid) {
			err = invalid.Unwrap()
		}
		if err != nil {
			return g.fault(err)
		}
	}
	return nil
}

func (g given) fault(err error) *config.Fault {
	what := fmt.Sprintf("%s: %v", fileKey(g.flag), err)
	if g.flag.Annotations[annotSecret] != nil {
		what = fileKey(g.flag) + ": it cannot be read"
	}
	return &config.Fault{Where: g.where, What: what, Hint: "`myelin help client-config` tells how settings are written"}
}

// envName is a flag's name in the environment.
func envName(prefix, flag string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// commandPrefix begins the names in the environment that are for one command.
func commandPrefix(c *cobra.Command) string { return envName(envPrefix, c.Name()) + "_" }

// fromElsewhere tells whether a flag can be set in the environment and the file.
func fromElsewhere(f *pflag.Flag) bool { return f.Name != "help" && f.Name != configFlag }

// envLayers are what the environment has for the command, and for all.
func envLayers(c *cobra.Command, env []string) (own, general layer, faults config.Faults) {
	values := map[string]string{}
	for _, e := range env {
		// An empty value is how some starters leave a name out, and a service
		// that is called myelin has Kubernetes set MYELIN_PORT to a URL.
		if n, v, _ := strings.Cut(e, "="); v != "" && strings.HasPrefix(n, envPrefix) && (n != "MYELIN_PORT" || !strings.Contains(v, "://")) {
			values[n] = v
		}
	}
	prefix := commandPrefix(c)
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !fromElsewhere(f) {
			return
		}
		names = append(names, envName(prefix, f.Name))
		for _, x := range []struct {
			to   *layer
			name string
		}{{&own, envName(prefix, f.Name)}, {&general, envName(envPrefix, f.Name)}} {
			if v, ok := values[x.name]; ok && !servers(x.name) {
				*x.to = append(*x.to, given{where: x.name, flag: f, values: oneEach(f, v)})
			}
		}
	})
	for _, n := range slices.Sorted(maps.Keys(values)) {
		if strings.HasPrefix(n, prefix) && n != prefix+"CONFIG" && !slices.Contains(names, n) {
			hint := fmt.Sprintf("`%s --help` lists the flags", c.CommandPath())
			if near := config.Nearest(n, names); near != "" {
				hint = "did you mean " + near + "?"
			}
			faults = append(faults, config.Fault{Where: n, What: "no such setting", Hint: hint})
		}
	}
	return own, general, faults
}

// servers tells a name in the environment that is a setting of the broker.
func servers(name string) bool {
	return name == "MYELIN_CONFIG" || slices.ContainsFunc(config.Keys(), func(k config.Key) bool { return k.Env == name })
}

// oneEach are the values of a list, one a line.
func oneEach(f *pflag.Flag, v string) []string {
	if x, ok := f.Value.(*value); ok && x.list {
		return strings.Split(strings.TrimSuffix(v, "\n"), "\n")
	}
	return []string{v}
}

// clientFile is the file of client settings: the one that was named, or the
// usual one if it is there.
func clientFile(c *cobra.Command, env []string) string {
	get := func(name string) string {
		for _, e := range env {
			if v, ok := strings.CutPrefix(e, name+"="); ok {
				return v
			}
		}
		return ""
	}
	if f := c.Flags().Lookup(configFlag); f.Changed {
		return f.Value.String()
	}
	for _, n := range []string{commandPrefix(c) + "CONFIG", "MYELIN_CLIENT_CONFIG"} {
		if v := get(n); v != "" {
			return v
		}
	}
	dir := get("XDG_CONFIG_HOME")
	if dir == "" && runtime.GOOS == "windows" {
		dir = get("APPDATA")
	}
	if dir == "" && get("HOME") != "" {
		dir = filepath.Join(get("HOME"), ".config")
	}
	if dir == "" {
		return ""
	}
	return existing(filepath.Join(dir, "myelin", "client.yaml"))
}

// fileLayers are what the file has for the command, and for all. It checks what
// is there for other commands, too.
func fileLayers(c *cobra.Command, p Process, name string) (section, all layer, faults config.Faults) {
	entries, faults := config.ReadSections(name)
	commands := map[string]*cobra.Command{}
	sections := []string{allSection}
	for _, x := range clientCommands(p) {
		commands[x.Name()] = x
		sections = append(sections, x.Name())
	}
	commands[c.Name()] = c
	for _, e := range entries {
		of, known := commands[e.Section]
		var flags []*pflag.Flag
		switch {
		case !known && e.Section != allSection:
			if e.Key == "" {
				faults = append(faults, config.Fault{Where: e.Where, What: fmt.Sprintf("unknown section %q", e.Section), Hint: likely(e.Section, sections)})
			}
			continue
		case e.Key == "":
			continue
		case known:
			flags = keyed(e.Key, of)
		default:
			flags = keyed(e.Key, slices.Collect(maps.Values(commands))...)
		}
		if len(flags) == 0 {
			faults = append(faults, config.Fault{Where: e.Where, What: fmt.Sprintf("unknown key %q in section %s", e.Key, e.Section), Hint: likely(e.Key, keys(of, commands))})
			continue
		}
		mine := c.Flags().Lookup(flags[0].Name)
		g := given{where: e.Where, flag: mine, values: e.Values}
		switch {
		case mine != nil && of == c:
			section = append(section, g)
		case mine != nil && e.Section == allSection:
			all = append(all, g)
		default: // for another command
			g.flag = flags[0]
			if f := g.put(g.flag.Value.Set); f != nil {
				faults = append(faults, *f)
			}
		}
	}
	return section, all, faults
}

// keyed are the flags of the commands that have the key in the file.
func keyed(key string, commands ...*cobra.Command) (flags []*pflag.Flag) {
	for _, c := range commands {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if fromElsewhere(f) && fileKey(f) == key {
				flags = append(flags, f)
			}
		})
	}
	return flags
}

func fileKey(f *pflag.Flag) string { return strings.ReplaceAll(f.Name, "-", "_") }

// keys are those of a section: of one command, or of all.
func keys(c *cobra.Command, commands map[string]*cobra.Command) (names []string) {
	of := []*cobra.Command{c}
	if c == nil {
		of = slices.Collect(maps.Values(commands))
	}
	for _, c := range of {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if fromElsewhere(f) {
				names = append(names, fileKey(f))
			}
		})
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func likely(name string, names []string) string {
	if n := config.Nearest(name, names); n != "" {
		return "did you mean " + n + "?"
	}
	if len(names) < 10 {
		return "it can be " + strings.Join(names, ", ")
	}
	return "docs/cli.md lists the flags, which are the keys with _ for -"
}

// serverEnv is the environment without what is for the client commands, which
// would be a fault of the server's configuration.
func serverEnv(p Process) []string {
	var prefixes []string
	names := map[string]bool{"MYELIN_CLIENT_CONFIG": true}
	for _, c := range clientCommands(p) {
		prefixes = append(prefixes, commandPrefix(c))
		c.Flags().VisitAll(func(f *pflag.Flag) { names[envName(envPrefix, f.Name)] = true })
	}
	return slices.DeleteFunc(slices.Clone(p.Env), func(e string) bool {
		n, _, _ := strings.Cut(e, "=")
		return names[n] && !servers(n) || slices.ContainsFunc(prefixes, func(x string) bool { return strings.HasPrefix(n, x) })
	})
}

// existing is the name of a file that is there, else "".
func existing(name string) string {
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return name
}
