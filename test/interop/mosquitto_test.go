package interop

import (
	"bufio"
	"context"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
)

// versions are the protocol versions that Mosquitto's tools speak, by the names that they have there.
var versions = []string{"mqttv31", "mqttv311", "mqttv5"}

// tool is a run of one of Mosquitto's command line tools.
type tool struct {
	cmd   *exec.Cmd
	lines chan string // of its standard output; closed at its end
	errs  *logBuffer
	ended bool
}

// launch starts a tool with the broker's address in front of args. It is killed at the end of the test.
func launch(t *testing.T, b *broker, name string, args ...string) *tool {
	t.Helper()
	host, port, err := net.SplitHostPort(b.tcp)
	if err != nil {
		t.Fatal(err)
	}
	o := &tool{lines: make(chan string, inboxSize), errs: new(logBuffer)}
	// Line buffering, as the tools' output goes to a pipe.
	o.cmd = exec.Command("stdbuf", append([]string{"-oL", name, "-h", host, "-p", port}, args...)...)
	o.cmd.Stderr = o.errs
	out, err := o.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := o.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v (deps.sh installs it)", name, err)
	}
	go func() {
		defer close(o.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			o.lines <- s.Text()
		}
	}()
	t.Cleanup(func() { o.end(syscall.SIGKILL) })
	return o
}

// end sends a signal and waits for the end.
func (o *tool) end(sig syscall.Signal) {
	if o.ended {
		return
	}
	o.ended = true
	_ = o.cmd.Process.Signal(sig)
	for range o.lines { // nothing is read from the pipe after Wait
	}
	_ = o.cmd.Wait()
}

// finish waits until the tool has ended by itself and returns its whole output; it must exit with 0.
func (o *tool) finish(t *testing.T) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var all []string
	for {
		select {
		case l, more := <-o.lines:
			if more {
				all = append(all, l)
				continue
			}
		case <-ctx.Done():
			t.Fatalf("%v still runs after %v; output %q, errors %s", o.cmd.Args, patience, all, o.errs)
		}
		o.ended = true
		if err := o.cmd.Wait(); err != nil {
			t.Fatalf("%v: %v; output %q, errors %s", o.cmd.Args, err, all, o.errs)
		}
		return all
	}
}

// until reads lines up to one that starts with prefix and returns it.
func (o *tool) until(t *testing.T, prefix string) string {
	t.Helper()
	late := time.After(patience)
	var seen []string
	for {
		select {
		case l, more := <-o.lines:
			if !more {
				t.Fatalf("%v ended without a line %q: %q, errors %s", o.cmd.Args, prefix, seen, o.errs)
			}
			if strings.HasPrefix(l, prefix) {
				return l
			}
			seen = append(seen, l)
		case <-late:
			t.Fatalf("%v wrote no line %q within %v: %q", o.cmd.Args, prefix, patience, seen)
		}
	}
}

// format makes mosquitto_sub tell topic, QoS, retain flag and payload in one line that debug lines differ from.
const format = "got|%t|%q|%r|%p"

// subscribe starts mosquitto_sub and returns when the broker has granted its subscription.
func subscribe(t *testing.T, b *broker, args ...string) *tool {
	t.Helper()
	o := launch(t, b, "mosquitto_sub", append([]string{"-d", "-F", format}, args...)...)
	o.until(t, "Subscribed (mid:")
	return o
}

// messages reads the next n messages that a mosquitto_sub printed.
func (o *tool) messages(t *testing.T, n int) []message {
	t.Helper()
	ms := make([]message, n)
	for i := range ms {
		f, err := split(o.until(t, "got|"), 5)
		if err != nil {
			t.Fatal(err)
		}
		qos, err := strconv.Atoi(f[2])
		if err != nil {
			t.Fatal(err)
		}
		ms[i] = message{f[1], f[4], byte(qos), f[3] == "1"}
	}
	return ms
}

// publish runs mosquitto_pub to its end.
func publish(t *testing.T, b *broker, args ...string) {
	t.Helper()
	launch(t, b, "mosquitto_pub", args...).finish(t)
}

// eachVersion runs f for every broker with every protocol version of Mosquitto's tools.
func eachVersion(t *testing.T, f func(t *testing.T, b *broker, v string)) {
	each(t, func(t *testing.T, b *broker) {
		for _, v := range versions {
			t.Run(v, func(t *testing.T) {
				t.Parallel()
				f(t, b, v)
			})
		}
	})
}

