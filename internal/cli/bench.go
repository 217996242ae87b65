package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/myelin-mqtt/myelin/internal/config"
	"github.com/myelin-mqtt/myelin/internal/dial"
	"github.com/myelin-mqtt/myelin/internal/load"
)

func benchCommand(p Process) *cobra.Command {
	c := &cobra.Command{
		Use:   "bench [LOAD]",
		Short: "Put load on a broker, measure, and check that every message came",
		Long: "Put load on a broker, measure how much it takes and how long messages are under way, and check by number that none was lost, came twice or out of order.\n\n" +
			"The load is connect, publish, subscribe, p2p (the default), fan-out, fan-in, shared, idle, offline or request. " +
			"Without --rate it is a closed loop: each publisher has --window messages under way. With --rate it is an open loop: messages leave when they are due, and latency counts from then, so that waiting counts too; beside it stands the latency from when each was sent.\n\n" +
			"The exit status is 1 where a message of QoS 1 or 2 was lost, or one of QoS 2 came twice.",
		Example: "  myelin bench p2p -n 100 -q 1 --count 100000\n" +
			"  myelin bench fan-out --subscribers 500 -s 64 --count 500\n" +
			"  myelin bench p2p -n 100 --rate 10000 --duration 1s --hgrm latency.hgrm --csv seconds.csv\n" +
			"  myelin bench idle -n 1000 --topics 1 --ramp 1s --duration 1s --broker-pid $(cat broker.pid)\n" +
			"  myelin bench connect -n 50 --rate 500 --duration 1s\n" +
			"  myelin bench offline --subscribers 100 --count 10000 -q 2\n" +
			"  myelin bench -f nightly.yaml --json -\n" +
			"  myelin bench request --count 2000 -L mqtt://localhost --compare mqtt://localhost:1884 --rounds 2",
		Args:      oneLoad,
		ValidArgs: loadNames(),
	}
	x := &benchmark{}
	g := newGroup(c, "Load")
	for _, k := range load.Keys() {
		g.add(&value{kind: k.Type, set: func(v string) error { return x.set(k, v) }, show: func() string { return "" }}, k.Name, k.Short, k.Usage)
	}
	g.file(&x.scenario, "scenario", "f", "YAML `file` with these settings, of one load or of several; the command line beats it")
	g = newGroup(c, "Comparison, and what the broker uses")
	g.text(&x.compare, "compare", "", "`URL` of a second broker, that gets each load in turn with the first; prints ratios and their spread")
	x.rounds = 1
	number(g, &x.rounds, 1, 1000, "rounds", "", "how often each load is run on each broker")
	number(g, &x.pid, 1, 1<<30, "broker-pid", "", "process of the broker on this machine: adds its CPU time for each message and its memory (Linux)")
	number(g, &x.comparePID, 1, 1<<30, "compare-pid", "", "the same of the second broker")
	g = newGroup(c, "Output")
	g.file(&x.json, "json", "", "write the results as JSON to the `file`; -: to standard output, and the summary to standard error")
	g.file(&x.csv, "csv", "", "write a line for each second to the `file`, or - as with --json")
	g.file(&x.hgrm, "hgrm", "", "write the latency distribution as HdrHistogram's tools read it to the `file`, or - as with --json")
	g.toggle(&x.progress, "progress", "", "tell each second on standard error, a line each, also where that is no terminal")
	newClient(c, p, x.run)
	for _, n := range loadsOwn() {
		c.Flags().Lookup(n).Hidden = true
	}
	return c
}

// loadsOwn are the flags of a connection that mean nothing to a load. In the
// environment and the file they are for other commands.
func loadsOwn() []string {
	return []string{"reconnect", "disable-clean-session", "session-expiry-interval"}
}

// oneLoad takes the name of a load.
func oneLoad(c *cobra.Command, args []string) error {
	for _, n := range loadsOwn() {
		if f := c.Flags().Lookup(n); f.Changed {
			return misuse("`myelin bench --help` lists the flags", "%s: the loads choose that for themselves", dashed(f))
		}
	}
	if len(args) <= 1 {
		return nil
	}
	return usage(fmt.Sprintf("%s takes one load, got %q", c.CommandPath(), args), "for several write a scenario, and give it with -f")
}

func loadNames() (names []string) {
	for _, k := range load.Kinds() {
		names = append(names, string(k))
	}
	return names
}

// garbageRoom is how much more garbage than usual the generator lets lie.
const garbageRoom = 64 << 20

// benchmark is one run of `myelin bench`.
type benchmark struct {
	settings        []load.Setting
	scenario        string
	compare         string
	rounds          int
	pid, comparePID int
	json, csv, hgrm string
	progress        bool

	f       *clientFlags
	live    bool     // a progress line is rewritten in place
	names   []string // of the brokers
	results []*load.Result
}

