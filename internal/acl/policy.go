package acl

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/myelin-mqtt/myelin/internal/config"
	"github.com/myelin-mqtt/myelin/packet"
)

// Policy is one file of rules. It does not change.
type Policy struct {
	Name  string // of the file
	rules []*rule
	tests []test

	roles  map[string]*roleSet // by user; who is not in it has no roles
	nobody *roleSet            // without roles
	named  map[string][]int32  // by user, the places of rules that name it and are not in its role set
}

// roleSet is the list of rules, by place, that are for everybody or for one of
// some roles.
type roleSet struct {
	roles []string
	rules []int32
}

// rule is one rule.
type rule struct {
	name  string // "": none
	file  string
	line  int
	label string // its name with its place, as the log and `acl explain` have it
	allow bool

	publish, subscribe bool

	// Who it is for: everybody where none is given.
	users     []string
	roles     []string
	anonymous bool // who has no user name

	patterns []pattern
	qos      packet.QoS // the highest
	retain   bool       // retained messages may be published
	when     *condition // nil: always
}

// everybody reports whether the rule names nobody.
func (r *rule) everybody() bool { return len(r.users)+len(r.roles) == 0 && !r.anonymous }

// setLabel names the rule.
func (r *rule) setLabel() {
	r.label = r.file + ":" + strconv.Itoa(r.line)
	if r.name != "" {
		r.label = r.name + " (" + r.label + ")"
	}
}

// Query is one question.
type Query struct {
	User     string // "": none
	Client   string // identifier
	Publish  bool   // else it is a subscription
	Topic    string // a valid topic name, or a topic filter without $share
	QoS      packet.QoS
	Retain   bool
	Address  string // the peer's: HOST:PORT or HOST
	Listener string // URL
	TLS      bool
	Time     time.Time // for conditions; the zero time is asked for when it is needed
}

// Decision answers a Query.
type Decision struct {
	Allow bool
	// QoS is the highest that is granted to a subscription.
	QoS packet.QoS
	// Once: the decision depends on the hour or on the quality of service, and
	// says nothing about the next message to the topic.
	Once bool
	// Rule decided: its name and place, "no rule" where none matched, which denies.
	Rule string
}

// miss says why a rule does not match.
type miss uint8

const (
	match miss = iota
	missWho
	missAction
	missName // a placeholder stands for nothing
	missTopic
	missQoS
	missRetain
	missWhen
)

// Decide finds the first rule that matches. Where there is none it denies. It
// allocates nothing unless a condition has to be computed.
func (p *Policy) Decide(q *Query) Decision {
	w := who{q.Client, q.User}
	d := Decision{Rule: "no rule"}
	set := p.setOf(q)
	common, named := set.rules, p.named[q.User]
	for len(common)+len(named) > 0 { // two sorted lists as one
		var at int32
		if len(named) == 0 || len(common) > 0 && common[0] < named[0] {
			at, common = common[0], common[1:]
		} else {
			at, named = named[0], named[1:]
		}
		r := p.rules[at]
		m, once := r.match(q, &w)
		d.Once = d.Once || once
		if m == match {
			d.Allow, d.QoS, d.Rule = r.allow, min(q.QoS, r.qos), r.label
			return d
		}
	}
	return d
}

// setOf is the set of roles of a user.
func (p *Policy) setOf(q *Query) *roleSet {
	set := p.nobody
	if s, ok := p.roles[q.User]; ok && q.User != "" {
		set = s
	}
	return set
}

// match reports whether the rule decides on q, whose user it is for, and if
// not, why. once: the answer is for this message only.
func (r *rule) match(q *Query, w *who) (m miss, once bool) {
	switch {
	case q.Publish && !r.publish, !q.Publish && !r.subscribe:
		return missAction, false
	}
	m = r.topic(q, w)
	if m == match && r.when != nil {
		once = r.when.once
		if !r.when.holds(q, r.allow) {
			m = missWhen
		}
	}
	return m, once
}

