package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/myelin-mqtt/myelin/broker"
	"github.com/myelin-mqtt/myelin/packet"
)

// Options say who may connect.
type Options struct {
	// Methods, by their names, in the order in which they are asked, on listeners
	// that have none of their own.
	Methods []string
	// Listeners are the methods of listeners that have their own, by URL. An empty
	// list lets nobody in.
	Listeners map[string][]string
	// PasswordFile is the file of users of the method of that name.
	PasswordFile string
	// Workers is how many passwords are hashed at a time, each with the memory that
	// its hash needs (19 MiB for those of `myelin passwd`). 0: half the processors.
	Workers int
	// Queue is how many may wait for that. Whoever comes then is told that the
	// server is busy. 0: 1024.
	Queue int
	// Remember is how long a password that was right need not be hashed again.
	// 0: it is always hashed.
	Remember time.Duration
	// SlowDown is how long the first refusal takes; it doubles up to SlowDownMax.
	// 0: nothing is slowed.
	SlowDown, SlowDownMax time.Duration
	// Logger takes a line for each refusal; nil: slog.Default().
	Logger *slog.Logger
}

// Gate is a broker's Authenticator. Make it with Open, run it with Watch.
type Gate struct {
	o       Options
	log     *slog.Logger
	methods map[string]method
	users   *passwords // nil: no method needs the file
	chains  map[string][]method
	chain   []method // of listeners that are not in chains
	pool    *pool
	slow    *slow
	counts  map[string]*[results]atomic.Uint64 // by method
}

// result is what came of an attempt.
type result uint8

const (
	accepted result = iota
	refused
	unable // it could not be told
	results
)

var resultNames = [results]string{"accepted", "refused", "failed"}

// Open reads the files and checks the options. The gate is to be closed.
func Open(o Options) (*Gate, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Workers == 0 {
		o.Workers = max(1, runtime.GOMAXPROCS(0)/2)
	}
	if o.Queue == 0 {
		o.Queue = 1024
	}
	g := &Gate{o: o, log: o.Logger, methods: map[string]method{}, chains: map[string][]method{}, counts: map[string]*[results]atomic.Uint64{none: {}}}
	g.pool = newPool(o.Workers, o.Queue)
	g.slow = newSlow(o.SlowDown, o.SlowDownMax)
	var faults []error
	chain := func(names []string) (c []method) {
		for _, n := range names {
			m, err := g.method(n)
			if err != nil {
				faults = append(faults, err)
				continue
			}
			c = append(c, m)
		}
		return c
	}
	g.chain = chain(o.Methods)
	for url, names := range o.Listeners {
		g.chains[url] = chain(names)
	}
	if len(faults) > 0 {
		g.Close()
		return nil, errors.Join(faults...)
	}
	return g, nil
}

// none is counted where no method knew what was shown.
const none = "none"

// method makes a method, or finds the one that was made.
func (g *Gate) method(name string) (method, error) {
	if m := g.methods[name]; m != nil {
		return m, nil
	}
	var m method
	switch name {
	case Anonymous:
		m = anonymous{}
	case PasswordFile:
		if err := g.openUsers(); err != nil {
			return nil, err
		}
		m = g.users
	default:
		return nil, fmt.Errorf("there is no method of authentication %q", name)
	}
	g.methods[name] = m
	g.counts[name] = new([results]atomic.Uint64)
	return m, nil
}

// openUsers reads the password file, once.
func (g *Gate) openUsers() error {
	if g.users != nil {
		return nil
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	p := &passwords{file: g.o.PasswordFile, key: key, pool: g.pool, verified: newVerified(g.o.Remember), log: g.log}
	if err := p.load(); err != nil {
		return err
	}
	g.users = p
	return nil
}

// Close ends what Open started, and waits for it. Refusals that wait are told
// at once.
func (g *Gate) Close() {
	g.slow.close()
	g.pool.close()
}

// Reload reads the files again. One with a fault changes nothing.
func (g *Gate) Reload() error {
	if g.users == nil {
		return nil
	}
	return g.users.load()
}

// look is the time between two looks at the files.
const look = 2 * time.Second

// Watch follows the files until ctx is done.
func (g *Gate) Watch(ctx context.Context) {
	if g.users == nil {
		return
	}
	t := time.NewTicker(look)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if err := g.users.look(); err != nil {
			LogFaults(g.log, "password file not reloaded", err)
		}
	}
}

// LogFaults writes a line for each fault of err.
func LogFaults(log *slog.Logger, msg string, err error) {
	var faults Faults
	if !errors.As(err, &faults) {
		log.Error(msg, "err", err)
		return
	}
	for _, f := range faults {
		log.Error(msg, "err", f.Error(), "hint", f.Hint)
	}
}

