package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/myelin-mqtt/myelin/client"
	checks "github.com/myelin-mqtt/myelin/internal/check"
	"github.com/myelin-mqtt/myelin/internal/config"
	"github.com/myelin-mqtt/myelin/internal/dial"
	"github.com/myelin-mqtt/myelin/packet"
)

func serverCheckCommand(p Process) *cobra.Command {
	c := &cobra.Command{
		Use:   "check [URL]",
		Short: "Find out what a server can do, and whether it keeps its promises",
		Long: "Try what an MQTT server can do, from protocol versions to the longest topic, and compare it with what the\n" +
			"standard and the server's own CONNACK promise. Each check runs in sessions and on topics of its own, and removes\n" +
			"what it made: it can be run against a server that is in use.\n\n" +
			"A check ends as kept, broken (a promise is not kept), absent (an optional feature that the server says it has\n" +
			"not), unknown (it could not be found out, such as where access is denied) or skipped (it does not apply). The\n" +
			"exit code is 1 if anything is broken. `myelin check --list` names all checks.\n\n" +
			"The flags say which server and who asks. What a check has to choose for itself, such as -i and -k, is refused.",
		Example: "  myelin check mqtt://localhost:1883\n" +
			"  myelin check mqtts://broker.example:8883 --cafile ca.pem -u kitchen --password-file password\n" +
			"  myelin check ws://localhost:8083/mqtt --only sessions --only will\n" +
			"  myelin check --json mqtt://localhost | jq 'select(.status == \"broken\")'\n" +
			"  myelin check --list",
		Args: cobra.MaximumNArgs(1),
	}
	x := &checker{maxPayload: 1 << 20, parallel: 4, timeout: time.Minute, patience: 5 * time.Second, quiet: 250 * time.Millisecond}
	g := newGroup(c, "Checks")
	g.toggle(&x.list, "list", "", "list the checks, and connect to nothing")
	g.list(&x.only, "NAME", nil, "only", "", "make this check, or those of this group, only; can be given several times")
	g.list(&x.skip, "NAME", nil, "skip", "", "leave out this check, or this group; can be given several times")
	g.text(&x.prefix, "prefix", "", "what all topics begin with (default: myelin-check/ and a random part)")
	number(g, &x.maxPayload, 1, packet.MaxRemaining/2, "max-payload", "", "longest payload to try, in bytes")
	number(g, &x.parallel, 1, 64, "parallel", "", "checks to run at a time, those that measure times excepted")
	g.toggle(&x.packets, "packets", "", "below a broken promise, show the packets that led to it; --json has them anyway")
	g.toggle(&x.json, "json", "", "one JSON object a line on standard output for each check, and one for the whole")
	g.seconds(&x.timeout, "timeout", "W", "longest time for one check")
	g.seconds(&x.patience, "patience", "", "how long an answer of the server is awaited")
	g.seconds(&x.quiet, "quiet", "", "how long to listen for what must not come")
	x.clientFlags = newClient(c, p, x.run)
	hideForeign(c)
	return c
}

// oneServer is what to try where there is none, or more than one.
const oneServer = "such as `myelin check mqtt://localhost:1883`"

// foreign are the flags of a connection that checks set for themselves.
func foreign(name string) bool {
	return strings.HasPrefix(name, "will-") || slices.Contains([]string{
		"id", "keepalive", "disable-clean-session", "session-expiry-interval", "reconnect", "receive-maximum", "max-inflight",
		"maximum-packet-size", "topic-alias-maximum", "topic-aliases", "connect-user-property", "property", "debug",
	}, name)
}

// hideForeign hides foreign flags, and refuses them on the command line. In the
// environment and the file they are for other commands.
func hideForeign(c *cobra.Command) {
	c.Flags().VisitAll(func(f *pflag.Flag) { f.Hidden = f.Hidden || foreign(f.Name) })
	inner := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		var err error
		c.Flags().Visit(func(f *pflag.Flag) {
			switch {
			case err != nil:
			case foreign(f.Name):
				err = misuse("`myelin check --help` lists the flags", "%s: the checks choose that for themselves", dashed(f))
			case len(args) > 0 && slices.Contains([]string{"url", "host", "port", "unix", "ws"}, f.Name):
				err = misuse(oneServer, "%s and the argument %s both name the server", dashed(f), args[0])
			}
		})
		if err != nil {
			return err
		}
		return inner(c, args)
	}
}

// checker is one run of `myelin check`.
type checker struct {
	*clientFlags
	list       bool
	only, skip []string
	prefix     string
	maxPayload int
	parallel   int
	packets    bool
	json       bool
	timeout    time.Duration
	patience   time.Duration
	quiet      time.Duration

	server string
	group  string // the last that was printed
	fault  error  // of standard output
}

