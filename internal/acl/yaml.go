package acl

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/myelin-mqtt/myelin/internal/config"
	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/topic"
)

// reader walks over the nodes of a policy file, so that each fault has its line
// and does not hide the next.
type reader struct {
	name   string
	faults []lineFault
	p      *Policy
	roles  []string // that are declared
	users  map[string][]string
	where  map[string]*yaml.Node // of users
	seen   map[string]int        // names of rules, and their lines
}

type lineFault struct {
	line int
	f    Fault
}

// parseYAML reads a policy of our own.
func parseYAML(name string, text []byte) (*Policy, config.Faults) {
	r := &reader{name: name, p: &Policy{Name: name}, users: map[string][]string{}, where: map[string]*yaml.Node{}, seen: map[string]int{}}
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF): // nothing is in it, and everything denied
	case err != nil:
		r.syntax(err)
	default:
		if err := d.Decode(&second); !errors.Is(err, io.EOF) {
			r.fault(&doc, "more than one document", "keep one: take out everything from the line `---` on")
		}
		r.top(doc.Content[0])
	}
	if len(r.faults) > 0 {
		sort.SliceStable(r.faults, func(i, j int) bool { return r.faults[i].line < r.faults[j].line })
		var all config.Faults
		for _, f := range r.faults {
			all = append(all, f.f)
		}
		return nil, all
	}
	r.p.index(r.users)
	return r.p, nil
}

func (r *reader) fault(n *yaml.Node, what, hint string) {
	r.faults = append(r.faults, lineFault{n.Line, Fault{Where: fmt.Sprintf("%s:%d", r.name, n.Line), What: what, Hint: hint}})
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): `)

func (r *reader) syntax(err error) {
	text, where := strings.TrimPrefix(err.Error(), "yaml: "), r.name
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		where, text = r.name+":"+m[1], text[len(m[0]):]
	}
	r.faults = append(r.faults, lineFault{0, Fault{Where: where, What: "not valid YAML: " + text, Hint: "a topic filter with # or % at its front wants quotes"}})
}

// top reads the file's mapping. What rules name is read before them.
func (r *reader) top(n *yaml.Node) {
	var rules, tests *yaml.Node
	r.pairs(n, "the file", func(key, val *yaml.Node) {
		switch key.Value {
		case "roles":
			r.roles = r.words(val, "roles")
		case "users":
			if val.ShortTag() != "!!null" {
				r.pairs(val, "users", r.user)
			}
		case "rules":
			rules = val
		case "tests":
			tests = val
		default:
			r.unknown(key, []string{"roles", "users", "rules", "tests"})
		}
	})
	for user, roles := range r.users {
		for _, x := range roles {
			if !slices.Contains(r.roles, x) {
				r.fault(r.where[user], fmt.Sprintf("user %q has the role %q, which is not under roles", user, x), near(x, r.roles))
			}
		}
	}
	r.items(rules, "rules", r.rule)
	r.items(tests, "tests", r.test)
}

func (r *reader) user(key, val *yaml.Node) {
	if key.Value == "" {
		r.fault(key, "a user without a name", "a rule for clients without a user name has `anonymous: true`")
		return
	}
	r.where[key.Value] = key
	r.users[key.Value] = r.words(val, "user "+strconv.Quote(key.Value))
}

// rule reads one rule.
func (r *reader) rule(n *yaml.Node) {
	x := &rule{file: r.name, line: n.Line, qos: highest, retain: true}
	verbs := 0
	r.pairs(n, "a rule", func(key, val *yaml.Node) {
		switch key.Value {
		case "allow", "deny":
			verbs++
			x.allow = key.Value == "allow"
			r.action(x, key, val)
		case "name":
			x.name = r.text(val, "name")
			if line, twice := r.seen[x.name]; twice {
				r.fault(val, fmt.Sprintf("two rules have the name %q", x.name), fmt.Sprintf("the other is in line %d", line))
			}
			r.seen[x.name] = val.Line
		case "topics":
			r.topics(x, val)
		case "users":
			x.users = r.words(val, "users")
			if slices.Contains(x.users, "") {
				r.fault(val, "a user without a name", "clients without a user name are meant with `anonymous: true`")
			}
			r.some(val, x.users, "users")
		case "roles":
			x.roles = r.words(val, "roles")
			r.some(val, x.roles, "roles")
			for _, role := range x.roles {
				if !slices.Contains(r.roles, role) {
					r.fault(val, fmt.Sprintf("role %q is not under roles", role), near(role, r.roles))
				}
			}
		case "anonymous":
			if x.anonymous = r.truth(val, "anonymous"); !x.anonymous {
				r.fault(val, "anonymous: false says nothing", "take it out, or write the users or roles that the rule is for")
			}
		case "qos":
			x.qos = r.level(val)
		case "retain":
			x.retain = r.truth(val, "retain")
		case "when":
			r.condition(x, val)
		default:
			r.unknown(key, []string{"allow", "deny", "topics", "name", "users", "roles", "anonymous", "qos", "retain", "when"})
		}
	})
	if n.Kind != yaml.MappingNode {
		return
	}
	switch {
	case verbs != 1:
		r.fault(n, "a rule wants one of allow and deny", "such as `allow: publish`")
	case x.patterns == nil:
		r.fault(n, "a rule wants topics", "such as `topics: [sensors/%c/#]`")
	case !x.allow && (x.qos != highest || !x.retain):
		r.fault(n, "qos and retain are limits of what is allowed, and this rule denies", "use a condition, such as `when: retain`")
	case !x.publish && !x.retain:
		r.fault(n, "retain is about publishing, and this rule is not", "take it out")
	}
	r.p.rules = append(r.p.rules, x)
}

