package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/myelin-mqtt/myelin/internal/config"
)

// filled reads a command line of `myelin pub` as Run does, and fills in the rest.
func filled(env []string, args ...string) (*publisher, error) {
	p := Process{Env: env}
	x := newPublisher(p)
	c := x.command
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetFlagErrorFunc(flagError)
	c.RunE = func(c *cobra.Command, _ []string) error { return fill(c, p) }
	c.SetArgs(foldProperties(c, args))
	return x, c.ExecuteContext(context.Background())
}

// is says what a flag is, the values of a list with | between them.
func is(x *publisher, flag string) string {
	f := x.command.Flags().Lookup(flag)
	if v := f.Value.(*value); v.all != nil {
		return strings.ReplaceAll(strings.Join(v.all(), "|"), propertySep, ",")
	}
	return f.Value.String()
}

func clientYAML(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "client.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestStrength: a flag beats the command's name in the environment, that the
// general one, that the command's section, and that the section all.
func TestStrength(t *testing.T) {
	file := "MYELIN_CLIENT_CONFIG=" + clientYAML(t, "all:\n  id: all\n  username: all\n  topic: all\npub:\n  id: pub\n  topic: pub\n")
	f := func(flag, want string, env []string, args ...string) {
		t.Helper()
		c, err := filled(env, args...)
		if err != nil {
			t.Fatal(err)
		}
		if got := is(c, flag); got != want {
			t.Errorf("%v %v: --%s is %q, want %q", env, args, flag, got, want)
		}
	}
	f("id", "", nil)
	f("host", "localhost", nil)
	f("username", "all", []string{file})
	f("id", "pub", []string{file})
	f("id", "x", []string{file, "MYELIN_ID=x"})
	f("id", "y", []string{file, "MYELIN_ID=x", "MYELIN_PUB_ID=y"})
	f("id", "z", []string{file, "MYELIN_ID=x", "MYELIN_PUB_ID=y"}, "-i", "z")
	f("id", "pub", []string{file, "MYELIN_ID="})
	// What excludes something stronger is left alone, in the other direction too.
	f("host", "localhost", []string{"MYELIN_HOST=x"}, "-L", "mqtt://y/t")
	f("url", "", []string{"MYELIN_URL=mqtt://y"}, "-h", "x")
	f("host", "x", []string{"MYELIN_URL=mqtt://y"}, "-h", "x")
	f("message", "", []string{"MYELIN_MESSAGE=x"}, "-n")
	f("message", "x", []string{"MYELIN_MESSAGE=x"})
	// Lists are replaced, not added to.
	f("url", "mqtt://a|mqtt://b", []string{"MYELIN_URL=mqtt://a\nmqtt://b\n"})
	f("url", "mqtt://c", []string{"MYELIN_URL=mqtt://a\nmqtt://b\n"}, "-L", "mqtt://c")
	f("property", "publish content-type x", []string{"MYELIN_PROPERTY=publish content-type x"})
	// Kubernetes sets this where a service is called myelin.
	f("port", "0", []string{"MYELIN_PORT=tcp://10.0.0.1:1883"})
	f("port", "1884", []string{"MYELIN_PORT=1884"})
	// Names of the broker's settings are not the clients'.
	f("config", "", []string{"MYELIN_CONFIG=nothing.yaml"})
}

// TestClientFile: the file is found where it should be, and is in no other way
// read than through its sections.
func TestClientFile(t *testing.T) {
	home := t.TempDir()
	put := func(name, id string) {
		t.Helper()
		name = filepath.Join(home, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte("pub:\n  id: "+id+"\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	f := func(want string, env []string, args ...string) {
		t.Helper()
		c, err := filled(append(env, "HOME="+home), args...)
		if err != nil {
			t.Fatal(err)
		}
		if got := is(c, "id"); got != want {
			t.Errorf("%v %v: %q, want %q", env, args, got, want)
		}
	}
	f("", nil)
	put(".config/myelin/client.yaml", "home")
	put("xdg/myelin/client.yaml", "xdg")
	put("a.yaml", "a")
	put("b.yaml", "b")
	put("c.yaml", "c")
	xdg := "XDG_CONFIG_HOME=" + home + "/xdg"
	a, b := "MYELIN_CLIENT_CONFIG="+home+"/a.yaml", "MYELIN_PUB_CONFIG="+home+"/b.yaml"
	f("home", nil)
	f("xdg", []string{xdg})
	f("a", []string{xdg, a})
	f("b", []string{xdg, a, b})
	f("c", []string{xdg, a, b}, "--config", home+"/c.yaml")
	if _, err := filled(nil, "--config", home+"/gone.yaml"); err == nil || !strings.Contains(err.Error(), "cannot read the file") {
		t.Error(err)
	}
}

// TestClientFaults: everything that is wrong is told at once, the file's by line.
func TestClientFaults(t *testing.T) {
	file := clientYAML(t, `all:
  host: x
  hots: y
  url: mqtt://y
pub:
  qos: 7
  topic: [a, b]
  user_property: [a=1, b]
pup:
  qos: 1
pub: {}
`)
	_, err := filled([]string{"MYELIN_CLIENT_CONFIG=" + file, "MYELIN_PUB_QSO=1", "MYELIN_KEEPALIVE=soon", "MYELIN_WHATEVER=1"}, "-m", "x")
	var out bytes.Buffer
	code := report(&out, nil, err)
	const hint = "myelin: hint: `myelin help client-config` tells how settings are written\n"
	want := `myelin: error: FILE:3: unknown key "hots" in section all
myelin: hint: did you mean host?
myelin: error: FILE:4: it and FILE:2 exclude each other
myelin: hint: take one of them out
myelin: error: FILE:6: qos: wants a number of 0 to 2, got "7"
` + hint + `myelin: error: FILE:7: topic: wants one value, got a list
myelin: hint: write one
myelin: error: FILE:8: user_property: wants NAME=VALUE, got "b"
` + hint + `myelin: error: FILE:9: unknown section "pup"
myelin: hint: did you mean pub?
myelin: error: FILE:11: "pub" is there twice
myelin: hint: first given at line 5
myelin: error: MYELIN_PUB_QSO: no such setting
myelin: hint: did you mean MYELIN_PUB_QOS?
myelin: error: MYELIN_KEEPALIVE: keepalive: wants seconds, or a duration such as 1m30s, got "soon"
` + hint
	if got := strings.ReplaceAll(out.String(), file, "FILE"); got != want || code != exitUsage {
		t.Errorf("exit code %d, got\n%s\nwant\n%s", code, got, want)
	}
}

// TestSettingsText: the file that the help and docs/cli.md show is one.
func TestSettingsText(t *testing.T) {
	_, file, _ := strings.Cut(settingsText, "\n\n  all:")
	file, _, _ = strings.Cut(file, "\n\n")
	x, err := filled([]string{"MYELIN_CLIENT_CONFIG=" + clientYAML(t, "all:"+strings.ReplaceAll(file, "\n  ", "\n"))})
	if err != nil {
		t.Fatal(err)
	}
	if is(x, "host") != "broker.example" || is(x, "qos") != "1" || len(x.message.user) != 2 {
		t.Errorf("host %s, qos %s, user properties %v", is(x, "host"), is(x, "qos"), x.message.user)
	}
}

// TestOtherCommandsSections: a fault in another command's section is told, a
// right value there changes nothing here.
func TestOtherCommandsSections(t *testing.T) {
	for _, other := range clientCommands(Process{}) {
		if other.Name() == "pub" {
			continue
		}
		c, err := filled([]string{"MYELIN_CLIENT_CONFIG=" + clientYAML(t, other.Name()+":\n  id: other\n")})
		if err != nil || is(c, "id") != "" {
			t.Errorf("%s: %v, id %q", other.Name(), err, is(c, "id"))
		}
		_, err = filled([]string{"MYELIN_CLIENT_CONFIG=" + clientYAML(t, other.Name()+":\n  keepalive: soon\n")})
		if err == nil || !strings.Contains(err.Error(), "client.yaml:2: keepalive: wants seconds") {
			t.Errorf("%s: %v", other.Name(), err)
		}
	}
}

// TestNoSecretOnTheCommandLine: it is refused, and not repeated.
func TestNoSecretOnTheCommandLine(t *testing.T) {
	for _, args := range [][]string{
		{"-P", "hush"}, {"-Phush"}, {"--password", "hush"}, {"--pw=hush"}, {"--key-password", "hush"},
		{"-L", "mqtt://me:hush@localhost/t"}, {"-L", "mqtt://a/t", "-L", "wss://me:hush@b/mqtt"},
	} {
		_, err := filled(nil, args...)
		var out bytes.Buffer
		if code := report(&out, nil, err); code != exitUsage || !strings.Contains(out.String(), "on the command line") || strings.Contains(out.String(), "hush") {
			t.Errorf("%v: exit code %d, %s", args, code, out.String())
		}
	}
	for _, e := range []string{"MYELIN_PASSWORD=hush", "MYELIN_URL=mqtt://me:hush@localhost/t", "MYELIN_CLIENT_CONFIG=" + clientYAML(t, "all:\n  password: hush\n")} {
		if _, err := filled([]string{e}); err != nil {
			t.Errorf("%s: %v", e, err)
		}
	}
}

// TestNamesOfSettings: no flag of a client has the name in the environment of a
// setting of the broker, the letters are Mosquitto's, and each flag has its title.
func TestNamesOfSettings(t *testing.T) {
	var keys []string
	for _, k := range config.Keys() {
		keys = append(keys, k.Env)
	}
	for _, c := range clientCommands(Process{}) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if n := envName(envPrefix, f.Name); fromElsewhere(f) && slices.Contains(keys, n) {
				t.Errorf("%s: --%s would be %s, which is the broker's", c.Name(), f.Name, n)
			}
			if len(f.Annotations[annotGroup]) != 1 {
				t.Errorf("%s: --%s has titles %q", c.Name(), f.Name, f.Annotations[annotGroup])
			}
		})
		if c.Example == "" || c.Long == "" {
			t.Errorf("%s has no example, or no long text", c.Name())
		}
	}
	c := pubCommand(Process{})
	for letter, name := range map[string]string{
		"h": "host", "p": "port", "t": "topic", "m": "message", "f": "file", "l": "stdin-line", "s": "stdin-file", "n": "null-message", "q": "qos",
		"r": "retain", "u": "username", "i": "id", "I": "id-prefix", "k": "keepalive", "V": "protocol-version", "c": "disable-clean-session", "W": "wait",
		"L": "url", "x": "session-expiry-interval", "D": "property", "d": "debug", "A": "bind", "M": "max-inflight", "P": "password",
	} {
		if f := c.Flags().ShorthandLookup(letter); f == nil || f.Name != name {
			t.Errorf("-%s is not --%s", letter, name)
		}
	}
}

// TestServerIgnoresClients: what the environment has for clients is no fault of
// the broker's configuration, and what is for nobody is.
func TestServerIgnoresClients(t *testing.T) {
	env := serverEnv(Process{Env: []string{
		"MYELIN_HOST=x", "MYELIN_PUB_QOS=1", "MYELIN_PUB_NONSENSE=1", "MYELIN_PASSWORD=x", "MYELIN_CLIENT_CONFIG=x", "MYELIN_CONFIG=x", "MYELIN_IO=auto", "MYELIN_NONSENSE=1", "HOME=/",
	}})
	if want := []string{"MYELIN_CONFIG=x", "MYELIN_IO=auto", "MYELIN_NONSENSE=1", "HOME=/"}; !slices.Equal(env, want) {
		t.Errorf("%q", env)
	}
}