func (x *benchmark) set(k load.Key, v string) error {
	if what, hint := k.Check(v); what != "" {
		return fmt.Errorf("%s: %s", what, hint)
	}
	x.settings = append(x.settings, load.Setting{Key: k.Name, Value: v, Where: "--" + k.Name})
	return nil
}

func (x *benchmark) run(ctx context.Context, f *clientFlags) error {
	x.f = f
	x.live = isTerminal(f.command.ErrOrStderr()) && !x.progress
	plans, err := x.plans()
	if err != nil {
		return err
	}
	targets, err := x.targets()
	if err != nil {
		return err
	}
	out, err := x.open(len(plans) * len(targets))
	if err != nil {
		return err
	}
	// What is alive is little, and what each message leaves behind is much: with
	// room for so much garbage the collector comes seldom, which saves the
	// generator a tenth of its CPU time. The room itself is never touched.
	room := make([]byte, garbageRoom)
	err = x.loads(ctx, plans, targets)
	runtime.KeepAlive(room)
	if wrong := out.write(x); err == nil {
		err = wrong
	}
	return err
}

// plans are the loads, of the scenario and the flags.
func (x *benchmark) plans() ([]load.Plan, error) {
	if len(x.f.args) == 1 {
		for _, k := range load.Keys() {
			if k.Name != "load" {
				continue
			}
			if what, hint := k.Check(x.f.args[0]); what != "" {
				return nil, usage(what, hint)
			}
			x.settings = append(x.settings, load.Setting{Key: k.Name, Value: x.f.args[0], Where: "LOAD"})
		}
	}
	if t := x.f.urlTopic(); t != "" {
		x.settings = append([]load.Setting{{Key: "topic", Value: t, Where: "--url"}}, x.settings...)
	}
	var text []byte
	if x.scenario != "" {
		var err error
		if text, err = readLimited(x.scenario, load.MaxScenario); err != nil {
			return nil, err
		}
	}
	plans, faults := load.Plans(x.scenario, text, x.settings)
	if len(faults) == 0 {
		return plans, nil
	}
	var all config.Faults
	for _, f := range faults {
		all = append(all, config.Fault{Where: f.Where, What: f.What, Hint: f.Hint})
	}
	return nil, &hinted{err: all, code: exitUsage}
}

// targets are the broker, and the one that it is compared with.
func (x *benchmark) targets() ([]load.Target, error) {
	o, err := x.f.options()
	if err != nil {
		return nil, err
	}
	a := load.Target{Name: o.Servers[0], Options: o, Dial: load.Dial}
	if a.Meter, err = meter("broker-pid", x.pid); err != nil {
		return nil, err
	}
	if x.compare == "" {
		if x.comparePID != 0 {
			return nil, misuse("name the second broker with --compare", "--compare-pid without --compare")
		}
		return []load.Target{a}, nil
	}
	server, _ := splitTopic(x.compare)
	u, err := dial.Parse(server)
	if err != nil {
		return nil, misuse("write such as mqtt://localhost:1884", "--compare: %v", err)
	}
	if u.HasPassword {
		return nil, misuse("leave it out; both brokers get the user name and password of the other flags", "--compare: a password cannot be given on the command line")
	}
	b := load.Target{Options: o, Dial: load.Dial}
	b.Options.Servers = []string{u.String()}
	if b.Name = u.String(); b.Name == a.Name {
		b.Name += " (again)"
	}
	if b.Meter, err = meter("compare-pid", x.comparePID); err != nil {
		return nil, err
	}
	return []load.Target{a, b}, nil
}

func meter(flag string, pid int) (load.Meter, error) {
	if pid == 0 {
		return nil, nil
	}
	m, err := load.ProcessMeter(pid)
	if err != nil {
		return nil, misuse("leave it out, or give the number of the broker's process on this machine", "--%s: %v", flag, err)
	}
	return m, nil
}

