package topic

import (
	"fmt"
	"iter"
	"strings"
)

// sharePrefix begins the filter of a shared subscription.
const sharePrefix = "$share/"

// Filter is a checked topic filter, taken apart. It is comparable, so it can be the key of a map. Make it with ParseFilter.
type Filter struct {
	Share  string // the name of the shared subscription; "" if the subscription is not shared
	Filter string // what names are matched against, without $share/NAME/
}

// ParseFilter checks the topic filter of a SUBSCRIBE or UNSUBSCRIBE packet and takes it apart. The parts share memory with s.
func ParseFilter(s string) (Filter, error) {
	if err := checkText(s); err != nil {
		return Filter{}, fmt.Errorf("parse filter: %w", err)
	}
	f := Filter{Filter: s}
	if rest, shared := strings.CutPrefix(s, sharePrefix); shared {
		name, filter, more := Cut(rest)
		if name == "" || strings.ContainsAny(name, "+#") { // [MQTT-4.8.2-1] [MQTT-4.8.2-2]
			return Filter{}, fmt.Errorf("parse filter: %w", ErrShareName)
		}
		if !more || filter == "" { // [MQTT-4.8.2-2]
			return Filter{}, fmt.Errorf("parse filter: %w", ErrShareFilter)
		}
		f = Filter{Share: name, Filter: filter}
	}
	if err := checkLevels(f.Filter); err != nil {
		return Filter{}, fmt.Errorf("parse filter: %w", err)
	}
	return f, nil
}

// Shared reports whether f is the filter of a shared subscription.
func (f Filter) Shared() bool { return f.Share != "" }

// Wildcard reports whether f contains + or #.
func (f Filter) Wildcard() bool { return HasWildcard(f.Filter) }

// String returns the filter as it stands in a SUBSCRIBE packet.
func (f Filter) String() string {
	if f.Share == "" {
		return f.Filter
	}
	return sharePrefix + f.Share + "/" + f.Filter
}

// HasWildcard reports whether a filter without $share/NAME/ contains + or #.
func HasWildcard(filter string) bool {
	return strings.HasSuffix(filter, "#") || strings.IndexByte(filter, '+') >= 0
}

// Match reports whether filter, without $share/NAME/, matches the topic name. Both must be valid; nothing is normalised. [MQTT-4.7.3-4]
func Match(filter, name string) bool {
	if name == "" || filter == "" {
		return false
	}
	if name[0] == '$' && (filter[0] == '+' || filter[0] == '#') { // [MQTT-4.7.2-1]
		return false
	}
	for {
		want, frest, fmore := Cut(filter)
		if want == "#" {
			return true
		}
		have, nrest, nmore := Cut(name)
		if want != "+" && want != have {
			return false
		}
		if !nmore {
			return !fmore || frest == "#" // # stands for the parent level, too
		}
		if !fmore {
			return false
		}
		filter, name = frest, nrest
	}
}

// Cut splits s after its first level. more tells that a separator followed: rest is then what is left, and its first level may be empty.
func Cut(s string) (level, rest string, more bool) {
	if i := strings.IndexByte(s, '/'); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// Levels yields the levels of a name or filter, empty ones included. It does not allocate.
func Levels(s string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for more := true; more; {
			var level string
			level, s, more = Cut(s)
			if !yield(level) {
				return
			}
		}
	}
}

// Depth returns the number of levels of a name or filter: at least 1.
func Depth(s string) int { return strings.Count(s, "/") + 1 }
