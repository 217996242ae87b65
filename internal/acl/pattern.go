package acl

import (
	"errors"
	"strings"

	"github.com/myelin-mqtt/myelin/topic"
)

// pattern is the topic filter of a rule, taken apart, with %c and %u for the
// client's identifier and user name.
type pattern struct {
	text   string
	levels []level
	client bool // %c is in it
	user   bool // %u
}

// level is one level of a pattern.
type level struct {
	kind  kind
	parts []part // of a word
}

type kind uint8

const (
	word kind = iota // text, with placeholders or not
	plus
	hash
)

// part is text, or a placeholder.
type part struct {
	text string
	what placeholder
}

type placeholder uint8

const (
	none placeholder = iota
	clientID
	userName
)

// who is what placeholders stand for.
type who struct{ client, user string }

func (w *who) value(p placeholder) string {
	if p == clientID {
		return w.client
	}
	return w.user
}

var errShare = errors.New("$share is no part of a rule: a shared subscription is judged by the filter behind it")

// newPattern reads a topic filter; literally: %c and %u are text as any other.
func newPattern(text string, literally bool) (pattern, error) {
	if strings.HasPrefix(text, "$share/") {
		return pattern{}, errShare
	}
	plain := text
	if !literally { // any word will do for the check
		plain = strings.NewReplacer("%c", "c", "%u", "u").Replace(text)
	}
	if _, err := topic.ParseFilter(plain); err != nil {
		return pattern{}, err
	}
	p := pattern{text: text}
	for l := range topic.Levels(text) {
		switch l {
		case "+":
			p.levels = append(p.levels, level{kind: plus})
		case "#":
			p.levels = append(p.levels, level{kind: hash})
		default:
			p.levels = append(p.levels, p.word(l, literally))
		}
	}
	return p, nil
}

// word takes a level apart.
func (p *pattern) word(s string, literally bool) level {
	var l level
	for from := 0; ; {
		i := -1
		if !literally {
			i = strings.IndexByte(s[from:], '%')
		}
		if i < 0 {
			if s != "" || len(l.parts) == 0 {
				l.parts = append(l.parts, part{text: s})
			}
			return l
		}
		at := from + i
		what := none
		if at+1 < len(s) {
			switch s[at+1] {
			case 'c':
				what, p.client = clientID, true
			case 'u':
				what, p.user = userName, true
			}
		}
		if what == none {
			from = at + 1
			continue
		}
		if at > 0 {
			l.parts = append(l.parts, part{text: s[:at]})
		}
		l.parts = append(l.parts, part{what: what})
		s, from = s[at+2:], 0
	}
}

// fits reports whether the placeholders of p can stand for the client. A name
// with a wildcard or a separator would widen the pattern, an empty one would
// leave a level empty, and $ at the front of a topic leads to topics that no
// wildcard reaches: such a name stands for nothing.
func (p *pattern) fits(w *who) bool {
	if p.client && !plain(w.client) || p.user && !plain(w.user) {
		return false
	}
	first := p.levels[0]
	return first.kind != word || first.parts[0].what == none || w.value(first.parts[0].what)[0] != '$'
}

// plain reports whether a name can be a part of one level.
func plain(name string) bool {
	return name != "" && !strings.ContainsAny(name, "+#/\x00")
}

// is reports whether a level without wildcards is s.
func (l *level) is(s string, w *who) bool {
	for i := range l.parts {
		text := l.parts[i].text
		if l.parts[i].what != none {
			text = w.value(l.parts[i].what)
		}
		if !strings.HasPrefix(s, text) {
			return false
		}
		s = s[len(text):]
	}
	return s == ""
}

// dollar reports whether a level at the front hides the topic from wildcards
// [MQTT-4.7.2-1].
func (l *level) dollar() bool { return l.kind == word && strings.HasPrefix(l.parts[0].text, "$") }

// covers reports whether p matches every topic name that the filter f matches. A
// topic name is a filter that matches itself. f is valid, without $share, and
// fits was asked.
func (p *pattern) covers(f string, w *who) bool {
	last := len(p.levels) - 1
	for i, more := 0, true; ; i++ {
		if !more {
			return i > last || i == last && p.levels[i].kind == hash // a/# matches a, too
		}
		if i > last {
			return false
		}
		var s string
		s, f, more = topic.Cut(f)
		switch l := &p.levels[i]; {
		case l.kind == hash:
			return i > 0 || !strings.HasPrefix(s, "$")
		case s == "#": // only +/# at the front is as wide
			return i == 0 && l.kind == plus && last == 1 && p.levels[1].kind == hash
		case l.kind == plus:
			if i == 0 && strings.HasPrefix(s, "$") {
				return false
			}
		case s == "+" || !l.is(s, w):
			return false
		}
	}
}

// meets reports whether there is a topic name that both p and the filter f
// match, under the conditions of covers.
func (p *pattern) meets(f string, w *who) bool {
	last := len(p.levels) - 1
	for i, more := 0, true; ; i++ {
		if !more {
			return i > last || i == last && p.levels[i].kind == hash
		}
		var s string
		s, f, more = topic.Cut(f)
		if i > last {
			return s == "#"
		}
		switch l := &p.levels[i]; {
		case l.kind == hash:
			return i > 0 || !strings.HasPrefix(s, "$")
		case s == "#":
			return i > 0 || !l.dollar()
		case l.kind == plus:
			if i == 0 && strings.HasPrefix(s, "$") {
				return false
			}
		case s == "+":
			if i == 0 && l.dollar() {
				return false
			}
		case !l.is(s, w):
			return false
		}
	}
}
