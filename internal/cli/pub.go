package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
)

func pubCommand(p Process) *cobra.Command { return newPublisher(p).command }

func newPublisher(p Process) *publisher {
	c := &cobra.Command{
		Use:   "pub",
		Short: "Publish messages",
		Long: "Publish one message, or one for each line of standard input, and wait until all are acknowledged.\n\n" +
			"The flags are those of mosquitto_pub where that has them, and -h is the host.",
		Example: "  myelin pub -t home/kitchen -m 21.5\n" +
			"  myelin pub -t home/kitchen -f reading.json -q 1 --content-type application/json\n" +
			"  myelin pub -t home/kitchen -l -q 1 < readings.txt\n" +
			"  myelin pub -t home/kitchen -s -r < reading.json\n" +
			"  myelin pub -t home/kitchen -n -r\n" +
			"  myelin pub -L mqtt://localhost/home/kitchen -m 21.5 -V 311\n" +
			"  myelin pub -t home/kitchen -m 21.5 -q 2 --json --repeat 3 --repeat-delay 0.1\n" +
			"  myelin pub -t home/kitchen -m 21.5 --message-expiry 60 --user-property unit=celsius\n" +
			"  myelin pub -h localhost -p 8883 --cafile ca.pem -u kitchen --password-file password -t home/kitchen -m 21.5",
	}
	x := &publisher{}
	x.message.register(c)
	x.source.register(c)
	x.message.registerMessageProperties(c)
	g := newGroup(c, "Output and time")
	g.toggle(&x.json, "json", "", "one JSON object a line on standard output for each acknowledgement")
	x.wait = 30 * time.Second
	g.seconds(&x.wait, "wait", "W", "longest wait for an acknowledgement; 0: for ever")
	x.clientFlags = newClient(c, p, x.run)
	x.sinks = map[string]map[string]sink{"publish": x.message.sinks()}
	return x
}

// inFlight is how many messages wait for their acknowledgement at most, before
// more are read.
const inFlight = 1000

// publisher is one run of `myelin pub`.
type publisher struct {
	*clientFlags
	message messageFlags
	source  sourceFlags
	json    bool
	wait    time.Duration

	results chan result // never full: it has room for all that are outstanding
	waiting int         // messages without an acknowledgement
	sent    int
	refused int
	first   error // the first message that failed
}

// result is what became of a message.
type result struct {
	receipt client.Receipt
	err     error
	begin   time.Time
	end     time.Time
}

func (x *publisher) run(ctx context.Context, f *clientFlags) error {
	if x.message.topic == "" {
		x.message.topic = f.urlTopic()
	}
	if err := x.check(); err != nil {
		return err
	}
	o, err := f.options() // applies -D before the message is made
	if err != nil {
		return err
	}
	o.QueueQoS0 = f.reconnect
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
	if err := x.publish(ctx, c, m, next); err != nil {
		f.leave(c)
		return err
	}
	if err := f.disconnect(c); err != nil {
		return err
	}
	return x.failure()
}

func (x *publisher) check() error {
	if x.message.topic == "" {
		return misuse("name it with -t home/kitchen, or at the end of the URL: -L mqtt://localhost/home/kitchen", "no topic to publish to")
	}
	return x.source.check()
}

// publish sends what next gives, as fast as the server takes it, and waits for
// the acknowledgements.
func (x *publisher) publish(ctx context.Context, c *client.Client, m *client.Message, next func() ([]byte, error)) error {
	x.results = make(chan result, inFlight)
	payloads, stop := x.source.start(next)
	defer stop()
	timeout := newSilence(x.wait)
	defer timeout.stop()
	for payloads != nil || x.waiting > 0 {
		from := payloads
		if x.waiting == inFlight {
			from = nil
		}
		select {
		case p := <-from:
			if p.end {
				payloads = nil
				if p.err != nil {
					return p.err
				}
				continue
			}
			if x.waiting == 0 {
				timeout.begin()
			}
			m.Payload = p.bytes
			if err := x.send(ctx, c, m); err != nil {
				return err
			}
		case r := <-x.results:
			if err := x.settle(m, r); err != nil {
				return err
			}
			timeout.begin()
			if x.waiting == 0 {
				timeout.pause()
			}
		case <-timeout.passed:
			return fmt.Errorf("%d of %d messages are not acknowledged within %s: %w", x.waiting, x.sent, x.wait, context.DeadlineExceeded)
		case <-c.Done():
			return x.lost(m, c.Err())
		case <-ctx.Done():
			return x.interrupted()
		}
	}
	return nil
}

