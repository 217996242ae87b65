package dial

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	f := func(in string, want Target) {
		t.Helper()
		got, err := Parse(in)
		if err != nil || got != want {
			t.Errorf("Parse(%q) = %+v, %v, want %+v", in, got, err, want)
		}
	}
	tcp := func(host, port string) Target { return Target{Scheme: "tcp", Host: host, Port: port} }
	f("localhost", tcp("localhost", "1883"))
	f("localhost:", tcp("localhost", "1883"))
	f("localhost:7", tcp("localhost", "7"))
	f("10.0.0.1:65535", tcp("10.0.0.1", "65535"))
	f("::1", tcp("::1", "1883"))
	f("[::1]", tcp("::1", "1883"))
	f("[::1]:99", tcp("::1", "99"))
	f("fe80::1%eth0", tcp("fe80::1%eth0", "1883"))
	f("mqtt://[fe80::1%25eth0]:1", tcp("fe80::1%eth0", "1"))
	f("mqtt://[fe80::1%eth0]:1", tcp("fe80::1%eth0", "1"))
	f("tcp://a-b.c_d.example.", tcp("a-b.c_d.example.", "1883"))
	f("MQTT://Host/", tcp("Host", "1883"))
	f("mqtt://host:0080", tcp("host", "80"))
	for _, s := range []string{"tls", "ssl", "mqtts", "TLS"} {
		f(s+"://h", Target{Scheme: "tls", Host: "h", Port: "8883"})
	}
	f("ws://h", Target{Scheme: "ws", Host: "h", Port: "80", Path: "/mqtt"})
	f("ws://h/", Target{Scheme: "ws", Host: "h", Port: "80", Path: "/"})
	f("ws://h?a=@", Target{Scheme: "ws", Host: "h", Port: "80", Path: "/mqtt?a=@"})
	f("wss://h:1/a/b%20c?d=e%zz", Target{Scheme: "wss", Host: "h", Port: "1", Path: "/a/b%20c?d=e%zz"})
	f("wss://h/@x", Target{Scheme: "wss", Host: "h", Port: "443", Path: "/@x"})

	f("mqtt://u@h", Target{Scheme: "tcp", Host: "h", Port: "1883", User: "u"})
	f("mqtt://u:@h", Target{Scheme: "tcp", Host: "h", Port: "1883", User: "u", HasPassword: true})
	f("mqtt://:p@h", Target{Scheme: "tcp", Host: "h", Port: "1883", Password: "p", HasPassword: true})
	f("mqtt://@h", Target{Scheme: "tcp", Host: "h", Port: "1883"})
	f("mqtt://a%40b:c%3A%2F%00%FF+@h:5", Target{Scheme: "tcp", Host: "h", Port: "5", User: "a@b", Password: "c:/\x00\xFF+", HasPassword: true})
	f("mqtt://a@b:c:d@e@h", Target{Scheme: "tcp", Host: "h", Port: "1883", User: "a@b", Password: "c:d@e", HasPassword: true})
	f("mqtts://ü:ß@h", Target{Scheme: "tls", Host: "h", Port: "8883", User: "ü", Password: "ß", HasPassword: true})

	unix := func(path string) Target { return Target{Scheme: "unix", Path: path} }
	f("unix:///run/x.sock", unix("/run/x.sock"))
	f("unix:/run/x.sock", unix("/run/x.sock"))
	f("unix:1", tcp("unix", "1"))
	f("UNIX://x.sock", unix("x.sock"))
	f("unix://@abstract", unix("@abstract"))
	f("unix:///a%20b%25/c?d#e@f", unix("/a b%/c?d#e@f"))
	f("unix://u:p@/run/x", Target{Scheme: "unix", Path: "/run/x", User: "u", Password: "p", HasPassword: true})
	f("unix://u@v/w", unix("u@v/w"))
}

func TestParseErrors(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		got, err := Parse(in)
		if err == nil {
			t.Errorf("Parse(%q) = %+v, want an error", in, got)
		} else if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("Parse(%q): %q, want %q in it", in, err, want)
		}
	}
	f("", "empty")
	f(" h", "space")
	f("h\n", "control")
	f("h\xff", "UTF-8")
	f(strings.Repeat("x", maxURL+1), "longer")
	f("http://h", "ws://")
	f("https://h", "wss://")
	f("ftp://h", `unknown scheme "ftp"`)
	f("://h", "no scheme")
	f("h/path", "no scheme")
	f("u:secret@h", "no scheme")
	f("mqtt://", "no host")
	f("mqtt://:1883", "no host")
	f(":1883", "no host")
	f("h:port", `port "port"`)
	f("h:0", `port "0"`)
	f("h:65536", `port "65536"`)
	f("h:-1", `port "-1"`)
	f("h:+1", `port "+1"`)
	f("h:99999999999999999999999", "port")
	f("a:b:c", "[address]:port")
	f("mqtt://[::1", "without its ]")
	f("mqtt://[::1]1883", "follow ]")
	f("mqtt://[127.0.0.1]", "not an IPv6")
	f("mqtt://[]", "not an IPv6")
	f("::1%]", "zone")
	f("mqtt://h%20x", "character '%'")
	f("mqtt://h*", "character '*'")
	f("mqtt://müller.example", "xn--")
	f("mqtt://"+strings.Repeat("x", 255), "254 bytes")
	f("mqtt://u:secret%zz@h", "password has a %")
	f("mqtt://u%2:secret@h", "user name has a %")
	f("mqtt://u%00:secret@h", "zero byte")
	f("mqtt://%ff:secret@h", "UTF-8")
	f("mqtt://u:secret/x@h", "%2F")
	f("mqtt://u:secret?x@h", "%3F")
	f("mqtt://u:secret#x@h", "%23")
	f("ws://h/mqtt#x", "%23")
	f("ws://h/%zz", "path has a %")
	f("mqtt://h/topic", `path, "/topic"`)
	f("tls://h?x", "path")
	f("unix://", "no path")
	f("unix://%zz", "%")
	f("unix://a%00", "zero")
}

func TestTargetString(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got := parse(t, in).String(); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
	f("mqtt://user:secret@h", "tcp://h:1883")
	f("wss://user:secret@[fe80::1%25e]?x", "wss://[fe80::1%25e]:443/mqtt?x")
	f("unix://@a@b%20/ü@", "unix://@a%40b%20/%C3%BC%40")
	if got := parse(t, "unix:///a%20").Address(); got != "/a " {
		t.Errorf("address %q", got)
	}
	if got := parse(t, "[::1]").Address(); got != "[::1]:1883" {
		t.Errorf("address %q", got)
	}
}

// FuzzParse: whatever is read can be printed and read again.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"localhost:1883", "mqtt://u:p@h:1", "wss://[fe80::1%25e]:1/a?b", "unix://@a@b%20/%40", "unix:/a", "::1", "ws://h?x", "mqtt://a%40:b@[::1]/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := Parse(in)
		if err != nil {
			if len(err.Error()) > 1000 {
				t.Errorf("Parse(%q): an error of %d bytes", in, len(err.Error()))
			}
			return
		}
		if _, _, err := got.layers(Options{}); err != nil {
			t.Errorf("Parse(%q) = %+v: %v", in, got, err)
		}
		again, err := Parse(got.String())
		got.User, got.Password, got.HasPassword = "", "", false
		if err != nil || again != got {
			t.Errorf("Parse(%q) is %+v, and again %+v, %v", in, got, again, err)
		}
	})
}
