package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// torture is one run: the broker, its clients and the account.
type torture struct {
	o       options
	program *program
	ledger  *ledger
	w       *world
	rng     *rand.Rand
	began   time.Time

	publishers  []*publisher
	subscribers []*subscriber
	prober      *prober
	mourner     *mourner // nil: wills are not expected to survive
	keeper      *keeper
	witness     *client // its session tells when the broker is back

	stop     chan struct{} // publishers end
	restarts []time.Duration
	early    int // kills during the start
}

func newTorture(o options, p *program) *torture {
	t := &torture{
		o: o, program: p, ledger: newLedger(), rng: rand.New(rand.NewPCG(o.seed, 0)),
		began: time.Now(), stop: make(chan struct{}),
	}
	t.w = newWorld(p.addr, t.ledger)
	t.witness = &client{w: t.w, id: "witness", v: packet.V5}
	t.prober = &prober{client: client{w: t.w, id: "prober", v: packet.V5}}
	t.keeper = &keeper{w: t.w}
	for i := range o.publishers {
		t.addPublisher(i)
	}
	for i := range o.subscribers {
		qos := packet.QoS(1 + i/int(habits)%2)
		name := fmt.Sprintf("s%d, QoS %d, %v", i, qos, habit(i%int(habits)))
		s := t.addSubscriber(fmt.Sprintf("s%d", i), t.ledger.addReader(name, qos, true), qos, habit(i%int(habits)), "torture/m/#")
		s.v = []packet.Version{packet.V5, packet.V311}[i/(2*int(habits))%2]
		if s.habit == lazy {
			s.receiveMax = 64
		}
	}
	shared := t.ledger.addReader("the shared subscription", packet.ExactlyOnce, false)
	for i, h := range []habit{always, flapping, flapping} {
		t.addSubscriber(fmt.Sprintf("g%d", i), shared, packet.ExactlyOnce, h, "$share/g/torture/m/#")
	}
	for _, p := range t.publishers {
		for _, s := range p.live {
			for r := range shared + 1 {
				t.ledger.expect(r, s.id)
			}
		}
	}
	if !o.mosquitto {
		const topic = "torture/will"
		t.mourner = &mourner{w: t.w, topic: topic, stream: t.ledger.addStream(topic, packet.ExactlyOnce, false, nil)}
		heir := t.ledger.addReader("the heir", packet.ExactlyOnce, false)
		t.ledger.expect(heir, t.mourner.stream)
		t.addSubscriber("heir", heir, packet.ExactlyOnce, always, topic)
	}
	return t
}

// addPublisher makes publisher i and its streams.
func (t *torture) addPublisher(i int) {
	p := &publisher{
		client: client{w: t.w, id: fmt.Sprintf("p%d", i), v: []packet.Version{packet.V5, packet.V311}[i%2]},
		window: t.o.window, rate: t.o.rate / float64(t.o.publishers), size: t.o.size,
		rng: t.split(), stop: t.stop, wake: make(chan struct{}, 1), box: outbox{highest: uint16(2 * t.o.window)},
	}
	add := func(topic string, qos packet.QoS, retain bool, erases func(uint64) bool) sending {
		s := sending{t.ledger.addStream(topic, qos, retain, erases), topic, qos, retain, erases}
		if retain {
			t.keeper.streams = append(t.keeper.streams, s)
		}
		return s
	}
	for n := range 4 {
		p.live = append(p.live, add(fmt.Sprintf("torture/m/%d/%d", i, n), packet.QoS(1+n%2), n >= 2, nil))
	}
	for n := range 8 {
		erases := func(seq uint64) bool { return seq%5 == 0 }
		p.quiet = append(p.quiet, add(fmt.Sprintf("torture/r/%d/%d", i, n), packet.QoS(1+n%2), true, erases))
	}
	t.publishers = append(t.publishers, p)
}

func (t *torture) addSubscriber(id string, reader int, qos packet.QoS, h habit, filter string) *subscriber {
	s := &subscriber{
		client: client{w: t.w, id: id, v: packet.V5}, reader: reader, qos: qos, habit: h, filter: filter,
		rng: t.split(), in: inbox{},
	}
	t.subscribers = append(t.subscribers, s)
	return s
}

// split is a source of chance for one client.
func (t *torture) split() *rand.Rand { return rand.New(rand.NewPCG(t.rng.Uint64(), t.rng.Uint64())) }

