package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var rewrite = flag.Bool("rewrite", false, "write the expected reports and docs/configuration.md anew; read the diff before you commit it")

// TestInvalidFiles reads each testdata/invalid-*.yaml and compares the whole
// report with the .want beside it.
func TestInvalidFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/invalid-*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("found %d files, %v", len(files), err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Chdir("testdata")
			_, faults := Load(filepath.Base(name), nil, nil)
			golden(t, strings.TrimSuffix(filepath.Base(name), ".yaml")+".want", report(faults))
			if len(faults) == 0 {
				t.Error("no fault found")
			}
		})
	}
}

func report(fs Faults) string {
	var b strings.Builder
	for _, f := range fs {
		fmt.Fprintln(&b, f)
		if f.Hint != "" {
			fmt.Fprintln(&b, "    "+f.Hint)
		}
	}
	return b.String()
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (run with -rewrite to make it)", err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s differs (-want +got), run with -rewrite if it should:\n%s", file, d)
	}
}

func TestDocsAreUpToDate(t *testing.T) {
	golden(t, "../../docs/configuration.md", Markdown())
}

func TestNothingGivenIsTheDefault(t *testing.T) {
	t.Chdir(t.TempDir())
	const empty, sections = "empty.yaml", "sections.yaml"
	write(t, empty, "# nothing\n")
	write(t, sections, "limits:\nqueue:\n  # max_messages: 3\n")
	for _, file := range []string{"", empty, sections} {
		got, faults := Load(file, []string{"HOME=/root", "MYELIN_IO=", "MYELIN_LISTEN="}, nil)
		if len(faults) > 0 {
			t.Errorf("%q: %v", file, faults)
		}
		if d := cmp.Diff(Default(), got); d != "" {
			t.Errorf("%q (-want +got):\n%s", file, d)
		}
	}
}

