package config

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes, written 512, 64KiB, 1MB.
type Size int64

var units = []struct {
	name  string
	bytes int64
}{
	{"GiB", 1 << 30}, {"GB", 1e9},
	{"MiB", 1 << 20}, {"MB", 1e6},
	{"KiB", 1 << 10}, {"kB", 1e3}, {"KB", 1e3},
	{"B", 1},
}

// String writes the size with the largest unit that needs no fraction.
func (s Size) String() string {
	for _, u := range units {
		if s != 0 && u.bytes > 1 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// set puts a value into the setting of c. It says what is wrong with it, and
// what to try; "" if nothing is.
func (k Key) set(c *Config, v string) (what, hint string) {
	switch p := k.field(c).(type) {
	case *string:
		if k.Values != nil && !slices.Contains(k.Values, v) {
			return k.notOneOf(v)
		}
		if k.check != nil {
			if what, hint := k.check(v); what != "" {
				return what, hint
			}
		}
		*p = v
	case *bool:
		if v != "true" && v != "false" {
			return k.wants("true or false", v), "write true or false"
		}
		*p = v == "true"
	case *int:
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return k.wants("a whole number", v), "write digits only, such as " + k.example()
		}
		if what, hint := k.bounds(n, v); what != "" {
			return what, hint
		}
		*p = int(n)
	case *Size:
		n, ok := parseSize(v)
		if !ok {
			return k.wants("a size", v), "write bytes or a unit of B, kB, KiB, MB, MiB, GB or GiB, such as " + k.example()
		}
		if what, hint := k.bounds(n, v); what != "" {
			return what, hint
		}
		*p = Size(n)
	case *time.Duration:
		d, err := time.ParseDuration(v)
		if err != nil {
			return k.wants("a duration", v), "write a number with a unit of ms, s, m or h, such as " + k.example()
		}
		if what, hint := k.bounds(int64(d), v); what != "" {
			return what, hint
		}
		*p = d
	case *[]string:
		if k.Kind == Words {
			words, what, hint := k.words(v)
			if what != "" {
				return what, hint
			}
			*p = words
			return "", ""
		}
		if k.check != nil {
			if what, hint := k.check(v); what != "" {
				return what, hint
			}
		}
		*p = append(*p, v)
	case *[]Listener:
		if what, hint := checkURL(v); what != "" {
			return k.Name + ": " + what, hint
		}
		*p = append(*p, Listener{URL: v})
	}
	return "", ""
}

// clear empties a list.
func (k Key) clear(c *Config) {
	if p, ok := k.field(c).(*[]string); ok {
		*p = nil
	}
}

// words reads a list, separated by commas, of different words that the key may
// be.
func (k Key) words(v string) (words []string, what, hint string) {
	for _, w := range strings.Split(v, ",") {
		w = strings.TrimSpace(w)
		switch {
		case w == "" && v == "":
			return nil, "", ""
		case !slices.Contains(k.Values, w):
			what, hint = k.notOneOf(w)
			return nil, what, hint
		case slices.Contains(words, w):
			return nil, fmt.Sprintf("%s: %s is there twice", k.Name, quote(w)), "the order is that of the first"
		}
		words = append(words, w)
	}
	return words, "", ""
}

// format writes the setting of c as it is written in a file; "" for listeners
// and empty texts.
func (k Key) format(c *Config) string {
	switch p := k.field(c).(type) {
	case *string:
		return *p
	case *bool:
		return strconv.FormatBool(*p)
	case *int:
		return strconv.Itoa(*p)
	case *Size:
		return p.String()
	case *time.Duration:
		return formatSpan(*p)
	case *[]string:
		return strings.Join(*p, ", ")
	default:
		return ""
	}
}

// Default writes the default as it is written in a file.
func (k Key) Default() string {
	c := Default()
	return k.format(&c)
}

// Bounds writes the least and the largest value; "" if there are none.
func (k Key) Bounds() (least, most string) {
	return k.write(k.min), k.write(k.max)
}

func (k Key) write(n int64) string {
	switch k.Kind {
	case Count:
		return strconv.FormatInt(n, 10)
	case Bytes:
		return Size(n).String()
	case Span:
		return formatSpan(time.Duration(n))
	default:
		return ""
	}
}

func formatSpan(d time.Duration) string {
	s := d.String()
	if d >= time.Minute && strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if d >= time.Hour && strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	if s == "0s" {
		return "0"
	}
	return s
}

// example is a value that would do.
func (k Key) example() string {
	if d := k.Default(); d != "0" || k.Kind == Count {
		return d
	}
	return map[Kind]string{Bytes: "64KiB", Span: "30s"}[k.Kind]
}

func (k Key) wants(kind, v string) string {
	return fmt.Sprintf("%s: wants %s, got %s", k.Name, kind, quote(v))
}

func (k Key) notOneOf(v string) (what, hint string) {
	hint = "write one of " + strings.Join(k.Values, ", ")
	if n := Nearest(strings.ToLower(v), k.Values); n != "" {
		hint = fmt.Sprintf("did you mean %s? It can be %s", n, strings.Join(k.Values, ", "))
	}
	return fmt.Sprintf("%s: %s is not a choice", k.Name, quote(v)), hint
}

func (k Key) bounds(n int64, v string) (what, hint string) {
	least, most := k.Bounds()
	switch {
	case n < k.min || n > k.max:
		return fmt.Sprintf("%s: %s is out of range", k.Name, quote(v)), fmt.Sprintf("write %s to %s", least, most)
	case n%k.whole != 0:
		return fmt.Sprintf("%s: %s is not a whole number of seconds", k.Name, quote(v)), "write whole seconds, such as " + k.example()
	}
	return "", ""
}

// quote shows a value that somebody wrote, cut where it is too long to read.
func quote(v string) string {
	if len(v) > 60 {
		v = strings.ToValidUTF8(v[:57], "") + "..."
	}
	return strconv.Quote(v)
}

func parseSize(v string) (n int64, ok bool) {
	unit := int64(1)
	for _, u := range units {
		if rest, found := strings.CutSuffix(v, u.name); found {
			v, unit = strings.TrimRight(rest, " "), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return 0, false
	}
	return n * unit, true
}

// checkURL says what is wrong with a listener's URL.
func checkURL(v string) (what, hint string) {
	u, err := url.Parse(v)
	if err != nil {
		return "cannot read the URL " + quote(v), "write one such as tcp://127.0.0.1:1883"
	}
	switch u.Scheme {
	case "tcp", "tls", "ws", "wss":
		return checkHostURL(v, u)
	case "unix":
		if u.Host != "" || !filepath.IsAbs(u.Path) || strings.HasSuffix(u.Path, "/") {
			return "no path of a socket in " + quote(v), "write three slashes, such as unix:///run/myelin.sock"
		}
		return "", ""
	case "mqtt":
		return "unknown kind of listener in " + quote(v), "write tcp:// for mqtt://"
	case "ssl", "mqtts":
		return "unknown kind of listener in " + quote(v), "write tls:// for " + u.Scheme + "://"
	default:
		return "unknown kind of listener in " + quote(v), "write tcp:// or tls://host:port, unix:///path, ws:// or wss://host:port/path"
	}
}

func checkHostURL(v string, u *url.URL) (what, hint string) {
	_, err := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	case u.Port() == "":
		return "no port in " + quote(v), "write host and port, such as " + map[string]string{
			"tcp": "tcp://127.0.0.1:1883", "tls": "tls://127.0.0.1:8883", "ws": "ws://127.0.0.1:8083/mqtt", "wss": "wss://127.0.0.1:8084/mqtt",
		}[u.Scheme]
	case err != nil:
		return fmt.Sprintf("port %s of %s is out of range", u.Port(), quote(v)), "write a port of 0 to 65535; 0 takes any free one"
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "a listener has no user, query or fragment, but " + quote(v) + " has", "write only scheme, host, port and path"
	case (u.Scheme == "tcp" || u.Scheme == "tls") && u.Path != "":
		return fmt.Sprintf("a %s listener has no path, but %s has", u.Scheme, quote(v)), fmt.Sprintf("write %s://%s", u.Scheme, u.Host)
	}
	return "", ""
}

// endpoint is what two listeners cannot share; "" for port 0, which is another
// one each time.
func endpoint(v string) string {
	u, err := url.Parse(v)
	switch {
	case err != nil || u.Port() == "0":
		return ""
	case u.Scheme == "unix":
		return "unix " + filepath.Clean(u.Path)
	default:
		return strings.ToLower(u.Host)
	}
}

// checkData: an empty path would be the working directory.
func checkData(v string) (what, hint string) {
	if v == "" {
		return "data: no directory is named", "name one, or write memory for durability to keep nothing"
	}
	return "", ""
}

// checkPprof lets only loopback addresses through: profiles show memory.
func checkPprof(v string) (what, hint string) {
	const try = "write a loopback address such as 127.0.0.1:6060"
	if v == "" {
		return "", ""
	}
	host, _, err := net.SplitHostPort(v)
	if err != nil {
		return "pprof: wants host:port, got " + quote(v), try
	}
	if a, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !a.IsLoopback()) {
		return "pprof: " + quote(v) + " is not a loopback address", try
	}
	return "", ""
}