// run does all of it. An error says that the run has no result.
func (t *torture) run(ctx context.Context, out io.Writer) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel()

	var running *process
	defer func() {
		if running != nil {
			running.kill()
		}
	}()
	if running, err = t.start(ctx, 0); err != nil {
		return err
	}
	for _, s := range t.subscribers {
		if err := s.subscribe(ctx, 0); err != nil {
			return err
		}
	}
	for _, p := range t.publishers {
		clients.Go(func() { p.run(ctx) })
	}
	for _, s := range t.subscribers {
		clients.Go(func() { s.run(ctx) })
	}
	if t.mourner != nil {
		clients.Go(func() { t.mourner.run(ctx) })
	}
	clients.Go(func() { t.prober.run(ctx) })
	clients.Go(func() { t.keeper.run(ctx) })

	// The last kill is for finish: by then everything has been delivered.
	for n := range t.o.kills - 1 {
		life := t.o.shortest + time.Duration(t.rng.Int64N(int64(t.o.longest-t.o.shortest)))
		if !pause(ctx, life) {
			return errors.New("interrupted")
		}
		if n == t.o.kills-2 {
			t.w.finish()
			close(t.stop)
		}
		if running, err = t.again(ctx, running, n+1); err != nil {
			return err
		}
		if n%10 == 9 {
			fmt.Fprintf(out, "%d kills, %d receipts, %d faults\n", n+1, t.receipts(), t.faults())
		}
	}
	return t.finish(ctx, &running)
}

// again kills the broker and starts it anew, which it may kill at once, too.
func (t *torture) again(ctx context.Context, running *process, round int) (*process, error) {
	t.w.set(round-1, false)
	if err := running.kill(); err != nil {
		return nil, err
	}
	if t.rng.IntN(8) == 0 {
		short, err := t.program.start(round)
		if err != nil {
			return nil, err
		}
		most := 20 * time.Millisecond
		if len(t.restarts) > 0 {
			most = max(most, t.restarts[len(t.restarts)-1])
		}
		pause(ctx, time.Duration(t.rng.Int64N(int64(most))))
		if err := short.kill(); err != nil {
			return nil, err
		}
		t.early++
	}
	return t.start(ctx, round)
}

// start runs the broker, waits until an old session can be taken up, and calls the clients.
func (t *torture) start(ctx context.Context, round int) (*process, error) {
	t.ledger.setRound(round)
	r, err := t.program.start(round)
	if err != nil {
		return nil, err
	}
	for {
		// The world does not count as up yet: nothing is said of attempts that fail.
		if l, _ := t.witness.connect(ctx, round, nil); l != nil {
			t.restarts = append(t.restarts, time.Since(r.started))
			l.leave()
			break
		}
		select {
		case err := <-r.done:
			return nil, fmt.Errorf("the broker does not start (%v)", err)
		default:
		}
		if time.Since(r.started) > 2*patience {
			r.kill()
			return nil, errors.New("the broker does not accept connections after its start")
		}
		if !pause(ctx, time.Millisecond) {
			r.kill()
			return nil, errors.New("interrupted")
		}
	}
	t.w.set(round, true)
	return r, nil
}

// finish waits for everything that is owed; after one more kill nothing may come again.
func (t *torture) finish(ctx context.Context, running **process) (err error) {
	if err := t.drain(ctx); err != nil {
		return err
	}
	if *running, err = t.again(ctx, *running, t.o.kills); err != nil {
		return err
	}
	if !pause(ctx, time.Second) {
		return errors.New("interrupted")
	}
	if err := t.drain(ctx); err != nil {
		return err
	}
	if err := t.keeper.check(ctx); err != nil {
		return fmt.Errorf("read the retained messages: %w", err)
	}
	t.w.set(t.o.kills, false)
	r := *running
	*running = nil
	return r.stop(ctx)
}

// drain waits until nothing is missing, or nothing comes any more.
func (t *torture) drain(ctx context.Context) error {
	last, since := -1, time.Now()
	for {
		owed, receipts := t.ledger.missing()
		idle := !slices.ContainsFunc(t.publishers, func(p *publisher) bool { return !p.idle() })
		if owed == 0 && idle {
			return nil
		}
		if receipts != last {
			last, since = receipts, time.Now()
		} else if time.Since(since) > t.o.quiet {
			if !idle {
				t.ledger.note(protocol, "publishers wait in vain for the rest of their handshakes")
			}
			return nil
		}
		if !pause(ctx, 20*time.Millisecond) {
			return errors.New("interrupted")
		}
	}
}
