package acl

import (
	"fmt"
	"slices"
	"strings"

	"github.com/myelin-mqtt/myelin/internal/config"
	"github.com/myelin-mqtt/myelin/packet"
)

// parseMosquitto reads an ACL file of Mosquitto:
//
//	topic [read|write|readwrite|deny] FILTER
//	user NAME
//	pattern [read|write|readwrite|deny] FILTER
//
// `topic` lines before the first `user` are for clients without a user name,
// those behind it for that user; %c and %u are placeholders in `pattern` lines
// only, which are for everybody. Mosquitto does not go by the order of the
// lines: what is denied to the user comes first, then what is allowed to it, then
// the patterns that deny, then those that allow. The rules are put into this
// order here, so that the first that matches decides.
func parseMosquitto(name string, text []byte) (*Policy, config.Faults) {
	m := mosquitto{name: name}
	for i, line := range strings.Split(string(text), "\n") {
		m.line(i+1, line)
	}
	if len(m.faults) > 0 {
		return nil, m.faults
	}
	p := &Policy{Name: name, rules: slices.Concat(m.rules[0], m.rules[1], m.rules[2], m.rules[3])}
	p.index(nil)
	return p, nil
}

type mosquitto struct {
	name   string
	user   string
	known  bool // a user line was there
	rules  [4][]*rule
	faults config.Faults
}

func (m *mosquitto) fault(line int, what, hint string) {
	m.faults = append(m.faults, Fault{Where: fmt.Sprintf("%s:%d", m.name, line), What: what, Hint: hint})
}

// line reads one line.
func (m *mosquitto) line(n int, s string) {
	s = strings.TrimSpace(s)
	if s == "" || s[0] == '#' {
		return
	}
	verb, rest, _ := strings.Cut(s, " ")
	rest = strings.TrimSpace(rest)
	switch {
	case verb != "topic" && verb != "pattern" && verb != "user":
		m.fault(n, fmt.Sprintf("%q is none of topic, pattern, user", clip(verb)), "a file that ends in .yaml or .yml is read as a policy of our own")
	case rest == "":
		m.fault(n, verb+" wants a value", "")
	case verb == "user":
		m.user, m.known = rest, true
	default:
		m.rule(n, verb, rest)
	}
}

// rule reads the value of topic and pattern.
func (m *mosquitto) rule(n int, verb, rest string) {
	r := &rule{file: m.name, line: n, allow: true, publish: true, subscribe: true, qos: highest, retain: true}
	if access, filter, more := strings.Cut(rest, " "); more {
		rest = strings.TrimSpace(filter)
		switch access {
		case "read":
			r.publish = false
		case "write":
			r.subscribe = false
		case "readwrite":
		case "deny":
			r.allow = false
		default:
			m.fault(n, fmt.Sprintf("%q is none of read, write, readwrite, deny", clip(access)), "a topic filter with a space wants one of them before it")
			return
		}
	}
	p, err := newPattern(rest, verb == "topic")
	if err != nil {
		m.fault(n, fmt.Sprintf("topic filter %q: %v", clip(rest), err), "")
		return
	}
	r.patterns = []pattern{p}
	list := 0
	switch {
	case verb == "pattern":
		list = 2
	case m.known:
		r.users = []string{m.user}
	default:
		r.anonymous = true
	}
	if r.allow {
		list++
	}
	m.rules[list] = append(m.rules[list], r)
}

// clip keeps a message about a word short.
func clip(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "..."
	}
	return s
}

const highest = packet.QoS(2)
