package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/topic"
)

// rr is `myelin rr`: it asks, measures how long answers take, or answers.
type rr struct {
	message  messageFlags
	source   sourceFlags
	response string
	count    int
	wait     time.Duration
	print    printFlags

	latency  bool
	interval time.Duration

	command string
	echo    bool
}

func rrCommand(p Process) *cobra.Command {
	x := &rr{}
	c := &cobra.Command{
		Use:   "rr",
		Short: "Send a request and print the answer, or answer requests",
		Long: "Send a request and print the answer, measure how long answers take, or answer requests.\n\n" +
			"With MQTT 5 the request says where to send the answer, and carries correlation data by which the answer is known.\n" +
			"MQTT 3.1.1 has neither: the answer is awaited on the topic of the request with /response behind it, or on that of -e.\n" +
			"Exit code 27: an answer did not come within the time of -W.",
		Example: "  myelin rr -t calc/add -m '1 2'\n" +
			"  myelin rr -t calc/add -l < sums.txt\n" +
			"  myelin rr -t lights/all -m state -e lights/answers -C 3 -W 5\n" +
			"  myelin rr -t calc/add -m '1 2' --json\n" +
			"  myelin rr -t calc/add --latency --count 1000\n" +
			"  myelin rr -t calc/add --latency --interval 0.5 --count 20 --json\n" +
			"  myelin rr -t calc/add --serve 'read a b; echo $((a + b))'\n" +
			"  myelin rr -t 'echo/#' --echo",
	}
	x.register(c)
	f := newClient(c, p, x.run)
	f.sinks = map[string]map[string]sink{"publish": x.message.sinks()}
	return c
}

func (x *rr) register(c *cobra.Command) {
	m := &x.message
	g := newGroup(c, "Message")
	g.text(&m.topic, "topic", "t", "`topic` to send requests to, or the filter of those to answer")
	number(g, &m.qos, 0, 2, "qos", "q", "quality of service")
	x.source.register(c)

	g = newGroup(c, "Answers")
	g.text(&x.response, "response", "e", "`topic` for the answers (default: one of this client's own, or with MQTT 3.1.1 that of the request with /response behind it)")
	number(g, &x.count, 1, 1<<31, "count", "C", "answers to each request (default 1), or with --latency number of requests (default 100)")
	x.wait = 10 * time.Second
	g.seconds(&x.wait, "wait", "W", "longest wait for the answers to a request, or with --serve for the command; 0: for ever")

	g = newGroup(c, "Measure and answer")
	g.toggle(&x.latency, "latency", "", "send requests one after the other, and tell how long answers took")
	g.seconds(&x.interval, "interval", "", "time from one request to the next; 0: as soon as the answer came")
	g.text(&x.command, "serve", "", "answer each request with what this shell `command` prints, without the last line break; it gets the request on standard input and its topic in REQUEST_TOPIC")
	g.toggle(&x.echo, "echo", "", "answer each request with what it says")
	for _, n := range []string{"message", "file", "stdin-line", "stdin-file", "null-message", "response", "count", "interval"} {
		g.exclude("serve", n)
		g.exclude("echo", n)
	}
	g.exclude("serve", "echo", "latency")
	g.exclude("latency", "stdin-line")

	x.print.register(c)

	g = newGroup(c, "MQTT 5 properties of the request")
	g.text(&m.contentType, "content-type", "", "`type` of the payload, such as application/json")
	g.user(&m.user, "user-property", "user property; can be given several times")
}

func (x *rr) run(ctx context.Context, f *clientFlags) error {
	if x.message.topic == "" {
		x.message.topic = f.urlTopic()
	}
	if x.message.topic == "" {
		return misuse("name it with -t", "no topic for the requests")
	}
	if x.command != "" || x.echo {
		return x.answer(ctx, f)
	}
	if err := x.check(f); err != nil {
		return err
	}
	_, terminal := f.terminal()
	s, filter, err := x.print.printer(terminal)
	if err != nil {
		return err
	}
	o, err := f.options() // applies -D before the message is made
	if err != nil {
		return err
	}
	m, err := x.message.message(nil, "--topic")
	if err != nil {
		return err
	}
	next, err := x.source.open(f.command.InOrStdin())
	if err != nil {
		return err
	}
	c, err := f.connect(ctx, o)
	if err != nil {
		return err
	}
	printer := &receiver{show: s, filter: filter}
	err = x.ask(ctx, f, c, m, next, printer)
	if bye := f.disconnect(c); err == nil {
		err = bye
	}
	return err
}

// check finds what does not go together.
func (x *rr) check(f *clientFlags) error {
	if x.latency {
		for _, n := range []string{"format", "jq", "hex", "verbose"} {
			if f.has(n) {
				return misuse("--json has the figures for programs", "--%s: --latency prints figures, not answers", n)
			}
		}
		if !f.has("message") && x.source.file == "" && !x.source.stdin {
			x.source.null = true
		}
	} else if f.has("interval") {
		return misuse("add --latency, or see --repeat and --repeat-delay", "--interval: there is nothing to measure")
	}
	if x.response != "" {
		if err := topic.CheckName(x.response); err != nil {
			return misuse("it is a topic without + and #", "--response: %v", err)
		}
	}
	return x.source.check()
}

