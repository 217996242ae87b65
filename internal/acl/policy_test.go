package acl

import (
	"strings"
	"testing"
	"time"

	"github.com/myelin-mqtt/myelin/broker"
	"github.com/myelin-mqtt/myelin/packet"
)

const sample = `
roles: [sensor, operator]
users:
  ada: operator
  t1: [sensor]
rules:
  - name: secrets
    deny: both
    topics: secret/#
  - name: own
    allow: publish
    roles: [sensor]
    topics: [sensors/%c/#]
    qos: 1
    retain: false
  - allow: both
    users: [eve]
    topics: [eve/#]
  - name: all
    allow: both
    roles: operator
    topics: ["#"]
  - name: look
    allow: subscribe
    topics: [sensors/#, "public/%u/#"]
    qos: 0
  - name: guest
    allow: publish
    anonymous: true
    topics: guest
  - name: night
    allow: publish
    topics: night
    when: tls && time >= "22:00" && within(address, "10.0.0.0/8")
tests:
  - {user: t1, client: c, action: publish, topic: sensors/c/x, expect: allow, rule: own}
  - {user: t1, client: c, action: publish, topic: sensors/d/x, expect: deny}
  - {user: t1, client: c, action: publish, topic: sensors/c/x, qos: 2, expect: deny}
  - {user: t1, client: c, action: publish, topic: sensors/c/x, retain: true, expect: deny}
  - {user: t1, client: "+", action: publish, topic: sensors/c/x, expect: deny}
  - {user: t1, client: c, action: subscribe, topic: "$share/g/sensors/+/x", qos: 2, expect: allow, grant: 0}
  - {user: ada, client: c, action: subscribe, topic: "#", expect: deny, rule: secrets}
  - {user: ada, client: c, action: subscribe, topic: "a/#", qos: 2, expect: allow, grant: 2}
  - {user: ada, client: c, action: subscribe, topic: "$SYS/#", expect: deny}
  - {user: eve, client: c, action: subscribe, topic: "eve/+", expect: allow}
  - {user: bob, client: c, action: subscribe, topic: "eve/+", expect: deny}
  - {client: c, action: publish, topic: guest, expect: allow, rule: guest}
  - {user: bob, client: c, action: publish, topic: guest, expect: deny}
  - {user: bob, client: c, action: publish, topic: night, tls: true, time: "23:00", address: "10.1.2.3:99", expect: allow}
  - {user: bob, client: c, action: publish, topic: night, tls: true, time: "21:00", address: "10.1.2.3:99", expect: deny}
  - {user: bob, client: c, action: publish, topic: night, tls: true, time: "23:00", address: "11.1.2.3:99", expect: deny}
`

func parsed(t testing.TB, name, text string) *Policy {
	t.Helper()
	p, faults := Parse(name, Auto, []byte(text))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return p
}

func TestPolicy(t *testing.T) {
	p := parsed(t, "p.yaml", sample)
	if faults := p.Run(); len(faults) > 0 {
		t.Error(faults)
	}
	if p.Tests() != 16 {
		t.Errorf("%d tests", p.Tests())
	}
	wrong := parsed(t, "p.yaml", strings.Replace(sample, "expect: allow, rule: own", "expect: deny", 1))
	if got := wrong.Run().Error(); got != "p.yaml:36: test fails: allowed by own (p.yaml:10), and denied is expected" {
		t.Error(got)
	}
}

func TestExplain(t *testing.T) {
	p := parsed(t, "p.yaml", sample)
	d, steps := p.Explain(&Query{User: "t1", Client: "c", Publish: true, Topic: "sensors/c/x", QoS: 2})
	if d.Allow || d.Rule != "no rule" || len(steps) != 7 || steps[1].Why != "allows QoS 1 at most" || steps[2].Why != "is for users eve" {
		t.Errorf("%+v %v", d, steps)
	}
}

