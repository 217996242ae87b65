package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// Entry is one key of a section of a file, see ReadSections.
type Entry struct {
	Where        string // "client.yaml:12"
	Section, Key string
	Values       []string // one, or those of a list
	List         bool
}

// ReadSections reads a YAML file of sections that hold keys, whose meaning only
// the caller knows: of each section its name and line is an Entry without a Key,
// then come its keys. It finds everything that is wrong with the form of the
// file.
func ReadSections(name string) ([]Entry, Faults) {
	f := file{loader: &loader{}, name: name}
	text, what, hint := readText(name)
	if what != "" {
		f.loader.fault(origin{where: name, source: fromFile}, what, hint)
		return nil, f.faults
	}
	var doc yaml.Node
	switch err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		f.syntax(name, err)
		return nil, f.faults
	}
	var entries []Entry
	if root := doc.Content[0]; !isNull(root) {
		f.pairs(root, "the file", func(section, val *yaml.Node) {
			entries = append(entries, Entry{Where: f.at(section).where, Section: section.Value})
			if isNull(val) {
				return
			}
			f.pairs(val, "section "+section.Value, func(key, val *yaml.Node) {
				e := Entry{Where: f.at(key).where, Section: section.Value, Key: key.Value}
				if f.entry(&e, val) {
					entries = append(entries, e)
				}
			})
		})
	}
	f.faults.sort()
	return entries, f.faults
}

// entry reads the value of a key: one text, number or truth, or a list of them.
func (f file) entry(e *Entry, n *yaml.Node) bool {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		e.List, items = true, n.Content
	}
	for _, item := range items {
		if item.Kind != yaml.ScalarNode || item.ShortTag() == "!!null" {
			f.fault(item, fmt.Sprintf("%s: wants a value, got %s", e.Key, describe(item)), "write one, or a list of them, or take the line out")
			return false
		}
		e.Values = append(e.Values, item.Value)
	}
	return true
}
