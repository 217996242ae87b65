package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/myelin-mqtt/myelin/packet"
)

// A property is given as with Mosquitto's clients: `-D publish content-type
// text/plain`, three words, or four for user-property. pflag has flags of one
// word, so the words of the command line become one before it reads them, with
// a byte between them that no argument can have.
const propertySep = "\x00"

// property is one -D.
type property struct {
	packet, name, value string
	key                 string // of a user property
}

// foldProperties joins the words of each -D and --property into one argument.
// It reads the arguments as pflag will, so that a value which looks like a flag
// is left alone.
func foldProperties(c *cobra.Command, args []string) []string {
	if c.Flags().Lookup("property") == nil {
		return args
	}
	out := make([]string, 0, len(args)) // not nil, which cobra takes for the program's own
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		out = append(out, arg)
		if arg == "--" {
			return append(out, args...)
		}
		name, open := openFlag(c, arg)
		if !open || len(args) == 0 {
			continue
		}
		n := 1
		if name == "property" {
			n = 3
			if len(args) > 1 && args[1] == "user-property" {
				n = 4
			}
			n = min(n, len(args))
			if strings.Contains(args[0], " ") {
				n = 1 // quoted, as in the environment
			}
		}
		out = append(out, strings.Join(args[:n], propertySep))
		args = args[n:]
	}
	return out
}

// openFlag tells which flag takes the next argument as its value; open is false
// where none does.
func openFlag(c *cobra.Command, arg string) (name string, open bool) {
	if long, ok := strings.CutPrefix(arg, "--"); ok {
		f := c.Flags().Lookup(long)
		return long, f != nil && f.NoOptDefVal == ""
	}
	if !strings.HasPrefix(arg, "-") {
		return "", false
	}
	for i := 1; i < len(arg); i++ {
		f := c.Flags().ShorthandLookup(arg[i : i+1])
		if f == nil {
			return "", false
		}
		if f.NoOptDefVal == "" {
			return f.Name, i == len(arg)-1
		}
	}
	return "", false
}

// parseProperty reads a -D, whose words are separated by propertySep or, as the
// environment and the file have it, by spaces.
func parseProperty(s string) (property, error) {
	sep := propertySep
	if !strings.Contains(s, sep) {
		sep = " "
	}
	words := strings.SplitN(s, sep, 3)
	if len(words) < 3 {
		return property{}, wants("a command, a property and its value, such as publish content-type text/plain", strings.ReplaceAll(s, propertySep, " "))
	}
	p := property{packet: words[0], name: words[1], value: words[2]}
	if p.name == "user-property" {
		key, v, ok := strings.Cut(p.value, sep)
		if !ok {
			return property{}, wants("a name and a value after user-property", p.value)
		}
		p.key, p.value = key, v
	}
	return p, nil
}

// checkProperty has the list of -D refuse what cannot be read at all.
func checkProperty(s string) error {
	_, err := parseProperty(s)
	return err
}

// sink takes the value of one property.
type sink func(p property) error

// applyProperties hands each -D to the sink of its packet and name. Of packets
// that are not in sinks it says that the command sends none.
func applyProperties(list []string, sinks map[string]map[string]sink) error {
	for _, s := range list {
		p, err := parseProperty(s)
		if err != nil {
			return misuse("write such as -D publish content-type text/plain", "--property: %v", err)
		}
		names, ok := sinks[p.packet]
		if !ok {
			return misuse("it can be "+strings.Join(sorted(sinks), ", "), "--property: this command sets no property of %q", p.packet)
		}
		set, ok := names[p.name]
		if !ok {
			return misuse("it can be "+strings.Join(sorted(names), ", "), "--property: no property %q of %s", p.name, p.packet)
		}
		if err := set(p); err != nil {
			return misuse("`-D "+p.packet+" "+p.name+"` takes another value", "--property: %s of %s %v", p.name, p.packet, err)
		}
	}
	return nil
}

func sorted[V any](m map[string]V) []string {
	var names []string
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func textSink(p *string) sink {
	return func(x property) error { *p = x.value; return nil }
}

func userSink(p *[]packet.UserProperty) sink {
	return func(x property) error {
		*p = append(*p, packet.UserProperty{Key: x.key, Value: x.value})
		return nil
	}
}

func numberSink[T ~int | ~uint8 | ~uint16 | ~uint32](p *T, most uint64) sink {
	return func(x property) error {
		n, err := strconv.ParseUint(x.value, 10, 64)
		if err != nil || n > most {
			return wants(fmt.Sprintf("a number of 0 to %d", most), x.value)
		}
		*p = T(n)
		return nil
	}
}

// parseUser reads KEY=VALUE.
func parseUser(s string) (packet.UserProperty, error) {
	k, v, ok := strings.Cut(s, "=")
	if !ok || k == "" {
		return packet.UserProperty{}, wants("NAME=VALUE", s)
	}
	return packet.UserProperty{Key: k, Value: v}, nil
}

func (g flagGroup) user(p *[]packet.UserProperty, name, doc string) {
	g.add(&value{
		kind: "NAME=VALUE",
		set: func(s string) error {
			u, err := parseUser(s)
			if err == nil {
				*p = append(*p, u)
			}
			return err
		},
		show: func() string { return "" },
		list: true,
	}, name, "", doc)
}
