package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds what is read of a configuration file.
const maxFile = 1 << 20

// readFile reads the settings of a YAML file. It walks the file's nodes and not
// a decoded struct, so that each fault knows its line and one does not hide the
// next. The walk has the depth of the table: sections and their keys.
func (l *loader) readFile(name string) {
	o := origin{where: name, source: fromFile}
	text, what, hint := readText(name)
	if what != "" {
		l.fault(o, what, hint)
		return
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	err := d.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return // an empty file, or one of comments only
	}
	if err != nil {
		l.syntax(name, err)
		return
	}
	f := file{loader: l, name: name}
	if err := d.Decode(&second); err == nil {
		f.fault(&second, "a second document", "keep one document: everything from the line `---` on is left out")
	} else if !errors.Is(err, io.EOF) {
		l.syntax(name, err)
	}
	if root := doc.Content[0]; !isNull(root) {
		f.top(root)
	}
}

func readText(name string) (text []byte, what, hint string) {
	r, err := os.Open(name)
	if err != nil {
		hint = "check the path given with --config"
		if errors.Is(err, fs.ErrPermission) {
			hint = "let the user that runs myelin read it"
		}
		return nil, "cannot read the file: " + cause(err), hint
	}
	defer r.Close() //nolint:errcheck // it was only read
	text, err = io.ReadAll(io.LimitReader(r, maxFile+1))
	switch {
	case err != nil:
		return nil, "cannot read the file: " + cause(err), ""
	case len(text) > maxFile:
		return nil, "the file is larger than 1MiB", "is it the right file?"
	}
	return text, "", ""
}