func (x *checker) run(ctx context.Context, f *clientFlags) error {
	if x.list {
		return x.printList()
	}
	o, err := x.options()
	if err != nil {
		return err
	}
	begin := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	x.server = o.Server.String()
	r, err := checks.Run(ctx, o, func(f checks.Finding) {
		if x.print(f); x.fault != nil {
			cancel()
		}
	})
	if r == nil {
		return x.failure(err)
	}
	if err == nil {
		x.printSummary(r, time.Since(begin))
	}
	if x.fault != nil {
		return x.fault
	}
	if err != nil {
		return err
	}
	if b := r.Broken(); len(b) > 0 {
		what := "promises are not kept"
		if len(b) == 1 {
			what = "promise is not kept"
		}
		hint := "`--only " + b[0] + " --packets` shows how it came to that"
		return &hinted{err: fmt.Errorf("%d %s: %s", len(b), what, strings.Join(b, ", ")), hint: hint, code: exitFailure}
	}
	return nil
}

// options makes of the flags what package check takes.
func (x *checker) options() (checks.Options, error) {
	if len(x.args) > 0 { // it is stronger than the environment and the file
		x.urls = x.args
	}
	o, err := x.clientFlags.options()
	if err != nil {
		return checks.Options{}, err
	}
	if len(o.Servers) != 1 {
		return checks.Options{}, misuse(oneServer, "one server can be checked at a time, got %d", len(o.Servers))
	}
	target, err := dial.Parse(o.Servers[0])
	if err != nil {
		return checks.Options{}, err
	}
	if x.prefix != "" && (strings.ContainsAny(x.prefix, "+#\x00") || len(x.prefix) > 1000 || !utf8.ValidString(x.prefix)) {
		return checks.Options{}, misuse("write such as --prefix test/check/", "--prefix: %q is not what topics can begin with", x.prefix)
	}
	if x.prefix != "" && !strings.HasSuffix(x.prefix, "/") {
		x.prefix += "/"
	}
	return checks.Options{
		Server: target, Net: dial.Options{TLS: o.TLS, Dial: o.Dial, Header: o.Header, Network: o.Network},
		Username: o.Username, Password: o.Password, Version: o.Version, IDPrefix: x.idPrefix, ConnectTimeout: o.ConnectTimeout,
		Prefix: x.prefix, MaxPayload: x.maxPayload, Parallel: x.parallel, Only: x.only, Skip: x.skip,
		Timeout: x.timeout, Patience: x.patience, Quiet: x.quiet,
	}, nil
}

// failure is why there are no findings.
func (x *checker) failure(err error) error {
	var name *checks.NameError
	var refused *checks.RefusedError
	switch {
	case x.fault != nil:
		return x.fault
	case errors.As(err, &name):
		hint := "`myelin check --list` lists them"
		var names []string
		for _, e := range checks.List() {
			names = append(names, e.Name, e.Group)
		}
		if i := slices.IndexFunc(names, func(n string) bool { return strings.HasPrefix(n, name.Name) }); i >= 0 {
			hint = "did you mean " + names[i] + "?"
		} else if n := config.Nearest(name.Name, names); n != "" {
			hint = "did you mean " + n + "?"
		}
		return misuse(hint, "%v", err)
	case errors.As(err, &refused):
		return &client.ReasonError{Packet: packet.CONNACK, Code: refused.Code, Reason: refused.Reason}
	}
	if code, _ := classify(err); code == exitFailure {
		return &hinted{err: err, hint: "check that an MQTT server is behind this address and port", code: exitProtocol}
	}
	return err
}

// printf prints, and keeps the first error of it.
func (x *checker) printf(format string, args ...any) {
	if x.fault == nil {
		_, x.fault = fmt.Fprintf(x.out, format, args...)
	}
}

// The columns of the table: it is read in 80.
const (
	checkWidth  = 80
	checkNames  = 24
	checkDetail = 2 + checkNames + 1 + 8
)