// some: a list of nobody would be taken for everybody.
func (r *reader) some(n *yaml.Node, list []string, what string) {
	if len(list) == 0 {
		r.fault(n, what+" is empty", "name some, or take the line out: then the rule is for everybody")
	}
}

func (r *reader) action(x *rule, key, val *yaml.Node) {
	switch r.text(val, key.Value) {
	case "publish":
		x.publish = true
	case "subscribe":
		x.subscribe = true
	case "both":
		x.publish, x.subscribe = true, true
	default:
		r.fault(val, key.Value+" wants publish, subscribe or both", "")
	}
}

func (r *reader) topics(x *rule, val *yaml.Node) {
	list := r.words(val, "topics")
	r.some(val, list, "topics")
	for _, t := range list {
		p, err := newPattern(t, false)
		if err != nil {
			r.fault(val, fmt.Sprintf("topic filter %q: %v", clip(t), err), "")
			continue
		}
		x.patterns = append(x.patterns, p)
	}
	if x.patterns == nil {
		x.patterns = []pattern{} // they were there
	}
}

func (r *reader) condition(x *rule, val *yaml.Node) {
	var err error
	if x.when, err = newCondition(r.text(val, "when")); err != nil {
		r.fault(val, "when: "+err.Error(), "it knows user, client, action, topic, qos, retain, address, listener, tls, time (\"15:04\"), weekday (\"mon\") and within(address, \"10.0.0.0/8\")")
	}
}

// test reads one test.
func (r *reader) test(n *yaml.Node) {
	t := test{line: n.Line, q: Query{Time: time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC)}, grant: -1}
	known := []string{"user", "client", "action", "topic", "expect", "qos", "retain", "address", "listener", "tls", "time", "weekday", "grant", "rule"}
	var action, expect string
	r.pairs(n, "a test", func(key, val *yaml.Node) {
		switch key.Value {
		case "user":
			t.q.User = r.text(val, "user")
		case "client":
			t.q.Client = r.text(val, "client")
		case "action":
			action = r.text(val, "action")
		case "topic":
			t.q.Topic = r.text(val, "topic")
		case "expect":
			expect = r.text(val, "expect")
		case "rule":
			t.rule = r.text(val, "rule")
		case "qos":
			t.q.QoS = r.level(val)
		case "grant":
			t.grant = int(r.level(val))
		case "retain":
			t.q.Retain = r.truth(val, "retain")
		case "address":
			t.q.Address = r.text(val, "address")
		case "listener":
			t.q.Listener = r.text(val, "listener")
		case "tls":
			t.q.TLS = r.truth(val, "tls")
		case "time", "weekday":
			r.moment(&t, key.Value, val)
		default:
			r.unknown(key, known)
		}
	})
	if n.Kind != yaml.MappingNode {
		return
	}
	t.q.Publish, t.allow = action == "publish", expect == "allow"
	switch {
	case action != "publish" && action != "subscribe":
		r.fault(n, "a test wants `action: publish` or `action: subscribe`", "")
	case expect != "allow" && expect != "deny":
		r.fault(n, "a test wants `expect: allow` or `expect: deny`", "")
	default:
		if err := t.q.check(); err != nil {
			r.fault(n, fmt.Sprintf("topic %q: %v", clip(t.q.Topic), err), "")
		}
	}
	r.p.tests = append(r.p.tests, t)
}

