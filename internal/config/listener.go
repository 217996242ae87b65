package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/myelin-mqtt/myelin/internal/certs"
)

// listeners reads the list of listeners, each a URL, or a mapping with a url and
// what else the listener has.
func (f file) listeners(k Key, n *yaml.Node) {
	const try = "write a list of lines such as `- tcp://127.0.0.1:1883`"
	if n.Kind != yaml.SequenceNode {
		f.fault(n, "listeners: wants a list, got "+describe(n), try)
		return
	}
	if len(n.Content) == 0 {
		f.fault(n, "listeners: the list is empty", try)
		return
	}
	f.begin(k, fromFile)
	for _, item := range n.Content {
		switch {
		case item.Kind == yaml.ScalarNode && item.ShortTag() == "!!str":
			f.put(k, item.Value, f.at(item))
		case item.Kind == yaml.MappingNode:
			f.listener(k, item)
		default:
			f.fault(item, "listeners: wants a URL, or `url: ...`, in each item, got "+describe(item), try)
		}
	}
}

// listener reads one with more than its URL.
func (f file) listener(k Key, item *yaml.Node) {
	var own, access *section
	before, urls := len(f.cfg.Listeners), 0
	f.pairs(item, "a listener", func(key, val *yaml.Node) {
		switch {
		case key.Value == "tls":
			own = f.ownSection("tls", key, val)
		case key.Value == "access":
			access = f.ownSection("access", key, val)
		case key.Value != "url":
			urls++ // as it was meant, maybe
			f.fault(key, "unknown key "+quote(key.Value)+" of a listener", meant(key.Value, []string{"url", "tls", "access"}, "a listener has `url`, `tls` and `access`"))
		case val.Kind != yaml.ScalarNode || val.ShortTag() != "!!str":
			urls++
			f.fault(val, "listeners: url wants text, got "+describe(val), "write a URL such as tcp://127.0.0.1:1883")
		default:
			urls++
			f.put(k, val.Value, f.at(val))
		}
	})
	if urls == 0 {
		f.fault(item, "listeners: an item without `url`", "add `url: tcp://127.0.0.1:1883` to it, or take it out")
	}
	if len(f.cfg.Listeners) > before {
		f.own[len(f.own)-1], f.access[len(f.access)-1] = own, access
	}
}

// ownSection reads a section of a listener: the keys of the section of that name.
func (f file) ownSection(name string, key, val *yaml.Node) *section {
	s := &section{at: f.at(key)}
	if isNull(val) {
		return s // all its keys are commented out
	}
	f.pairs(val, "section "+name+" of a listener", func(key, val *yaml.Node) {
		k, ok := f.key(name + "." + key.Value)
		if !ok {
			f.unknown(key, name)
			return
		}
		k.clear(&s.cfg)
		for _, v := range f.values(k, val) {
			if what, hint := k.set(&s.cfg, v); what != "" {
				f.fault(val, what, hint)
			}
		}
		s.keys = append(s.keys, k)
	})
	return s
}

// settleAccess gives each listener with a section access what that leaves out.
func (l *loader) settleAccess() {
	for i, own := range l.access {
		if own == nil {
			continue
		}
		merged := l.cfg
		for _, k := range own.keys {
			reflect.ValueOf(k.field(&merged)).Elem().Set(reflect.ValueOf(k.field(&own.cfg)).Elem())
		}
		a := merged.Access
		l.cfg.Listeners[i].Access = &a
	}
}

// checkPrefix says what is wrong with an address or a network.
func checkPrefix(name, v string) (what, hint string) {
	if _, err := ParsePrefix(v); err != nil {
		return name + ": " + quote(v) + " is no address and no network", "write such as 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32"
	}
	return "", ""
}

// ParsePrefix reads an address, or a network with the length of its prefix.
func ParsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, err
	}
	return p.Masked(), nil
}

// settleTLS gives each listener with TLS its settings: those of section tls, but
// for what its own section has. A certificate of its own comes with a key of its
// own.
func (l *loader) settleTLS() {
	for i := range l.cfg.Listeners {
		n := &l.cfg.Listeners[i]
		var own *section
		o := origin{where: "listeners"}
		if i < len(l.own) {
			own, o = l.own[i], l.origin[i]
		}
		if !n.secure() {
			if own != nil {
				l.fault(own.at, fmt.Sprintf("listeners: %s has no TLS, but a section for it", quote(n.URL)), "write tls:// for tcp://, and wss:// for ws://")
			}
			continue
		}
		merged := l.cfg
		if own != nil {
			if slices.ContainsFunc(own.keys, func(k Key) bool { return k.Name == "tls.cert" }) {
				merged.TLS.Key, merged.TLS.OCSP = nil, nil
			}
			for _, k := range own.keys {
				reflect.ValueOf(k.field(&merged)).Elem().Set(reflect.ValueOf(k.field(&own.cfg)).Elem())
			}
			o = own.at
		}
		t := merged.TLS
		n.TLS = &t
		l.checkTLS(o, n)
	}
}

func (n Listener) secure() bool {
	return strings.HasPrefix(n.URL, "tls:") || strings.HasPrefix(n.URL, "wss:")
}

// checkTLS finds what only the settings together show.
func (l *loader) checkTLS(o origin, n *Listener) {
	t := n.TLS
	bad := func(what, hint string) { l.fault(o, "listeners: "+quote(n.URL)+" "+what, hint) }
	switch k, c, s := len(t.Key), len(t.Cert), len(t.OCSP); {
	case c == 0:
		bad("has no certificate", "give `cert` and `key` in a section `tls`, of the listener or for all, or with --tls-cert and --tls-key")
	case slices.Contains(t.Cert, "") || slices.Contains(t.Key, ""):
		bad("has a certificate or a key without a name", "name the file")
	case k > 0 && k != c:
		bad(fmt.Sprintf("has %d certificates and %d keys", c, k), "give one key for each certificate, in the same order, or none where they stand in the certificates' files")
	case s > 0 && s != c:
		bad(fmt.Sprintf("has %d certificates and %d OCSP answers", c, s), `give one for each certificate, in the same order, "" where there is none`)
	}
	switch {
	case t.ClientCerts != "none" && t.ClientCA == "":
		bad("asks clients for certificates and knows no authority", "name its file as `client_ca`")
	case t.ClientCerts == "none" && (t.ClientCA != "" || len(t.CRL) > 0 || t.UsernameFrom != "" || t.ClientIDFrom != ""):
		bad("has settings for clients' certificates and asks for none", "write required or optional for `client_certs`")
	}
	if t.MaxVersion < t.MinVersion {
		bad("has a max_version below its min_version", "")
	}
}

// checkTemplate says what is wrong with a template over a certificate.
func checkTemplate(name, v string) (what, hint string) {
	if v == "" {
		return "", ""
	}
	if _, err := certs.ParseTemplate(v); err != nil {
		return name + ": " + err.Error(), "write a field, such as cn, or a text with fields in braces, such as {ou}/{cn}"
	}
	return "", ""
}
