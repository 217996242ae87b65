package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/internal/jq"
	"github.com/myelin-mqtt/myelin/internal/show"
	"github.com/myelin-mqtt/myelin/internal/watch"
	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/topic"
)

// sub is `myelin sub`.
type sub struct {
	topics, without, drop []string
	qos                   packet.QoS
	noLocal, asPublished  bool
	retainHandling        string

	count   int
	wait    time.Duration
	justSub bool

	fresh, retainedOnly, removeRetained bool

	print printFlags

	watch    bool
	sort     string
	interval time.Duration
	rows     int
}

func subCommand(p Process) *cobra.Command {
	s := &sub{}
	c := &cobra.Command{
		Use:   "sub",
		Short: "Subscribe, and print what comes",
		Long: "Subscribe to topics, and print the messages that come, until -C, -W or a signal ends it.\n\n" +
			"A message of QoS 1 or 2 is acknowledged when it is printed. What could not be written, because nobody reads the pipe any more,\n" +
			"is not, and comes again to a client with -c and -i.\n" +
			"Exit code 0: done, that is -C messages came; 27: the time of -W was over before.",
		Example: "  myelin sub -t 'home/+/temperature' -v\n" +
			"  myelin sub -t 'home/#' -T 'home/door/#' -q 1\n" +
			"  myelin sub -t home/door -C 1 -W 10\n" +
			"  myelin sub -L mqtt://localhost/home/door -C 1\n" +
			"  myelin sub -t 'home/#' -F '@H:@M:@S %t %p'\n" +
			"  myelin sub -t 'home/#' --json\n" +
			"  myelin sub -t 'home/#' --jq 'select(.payload.t > 20) | .topic'\n" +
			"  myelin sub -t 'home/#' --watch --sort rate\n" +
			"  myelin sub -t '$share/workers/jobs' -q 1\n" +
			"  myelin sub -t 'home/#' -q 1 -c -i recorder -E\n" +
			"  myelin sub -t 'old/#' --retained-only --remove-retained",
	}
	s.register(c)
	newClient(c, p, s.run)
	return c
}

func (s *sub) register(c *cobra.Command) {
	g := newGroup(c, "Subscriptions")
	g.list(&s.topics, "filter", checkFilter, "topic", "t", "topic filter, such as home/+/door or home/#; can be given several times")
	number(g, &s.qos, 0, 2, "qos", "q", "quality of service to receive with, at most")
	g.list(&s.drop, "filter", checkFilter, "unsubscribe", "U", "end this subscription of the session; can be given several times")
	g.toggle(&s.noLocal, "no-local", "", "not what this client publishes itself (MQTT 5)")
	g.toggle(&s.asPublished, "retain-as-published", "", "leave the retain flag as the publisher set it (MQTT 5)")
	g.choice(&s.retainHandling, []string{"always", "new", "never"}, "retain-handling", "", "when retained messages are sent: at each subscription, at a new one, never (MQTT 5)")

	g = newGroup(c, "What is printed")
	g.list(&s.without, "filter", checkPlainFilter, "filter-out", "T", "not what matches this filter; can be given several times")
	g.toggle(&s.fresh, "no-retained", "R", "not what was retained")
	g.toggle(&s.retainedOnly, "retained-only", "", "only what was retained; the first other message ends it")
	g.toggle(&s.removeRetained, "remove-retained", "", "remove the retained messages that come, but for those of -T")
	number(g, &s.count, 1, 1<<53, "count", "C", "end after this many messages")
	g.seconds(&s.wait, "wait", "W", "end after this time, with exit code 27")
	g.toggle(&s.justSub, "exit-after-subscribe", "E", "end when the server has acknowledged the subscriptions")
	g.exclude("no-retained", "retained-only")

	s.print.register(c)

	g = newGroup(c, "Table")
	g.toggle(&s.watch, "watch", "", "show a table of topics with their last value, age, number and rate, drawn in place on a terminal")
	s.sort, s.interval, s.rows = "topic", time.Second, 1000
	g.choice(&s.sort, []string{"topic", "rate"}, "sort", "", "how the table is sorted")
	g.seconds(&s.interval, "interval", "", "time between two tables")
	number(g, &s.rows, 1, 100_000, "topics", "", "topics that the table has at most; others are counted together")
	for _, n := range []string{"verbose", "format", "json", "hex", "no-newline", "raw"} {
		g.exclude("watch", n)
	}
}

func checkFilter(s string) error {
	_, err := topic.ParseFilter(s)
	return err
}

// checkPlainFilter is for what is compared with topics.
func checkPlainFilter(s string) error {
	f, err := topic.ParseFilter(s)
	if err == nil && f.Shared() {
		return wants("a filter without $share", s)
	}
	return err
}

// check finds what does not go together.
func (s *sub) check(f *clientFlags) error {
	if len(s.topics) == 0 && len(s.drop) == 0 && !f.keepSession {
		return misuse("name one with -t, such as -t 'home/#'", "no topic to subscribe to")
	}
	if f.version == "311" {
		for _, n := range []string{"no-local", "retain-as-published", "retain-handling"} {
			if f.has(n) {
				return misuse("leave it out, or use -V 5", "--%s: MQTT 3.1.1 has no such thing", n)
			}
		}
	}
	for _, t := range s.topics {
		if x, err := topic.ParseFilter(t); err == nil && x.Shared() && s.noLocal {
			return misuse("leave one of them out", "--no-local: not allowed with the shared subscription %s", t)
		}
	}
	if s.interval < 10*time.Millisecond {
		return misuse("a second is good to look at", "--interval: it must be at least 0.01 seconds")
	}
	return nil
}