// cause is what the system said, without the path that is in the fault already.
func cause(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): `)

// syntax reports what the YAML reader could not read. It stops at the first
// such place.
func (l *loader) syntax(name string, err error) {
	o := origin{where: name, source: fromFile}
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		o.line, _ = strconv.Atoi(m[1])
		o.where, text = fmt.Sprintf("%s:%d", name, o.line), text[len(m[0]):]
	}
	l.fault(o, "not valid YAML: "+text, "check the indentation and the colons near this line")
}

// file is one file's walk.
type file struct {
	*loader
	name string
}

func (f file) at(n *yaml.Node) origin {
	return origin{where: fmt.Sprintf("%s:%d", f.name, n.Line), source: fromFile, line: n.Line}
}

func (f file) fault(n *yaml.Node, what, hint string) { f.loader.fault(f.at(n), what, hint) }

// top reads the file's outermost mapping: keys without a section, and sections.
func (f file) top(root *yaml.Node) {
	f.pairs(root, "the file", func(key, val *yaml.Node) {
		if k, ok := f.key(key.Value); ok && !strings.Contains(key.Value, ".") {
			f.value(k, val)
			return
		}
		if !f.isSection(key.Value) {
			f.unknown(key, "")
			return
		}
		if isNull(val) {
			return // all its keys are commented out
		}
		f.pairs(val, "section "+key.Value, func(sub, val *yaml.Node) {
			k, ok := f.key(key.Value + "." + sub.Value)
			if !ok {
				f.unknown(sub, key.Value)
				return
			}
			f.value(k, val)
		})
	})
}

// pairs calls each for the keys of a mapping, for a repeated one, too: its value
// may have faults of its own.
func (f file) pairs(m *yaml.Node, what string, each func(key, val *yaml.Node)) {
	if m.Kind != yaml.MappingNode {
		f.fault(m, fmt.Sprintf("%s wants keys with values, got %s", what, describe(m)), "write lines such as `key: value`")
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(m.Content); i += 2 {
		key, val := m.Content[i], m.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" {
			f.fault(key, fmt.Sprintf("%s wants plain keys, got %s", what, describe(key)), "write lines such as `key: value`")
			continue
		}
		if line, twice := seen[key.Value]; twice {
			f.fault(key, quote(key.Value)+" is there twice", fmt.Sprintf("first given at line %d", line))
		} else {
			seen[key.Value] = key.Line
		}
		each(key, val)
	}
}

// value reads the value of one key.
func (f file) value(k Key, n *yaml.Node) {
	if k.Kind == URLs {
		f.listeners(k, n)
		return
	}
	if k.Kind == Words {
		if n.Kind == yaml.SequenceNode {
			f.words(k, n)
			return
		}
		if what, hint := k.typed(n); what != "" {
			f.fault(n, what, hint)
			return
		}
		f.put(k, n.Value, f.at(n))
		return
	}
	if k.Kind == Texts {
		k.clear(&f.cfg) // the list may be empty
		f.set[k.Name] = fromFile
	}
	for _, v := range f.values(k, n) {
		f.put(k, v, f.at(n))
	}
}

// values are what a key is set to, those of a list or one; none after a fault.
func (f file) values(k Key, n *yaml.Node) (vs []string) {
	items := []*yaml.Node{n}
	if k.Kind == Texts && n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	for _, item := range items {
		if what, hint := k.typed(item); what != "" {
			f.fault(item, what, hint)
			return nil
		}
		v := item.Value
		if k.path && v != "" && !filepath.IsAbs(v) {
			v = filepath.Join(filepath.Dir(f.name), v)
		}
		vs = append(vs, v)
	}
	return vs
}

// words reads a list of words.
func (f file) words(k Key, n *yaml.Node) {
	var all []string
	for _, item := range n.Content {
		if item.Kind != yaml.ScalarNode || item.ShortTag() != "!!str" || strings.ContainsAny(item.Value, ", ") || item.Value == "" {
			f.fault(item, fmt.Sprintf("%s: wants words, got %s", k.Name, describe(item)), "write a list such as "+k.sample())
			return
		}
		all = append(all, item.Value)
	}
	f.put(k, strings.Join(all, ","), f.at(n))
}

// typed says what is wrong with the type of a value.
func (k Key) typed(n *yaml.Node) (what, hint string) {
	wants := map[Kind]string{Switch: "true or false", Count: "a whole number", Bytes: "a size", Span: "a duration"}[k.Kind]
	if wants == "" {
		wants = "text"
	}
	what = fmt.Sprintf("%s: wants %s, got %s", k.Name, wants, describe(n))
	hint = "write one value, such as " + k.sample()
	if n.Kind != yaml.ScalarNode {
		return what, hint
	}
	fits := false
	switch n.ShortTag() {
	case "!!null":
		return k.Name + " has no value", "write one, such as " + k.sample() + ", or take the line out"
	case "!!str":
		fits = k.Kind != Switch && k.Kind != Count
	case "!!bool":
		fits = k.Kind == Switch
	case "!!int":
		fits = k.Kind == Count || k.Kind == Bytes || k.Kind == Span
	case "!!float":
		// A duration of 0.5s is text; a bare 0.5 has no unit and gets that hint.
		fits = k.Kind == Bytes || k.Kind == Span || k.Kind == Count || slices.Contains(k.Values, n.Value) // a version
	}
	switch {
	case fits:
		return "", ""
	case n.ShortTag() == "!!str" && k.Kind == Count:
		hint = "write digits without quotes, such as " + k.sample()
	case k.Kind == Text || k.Kind == Word || k.Kind == Texts || k.Kind == Words:
		hint = "put it in quotes"
	}
	return what, hint
}

// sample is a value that would do, never empty.
func (k Key) sample() string {
	if k.Kind == Words {
		return "[" + strings.Join(k.Values, ", ") + "]"
	}
	if e := k.example(); e != "" {
		return e
	}
	return `"..."`
}

func (f file) key(name string) (Key, bool) {
	return f.byName(name, func(k Key) string { return k.Name })
}

func (f file) isSection(name string) bool {
	for _, k := range f.keys {
		if s, _ := k.section(); s == name && s != "" {
			return true
		}
	}
	return false
}

// unknown reports a key that does not exist, with what was most likely meant.
func (f file) unknown(key *yaml.Node, section string) {
	what := "unknown key " + quote(key.Value)
	if section != "" {
		what += " in section " + section
	}
	f.fault(key, what, f.likely(key.Value, section))
}

// likely is the hint for an unknown key: the same name in another section, a
// name with a dot where a section was meant, a name like it here, one like it
// elsewhere.
func (f file) likely(name, section string) string {
	if k, ok := f.key(name); ok {
		s, n := k.section()
		return fmt.Sprintf("write %s: and below it, indented, %s:", s, n)
	}
	if p := f.places(name); p != "" {
		return "it stands " + p
	}
	var here, all []string
	for _, k := range f.keys {
		s, n := k.section()
		all = append(all, n)
		if s == section {
			here = append(here, n)
		}
		if section == "" && s != "" {
			here = append(here, s)
		}
	}
	if n := Nearest(name, here); n != "" {
		return "did you mean " + n + "?"
	}
	if n := Nearest(name, all); n != "" {
		return fmt.Sprintf("did you mean %s? It stands %s", n, f.places(n))
	}
	return "docs/configuration.md lists the keys"
}

// places says where the keys of a name stand; "" if there are none.
func (f file) places(name string) string {
	var in []string
	for _, k := range f.keys {
		s, n := k.section()
		if n != name {
			continue
		}
		if s == "" {
			return "at the top of the file, in no section"
		}
		in = append(in, s)
	}
	if in == nil {
		return ""
	}
	return "in section " + strings.Join(in, " or ")
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// describe says what a node is, for people.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a section"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias, *" + n.Value
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!str":
		return "the text " + quote(n.Value)
	case "!!merge":
		return "a merge, <<"
	default:
		return n.Value
	}
}