func TestMosquittoQoS(t *testing.T) {
	eachVersion(t, func(t *testing.T, b *broker, v string) {
		for qos := range 3 {
			q, topic := strconv.Itoa(qos), unique("t")
			sub := subscribe(t, b, "-V", v, "-t", topic+"/#", "-q", q)
			pub := exec.Command("mosquitto_pub", "-h", "127.0.0.1", "-p", port(b), "-V", v, "-t", topic+"/a", "-q", q, "-l")
			want := numbered(100)
			pub.Stdin = strings.NewReader(strings.Join(want, "\n") + "\n")
			if out, err := pub.CombinedOutput(); err != nil {
				t.Fatalf("mosquitto_pub -l: %v: %s", err, out)
			}
			got := sub.messages(t, len(want))
			equal(t, "payloads at QoS "+q, payloads(got), want)
			for _, m := range got {
				if m.qos != byte(qos) || m.topic != topic+"/a" || m.retain {
					t.Fatalf("got %v at QoS %s", m, q)
				}
			}
			sub.end(syscall.SIGTERM)
		}
	})
}

func port(b *broker) string {
	_, p, _ := net.SplitHostPort(b.tcp)
	return p
}

func TestMosquittoRetained(t *testing.T) {
	eachVersion(t, func(t *testing.T, b *broker, v string) {
		topic := unique("t")
		publish(t, b, "-V", v, "-t", topic, "-m", "old", "-q", "1", "-r")
		publish(t, b, "-V", v, "-t", topic, "-m", "kept", "-q", "1", "-r")
		sub := subscribe(t, b, "-V", v, "-t", topic, "-q", "1")
		equal(t, "retained", sub.messages(t, 1), []message{{topic, "kept", 1, true}})
		publish(t, b, "-V", v, "-t", topic, "-n", "-q", "1", "-r")
		equal(t, "the clearing", sub.messages(t, 1), []message{{topic, "", 1, false}})
		late := subscribe(t, b, "-V", v, "-t", topic, "-q", "1")
		publish(t, b, "-V", v, "-t", topic, "-m", "end", "-q", "1")
		equal(t, "after the clearing", late.messages(t, 1), []message{{topic, "end", 1, false}})
	})
}

func TestMosquittoWill(t *testing.T) {
	eachVersion(t, func(t *testing.T, b *broker, v string) {
		topic := unique("t")
		watch := subscribe(t, b, "-V", v, "-t", topic, "-q", "2")
		will := []string{"-V", v, "-t", topic + "/x", "--will-topic", topic, "--will-payload", "gone", "--will-qos", "2"}
		subscribe(t, b, will...).end(syscall.SIGTERM) // the tool sends DISCONNECT
		if v == "mqttv5" {                            // and asks for its will with it
			equal(t, "after DISCONNECT 0x04", watch.messages(t, 1), []message{{topic, "gone", 2, false}})
		}
		cut := subscribe(t, b, will...)
		cut.end(syscall.SIGKILL)
		publish(t, b, "-V", v, "-t", topic+"/sync", "-m", "x") // so that a will too many has its time
		equal(t, "after a kill", watch.messages(t, 1), []message{{topic, "gone", 2, false}})
		publish(t, b, "-V", v, "-t", topic, "-m", "end", "-q", "2")
		equal(t, "after it", watch.messages(t, 1), []message{{topic, "end", 2, false}})
	})
}

func TestMosquittoResume(t *testing.T) {
	eachVersion(t, func(t *testing.T, b *broker, v string) {
		topic, id := unique("t"), unique("mr")
		keep := []string{"-V", v, "-c", "-i", id, "-t", topic, "-q", "1"}
		if v == "mqttv5" {
			keep = append(keep, "-x", "300")
		}
		subscribe(t, b, keep...).end(syscall.SIGTERM)
		want := numbered(5)
		for _, p := range want {
			publish(t, b, "-V", v, "-t", topic, "-m", p, "-q", "1")
		}
		again := launch(t, b, "mosquitto_sub", append([]string{"-F", format, "-C", strconv.Itoa(len(want))}, keep...)...)
		equal(t, "kept while away", payloads(again.messages(t, len(want))), want)
		again.finish(t)
	})
}

