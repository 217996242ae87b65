package acl

import (
	"fmt"
	"strings"

	"github.com/myelin-mqtt/myelin/internal/config"
)

// test is one test of a policy file.
type test struct {
	line  int
	q     Query
	allow bool
	grant int    // the quality of service that a subscription gets, -1: any
	rule  string // the name of the rule that decides, "": any
}

// Tests is the number of the file's tests.
func (p *Policy) Tests() int { return len(p.tests) }

// Run runs the file's tests, and returns those that fail.
func (p *Policy) Run() config.Faults {
	var faults config.Faults
	for i := range p.tests {
		t := &p.tests[i]
		d := p.Decide(&t.q)
		var what string
		switch {
		case d.Allow != t.allow:
			what = fmt.Sprintf("%s by %s, and %s is expected", verdict(d.Allow), d.Rule, verdict(t.allow))
		case t.rule != "" && !strings.HasPrefix(d.Rule, t.rule+" ("):
			what = fmt.Sprintf("decided by %s, and %s is expected", d.Rule, t.rule)
		case d.Allow && !t.q.Publish && t.grant >= 0 && int(d.QoS) != t.grant:
			what = fmt.Sprintf("granted at QoS %d by %s, and %d is expected", d.QoS, d.Rule, t.grant)
		default:
			continue
		}
		faults = append(faults, Fault{
			Where: fmt.Sprintf("%s:%d", p.Name, t.line), What: "test fails: " + what,
			Hint: "`myelin acl explain` tells rule by rule why",
		})
	}
	return faults
}

func verdict(allow bool) string {
	if allow {
		return "allowed"
	}
	return "denied"
}
