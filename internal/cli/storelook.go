package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/myelin-mqtt/myelin/internal/control"
	"github.com/myelin-mqtt/myelin/internal/store/disk"
)

func storeCheckCommand(p Process) *cobra.Command {
	var d dataDir
	var asJSON bool
	c := &cobra.Command{
		Use:   "check [DIR]",
		Short: "Verify a data directory, and name each fault with its place",
		Long: "Verify a data directory: the checksum of each block of each file, the order of the files, each record,\n" +
			"and whether what records name is there. Exit code 1: something is wrong.\n\n" +
			"With --json each line is an object of type fault (file or key and of, what) or, the last one, summary.",
		Example: "  myelin store check /var/lib/myelin",
		Args:    oneArg,
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := d.find(args)
			if err != nil {
				return err
			}
			return still(c.Context(), dir, c.ErrOrStderr(), func(at string) error {
				return check(c.Context(), dir, at, asJSON, c.OutOrStdout())
			})
		},
	}
	d.withData(c, p)
	c.Flags().BoolVar(&asJSON, "json", false, "JSON lines, for programs")
	return c
}

// faultLine and summaryLine are what check writes for programs.
type faultLine struct {
	Type string `json:"type"` // "fault"
	disk.Fault
}

type summaryLine struct {
	Type string `json:"type"` // "summary"
	Dir  string `json:"dir"`
	disk.Summary
}

