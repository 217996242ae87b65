package dial

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxURL is the longest address that is read, in bytes. User name and password
// of MQTT have 64 KiB each at most, and three characters for a byte.
const maxURL = 512 << 10

// scheme is what a URL's scheme stands for: the transport and its port.
func scheme(s string) (transport, port string) {
	switch strings.ToLower(s) {
	case "tcp", "mqtt":
		return "tcp", "1883"
	case "tls", "ssl", "mqtts":
		return "tls", "8883"
	case "ws":
		return "ws", "80"
	case "wss":
		return "wss", "443"
	case "unix":
		return "unix", ""
	}
	return "", ""
}

// Parse reads a URL, or host or host:port, which is tcp:
//
//	tcp://host:1883    mqtt://user:password@host
//	tls://host:8883    mqtts://[2001:db8::1]    ssl://host
//	ws://host:80/mqtt  wss://host:443/mqtt?token=1
//	unix:///run/myelin.sock
//
// These are the default ports and the WebSocket's default path. In user name,
// password and a Unix socket's path %XX is a byte. Errors do not show the
// password.
func Parse(s string) (Target, error) {
	if len(s) > maxURL {
		return Target{}, fmt.Errorf("address is longer than %d bytes", maxURL)
	}
	if s == "" {
		return Target{}, errors.New("address is empty")
	}
	for _, r := range s {
		if r <= ' ' || r == 0x7F || r == utf8.RuneError {
			return Target{}, errors.New("address has a space, a control character or bad UTF-8 in it: %XX stands for such a byte")
		}
	}
	name, rest, ok := strings.Cut(s, "://")
	if !ok {
		if len(s) > 5 && strings.EqualFold(s[:6], "unix:/") {
			return parseUnix(s[5:])
		}
		return parseBare(s)
	}
	transport, port := scheme(name)
	switch transport {
	case "":
		return Target{}, unknownScheme(name)
	case "unix":
		return parseUnix(rest)
	}
	t := Target{Scheme: transport, Port: port}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, path := rest[:end], rest[end:]
	if strings.Contains(path, "@") && !strings.Contains(authority, "@") && transport[0] != 'w' {
		return Target{}, errors.New("user name or password has /, ? or # in it: write %2F, %3F or %23")
	}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		if err := t.userInfo(authority[:at]); err != nil {
			return Target{}, err
		}
		authority = authority[at+1:]
	}
	if err := t.hostPort(authority); err != nil {
		return Target{}, err
	}
	if err := t.setPath(path); err != nil {
		return Target{}, err
	}
	return t, nil
}

func unknownScheme(name string) error {
	switch strings.ToLower(name) {
	case "http":
		return errors.New("scheme http: MQTT over WebSocket is ws://")
	case "https":
		return errors.New("scheme https: MQTT over WebSocket is wss://")
	case "":
		return errors.New("address has no scheme before ://")
	}
	return fmt.Errorf("unknown scheme %q: there are tcp (mqtt), tls (ssl, mqtts), ws, wss and unix", shorten(name))
}

// parseBare reads host or host:port.
func parseBare(s string) (Target, error) {
	if strings.ContainsAny(s, "/?#@") {
		return Target{}, errors.New("address has no scheme: begin it with mqtt:// or another")
	}
	t := Target{Scheme: "tcp", Port: "1883"}
	return t, t.hostPort(s)
}

// parseUnix reads the path of a socket. An @ at its begin is the abstract name
// of Linux, and user information ends with one before the first slash.
func parseUnix(s string) (Target, error) {
	t := Target{Scheme: "unix"}
	first, _, _ := strings.Cut(s, "/")
	if at := strings.LastIndexByte(first, '@'); at > 0 && at == len(first)-1 {
		if err := t.userInfo(first[:at]); err != nil {
			return Target{}, err
		}
		s = s[at+1:]
	}
	path, err := url.PathUnescape(s)
	switch {
	case err != nil:
		return Target{}, errors.New("path of the unix socket has a % that is not followed by two hexadecimal digits")
	case path == "":
		return Target{}, errors.New("unix address has no path: unix:///run/myelin.sock")
	case strings.ContainsRune(path, 0):
		return Target{}, errors.New("path of the unix socket has a zero byte")
	}
	t.Path = path
	return t, nil
}

