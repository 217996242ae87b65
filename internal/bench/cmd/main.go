//go:build linux

// Command cmd measures Myelin beside other brokers. `make bench` runs it; package bench tells what it does.
//
// It starts the brokers by itself, on free ports of 127.0.0.1, one after the other.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/myelin-mqtt/myelin/internal/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	run       *regexp.Regexp
	brokers   []string
	seconds   float64
	rounds    int
	json, md  string
	dir       string
	list      bool
	paths     map[string]string // of the brokers' programs
	mochiFrom string
}

func parse(args []string, errs io.Writer) (o options, err error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(errs)
	run := f.String("run", "", "run only the loads whose names match this regular `expression`")
	brokers := f.String("brokers", "myelin,mosquitto,mochi", "the brokers to run, the one to compare with first")
	f.Float64Var(&o.seconds, "seconds", 2, "how long each run is measured")
	f.IntVar(&o.rounds, "rounds", 2, "how often each load runs on each broker")
	f.StringVar(&o.json, "json", "", "write all results to this `file`")
	f.StringVar(&o.md, "md", "", "replace the tables between the markers of this `file`")
	f.StringVar(&o.dir, "dir", os.TempDir(), "`folder` for the brokers' directories, on a real disk; they are removed at the end")
	f.BoolVar(&o.list, "list", false, "list the loads and exit")
	myelin := f.String("myelin", filepath.Join("bin", "myelin"), "`path` of Myelin")
	mosquitto := f.String("mosquitto", "", "`path` of Mosquitto (default: where it is installed)")
	mochi := f.String("mochi", "", "`path` of mochi's program (default: built from -mochi-source)")
	f.StringVar(&o.mochiFrom, "mochi-source", filepath.Join("internal", "bench", "mochi"), "`folder` to build mochi from")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if o.run, err = regexp.Compile(*run); err != nil {
		return o, fmt.Errorf("read -run: %w", err)
	}
	if o.seconds <= 0 || o.seconds > 600 || o.rounds < 1 || o.rounds > 100 {
		return o, errors.New("-seconds has to be between 0 and 600, -rounds between 1 and 100")
	}
	o.brokers = strings.Split(*brokers, ",")
	o.paths = map[string]string{"myelin": *myelin, "mosquitto": *mosquitto, "mochi": *mochi}
	return o, nil
}

func run(ctx context.Context, args []string, out, errs io.Writer) error {
	o, err := parse(args, errs)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	loads := slices.DeleteFunc(bench.Loads(), func(l bench.Load) bool { return !o.run.MatchString(l.Name) })
	if o.list {
		for _, l := range loads {
			fmt.Fprintf(out, "%-15s %s\n", l.Name, l.Title)
		}
		return nil
	}
	if len(loads) == 0 {
		return fmt.Errorf("no load matches %q; -list shows them", o.run)
	}
	dir, err := os.MkdirTemp("", "myelin-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	brokers, env, err := find(ctx, o, dir)
	if err != nil {
		return err
	}
	if bench.InMemory(o.dir) {
		env.Comments = append(env.Comments, fmt.Sprintf("%s is in memory: nothing that is said about the disk holds; -dir chooses another folder.", o.dir))
	}
	// A machine with other work shows in rates and latencies, and the reader should know.
	if busy := bench.LoadAverage(); busy > 0.5 {
		env.Comments = append(env.Comments, fmt.Sprintf("The machine had other work: a load average of %.1f before the first run.", busy))
	}
	for _, c := range env.Comments {
		fmt.Fprintln(errs, "bench:", c)
	}
	core, err := prepare(loads, &env)
	if err != nil {
		return err
	}
	failed := false
	measure := time.Duration(o.seconds * float64(time.Second))
	rs := bench.Run(ctx, bench.Plan{
		Loads: loads, Brokers: brokers, Rounds: o.rounds, Core: core, Dir: o.dir,
		Timing: bench.Timing{
			Warm:    500 * time.Millisecond,
			Measure: measure,
			Stall:   10 * time.Second,
			Settle:  6 * time.Second,
			Limit:   5*time.Minute + measure,
		},
		Report: func(r bench.Result) {
			fmt.Fprintln(errs, bench.Line(r))
			failed = failed || r.Error != "" && r.Broker == brokers[0].Name
		},
	})
	if err := write(o, env, loads, brokers, rs, out); err != nil {
		return err
	}
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case failed:
		return fmt.Errorf("runs on %s have failed", brokers[0].Name)
	}
	return nil
}