// TestExampleIsTheDefault: the file of the documentation loads, and says what
// the program does without it.
func TestExampleIsTheDefault(t *testing.T) {
	t.Chdir(t.TempDir())
	const file = "myelin.yaml"
	write(t, file, Example())
	got, faults := Load(file, nil, nil)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if d := cmp.Diff(Default(), got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestKeysCoverConfig: every field of Config is the place of exactly one key.
func TestKeysCoverConfig(t *testing.T) {
	var c Config
	places := map[any]string{}
	for _, k := range Keys() {
		p := k.field(&c)
		if other, taken := places[p]; taken {
			t.Errorf("%s and %s set the same field", k.Name, other)
		}
		places[p] = k.Name
	}
	fields := leaves(reflect.ValueOf(&c).Elem())
	if len(fields) != len(places) {
		t.Errorf("%d fields, %d keys", len(fields), len(places))
	}
	for name, p := range fields {
		if places[p] == "" {
			t.Errorf("no key sets %s", name)
		}
	}
}

func leaves(v reflect.Value) map[string]any {
	all := map[string]any{}
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		if f.Kind() != reflect.Struct {
			all[name] = f.Addr().Interface()
			continue
		}
		for sub, p := range leaves(f) {
			all[name+"."+sub] = p
		}
	}
	return all
}

func TestKeyNames(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Keys() {
		for _, n := range []string{k.Name, k.Env, "--" + k.Flag} {
			if seen[n] {
				t.Errorf("%s is there twice", n)
			}
			seen[n] = true
		}
		if foreignEnv(k.Env) {
			t.Errorf("%s is taken for a name of Kubernetes", k.Env)
		}
		if k.Doc == "" || !strings.HasSuffix(k.Doc, ".") || strings.Contains(k.Doc, "|") {
			t.Errorf("%s: documentation %q", k.Name, k.Doc)
		}
		if k.Kind == Word && !strings.Contains(" "+strings.Join(k.Values, " ")+" ", " "+k.Default()+" ") {
			t.Errorf("%s: the default %q is not a choice", k.Name, k.Default())
		}
	}
}

// TestEachKeyFromEachSource sets every key to something else than its default
// from the file, the environment and a flag in turn.
func TestEachKeyFromEachSource(t *testing.T) {
	t.Chdir(t.TempDir())
	const file = "myelin.yaml"
	for _, k := range Keys() {
		v := other(k)
		want := Default()
		if k.Kind == URLs {
			want.Listeners = nil
		}
		if what, hint := k.set(&want, v); what != "" {
			t.Fatalf("%s, %s", what, hint)
		}
		write(t, file, yamlOf(k, v))
		from := map[string]func() (Config, Faults){
			"file":        func() (Config, Faults) { return Load(file, nil, nil) },
			"environment": func() (Config, Faults) { return Load("", []string{k.Env + "=" + v}, nil) },
			"flag":        func() (Config, Faults) { return Load("", nil, []Flag{{k.Flag, v}}) },
		}
		for source, load := range from {
			got, faults := load()
			if len(faults) > 0 {
				t.Errorf("%s from the %s: %v", k.Name, source, faults)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s from the %s (-want +got):\n%s", k.Name, source, d)
			}
			if changed := Changed(Default(), got); len(changed) != 1 || changed[0] != k.Name {
				t.Errorf("%s from the %s changes %v", k.Name, source, changed)
			}
		}
	}
}

// TestDataStandsBesideTheFile: a relative path counts from the folder of the
// file, unless the environment or a flag names it.
func TestDataStandsBesideTheFile(t *testing.T) {
	dir := t.TempDir()
	bare, named := filepath.Join(dir, "bare.yaml"), filepath.Join(dir, "named.yaml")
	write(t, bare, "loops: 1\n")
	write(t, named, "data: state/here\n")
	for _, x := range []struct {
		file, env, flag, want string
	}{
		{want: "myelin-data"},
		{file: bare, want: filepath.Join(dir, "myelin-data")},
		{file: named, want: filepath.Join(dir, "state/here")},
		{file: named, env: "e", want: "e"},
		{file: bare, env: "e", flag: "f", want: "f"},
		{file: bare, flag: "/var/lib/myelin", want: "/var/lib/myelin"},
	} {
		var flags []Flag
		if x.flag != "" {
			flags = []Flag{{"data", x.flag}}
		}
		c, faults := Load(x.file, []string{"MYELIN_DATA=" + x.env}, flags)
		if len(faults) > 0 || c.Data != x.want {
			t.Errorf("%+v: %q %v", x, c.Data, faults)
		}
	}
	if _, faults := Load("", nil, []Flag{{"data", ""}}); len(faults) != 1 {
		t.Errorf("no directory at all: %v", faults)
	}
}

// other is a value that is not the default.
func other(k Key) string {
	switch k.Kind {
	case Switch:
		return map[string]string{"true": "false", "false": "true"}[k.Default()]
	case Word:
		for _, v := range k.Values {
			if v != k.Default() {
				return v
			}
		}
	case Count:
		return "17"
	case Bytes:
		return "123KiB"
	case Span:
		return "17s"
	case URLs:
		return "tcp://localhost:1"
	case Text:
		if strings.HasSuffix(k.Name, "_from") {
			return "san.dns"
		}
	case Texts:
		if strings.HasPrefix(k.Name, "access.") {
			return "192.0.2.0/24"
		}
	case Words:
		return k.Values[1] + "," + k.Values[0]
	}
	return "127.0.0.1:6060" // would do as a path, too
}

func yamlOf(k Key, v string) string {
	s, n := k.section()
	switch {
	case k.Kind == Words:
		v = "[" + v + "]"
		fallthrough
	case k.Kind != URLs && s != "":
		return s + ":\n  " + n + ": " + v + "\n"
	case k.Kind == URLs:
		return n + ":\n  - url: " + v + "\n"
	}
	return n + ": " + v + "\n"
}

func TestPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "myelin.yaml")
	write(t, file, "loops: 1\nlisteners:\n  - url: tcp://file:1\n  - url: tcp://file:2\n")
	env := []string{"MYELIN_LOOPS=2", "MYELIN_LISTEN=tcp://env:1, tcp://env:2"}
	flags := []Flag{{"loops", "3"}, {"listen", "tcp://flag:1"}, {"listen", "tcp://flag:2"}}
	f := func(file string, env []string, flags []Flag, loops int, urls string) {
		t.Helper()
		c, faults := Load(file, env, flags)
		var us []string
		for _, n := range c.Listeners {
			us = append(us, n.URL)
		}
		if c.Loops != loops || strings.Join(us, " ") != urls || len(faults) > 0 {
			t.Errorf("loops %d, listeners %v, faults %v; want %d, %s", c.Loops, us, faults, loops, urls)
		}
	}
	f(file, nil, nil, 1, "tcp://file:1 tcp://file:2")
	f(file, env, nil, 2, "tcp://env:1 tcp://env:2")
	f(file, env, flags, 3, "tcp://flag:1 tcp://flag:2")
	f(file, nil, flags[:2], 3, "tcp://flag:1")
	f("", env, flags[:1], 3, "tcp://env:1 tcp://env:2")
}

