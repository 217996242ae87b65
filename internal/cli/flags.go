package cli

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagGroup is a titled part of a client command's flags. Its methods add a
// flag: where its value goes, its names (the one of one letter may be empty),
// and what it does, with its argument in backquotes if it needs a better name
// than its kind.
type flagGroup struct {
	command *cobra.Command
	set     *pflag.FlagSet
	title   string
	shared  bool // by all client commands
}

// Annotations of a flag.
const (
	annotGroup    = "group"    // the title that it stands under in the help
	annotSecret   = "secret"   // it is not taken from the argument list
	annotExcludes = "excludes" // flags that cannot be given with it
	annotShared   = "shared"   // all client commands have it
)

func newGroup(c *cobra.Command, title string) flagGroup {
	return flagGroup{command: c, set: c.Flags(), title: title}
}

func sharedGroup(c *cobra.Command, title string) flagGroup {
	return flagGroup{command: c, set: c.Flags(), title: title, shared: true}
}

// value is a flag's value that says what it wants.
type value struct {
	kind  string               // what a person writes; "bool" prints nothing
	set   func(v string) error // an error of wants
	show  func() string        // as a person would write it
	list  bool                 // it can be given several times
	all   func() []string      // what was given, of some lists
	words []string             // what a shell can complete it with
}

func (v *value) Set(s string) error { return v.set(s) }
func (v *value) String() string     { return v.show() }
func (v *value) Type() string       { return v.kind }

// wants is what is wrong with a value: "wants seconds, got "soon"".
func wants(what, got string) error {
	if len(got) > 60 {
		got = strings.ToValidUTF8(got[:57], "") + "..."
	}
	return fmt.Errorf("wants %s, got %q", what, got)
}

func (g flagGroup) add(v *value, name, short, doc string) *pflag.Flag {
	f := g.set.VarPF(v, name, short, doc)
	g.annotate(f, annotGroup, g.title)
	if g.shared {
		g.annotate(f, annotShared, "true")
	}
	if v.kind == "bool" {
		f.NoOptDefVal = "true"
	} else if v.kind != "file" {
		// Without this shells propose files.
		_ = g.command.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(v.words, cobra.ShellCompDirectiveNoFileComp))
	}
	return f
}

func (g flagGroup) annotate(f *pflag.Flag, key string, values ...string) {
	if f.Annotations == nil {
		f.Annotations = map[string][]string{}
	}
	f.Annotations[key] = append(f.Annotations[key], values...)
}

// exclude says that at most one of the flags can be given.
func (g flagGroup) exclude(names ...string) {
	for _, n := range names {
		f := g.set.Lookup(n)
		for _, other := range names {
			if other != n && !slices.Contains(f.Annotations[annotExcludes], other) {
				g.annotate(f, annotExcludes, other)
			}
		}
	}
}

func (g flagGroup) text(p *string, name, short, doc string) {
	g.add(textValue(p, "text"), name, short, doc)
}

func (g flagGroup) file(p *string, name, short, doc string) {
	g.add(textValue(p, "file"), name, short, doc)
}

// folder is a text for which shells propose folders.
func (g flagGroup) folder(p *string, name, short, doc string) {
	g.add(textValue(p, "file"), name, short, doc)
	_ = g.command.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs))
}

// secret is not shown, and not taken from the argument list: flags that refuse
// it have names that people will try.
func (g flagGroup) secret(p *string, name, short, doc string) {
	f := g.add(&value{kind: "text", set: func(s string) error { *p = s; return nil }, show: func() string { return "" }}, name, short, doc)
	f.Hidden = true
	g.annotate(f, annotSecret, "true")
}

func textValue(p *string, kind string) *value {
	return &value{kind: kind, set: func(s string) error { *p = s; return nil }, show: func() string { return *p }}
}

func (g flagGroup) toggle(p *bool, name, short, doc string) {
	g.add(&value{
		kind: "bool",
		set: func(s string) error {
			b, err := strconv.ParseBool(s)
			if err != nil {
				return wants("true or false", s)
			}
			*p = b
			return nil
		},
		show: func() string { return strconv.FormatBool(*p) },
	}, name, short, doc)
}

