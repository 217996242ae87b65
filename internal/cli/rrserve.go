package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/internal/show"
	"github.com/myelin-mqtt/myelin/packet"
)

// maxAnswer is how much a command may print, in bytes.
const maxAnswer = 16 << 20

// answer answers requests until a signal or the server ends it.
func (x *rr) answer(ctx context.Context, f *clientFlags) error {
	if err := checkFilter(x.message.topic); err != nil {
		return misuse("such as -t 'calc/+'", "--topic: %v", err)
	}
	o, err := f.options()
	if err != nil {
		return err
	}
	c, err := f.connect(ctx, o)
	if err != nil {
		return err
	}
	err = c.Respond(ctx, client.Filter(x.message.topic, x.message.qos), func(m *client.Received) *client.Message {
		if x.echo {
			return &client.Message{Payload: m.Payload, QoS: m.QoS, ContentType: m.ContentType, PayloadFormat: m.PayloadFormat}
		}
		out, err := x.runCommand(ctx, f, m)
		if err != nil {
			fmt.Fprintf(f.messages, "myelin: warning: no answer to a request to %s: %v\n", show.Clean(m.Topic), err)
			return nil
		}
		return &client.Message{Payload: out, QoS: m.QoS}
	})
	if err == nil {
		fmt.Fprintf(f.messages, "myelin: answering requests to %s\n", x.message.topic)
		select {
		case <-c.Done():
			if err = c.Err(); err == nil {
				err = client.ErrClosed
			}
		case <-ctx.Done(): // it had no other end than the signal
		}
	}
	_ = f.disconnect(c) // what the server thinks of it does not matter
	return err
}

// runCommand is what the command prints for a request.
func (x *rr) runCommand(ctx context.Context, f *clientFlags, m *client.Received) ([]byte, error) {
	if x.wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, x.wait, errTimeUp)
		defer cancel()
	}
	name, args := shell(x.command)
	out := &limitedBuffer{most: maxAnswer}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = bytes.NewReader(m.Payload)
	cmd.Stdout = out
	cmd.Stderr = f.messages
	cmd.Env = commandEnv(f.process.Env, m)
	cmd.WaitDelay = time.Second // for children that got away and keep the pipes open
	endWithChildren(cmd)
	err := cmd.Run()
	switch {
	case context.Cause(ctx) == errTimeUp:
		return nil, fmt.Errorf("the command takes longer than %s", x.wait)
	case out.full:
		return nil, errAnswerTooLong
	case err != nil:
		return nil, fmt.Errorf("run the command: %w", err)
	}
	return bytes.TrimSuffix(out.b.Bytes(), []byte("\n")), nil
}

// shell is how a command is run by the system's shell.
func shell(command string) (name string, args []string) {
	if runtime.GOOS == "windows" {
		return "cmd", []string{"/C", command}
	}
	return "/bin/sh", []string{"-c", command}
}

// commandEnv is the environment of a command: ours without our settings, of
// which one may be a password, and what the request says.
func commandEnv(env []string, m *client.Received) []string {
	var all []string
	for _, e := range env {
		if !strings.HasPrefix(e, envPrefix) && !strings.HasPrefix(e, "REQUEST_") {
			all = append(all, e)
		}
	}
	return append(all, "REQUEST_TOPIC="+m.Topic, "REQUEST_CONTENT_TYPE="+m.ContentType, fmt.Sprintf("REQUEST_QOS=%d", packet.QoS(m.QoS)))
}

var errAnswerTooLong = errors.New("the command prints more than 16 MiB")

// limitedBuffer takes so many bytes, and fails then.
type limitedBuffer struct {
	b    bytes.Buffer
	most int
	full bool
}

func (l *limitedBuffer) Write(p []byte) (int, error) {
	if l.b.Len()+len(p) > l.most {
		l.full = true
		return 0, errAnswerTooLong
	}
	return l.b.Write(p)
}