// TestAccessOfListeners: a listener's own section beats section access, key by key.
func TestAccessOfListeners(t *testing.T) {
	file := filepath.Join(t.TempDir(), "myelin.yaml")
	write(t, file, `
access:
  deny: 192.0.2.66
  rate: 100
listeners:
  - tcp://:1883
  - url: tcp://:1884
    access:
      allow: [10.0.0.0/8, "2001:db8::/32"]
      rate_per_address: 5
      deny: []
`)
	got, faults := Load(file, nil, nil)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	want := []Listener{{URL: "tcp://:1883"}, {URL: "tcp://:1884", Access: &Access{Allow: []string{"10.0.0.0/8", "2001:db8::/32"}, Rate: 100, RatePerAddr: 5}}}
	if d := cmp.Diff(want, got.Listeners); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if d := cmp.Diff(Access{Deny: []string{"192.0.2.66"}, Rate: 100}, got.Access); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	for _, bad := range []string{"10.0.0.0/33", "host", "fe80::1%eth0", "10.0.0"} {
		write(t, file, "access:\n  allow: [10.0.0.1, \""+bad+"\"]\n")
		if _, faults := Load(file, nil, nil); len(faults) != 1 || !strings.Contains(faults.Error(), bad) {
			t.Errorf("%s: %v", bad, faults)
		}
	}
}

// TestTLSOfListeners: a listener's own section beats section tls, key by key, and
// its certificate comes with its own key; files count from the configuration's.
func TestTLSOfListeners(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "myelin.yaml")
	write(t, file, `
tls:
  cert: [a.crt, /etc/b.crt]
  key: [a.key, b.key]
  client_ca: ca.crt
  client_certs: optional
listeners:
  - tcp://:1883
  - tls://:8883
  - url: wss://:8884
    tls:
      client_certs: required
      username_from: cn
      max_version: "1.2"
      crl: revoked.crl
      reload: 0
  - url: tls://:8885
    tls:
      cert: c.pem
      client_certs: none
      client_ca: ""
`)
	in := func(names ...string) (paths []string) {
		for _, n := range names {
			paths = append(paths, filepath.Join(dir, n))
		}
		return paths
	}
	section := Default().TLS
	section.Cert, section.Key = []string{filepath.Join(dir, "a.crt"), "/etc/b.crt"}, in("a.key", "b.key")
	section.ClientCA, section.ClientCerts = filepath.Join(dir, "ca.crt"), "optional"
	second, third := section, section
	second.ClientCerts, second.UsernameFrom, second.MaxVersion, second.CRL, second.Reload = "required", "cn", "1.2", in("revoked.crl"), 0
	third.Cert, third.Key, third.ClientCerts, third.ClientCA = in("c.pem"), nil, "none", ""
	want := []Listener{{URL: "tcp://:1883"}, {URL: "tls://:8883", TLS: &section}, {URL: "wss://:8884", TLS: &second}, {URL: "tls://:8885", TLS: &third}}
	got, faults := Load(file, nil, nil)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if d := cmp.Diff(want, got.Listeners); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	// In the environment and as flags: for all listeners that have none of their own.
	section.Cert, section.Key, section.ClientCA = []string{"x.crt", "y.crt"}, []string{"x.key", "y.key"}, filepath.Join(dir, "ca.crt")
	got, faults = Load(file, []string{"MYELIN_TLS_CERT=x.crt, y.crt", "MYELIN_TLS_KEY=z.key"}, []Flag{{"tls-key", "x.key"}, {"tls-key", "y.key"}, {"listen", "tls://:1"}})
	if d := cmp.Diff([]Listener{{URL: "tls://:1", TLS: &section}}, got.Listeners); d != "" || len(faults) > 0 {
		t.Errorf("%v (-want +got):\n%s", faults, d)
	}
}

// TestAllSourcesReportTogether: a fault of one source hides none of another.
func TestAllSourcesReportTogether(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "m.yaml", "loops: many\nlisteners:\n  - url: tcp://127.0.0.1:1\n")
	_, faults := Load("m.yaml",
		[]string{"MYELIN_QEUE_POLICY=refuse", "MYELIN_CONFIG=m.yaml", "MYELIN_SERVICE_HOST=10.0.0.1", "MYELIN_PORT_1883_TCP=x", "MYELIN_IO=epoll"},
		[]Flag{{"limits-receive-maximum", "0"}, {"listen", "tcp://a:1"}, {"listen", "ws://a:1/x"}, {"loop", "1"}})
	want := `m.yaml:1: loops: wants a whole number, got the text "many"
    write digits without quotes, such as 0
MYELIN_IO: io: "epoll" is not a choice
    write one of auto, reactor, goroutine
MYELIN_QEUE_POLICY: no such setting
    did you mean MYELIN_QUEUE_POLICY?
--limits-receive-maximum: limits.receive_maximum: "0" is out of range
    write 1 to 65535
--loop: no such setting
    did you mean loops?
--listen: listeners: "ws://a:1/x" is there twice
    first given by --listen
`
	if d := cmp.Diff(want, report(faults)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestUnreadableFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "big.yaml", strings.Repeat("#\n", maxFile))
	f := func(file, want string) {
		t.Helper()
		if _, faults := Load(file, nil, nil); faults.Error() != want {
			t.Errorf("got %q, want %q", faults.Error(), want)
		}
	}
	f("gone.yaml", "gone.yaml: cannot read the file: no such file or directory")
	f(".", ".: cannot read the file: is a directory")
	f("big.yaml", "big.yaml: the file is larger than 1MiB")
}