// topic is the part of match that is about what is published or subscribed to. A
// rule that denies a subscription matches where the two have a topic in common,
// one that allows it where nothing is left out.
func (r *rule) topic(q *Query, w *who) miss {
	m := missTopic
	for i := range r.patterns {
		p := &r.patterns[i]
		switch {
		case !p.fits(w):
			if m == missTopic {
				m = missName
			}
			continue
		case r.allow || q.Publish:
			if !p.covers(q.Topic, w) {
				continue
			}
		case !p.meets(q.Topic, w):
			continue
		}
		switch {
		case !r.allow || !q.Publish:
			return match
		case q.QoS > r.qos:
			return missQoS
		case q.Retain && !r.retain:
			return missRetain
		}
		return match
	}
	return m
}

// Step is what one rule had to say.
type Step struct {
	Rule string `json:"rule"`
	Why  string `json:"why"`
}

// Explain decides as Decide does, and says of each rule before the one that
// decided why it did not match.
func (p *Policy) Explain(q *Query) (Decision, []Step) {
	w := who{q.Client, q.User}
	set := p.setOf(q)
	var steps []Step
	for at, r := range p.rules {
		m := missWho
		if slices.Contains(set.rules, int32(at)) || slices.Contains(p.named[q.User], int32(at)) {
			m, _ = r.match(q, &w)
		}
		if m == match {
			break
		}
		steps = append(steps, Step{r.label, r.why(m, q)})
	}
	return p.Decide(q), steps
}

// why says in words why the rule did not match.
func (r *rule) why(m miss, q *Query) string {
	switch m {
	case missWho:
		var whom []string
		if len(r.users) > 0 {
			whom = append(whom, "users "+strings.Join(r.users, ", "))
		}
		if len(r.roles) > 0 {
			whom = append(whom, "roles "+strings.Join(r.roles, ", "))
		}
		if r.anonymous {
			whom = append(whom, "clients without a user name")
		}
		return "is for " + strings.Join(whom, " and ")
	case missAction:
		if q.Publish {
			return "is about subscribing"
		}
		return "is about publishing"
	case missName:
		return "%c or %u cannot stand for a name that is empty, or has +, # or / in it, or $ at the front of the topic"
	case missTopic:
		var filters []string
		for i := range r.patterns {
			filters = append(filters, r.patterns[i].text)
		}
		what := "does not match the topic: "
		if !q.Publish {
			what = "does not match everything that the filter matches: "
			if !r.allow {
				what = "has no topic in common with the filter: "
			}
		}
		return what + strings.Join(filters, ", ")
	case missQoS:
		return "allows QoS " + strconv.Itoa(int(r.qos)) + " at most"
	case missRetain:
		return "does not allow retained messages"
	}
	return "its condition does not hold: " + r.when.source
}

// index makes the lists of who is asked what.
func (p *Policy) index(users map[string][]string) {
	p.roles, p.named = map[string]*roleSet{}, map[string][]int32{}
	sets := map[string]*roleSet{}
	p.nobody = p.set(nil, sets)
	for user, roles := range users {
		p.roles[user] = p.set(roles, sets)
	}
	for at, r := range p.rules {
		for _, u := range r.users {
			set := p.nobody
			if s, ok := p.roles[u]; ok {
				set = s
			}
			_, there := slices.BinarySearch(set.rules, int32(at))
			if own := p.named[u]; !there && (len(own) == 0 || own[len(own)-1] != int32(at)) {
				p.named[u] = append(own, int32(at))
			}
		}
		if r.anonymous && !r.everybody() {
			p.named[""] = append(p.named[""], int32(at))
		}
		r.setLabel()
	}
}

// set is the one set of these roles.
func (p *Policy) set(roles []string, sets map[string]*roleSet) *roleSet {
	sorted := slices.Compact(slices.Sorted(slices.Values(roles)))
	key := strings.Join(sorted, "\x00")
	if s := sets[key]; s != nil {
		return s
	}
	s := &roleSet{roles: sorted}
	for at, r := range p.rules {
		if r.everybody() || slices.ContainsFunc(r.roles, func(x string) bool { return slices.Contains(sorted, x) }) {
			s.rules = append(s.rules, int32(at))
		}
	}
	sets[key] = s
	return s
}

// Fault is one thing that is wrong with a file, with its line.
type Fault = config.Fault
