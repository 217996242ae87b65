package config

import (
	"fmt"
	"strings"
)

// Markdown is docs/configuration.md: how settings are given, a table of all of
// them, and a file that sets each to its default.
func Markdown() string {
	var b strings.Builder
	b.WriteString(docsHead)
	section := "-"
	for _, k := range Keys() {
		s, name := k.section()
		if s != section {
			section = s
			if s == "" {
				b.WriteString("### At the top of the file\n\n")
			} else {
				fmt.Fprintf(&b, "\n### Section `%s`\n\n", s)
			}
			b.WriteString("| key | default | may be | what it does |\n| --- | --- | --- | --- |\n")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, k.shown(), k.allowed(), k.Doc)
	}
	b.WriteString("\n## Flags, names in the environment, reload\n\n")
	b.WriteString("| key | flag | environment | on SIGHUP |\n| --- | --- | --- | --- |\n")
	for _, k := range Keys() {
		reload := "changes"
		if k.Fixed {
			reload = "needs a restart"
		}
		fmt.Fprintf(&b, "| `%s` | `--%s` | `%s` | %s |\n", k.Name, k.Flag, k.Env, reload)
	}
	b.WriteString("\n## A file with every default\n\n```yaml\n" + Example() + "```\n")
	return b.String()
}

const docsHead = `<!-- Written by internal/config from its table of keys: change that, then run make docs. -->
# Configuration

` + "`myelin serve`" + ` needs no configuration: it then listens on 127.0.0.1 only, MQTT on port 1883 and MQTT over WebSocket on port 8083, path /mqtt,
and keeps what must survive in the folder myelin-data of the working directory.

Each setting can be given in a YAML file (` + "`--config myelin.yaml`" + ` or ` + "`MYELIN_CONFIG`" + `), in the environment and as a flag. A flag beats the environment, the environment beats the file,
the file beats the default. A name with an empty value in the environment counts as not there. Everything that is wrong is reported in one run, with its file and line, and ends the program before it listens anywhere;
` + "`myelin config check --config myelin.yaml`" + ` does only that. On SIGHUP the file is read again: a log line names what has changed, for all or for connections from now on, and what needs a restart.
A file with a fault changes nothing.

Sizes are bytes, or a number with B, kB, KiB, MB, MiB, GB or GiB. Durations are numbers with ms, s, m or h (` + "`1m30s`" + `).

Two more things are read from the environment: ` + "`MYELIN_CONFIG`" + `, the file, and ` + "`MYELIN_CPUPROFILE`" + `, a file that gets a CPU profile of the whole run.
` + "`GOMAXPROCS`, `GOMEMLIMIT` and `GOGC`" + ` mean what they mean to every Go program.

## Keys

`

func (k Key) shown() string {
	if k.Kind == URLs {
		var us []string
		for _, n := range Default().Listeners {
			us = append(us, "`"+n.URL+"`")
		}
		return strings.Join(us, ", ")
	}
	if k.Default() == "" {
		return "none"
	}
	return "`" + k.Default() + "`"
}

func (k Key) allowed() string {
	if k.Kind == Words {
		return "list of `" + strings.Join(k.Values, "`, `") + "`"
	}
	if k.Kind == Word {
		return "`" + strings.Join(k.Values, "`, `") + "`"
	}
	if least, most := k.Bounds(); most != "" {
		return fmt.Sprintf("%s, %s to %s", k.Kind, least, most)
	}
	return k.Kind.String()
}

// Example is a configuration file that sets every key to its default.
func Example() string {
	var b strings.Builder
	section := ""
	for _, k := range Keys() {
		s, name := k.section()
		indent := ""
		if s != "" {
			indent = "  "
		}
		if s != section {
			fmt.Fprintf(&b, "%s:\n", s)
			section = s
		}
		if k.Kind == URLs {
			fmt.Fprintf(&b, "%s:\n", name)
			for _, n := range Default().Listeners {
				fmt.Fprintf(&b, "  - url: %s\n", n.URL)
			}
			continue
		}
		v := k.Default()
		switch {
		case k.Kind == Texts:
			v = "[]"
		case k.Kind == Words:
			v = "[" + v + "]"
		case v == "":
			v = `""`
		}
		fmt.Fprintf(&b, "%s%s: %s\n", indent, name, v)
	}
	return b.String()
}