// moment sets the time of day, or the day of the week, of a test.
func (r *reader) moment(t *test, key string, val *yaml.Node) {
	s := r.text(val, key)
	if key == "weekday" {
		for d := range 7 {
			if at := t.q.Time.AddDate(0, 0, d); strings.EqualFold(at.Weekday().String()[:3], s) {
				t.q.Time = at
				return
			}
		}
		r.fault(val, "weekday wants mon, tue, wed, thu, fri, sat or sun", "")
		return
	}
	at, err := time.Parse("15:04", s)
	if err != nil {
		r.fault(val, "time wants hours and minutes, such as \"08:30\"", "write it in quotes")
		return
	}
	t.q.Time = t.q.Time.Truncate(24 * time.Hour).Add(time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute)
}

// pairs calls each for the keys of a mapping.
func (r *reader) pairs(n *yaml.Node, what string, each func(key, val *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.fault(n, what+" wants keys with values", "write lines such as `key: value`")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge":
			r.fault(key, what+" wants plain keys", "write lines such as `key: value`")
			continue
		case seen[key.Value]:
			r.fault(key, fmt.Sprintf("%q is there twice", clip(key.Value)), "")
			continue
		}
		seen[key.Value] = true
		each(key, val)
	}
}

// items calls each for the items of a list; nil, and nothing, are an empty one.
func (r *reader) items(n *yaml.Node, what string, each func(n *yaml.Node)) {
	switch {
	case n == nil || n.ShortTag() == "!!null":
	case n.Kind != yaml.SequenceNode:
		r.fault(n, what+" wants a list", "write each item behind a dash: `- `")
	default:
		for _, x := range n.Content {
			each(x)
		}
	}
}

// words reads one word, or a list of them.
func (r *reader) words(n *yaml.Node, what string) []string {
	if n.Kind == yaml.ScalarNode {
		if n.ShortTag() == "!!null" {
			return nil
		}
		return []string{n.Value}
	}
	var list []string
	r.items(n, what, func(x *yaml.Node) { list = append(list, r.text(x, what)) })
	return list
}

// text reads a scalar.
func (r *reader) text(n *yaml.Node, what string) string {
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		r.fault(n, what+" wants a text", "")
		return ""
	}
	return n.Value
}

func (r *reader) truth(n *yaml.Node, what string) bool {
	if n.Kind != yaml.ScalarNode || n.Value != "true" && n.Value != "false" {
		r.fault(n, what+" wants true or false", "")
	}
	return n.Value == "true"
}

func (r *reader) level(n *yaml.Node) packet.QoS {
	if n.Kind == yaml.ScalarNode && len(n.Value) == 1 && n.Value[0] >= '0' && n.Value[0] <= '2' {
		return packet.QoS(n.Value[0] - '0')
	}
	r.fault(n, "a quality of service is 0, 1 or 2", "")
	return highest
}

func (r *reader) unknown(key *yaml.Node, known []string) {
	r.fault(key, fmt.Sprintf("unknown key %q", clip(key.Value)), near(key.Value, known))
}

// near is the hint for a word that is not known.
func near(s string, known []string) string {
	if x := config.Nearest(s, known); x != "" {
		return "did you mean " + x + "?"
	}
	if len(known) == 0 {
		return ""
	}
	return "there are " + strings.Join(known, ", ")
}

// check tells whether the topic is one: a name of a publish, a filter without
// $share of a subscription.
func (q *Query) check() error {
	if q.Publish {
		return topic.CheckName(q.Topic)
	}
	f, err := topic.ParseFilter(q.Topic)
	q.Topic = f.Filter
	return err
}