func (x *publisher) send(ctx context.Context, c *client.Client, m *client.Message) error {
	if x.wait > 0 {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, x.wait)
		defer cancel()
	}
	begin := time.Now()
	err := c.PublishAsync(ctx, m, func(r client.Receipt, err error) {
		x.results <- result{receipt: r, err: err, begin: begin, end: time.Now()}
	})
	switch {
	case errors.Is(err, client.ErrClosed):
		return x.lost(m, c.Err())
	case errors.Is(err, context.Canceled):
		return x.interrupted()
	case err != nil:
		return fmt.Errorf("publish: %w", err)
	}
	x.sent++
	x.waiting++
	return nil
}

// settle takes the word on one message. A refusal does not keep the others from
// being sent; an error is one of standard output.
func (x *publisher) settle(m *client.Message, r result) error {
	x.waiting--
	if r.err != nil {
		x.refused++
		if x.first == nil {
			x.first = r.err
		}
	}
	if !x.json {
		return nil
	}
	line := ackLine{
		Topic: m.Topic, QoS: m.QoS, ID: r.receipt.PacketID, Code: r.receipt.Code, Reason: r.receipt.Reason,
		MS: float64(r.end.Sub(r.begin).Microseconds()) / 1000,
	}
	if line.Reason == "" {
		line.Reason = r.receipt.Code.String()
	}
	if r.err != nil {
		line.Error = r.err.Error()
	}
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	_, err = x.out.Write(append(text, '\n'))
	return err
}

// ackLine is one line of --json.
type ackLine struct {
	Topic  string        `json:"topic"`
	QoS    packet.QoS    `json:"qos"`
	ID     uint16        `json:"id,omitempty"`
	Code   packet.Reason `json:"code"`
	Reason string        `json:"reason"`
	MS     float64       `json:"ms"`
	Error  string        `json:"error,omitempty"`
}

// lost is why the client ended before all was acknowledged. What became of the
// messages was told before that.
func (x *publisher) lost(m *client.Message, why error) error {
	for x.waiting > 0 {
		select {
		case r := <-x.results:
			if err := x.settle(m, r); err != nil {
				return err
			}
			continue
		default:
		}
		break
	}
	if why == nil {
		why = client.ErrClosed
	}
	return why
}

func (x *publisher) interrupted() error {
	return fmt.Errorf("interrupted, %d of %d messages are not acknowledged: %w", x.waiting, x.sent, context.Canceled)
}

// failure is the first message that the server did not take.
func (x *publisher) failure() error {
	if x.first == nil {
		return nil
	}
	if x.sent == 1 {
		return fmt.Errorf("publish: %w", x.first)
	}
	return fmt.Errorf("publish: %d of %d messages failed, the first: %w", x.refused, x.sent, x.first)
}

// silence is a timer that runs while something is awaited; limit 0: it never
// ends.
type silence struct {
	limit  time.Duration
	timer  *time.Timer
	passed <-chan time.Time
}

func newSilence(limit time.Duration) *silence {
	s := &silence{limit: limit}
	if limit > 0 {
		s.timer = time.NewTimer(limit)
		s.timer.Stop()
		s.passed = s.timer.C
	}
	return s
}

func (s *silence) begin() {
	if s.timer != nil {
		s.timer.Reset(s.limit)
	}
}

func (s *silence) pause() { s.stop() }

func (s *silence) stop() {
	if s.timer != nil {
		s.timer.Stop()
	}
}