// step is what is left between two steps of an enhanced authentication.
type step struct {
	m     method
	state any
}

// Auth implements broker.Authenticator.
func (g *Gate) Auth(r *broker.AuthRequest, done func(broker.AuthAnswer)) {
	a := &attempt{g: g, r: &request{AuthRequest: r, user: r.Client.Username}, from: network(r.Client.Address), done: done}
	if !g.slow.admits(a.from) {
		a.end(none, answer{verdict: failed, code: packet.ConnectionRateExceeded, why: "too many wrong attempts of this address"})
		return
	}
	if s, ok := r.State.(*step); ok {
		next := *r
		next.State = s.state
		a.r.AuthRequest = &next
		a.methods = []method{s.m}
		a.ask(0)
		return
	}
	chain, own := g.chains[r.Client.Listener]
	if !own {
		chain = g.chain
	}
	a.methods = slices.DeleteFunc(slices.Clone(chain), func(m method) bool { return m.enhanced() != r.Method })
	if len(a.methods) == 0 && r.Method != "" { // [MQTT-4.12.0-1]
		a.end(none, answer{verdict: failed, code: packet.BadAuthenticationMethod, why: "authentication method " + quote(r.Method) + " is not offered here"})
		return
	}
	a.ask(0)
}

// attempt is one client's way along the methods.
type attempt struct {
	g       *Gate
	r       *request
	from    string
	methods []method
	why     string // the last of those who did not know
	done    func(broker.AuthAnswer)
}

// ask asks the ith method, and those behind it while none knows.
func (a *attempt) ask(i int) {
	if i == len(a.methods) {
		a.nobody()
		return
	}
	m := a.methods[i]
	m.check(a.r, func(x answer) {
		if x.verdict == notMine {
			if x.why != "" {
				a.why = m.name() + ": " + x.why
			}
			a.ask(i + 1)
			return
		}
		if x.verdict == goOn {
			a.done(broker.AuthAnswer{Code: packet.ContinueAuthentication, Data: x.data, State: &step{m, x.state}})
			return
		}
		a.end(m.name(), x)
	})
}

// nobody is the end where no method knew: whatever was shown, it does not let
// anybody in.
func (a *attempt) nobody() {
	x := answer{verdict: no, why: a.why}
	if a.r.nothing() {
		x = answer{verdict: no, code: packet.NotAuthorized, why: "no credentials, and anonymous clients are not let in"}
	} else if x.why == "" {
		x.why = "no method knows such credentials"
	}
	a.end(none, x)
}

// What clients are told; it does not say whether there is such a user.
const (
	toldWrong = "user name or password is wrong"
	toldNone  = "authentication is required"
	toldLater = "cannot authenticate now"
)

// end answers, and logs and counts.
func (a *attempt) end(by string, x answer) {
	user := a.r.user
	if x.user != "" {
		user = x.user
	}
	if c := a.r.Client.Username; x.verdict == yes && a.r.Reauthenticate && user != c {
		x = answer{verdict: no, code: packet.NotAuthorized, why: "another user than the one of the connection"}
	}
	log := a.g.log.With("user", clip(user), "client", clip(a.r.Client.ID), "address", a.r.Client.Address, "listener", a.r.Client.Listener, "method", by)
	switch x.verdict {
	case yes:
		a.g.counts[by][accepted].Add(1)
		log.Debug("authenticated")
		a.done(broker.AuthAnswer{Data: x.data, Username: x.user})
	case failed:
		a.g.counts[by][unable].Add(1)
		log.Warn("authentication failed", "code", x.code.String(), "err", x.why)
		a.done(broker.AuthAnswer{Code: x.code, Reason: toldLater})
	default:
		a.g.counts[by][refused].Add(1)
		code, told := packet.BadUserNameOrPassword, toldWrong
		if x.code != packet.Success {
			code = x.code
		}
		if a.r.nothing() {
			told = toldNone
		}
		log.Warn("authentication refused", "code", code.String(), "err", x.why)
		refuse := func() { a.done(broker.AuthAnswer{Code: code, Reason: told}) }
		if a.r.nothing() { // there was no guess
			refuse()
			return
		}
		a.g.slow.refuse(a.from, user, refuse)
	}
}

// Count is how many attempts a method has decided in one way.
type Count struct {
	Method, Result string // of Names, or none; accepted, refused or failed
	N              uint64
}

// Counts are the gate's figures, by method and result.
func (g *Gate) Counts() []Count {
	var all []Count
	for name, c := range g.counts {
		for r := range results {
			all = append(all, Count{name, resultNames[r], c[r].Load()})
		}
	}
	slices.SortFunc(all, func(a, b Count) int {
		if a.Method != b.Method {
			return cmp.Compare(a.Method, b.Method)
		}
		return cmp.Compare(a.Result, b.Result)
	})
	return all
}
