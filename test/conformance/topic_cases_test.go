//go:build conformance

package conformance

import (
	"strings"
)

func topicCases() []testCase {
	return []testCase{
		{"topic-match", all, topicMatch},
		{"topic-dollar", all, topicDollar},
		{"topic-null", all, topicNull},
		{"topic-levels", all, topicLevels},
	}
}

// topicMatch: each filter alone gets just the names that it matches.
func topicMatch(e *env) {
	names := []string{"sport", "sport/", "sport/tennis", "sport/tennis/", "sport/tennis/one", "sport//one", "/sport", "/", "//", "sports", "Sport",
		"sport/$x", "a/b/c/d/e/f"}
	matches := map[string]string{
		"sport":           "sport",
		"sport/#":         "sport sport/ sport/tennis sport/tennis/ sport/tennis/one sport//one sport/$x",
		"sport/+":         "sport/ sport/tennis sport/$x",
		"sport/+/one":     "sport/tennis/one sport//one",
		"sport/+/+":       "sport/tennis/ sport/tennis/one sport//one",
		"sport/tennis/#":  "sport/tennis sport/tennis/ sport/tennis/one",
		"+":               "sport sports Sport",
		"+/+":             "sport/ sport/tennis /sport / sport/$x",
		"/+":              "/sport /",
		"/#":              "/sport / //",
		"+/tennis/#":      "sport/tennis sport/tennis/ sport/tennis/one",
		"+/tennis/+":      "sport/tennis/ sport/tennis/one",
		"//":              "//",
		"+//+":            "sport//one //",
		"a/+/c/+/e/+":     "a/b/c/d/e/f",
		"a/b/c/d/e/f/#":   "a/b/c/d/e/f",
		"a/b/c/d/e/f/+":   "",
		"+/+/+/+/+/+/+":   "",
		"sport/tennis/on": "",
	}
	pub := e.client()
	subs := map[string]*client{}
	for f := range matches {
		c := e.client()
		c.want(e.topic(f), 1)
		subs[f] = c
	}
	for _, n := range names {
		pub.publish(message{topic: e.topic(n), payload: n, qos: 1})
	}
	for f, want := range matches {
		var got []string
		for _, p := range subs[f].collect(pub) {
			got = append(got, p.payload)
		}
		// "+" and "#" alone stand behind the prefix of the case here, so that the first level's special rule is topic-dollar's.
		if s := strings.Join(got, " "); s != want {
			e.Errorf("%q matched %q, want %q", f, s, want)
		}
	}
}

// topicDollar: a leading wildcard does not match a name that begins with $; a filter that spells the first level does.
func topicDollar(e *env) {
	pub := e.client()
	root := "$conformance"
	wild, plus, spelled, below := e.client(), e.client(), e.client(), e.client()
	wild.want("#", 0)
	plus.want("+/"+e.prefix, 0)
	plus.want("+/"+e.prefix+"/#", 0)
	spelled.want(root+"/+", 0)
	below.want(root+"/"+e.prefix+"/#", 0)
	pub.publish(message{topic: root + "/" + e.prefix, payload: e.prefix})
	pub.alive()
	below.receive(e.prefix)
	for p := spelled.message(); p.payload != e.prefix; p = spelled.message() { // another version's case is heard here too
		if !strings.HasPrefix(p.topic, root+"/") {
			e.Fatalf("got %s", p)
		}
	}
	plus.quiet()
	pub.publish(message{topic: e.topic("end"), payload: "end " + e.prefix})
	for p := wild.message(); p.payload != "end "+e.prefix; p = wild.message() {
		if strings.HasPrefix(p.topic, "$") {
			e.Fatalf("%q was matched by #", p.topic)
		}
	}
}

func topicNull(e *env) {
	e.refuses(message{topic: "a\x00b", payload: "x"}.bytes(e.v), 0x81)
	e.refuses(subscribe(e.v, 1, nil, filter{"a\x00b", 0}), 0x81)
	e.refuses(unsubscribe(e.v, 1, "a\x00b"), 0x81)
	e.malformedConnect(connect{id: e.unique(), will: &will{topic: "a\x00b"}}.bytes(e.v), 0x81)
}

// topicLevels: thousands of levels in a name and in a filter; 65535 bytes are the most that the length field can say.
func topicLevels(e *env) {
	pub, sub := e.client(), e.client()
	many := e.topic("") + strings.Repeat("l/", 5000)
	sub.want(many+"#", 1)
	sub.want(e.topic("")+strings.Repeat("+/", 5000), 1)
	pub.publish(message{topic: many, payload: "m", qos: 1})
	if p := sub.receive("m"); p.topic != many {
		e.Errorf("got a topic of %d bytes", len(p.topic))
	}
}
