package cli

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
)

// optionsOf are the options that a command line of `myelin pub` makes.
func optionsOf(t *testing.T, env []string, args ...string) (*publisher, client.Options) {
	t.Helper()
	x, err := filled(env, args...)
	if err != nil {
		t.Fatal(err)
	}
	o, err := x.options()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return x, o
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s:\n%s", what, d)
	}
}

func TestServers(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	f := func(want string, args ...string) {
		t.Helper()
		_, o := optionsOf(t, nil, args...)
		if got := strings.Join(o.Servers, " "); got != want {
			t.Errorf("%q: %s, want %s", args, got, want)
		}
	}
	f("tcp://localhost:1883")
	f("tcp://example.org:1884", "-h", "example.org", "-p", "1884")
	f("tcp://[2001:db8::1]:1883", "-h", "2001:db8::1")
	f("tls://localhost:8883", "--tls")
	f("tls://localhost:8883", "-p", "8883")
	f("tls://localhost:1883", "-p", "1883", "--insecure")
	f("ws://localhost:80/mqtt", "--ws", "/mqtt")
	f("ws://localhost:8083/a?b=c", "--ws", "a?b=c", "-p", "8083")
	f("wss://localhost:443/mqtt", "--ws", "/mqtt", "--tls")
	f("unix:///run/m.sock", "--unix", "/run/m.sock")
	f("unix://"+wd+"/m.sock", "--unix", "m.sock")
	f("tcp://a:1883 tls://b:9", "-L", "mqtt://a/home/kitchen", "-L", "mqtts://b:9/x")
	f("tls://a:1884", "-L", "mqtt://a:1884/t", "--tls")
	f("wss://a:80/mqtt", "-L", "ws://a/mqtt", "--tls")
	f("unix:///run/m.sock", "-L", "unix:///run/m.sock")
}

func TestTopicOfURL(t *testing.T) {
	for u, want := range map[string][2]string{
		"mqtt://h/a/b":       {"mqtt://h", "a/b"},
		"mqtt://h//a":        {"mqtt://h", "/a"},
		"mqtts://u@h:1/a/#":  {"mqtts://u@h:1", "a/#"},
		"mqtt://h":           {"mqtt://h", ""},
		"mqtt://h/":          {"mqtt://h", ""},
		"ws://h/mqtt":        {"ws://h/mqtt", ""},
		"unix:///run/m.sock": {"unix:///run/m.sock", ""},
		"h":                  {"h", ""},
	} {
		if server, topic := splitTopic(u); server != want[0] || topic != want[1] {
			t.Errorf("%s: %q and %q", u, server, topic)
		}
	}
}

func TestWithPassword(t *testing.T) {
	for u, want := range map[string]bool{
		"mqtt://me:pw@h/t": true, "mqtt://me:p/w@h/t": true, "mqtt://me:p?w@h": true, "me:pw@h": true, "wss://me:@h/mqtt": true, "mqtt://me:p@ss@h": true,
		"mqtt://me@h/t": false, "mqtt://h/t": false, "mqtt://h:1883/a@b": false, "mqtt://h/a:b@c": false, "h:1883": false, "mqtt://": false, "": false,
	} {
		if got := withPassword(u); got != want {
			t.Errorf("%s: %t", u, got)
		}
	}
}