// prepare gives the generator and the brokers a core each if there are two, and raises the limit of open files.
func prepare(loads []bench.Load, env *bench.Env) (core int, err error) {
	files, err := bench.RaiseFiles()
	if err != nil {
		return 0, err
	}
	for _, l := range loads {
		if need := uint64(l.Connections() + 100); need > files {
			return 0, fmt.Errorf("load %s needs %d open files and %d are allowed", l.Name, need, files)
		}
	}
	cores, err := bench.Cores()
	if err != nil {
		return 0, err
	}
	// The generator makes next to no garbage, and what it makes should not cost time while it measures.
	debug.SetGCPercent(400)
	if len(cores) < 2 {
		env.Comments = append(env.Comments, "There was one core only.")
		return -1, nil
	}
	runtime.GOMAXPROCS(1)
	env.Pinned = true
	return cores[0], bench.Pin(cores[1])
}

// find looks for the brokers that were asked for. One that cannot be had is left out with a comment, unless it is the
// first.
func find(ctx context.Context, o options, dir string) ([]bench.Broker, bench.Env, error) {
	env := bench.Env{
		Date:    time.Now().UTC().Format(time.DateOnly),
		Command: strings.Join(append([]string{"go run ./internal/bench/cmd"}, os.Args[1:]...), " "),
		Go:      runtime.Version(), Brokers: map[string]string{}, Rounds: o.rounds, Seconds: o.seconds,
	}
	env.Machine, env.Kernel = bench.Machine()
	var brokers []bench.Broker
	for i, name := range o.brokers {
		b, err := locate(ctx, name, o, dir)
		if err != nil {
			if i == 0 {
				return nil, env, fmt.Errorf("find %s: %w", name, err)
			}
			env.Comments = append(env.Comments, fmt.Sprintf("Left out: %s (%v).", name, err))
			continue
		}
		brokers = append(brokers, b)
		env.Brokers[name] = b.Version
	}
	return brokers, env, nil
}

func locate(ctx context.Context, name string, o options, dir string) (bench.Broker, error) {
	path := o.paths[name]
	var err error
	switch name {
	case "myelin":
		if path, err = filepath.Abs(path); err == nil {
			_, err = os.Stat(path)
		}
		if err != nil {
			return bench.Broker{}, err
		}
		return bench.Myelin(path), nil
	case "mosquitto":
		if path == "" {
			// Debian has it where only root's PATH looks.
			if path, err = exec.LookPath("mosquitto"); err != nil {
				path, err = exec.LookPath("/usr/sbin/mosquitto")
			}
		}
		if err != nil {
			return bench.Broker{}, err
		}
		return bench.Mosquitto(path), nil
	case "mochi":
		if path == "" {
			path = filepath.Join(dir, "mochi")
			ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "go", "build", "-o", path, ".")
			cmd.Dir = o.mochiFrom
			if out, err := cmd.CombinedOutput(); err != nil {
				last := strings.TrimSpace(string(out))
				return bench.Broker{}, fmt.Errorf("build it: %w: %s", err, last[strings.LastIndexByte(last, '\n')+1:])
			}
		}
		return bench.Mochi(path), nil
	}
	return bench.Broker{}, errors.New("the brokers are myelin, mosquitto and mochi")
}

// write puts the results where the flags want them; without flags the tables go to out.
func write(o options, env bench.Env, loads []bench.Load, brokers []bench.Broker, rs []bench.Result, out io.Writer) error {
	var b strings.Builder
	if err := bench.Markdown(&b, env, loads, brokers, rs); err != nil {
		return err
	}
	fmt.Fprint(out, b.String())
	if o.json != "" {
		var j strings.Builder
		if err := bench.WriteJSON(&j, env, rs); err != nil {
			return fmt.Errorf("write JSON: %w", err)
		}
		if err := os.WriteFile(o.json, []byte(j.String()), 0o644); err != nil {
			return err
		}
	}
	if o.md != "" {
		return bench.Replace(o.md, b.String())
	}
	return nil
}