// check verifies the store in the directory at, which stands for dir.
func check(ctx context.Context, dir, at string, asJSON bool, out io.Writer) error {
	w := bufio.NewWriter(out)
	line := lines(w)
	sum, err := disk.Check(ctx, at, nil, func(f disk.Fault) {
		switch {
		case asJSON:
			_ = line(faultLine{"fault", f}) // the writer keeps its error for Flush
		case f.File != "":
			fmt.Fprintf(w, "fault: file %s: %s\n", f.File, f.What)
		case f.Key != "":
			fmt.Fprintf(w, "fault: %s: %s (key %s)\n", f.Of, f.What, f.Key)
		default:
			fmt.Fprintf(w, "fault: %s\n", f.What)
		}
	})
	if err != nil {
		return errors.Join(err, w.Flush())
	}
	if asJSON {
		_ = line(summaryLine{"summary", dir, sum}) // as above
	} else {
		printSummary(w, dir, sum)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if sum.Faults > 0 {
		return &hinted{
			err:  fmt.Errorf("%s is damaged: %s", dir, count(sum.Faults, "fault")),
			hint: "a backup, or `myelin store dump` for what can be read, may help; do not start a broker on it before you have copied it", code: exitFailure,
		}
	}
	return nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

func printSummary(w io.Writer, dir string, s disk.Summary) {
	fmt.Fprintf(w, "%s: format version %d, %s with %d bytes\n", dir, s.Format, count(s.Files, "table"), s.FileBytes)
	fmt.Fprintf(w, "%s, %s\n", count(s.Sessions, "session"), count(s.Subscriptions, "subscription"))
	fmt.Fprintf(w, "%s with %d bytes, queued %s with %d bytes in all\n", count(s.Messages, "message"), s.MessageBytes, count(s.Queued, "time"), s.QueuedBytes)
	fmt.Fprintf(w, "QoS 2: %s of publishers, %s in flight to clients\n", count(s.Inbound, "identifier"), count(s.Outbound, "message"))
	fmt.Fprintf(w, "%s with %d bytes\n", count(s.Retained, "retained message"), s.RetainedBytes)
	if s.Torn > 0 {
		fmt.Fprintf(w, "%s at the end of a log were cut by a crash, of which nothing was acknowledged\n", count(int(s.Torn), "byte"))
	}
	if s.Leftovers > 0 {
		fmt.Fprintf(w, "%s of what is over, which the broker deletes in time\n", count(s.Leftovers, "record"))
	}
	if s.Faults == 0 {
		fmt.Fprintln(w, "no fault was found")
	}
}

func storeDumpCommand(p Process) *cobra.Command {
	var d dataDir
	var parts disk.Parts
	c := &cobra.Command{
		Use:   "dump [DIR]",
		Short: "Write sessions, queues and retained messages as JSON lines",
		Long: "Write what a data directory holds as JSON lines, one object each, with a field type:\n\n" +
			"  session   a session: subscriptions, expiry, will, QoS 2 state in both directions, how much waits for it\n" +
			"  queued    a message that waits for a session, or is in flight to its client\n" +
			"  retained  a retained message\n\n" +
			"The queued messages of one session come in their order; those of several sessions are mixed, as they were published.\n" +
			"A payload is in payload if it is UTF-8, else in payload_base64. Times are UTC, sizes bytes, expiry and delay seconds.",
		Example: "  myelin store dump --sessions\n" +
			"  myelin store dump /var/lib/myelin --queues --client sensor-7",
		Args: oneArg,
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := d.find(args)
			if err != nil {
				return err
			}
			if !parts.Sessions && !parts.Queues && !parts.Retained {
				parts.Sessions, parts.Queues, parts.Retained = true, true, parts.ClientID == ""
			}
			return still(c.Context(), dir, c.ErrOrStderr(), func(at string) error { return dump(c.Context(), at, parts, c.OutOrStdout()) })
		},
	}
	d.withData(c, p)
	c.Flags().BoolVar(&parts.Sessions, "sessions", false, "the sessions; without this and the next two: everything")
	c.Flags().BoolVar(&parts.Queues, "queues", false, "the messages of their queues")
	c.Flags().BoolVar(&parts.Retained, "retained", false, "the retained messages")
	c.Flags().StringVar(&parts.ClientID, "client", "", "only the session and the queue of this client `identifier`")
	return c
}

func dump(ctx context.Context, dir string, parts disk.Parts, out io.Writer) error {
	v, err := disk.OpenView(dir, nil)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(out)
	err = v.Dump(ctx, parts, lines(w))
	return errors.Join(err, w.Flush(), missing(v), v.Close())
}

// missing is the error of a command that could not see all.
func missing(v *disk.View) error {
	if err := v.Damage(); err != nil {
		return fmt.Errorf("not everything that was stored may be shown: %w", err)
	}
	return nil
}

func storeQueuesCommand(p Process) *cobra.Command {
	var d dataDir
	var asJSON bool
	limit, sort := 20, "bytes"
	c := &cobra.Command{
		Use:   "queues [DIR]",
		Short: "Show which sessions hold how much",
		Long: "Show the sessions that hold most: messages that wait for them, or are in flight to their clients, with the bytes of topics and payloads.\n" +
			"A message counts for each session that it waits for.",
		Example: "  myelin store queues --sort messages --limit 5",
		Args:    oneArg,
		RunE: func(c *cobra.Command, args []string) error {
			if sort != "bytes" && sort != "messages" {
				return usage(fmt.Sprintf("--sort: %q is not a choice", sort), "write bytes or messages")
			}
			if limit < 1 || limit > 10_000 {
				return usage(fmt.Sprintf("--limit: %d is out of range", limit), "write 1 to 10000")
			}
			dir, err := d.find(args)
			if err != nil {
				return err
			}
			q, live, err := holders(c.Context(), dir, limit, sort)
			if err != nil {
				return err
			}
			if asJSON {
				return lines(c.OutOrStdout())(q)
			}
			return printQueues(c.OutOrStdout(), q, live)
		},
	}
	d.withData(c, p)
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object, for programs")
	c.Flags().IntVar(&limit, "limit", limit, "how many `sessions` are shown, 1 to 10000")
	c.Flags().StringVar(&sort, "sort", sort, "what is most: `bytes` or messages")
	return c
}

// holders asks the broker that runs on the directory, or looks itself.
func holders(ctx context.Context, dir string, limit int, sort string) (q control.Queues, live bool, err error) {
	client, live, err := running(ctx, dir)
	if err != nil {
		return q, live, err
	}
	if live {
		q, err = client.Queues(ctx, limit, sort)
		return q, true, err
	}
	v, err := disk.OpenView(dir, nil)
	if err != nil {
		return q, false, storeHint(err, dir)
	}
	by := func(a, b control.Holder) int {
		most := cmp.Compare(b.Bytes, a.Bytes)
		if sort == "messages" {
			most = cmp.Compare(b.Messages, a.Messages)
		}
		return cmp.Or(most, cmp.Compare(a.ClientID, b.ClientID))
	}
	q.Top = []control.Holder{}
	err = v.Holders(ctx, func(h disk.Holder) {
		if h.Messages == 0 {
			return
		}
		q.Holders++
		q.Messages += h.Messages
		q.Bytes += h.Bytes
		x := control.Holder{ClientID: h.ClientID, Messages: h.Messages, Bytes: h.Bytes}
		if i, _ := slices.BinarySearchFunc(q.Top, x, by); i < limit {
			q.Top = slices.Insert(q.Top, i, x)
			q.Top = q.Top[:min(len(q.Top), limit)]
		}
	})
	return q, false, storeHint(errors.Join(err, missing(v), v.Close()), dir)
}

func printQueues(out io.Writer, q control.Queues, live bool) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "CLIENT\tMESSAGES\tBYTES\tCONNECTED")
	for _, h := range q.Top {
		is := "no"
		if h.Connected {
			is = "yes"
		}
		if !live {
			is = "-"
		}
		fmt.Fprintf(w, "%q\t%d\t%d\t%s\n", h.ClientID, h.Messages, h.Bytes, is)
	}
	fmt.Fprintf(w, "all %s\t%d\t%d\t\n", count(q.Holders, "session"), q.Messages, q.Bytes)
	return w.Flush()
}
