package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/myelin-mqtt/myelin/internal/route"
	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/transport"
	"github.com/myelin-mqtt/myelin/packet"
)

// Broker is one MQTT broker. Make it with New, run it with Serve.
type Broker struct {
	o        atomic.Pointer[Options]
	log      *slog.Logger
	net      *transport.Server
	table    *route.Table[*session]
	registry registry
	store    store.Engine
	expirer  expirer
	stats    stats
	held     held
	sys      *route.Retained[*packet.Publish]
	started  time.Time
	tokens   atomic.Uint64 // see newIn
	serial   atomic.Uint64 // of assigned client identifiers and in-process subscribers
	nonce    uint64
	draining atomic.Bool
	stopped  atomic.Int64  // the time in Unix nanoseconds at which a test stopped the clock, 0: it goes
	closed   chan struct{} // the end has begun
	over     chan struct{} // the connections have ended
	served   atomic.Bool
	running  atomic.Bool  // the listeners were opened
	use      sync.RWMutex // held for reading by calls of programs, for writing when the end begins
	closing  sync.Once

	mu        sync.Mutex // guards listeners
	listeners []*transport.Listener
}

var (
	// ErrClosed is returned by calls on a broker that ends or has ended.
	ErrClosed = errors.New("broker is closed")
	// ErrQuota is why Publish refuses a message: a session that must have it
	// has a full queue, and the policy is Refuse; or the disk is full.
	ErrQuota = store.ErrQuota
)

// New makes a broker, and takes up what is in its data directory. It opens no
// listener: Serve does. It starts the loops of the connection layer, so a broker
// that is not served is to be closed, too. All faults of o are reported at once.
func New(o Options) (*Broker, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("check options: %w", err)
	}
	o.setDefaults()
	b := &Broker{
		log: o.Logger, table: route.NewTable[*session](), sys: new(route.Retained[*packet.Publish]),
		closed: make(chan struct{}), over: make(chan struct{}), nonce: nonce(), started: time.Now(),
	}
	b.o.Store(&o)
	b.registry.init()
	b.expirer.init()
	var err error
	if b.store, err = b.openStore(&o); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	b.net, err = transport.New(&handler{b}, transport.Options{
		Driver: driver(o.IO), Loops: o.Loops, ConnectTimeout: o.ConnectTimeout, MaxConns: o.MaxConnections, Logger: o.Logger,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start connection layer: %w", err), b.store.Close(context.Background()))
	}
	if err := b.recover(); err != nil {
		b.Close()
		return nil, fmt.Errorf("recover sessions: %w", err)
	}
	return b, nil
}

func driver(io string) string {
	if io == "auto" {
		return ""
	}
	return io
}

func (b *Broker) opt() *Options { return b.o.Load() }

// Listen opens one more listener, and returns its address as a URL with the
// port that was taken.
func (b *Broker) Listen(l Listener) (string, error) {
	ln, err := b.net.Listen(l.URL, transport.ListenOptions{Access: l.Access, Data: &l, TLS: l.TLS})
	if err != nil {
		return "", err
	}
	b.mu.Lock()
	b.listeners = append(b.listeners, ln)
	b.mu.Unlock()
	b.log.Info("listening", "url", address(ln))
	return address(ln), nil
}

// address is the listener's URL with the port that was taken.
func address(ln *transport.Listener) string {
	u, err := url.Parse(ln.URL())
	if err != nil || u.Scheme == "unix" {
		return ln.URL()
	}
	u.Host = ln.Addr().String()
	return u.String()
}

// Addresses are the URLs of the open listeners.
func (b *Broker) Addresses() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	urls := make([]string, len(b.listeners))
	for i, l := range b.listeners {
		urls[i] = address(l)
	}
	return urls
}

// Serve opens the listeners of the options and runs the broker until ctx is
// done. Then it drains: no new connections, MQTT 5 clients get DISCONNECT
// 0x8B, and after the grace time whoever is left is cut off. It waits for
// everything that it started. A broker can be served once.
func (b *Broker) Serve(ctx context.Context) error {
	switch {
	case b.isClosed():
		return ErrClosed
	case b.served.Swap(true):
		return errors.New("broker is served already")
	}
	defer b.Close()
	for _, l := range b.opt().Listeners {
		if _, err := b.Listen(l); err != nil {
			return err
		}
	}
	b.running.Store(true)
	var wg sync.WaitGroup
	run, stop := context.WithCancel(context.Background())
	wg.Go(func() { b.expirer.run(run, b) })
	wg.Go(func() { b.publishSys(run) })
	wg.Go(func() { b.sweepRetained(run) })
	select {
	case <-ctx.Done():
	case <-b.closed:
	}
	stop()
	wg.Wait()
	b.Close()
	return nil
}

// drain says goodbye to every client and waits for them within the grace time.
func (b *Broker) drain() {
	grace := b.opt().ShutdownGrace
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	b.net.StopAccepting()
	b.draining.Store(true)
	n := 0
	b.registry.each(func(c *conn) {
		n++
		c.signal(sigShutdown)
	})
	if b.running.Load() {
		b.log.Info("shutting down", "clients", n, "grace", grace.String())
	}
	if err := b.net.Close(ctx); err != nil {
		b.log.Warn("connections cut off at the end of the grace time", "err", err)
	}
	close(b.over)
	b.closeStore(grace) // with a time of its own
}

// Close drains a broker and ends it, and makes Serve return. It waits for the
// end. More calls do nothing but wait.
func (b *Broker) Close() {
	b.closing.Do(func() {
		b.use.Lock()
		close(b.closed)
		b.use.Unlock()
		b.drain()
	})
}

// Reload takes new options for what can change while the broker runs. applied
// names what changed, needRestart what is different and stays as it was. The
// authenticator, authorizer, events and logger of New stay in any case, and a
// connection keeps what its CONNACK promised.
func (b *Broker) Reload(o Options) (applied, needRestart []string, err error) {
	if err := o.validate(); err != nil {
		return nil, nil, fmt.Errorf("check options: %w", err)
	}
	old := b.opt()
	wired(old, &o)
	o.setDefaults()
	for _, f := range fixedOptions {
		if !f.same(old, &o) {
			needRestart = append(needRestart, f.name)
		}
		f.keep(old, &o)
	}
	for _, f := range liveOptions {
		if !f.same(old, &o) {
			applied = append(applied, f.name)
		}
	}
	b.o.Store(&o)
	return applied, needRestart, nil
}

// Disconnect ends a client's connection with an MQTT 5 reason code; false: it
// is not connected.
func (b *Broker) Disconnect(clientID string, code packet.Reason) bool {
	c := b.registry.connected(clientID)
	if c == nil {
		return false
	}
	c.signal(sigKick | uint32(code)<<kickShift)
	return true
}

// storeDropped takes word from the store of what its limits cost.
func (b *Broker) storeDropped(clientID string, m *packet.Publish, why store.Reason) {
	reason := DropQueueFull
	switch why {
	case store.Expired:
		reason = DropExpired
	case store.RetainedFull:
		reason = DropRetainFull
	case store.SessionEnded:
		reason = DropSessionEnded
	case store.DiskFull:
		reason = DropDiskFull
	case store.Unreadable:
		reason = DropUnreadable
	}
	var s *session
	if clientID != "" {
		s = b.registry.lookup(clientID)
	}
	b.dropped(s, m, reason)
}
