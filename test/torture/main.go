// Command torture kills the real broker under load, again and again, and accounts for every message that it had
// acknowledged. `make torture` runs it.
//
// The broker keeps its data on a real disk, and is killed with SIGKILL at random moments, some of them while it starts.
// Publishers of QoS 1 and 2 with durable sessions send again what was not acknowledged; subscribers with durable
// sessions are there always, sometimes or not at all until the end. After each restart the sessions, a subscription,
// the wills of who was connected and the retained messages must be there; at the end each subscriber must have got each
// acknowledged message, those of QoS 2 once, and in the order of their publisher and topic. The exit code is 0 if so.
//
// A SIGKILL does not take from the machine what the program has written and not synced: that an acknowledgement means
// "on the disk" is for the tests of the store, with a file system that forgets. Here it is the program as it is shipped,
// with real sockets, files and clocks.
//
// With -mosquitto it does the same to Mosquitto, which writes its data every half an hour, and must see loss: a harness
// that finds none anywhere proves nothing.
//
// Start reading at torture.go (the rounds) and ledger.go (the account). outbox.go and body.go are what clients need
// beside package packet; publisher.go, subscriber.go, prober.go and keeper.go are the clients; link.go is a connection
// and world.go what clients share; process.go starts brokers; report.go prints.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "torture: error:", err)
		}
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	kills       int
	seed        uint64
	publishers  int
	subscribers int
	window      int
	rate        float64
	size        int
	shortest    time.Duration
	longest     time.Duration
	quiet       time.Duration
	dir         string
	keep        bool
	mosquitto   bool
	expectLoss  bool
	program     string
	flags       string
}

func parse(args []string, errs io.Writer) (o options, err error) {
	f := flag.NewFlagSet("torture", flag.ContinueOnError)
	f.SetOutput(errs)
	f.IntVar(&o.kills, "kills", 100, "how often the broker is killed")
	f.Uint64Var(&o.seed, "seed", 0, "what the random choices start from; 0: the time. It does not repeat a run exactly")
	f.IntVar(&o.publishers, "publishers", 6, "publishers")
	f.IntVar(&o.subscribers, "subscribers", 20, "subscribers with a durable session each, besides a shared subscription of three")
	f.IntVar(&o.window, "window", 50, "messages that a publisher has under way")
	f.Float64Var(&o.rate, "rate", 2000, "messages a second of all publishers together; 0: as fast as their windows allow")
	f.IntVar(&o.size, "size", 256, "mean size of a payload in `bytes`")
	f.DurationVar(&o.shortest, "min", 50*time.Millisecond, "shortest time from a restart to the next kill")
	f.DurationVar(&o.longest, "max", 1500*time.Millisecond, "longest time")
	f.DurationVar(&o.quiet, "quiet", 10*time.Second, "how long nothing may come, at the end, until what is missing counts as lost")
	f.StringVar(&o.dir, "dir", "bin", "`directory` on the disk to use; a new one is made in it, and removed if all went well")
	f.BoolVar(&o.keep, "keep", false, "do not remove it")
	f.BoolVar(&o.mosquitto, "mosquitto", false, "torture Mosquitto with persistence on, and expect loss")
	f.BoolVar(&o.expectLoss, "expect-loss", false, "fail if nothing is lost")
	f.StringVar(&o.program, "program", "", "`path` of the broker (bin/myelin or mosquitto)")
	f.StringVar(&o.flags, "broker-flags", "", "more flags for the broker, such as \"--durability async\"")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unknown argument %q", f.Arg(0))
	case o.kills < 2 || o.publishers < 1 || o.subscribers < 1 || o.size < bodyHead || o.rate < 0:
		return o, errors.New("a number is too small")
	case o.window < 1 || o.window > 1000:
		return o, errors.New("the window must be from 1 to 1000")
	case o.shortest < 0 || o.longest <= o.shortest:
		return o, errors.New("the longest time must be beyond the shortest")
	}
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano())
	}
	o.expectLoss = o.expectLoss || o.mosquitto
	return o, nil
}

func run(ctx context.Context, args []string, out, errs io.Writer) error {
	o, err := parse(args, errs)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.dir, "torture-")
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	p, err := choose(o, dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %d kills, seed %d, data in %s %s\n", p.version(), o.kills, o.seed, dir, filesystem(dir))
	t := newTorture(o, p)
	err = t.run(ctx, out)
	if err != nil {
		err = fmt.Errorf("%w\nthe end of the broker's log:\n%s", err, p.logTail())
	} else {
		t.ledger.close()
		t.report(out)
		err = t.verdict()
	}
	if err != nil || o.keep {
		fmt.Fprintln(out, "data and log are left in", dir)
		return err
	}
	return os.RemoveAll(dir)
}

// choose finds the broker to torture.
func choose(o options, dir string) (*program, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	if !o.mosquitto {
		path := o.program
		if path == "" {
			path = filepath.Join("bin", "myelin")
		}
		return myelinProgram(path, dir, addr, o.flags)
	}
	path := o.program
	if path == "" {
		if path, err = findMosquitto(); err != nil {
			return nil, err
		}
	}
	return mosquittoProgram(path, dir, addr, o.flags)
}