// ask sends the requests, one after the other.
func (x *rr) ask(ctx context.Context, f *clientFlags, c *client.Client, m *client.Message, next func() ([]byte, error), printer *receiver) error {
	a := &asker{c: c, wait: x.wait, response: x.response, answers: max(x.count, 1)}
	if x.latency {
		a.answers = 1
	}
	if err := a.prepare(ctx, m); err != nil {
		return err
	}
	if x.latency {
		payload, err := next()
		if err != nil {
			return err
		}
		m.Payload = payload
		return x.measure(ctx, f, a, m)
	}
	payloads, stop := x.source.start(next)
	defer stop()
	for {
		select {
		case p := <-payloads:
			if p.end {
				return p.err
			}
			m.Payload = p.bytes
			err := a.ask(ctx, m, func(answer *client.Received) error {
				b, err := printer.append(ctx, nil, answer)
				if err != nil {
					return fmt.Errorf("print the answer: %w", err)
				}
				_, err = f.out.Write(b)
				return err
			})
			if err != nil {
				return err
			}
		case <-c.Done():
			return a.ended()
		case <-ctx.Done():
			return errInterrupted()
		}
	}
}

// asker sends requests and awaits their answers: one by Client.Request, several
// to a request, or those on a topic that was named, by a subscription of its
// own.
type asker struct {
	c        *client.Client
	wait     time.Duration
	response string
	answers  int // to each request

	in intake // nil: Client.Request is used
	v5 bool
}

// prepare subscribes to the answers where Client.Request does not.
func (a *asker) prepare(ctx context.Context, m *client.Message) error {
	if a.response == "" && a.answers == 1 {
		return nil
	}
	s, _ := a.c.Session()
	a.v5 = s.Version == packet.V5
	switch {
	case a.response != "":
	case a.v5:
		a.response = "myelin/rr/" + hex.EncodeToString(random(8))
	default:
		a.response = client.ResponseTopicV3(m.Topic)
	}
	a.in = newIntake()
	_, err := a.c.Subscribe(ctx, a.in.handler(ctx), client.Filter(a.response, m.QoS))
	return err
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// ask sends a request and hands out its answers.
func (a *asker) ask(ctx context.Context, m *client.Message, answer func(*client.Received) error) error {
	patient := ctx
	if a.wait > 0 {
		var cancel context.CancelFunc
		patient, cancel = context.WithTimeoutCause(ctx, a.wait, errTimeUp)
		defer cancel()
	}
	n, err := a.exchange(patient, m, answer)
	var refused *client.ReasonError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return errInterrupted()
	case errors.Is(err, errTimeUp):
		what := fmt.Sprintf("no answer to a request to %s within %s", m.Topic, a.wait)
		if n > 0 {
			what = fmt.Sprintf("%d of %d answers to a request to %s within %s", n, a.answers, m.Topic, a.wait)
		}
		return &hinted{err: fmt.Errorf("%s: %w", what, errTimeUp), hint: a.somebody(m), code: exitTimeout}
	case errors.As(err, &refused) && refused.Code == packet.NoMatchingSubscribers:
		return &hinted{err: fmt.Errorf("nobody subscribes to %s: %w", m.Topic, err), hint: a.somebody(m), code: exitPublish}
	}
	return err
}

func errInterrupted() error {
	return &hinted{err: errors.New("interrupted before all answers came"), code: exitInterrupted}
}

func (a *asker) somebody(m *client.Message) string {
	return "is somebody there who answers? `myelin rr -t " + m.Topic + " --echo` would"
}

func (a *asker) exchange(ctx context.Context, m *client.Message, answer func(*client.Received) error) (n int, err error) {
	if a.in == nil {
		r, err := a.c.Request(ctx, m)
		if err != nil {
			return 0, err
		}
		return 1, answer(r)
	}
	a.drain()
	request := *m
	if a.v5 {
		request.ResponseTopic, request.Correlation = a.response, random(8)
	}
	receipt, err := a.c.Publish(ctx, &request)
	if err != nil {
		return 0, err
	}
	if receipt.Code == packet.NoMatchingSubscribers {
		return 0, &client.ReasonError{Packet: packet.PUBACK, Code: receipt.Code, Reason: receipt.Reason}
	}
	for n < a.answers {
		select {
		case r := <-a.in:
			if a.v5 && string(r.Correlation) != string(request.Correlation) || !a.v5 && r.Retain {
				continue // an answer to somebody else, or to a request before
			}
			if err := answer(r); err != nil {
				return n, err
			}
			n++
		case <-a.c.Done():
			return n, a.ended()
		case <-ctx.Done():
			return n, context.Cause(ctx)
		}
	}
	return n, nil
}

// drain forgets answers that came too late.
func (a *asker) drain() {
	for {
		select {
		case <-a.in:
		default:
			return
		}
	}
}

func (a *asker) ended() error {
	if err := a.c.Err(); err != nil {
		return err
	}
	return client.ErrClosed
}