// TestSecrets: a password comes from a file, the environment or a URL of it, and
// the servers that are shown do not have it.
func TestSecrets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("from file\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(user, password, server string, env []string, args ...string) {
		t.Helper()
		_, o := optionsOf(t, env, args...)
		if o.Username != user || string(o.Password) != password || o.Servers[0] != server {
			t.Errorf("%v %v: %q, %q at %s", env, args, o.Username, o.Password, o.Servers[0])
		}
	}
	f("", "", "tcp://localhost:1883", nil)
	f("me", "from file", "tcp://localhost:1883", nil, "-u", "me", "--password-file", file)
	f("me", "from env", "tcp://localhost:1883", []string{"MYELIN_PASSWORD=from env"}, "-u", "me")
	f("me", "p@ss", "tcp://h:1883", []string{"MYELIN_URL=mqtt://me:p%40ss@h/t"})
	f("you", "", "tcp://h:1883", []string{"MYELIN_URL=mqtt://me:p@h/t"}, "-u", "you")
	f("me", "", "tcp://h:1883", nil, "-L", "mqtt://me@h/t")

	x, err := filled(nil, "--password-file", file+".gone")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = x.options(); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestOptions(t *testing.T) {
	_, o := optionsOf(t, nil)
	if !o.CleanStart || o.SessionExpiry != 0 || o.KeepAlive != time.Minute || !o.NoReconnect || o.Version != 0 || o.Will != nil || o.TLS != nil || o.Trace.Packet != nil {
		t.Errorf("%+v", o)
	}
	_, o = optionsOf(t, nil, "-c", "-i", "me", "-k", "0", "-V", "mqttv311", "--reconnect", "-d", "--topic-aliases", "0", "-6", "--header", "X-A: b", "--insecure")
	if o.CleanStart || o.SessionExpiry != -1 || o.KeepAlive != -1 || o.Version != packet.V311 || o.NoReconnect || o.ClientID != "me" || o.SendAliases != -1 ||
		o.Network != "tcp6" || o.Header.Get("X-A") != "b" || o.Trace.Packet == nil || !o.TLS.InsecureSkipVerify {
		t.Errorf("%+v", o)
	}
	if _, o = optionsOf(t, nil, "-c", "-i", "me", "-x", "30"); o.SessionExpiry != 30*time.Second {
		t.Error(o.SessionExpiry)
	}
	if _, o = optionsOf(t, nil, "-x", "∞"); o.SessionExpiry != -1 {
		t.Error(o.SessionExpiry)
	}
	if _, o = optionsOf(t, nil, "-I", "pre-"); !strings.HasPrefix(o.ClientID, "pre-") || len(o.ClientID) < 5 {
		t.Error(o.ClientID)
	}
	if _, o = optionsOf(t, nil, "-A", "127.0.0.1"); o.Dial == nil {
		t.Error("no dialler that binds")
	}
}

// TestBind: the connection comes from the address.
func TestBind(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, o := optionsOf(t, nil, "-A", "127.0.0.1")
	c, err := o.Dial(context.Background(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !strings.HasPrefix(c.LocalAddr().String(), "127.0.0.1:") {
		t.Error(c.LocalAddr())
	}
}

// TestPasswordWithSlash: what is wrong is told without the password.
func TestPasswordWithSlash(t *testing.T) {
	x, err := filled([]string{"MYELIN_URL=mqtt://me:hu/sh@localhost/t"}, "-n")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = x.options(); err == nil || !strings.Contains(err.Error(), "write %2F") || strings.Contains(err.Error(), "hu") {
		t.Error(err)
	}
}

func TestBadOptions(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		x, err := filled(nil, args...)
		if err == nil {
			_, err = x.options()
		}
		var h *hinted
		if err == nil || !strings.Contains(err.Error(), want) || !errors.As(err, &h) || h.hint == "" {
			t.Errorf("%q: %v, want %s, and a hint", args, err, want)
		}
	}
	f("-c needs a client identifier", "-c")
	f(`unknown scheme "http+x"`, "-L", "http+x://h/t")
	f("address is empty", "-L", "")
	f("--will-qos is there, but no topic for the will", "--will-qos", "1")
	f(`--will-topic: "a/#" is not a topic`, "--will-topic", "a/#")
	f("is not an address", "-A", "localhost")
	f("wants NAME:VALUE", "--header", "x")
	f("wants whole seconds, or -1 for ever", "-x", "-2")
	f("wants whole seconds, 0 to 65535", "-k", "0.5")
	f("wants whole seconds, 0 to 65535", "-k", "20h")
	f("wants text or bytes", "--payload-format", "2")
	f("wants true or false", "--insecure=perhaps")
	f("wants 1.2, 1.3", "--tls-version", "1.4")
	f("-4 and -6 exclude each other", "-4", "-6")
	f("exclude each other", "-i", "a", "-I", "b")
	f("exclude each other", "--p12", "a", "--cert", "b")
	f("read CA certificate gone.pem: no such file", "--cafile", "gone.pem")
}