// loads runs all of them, the brokers in turn, and tells what each gave. The
// first failure is the command's; what comes after it is run all the same, but
// for an interruption.
func (x *benchmark) loads(ctx context.Context, plans []load.Plan, targets []load.Target) (failure error) {
	for _, t := range targets {
		x.names = append(x.names, t.Name)
	}
	for _, p := range plans {
		for round := range x.rounds {
			for _, t := range targets {
				if len(x.results) > 0 && !rest(ctx) {
					return fmt.Errorf("interrupted: %w", context.Canceled)
				}
				r := (&load.Runner{Target: t, Round: round, Progress: x.tell()}).Run(ctx, p)
				x.results = append(x.results, r)
				x.clear()
				if _, err := io.WriteString(x.words(), load.Summary(r)); err != nil {
					return err
				}
				err := r.Failed()
				if errors.Is(err, context.Canceled) {
					return fmt.Errorf("interrupted: %w", err)
				}
				if err != nil && failure == nil {
					failure = fmt.Errorf("%s: %w", p.Name, err)
					if r.Err == nil && r.Faults.Lost > 0 {
						failure = &hinted{err: failure, hint: "the broker's log may say why; its queue for one client may be shorter than the window, or than what waits offline", code: exitFailure}
					}
				}
			}
		}
	}
	if len(targets) == 2 {
		if _, err := io.WriteString(x.words(), load.Table(x.ratios(), targets[0].Name, targets[1].Name)); err != nil {
			return err
		}
	}
	return failure
}

// ratios compare the brokers, if there are two.
func (x *benchmark) ratios() []load.Ratio {
	if len(x.names) < 2 {
		return nil
	}
	return load.Compare(x.results, x.names[0], x.names[1])
}

// rest lets a broker come to rest between two runs.
func rest(ctx context.Context) bool {
	select {
	case <-time.After(load.Between):
		return true
	case <-ctx.Done():
		return false
	}
}

// words is where the summary goes: not between the lines of a file.
func (x *benchmark) words() io.Writer {
	if x.json == "-" || x.csv == "-" || x.hgrm == "-" {
		return x.f.messages
	}
	return x.f.out
}

// tell is who shows progress, nil: nobody.
func (x *benchmark) tell() func(load.Interval) {
	switch {
	case x.live:
		return func(i load.Interval) {
			_, _ = fmt.Fprintf(x.f.messages, "\r\x1b[K%s", cut(load.ProgressLine(i), x.width())) // what is not seen is not missed
		}
	case x.progress:
		return func(i load.Interval) {
			_, _ = fmt.Fprintln(x.f.messages, load.ProgressLine(i)) // as above
		}
	}
	return nil
}

func (x *benchmark) clear() {
	if x.live {
		_, _ = io.WriteString(x.f.messages, "\r\x1b[K") // as in tell
	}
}

// width is that of the terminal: a line that wraps could not be rewritten.
func (x *benchmark) width() int {
	if f, ok := x.f.command.ErrOrStderr().(*os.File); ok {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 1 {
			return n - 1
		}
	}
	return 79
}

// cut leaves the first characters of a line.
func cut(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most])
	}
	return s
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// files are what is written when all is measured; nil: nothing. They are opened
// before, so that a wrong path is told at once.
type files struct {
	json, csv io.WriteCloser
	hgrm      []io.WriteCloser
}

func (x *benchmark) open(series int) (*files, error) {
	onto := 0
	for _, name := range []string{x.json, x.csv, x.hgrm} {
		if name == "-" {
			onto++
		}
	}
	if onto > 1 {
		return nil, misuse("write the others to files", "only one of --json, --csv and --hgrm can go to standard output")
	}
	out := &files{}
	var err error
	create := func(name string) (w io.WriteCloser) {
		if name == "" || err != nil {
			return nil
		}
		if name == "-" {
			return stream{x.f.out}
		}
		f, bad := os.Create(name)
		if bad != nil {
			err = fileError(bad)
			return nil
		}
		return f
	}
	out.json, out.csv = create(x.json), create(x.csv)
	names := []string{x.hgrm}
	if x.hgrm != "-" && x.hgrm != "" && series > 1 {
		names = nil
		ext := filepath.Ext(x.hgrm)
		for i := range series {
			names = append(names, fmt.Sprintf("%s-%d%s", strings.TrimSuffix(x.hgrm, ext), i+1, ext))
		}
	}
	for _, n := range names {
		if w := create(n); w != nil {
			out.hgrm = append(out.hgrm, w)
		}
	}
	return out, err
}

// stream is standard output, which is not closed.
type stream struct{ io.Writer }

func (stream) Close() error { return nil }

func (o *files) write(x *benchmark) error {
	var errs []error
	if o.json != nil {
		errs = append(errs, load.WriteJSON(o.json, x.results, x.ratios()), o.json.Close())
	}
	if o.csv != nil {
		errs = append(errs, load.WriteCSV(o.csv, x.results), o.csv.Close())
	}
	for i, s := range load.Merge(x.results) {
		if len(o.hgrm) > 0 {
			errs = append(errs, s.WriteHgrm(o.hgrm[min(i, len(o.hgrm)-1)]))
		}
	}
	for _, w := range o.hgrm {
		errs = append(errs, w.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}