// Why a sub ends by itself.
var (
	errTimeUp     = errors.New("time is up")
	errSubscribed = errors.New("subscribed")
)

func (s *sub) run(ctx context.Context, f *clientFlags) error {
	if t := f.urlTopic(); t != "" {
		if err := checkFilter(t); err != nil {
			return misuse("the topic stands behind the first / of the URL", "--url: %v", err)
		}
		s.topics = append(s.topics, t)
	}
	if err := s.check(f); err != nil {
		return err
	}
	_, terminal := f.terminal()
	printer, filter, err := s.print.printer(terminal)
	if err != nil {
		return err
	}
	handlers, letGo := context.WithCancel(ctx)
	defer letGo()
	in := newIntake()
	o, err := f.options()
	if err != nil {
		return err
	}
	o.ManualAck = true
	o.OnMessage = in.handler(handlers) // what the session had waiting
	c, err := f.connect(ctx, o)
	if err != nil {
		return err
	}
	work, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if s.wait > 0 {
		var cancel context.CancelFunc
		work, cancel = context.WithTimeoutCause(work, s.wait, errTimeUp)
		defer cancel()
	}
	// Messages come before the subscriptions are acknowledged, and have to be
	// taken, so that the acknowledgement can come.
	var asking sync.WaitGroup
	asking.Go(func() {
		if err := s.subscribe(work, c, in.handler(handlers)); err != nil {
			stop(err)
		} else if s.justSub {
			stop(errSubscribed)
		}
	})
	count, err := s.listen(work, f, c, stop, in, printer, filter)
	stop(err)
	letGo()
	asking.Wait()
	byeErr := f.disconnect(c)
	if err = s.verdict(ctx, err, c, count); err == nil && s.removeRetained {
		err = byeErr // the removals were not acknowledged
	}
	return err
}

// subscribe asks for all subscriptions, and then to end some.
func (s *sub) subscribe(ctx context.Context, c *client.Client, h client.Handler) error {
	var subs []client.Subscription
	handling := map[string]byte{"": 0, "always": 0, "new": 1, "never": 2}[s.retainHandling]
	for _, t := range s.topics {
		subs = append(subs, client.Subscription{
			Filter: t, QoS: s.qos, NoLocal: s.noLocal, RetainAsPublished: s.asPublished, RetainHandling: handling,
		})
	}
	if len(subs) > 0 {
		if _, err := c.Subscribe(ctx, h, subs...); err != nil {
			return err
		}
	}
	if len(s.drop) > 0 {
		return c.Unsubscribe(ctx, s.drop...)
	}
	return nil
}

// listen prints or draws until something ends it, and tells how many messages
// counted.
func (s *sub) listen(ctx context.Context, f *clientFlags, c *client.Client, stop context.CancelCauseFunc, in intake, p show.Printer, filter *jq.Filter) (int, error) {
	warn := func(format string, args ...any) {
		fmt.Fprintf(f.messages, "myelin: warning: "+format+"\n", args...)
	}
	sel := selection{without: s.without, fresh: s.fresh, retainedOnly: s.retainedOnly}
	if s.watch {
		w := &watcher{
			out: f.out, interval: s.interval, topics: s.rows, filter: filter, sel: sel, limit: s.count, warn: warn, ack: (*client.Received).Ack,
			view: watch.View{Bold: colour(f.out.to, f.process.Env), Order: map[string]watch.Order{"topic": watch.ByTopic, "rate": watch.ByRate}[s.sort]},
		}
		if file, ok := f.terminal(); ok {
			w.size = func() (int, int) {
				width, height, err := term.GetSize(int(file.Fd()))
				if err != nil || width <= 0 || height <= 0 {
					return 80, 24
				}
				return width, height
			}
		}
		err := w.run(ctx, in, c.Done())
		return w.count, err
	}
	r := &receiver{out: f.out, warn: warn, show: p, filter: filter, sel: sel, limit: s.count, ack: (*client.Received).Ack}
	if s.removeRetained {
		r.remove = func(ctx context.Context, topic string) error {
			return c.PublishAsync(ctx, &client.Message{Topic: topic, Retain: true, QoS: packet.AtLeastOnce}, func(_ client.Receipt, err error) {
				if err != nil && ctx.Err() == nil {
					stop(fmt.Errorf("remove the retained message of %s: %w", show.Clean(topic), err))
				}
			})
		}
	}
	err := r.run(ctx, in, c.Done())
	return r.printed, err
}

// verdict is what the end means for who called.
func (s *sub) verdict(ctx context.Context, err error, c *client.Client, count int) error {
	switch {
	case err == nil || errors.Is(err, errSubscribed):
		return nil
	case errors.Is(err, errTimeUp):
		what := fmt.Sprintf("the time of %s is over, %d messages came", s.wait, count)
		if s.count > 0 {
			what = fmt.Sprintf("the time of %s is over, %d of %d messages came", s.wait, count, s.count)
		}
		return &hinted{err: errors.New(what), code: exitTimeout}
	case errors.Is(err, errEnded):
		if err := c.Err(); err != nil {
			return err
		}
		return client.ErrClosed
	case ctx.Err() != nil && s.count == 0 && !s.retainedOnly:
		return nil // it had no other end than the signal
	case ctx.Err() != nil:
		return &hinted{err: fmt.Errorf("interrupted, %d messages came", count), code: exitInterrupted}
	}
	return err
}
