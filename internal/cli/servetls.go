package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"sync"

	"github.com/myelin-mqtt/myelin/broker"
	"github.com/myelin-mqtt/myelin/internal/certs"
	"github.com/myelin-mqtt/myelin/internal/config"
)

// secured is the certificates of one listener with TLS.
type secured struct {
	url string
	set *certs.Set
}

// openCerts reads the certificates of all listeners. The error is a config.Faults
// with everything that is wrong with them.
func openCerts(cfg config.Config, log *slog.Logger) ([]secured, error) {
	var all []secured
	var faults config.Faults
	for _, l := range cfg.Listeners {
		if l.TLS == nil {
			continue
		}
		set, err := certs.Open(certOptions(l, log))
		if err == nil {
			all = append(all, secured{l.URL, set})
			continue
		}
		var fs certs.Faults
		errors.As(err, &fs)
		for _, f := range fs {
			where := f.File
			if where == "" {
				where = "listener " + l.URL
			}
			faults = append(faults, config.Fault{Where: where, What: f.What, Hint: f.Hint})
		}
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return all, nil
}

func certOptions(l config.Listener, log *slog.Logger) certs.Options {
	t := l.TLS
	o := certs.Options{
		ClientCA: t.ClientCA, Clients: clientCerts()[t.ClientCerts], CRL: t.CRL, Lenient: t.CRLMode == "lenient",
		MinVersion: tlsVersions()[t.MinVersion], MaxVersion: tlsVersions()[t.MaxVersion],
		Protocols: []string{"mqtt"}, Username: t.UsernameFrom, ClientID: t.ClientIDFrom,
		Interval: t.Reload, Logger: log, Name: l.URL,
	}
	if l.URL[0] == 'w' {
		o.Protocols = []string{"http/1.1"} // WebSocket begins with it
	}
	for i, c := range t.Cert {
		p := certs.Pair{Cert: c}
		if i < len(t.Key) {
			p.Key = t.Key[i]
		}
		if i < len(t.OCSP) {
			p.OCSP = t.OCSP[i]
		}
		o.Certificates = append(o.Certificates, p)
	}
	return o
}

func clientCerts() map[string]certs.Clients {
	return map[string]certs.Clients{"none": certs.None, "optional": certs.Optional, "required": certs.Required}
}

func tlsVersions() map[string]uint16 {
	return map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
}

// setsOf pairs the listeners of a configuration with the sets that there are; nil
// where there is none, which only a restart changes.
func (d *daemon) setsOf(c config.Config) []*certs.Set {
	free := append([]secured(nil), d.certs...)
	sets := make([]*certs.Set, len(c.Listeners))
	for i, l := range c.Listeners {
		for j, s := range free {
			if s.url == l.URL {
				sets[i], free = s.set, append(free[:j], free[j+1:]...)
				break
			}
		}
	}
	return sets
}

// secure adds the certificates to the broker's listeners.
func (d *daemon) secure(ls []broker.Listener, c config.Config) {
	for i, set := range d.setsOf(c) {
		switch l := c.Listeners[i]; {
		case l.TLS == nil:
		case set == nil: // a reload has it, and a restart opens it
			ls[i].TLS = &tls.Config{}
		default:
			ls[i].TLS, ls[i].Identify, ls[i].CertificateEnd = set.Config(), set.Identify, set.NotAfter
		}
	}
}

// reloadCerts reads the certificates of all listeners again, with the settings of
// a new configuration. A set with a fault stays as it was; the set logs it.
func (d *daemon) reloadCerts(next config.Config) (all bool) {
	all = true
	for i, set := range d.setsOf(next) {
		if set != nil && set.Use(certOptions(next.Listeners[i], d.log)) != nil {
			all = false
		}
	}
	return all
}

// watchCerts starts a goroutine for each set that looks at its files. The function
// that it returns ends them and waits for them.
func (d *daemon) watchCerts() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, s := range d.certs {
		wg.Go(func() { s.set.Watch(ctx) })
	}
	return func() {
		cancel()
		wg.Wait()
	}
}