func TestMosquittoShared(t *testing.T) {
	eachVersion(t, func(t *testing.T, b *broker, v string) {
		if v == "mqttv31" {
			t.Skip("not of use in 3.1")
		}
		topic := unique("t")
		filter := "$share/g/" + topic
		members := []*tool{subscribe(t, b, "-V", v, "-t", filter, "-q", "1"), subscribe(t, b, "-V", v, "-t", filter, "-q", "1")}
		const n = 20
		for _, p := range numbered(n) {
			publish(t, b, "-V", v, "-t", topic, "-m", p, "-q", "1")
		}
		seen, counts := map[string]bool{}, [2]int{}
		late := time.After(patience)
		for len(seen) < n {
			var line string
			select {
			case line = <-members[0].lines:
				counts[0]++
			case line = <-members[1].lines:
				counts[1]++
			case <-late:
				t.Fatalf("the group got %d of %d", len(seen), n)
			}
			if !strings.HasPrefix(line, "got|") {
				continue
			}
			if seen[line] {
				t.Fatalf("twice: %q", line)
			}
			seen[line] = true
		}
		if counts[0] == 0 || counts[1] == 0 {
			t.Errorf("one member got everything")
		}
	})
}

func TestMosquittoProperties(t *testing.T) {
	each(t, func(t *testing.T, b *broker) {
		topic := unique("t")
		sub := launch(t, b, "mosquitto_sub", "-V", "mqttv5", "-d", "-t", topic, "-q", "1", "-F", "got|%C|%D|%E|%F|%R|%P|%p")
		sub.until(t, "Subscribed (mid:")
		publish(t, b, "-V", "mqttv5", "-t", topic, "-q", "1", "-m", "body",
			"-D", "publish", "content-type", "text/plain",
			"-D", "publish", "correlation-data", "c0rr",
			"-D", "publish", "message-expiry-interval", "900",
			"-D", "publish", "payload-format-indicator", "1",
			"-D", "publish", "response-topic", topic+"/r",
			"-D", "publish", "user-property", "z", "1",
			"-D", "publish", "user-property", "a", "2",
			"-D", "publish", "user-property", "z", "3")
		f, err := split(sub.until(t, "got|"), 8)
		if err != nil {
			t.Fatal(err)
		}
		left, err := strconv.Atoi(f[3])
		if err != nil || left > 900 || left < 890 {
			t.Errorf("message expiry is %q, want about 900", f[3])
		}
		f[3] = ""
		equal(t, "properties", f, []string{"got", "text/plain", "c0rr", "", "1", topic + "/r", "z:1 a:2 z:3", "body"})
	})
}

func TestMosquittoWillProperties(t *testing.T) {
	each(t, func(t *testing.T, b *broker) {
		topic := unique("t")
		watch := open5(t, b, nil, nil)
		watch.sub(t, 0, paho.SubscribeOptions{Topic: topic, QoS: 1})
		cut := subscribe(t, b, "-V", "mqttv5", "-t", topic+"/x",
			"--will-topic", topic, "--will-payload", "gone", "--will-qos", "1",
			"-D", "will", "content-type", "text/plain",
			"-D", "will", "correlation-data", "c0rr",
			"-D", "will", "message-expiry-interval", "900",
			"-D", "will", "payload-format-indicator", "1",
			"-D", "will", "response-topic", "r/t",
			"-D", "will", "user-property", "z", "1",
			"-D", "will", "user-property", "a", "2")
		cut.end(syscall.SIGKILL)
		p := watch.in.take(t, 1)[0].Properties
		if p.ContentType != "text/plain" || string(p.CorrelationData) != "c0rr" || p.ResponseTopic != "r/t" {
			t.Errorf("got content type %q, correlation %q, response topic %q", p.ContentType, p.CorrelationData, p.ResponseTopic)
		}
		if p.MessageExpiry == nil || *p.MessageExpiry > 900 || *p.MessageExpiry < 890 || p.PayloadFormat == nil || *p.PayloadFormat != 1 {
			t.Errorf("got expiry %v, payload format %v", p.MessageExpiry, p.PayloadFormat)
		}
		equal(t, "user properties", p.User, paho.UserProperties{{Key: "z", Value: "1"}, {Key: "a", Value: "2"}})
	})
}

// mosquitto_rr asks, paho.golang answers.
func TestMosquittoRequest(t *testing.T) {
	each(t, func(t *testing.T, b *broker) {
		topic := unique("t")
		server := open5(t, b, nil, nil)
		server.sub(t, 0, paho.SubscribeOptions{Topic: topic + "/ask", QoS: 1})
		asker := launch(t, b, "mosquitto_rr", "-V", "mqttv5", "-q", "1", "-t", topic+"/ask", "-e", topic+"/answer", "-m", "2+2", "-W", "10")
		answer(t, server, "4")
		equal(t, "the answer", asker.finish(t), []string{"4"})
	})
}