func TestSizes(t *testing.T) {
	f := func(in string, want int64, shown string) {
		t.Helper()
		got, ok := parseSize(in)
		if !ok || got != want || Size(got).String() != shown {
			t.Errorf("%q is %d, %v, shown %s; want %d, shown %s", in, got, ok, Size(got), want, shown)
		}
	}
	f("0", 0, "0")
	f("512", 512, "512")
	f("512B", 512, "512")
	f("64KiB", 65536, "64KiB")
	f("64 KiB", 65536, "64KiB")
	f("1kB", 1000, "1kB")
	f("1KB", 1000, "1kB")
	f("2048", 2048, "2KiB")
	f("1MB", 1_000_000, "1MB")
	f("3GiB", 3<<30, "3GiB")
	for _, bad := range []string{"", "B", "-1", "1.5MiB", "64k", "64K", "9999999999GiB", "MiB", "0x10", "1 2"} {
		if n, ok := parseSize(bad); ok {
			t.Errorf("%q is %d", bad, n)
		}
	}
}

func TestSpans(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0", time.Second: "1s", 90 * time.Second: "1m30s", time.Minute: "1m", time.Hour: "1h",
		10 * time.Millisecond: "10ms", 24 * time.Hour: "24h", time.Hour + time.Second: "1h0m1s",
	} {
		if got := formatSpan(d); got != want {
			t.Errorf("%v is written %s, want %s", d, got, want)
		}
		if back, err := time.ParseDuration(want); err != nil || back != d {
			t.Errorf("%s is read as %v, %v", want, back, err)
		}
	}
}

func TestURLs(t *testing.T) {
	for _, good := range []string{
		"tcp://127.0.0.1:1883", "tcp://[::1]:1883", "tcp://:1883", "tcp://localhost:0", "ws://127.0.0.1:8083", "ws://h:1/mqtt/x",
		"unix:///run/myelin.sock", "tls://:8883", "wss://h:1/mqtt",
	} {
		if what, _ := checkURL(good); what != "" {
			t.Errorf("%s: %s", good, what)
		}
	}
	for _, bad := range []string{
		"", "127.0.0.1:1883", "1883", "tcp://127.0.0.1", "tcp://127.0.0.1:", "tcp://h:70000", "tcp://h:1/x", "tcp://u@h:1", "ws://h:1?x=1", "ws://h",
		"unix://run/x", "unix:///", "unix://", "mqtt://h:1883", "mqtts://h:1", "ssl://h:1", "wss://h", "tls://h:1/x", "http://h:1", "tcp://h:x", "tcp://[::1:1883", "tcp:// h:1",
	} {
		if what, hint := checkURL(bad); what == "" || hint == "" {
			t.Errorf("%q: %q, %q", bad, what, hint)
		}
	}
}

func TestPprofOnLoopbackOnly(t *testing.T) {
	for v, good := range map[string]bool{
		"": true, "127.0.0.1:6060": true, "127.8.9.1:0": true, "[::1]:6060": true, "localhost:6060": true,
		":6060": false, "0.0.0.0:6060": false, "10.0.0.1:6060": false, "example.com:6060": false, "127.0.0.1": false, "[::]:1": false,
	} {
		if what, _ := checkPprof(v); (what == "") != good {
			t.Errorf("%q: %q", v, what)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"max_connections", "max_inflight", "io", "loops", "url"}
	for in, want := range map[string]string{
		"max_conections": "max_connections", "max_infligth": "max_inflight", "loop": "loops", "ulr": "url", "oi": "io",
		"banana": "", "x": "", "": "",
		strings.Repeat("max_connections", 1000): "",
	} {
		if got := Nearest(in, names); got != want {
			t.Errorf("%.20s: got %q, want %q", in, got, want)
		}
	}
}

// FuzzLoad: whatever a file holds, loading it ends, and each fault has a place
// and says something.
func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yaml")
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(Example()))
	file := filepath.Join(f.TempDir(), "fuzz.yaml")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, faults := Load(file, nil, nil)
		for _, fault := range faults {
			if fault.What == "" || !strings.HasPrefix(fault.Where, file) {
				t.Errorf("%+v", fault)
			}
		}
		if len(faults) == 0 && len(c.Listeners) == 0 {
			t.Error("no listener and no fault")
		}
	})
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
