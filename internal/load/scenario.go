package load

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxScenario is the longest scenario, in bytes, and maxLoads the most loads in one.
const (
	MaxScenario = 1 << 20
	maxLoads    = 1000
)

// scenario reads a YAML file with the name and text: either the keys of one
// load, or a list `loads` of them, for which the keys beside it are the
// defaults. It gives the settings of each load.
func scenario(name string, text []byte) ([][]Setting, Faults) {
	s := scenarioReader{name: name}
	if len(text) > MaxScenario {
		s.fault(0, "the scenario is longer than 1 MiB", "is it the right file?")
		return nil, s.faults
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	if err := d.Decode(&doc); err != nil {
		s.syntax(err)
		return nil, s.faults
	}
	if err := d.Decode(&second); err == nil {
		s.fault(second.Line, "a second document", "keep one document: leave out everything from the line `---` on")
	} else if !errors.Is(err, io.EOF) {
		s.syntax(err)
	}
	s.top(doc.Content[0])
	return s.loads, s.faults
}

type scenarioReader struct {
	name   string
	loads  [][]Setting
	faults Faults
}

func (s *scenarioReader) at(line int) string {
	if line == 0 {
		return s.name
	}
	return s.name + ":" + strconv.Itoa(line)
}

func (s *scenarioReader) fault(line int, what, hint string) {
	s.faults = append(s.faults, Fault{Where: s.at(line), What: what, Hint: hint, line: line})
}

// syntax reports what the YAML reader could not read; it stops at the first.
func (s *scenarioReader) syntax(err error) {
	if errors.Is(err, io.EOF) {
		s.fault(0, "the scenario is empty", "write the keys of a load, such as `load: p2p`")
		return
	}
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 0
	if m := regexp.MustCompile(`^line (\d+): `).FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	s.fault(line, "not valid YAML: "+text, "check the indentation and the colons near this line")
}

// top reads the outermost mapping.
func (s *scenarioReader) top(root *yaml.Node) {
	var list *yaml.Node
	defaults := s.keys(root, "the scenario", func(key, val *yaml.Node) bool {
		if key.Value != "loads" {
			return false
		}
		list = val
		return true
	})
	switch {
	case list == nil:
		s.loads = [][]Setting{defaults}
	case list.Kind != yaml.SequenceNode || len(list.Content) == 0:
		s.fault(list.Line, "loads: wants a list of loads", "write lines such as `- load: p2p`")
	case len(list.Content) > maxLoads:
		s.fault(list.Line, fmt.Sprintf("more than %d loads", maxLoads), "split the scenario")
	default:
		for _, item := range list.Content {
			own := s.keys(item, "a load", func(_, _ *yaml.Node) bool { return false })
			s.loads = append(s.loads, slices.Concat(defaults, own))
		}
	}
}

// keys reads a mapping of keys to values; other takes what is neither.
func (s *scenarioReader) keys(m *yaml.Node, what string, other func(key, val *yaml.Node) bool) (all []Setting) {
	if m.Kind != yaml.MappingNode {
		s.fault(m.Line, what+" wants keys with values", "write lines such as `load: p2p`")
		return nil
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(m.Content); i += 2 {
		key, val := m.Content[i], m.Content[i+1]
		if first, twice := seen[key.Value]; twice {
			s.fault(key.Line, strconv.Quote(key.Value)+" is there twice", fmt.Sprintf("first given at line %d", first))
			continue
		}
		seen[key.Value] = key.Line
		switch {
		case key.Kind == yaml.ScalarNode && other(key, val):
		case key.Kind != yaml.ScalarNode || !slices.ContainsFunc(Keys(), func(k Key) bool { return k.Name == key.Value }):
			s.unknown(key, what)
		case val.Kind != yaml.ScalarNode || val.ShortTag() == "!!null":
			s.fault(val.Line, key.Value+": wants one value", "write such as `clients: 100`")
		default:
			all = append(all, Setting{Key: key.Value, Value: val.Value, Where: s.at(val.Line), line: val.Line})
		}
	}
	return all
}

func (s *scenarioReader) unknown(key *yaml.Node, what string) {
	var names []string
	for _, k := range Keys() {
		names = append(names, k.Name)
	}
	hint := "the keys are " + strings.Join(names, ", ")
	if dash := strings.NewReplacer("_", "-", "warmup", "warm-up").Replace(strings.ToLower(key.Value)); slices.Contains(names, dash) {
		hint = "write " + dash
	}
	s.fault(key.Line, fmt.Sprintf("unknown key %.100q of %s", key.Value, what), hint)
}