// print prints one finding.
func (x *checker) print(f checks.Finding) {
	if x.json {
		var packets []checkPacket
		for _, p := range f.Packets {
			packets = append(packets, checkPacket{MS: thousandths(p.At), Conn: p.Conn, Sent: p.Sent, Packet: p.Text})
		}
		x.printJSON(checkLine{Group: f.Group, Name: f.Name, Status: f.Status, Detail: f.Detail, Values: f.Values, Packets: packets, MS: thousandths(f.Took)})
		return
	}
	if x.group == "" {
		x.printf("%s\n", x.server)
	}
	if f.Group != x.group {
		x.group = f.Group
		x.printf("\n%s\n", f.Group)
	}
	status := fmt.Sprintf("%-7s", f.Status)
	if colour(x.command.OutOrStdout(), x.process.Env) {
		status = map[checks.Status]string{checks.Kept: "\x1b[32m", checks.Broken: "\x1b[1;31m", checks.Absent: "\x1b[36m", checks.Unknown: "\x1b[33m", checks.Skipped: "\x1b[2m"}[f.Status] + status + "\x1b[0m"
	}
	lines := wrap(visible(f.Detail), checkWidth-checkDetail)
	x.printf("  %s\n", strings.TrimRight(fmt.Sprintf("%-*s%s %s", checkNames, f.Name, status, lines[0]), " "))
	for _, l := range lines[1:] {
		x.printf("%*s%s\n", checkDetail-1, "", l)
	}
	for _, p := range f.Packets {
		if x.packets {
			x.printf("    %s\n", visible(p.String()))
		}
	}
}

// visible is text of the server, fit for a terminal.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7F && r < 0xA0 {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// wrap breaks text into lines of at most n characters, between words where it
// can; there is at least one.
func wrap(s string, n int) []string {
	var lines []string
	line := []rune{}
	for _, word := range strings.Fields(s) {
		w := []rune(word)
		if len(line) > 0 && len(line)+1+len(w) > n {
			lines = append(lines, string(line))
			line = nil
		}
		if len(line) > 0 {
			line = append(line, ' ')
		}
		for line = append(line, w...); len(line) > n; line = line[n:] {
			lines = append(lines, string(line[:n]))
		}
	}
	return append(lines, string(line))
}

// checkLine is one line of --json.
type checkLine struct {
	Group   string         `json:"group"`
	Name    string         `json:"name"`
	Status  checks.Status  `json:"status"`
	Detail  string         `json:"detail,omitempty"`
	Values  map[string]any `json:"values,omitempty"`
	Packets []checkPacket  `json:"packets,omitempty"`
	MS      float64        `json:"ms"`
}

// checkPacket is a packet in a line of --json.
type checkPacket struct {
	MS     float64 `json:"ms"`
	Conn   int     `json:"conn"`
	Sent   bool    `json:"sent"`
	Packet string  `json:"packet"`
}

// thousandths is a duration in milliseconds, to the microsecond.
func thousandths(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// checkSummary is the last line of --json.
type checkSummary struct {
	Server  string  `json:"server"`
	Version string  `json:"version"`
	Prefix  string  `json:"prefix"`
	Kept    int     `json:"kept"`
	Broken  int     `json:"broken"`
	Absent  int     `json:"absent"`
	Unknown int     `json:"unknown"`
	Skipped int     `json:"skipped"`
	MS      float64 `json:"ms"`
}

func (x *checker) printJSON(v any) {
	if x.fault != nil {
		return
	}
	w := json.NewEncoder(x.out)
	w.SetEscapeHTML(false)
	x.fault = w.Encode(v)
}

// printSummary prints how many findings there are of each kind.
func (x *checker) printSummary(r *checks.Report, took time.Duration) {
	if x.json {
		x.printJSON(checkSummary{
			Server: x.server, Version: r.Version.String(), Prefix: r.Prefix,
			Kept: r.Count(checks.Kept), Broken: r.Count(checks.Broken), Absent: r.Count(checks.Absent),
			Unknown: r.Count(checks.Unknown), Skipped: r.Count(checks.Skipped), MS: math.Round(took.Seconds() * 1e3),
		})
		return
	}
	var counts []string
	for _, s := range []checks.Status{checks.Kept, checks.Broken, checks.Absent, checks.Unknown, checks.Skipped} {
		if n := r.Count(s); n > 0 || s == checks.Broken {
			counts = append(counts, fmt.Sprintf("%d %s", n, s))
		}
	}
	x.printf("\nMQTT %s: %s in %.1f s\n", r.Version, strings.Join(counts, ", "), took.Seconds())
}

// printList prints what there is to check.
func (x *checker) printList() error {
	for _, e := range checks.List() {
		if e.Group != x.group {
			if x.group != "" {
				x.printf("\n")
			}
			x.group = e.Group
			x.printf("%s\n", e.Group)
		}
		lines := wrap(e.About, checkWidth-checkNames-2)
		x.printf("  %-*s%s\n", checkNames, e.Name, lines[0])
		for _, l := range lines[1:] {
			x.printf("%*s%s\n", checkNames+2, "", l)
		}
	}
	return x.fault
}
