package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/myelin-mqtt/myelin/broker"
	"github.com/myelin-mqtt/myelin/internal/acl"
	"github.com/myelin-mqtt/myelin/internal/auth"
	"github.com/myelin-mqtt/myelin/internal/config"
	"github.com/myelin-mqtt/myelin/internal/control"
)

func serveCommand(p Process) *cobra.Command {
	var s settings
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the broker",
		Long: "Run the broker until SIGTERM or SIGINT. A second signal kills it.\n\n" +
			"Without configuration it listens on tcp://127.0.0.1:1883 and ws://127.0.0.1:8083/mqtt only.\n" +
			"Each flag has a key in the file and a name in the environment, which `myelin config check` reads, too:\n" +
			"--limits-max-inflight is max_inflight in section limits, and MYELIN_LIMITS_MAX_INFLIGHT.\n" +
			"SIGHUP reads the file again.",
		Example: "  myelin serve\n" +
			"  myelin serve --listen tcp://:1883 --listen unix:///run/myelin.sock\n" +
			"  myelin serve --config myelin.yaml --log-level debug",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := s.load()
			if err != nil {
				return err
			}
			return serve(c.Context(), cfg, s.load, p)
		},
	}
	s.withFile(c, p)
	s.withKeys(c)
	return c
}

// serve wires the daemon and runs it until ctx ends. Things stop in the
// reverse of the order in which they start: the profile covers all, and a
// reload can only come while the broker is there.
func serve(ctx context.Context, cfg config.Config, load func() (config.Config, error), p Process) (err error) {
	profile, err := startProfile(p.Env)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, profile.stop()) }()
	ready, undo := tuneGC(p.Env)
	defer undo()

	level := new(slog.LevelVar)
	level.Set(levels()[cfg.Log.Level])
	log := newLogger(p.Stderr, cfg.Log.Format, level)
	build := p.Build.withDefaults()
	log.Info("starting", "version", build.Version, "commit", build.Commit)
	secured, err := openCerts(cfg, log)
	if err != nil {
		return err
	}
	if err := openData(cfg, log); err != nil {
		return err
	}

	gate, err := openGate(cfg, log)
	if err != nil {
		return err
	}
	defer closeGate(gate)
	if gate == nil {
		log.Info("anybody may connect: section authentication names no methods")
	}

	d := &daemon{gate: gate, log: log, level: level, load: load, started: cfg, current: cfg, version: build.Version, certs: secured}
	if err := d.openRules(cfg); err != nil {
		return err
	}
	d.broker, err = broker.New(d.options(cfg))
	if err != nil {
		return withDataHint(err, cfg.Data)
	}
	ready()
	defer keepTidy(p.Env)()
	debug, err := startPprof(cfg.Pprof, log)
	if err != nil {
		d.broker.Close()
		return err
	}
	defer debug.stop()
	defer d.openControl(ctx)()
	defer d.watchCerts()()
	defer d.reloadOn(syscall.SIGHUP)()
	defer watchGate(gate)()

	if err := d.broker.Serve(ctx); err != nil {
		return withListenHint(err)
	}
	log.Info("stopped")
	return nil
}

func newLogger(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

func levels() map[string]slog.Level {
	return map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
}

// daemon is a running broker and what a reload needs.
type daemon struct {
	broker  *broker.Broker
	gate    *auth.Gate // nil: everybody may connect
	log     *slog.Logger
	level   *slog.LevelVar
	load    func() (config.Config, error)
	version string
	certs   []secured
	rules   *acl.Authorizer // nil: everybody may everything

	started config.Config // what it was started with
	current config.Config // the last that was loaded; the reload goroutine's
}

// openControl serves the control socket where there is a data directory. It ends
// with ctx, before the broker lets go of the directory, and at the latest when
// the function that it returns is called. Without the socket the broker does
// its work all the same.
func (d *daemon) openControl(ctx context.Context) (stop func()) {
	if d.started.Durability == "memory" {
		return func() {}
	}
	c, err := control.Serve(d.broker, control.Options{
		Dir: d.started.Data, Durability: d.started.Durability, Version: d.version, Logger: d.log,
	})
	if err != nil {
		d.log.Warn("`myelin store` cannot reach this broker while it runs", "err", err)
		return func() {}
	}
	end := context.AfterFunc(ctx, c.Close)
	return func() {
		end()
		c.Close()
	}
}

func (d *daemon) options(c config.Config) broker.Options {
	o := options(c)
	o.Logger = d.log
	if d.gate != nil {
		o.Authenticator = d.gate
	}
	if d.rules != nil {
		o.Authorizer = d.rules
	}
	o.Version = "myelin version " + d.version
	d.secure(o.Listeners, c)
	return o
}

// reloadOn starts a goroutine that reloads at each signal. The function that it
// returns ends it and waits for it.
func (d *daemon) reloadOn(s os.Signal) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, s)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-signals:
				d.reload()
				d.reloadRules()
			case <-done:
				return
			}
		}
	})
	return func() {
		signal.Stop(signals)
		close(done)
		wg.Wait()
	}
}

// reload reads the configuration again. One with a fault changes nothing.
func (d *daemon) reload() {
	if d.gate != nil {
		if err := d.gate.Reload(); err != nil {
			auth.LogFaults(d.log, "password file not reloaded", err)
		}
	}
	next, err := d.load()
	var faults config.Faults
	if errors.As(err, &faults) {
		for _, f := range faults {
			d.log.Error("configuration not reloaded", "err", f.String(), "hint", f.Hint)
		}
		return
	}
	if err != nil {
		d.log.Error("configuration not reloaded", "err", err)
		return
	}
	applied, fixed, err := d.broker.Reload(d.options(next))
	if err != nil {
		d.log.Error("configuration not reloaded", "err", err)
		return
	}
	d.level.Set(levels()[next.Log.Level])
	certified := d.reloadCerts(next)
	live, later := keysOf(applied), keysOf(fixed)
	for _, k := range config.Keys() {
		switch {
		case slices.ContainsFunc(links(), func(l link) bool { return l.key == k.Name }):
		case strings.HasPrefix(k.Name, "tls.") && !certified:
		case k.Fixed:
			later = append(later, k.Name)
		default:
			live = append(live, k.Name)
		}
	}
	d.log.Info("configuration reloaded",
		"changed", both(live, config.Changed(d.current, next)),
		"needs_restart", both(later, config.Changed(d.started, next)))
	d.current = next
}

// withListenHint adds what to try to an error of a listener.
func withListenHint(err error) error {
	hint := ""
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = "another program listens there; stop it, or choose another address with --listen"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		hint = "this user may not listen there; ports below 1024 need root or the capability CAP_NET_BIND_SERVICE"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = "this machine has no such address; `tcp://:1883` listens on all that it has"
	case errors.Is(err, syscall.ENOENT):
		hint = "make the socket's directory first"
	case errors.As(err, &dns):
		hint = "check the host's name, or give its address"
	}
	if hint == "" {
		return err
	}
	return &hinted{err: err, hint: hint, code: exitFailure}
}

// both are the names that are in a and in b, in the order of b.
func both(a, b []string) []string {
	names := []string{}
	for _, n := range b {
		if slices.Contains(a, n) {
			names = append(names, n)
		}
	}
	return names
}