// choice wants one of the words.
func (g flagGroup) choice(p *string, words []string, name, short, doc string) {
	g.add(&value{
		kind: strings.Join(words, "|"), words: words,
		set: func(s string) error {
			if !slices.Contains(words, s) {
				return wants("one of "+strings.Join(words, ", "), s)
			}
			*p = s
			return nil
		},
		show: func() string { return *p },
	}, name, short, doc)
}

// number wants a whole number of least to most.
func number[T ~int | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64](g flagGroup, p *T, least, most T, name, short, doc string) {
	v := &value{
		kind: "number",
		set: func(s string) error {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil || n < int64(least) || n > int64(most) {
				return wants(fmt.Sprintf("a number of %d to %d", least, most), s)
			}
			*p = T(n)
			return nil
		},
		show: func() string { return strconv.FormatInt(int64(*p), 10) },
	}
	for n := least; most-least < 4 && n <= most; n++ {
		v.words = append(v.words, strconv.FormatInt(int64(n), 10))
	}
	g.add(v, name, short, doc)
}

// seconds wants a duration: a number of seconds, which may have a fraction, or
// a Go duration such as 1m30s.
func (g flagGroup) seconds(p *time.Duration, name, short, doc string) {
	g.add(&value{
		kind: "seconds",
		set: func(s string) error {
			d, err := parseSeconds(s)
			if err == nil {
				*p = d
			}
			return err
		},
		show: func() string { return strconv.FormatFloat(p.Seconds(), 'f', -1, 64) },
	}, name, short, doc)
}

// wholeSeconds is a duration of the protocol: whole seconds, up to most.
func (g flagGroup) wholeSeconds(p *time.Duration, most uint32, name, short, doc string) {
	g.add(&value{
		kind: "seconds",
		set: func(s string) error {
			d, err := parseSeconds(s)
			switch {
			case err != nil:
				return err
			case d%time.Second != 0 || d > time.Duration(most)*time.Second:
				return wants(fmt.Sprintf("whole seconds, 0 to %d", most), s)
			}
			*p = d
			return nil
		},
		show: func() string { return strconv.FormatFloat(p.Seconds(), 'f', -1, 64) },
	}, name, short, doc)
}

func parseSeconds(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		n, bad := strconv.ParseFloat(s, 64)
		if bad != nil || !(n >= 0 && n < math.MaxInt64/float64(time.Second)) {
			return 0, wants("seconds, or a duration such as 1m30s", s)
		}
		d = time.Duration(n * float64(time.Second))
	}
	if d < 0 {
		return 0, wants("seconds, or a duration such as 1m30s", s)
	}
	return d, nil
}

// list can be given several times, and read by add, which may be nil.
func (g flagGroup) list(p *[]string, kind string, check func(string) error, name, short, doc string) {
	g.add(&value{
		kind: kind,
		set: func(s string) error {
			if check != nil {
				if err := check(s); err != nil {
					return err
				}
			}
			*p = append(*p, s)
			return nil
		},
		show: func() string { return "" },
		list: true,
		all:  func() []string { return *p },
	}, name, short, doc)
}

// groups are the titles of a command's flags, in their order, each with its
// flags. Those without a title come last.
func groups(c *cobra.Command) (titles []string, of map[string]*pflag.FlagSet) {
	of = map[string]*pflag.FlagSet{}
	all := c.Flags()
	all.SortFlags = false
	all.VisitAll(func(f *pflag.Flag) {
		title := "Flags"
		if t := f.Annotations[annotGroup]; len(t) > 0 {
			title = t[0]
		}
		if of[title] == nil {
			of[title] = pflag.NewFlagSet(title, pflag.ContinueOnError)
			of[title].SortFlags = false
			titles = append(titles, title)
		}
		of[title].AddFlag(f)
	})
	return titles, of
}