// userInfo reads user or user:password.
func (t *Target) userInfo(s string) error {
	user, password, has := strings.Cut(s, ":")
	var err error
	if t.User, err = url.PathUnescape(user); err != nil {
		return errors.New("user name has a % that is not followed by two hexadecimal digits: a percent sign is %25")
	}
	if t.Password, err = url.PathUnescape(password); err != nil {
		return errors.New("password has a % that is not followed by two hexadecimal digits: a percent sign is %25")
	}
	t.HasPassword = has
	// [MQTT-1.5.4-1], [MQTT-1.5.4-2]
	if !utf8.ValidString(t.User) || strings.ContainsRune(t.User, 0) {
		return errors.New("user name is not UTF-8, or has a zero byte")
	}
	return nil
}

// hostPort reads host, host:port, [IPv6] or [IPv6]:port, and keeps the port
// that is there where s has none.
func (t *Target) hostPort(s string) error {
	host, port := s, ""
	switch {
	case strings.HasPrefix(s, "["):
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return fmt.Errorf("host %q has a [ without its ]", shorten(s))
		}
		host, port = s[1:end], s[end+1:]
		if port != "" && port[0] != ':' {
			return fmt.Errorf("host %q: only a colon and the port follow ]", shorten(s))
		}
		port = strings.TrimPrefix(port, ":")
		// A zone's percent sign is escaped in a URL, and often is not.
		host = strings.Replace(host, "%25", "%", 1)
		if a, err := netip.ParseAddr(host); err != nil || !a.Is6() {
			return fmt.Errorf("host %q is not an IPv6 address", shorten(host))
		}
	case strings.Count(s, ":") > 1:
		if _, err := netip.ParseAddr(s); err != nil {
			return fmt.Errorf("host %q has several colons: an IPv6 address with a port is [address]:port", shorten(s))
		}
	default:
		host, port, _ = strings.Cut(s, ":")
		if err := checkName(host); err != nil {
			return err
		}
	}
	if _, zone, ok := strings.Cut(host, "%"); ok {
		if err := checkName(zone); err != nil {
			return fmt.Errorf("zone of an IPv6 address: %w", err)
		}
	}
	t.Host = host
	if port == "" {
		return nil
	}
	n, err := strconv.ParseUint(port, 10, 64)
	if err != nil || n == 0 || n > 65535 || port[0] == '+' {
		return fmt.Errorf("port %q is not a number from 1 to 65535", shorten(port))
	}
	t.Port = strconv.FormatUint(n, 10)
	return nil
}

// checkName refuses what no host can be called.
func checkName(host string) error {
	if host == "" {
		return errors.New("address has no host")
	}
	if len(host) > 254 {
		return fmt.Errorf("host %q is longer than 254 bytes", shorten(host))
	}
	for i := range len(host) {
		switch c := host[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
		case c >= 0x80:
			return fmt.Errorf("host %q is not ASCII: write it as xn--", host)
		default:
			return fmt.Errorf("host %q has the character %q in it", host, c)
		}
	}
	return nil
}

// setPath takes what follows the host.
func (t *Target) setPath(s string) error {
	if strings.Contains(s, "#") {
		return errors.New("address has a # in it: write %23")
	}
	if t.Scheme == "tcp" || t.Scheme == "tls" {
		if s != "" && s != "/" {
			return fmt.Errorf("%s address has a path, %q: only ws, wss and unix have one", t.Scheme, shorten(s))
		}
		return nil
	}
	if s == "" || s[0] == '?' {
		s = "/mqtt" + s
	}
	path, _, _ := strings.Cut(s, "?")
	if _, err := url.PathUnescape(path); err != nil {
		return errors.New("path has a % that is not followed by two hexadecimal digits: a percent sign is %25")
	}
	t.Path = s
	return nil
}

// shorten cuts what an error quotes.
func shorten(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}

// Address is host:port, or the path of a Unix socket.
func (t Target) Address() string {
	if t.Scheme == "unix" {
		return t.Path
	}
	return net.JoinHostPort(t.Host, t.Port)
}

// String is the URL without user name and password: Parse gives the Target back
// but for them.
func (t Target) String() string {
	if t.Scheme != "unix" {
		host := t.Host
		if strings.Contains(host, ":") {
			host = strings.Replace(host, "%", "%25", 1)
		}
		return t.Scheme + "://" + net.JoinHostPort(host, t.Port) + t.Path
	}
	b := []byte("unix://")
	for i := range len(t.Path) {
		switch c := t.Path[i]; {
		case c <= ' ', c >= 0x7F, c == '%', c == '@' && i > 0:
			b = fmt.Appendf(b, "%%%02X", c)
		default:
			b = append(b, c)
		}
	}
	return string(b)
}
