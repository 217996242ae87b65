package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

const envPrefix = "MYELIN_"

// Flag is one flag of the command line, as it was written.
type Flag struct {
	Name  string // without dashes
	Value string
}

// Load reads the settings: the defaults, then the file (none if its name is
// empty), then the environment (NAME=value, as os.Environ gives it; an empty
// value counts as none), then the flags, each beating what comes before it. Faults has everything that is
// wrong; the Config is fit for use only if there are none.
func Load(file string, env []string, flags []Flag) (Config, Faults) {
	l := loader{cfg: Default(), keys: Keys(), set: map[string]source{}}
	if file != "" {
		l.readFile(file)
	}
	l.readEnv(env)
	l.readFlags(flags)
	l.place(file, "authorization.policy", &l.cfg.Authorization.Policy)
	l.place(file, "data", &l.cfg.Data)
	l.place(file, "authentication.password_file", &l.cfg.Authentication.PasswordFile)
	l.checkListeners()
	l.settleAccess()
	l.settleTLS()
	l.faults.sort()
	return l.cfg, l.faults
}

// loader holds what Load has read so far.
type loader struct {
	cfg    Config
	keys   []Key
	set    map[string]source // who set a key last
	origin []origin          // of each listener
	access []*section        // access of each listener; nil: it has none
	own    []*section        // tls of each listener; nil: it has none
	faults Faults
}

// section is keys that were set in a section of a listener's own.
type section struct {
	cfg  Config
	keys []Key
	at   origin
}

// origin is the place of a setting.
type origin struct {
	where  string
	source source
	line   int
}

func (l *loader) fault(o origin, what, hint string) {
	l.faults = append(l.faults, Fault{Where: o.where, What: what, Hint: hint, source: o.source, line: o.line})
}

// put sets one key. A list is replaced by the first value of a stronger source
// and grows by those that follow.
func (l *loader) put(k Key, v string, o origin) {
	switch {
	case k.Kind == URLs:
		l.begin(k, o.source)
	case k.Kind == Texts && l.set[k.Name] != o.source:
		k.clear(&l.cfg)
	}
	if what, hint := k.set(&l.cfg, v); what != "" {
		l.fault(o, what, hint)
		return
	}
	l.set[k.Name] = o.source
	if k.Kind == URLs {
		l.origin, l.own, l.access = append(l.origin, o), append(l.own, nil), append(l.access, nil)
	}
}

// place has a path that no stronger source names stand beside the file.
func (l *loader) place(file, key string, path *string) {
	if file != "" && *path != "" && l.set[key] <= fromFile && !filepath.IsAbs(*path) {
		*path = filepath.Join(filepath.Dir(file), *path)
	}
}

// begin empties the list of listeners if a weaker source, or nobody, filled it.
func (l *loader) begin(k Key, s source) {
	if l.set[k.Name] != s {
		l.cfg.Listeners, l.origin, l.own, l.access = nil, nil, nil, nil
		l.set[k.Name] = s
	}
}

// byName finds a key by one of its three names.
func (l *loader) byName(name string, of func(Key) string) (Key, bool) {
	i := slices.IndexFunc(l.keys, func(k Key) bool { return of(k) == name })
	if i < 0 {
		return Key{}, false
	}
	return l.keys[i], true
}

func (l *loader) names(of func(Key) string) []string {
	var ns []string
	for _, k := range l.keys {
		ns = append(ns, of(k))
	}
	return ns
}

func (l *loader) readEnv(env []string) {
	env = slices.Clone(env)
	slices.Sort(env)
	of := func(k Key) string { return k.Env }
	for _, e := range env {
		name, v, _ := strings.Cut(e, "=")
		if v == "" || !strings.HasPrefix(name, envPrefix) || foreignEnv(name) {
			continue // an empty value is how some starters leave a name out
		}
		o := origin{where: name, source: fromEnv}
		k, ok := l.byName(name, of)
		switch {
		case !ok:
			l.fault(o, "no such setting", meant(name, l.names(of), "`myelin serve --help` lists the names"))
		case k.Kind == URLs || k.Kind == Texts:
			for _, u := range strings.Split(v, ",") {
				l.put(k, strings.TrimSpace(u), o)
			}
		default:
			l.put(k, v, o)
		}
	}
}

// foreignEnv tells names that are not settings: those that package cli reads
// itself, and those that Kubernetes sets in every container near a service that
// is called myelin.
func foreignEnv(name string) bool {
	switch name {
	case "MYELIN_CONFIG", "MYELIN_CPUPROFILE", "MYELIN_PORT":
		return true
	}
	return strings.HasPrefix(name, "MYELIN_PORT_") || strings.HasPrefix(name, "MYELIN_SERVICE_")
}

func (l *loader) readFlags(flags []Flag) {
	of := func(k Key) string { return k.Flag }
	for _, f := range flags {
		o := origin{where: "--" + f.Name, source: fromFlag}
		k, ok := l.byName(f.Name, of)
		if !ok {
			l.fault(o, "no such setting", meant(f.Name, l.names(of), "`myelin serve --help` lists the flags"))
			continue
		}
		l.put(k, f.Value, o)
	}
}

// checkListeners finds what only the whole list shows.
func (l *loader) checkListeners() {
	seen := map[string]origin{}
	for i, n := range l.cfg.Listeners {
		if i >= len(l.origin) {
			break // the defaults, or a list with faults of its own
		}
		o := l.origin[i]
		at := endpoint(n.URL)
		if at == "" {
			continue // port 0: another one each time
		}
		if first, twice := seen[at]; twice {
			l.fault(o, fmt.Sprintf("listeners: %s is there twice", quote(n.URL)), "first given by "+first.where)
			continue
		}
		seen[at] = o
	}
}

// meant is the hint for an unknown name.
func meant(name string, names []string, otherwise string) string {
	if n := Nearest(name, names); n != "" {
		return "did you mean " + n + "?"
	}
	return otherwise
}

// Changed names the keys that differ between two configurations. TLS of a
// listener's own has no name.
func Changed(a, b Config) []string {
	var names []string
	for _, k := range Keys() {
		same := reflect.DeepEqual(k.field(&a), k.field(&b))
		if k.Kind == URLs {
			same = slices.EqualFunc(a.Listeners, b.Listeners, func(a, b Listener) bool { return a.URL == b.URL })
		}
		if !same {
			names = append(names, k.Name)
		}
	}
	return names
}