func TestFaults(t *testing.T) {
	for text, want := range map[string]string{
		"rules: [{allow: publish}]":                                         "p.yaml:1: a rule wants topics",
		"rules: [{topics: a}]":                                              "p.yaml:1: a rule wants one of allow and deny",
		"rules: [{allow: all, topics: a}]":                                  "p.yaml:1: allow wants publish, subscribe or both",
		"rules: [{allow: both, topics: a/#/b}]":                             `p.yaml:1: topic filter "a/#/b": parse filter: # is not alone in the last level of the filter`,
		"rules: [{allow: both, topics: a, users: []}]":                      "p.yaml:1: users is empty",
		"rules: [{allow: both, topics: a, roles: x}]":                       `p.yaml:1: role "x" is not under roles`,
		"users: {a: x}":                                                     `p.yaml:1: user "a" has the role "x", which is not under roles`,
		"rules: [{deny: both, topics: a, qos: 1}]":                          "p.yaml:1: qos and retain are limits of what is allowed, and this rule denies",
		"rules: [{allow: both, topics: a, when: usr == 'x'}]":               "p.yaml:1: when: unknown name usr (1:1)",
		"rules: [{allow: both, topics: a, when: qos}]":                      "p.yaml:1: when: expected bool, but got int",
		"rules: [{allow: both, topics: a, when: 'within(address, \"x\")'}]": `p.yaml:1: when: "x" is no network such as 10.0.0.0/8`,
		"rule: []": `p.yaml:1: unknown key "rule"`,
		"a: b: c":  "p.yaml: not valid YAML: mapping values are not allowed in this context",
		"tests: [{action: publish, topic: '#', expect: deny}]": `p.yaml:1: topic "#": topic name contains a wildcard`,
	} {
		p, faults := Parse("p.yaml", Auto, []byte(text))
		if p != nil || len(faults) != 1 || faults[0].String() != want {
			t.Errorf("%s:\n got %v\nwant %s", text, faults, want)
		}
	}
}

func TestMosquitto(t *testing.T) {
	p := parsed(t, "acl", `# who is nobody
topic read open/#
topic deny open/closed

user ada
topic readwrite a/#
topic deny a/secret/#
topic write with %c
pattern read in/%u/%c
pattern deny a/b
pattern readwrite both/%c
`)
	for _, x := range []struct {
		user    string
		publish bool
		topic   string
		allow   bool
	}{
		{"", false, "open/x", true}, {"", true, "open/x", false}, {"", false, "open/closed", false}, {"", false, "open/#", false}, {"bob", false, "open/x", false},
		{"ada", true, "a/x", true}, {"ada", true, "a/secret/x", false}, {"ada", true, "a/b", true}, {"bob", true, "a/b", false},
		{"ada", true, "with c1", false}, {"ada", true, "with %c", true}, {"ada", false, "in/ada/c1", true}, {"", true, "both/c1", true}, {"ada", false, "in/+/c1", false},
	} {
		q := Query{User: x.user, Client: "c1", Publish: x.publish, Topic: x.topic}
		if d := p.Decide(&q); d.Allow != x.allow {
			t.Errorf("%+v: %+v", x, d)
		}
	}
	if _, faults := Parse("acl", Auto, []byte("topic reed a\nuser\nallow x\ntopic a/#/b")); len(faults) != 4 || faults[0].Where != "acl:1" {
		t.Error(faults)
	}
}

func TestDecideAllocatesNothing(t *testing.T) {
	a := NewAuthorizer(parsed(t, "p.yaml", sample))
	c := &broker.Client{ID: "c", Username: "t1"}
	q := &broker.AccessRequest{}
	if n := testing.AllocsPerRun(100, func() {
		*q = broker.AccessRequest{Client: c, Action: broker.Publish, Topic: "sensors/c/x", QoS: 1}
		if a.Access(q, nil) != broker.Allow {
			t.Fatal("denied")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDecide(b *testing.B) {
	p := parsed(b, "p.yaml", sample)
	q := &Query{User: "t1", Client: "c", Publish: true, Topic: "sensors/c/x", QoS: packet.QoS(1), Time: time.Unix(0, 0)}
	b.ReportAllocs()
	for b.Loop() {
		p.Decide(q)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("p.yaml", sample)
	f.Add("acl", "user a\ntopic read a/#\npattern write %c/%u")
	f.Fuzz(func(t *testing.T, name, text string) {
		p, faults := Parse(name, Auto, []byte(text))
		if (p == nil) != (len(faults) > 0) {
			t.Fatal("a policy, or faults")
		}
		if p != nil {
			p.Run()
			p.Explain(&Query{User: "a", Client: "c", Topic: "a/#"})
		}
	})
}
