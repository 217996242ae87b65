package cli

import (
	"io"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/myelin-mqtt/myelin/broker"
	"github.com/myelin-mqtt/myelin/internal/config"
)

// own are the keys that this package acts on itself; the scripts of cmd/myelin
// show what they do.
var own = []string{"pprof", "log.level", "log.format", "authorization.policy", "authorization.format"}

func isOwn(k config.Key) bool {
	return slices.Contains(own, k.Name) || strings.HasPrefix(k.Name, "tls.") || strings.HasPrefix(k.Name, "authentication.")
}

// TestEveryKeyHasAnEffect: each setting, changed alone, changes the broker's
// options, or is one that this package acts on.
func TestEveryKeyHasAnEffect(t *testing.T) {
	before := options(config.Default())
	for _, k := range config.Keys() {
		after := options(changed(t, k))
		if same, ours := reflect.DeepEqual(before, after), isOwn(k); same != ours {
			t.Errorf("%s: options stay the same: %v, handled here: %v", k.Name, same, ours)
		}
	}
}

// TestReloadAccountsForEveryKey: whatever a person changes in the file, a reload
// says that it is in effect, or that it needs a restart, and not both.
func TestReloadAccountsForEveryKey(t *testing.T) {
	for _, k := range config.Keys() {
		if isOwn(k) {
			continue
		}
		before, after := config.Default(), changed(t, k)
		switch before.Data = t.TempDir(); k.Name {
		case "data":
		case "durability":
			after.Data = before.Data
		default:
			after.Data, before.Durability, after.Durability = before.Data, "memory", "memory"
		}
		b := newBroker(t, before)
		applied, fixed, err := b.Reload(quiet(after))
		if err != nil {
			t.Errorf("%s: %v", k.Name, err)
		}
		if now, later := slices.Contains(keysOf(applied), k.Name), slices.Contains(keysOf(fixed), k.Name); now == later || later != k.Fixed {
			t.Errorf("%s: applied %v, needs restart %v; its key says fixed: %v", k.Name, applied, fixed, k.Fixed)
		}
	}
}

// TestLinksNameKeys: a link to a key that does not exist would never be used.
func TestLinksNameKeys(t *testing.T) {
	for _, l := range links() {
		if !slices.ContainsFunc(config.Keys(), func(k config.Key) bool { return k.Name == l.key }) {
			t.Errorf("no key %s", l.key)
		}
	}
}

// TestDefaultsAreTheBrokers: the program without configuration and the package
// without options are the same broker, but for the disk, which a program that
// embeds one has to name.
func TestDefaultsAreTheBrokers(t *testing.T) {
	c := config.Default()
	if c.Data == "" || c.Durability != "fsync" {
		t.Errorf("by default the program keeps in %q with %s", c.Data, c.Durability)
	}
	c.Data, c.Durability = "", "memory"
	b := newBroker(t, c)
	o := broker.Options{NoListeners: true, IO: "auto", Logger: slog.New(slog.DiscardHandler)}
	applied, fixed, err := b.Reload(o)
	if err != nil {
		t.Fatal(err)
	}
	// The test's broker has no listeners, and so have these options.
	fixed = slices.DeleteFunc(fixed, func(name string) bool { return name == "listeners" })
	if len(applied) > 0 || len(fixed) > 0 {
		t.Errorf("these differ: %v %v", applied, fixed)
	}
	var urls []broker.Listener
	for _, l := range config.Default().Listeners {
		urls = append(urls, broker.Listener{URL: l.URL})
	}
	if !reflect.DeepEqual(urls, broker.DefaultListeners()) {
		t.Errorf("listeners %v, the broker's are %v", urls, broker.DefaultListeners())
	}
}

// TestWordsAreTheBrokers: every word of the configuration has its constant.
func TestWordsAreTheBrokers(t *testing.T) {
	for _, k := range config.Keys() {
		for _, v := range k.Values {
			known := true
			switch k.Name {
			case "queue.policy":
				_, known = policies()[v]
			case "shared.strategy":
				_, known = strategies()[v]
			case "log.level":
				_, known = levels()[v]
			case "tls.client_certs":
				_, known = clientCerts()[v]
			case "tls.min_version", "tls.max_version":
				_, known = tlsVersions()[v]
			}
			if !known {
				t.Errorf("%s: no constant for %s", k.Name, v)
			}
		}
	}
}

// changed is the default configuration with another value of one key.
func changed(t *testing.T, k config.Key) config.Config {
	t.Helper()
	v := map[config.Kind]string{
		config.Count: "17", config.Bytes: "123KiB", config.Span: "17s", config.URLs: "unix:///run/x.sock", config.Text: "127.0.0.1:1", config.Words: "anonymous",
	}[k.Kind]
	switch k.Kind {
	case config.Text:
		if strings.HasSuffix(k.Name, "_from") {
			v = "cn"
		}
	case config.Texts:
		v = "a.pem"
		if strings.HasPrefix(k.Name, "access.") {
			v = "192.0.2.0/24"
		}
	case config.Switch:
		v = map[string]string{"true": "false", "false": "true"}[k.Default()]
	case config.Word:
		v = k.Values[slices.IndexFunc(k.Values, func(v string) bool { return v != k.Default() })]
	}
	c, faults := config.Load("", nil, []config.Flag{{Name: k.Flag, Value: v}})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return c
}

func newBroker(t *testing.T, c config.Config) *broker.Broker {
	t.Helper()
	b, err := broker.New(quiet(c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func quiet(c config.Config) broker.Options {
	o := options(c)
	o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	return o
}
